//! systemd, played by a socket: what a unit of `Type=notify` is told. And the unit in `examples/`, read.

use crate::harness::{Backend, Lockgate, within};
use std::fs;
use tempfile::TempDir;
use tokio::net::UnixDatagram;

#[tokio::test]
async fn it_is_told_when_listeners_accept_and_when_the_stop_begins() {
    let folder = TempDir::new().expect("a temporary folder");
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).expect("a socket");
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).env("NOTIFY_SOCKET", &socket.display().to_string());
    let mut lockgate = setup.start().await;

    let ready = told(&systemd).await;
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    let status = format!("STATUS=https {}", lockgate.https);
    assert!(
        ready.lines().any(|line| line.starts_with(&status)),
        "{ready}"
    );

    let session = lockgate.session(&backend).await;
    lockgate.terminate();
    let stopping = told(&systemd).await;
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
async fn a_socket_that_nobody_reads_stops_nothing() {
    let setup = Lockgate::to(Backend::echo().await).env("NOTIFY_SOCKET", "/nowhere/notify");
    let lockgate = setup.start().await;
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 101);
    assert!(
        lockgate.stderr().contains("cannot tell systemd"),
        "{}",
        lockgate.stderr()
    );
}

#[tokio::test]
async fn the_unit_starts_it_as_it_can_be_started() {
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

async fn told(systemd: &UnixDatagram) -> String {
    let mut message = vec![0; 4096];
    let size = within("a word to systemd", systemd.recv(&mut message))
        .await
        .expect("bound");
    message.truncate(size);
    String::from_utf8(message).expect("UTF-8")
}
