//! Programs in Python, in the environments that `tests/run` creates, and in Node.

use super::within;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A program that runs until it is killed or dropped.
pub(crate) struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

// === impl Program ===

impl Program {
    /// Starts a program of `tests/python`.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Program {
        Program::spawn(command(script, arguments))
    }

    /// Starts a program of `tests/python` by a launcher such as `ip netns exec`.
    pub(crate) fn start_under(launcher: &[&str], script: &str, arguments: &[&str]) -> Program {
        let inner = command(script, arguments);
        let [launcher, before @ ..] = launcher else {
            panic!("a launcher has a name");
        };
        let mut outer = Command::new(launcher);
        outer.args(before).arg(inner.as_std().get_program());
        outer.args(inner.as_std().get_args());
        outer.stdin(Stdio::null()).kill_on_drop(true);
        Program::spawn(outer)
    }

    /// Starts the server of an example in Node or Python, with the example's own environment if it has one.
    pub(crate) fn example(name: &str, port: u16) -> Program {
        let folder = Path::new("examples").join(name);
        let mut command = if folder.join("server.js").exists() {
            in_node(&folder.join("server.js"))
        } else {
            in_python(&interpreter_for(name), &folder.join("server.py"))
        };
        command.arg(port.to_string());
        Program::spawn(command)
    }

    fn spawn(mut command: Command) -> Program {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Program { child, lines }
    }

    /// Starts a server, which prints its port first.
    pub(crate) async fn server(script: &str) -> (Program, SocketAddr) {
        Program::server_with(script, &[]).await
    }

    /// Starts a server with arguments.
    pub(crate) async fn server_with(script: &str, arguments: &[&str]) -> (Program, SocketAddr) {
        Program::listening(command(&format!("servers/{script}"), arguments)).await
    }

    /// Starts a server with its stderr in a file.
    pub(crate) async fn server_with_log(script: &str, log: &Path) -> (Program, SocketAddr) {
        let mut command = command(&format!("servers/{script}"), &[]);
        command.stderr(std::fs::File::create(log).expect("the folder is writable"));
        Program::listening(command).await
    }

    async fn listening(command: Command) -> (Program, SocketAddr) {
        let mut server = Program::spawn(command);
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
        within("a line from Python", self.any_line())
    }

    /// The next line, without a deadline.
    pub(crate) async fn any_line(&mut self) -> String {
        let line = self.lines.next_line().await.expect("UTF-8");
        line.expect("it has not ended: see its traceback above")
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("not waited for yet")
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGSTOP: the process stops, and the kernel keeps accepting connections.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id() as i32).expect("a process id is positive");
        kill_process(id, signal).expect("the child is ours and was not waited for");
    }

    /// kill -9.
    pub(crate) async fn kill(mut self) {
        within("the end of the process", self.child.kill())
            .await
            .expect("it was running");
    }
}

/// The interpreter of `tests/.venv`.
pub(crate) fn interpreter() -> PathBuf {
    in_venv(".venv")
}

/// The interpreter for an example, which has its own environment if it pins its own packages.
fn interpreter_for(name: &str) -> PathBuf {
    let pins = Path::new("examples").join(name).join("requirements.txt");
    if pins.exists() {
        in_venv(&format!(".venv-{name}"))
    } else {
        interpreter()
    }
}

/// The interpreter for a script: `gevent_legacy_echo.py` runs in the environment of the example `gevent-legacy`.
fn interpreter_of(script: &Path) -> PathBuf {
    let stem = script.file_stem().and_then(|stem| stem.to_str());
    let name = stem.unwrap_or_default().trim_end_matches("_echo");
    interpreter_for(&name.replace('_', "-"))
}

fn in_venv(venv: &str) -> PathBuf {
    let python = tests_folder().join(venv).join("bin/python");
    assert!(
        python.exists(),
        "{} is missing: run tests/run once, which makes it",
        python.display()
    );
    python
}

/// The command of a program of `tests/python`, in Node or Python.
fn command(script: &str, arguments: &[&str]) -> Command {
    let path = tests_folder().join("python").join(script);
    let mut command = if path.extension().is_some_and(|extension| extension == "js") {
        in_node(&path)
    } else {
        in_python(&interpreter_of(&path), &path)
    };
    command.args(arguments);
    command
}

fn in_python(interpreter: &Path, script: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.arg("-u").arg(script);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn in_node(script: &Path) -> Command {
    let modules = script.with_file_name("node_modules");
    assert!(
        modules.exists(),
        "{} is missing: run tests/run once, which makes it",
        modules.display()
    );
    let mut command = Command::new("node");
    command.arg(script);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A file of users: `anna` with the password `secret`, as `openssl passwd -6` writes its hash.
pub(crate) const USERS: &str = "anna:$6$0123456789abcdef$8CGkKDSyVpVlVNcs5PssRw/Tb8EgfecuA6D/zsRQFumJaU.s8KgTWWc2HfgkB7h2n1qIKiJFeSyUFrwvhILXy.\n";
