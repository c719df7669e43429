//! What systemd is told of our life, if it started us with `Type=notify`; otherwise nothing is sent.

use sd_notify::NotifyState;
use tracing::warn;

/// Every listener accepts; `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A configuration is being read (sd_notify(3): `Type=notify-reload`); [`ready`] ends that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "cannot tell systemd what time it is"),
    }
}

/// Another process is the service from now on (sd_notify(3): `MAINPID=`).
pub fn main_process(id: u32) {
    notify(&[NotifyState::MainPid(id)]);
}

/// The stop has begun.
pub fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot tell systemd: is NOTIFY_SOCKET its socket?");
    }
}
