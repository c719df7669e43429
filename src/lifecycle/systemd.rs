//! Notifications to systemd (sd_notify(3)). Sent only if systemd started the process with `Type=notify`.

use sd_notify::NotifyState;
use tracing::warn;

/// Reports that every listener accepts connections; `systemctl status` shows `status`.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports the start of a reload (`Type=notify-reload`); [`ready`] reports its end.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => {
            warn!(%error, "cannot read the monotonic clock; not notifying systemd of the reload")
        }
    }
}

/// Reports that another process is the service from now on (`MAINPID=`).
pub(crate) fn main_process(id: u32) {
    notify(&[NotifyState::MainPid(id)]);
}

/// Reports the start of shutdown.
pub(crate) fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "cannot notify systemd; is NOTIFY_SOCKET its socket?");
    }
}
