//! The signals that the process handles.

use std::io;
use tokio::signal::unix::{self, SignalKind, signal};

/// The action that a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: shut down.
    Stop,
    /// SIGHUP: reload the configuration.
    Reload,
    /// SIGUSR2: start a new process, which takes over.
    Replace,
}

/// The installed handlers of SIGTERM, SIGINT, SIGHUP and SIGUSR2.
#[derive(Debug)]
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    user2: unix::Signal,
}

// === impl Signals ===

impl Signals {
    /// Installs the handlers. From then on the signals no longer terminate the process by default.
    pub fn install() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.user2.recv() => Signal::Replace,
        }
    }
}
