//! One tracker for all tasks, and one token for shutdown. All tasks are spawned here.

use std::time::Duration;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFuture},
    task::TaskTracker,
};

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

    /// Spawns `task`, which is dropped when `stop` is cancelled. Every background loop is started this way, with a
    /// token from [`Tasks::stop_token`].
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
