//! The program started anew by itself, to take over.

use super::Tasks;
use std::{
    env, io,
    process::{self, Stdio},
};
use tokio::process::Command;
use tracing::{error, info};

/// Starts what stands at the program's path now, with the same arguments and `LOCKGATE_TAKEOVER=true`. What becomes of it
/// is logged by itself; should it end before this process does, that is told here.
///
/// # Errors
/// When it cannot be started, or would be ended together with this process: as the first process of a container, or under
/// a systemd that is told nothing.
pub fn reexec(tasks: &Tasks) -> io::Result<()> {
    if process::id() == 1 {
        return Err(io::Error::other(
            "this is the first process of its container, which ends with it: start another container instead",
        ));
    }
    if env::var_os("INVOCATION_ID").is_some() && env::var_os("NOTIFY_SOCKET").is_none() {
        return Err(io::Error::other(
            "systemd would take the end of this process for the service's: the unit needs Type=notify",
        ));
    }
    let mut words = env::args_os();
    let program = words.next().ok_or(io::ErrorKind::NotFound)?;
    let mut child = Command::new(&program)
        .args(words)
        .env("LOCKGATE_TAKEOVER", "true")
        .stdin(Stdio::null())
        .spawn()?;
    info!(process = child.id(), program = %program.display(), "started anew, to take over");
    let stopping = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            ended = child.wait() => match ended {
                Ok(status) => error!(%status, "the process that was to take over has ended: this one goes on"),
                Err(error) => error!(%error, "cannot tell what became of the process that was to take over"),
            },
            // It has taken over, or both are to end.
            () = stopping.stopping() => {}
        }
    });
    Ok(())
}
