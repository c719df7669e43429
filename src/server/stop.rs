//! Shutdown: the server reports that it is not ready, closes the listeners after a grace period, then closes every
//! session with 1001, spread over the window. After a takeover the listeners are the successor's, and the close code is
//! `drain.code`.

use crate::{
    lifecycle::{
        command::{Command, ServerState},
        process::Signal,
        systemd,
    },
    proto::frame::GOING_AWAY,
    server::{Server, StopEnd, drain::DrainPacing, takeover},
};
use std::{pin::pin, process::id, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tracing::info;

// === impl Server ===

impl Server {
    /// Shuts down and returns how the shutdown ended. `notify_systemd`: the service ends with
    /// this process, because no other process has taken over.
    pub(crate) async fn stop(
        &mut self,
        notify_systemd: bool,
        state: &watch::Sender<ServerState>,
        signals: &mut impl AsyncFnMut() -> Signal,
        command_queue: &mut mpsc::Receiver<Command>,
    ) -> StopEnd {
        let start = Instant::now();
        let sessions = self.context.metrics.sessions();
        if sessions == 0 {
            info!(process = id(), "stopping; a second signal stops at once");
        } else {
            info!(
                process = id(),
                sessions, "stopping: closing sessions with 1001; a second signal stops at once"
            );
        }
        if notify_systemd {
            systemd::stopping(&stop_status(sessions));
        }
        state.send_replace(ServerState::Draining);
        let gateway = self.context.live.snapshot();
        let drain = &gateway.drain;
        let mut grace = pin!(sleep(drain.accept_grace.0));
        loop {
            tokio::select! {
                biased;
                () = &mut grace => break,
                signal = signals() => if signal == Signal::Stop { return StopEnd::Signal },
                Some(command) = command_queue.recv() => self.handle_command(command, ServerState::Draining),
                // A takeover can still complete: the listeners are open until the end of the grace period.
                served = self.handover.served() => drop(takeover::complete(&self.context, served)),
            }
        }
        let tasks = self.context.tasks.clone();
        tasks.stop();
        self.handover.withdraw();
        self.listeners.close();
        self.context.sessions.close_new_sessions(GOING_AWAY);
        let remaining = (drain.window.0).saturating_sub(start.elapsed());
        let pacing = DrainPacing {
            // The last session still has the full time for its closing handshake.
            window: remaining.saturating_sub(gateway.max_close_timeout() + CLOSE_MARGIN),
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
                    match (clean, sessions) {
                        (false, _) => {}
                        (true, 0) => info!(process = id(), "stopped"),
                        (true, _) => info!(process = id(), "stopped: every session has ended"),
                    }
                    return StopEnd::at_deadline(clean);
                }
                signal = signals() => if signal == Signal::Stop { return StopEnd::Signal },
                Some(command) = command_queue.recv() => self.handle_command(command, ServerState::Draining),
            }
        }
    }

    /// Closes all sessions with `drain.code`, spread over `drain.window`, or over more if `drain.max_rate` requires it.
    /// Returns how the drain ended; `None`: [`Signal::Stop`] was received before.
    pub(crate) async fn drain_after_handover(
        &mut self,
        signals: &mut impl AsyncFnMut() -> Signal,
        command_queue: &mut mpsc::Receiver<Command>,
    ) -> Option<StopEnd> {
        let tasks = self.context.tasks.clone();
        tasks.stop();
        self.listeners.close();
        self.listeners.disown_admin();
        let gateway = self.context.live.snapshot();
        let drain = &gateway.drain;
        let close_time = gateway.max_close_timeout() + CLOSE_MARGIN;
        let all_sessions = self.context.sessions.matching(|_| true);
        let had_sessions = !all_sessions.is_empty();
        let pacing = DrainPacing::of(drain);
        // Requests and handshakes in progress have the full window, even if there are few sessions.
        let pacing_time = pacing.duration_for(all_sessions.len()).max(pacing.window);
        self.drains.cancel();
        self.drains.close(all_sessions, pacing, |_| true, &tasks);
        let mut pacing_end = pin!(sleep(pacing_time));
        let mut finish = pin!(tasks.finish(pacing_time + close_time));
        let mut may_open_sessions = true;
        loop {
            tokio::select! {
                clean = &mut finish => {
                    match (clean, had_sessions) {
                        (false, _) => {}
                        (true, false) => info!(process = id(), "exiting after the takeover"),
                        (true, true) => {
                            info!(process = id(), "every session has ended; exiting after the takeover");
                        }
                    }
                    return Some(StopEnd::at_deadline(clean));
                }
                signal = signals() => if signal == Signal::Stop { return None },
                // A client may have connected to the admin listener before it was passed on.
                Some(command) = command_queue.recv() => self.handle_command(command, ServerState::Draining),
                () = &mut pacing_end, if may_open_sessions => {
                    may_open_sessions = false;
                    self.context.sessions.close_new_sessions(drain.code);
                    for session in self.context.sessions.matching(|_| true) {
                        session.close(drain.code);
                    }
                }
            }
        }
    }
}

/// Returns the status that `systemctl status` shows during a shutdown.
fn stop_status(sessions: u64) -> String {
    match sessions {
        0 => "stopping".to_owned(),
        sessions => format!("closing sessions: {sessions}"),
    }
}

/// Time after the closing handshake for close_notify, FIN and the lingering close.
const CLOSE_MARGIN: Duration = Duration::from_millis(1500);
