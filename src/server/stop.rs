//! Shutdown: the server reports that it is not ready, closes the listeners after a grace period, then closes every session
//! with 1001, spread over the window.

use crate::{
    lifecycle::{
        command::{Command, ServerState},
        process::Signal,
        systemd,
    },
    server::{Server, drain::DrainPacing, takeover::PendingHandover},
};
use std::{pin::pin, process::id, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tracing::info;

// === impl Server ===

impl Server {
    /// Shuts down and returns whether every session ended within the window. `notify_systemd`: the service ends with this
    /// process, because no other process has taken over.
    pub(crate) async fn stop(
        &mut self,
        notify_systemd: bool,
        state: &watch::Sender<ServerState>,
        signals: &mut impl AsyncFnMut() -> Signal,
        command_queue: &mut mpsc::Receiver<Command>,
    ) -> bool {
        let start = Instant::now();
        let sessions = self.context.metrics.sessions();
        info!(
            process = id(),
            sessions, "stopping: closing sessions with 1001; a second signal stops at once"
        );
        if notify_systemd {
            systemd::stopping(&format!("closing sessions: {sessions}"));
        }
        state.send_replace(ServerState::Draining);
        let drain = self.context.live.snapshot().drain.clone();
        let mut grace = pin!(sleep(drain.accept_grace.0));
        loop {
            tokio::select! {
                biased;
                () = &mut grace => break,
                signal = signals() => if signal == Signal::Stop { return false },
                Some(command) = command_queue.recv() => self.handle_command(command, ServerState::Draining).await,
                // A takeover can still complete: the listeners are open until the end of the grace period.
                accepted = self.handover.accepted() => drop(self.hand_over(accepted).await),
            }
        }
        let tasks = self.context.tasks.clone();
        tasks.stop();
        // Withdraws an open offer.
        self.handover = PendingHandover::default();
        self.listeners.clear();
        self.context.sessions.close_new_sessions(GOING_AWAY);
        let remaining = (drain.window.0).saturating_sub(start.elapsed());
        let pacing = DrainPacing {
            // The last session still has the full time for its closing handshake.
            window: remaining
                .saturating_sub(self.active_config.config.session.close_timeout.0 + CLOSE_MARGIN),
            gap: Duration::ZERO,
            code: GOING_AWAY,
        };
        let all_sessions = self.context.sessions.matching(|_| true);
        self.drains.cancel();
        self.drains.close(all_sessions, pacing, |_| true, &tasks);
        let mut finish = pin!(tasks.finish(remaining));
        loop {
            tokio::select! {
                clean = &mut finish => {
                    if clean {
                        info!(process = id(), "stopped: every session has ended");
                    }
                    return clean;
                }
                signal = signals() => if signal == Signal::Stop { return false },
                Some(command) = command_queue.recv() => self.handle_command(command, ServerState::Draining).await,
            }
        }
    }
}

/// "Going away" (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1001;

/// Time after the closing handshake for close_notify, FIN and the lingering close.
pub(crate) const CLOSE_MARGIN: Duration = Duration::from_millis(1500);

/// Time for the admin API to complete its last responses.
pub(crate) const ADMIN_GRACE: Duration = Duration::from_millis(200);
