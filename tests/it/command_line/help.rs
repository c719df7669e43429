//! `--help` on terminals of several widths, and without a terminal.

use crate::harness::{Lockgate, program::interpreter};
use tempfile::TempDir;
use tokio::process::Command;

/// Runs the binary on a terminal of this width, and returns what it shows.
pub(super) async fn on_terminal(
    width: u16,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/terminal.py");
    let mut command = Command::new(interpreter());
    command.arg(script).arg(width.to_string());
    command.arg(env!("CARGO_BIN_EXE_lockgate")).args(arguments);
    command
        .env_clear()
        .env("TERM", "xterm")
        .envs(environment.iter().copied());
    let output = command.output().await.expect("python starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .expect("UTF-8")
        .replace('\r', "")
}

const COMMANDS: [&[&str]; 19] = [
    &[],
    &["demo"],
    &["run"],
    &["check"],
    &["explain"],
    &["probe"],
    &["doctor"],
    &["schema"],
    &["health"],
    &["status"],
    &["reload"],
    &["drain"],
    &["sessions"],
    &["kick"],
    &["tap"],
    &["cert"],
    &["cert", "list"],
    &["cert", "renew"],
    &["cert", "trust"],
];

#[tokio::test]
async fn help_wraps_at_the_width_of_the_terminal() {
    for width in [60, 80, 100] {
        for command in COMMANDS {
            let help = on_terminal(
                width,
                &[command, &["--help"]].concat(),
                &[("NO_COLOR", "1")],
            )
            .await;
            assert!(help.contains("Usage: "), "{command:?}: {help}");
            let longest = help.lines().map(|line| line.chars().count()).max();
            assert!(
                longest <= Some(width.into()),
                "{command:?} at {width}: {longest:?}\n{help}"
            );
        }
    }
    // A wide terminal does not make unreadable lines.
    let help = on_terminal(250, &["run", "--help"], &[("NO_COLOR", "1")]).await;
    let longest = help.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(100), "{longest:?}");
}

#[tokio::test]
async fn help_without_a_terminal_has_lines_of_100_columns() {
    let folder = TempDir::new().expect("a temporary folder");
    for command in COMMANDS {
        let output = Lockgate::run(folder.path(), &[command, &["--help"]].concat()).await;
        let help = String::from_utf8(output.stdout).expect("UTF-8");
        let longest = help.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(100), "{command:?}: {longest:?}\n{help}");
        assert!(!help.contains('\u{1b}'), "{help:?}");
    }
}

#[tokio::test]
async fn colour_is_for_terminals_without_no_color() {
    for (environment, is_coloured) in [
        (&[][..], true),
        (&[("NO_COLOR", "1")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let text = on_terminal(80, &["run", "--unknown"], environment).await;
        assert_eq!(
            text.contains("\u{1b}["),
            is_coloured,
            "{environment:?}: {text:?}"
        );
    }
}
