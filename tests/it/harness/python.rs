//! The real Python programs of `tests/python`, in the environment that `tests/run` made.

use super::within;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A Python program that runs until it is killed, at the latest on drop.
pub(crate) struct Python {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

// === impl Python ===

impl Python {
    /// Starts a program of `tests/python`.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Python {
        let mut child = command(script, arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Python { child, lines }
    }

    /// Starts a server, which prints its port first.
    pub(crate) async fn server(script: &str) -> (Python, SocketAddr) {
        let mut server = Python::start(&format!("servers/{script}"), &[]);
        let port = server.line().await.parse().expect("a port");
        (server, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// Runs a program to its end.
    pub(crate) async fn run(script: &str, arguments: &[&str]) -> Output {
        command(script, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .await
            .expect("python starts")
    }

    /// The next line that it prints.
    #[track_caller]
    pub(crate) fn line(&mut self) -> impl Future<Output = String> {
        within("a line from Python", async {
            self.lines
                .next_line()
                .await
                .expect("UTF-8")
                .expect("it has not ended: see its traceback above")
        })
    }

    /// kill -9.
    pub(crate) async fn kill(mut self) {
        within("its death", self.child.kill())
            .await
            .expect("it lived");
    }
}

/// The interpreter of `tests/.venv`.
pub(crate) fn interpreter() -> PathBuf {
    let python = tests_folder().join(".venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run tests/run once, which makes it",
        python.display()
    );
    python
}

fn command(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(interpreter());
    command
        .arg("-u")
        .arg(tests_folder().join("python").join(script))
        .args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}
