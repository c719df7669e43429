//! The programs of `acme.dns`, which change a TXT record.
//!
//! A program has ended when its own process has, also if it leaves a child in the background that keeps its output
//! open. At the deadline its whole process group ends, so that nothing keeps running that it has started.

use crate::{
    config::DnsHook,
    observe::logging::ErrorChain,
    tls::acme::error::{AcmeError, HookError},
};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{path::Path, pin::pin, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};
use tracing::warn;

/// Sets the TXT record of `name`. Returns when the program exits, by which time the record must be published.
pub(crate) async fn present(hook: &DnsHook, name: &str, value: &str) -> Result<(), AcmeError> {
    let done = call(&hook.present, name, value, HOOK_TIMEOUT).await;
    done.map_err(|source| AcmeError::Hook {
        program: hook.present.clone(),
        source,
    })
}

/// Removes the TXT record. A record that remains does no harm.
pub(crate) async fn cleanup(hook: &DnsHook, name: &str, value: &str) {
    if let Err(error) = call(&hook.cleanup, name, value, HOOK_TIMEOUT).await {
        let error = ErrorChain(&error);
        warn!(program = %hook.cleanup.display(), %name, %error, "the cleanup program failed; the TXT record may remain");
    }
}

async fn call(program: &Path, name: &str, value: &str, limit: Duration) -> Result<(), HookError> {
    // A bare name is a file in the directory of the configuration, not a command in PATH.
    let program = std::path::absolute(program).map_err(HookError::Path)?;
    let mut child = Command::new(program)
        .args([name, value])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(HookError::Start)?;
    let mut group = ProcessGroup::of(child.id());
    let stderr = child.stderr.take().expect("stderr is piped");
    let mut output = Vec::new();
    let run = async {
        let mut reading = pin!(read(stderr, &mut output));
        let mut is_read = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut reading, if !is_read => is_read = true,
            }
        };
        if !is_read {
            // What the program wrote is in the pipe already.
            let _ = timeout(OUTPUT_GRACE, reading).await;
        }
        status
    };
    let Ok(status) = timeout(limit, run).await else {
        return Err(HookError::Timeout(limit));
    };
    group.leave();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(HookError::Exit {
            status,
            output: String::from_utf8_lossy(&output).trim().to_owned(),
        }),
        Err(error) => Err(HookError::Wait(error)),
    }
}

/// Reads the beginning of the output, and discards the rest: otherwise the program would block.
async fn read(mut stderr: impl AsyncRead + Unpin, output: &mut Vec<u8>) {
    let mut head = (&mut stderr).take(MAX_OUTPUT_LEN);
    let _ = head.read_to_end(output).await;
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
}

/// The processes that a program has started and their own. Ends them on drop: at the deadline, and if an order is
/// abandoned.
struct ProcessGroup(Option<Pid>);

// === impl ProcessGroup ===

impl ProcessGroup {
    fn of(leader: Option<u32>) -> ProcessGroup {
        let leader = leader.and_then(|id| i32::try_from(id).ok());
        ProcessGroup(leader.and_then(Pid::from_raw))
    }

    /// Lets the processes in the background run: the program has ended by itself, and its number may be used again.
    fn leave(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It fails if all have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// DNS providers may need minutes to publish a record on all servers.
const HOOK_TIMEOUT: Duration = Duration::from_secs(180);

/// The time to read what a program has written before it ended.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

const MAX_OUTPUT_LEN: u64 = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::test_kill_process;
    use std::{fs, os::unix::fs::PermissionsExt, time::Instant};
    use tempfile::TempDir;

    /// Returns a script that writes the number of its child to the file in its first argument.
    fn script(folder: &TempDir, text: &str) -> std::path::PathBuf {
        let path = folder.path().join("hook");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn child(file: &Path) -> Pid {
        let text = fs::read_to_string(file).unwrap();
        Pid::from_raw(text.trim().parse().unwrap()).unwrap()
    }

    async fn has_ended(process: Pid) -> bool {
        for _ in 0..2000 {
            let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
            if stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    #[tokio::test]
    async fn child_in_the_background_does_not_delay_the_end() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("child");
        let name = file.to_str().unwrap();
        for (end, succeeds) in [("exit 0", true), ("echo reason >&2; exit 3", false)] {
            let hook = script(&folder, &format!("sleep 60 & echo $! > $1\n{end}"));
            let started = Instant::now();
            let result = call(&hook, name, "", Duration::from_secs(30)).await;
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{:?}",
                started.elapsed()
            );
            match result {
                Ok(()) => assert!(succeeds),
                Err(HookError::Exit { status, output }) => {
                    assert_eq!(
                        (status.code(), &*output, succeeds),
                        (Some(3), "reason", false)
                    );
                }
                Err(error) => panic!("{error}"),
            }
            // It may have work left.
            let child = child(&file);
            test_kill_process(child).unwrap();
            rustix::process::kill_process(child, Signal::KILL).unwrap();
        }
    }

    #[tokio::test]
    async fn process_group_ends_at_the_deadline_and_with_an_abandoned_order() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("child");
        let name = file.to_str().unwrap();
        let hook = script(&folder, "sleep 60 & echo $! > $1\nwait");
        let result = call(&hook, name, "", Duration::from_secs(3)).await;
        assert!(matches!(result, Err(HookError::Timeout(_))), "{result:?}");
        assert!(has_ended(child(&file)).await);

        fs::remove_file(&file).unwrap();
        let abandoned = call(&hook, name, "", Duration::from_secs(30));
        assert!(timeout(Duration::from_secs(3), abandoned).await.is_err());
        assert!(has_ended(child(&file)).await);
    }
}
