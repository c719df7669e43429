//! Tells when the content of files changes, however they are written: in place, by rename, or behind a symbolic link
//! that is pointed elsewhere, as Kubernetes replaces secrets and certbot certificates.
//!
//! The kernel says when something happens in a folder on the way to a file (`trail`), but only what is read there counts
//! (`content`). Where the kernel is silent (a bind mount, a network's folder, no watch left) it is looked at now and then.

mod content;
mod trail;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use content::{Content, Contents};
use trail::Identity;

/// Files, or folders of which the entries' names count, whose content is compared with what it was.
#[derive(Debug)]
pub struct Watch {
    paths: Arc<[PathBuf]>,
    /// What was read so far, for whoever looks: also for one who was left alone with it.
    contents: Arc<Mutex<Contents>>,
    /// What was under each path when it was last told.
    told: Vec<Content>,
    folders: Folders,
    /// Room for one: that something happened is all that is said.
    stirs: mpsc::Receiver<()>,
    /// Something happened and was not looked into yet.
    stirred: bool,
    /// When to compare though nothing stirred.
    due: Instant,
    /// How often that was so since the folders were looked for.
    silences: u32,
}

/// The kernel's watches.
#[derive(Debug)]
struct Folders {
    /// `None` when the kernel has no instance left.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Identity>,
    /// Never dropped before the receiver, which would then end.
    _stir: mpsc::Sender<()>,
    warned: bool,
}

// === impl Watch ===

impl Watch {
    /// What is there now is what changes are compared with. A path need not exist.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Watch {
        let paths: Arc<[PathBuf]> = paths
            .into_iter()
            .map(|path| std::path::absolute(&path).unwrap_or(path))
            .collect();
        let (stir, stirs) = mpsc::channel(1);
        let mut folders = Folders::new(stir);
        // Watched first and read then: what changes in between is seen at least once.
        folders.follow(trail::of_all(&paths));
        let mut contents = Contents::new(paths.len());
        Watch {
            told: contents.look(&paths, Instant::now),
            contents: Arc::new(Mutex::new(contents)),
            paths,
            folders,
            stirs,
            stirred: false,
            due: Instant::now() + INTERVAL,
            silences: 0,
        }
    }

    /// Returns when the content under one of the paths is another one than when this last returned. What vanished has
    /// changed too. Nothing is lost if it is dropped before.
    pub async fn changed(&mut self) {
        loop {
            if !self.stirred {
                let stir = timeout_at(self.due, self.stirs.recv()).await;
                self.stirred = stir.is_ok();
            }
            if self.stirred {
                self.settle().await;
            }
            if self.stirred || self.silences >= SILENCES {
                self.find_folders().await;
            }
            let now = self.look().await;
            self.due = Instant::now() + INTERVAL;
            if now == self.told {
                self.stirred = false;
            } else if self.stirred {
                self.stirred = false;
                self.told = now;
                return;
            } else {
                // Found without the kernel: as if it had told.
                self.stirred = true;
            }
        }
    }

    /// Whoever writes a certificate writes its key too, and is given the time for that.
    async fn settle(&mut self) {
        let latest = Instant::now() + PATIENCE;
        while Instant::now() < latest {
            let quiet = latest.min(Instant::now() + QUIET);
            if timeout_at(quiet, self.stirs.recv()).await.is_err() {
                return;
            }
        }
    }

    async fn find_folders(&mut self) {
        self.silences = 0;
        // A folder that was just made may have got its next one before it was watched.
        for _ in 0..DEPTH {
            let trail = self.read(trail::of_all).await;
            if !self.folders.follow(trail) {
                break;
            }
        }
    }

    async fn look(&mut self) -> Vec<Content> {
        self.silences += 1;
        let contents = self.contents.clone();
        self.read(move |paths| {
            let mut contents = contents.lock().unwrap_or_else(PoisonError::into_inner);
            contents.look(paths, Instant::now)
        })
        .await
    }

    /// Apart from the runtime: a mount may take its time.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&[PathBuf]) -> T + Send + 'static,
    ) -> T {
        let paths = self.paths.clone();
        match tokio::task::spawn_blocking(move || read(&paths)).await {
            Ok(what) => what,
            // The runtime is being taken down, and this with it.
            Err(_) => std::future::pending().await,
        }
    }
}

// === impl Folders ===

impl Folders {
    fn new(stir: mpsc::Sender<()>) -> Folders {
        let told = stir.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // No room means that it is told already.
            if event.as_ref().map_or_else(|_| true, is_a_change) {
                let _ = told.try_send(());
            }
        });
        let mut folders = Folders {
            watcher: None,
            watched: BTreeMap::new(),
            _stir: stir,
            warned: false,
        };
        match watcher {
            Ok(watcher) => folders.watcher = Some(watcher),
            Err(error) => folders.warn(None, &error),
        }
        folders
    }

    /// Watches these folders and no others; whether one of them was not watched before.
    fn follow(&mut self, trail: BTreeMap<PathBuf, Identity>) -> bool {
        let Some(mut watcher) = self.watcher.take() else {
            return false;
        };
        for (folder, identity) in std::mem::take(&mut self.watched) {
            match trail.get(&folder) == Some(&identity) {
                true => drop(self.watched.insert(folder, identity)),
                // The kernel forgets a folder that is gone by itself.
                false => drop(watcher.unwatch(&folder)),
            }
        }
        let mut new = false;
        for (folder, identity) in trail {
            // Those that are watched too: one that was removed and made again may have the same number.
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => new |= self.watched.insert(folder, identity).is_none(),
                Err(error) => {
                    self.watched.remove(&folder);
                    if !is_gone(&error) {
                        self.warn(Some(&folder), &error);
                    }
                }
            }
        }
        self.watcher = Some(watcher);
        new
    }

    fn warn(&mut self, folder: Option<&Path>, error: &notify::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            let folder = folder.map(|folder| tracing::field::display(folder.display()));
            warn!(
                folder, %error,
                "the kernel does not tell of changed files: they are compared every {} s instead \
                 (fs.inotify.max_user_watches and max_user_instances may be too low)",
                INTERVAL.as_secs()
            );
        }
    }
}

/// Reading is none: we read ourselves.
fn is_a_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// No event for so long, and whoever writes is done.
const QUIET: Duration = Duration::from_millis(200);
/// For a folder in which there is no peace.
const PATIENCE: Duration = Duration::from_secs(2);
/// How late a change may be seen that the kernel does not tell.
const INTERVAL: Duration = Duration::from_secs(10);
/// So often nothing stirs before it is asked whether the folders are still the same, and whether the kernel now has watches for
/// those that it had none for: once a minute. It would mostly have told, and for many files this costs more than to compare them.
const SILENCES: u32 = 6;
/// Folders made inside each other at one time; the rest is found as it stirs.
const DEPTH: usize = 16;

#[cfg(test)]
mod tests;
