//! Deadlines of blocking work on files. A system call on a hung mount cannot be interrupted: its thread stays, and only
//! the wait for it ends. The error names the file that was being read.

use std::{
    cell::RefCell,
    fmt,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};
use tokio::{
    task::{JoinError, JoinHandle, spawn_blocking},
    time::{Instant, sleep_until},
};
use tracing::warn;

/// Work on files that has not ended within its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadlineExceeded {
    /// The file that was being read; `None` if the work was between two files.
    path: Option<PathBuf>,
    limit: Duration,
}

/// Blocking work on another thread.
#[derive(Debug)]
pub(crate) struct BlockingWork<T> {
    running: JoinHandle<T>,
    progress: Progress,
    limit: Duration,
    deadline: Instant,
}

/// The file that a thread is reading.
#[derive(Debug, Clone, Default)]
struct Progress(Arc<Mutex<Option<PathBuf>>>);

/// Records the end of one read on drop.
pub(crate) struct ReadingGuard(Option<Progress>);

thread_local! {
    /// The progress of the work that this thread does; `None` outside of such work.
    static PROGRESS: RefCell<Option<Progress>> = const { RefCell::new(None) };
}

/// Runs `work` on another thread and waits up to `limit` for it.
///
/// # Errors
/// Fails if the work has not ended within `limit`. Its thread continues until the system call returns, or the process
/// ends.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DeadlineExceeded> {
    let progress = Progress::default();
    let (sender, done) = mpsc::channel();
    let recorded = progress.clone();
    let thread = thread::Builder::new().name("files".to_owned());
    let Ok(thread) = thread.spawn(move || {
        let value = recorded.run(work);
        let _ = sender.send(value);
    }) else {
        return Err(progress.exceeded(limit));
    };
    match done.recv_timeout(limit) {
        Ok(value) => Ok(value),
        Err(RecvTimeoutError::Timeout) => Err(progress.exceeded(limit)),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => resume_unwind(panic),
            Ok(()) => Err(progress.exceeded(limit)),
        },
    }
}

/// Runs `work` on a blocking thread and waits for it without a limit, for callers that can do nothing else. Logs a
/// warning if it has not ended after [`WARN_AFTER`]. Fails if the work panics, or while the runtime shuts down.
pub(crate) async fn unbounded<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let mut work = BlockingWork::start(WARN_AFTER, work);
    match work.finished().await {
        Ok(result) => return result,
        Err(exceeded) => {
            warn!(reason = %exceeded, "a file cannot be read; the task that needs it waits");
        }
    }
    work.late().await
}

/// Records that this thread reads `path` until the guard is dropped.
pub(crate) fn reading(path: &Path) -> ReadingGuard {
    let progress = PROGRESS.with_borrow(Clone::clone);
    if let Some(progress) = &progress {
        progress.set(Some(path.to_owned()));
    }
    ReadingGuard(progress)
}

// === impl BlockingWork ===

impl<T: Send + 'static> BlockingWork<T> {
    /// Starts `work`. Must be called inside a runtime.
    pub(crate) fn start(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Self {
        let progress = Progress::default();
        let recorded = progress.clone();
        BlockingWork {
            running: spawn_blocking(move || recorded.run(work)),
            progress,
            limit,
            deadline: Instant::now() + limit,
        }
    }

    /// Waits for the result until the deadline. Cancel-safe. Must not be called again after a result.
    pub(crate) async fn finished(&mut self) -> Result<Result<T, JoinError>, DeadlineExceeded> {
        tokio::select! {
            biased;
            result = &mut self.running => Ok(result),
            () = sleep_until(self.deadline) => Err(self.progress.exceeded(self.limit)),
        }
    }

    /// Waits for the result after the deadline. Cancel-safe. Must not be called again after a result.
    pub(crate) async fn late(&mut self) -> Result<T, JoinError> {
        (&mut self.running).await
    }

    /// Returns the error that the work has not ended; the caller does not wait any longer.
    pub(crate) fn exceeded(&self) -> DeadlineExceeded {
        self.progress.exceeded(self.limit)
    }
}

// === impl Progress ===

impl Progress {
    fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let before = PROGRESS.replace(Some(self));
        let value = work();
        PROGRESS.set(before);
        value
    }

    fn set(&self, path: Option<PathBuf>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = path;
    }

    fn exceeded(&self, limit: Duration) -> DeadlineExceeded {
        let path = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        DeadlineExceeded {
            path: path.clone(),
            limit,
        }
    }
}

// === impl ReadingGuard ===

impl Drop for ReadingGuard {
    fn drop(&mut self) {
        if let Some(progress) = &self.0 {
            progress.set(None);
        }
    }
}

// === impl DeadlineExceeded ===

impl fmt::Display for DeadlineExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.limit;
        match &self.path {
            Some(path) => write!(
                f,
                "reading {} has not ended within {limit:?}: is its disk or mount reachable?",
                path.display()
            ),
            None => write!(
                f,
                "reading the files of the configuration has not ended within {limit:?}: are there fewer, larger files that \
                 it could include, and is the machine overloaded?"
            ),
        }
    }
}

impl std::error::Error for DeadlineExceeded {}

/// Far longer than the slowest read of a working disk.
const WARN_AFTER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hung_read_ends_the_wait_and_is_named() {
        let (release, hung) = mpsc::channel::<()>();
        // Long enough for a thread to start on a loaded machine.
        let limit = Duration::from_millis(500);
        let exceeded = within(limit, move || {
            let _reading = reading(Path::new("/mnt/hung/key.pem"));
            let _ = hung.recv_timeout(Duration::from_secs(20));
        });
        let exceeded = exceeded.unwrap_err();
        assert!(exceeded.to_string().contains("/mnt/hung/key.pem"));
        drop(release);
        assert_eq!(within(Duration::from_secs(20), || 7), Ok(7));
    }

    #[tokio::test]
    async fn late_result_is_returned_after_the_deadline() {
        let (release, hung) = mpsc::channel::<()>();
        let mut work = BlockingWork::start(Duration::from_millis(500), move || {
            let _reading = reading(Path::new("/mnt/hung/key.pem"));
            let _ = hung.recv_timeout(Duration::from_secs(20));
            7
        });
        let exceeded = work.finished().await.unwrap_err();
        assert!(exceeded.to_string().contains("/mnt/hung/key.pem"));
        drop(release);
        assert_eq!(work.late().await.unwrap(), 7);
        assert!(work.exceeded().path.is_none());
    }
}
