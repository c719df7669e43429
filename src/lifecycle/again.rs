//! Starts a new process of the same program for a takeover.

use super::Tasks;
use std::{
    env, io,
    process::{self, Stdio},
};
use tokio::process::Command;
use tracing::{error, info};

/// Starts the program at the current program's path with the same arguments and `LOCKGATE_TAKEOVER=true`. The new process
/// logs for itself; this one logs an error if the new process ends before a takeover or shutdown.
///
/// # Errors
/// If the program cannot be started, or would be killed together with this process: if this is the first process of a
/// container, or if systemd runs it without `Type=notify`.
pub fn reexec(tasks: &Tasks) -> io::Result<()> {
    if process::id() == 1 {
        return Err(io::Error::other(
            "the first process of a container cannot be replaced, because the container ends with it: start another container",
        ));
    }
    if env::var_os("INVOCATION_ID").is_some() && env::var_os("NOTIFY_SOCKET").is_none() {
        return Err(io::Error::other(
            "systemd would stop the service at the end of this process: set Type=notify in the unit",
        ));
    }
    let mut args = env::args_os();
    let program = args.next().ok_or(io::ErrorKind::NotFound)?;
    let mut child = Command::new(&program)
        .args(args)
        .env("LOCKGATE_TAKEOVER", "true")
        .stdin(Stdio::null())
        .spawn()?;
    info!(process = child.id(), program = %program.display(), "started a new process for a takeover");
    let stopping = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            exit = child.wait() => match exit {
                Ok(status) => error!(%status, "the new process has ended before the takeover; continuing to serve"),
                Err(error) => error!(%error, "cannot wait for the new process"),
            },
            // The takeover is complete, or this process shuts down.
            () = stopping.stopping() => {}
        }
    });
    Ok(())
}
