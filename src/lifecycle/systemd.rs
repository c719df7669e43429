//! What systemd is told of our life, if it started us with `Type=notify`; otherwise nobody is told anything.

use sd_notify::NotifyState;
use tracing::warn;

/// Every listener accepts; `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The stop has begun.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot tell systemd: is NOTIFY_SOCKET its socket?");
    }
}
