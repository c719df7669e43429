//! Errors of the command line: they name what to write instead.

mod config_file;
mod help;
mod progress;
mod tips;

use crate::harness::{Backend, Lockgate, eventually};
use std::{fs, process::Output};
use tempfile::TempDir;
use tokio::process::Command;

#[tokio::test]
async fn error_names_what_to_write_instead() {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("lockgate.toml"), "").expect("writable");
    let header = ["--header", "Origin https://x"];
    let config = ["--config", "lockgate.toml"];
    for (arguments, code, parts) in [
        (&["drain"][..], 64, &["--backend", "--route"][..]),
        (&["kick"], 1, &["--longer-than", "--all"]),
        (&["kick", "--all", "--route", "a"], 1, &["--all"]),
        (
            &[&["explain", "localhost/ws"][..], &config].concat(),
            1,
            &["wss://localhost/ws"],
        ),
        (
            &[&["explain", "localhost:8443"][..], &config].concat(),
            1,
            &["wss://localhost:8443"],
        ),
        (
            &[&["explain", "wss://a.test/"][..], &config, &header].concat(),
            1,
            &["NAME: VALUE"],
        ),
        (&["probe", "localhost:8443"], 1, &["wss://localhost:8443"]),
        (&["probe", "https://a.test/x"], 1, &["wss://a.test/x"]),
    ] {
        let output = Lockgate::run(folder.path(), arguments).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?}, {part}: {text}");
        }
        assert!(!text.contains("failed at"), "{arguments:?}: {text}");
        assert!(!text.contains("longer_than"), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn flags_from_the_environment_are_not_shown_as_required() {
    let folder = TempDir::new().expect("a temporary folder");
    let run = async |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
        command.args(arguments).current_dir(folder.path());
        command.env_clear().envs(variables.iter().copied());
        stderr(&command.output().await.expect("the binary starts"))
    };
    let data = ("LOCKGATE_DATA", "data");
    for arguments in [&["check"][..], &["explain"], &["run", "--unknown"]] {
        let text = run(arguments, &[data]).await;
        assert!(text.contains("Usage: lockgate"), "{text}");
        assert!(!text.contains("--data"), "{text}");
    }
    let conflict = ["run", "--config", "a.toml"];
    let to = ("LOCKGATE_TO", "ws://127.0.0.1:1");
    let text = run(&conflict, &[data, to]).await;
    assert!(text.contains("LOCKGATE_TO"), "{text}");
    assert!(!text.contains("LOCKGATE_DATA"), "{text}");
}

#[tokio::test]
async fn unknown_session_is_reported_without_the_request() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let (succeeded, text) = lockgate.command(&["kick", "00000000000000ff"]).await;
    assert!(!succeeded && text.contains("00000000000000ff"), "{text}");
    assert!(!text.contains("/sessions/close"), "{text}");
    let (succeeded, text) = lockgate.command(&["tap", "--bytes", "60000"]).await;
    assert!(!succeeded && text.contains("--bytes"), "{text}");
}

#[tokio::test]
async fn second_lockgate_on_the_same_port_names_the_first() {
    let backend = Backend::echo().await;
    let lockgate = Lockgate::to(backend).start().await;
    let (to, listen) = (format!("ws://{backend}"), lockgate.https.to_string());
    let flags = ["run", "--to", &to, "--listen", &listen];
    let (succeeded, text) = lockgate.command(&flags).await;
    let process = format!("process {}", lockgate.id());
    assert!(!succeeded && text.contains(&process), "{text}");
    assert!(text.contains("--takeover"), "{text}");
}

#[tokio::test]
async fn other_names_are_announced_without_a_host() {
    let to = format!("ws://{}", Backend::echo().await);
    let lockgate = Lockgate::with_flags(&["--to", &to]).start().await;
    lockgate.until_logged("any other name works too").await;
    let lockgate = Lockgate::with_flags(&["--to", &to, "--host", "a.test"]);
    let lockgate = lockgate.start().await;
    lockgate.until_logged("\"ready\"").await;
    let text = lockgate.stderr();
    assert!(!text.contains("any other name"), "{text}");
}

#[tokio::test]
async fn data_folder_that_cannot_be_created_is_reported_with_its_flag() {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("file"), "").expect("writable");
    let output = Lockgate::run(folder.path(), &["cert", "ca", "--data", "file/data"]).await;
    let text = stderr(&output);
    assert!(!output.status.success(), "{text}");
    assert!(
        text.contains("LOCKGATE_DATA") && text.contains("--data"),
        "{text}"
    );
}

#[tokio::test]
async fn acme_for_localhost_is_refused_with_the_flag_to_leave_out() {
    let folder = TempDir::new().expect("a temporary folder");
    let flags = ["--host", "localhost", "--acme", "ops@example.com"];
    let run = ["run", "--to", "ws://127.0.0.1:1"];
    let output = Lockgate::run(folder.path(), &[&run[..], &flags].concat()).await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.contains("leave out --acme"), "{text}");
    assert!(!text.contains("tls.certificates"), "{text}");
}

#[tokio::test]
async fn created_certificate_directory_is_logged() {
    let to = format!("ws://{}", Backend::echo().await);
    let directory = "https://127.0.0.1:1/directory";
    let flags = ["--acme", "ops@example.com", "--acme-directory", directory];
    let flags = [&["--to", &to, "--host", "a.example.com"][..], &flags].concat();
    let lockgate = Lockgate::with_flags(&flags).start().await;
    let data = lockgate.folder().join("data").display().to_string();
    eventually("the created directory in the log", async || {
        let lines = lockgate.log("INFO");
        lines.iter().any(|line| {
            line["location"]
                .as_str()
                .is_some_and(|it| it.starts_with(&data))
        })
    })
    .await;
}

#[tokio::test]
async fn proxy_variable_that_is_not_used_for_the_ca_is_reported() {
    let to = format!("ws://{}", Backend::echo().await);
    let directory = "https://ca.test:1/directory";
    let flags = ["--acme", "ops@example.com", "--acme-directory", directory];
    let flags = [&["--to", &to, "--host", "a.example.com"][..], &flags].concat();
    for variable in ["HTTPS_PROXY", "all_proxy"] {
        let setup = Lockgate::with_flags(&flags).env(variable, "http://127.0.0.1:1");
        let lockgate = setup.start().await;
        eventually("a warning with the variable", async || {
            let lines = lockgate.log("WARN");
            lines.iter().any(|line| line["variable"] == variable)
        })
        .await;
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
