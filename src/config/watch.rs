//! Tells when the content of files changes, however they are written: in place, by rename, or behind a symbolic link
//! that is pointed elsewhere, as Kubernetes replaces secrets and certbot certificates.
//!
//! The kernel says when something happens in a folder (`folders`) on the way to a file (`trail`), but only what is read there counts
//! (`content`). Where the kernel is silent (a bind mount, a network's folder, no watch left) it is looked at now and then.

mod content;
mod folders;
mod trail;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use content::{ContentCache, PathContent};
use folders::WatchedDirs;

/// Files, or folders of which the entries' names count, whose content is compared with what it was.
#[derive(Debug)]
pub struct Watch {
    paths: Arc<[PathBuf]>,
    /// What was read so far, for whoever looks: also for one who was left alone with it.
    contents: Arc<Mutex<ContentCache>>,
    /// What was under each path when it was last told.
    reported: Vec<PathContent>,
    folders: WatchedDirs,
    /// Room for one: that something happened is all that is said.
    events: mpsc::Receiver<()>,
    /// Something happened and was not looked into yet.
    event_pending: bool,
    /// When to compare though nothing stirred.
    due: Instant,
    /// How often that was so since the folders were looked for.
    silences: u32,
}

// === impl Watch ===

impl Watch {
    /// What is there now is what changes are compared with. A path need not exist.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Watch {
        let paths: Arc<[PathBuf]> = paths
            .into_iter()
            .map(|path| std::path::absolute(&path).unwrap_or(path))
            .collect();
        let (stir, events) = mpsc::channel(1);
        let mut folders = WatchedDirs::new(stir);
        // Watched first and read then: what changes in between is seen at least once.
        folders.follow(trail::dirs_on_path(&paths));
        let mut contents = ContentCache::new(paths.len());
        Watch {
            reported: contents.look(&paths, Instant::now),
            contents: Arc::new(Mutex::new(contents)),
            paths,
            folders,
            events,
            event_pending: false,
            due: Instant::now() + INTERVAL,
            silences: 0,
        }
    }

    /// Returns when the content under one of the paths is another one than when this last returned, and says under which of
    /// them, by their places in [`Watch::new`]. What vanished has changed too. Nothing is lost if it is dropped before.
    pub async fn changed(&mut self) -> Vec<usize> {
        loop {
            if !self.event_pending {
                let stir = timeout_at(self.due, self.events.recv()).await;
                self.event_pending = stir.is_ok();
            }
            if self.event_pending {
                self.settle().await;
            }
            if self.event_pending || self.silences >= RESCAN_EVERY {
                self.find_folders().await;
            }
            let now = self.look().await;
            self.due = Instant::now() + INTERVAL;
            if now == self.reported {
                self.event_pending = false;
            } else if self.event_pending {
                self.event_pending = false;
                let told = std::mem::replace(&mut self.reported, now);
                let both = told.iter().zip(&self.reported).enumerate();
                let other = both.filter(|(_, (told, now))| told != now);
                return other.map(|(at, _)| at).collect();
            } else {
                // Found without the kernel: as if it had told.
                self.event_pending = true;
            }
        }
    }

    /// Whoever writes a certificate writes its key too, and is given the time for that.
    async fn settle(&mut self) {
        let latest = Instant::now() + MAX_DEBOUNCE;
        while Instant::now() < latest {
            let quiet = latest.min(Instant::now() + DEBOUNCE);
            if timeout_at(quiet, self.events.recv()).await.is_err() {
                return;
            }
        }
    }

    async fn find_folders(&mut self) {
        self.silences = 0;
        // A folder that was just made may have got its next one before it was watched.
        for _ in 0..DEPTH {
            let trail = self.read(trail::dirs_on_path).await;
            if !self.folders.follow(trail) {
                break;
            }
        }
    }

    async fn look(&mut self) -> Vec<PathContent> {
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

/// No event for so long, and whoever writes is done.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// For a folder in which there is no peace.
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);
/// How late a change may be seen that the kernel does not tell.
const INTERVAL: Duration = Duration::from_secs(10);
/// So often nothing stirs before it is asked whether the folders are still the same, and whether the kernel now has watches for
/// those that it had none for: once a minute. It would mostly have told, and for many files this costs more than to compare them.
const RESCAN_EVERY: u32 = 6;
/// Folders made inside each other at one time; the rest is found as it stirs.
const DEPTH: usize = 16;

#[cfg(test)]
mod tests;
