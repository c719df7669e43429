//! Signals during a start that takes some seconds, also as the first process of a container.

use crate::harness::{Backend, Lockgate, eventually, observe, within};
use rustix::process::{Pid, Signal, getuid, kill_process};
use std::{fs, path::Path, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::Instant,
};

/// A process that is starting: each of its hosts gets a certificate, which takes some seconds.
struct Starting {
    folder: TempDir,
    child: Child,
    process: Pid,
}

// === impl Starting ===

impl Starting {
    async fn spawn(launcher: &[&str]) -> Starting {
        let folder = TempDir::new().expect("a temporary folder");
        let hosts: Vec<String> = (0..HOSTS).map(|at| format!("\"h{at}.test\"")).collect();
        let config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\nadmin = \"unix:{}\"\n[tls]\ndev_ca = true\n\
             [[routes]]\nhosts = [{}]\nto = \"ws://{}\"\norigins = [\"*\"]\n",
            folder.path().join("admin.sock").display(),
            hosts.join(", "),
            Backend::echo().await
        );
        fs::write(folder.path().join("config.toml"), config).expect("ours");
        let stderr = fs::File::create(folder.path().join("stderr")).expect("ours");
        let binary = env!("CARGO_BIN_EXE_lockgate");
        let (program, before) = match launcher {
            [] => (binary, &[][..]),
            [program, before @ ..] => (*program, before),
        };
        let mut command = Command::new(program);
        command.args(before);
        if !launcher.is_empty() {
            command.arg(binary);
        }
        let child = command
            .args(["run", "--config", "config.toml", "--data", "data"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let id = child.id().expect("it runs");
        let process = eventually("the process", async || {
            let found = match launcher {
                [] => Some(id),
                _ => child_of(id),
            };
            // Until then it is a copy of its parent.
            let found = found.filter(|id| {
                fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == Path::new(binary))
            });
            found.ok_or("the program is not loaded")
        })
        .await;
        let process = Pid::from_raw(process.cast_signed()).expect("no process is 0");
        let mut starting = Starting {
            folder,
            child,
            process,
        };
        // It has begun to read files when it has another thread; a handler that is installed later may be too late.
        eventually("a thread that reads the configuration", async || {
            let ended = starting.child.try_wait().expect("a child");
            assert!(
                ended.is_none(),
                "{ended:?} {}",
                fs::read_to_string(starting.folder.path().join("stderr")).unwrap()
            );
            let threads = threads(process);
            let is_reader =
                |name: &String| !name.starts_with("lockgate") && !name.starts_with("jemalloc");
            let found = threads.iter().any(is_reader);
            found.then_some(()).ok_or_else(|| threads.concat())
        })
        .await;
        starting
    }

    fn is_ready(&self) -> bool {
        self.folder.path().join("admin.sock").exists()
    }

    fn send(&self, signal: Signal) {
        assert!(!self.is_ready(), "the start must take longer for this test");
        kill_process(self.process, signal).expect("it runs");
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).expect("ours")
    }

    async fn until_logged(&self, text: &str) {
        eventually("a line of the log", async || {
            observe(self.stderr(), |stderr| stderr.contains(text))
        })
        .await;
    }
}

fn child_of(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn threads(process: Pid) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
    let names = tasks.into_iter().flatten().flatten();
    let names = names.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.collect()
}

/// The launchers: none, and one that makes the program the first process of a namespace, as in a container.
fn launchers() -> [&'static [&'static str]; 2] {
    assert!(
        getuid().is_root(),
        "a process namespace requires root: run the tests as root, or leave this one out"
    );
    [&[], &["unshare", "--pid", "--fork", "--kill-child"]]
}

#[tokio::test]
async fn stop_signal_ends_a_start() {
    for launcher in launchers() {
        for signal in [Signal::TERM, Signal::INT] {
            let mut starting = Starting::spawn(launcher).await;
            starting.send(signal);
            let sent = Instant::now();
            let status = within("its end", starting.child.wait())
                .await
                .expect("a child");
            assert!(
                sent.elapsed() < Duration::from_secs(10),
                "{:?}",
                sent.elapsed()
            );
            assert_eq!(
                status.code(),
                Some(1),
                "{launcher:?} {signal:?} {status:?} {}",
                starting.stderr()
            );
            assert!(
                starting.stderr().contains("stopped by a signal"),
                "{}",
                starting.stderr()
            );
            assert!(!starting.is_ready());
        }
    }
}

#[tokio::test]
async fn reload_signal_during_a_start_is_handled_after_it() {
    for launcher in launchers() {
        let starting = Starting::spawn(launcher).await;
        starting.send(Signal::HUP);
        starting.until_logged("ready").await;
        let admin = format!(
            "unix:{}",
            starting.folder.path().join("admin.sock").display()
        );
        eventually("the reload", async || {
            let arguments = ["status", "--json", "--admin", &admin];
            let status = Lockgate::run(starting.folder.path(), &arguments).await;
            assert!(status.status.success(), "{status:?}");
            let metrics = metrics(&starting.folder.path().join("admin.sock")).await;
            observe(metrics, |metrics| {
                metrics.contains("lockgate_config_reloads_total{outcome=\"unchanged\"} 1")
            })
        })
        .await;
    }
}

#[tokio::test]
async fn takeover_signal_during_a_start_is_handled_after_it() {
    let starting = Starting::spawn(&[]).await;
    starting.send(Signal::USR2);
    starting
        .until_logged("started a new process for a takeover")
        .await;
    let successor = child_of(starting.process.as_raw_nonzero().get().cast_unsigned());
    starting.until_logged("takeover complete").await;
    if let Some(successor) = successor.and_then(|id| Pid::from_raw(id.cast_signed())) {
        kill_process(successor, Signal::TERM).expect("it serves");
    }
}

async fn metrics(socket: &std::path::Path) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(socket)
        .await
        .expect("it listens");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("it answers");
    text
}

/// Enough that a start takes a second, and few enough for the deadline of `eventually`.
const HOSTS: usize = 2_000;
