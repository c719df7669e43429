//! Reports when the content of files changes, however they are replaced: in place, by rename, or by changing a symbolic
//! link, as Kubernetes does with secrets and certbot with certificates.
//!
//! The kernel reports events in the directories on the path to a file, but only a difference in the content counts. Where the
//! kernel sends no events (a bind mount, a network file system, no inotify watch left), the content is compared at intervals.

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

/// A set of paths whose content is compared with its previous state: of a file the bytes, of a directory the names of its
/// entries.
#[derive(Debug)]
pub struct Watch {
    paths: Arc<[PathBuf]>,
    /// The content read so far; shared with blocking tasks, one of which may outlive a cancelled caller.
    contents: Arc<Mutex<ContentCache>>,
    /// The content of each path at the last report.
    reported: Vec<PathContent>,
    watched_dirs: WatchedDirs,
    /// Kernel events, in a channel for one: only the fact that something happened is transmitted.
    events: mpsc::Receiver<()>,
    /// An event arrived and the content was not compared yet.
    event_pending: bool,
    /// When to compare the content even without an event.
    due: Instant,
    /// The number of comparisons since the directories were last determined.
    comparisons: u32,
}

// === impl Watch ===

impl Watch {
    /// Creates a watch that reports changes relative to the current content. A path need not exist.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Watch {
        let paths: Arc<[PathBuf]> = paths
            .into_iter()
            .map(|path| std::path::absolute(&path).unwrap_or(path))
            .collect();
        let (event_sender, events) = mpsc::channel(1);
        let mut watched_dirs = WatchedDirs::new(event_sender);
        // The watches come first, so that a change before the first read is noticed.
        watched_dirs.follow(trail::dirs_on_path(&paths));
        let mut contents = ContentCache::new(paths.len());
        Watch {
            reported: contents.read_all(&paths, Instant::now),
            contents: Arc::new(Mutex::new(contents)),
            paths,
            watched_dirs,
            events,
            event_pending: false,
            due: Instant::now() + COMPARE_INTERVAL,
            comparisons: 0,
        }
    }

    /// Waits until the content of a path differs from that at the last return. Returns the indices of such paths in the list
    /// given to [`Watch::new`]. A removed file has changed too. Cancel-safe: a dropped call loses no change.
    pub async fn changed(&mut self) -> Vec<usize> {
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
                self.event_pending = false;
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

    /// Waits until events stop, because a program that writes a certificate also writes its key.
    async fn debounce(&mut self) {
        let latest = Instant::now() + MAX_DEBOUNCE;
        while Instant::now() < latest {
            let quiet = latest.min(Instant::now() + DEBOUNCE);
            if timeout_at(quiet, self.events.recv()).await.is_err() {
                return;
            }
        }
    }

    async fn update_watched_dirs(&mut self) {
        self.comparisons = 0;
        // A subdirectory may have been created in a new directory before that was watched.
        for _ in 0..MAX_NEW_DEPTH {
            let dirs = self.read(trail::dirs_on_path).await;
            if !self.watched_dirs.follow(dirs) {
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
        read: impl FnOnce(&[PathBuf]) -> T + Send + 'static,
    ) -> T {
        let paths = self.paths.clone();
        match tokio::task::spawn_blocking(move || read(&paths)).await {
            Ok(value) => value,
            // The runtime is shutting down, and this task with it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// The time without events after which the write is assumed complete.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// The limit for a directory in which events never stop.
const MAX_DEBOUNCE: Duration = Duration::from_secs(2);
/// The maximum delay of a change for which the kernel sends no event.
const COMPARE_INTERVAL: Duration = Duration::from_secs(10);
/// The number of intervals without an event after which the directories are determined again and failed kernel watches are
/// retried: once a minute. The kernel mostly reports such changes, and for many files this costs more than a comparison.
const RESCAN_EVERY: u32 = 6;
/// The maximum depth of directories created at once; deeper ones are found with later events.
const MAX_NEW_DEPTH: usize = 16;

#[cfg(test)]
mod tests;
