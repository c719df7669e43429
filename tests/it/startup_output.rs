//! What `lockgate run` prints at startup.

use crate::harness::{Backend, free_port, within};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::process::Command;

#[tokio::test]
async fn startup_on_a_terminal_names_what_is_served_and_whether_backends_answer() {
    let folder = TempDir::new().expect("a temporary folder");
    for (to, expected) in [
        (Backend::echo().await.to_string(), "accepts connections"),
        (
            format!("127.0.0.1:{}", free_port()),
            "is the backend running",
        ),
    ] {
        let port = free_port();
        let command = format!(
            "timeout -s INT 5 {} run --to ws://{to} --host localhost --listen 127.0.0.1:{port} --admin off",
            env!("CARGO_BIN_EXE_lockgate")
        );
        // `script` gives the program a terminal.
        let output = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = within("the end of the program", output).await;
        let output = output.expect("script is part of bsdutils");
        let text = String::from_utf8_lossy(&output.stdout);
        for part in [
            "hosts: localhost; certificates: development CA",
            &format!("backends: ws://{to}"),
            "access log: stdout; admin: off",
            "to stop: Ctrl-C",
            expected,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
