//! The process: the signals that it handles, its limit on file descriptors, and the start of a new process of the same
//! program for a takeover.

use crate::lifecycle::tasks::Tasks;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    env, io,
    process::{self, Stdio},
};
use tokio::{
    process::Command,
    signal::unix::{self, SignalKind, signal},
    task::spawn_blocking,
};
use tracing::{error, info, warn};

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

/// Why the program is not started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReexecError {
    /// The first process of a container.
    #[error(
        "the first process of a container cannot be replaced, because the container ends with it: start another container"
    )]
    FirstProcess,
    /// A service of systemd without `Type=notify`.
    #[error(
        "systemd would stop the service at the end of this process: set Type=notify in the unit"
    )]
    NotNotified,
    /// No path of the program among the arguments of this process.
    #[error("this process was started without its program's path as the first argument")]
    NoProgram,
}

/// The installed handlers of SIGTERM, SIGINT, SIGHUP and SIGUSR2.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    user2: unix::Signal,
}

// === impl Signals ===

impl Signals {
    /// Installs the handlers. From then on the signals no longer terminate the process by default.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for SIGTERM or SIGINT. The other signals stay pending.
    pub(crate) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.user2.recv() => Signal::Replace,
        }
    }
}

/// Starts the program at the current program's path with the same arguments and `LOCKGATE_TAKEOVER=true`. The new
/// process logs for itself; this one logs an error if the new process ends before a takeover or shutdown.
///
/// # Errors
/// If the program is unknown, or would be killed together with this process.
pub(crate) fn reexec(tasks: &Tasks) -> Result<(), ReexecError> {
    if process::id() == 1 {
        return Err(ReexecError::FirstProcess);
    }
    if env::var_os("INVOCATION_ID").is_some() && env::var_os("NOTIFY_SOCKET").is_none() {
        return Err(ReexecError::NotNotified);
    }
    let mut args = env::args_os();
    let program = args.next().ok_or(ReexecError::NoProgram)?;
    let mut command = Command::new(&program);
    command
        .args(args)
        .env("LOCKGATE_TAKEOVER", "true")
        .stdin(Stdio::null());
    // Until the takeover is complete, or this process shuts down.
    tasks.spawn_until(tasks.stop_token(), async move {
        // On another thread: it waits until the program is loaded, and its disk may hang.
        let child = spawn_blocking(move || command.spawn()).await;
        let mut child = match child.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(child) => child,
            Err(error) => {
                return error!(%error, program = %program.display(), "cannot start a new process; continuing to serve");
            }
        };
        info!(process = child.id(), program = %program.display(), "started a new process for a takeover");
        match child.wait().await {
            Ok(status) => error!(%status, "the new process has ended before the takeover; continuing to serve"),
            Err(error) => error!(%error, "cannot wait for the new process"),
        }
    });
    Ok(())
}

/// Raises the soft limit on file descriptors, which bounds the number of connections, to the hard one. Returns the
/// resulting soft limit.
pub(crate) fn raise_nofile_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot raise the soft limit on file descriptors to the hard one");
    }
    let current = getrlimit(Resource::Nofile).current;
    current
        .and_then(|current| usize::try_from(current).ok())
        .unwrap_or(usize::MAX)
}
