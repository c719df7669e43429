//! The end: not ready, then no more connections, then every session closed with 1001, spread over the window.

use super::{Server, drains::DrainPacing, handover::PendingHandover};
use crate::lifecycle::{Command, ServerState, Signal, systemd};
use std::{pin::pin, process::id, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tracing::info;

// === impl Server ===

impl Server {
    /// Whether every session ended by itself within the window. With it ends the `service`, unless another process has it.
    pub(super) async fn stop(
        &mut self,
        service: bool,
        state: &watch::Sender<ServerState>,
        signals: &mut impl AsyncFnMut() -> Signal,
        asked: &mut mpsc::Receiver<Command>,
    ) -> bool {
        let began = Instant::now();
        let sessions = self.context.metrics.sessions();
        info!(
            process = id(),
            sessions, "stopping: sessions are closed with 1001; a second signal stops at once"
        );
        if service {
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
                Some(command) = asked.recv() => self.handle_command(command, ServerState::Draining).await,
                // It comes in time: it serves on.
                came = self.handover.accepted() => drop(self.hand_over(came).await),
            }
        }
        let tasks = self.context.tasks.clone();
        tasks.stop();
        // A process that is still about to take over no longer finds this one.
        self.handover = PendingHandover::default();
        self.listening.clear();
        self.context.sessions.close_new_sessions(GOING_AWAY);
        let left = (drain.window.0).saturating_sub(began.elapsed());
        let spread = DrainPacing {
            // The last session to be closed still has the full time of a closing handshake.
            window: left.saturating_sub(self.plan.config.session.close_timeout.0 + CLOSE_MARGIN),
            gap: Duration::ZERO,
            code: GOING_AWAY,
        };
        let everybody = self.context.sessions.matching(|_| true);
        self.drains.cancel();
        self.drains.close(everybody, spread, |_| true, &tasks);
        let mut finish = pin!(tasks.finish(left));
        loop {
            tokio::select! {
                clean = &mut finish => {
                    if clean {
                        info!(process = id(), "stopped: every session has ended");
                    }
                    return clean;
                }
                signal = signals() => if signal == Signal::Stop { return false },
                Some(command) = asked.recv() => self.handle_command(command, ServerState::Draining).await,
            }
        }
    }
}

/// RFC 6455 §7.4.1.
const GOING_AWAY: u16 = 1001;
/// What follows the closing handshake: close_notify, FIN, and the moment in which input is discarded.
pub(super) const CLOSE_MARGIN: Duration = Duration::from_millis(1500);
/// For answers of the admin surface that are under way at the very end.
pub(super) const ADMIN_GRACE: Duration = Duration::from_millis(200);
