//! Runs the programs that change DNS for DNS-01 (RFC 8555 §8.4).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;
use tracing::warn;

use super::failure::AcmeError;
use crate::config::DnsHook;

/// Sets the TXT record of `name`. Returns when the program exits, by which time the record must be published.
pub(super) async fn present(hook: &DnsHook, name: &str, value: &str) -> Result<(), AcmeError> {
    let done = call(&hook.present, name, value).await;
    done.map_err(|error| AcmeError::Hook(format!("{} failed: {error}", hook.present.display())))
}

/// Removes the TXT record. A record that remains does no harm.
pub(super) async fn cleanup(hook: &DnsHook, name: &str, value: &str) {
    if let Err(error) = call(&hook.cleanup, name, value).await {
        warn!(program = %hook.cleanup.display(), %name, %error, "the cleanup program failed; the TXT record may remain");
    }
}

async fn call(program: &Path, name: &str, value: &str) -> Result<(), String> {
    // A bare name is a file in the directory of the configuration, not a command in PATH.
    let program = std::path::absolute(program).map_err(|error| error.to_string())?;
    let mut child = Command::new(program)
        .args([name, value])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let stderr = child.stderr.take().expect("stderr is piped");
    let run = async {
        let mut output = Vec::new();
        // The message is limited; further output is read and discarded, otherwise the program would block.
        let mut stderr = stderr;
        let mut head = (&mut stderr).take(MAX_OUTPUT_LEN);
        let _ = head.read_to_end(&mut output).await;
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        (child.wait().await, output)
    };
    let Ok((status, output)) = timeout(HOOK_TIMEOUT, run).await else {
        return Err(format!(
            "it did not finish within {} s",
            HOOK_TIMEOUT.as_secs()
        ));
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!(
            "{status}: {}",
            String::from_utf8_lossy(&output).trim()
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// DNS providers may need minutes to publish a record on all servers.
const HOOK_TIMEOUT: Duration = Duration::from_secs(180);
const MAX_OUTPUT_LEN: u64 = 2048;
