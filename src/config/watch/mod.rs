//! Reports when the content of files changes, however they are replaced: in place, by rename, or by changing a symbolic
//! link, as Kubernetes does with secrets and certbot with certificates.
//!
//! The kernel reports events in the directories on the path to a file, but only a difference in the content counts.
//! Where the kernel sends no events (a bind mount, a network file system, no inotify watch left), the content is
//! compared at intervals.

pub(crate) mod content;
pub(crate) mod path;

use crate::{
    config::watch::{
        content::{ContentCache, PathContent},
        path::{EventFilter, WatchedNames, WatchedPath},
    },
    fs::deadline,
};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::{
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tracing::{error, warn};

/// A set of paths whose content is compared with its previous state: of a file the bytes, of a directory the names of
/// its entries, or of those that match a pattern.
#[derive(Debug)]
pub(crate) struct Watch {
    paths: Arc<[WatchedPath]>,
    /// The content read so far; shared with blocking tasks, one of which may outlive a cancelled caller.
    contents: Arc<Mutex<ContentCache>>,
    /// The content of each path at the last report.
    reported: Vec<PathContent>,
    watched_dirs: Arc<Mutex<WatchedDirs>>,
    filter: Arc<Mutex<EventFilter>>,
    /// Kernel events, in a channel for one: only the fact that something happened is transmitted.
    events: mpsc::Receiver<()>,
    /// An event arrived and the content was not compared yet.
    event_pending: bool,
    /// When to compare the content even without an event.
    due: Instant,
    /// The number of comparisons since the directories were last determined.
    comparisons: u32,
}

/// The directories for which the kernel sends events (inotify).
#[derive(Debug)]
struct WatchedDirs {
    /// `None` if the kernel has no inotify instance left.
    pub(crate) watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, InodeId>,
    /// Shared with the thread that receives the events.
    filter: Arc<Mutex<EventFilter>>,
    /// Keeps the channel open, also without a watcher.
    _event_sender: mpsc::Sender<()>,
    warned: bool,
}

/// Device and inode number: a directory that was created again has another one.
type InodeId = (u64, u64);

/// Whether watched files are being written, for other tasks than that of the watch.
#[derive(Debug, Clone)]
pub(crate) struct OpenFiles(Arc<Mutex<EventFilter>>);

/// The directories on the watched paths, with the entries that matter in each.
type Folders = BTreeMap<PathBuf, (InodeId, WatchedNames)>;

// === impl Watch ===

impl Watch {
    /// Starts a watch by [`Watch::new`] on a blocking thread. `None`: the runtime is shutting down.
    pub(crate) async fn open<P>(paths: Vec<P>) -> Option<Watch>
    where
        P: Into<WatchedPath> + Send + 'static,
    {
        deadline::unbounded(move || Watch::new(paths)).await.ok()
    }

    /// Creates a watch that reports changes relative to the current content. A path need not exist. May block.
    pub(crate) fn new(paths: impl IntoIterator<Item = impl Into<WatchedPath>>) -> Watch {
        let paths: Arc<[WatchedPath]> = paths
            .into_iter()
            .map(|path| path.into().into_absolute())
            .collect();
        let (event_sender, events) = mpsc::channel(1);
        let mut watched_dirs = WatchedDirs::new(event_sender);
        // The watches come first, so that a change before the first read is noticed. Once more, because a link may have
        // been replaced before its directory was watched.
        for _ in 0..MAX_NEW_DEPTH {
            if !watched_dirs.follow(dirs_on_path(&paths)) {
                break;
            }
        }
        let mut contents = ContentCache::new(paths.len());
        Watch {
            reported: contents.read_all(&paths, Instant::now),
            contents: Arc::new(Mutex::new(contents)),
            paths,
            filter: watched_dirs.filter.clone(),
            watched_dirs: Arc::new(Mutex::new(watched_dirs)),
            events,
            event_pending: false,
            due: Instant::now() + COMPARE_INTERVAL,
            comparisons: 0,
        }
    }

    /// Returns a handle that shows whether watched files are being written.
    pub(crate) fn open_files(&self) -> OpenFiles {
        OpenFiles(self.filter.clone())
    }

    /// Waits until no program writes the watched files. Cancel-safe: a dropped call loses no change.
    pub(crate) async fn settle(&mut self) {
        self.event_pending = true;
        self.debounce().await;
    }

    /// Waits until the content of a path differs from that at the last return. Returns the indices of such paths in the
    /// list given to [`Watch::new`]; none of them if files were written with the content that was reported last, while
    /// others read them ([`OpenFiles::note_read`]) and may have seen another one. A removed file has changed too.
    /// Cancel-safe: a dropped call loses no change.
    pub(crate) async fn changed(&mut self) -> Vec<usize> {
        loop {
            if !self.event_pending {
                let event = timeout_at(self.due, self.events.recv()).await;
                self.event_pending = event.is_ok();
            }
            if self.event_pending {
                self.debounce().await;
            }
            if self.event_pending || self.comparisons >= RESCAN_EVERY {
                self.update_watched_dirs().await;
            }
            let current = self.read_contents().await;
            self.due = Instant::now() + COMPARE_INTERVAL;
            if current == self.reported {
                let was_pending = std::mem::take(&mut self.event_pending);
                if was_pending && self.filter().take_was_read() {
                    return Vec::new();
                }
            } else if self.event_pending {
                self.event_pending = false;
                let previous = std::mem::replace(&mut self.reported, current);
                let pairs = previous.iter().zip(&self.reported).enumerate();
                let changed = pairs.filter(|(_, (previous, current))| previous != current);
                return changed.map(|(index, _)| index).collect();
            } else {
                // A change without an event is handled like one with an event.
                self.event_pending = true;
            }
        }
    }

    /// Waits until the writers have closed the files and events stop, because a program that writes a certificate also
    /// writes its key. A file that stays open delays a report up to [`MAX_OPEN_TIME`].
    async fn debounce(&mut self) {
        let started = Instant::now();
        loop {
            let is_open = self.filter().is_being_written();
            let (latest, quiet) = if is_open {
                (started + MAX_OPEN_TIME, MAX_OPEN_TIME)
            } else {
                (started + MAX_DEBOUNCE, DEBOUNCE)
            };
            let until = latest.min(Instant::now() + quiet);
            if timeout_at(until, self.events.recv()).await.is_err() {
                if is_open {
                    self.filter().forget_writers();
                }
                return;
            }
        }
    }

    fn filter(&self) -> MutexGuard<'_, EventFilter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn update_watched_dirs(&mut self) {
        self.comparisons = 0;
        // A subdirectory may have been created in a new directory before that was watched.
        for _ in 0..MAX_NEW_DEPTH {
            let watched_dirs = self.watched_dirs.clone();
            let follow = move |paths: &[WatchedPath]| {
                let dirs = dirs_on_path(paths);
                let mut watched = watched_dirs.lock().unwrap_or_else(PoisonError::into_inner);
                watched.follow(dirs)
            };
            if !self.read(follow).await {
                break;
            }
        }
    }

    async fn read_contents(&mut self) -> Vec<PathContent> {
        self.comparisons += 1;
        let contents = self.contents.clone();
        self.read(move |paths| {
            let mut contents = contents.lock().unwrap_or_else(PoisonError::into_inner);
            contents.read_all(paths, Instant::now)
        })
        .await
    }

    /// Runs `read` on a blocking thread, because a network mount may be slow.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&[WatchedPath]) -> T + Send + 'static,
    ) -> T {
        let paths = self.paths.clone();
        match deadline::unbounded(move || read(&paths)).await {
            Ok(value) => value,
            Err(error) => {
                // Otherwise the runtime is shutting down, and this task with it.
                if error.is_panic() {
                    error!(%error, "the watched files cannot be read; changes are not noticed from now on");
                }
                std::future::pending().await
            }
        }
    }
}

// === impl OpenFiles ===

impl OpenFiles {
    /// Returns whether a watched file was written and is still open for writing.
    pub(crate) fn is_being_written(&self) -> bool {
        let filter = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        filter.is_being_written()
    }

    /// Records that the files are being read outside the watch.
    pub(crate) fn note_read(&self) {
        let mut filter = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        filter.note_read();
    }
}

// === impl WatchedDirs ===

impl WatchedDirs {
    /// Creates the watch. A failure to watch a directory is logged, and its files are polled.
    pub(crate) fn new(event_sender: mpsc::Sender<()>) -> WatchedDirs {
        let (sender, filter) = (event_sender.clone(), Arc::<Mutex<EventFilter>>::default());
        let events = filter.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let mut filter = events.lock().unwrap_or_else(PoisonError::into_inner);
            // A full channel means that an event is already pending.
            if event
                .as_ref()
                .map_or_else(|_| true, |event| filter.accepts(event))
            {
                let _ = sender.try_send(());
            }
        });
        let mut watched_dirs = WatchedDirs {
            watcher: None,
            watched: BTreeMap::new(),
            filter,
            _event_sender: event_sender,
            warned: false,
        };
        match watcher {
            Ok(watcher) => watched_dirs.watcher = Some(watcher),
            Err(error) => watched_dirs.warn(None, &error),
        }
        watched_dirs
    }

    /// Watches exactly these directories; returns whether one of them was not watched before.
    pub(crate) fn follow(&mut self, dirs: Folders) -> bool {
        let (mut ids, mut names) = (BTreeMap::new(), BTreeMap::new());
        for (folder, (id, watched)) in dirs {
            ids.insert(folder.clone(), id);
            names.insert(folder, watched);
        }
        let dirs = ids;
        // Before the watches begin, so that no event is missed.
        let mut filter = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        filter.replace(names);
        drop(filter);
        let Some(mut watcher) = self.watcher.take() else {
            return false;
        };
        for (folder, identity) in std::mem::take(&mut self.watched) {
            if dirs.get(&folder) == Some(&identity) {
                self.watched.insert(folder, identity);
            } else {
                // The kernel removes the watch of a deleted directory itself.
                let _ = watcher.unwatch(&folder);
            }
        }
        let mut has_new = false;
        for (folder, identity) in dirs {
            // Directories that are already watched are watched again: one that was deleted and created again may have
            // the same inode number.
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => has_new |= self.watched.insert(folder, identity).is_none(),
                Err(error) => {
                    self.watched.remove(&folder);
                    if !is_removed(&error) {
                        self.warn(Some(&folder), &error);
                    }
                }
            }
        }
        self.watcher = Some(watcher);
        has_new
    }

    fn warn(&mut self, folder: Option<&Path>, error: &notify::Error) {
        if !std::mem::replace(&mut self.warned, true) {
            let folder = folder.map(|folder| tracing::field::display(folder.display()));
            warn!(
                folder,
                %error,
                interval = ?COMPARE_INTERVAL,
                "no kernel events for changed files; they are compared at intervals instead \
                 (fs.inotify.max_user_watches and max_user_instances may be too low)"
            );
        }
    }
}

fn is_removed(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Returns the directories on these paths in which an event can change the file that a path resolves to, without those
/// that are only traversed.
fn dirs_on_path(paths: &[WatchedPath]) -> Folders {
    let mut folders = BTreeMap::new();
    for path in paths {
        let _reading = deadline::reading(path.path());
        follow(path, &mut folders);
    }
    folders
}

/// Resolves a path component by component, as the kernel does. The directory of each symbolic link matters, and that of
/// the file, or of the first missing component.
fn follow(path: &WatchedPath, folders: &mut Folders) {
    let mut at = PathBuf::from("/");
    let mut rest = steps(path.path());
    let mut links = 0;
    while let Some(step) = rest.pop_front() {
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&step);
        match fs::symlink_metadata(&next) {
            Ok(entry) if entry.is_symlink() => {
                record(&at, folders, |names| names.add(&step));
                links += 1;
                let Ok(target) = fs::read_link(&next) else {
                    return;
                };
                if links > MAX_SYMLINKS {
                    return;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                let mut target = steps(&target);
                target.append(&mut rest);
                rest = target;
            }
            Ok(entry) if entry.is_dir() => {
                if rest.is_empty() {
                    record(&at, folders, |names| names.add(&step));
                }
                at = next;
            }
            _ => return record(&at, folders, |names| names.add(&step)),
        }
    }
    record(&at, folders, |names| names.add_entries(path));
}

fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn record(folder: &Path, folders: &mut Folders, add: impl FnOnce(&mut WatchedNames)) {
    if let Some((_, names)) = folders.get_mut(folder) {
        return add(names);
    }
    if let Ok(metadata) = fs::metadata(folder) {
        let mut names = WatchedNames::default();
        add(&mut names);
        folders.insert(folder.to_owned(), ((metadata.dev(), metadata.ino()), names));
    }
}

/// The time without events after which the write is assumed complete.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// The limit for a directory in which events never stop.
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);

/// The maximum delay for a file that was written and stays open.
const MAX_OPEN_TIME: Duration = Duration::from_secs(10);

/// The maximum delay of a change for which the kernel sends no event.
const COMPARE_INTERVAL: Duration = Duration::from_secs(10);

/// The number of intervals without an event after which the directories are determined again and failed kernel watches
/// are retried: once a minute. The kernel mostly reports such changes, and for many files this costs more than a
/// comparison.
const RESCAN_EVERY: u32 = 6;

/// The maximum depth of directories created at once; deeper ones are found with later events.
const MAX_NEW_DEPTH: usize = 16;

/// The number of symbolic links that Linux follows.
const MAX_SYMLINKS: usize = 40;

#[cfg(test)]
mod tests;
