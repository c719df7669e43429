//! The configuration file of a command: FILE, `--config`, `LOCKGATE_CONFIG`, or `lockgate.toml` in the working
//! directory.

use super::stderr;
use crate::harness::{Backend, Lockgate, free_port};
use serde_json::Value;
use std::{fs, path::Path, process::Output};
use tempfile::TempDir;
use tokio::process::Command;

/// A folder with `lockgate.toml` and `other.toml`, which have a route for `localhost` and `127.0.0.1`.
async fn two_files() -> (TempDir, String) {
    let folder = TempDir::new().expect("a temporary folder");
    let to = format!("ws://{}", Backend::echo().await);
    for (file, host) in [("lockgate.toml", "localhost"), ("other.toml", "127.0.0.1")] {
        let admin = folder.path().join("admin.sock").display().to_string();
        let config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\nadmin = \"unix:{admin}\"\n\
             log = {{ format = \"json\" }}\n[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"{host}\"]\nto = \"{to}\"\n"
        );
        fs::write(folder.path().join(file), config).expect("writable");
    }
    (folder, to)
}

async fn run_with(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
    command.args(arguments).current_dir(folder);
    command.env_clear().env("HOME", folder);
    command.env("LOCKGATE_DATA", folder.join("data"));
    command.envs(variables.iter().copied()).kill_on_drop(true);
    command.output().await.expect("the binary starts")
}

#[tokio::test]
async fn run_finds_its_file_and_logs_it() {
    for (arguments, variables, used) in [
        (&["run"][..], &[][..], "lockgate.toml"),
        (&["run", "other.toml"], &[], "other.toml"),
        (&["run", "--config", "other.toml"], &[], "other.toml"),
        (&["run"], &[("LOCKGATE_CONFIG", "other.toml")], "other.toml"),
        (
            &["run", "lockgate.toml"],
            &[("LOCKGATE_CONFIG", "other.toml")],
            "lockgate.toml",
        ),
    ] {
        let (folder, _) = two_files().await;
        let expected = folder.path().join(used).display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
        command.args(arguments).current_dir(folder.path());
        command.env_clear().env("HOME", folder.path());
        command.env("LOCKGATE_DATA", folder.path().join("data"));
        command.envs(variables.iter().copied());
        let lockgate = Lockgate::launched(command, folder).await;
        let log = lockgate.log("INFO");
        let named = log.iter().filter(|line| line["file"] == *expected);
        assert_eq!(named.count(), 1, "{arguments:?} {variables:?}: {log:?}");
        assert_eq!(lockgate.status().await["config"]["file"], used);
    }
}

#[tokio::test]
async fn flags_without_a_file_do_not_read_the_default_file() {
    let (folder, to) = two_files().await;
    let admin = format!("unix:{}", folder.path().join("admin.sock").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
    command.args(["run", "--to", &to, "--listen", "127.0.0.1:0"]);
    command.args(["--admin", &admin, "--log-format", "json"]);
    command.current_dir(folder.path()).env_clear();
    command.env("HOME", folder.path());
    command.env("LOCKGATE_DATA", folder.path().join("data"));
    let lockgate = Lockgate::launched(command, folder).await;
    assert_eq!(lockgate.status().await["config"]["file"], Value::Null);
}

#[tokio::test]
async fn commands_accept_a_file_and_find_the_default_file() {
    let (folder, to) = two_files().await;
    let folder = folder.path();
    for (arguments, variables, code, part) in [
        (&["check"][..], &[][..], 0, "lockgate.toml is valid"),
        (&["check", "other.toml"], &[], 0, "other.toml is valid"),
        (
            &["check"],
            &[("LOCKGATE_CONFIG", "other.toml")],
            0,
            "other.toml is valid",
        ),
        (
            &["check", "lockgate.toml"],
            &[("LOCKGATE_CONFIG", "other.toml")],
            0,
            "lockgate.toml is valid",
        ),
        (&["explain", "wss://localhost/"], &[], 0, "route"),
        (&["explain", "wss://127.0.0.1/"], &[], 1, "404"),
        (
            &["explain", "wss://127.0.0.1/", "other.toml"],
            &[],
            0,
            "route",
        ),
        (
            &["explain", "other.toml", "wss://127.0.0.1/"],
            &[],
            0,
            "route",
        ),
        (
            &["explain", "--to", &to, "wss://any.test/"],
            &[],
            0,
            "route",
        ),
        (&["doctor"], &[], 0, "lockgate.toml: is a valid"),
        (&["doctor", "other.toml"], &[], 0, "other.toml: is a valid"),
    ] {
        let output = run_with(folder, arguments, variables).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}, {part}: {text}");
    }
}

#[tokio::test]
async fn admin_commands_accept_a_file() {
    let (folder, _) = two_files().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
    command.args(["run"]).current_dir(folder.path());
    command.env_clear().env("HOME", folder.path());
    command.env("LOCKGATE_DATA", folder.path().join("data"));
    let lockgate = Lockgate::launched(command, folder).await;
    for arguments in [
        &["health", "lockgate.toml"][..],
        &["status", "lockgate.toml"],
        &["reload", "lockgate.toml"],
        &["cert", "list", "lockgate.toml"],
    ] {
        let output = run_with(lockgate.folder(), arguments, &[]).await;
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

/// Another directory's file could name any admin address: these commands read only a file that was named.
#[tokio::test]
async fn admin_command_that_finds_no_process_names_the_file_of_the_directory() {
    let (folder, _) = two_files().await;
    let admin = format!("127.0.0.1:{}", free_port());
    for command in ["status", "health", "reload"] {
        let output = run_with(folder.path(), &[command, "--admin", &admin], &[]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(!stderr(&output).contains("lockgate.toml"), "{output:?}");
    }
    // The default address may belong to another test, and then the command succeeds.
    let output = run_with(folder.path(), &["sessions"], &[]).await;
    let text = stderr(&output);
    let named = text.contains("--config lockgate.toml");
    assert!(output.status.success() || named, "{text}");
}

#[tokio::test]
async fn two_files_and_a_file_with_flags_are_usage_errors() {
    let (folder, to) = two_files().await;
    let folder = folder.path();
    for (arguments, parts) in [
        (
            &["run", "other.toml", "--config", "lockgate.toml"][..],
            &["FILE", "--config"][..],
        ),
        (
            &["check", "other.toml", "--config", "lockgate.toml"],
            &["FILE", "--config"],
        ),
        (
            &["doctor", "--config", "lockgate.toml", "other.toml"],
            &["FILE", "--config"],
        ),
        (
            &["reload", "--config", "lockgate.toml", "other.toml"],
            &["FILE", "--config"],
        ),
        (
            &[
                "explain",
                "wss://a.test/",
                "other.toml",
                "--config",
                "lockgate.toml",
            ],
            &["FILE", "--config"],
        ),
        (&["run", "other.toml", "--to", &to], &["FILE", "--to"]),
        (
            &["explain", "wss://a.test/", "other.toml", "--to", &to],
            &["FILE", "--to"],
        ),
        (&["run", "--host", "a.test"], &["--to", "lockgate.toml"]),
        (&["run", "other.toml", "lockgate.toml"], &["lockgate.toml"]),
    ] {
        let output = run_with(folder, arguments, &[]).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?}, {part}: {text}");
        }
        assert!(text.contains("Usage: lockgate"), "{arguments:?}: {text}");
    }
}

#[tokio::test]
async fn without_a_file_the_error_names_both_ways() {
    let folder = TempDir::new().expect("a temporary folder");
    for (arguments, parts) in [
        (&["run"][..], &["--to", "FILE", "lockgate.toml"][..]),
        (&["check"], &["FILE", "lockgate.toml"]),
        (&["explain", "wss://a.test/"], &["--to", "FILE"]),
    ] {
        let output = run_with(folder.path(), arguments, &[]).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {text}");
        for part in parts {
            assert!(text.contains(part), "{arguments:?}, {part}: {text}");
        }
    }
}

/// Whatever has the name is the configuration: a directory or a broken link is an error and not overlooked.
#[tokio::test]
async fn default_file_that_cannot_be_read_is_an_error() {
    let folder = TempDir::new().expect("a temporary folder");
    fs::create_dir(folder.path().join("lockgate.toml")).expect("writable");
    for command in ["run", "check", "doctor"] {
        let output = run_with(folder.path(), &[command], &[]).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{command}: {text}");
        assert!(text.contains("lockgate.toml"), "{text}");
    }
}
