//! systemd: notifications of a `Type=notify` unit, socket activation, and the units in `examples/`.

use crate::harness::{Backend, Lockgate, Program, eventually, free_port, within};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};
use tempfile::TempDir;
use tokio::net::UnixDatagram;

#[tokio::test]
async fn systemd_is_notified_of_readiness_and_shutdown() {
    let folder = TempDir::new().expect("a temporary folder");
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).expect("a socket");
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).env("NOTIFY_SOCKET", &socket.display().to_string());
    let mut lockgate = setup.start().await;

    let ready = notification(&systemd).await;
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    let status = format!("STATUS=https {}", lockgate.https);
    assert!(
        ready.lines().any(|line| line.starts_with(&status)),
        "{ready}"
    );

    let session = lockgate.session(&backend).await;
    eventually("one session", async || {
        lockgate.status().await["sessions"] == 1
    })
    .await;
    lockgate.terminate();
    let stopping = notification(&systemd).await;
    assert!(
        stopping.lines().any(|line| line == "STOPPING=1"),
        "{stopping}"
    );
    assert!(
        stopping
            .lines()
            .any(|line| line == "STATUS=closing sessions: 1"),
        "{stopping}"
    );
    drop(session);
    assert_eq!(lockgate.exit().await, Some(0));
}

#[tokio::test]
async fn takeover_notifies_mainpid_before_readiness() {
    let folder = TempDir::new().expect("a temporary folder");
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).expect("a socket");
    let socket = socket.display().to_string();
    let setup = Lockgate::to(Backend::echo().await).env("NOTIFY_SOCKET", &socket);
    let mut old = setup.start().await;
    notification(&systemd).await;
    old.signal(Signal::USR2);
    let main = notification(&systemd).await;
    let id = main
        .trim()
        .strip_prefix("MAINPID=")
        .unwrap_or_else(|| panic!("{main}"));
    let ready = notification(&systemd).await;
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    assert_eq!(old.exit().await, Some(0));
    let new = old.status().await;
    assert_eq!(
        (&new["process"].to_string(), &new["state"]),
        (&id.to_owned(), &"ready".into())
    );
    // The successor is not a child of this process, so that the test must end it.
    let id = Pid::from_raw(id.parse().expect("a number")).expect("not 0");
    kill_process(id, Signal::TERM).expect("it runs");
    let stopping = notification(&systemd).await;
    assert!(
        stopping.lines().any(|line| line == "STOPPING=1"),
        "{stopping}"
    );
}

#[tokio::test]
async fn sockets_of_systemd_are_used() {
    let folder = TempDir::new().expect("a temporary folder");
    let admin = folder.path().join("admin");
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let text = format!(
        "[server]\nhttps = [\"{free}\"]\nhttp = []\n[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\n",
        Backend::echo().await
    );
    let setup = Lockgate::with_file(&text).activated(&free.to_string());
    let mut lockgate = setup.start().await;
    assert_eq!(lockgate.https, free);
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 101);
    // The port stays bound.
    TcpListener::bind(free).expect_err("it listens there");
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));

    let file = folder.path().join("config.toml");
    fs::write(&file, text).expect("writable");
    let surplus = format!("{},{}", free, admin.display());
    let unix = format!("unix:{}", admin.display());
    for (named, expected) in [
        (
            "off",
            format!("systemd listens on {unix} for this service, but no key has this address"),
        ),
        (&*unix, "SocketMode=0600".to_owned()),
    ] {
        let _ = fs::remove_file(&admin);
        let file = file.display().to_string();
        let program = env!("CARGO_BIN_EXE_lockgate");
        let data = folder.path().display().to_string();
        let arguments = [
            &surplus, program, "run", "--admin", named, "--data", &data, "--config", &file,
        ];
        let output = Program::run("activate.py", &arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&expected), "{stderr}");
    }
}

#[tokio::test]
async fn missing_notify_socket_does_not_prevent_start() {
    let setup = Lockgate::to(Backend::echo().await).env("NOTIFY_SOCKET", "/nowhere/notify");
    let lockgate = setup.start().await;
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 101);
    eventually("a warning with the error", async || {
        let log = lockgate.log("WARN");
        log.iter().any(|line| line["error"].is_string())
    })
    .await;
}

#[test]
fn socket_unit_matches_the_default_listeners() {
    let unit = fs::read_to_string("examples/systemd/lockgate.socket").expect("it is there");
    let opened: Vec<_> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ListenStream="))
        .collect();
    let defaults = lockgate::internals::ServerConfig::default();
    let configured = defaults.https.iter().chain(&defaults.http);
    let configured: Vec<_> = configured
        .map(|address| address.value.0.to_string())
        .collect();
    assert_eq!(opened, configured);
}

#[tokio::test]
async fn service_unit_uses_existing_flags_and_variables() {
    let unit = fs::read_to_string("examples/systemd/lockgate.service").expect("it is there");
    let value = |key: &str| {
        let mut values = unit
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let value = values.next().unwrap_or_else(|| panic!("no {key}"));
        assert!(values.next().is_none(), "more than one {key}");
        value
    };
    assert_eq!(value("Type"), "notify");
    let folder = TempDir::new().expect("a temporary folder");
    let help = Lockgate::run(folder.path(), &["run", "--help"]).await;
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    // Lines are wrapped.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut words = value("ExecStart").split(' ').skip(1);
    assert_eq!(words.next(), Some("run"));
    for flag in words.filter(|word| word.starts_with("--")) {
        assert!(help.contains(&format!("{flag} <")), "`run` has no {flag}");
    }
    let (name, data) = value("Environment").split_once('=').expect("NAME=VALUE");
    assert!(
        help.contains(&format!("[env: {name}=")),
        "{name} means nothing to `run`"
    );
    assert_eq!(data, format!("%S/{}", value("StateDirectory")));
}

async fn notification(systemd: &UnixDatagram) -> String {
    let mut message = vec![0; 4096];
    let size = within("a notification", systemd.recv(&mut message))
        .await
        .expect("bound");
    message.truncate(size);
    String::from_utf8(message).expect("UTF-8")
}
