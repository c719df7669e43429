//! One tracker for all tasks, and one token for shutdown. All tasks are spawned here.

use futures_util::FutureExt;
use std::{panic::AssertUnwindSafe, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};
use tracing::error;

/// The tracker of running tasks and their shutdown token; clones share both.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

// === impl Tasks ===

impl Tasks {
    /// Spawns `task`. A panic ends that task only.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Spawns `task`, which is dropped when `stop` is cancelled, a token from [`Tasks::stop_token`].
    pub(crate) fn spawn_until(
        &self,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.tracker.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Spawns a background loop, which is dropped when `stop` is cancelled. After a panic, which is an error of
    /// Lockgate, the loop starts again: without it a backend would never be checked, or a certificate never be renewed,
    /// until the process ends. `name` is in the log.
    pub(crate) fn spawn_loop<F: Future<Output = ()> + Send>(
        &self,
        name: &'static str,
        stop: CancellationToken,
        mut start: impl FnMut() -> F + Send + 'static,
    ) {
        let supervised = async move {
            let mut pause = MIN_RESTART_PAUSE;
            loop {
                let started = Instant::now();
                if AssertUnwindSafe(start()).catch_unwind().await.is_ok() {
                    return;
                }
                if started.elapsed() > MAX_RESTART_PAUSE {
                    pause = MIN_RESTART_PAUSE;
                }
                error!(task = name, restart_in = ?pause, "a background task panicked and is started again; please report it with the lines that stderr has about it");
                sleep(pause).await;
                pause = (pause * 2).min(MAX_RESTART_PAUSE);
            }
        };
        self.spawn_until(stop, supervised);
    }

    /// Returns a token that is cancelled by [`Tasks::stop`]. Cancelling it earlier stops only the tasks that have it.
    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Requests shutdown: tasks accept no new work and finish existing work.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Completes when [`Tasks::stop`] is called.
    pub(crate) fn stopping(&self) -> WaitForCancellationFuture<'_> {
        self.stop.cancelled()
    }

    /// Waits up to `limit` for every task to end. Returns whether all have ended; the others are dropped with the
    /// runtime.
    pub(crate) async fn finish(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait())
            .await
            .is_ok()
    }
}

/// The pause after the first panic of a loop; each further one doubles it.
const MIN_RESTART_PAUSE: Duration = Duration::from_secs(1);

/// The maximum of that pause. A loop that ran longer than this starts with the first pause again.
const MAX_RESTART_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };
    use tokio::{sync::mpsc, time::timeout};

    #[tokio::test(start_paused = true)]
    async fn loop_that_panics_starts_again_until_it_is_stopped() {
        let (tasks, starts) = (Tasks::default(), Arc::new(AtomicU32::new(0)));
        let (sender, mut receiver) = mpsc::channel(1);
        let count = starts.clone();
        tasks.spawn_loop("test", tasks.stop_token(), move || {
            let (sender, start) = (sender.clone(), count.fetch_add(1, Ordering::Relaxed));
            async move {
                assert!(start >= 3, "a panic of this test");
                sender.send(start).await.expect("the test receives");
                std::future::pending().await
            }
        });
        let begun = Instant::now();
        let received = timeout(Duration::from_secs(60), receiver.recv()).await;
        assert_eq!(received, Ok(Some(3)));
        assert_eq!(begun.elapsed().as_secs(), 1 + 2 + 4);
        tasks.stop();
        assert!(tasks.finish(Duration::from_secs(1)).await);
        assert_eq!(starts.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn loop_that_ends_is_not_started_again() {
        let tasks = Tasks::default();
        tasks.spawn_loop("test", tasks.stop_token(), || std::future::ready(()));
        assert!(tasks.finish(Duration::from_secs(1)).await);
    }
}
