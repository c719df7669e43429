//! The program started anew by itself, to take over: the way to another version under a supervisor that knows one process.

use super::Tasks;
use std::{env, io, process::Stdio};
use tokio::process::Command;
use tracing::{error, info};

/// Starts what stands at the program's path now, with the same arguments and `LOCKGATE_TAKEOVER=true`. What becomes of it
/// is logged by itself; should it end before this process does, that is told here.
pub fn start_again(tasks: &Tasks) -> io::Result<()> {
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
