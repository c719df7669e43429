//! The directories for which the kernel sends events.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::warn;

use super::COMPARE_INTERVAL;
use super::trail::InodeId;

/// The kernel watches (inotify).
#[derive(Debug)]
pub(super) struct WatchedDirs {
    /// `None` if the kernel has no inotify instance left.
    pub(super) watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, InodeId>,
    /// Keeps the channel open, also without a watcher.
    _event_sender: mpsc::Sender<()>,
    warned: bool,
}

// === impl WatchedDirs ===

impl WatchedDirs {
    pub(super) fn new(event_sender: mpsc::Sender<()>) -> WatchedDirs {
        let sender = event_sender.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // A full channel means that an event is already pending.
            if event.as_ref().map_or_else(|_| true, is_change) {
                let _ = sender.try_send(());
            }
        });
        let mut watched_dirs = WatchedDirs {
            watcher: None,
            watched: BTreeMap::new(),
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
    pub(super) fn follow(&mut self, dirs: BTreeMap<PathBuf, InodeId>) -> bool {
        let Some(mut watcher) = self.watcher.take() else {
            return false;
        };
        for (folder, identity) in std::mem::take(&mut self.watched) {
            match dirs.get(&folder) == Some(&identity) {
                true => drop(self.watched.insert(folder, identity)),
                // The kernel removes the watch of a deleted directory itself.
                false => drop(watcher.unwatch(&folder)),
            }
        }
        let mut has_new = false;
        for (folder, identity) in dirs {
            // Directories that are already watched are watched again: one that was deleted and created again may have the same
            // inode number.
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
                folder, %error,
                "no kernel events for changed files; they are compared every {} s instead \
                 (fs.inotify.max_user_watches and max_user_instances may be too low)",
                COMPARE_INTERVAL.as_secs()
            );
        }
    }
}

/// Returns whether an event is a change. Read accesses are not, because Lockgate reads the files itself.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

fn is_removed(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}
