//! A takeover of the running process: no client is refused, sessions move one by one, and a successor that
//! cannot start changes nothing.

mod hung;
mod storm;

use crate::{
    acme::fixture::{AcmeFixture, issued},
    harness::{Backend, Frame, Lockgate, Program, Wire, free_port, handshake, within},
};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use std::{
    net::{SocketAddr, TcpListener},
    process::Stdio,
};
use tokio::{
    net::{TcpStream, UnixStream},
    time::Instant,
};

fn config(backend: SocketAddr) -> String {
    format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[drain]\nwindow = \"4s\"\n\
         [session]\nclose_timeout = \"1s\"\n\
         [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\norigins = [\"*\"]\n",
        backend
    )
}

#[tokio::test]
async fn takeover_closes_sessions_with_1012_and_ends_the_old_process() {
    let backend = Backend::echo().await;
    let mut old = Lockgate::with_file(&config(backend)).start().await;
    let process = old.id();
    let mut open = vec![old.echo_session().await, old.echo_session().await];
    // A connection accepted by the old process may still open its session there.
    let mut late = old.connect().await;
    let new = old.successor(&[]).await;
    assert_eq!(new.https, old.https);
    let mut moved = new.echo_session().await;
    late.send(handshake("/", "")).await;
    assert_eq!(late.head().await.status(), 101);
    open.push(late);
    for mut wire in open {
        assert_eq!(wire.frame().await.closes_with().0, 1012);
        wire.send_frame(Frame::close(1012, "")).await;
    }
    assert_eq!(old.exit().await, Some(0));
    let log = old.log("INFO");
    let (taken_over, last) = (
        log.iter().find(|line| line["successor"] == new.id()),
        log.last(),
    );
    assert!(taken_over.is_some(), "{log:?}");
    assert!(
        last.is_some_and(|line| line["process"] == process),
        "{log:?}"
    );
    moved.echoes().await;
    // The admin socket belongs to the new process: the old one has not removed its file.
    assert_eq!(new.status().await["process"], new.id());
    new.echo_session().await;
}

#[tokio::test]
async fn signal_while_draining_after_takeover_is_a_shutdown() {
    let backend = Backend::echo().await;
    let mut old = Lockgate::with_file(&config(backend).replace("4s", "10m"))
        .start()
        .await;
    let mut open = vec![];
    for _ in 0..120 {
        open.push(old.echo_session().await);
    }
    let new = old.successor(&[]).await;
    // A small drain closes 20 sessions per second instead of spreading them over the window; some are left at the
    // signal.
    old.terminate();
    let mut codes = vec![];
    for mut wire in open {
        codes.push(wire.frame().await.closes_with().0);
        wire.send_frame(Frame::close(1000, "")).await;
    }
    assert!(codes.contains(&1001), "{codes:?}");
    assert_eq!(old.exit().await, Some(0));
    new.echo_session().await;
}

#[tokio::test]
async fn failed_successor_changes_nothing() {
    let backend = Backend::echo().await;
    let old = Lockgate::with_file(&config(backend)).start().await;
    let mut open = old.echo_session().await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let two = format!(
        "https = [\"127.0.0.1:0\", \"{}\"]",
        taken.local_addr().expect("bound")
    );
    let metrics = format!(
        "metrics = \"{}\"\n[tls]",
        taken.local_addr().expect("bound")
    );
    for (text, code, message) in [
        (
            config(backend).replace("https = [\"127.0.0.1:0\"]", &two),
            1,
            "under the same key and in the same form",
        ),
        // This error occurs after the successor has received the admin socket.
        (
            config(backend).replace("[tls]", &metrics),
            1,
            "under the same key and in the same form",
        ),
        ("nonsense = 1\n".to_owned(), 64, "nonsense"),
    ] {
        old.write_config(&text);
        let output = within("the end of the successor", old.takeover().output())
            .await
            .expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
        old.write_config(&config(backend));
        open.echoes().await;
        old.echo_session().await;
    }
    let (ok, output) = old.command(&["status"]).await;
    assert!(ok && output.contains("ready"), "{output}");
    // A later takeover succeeds.
    let new = old.successor(&[]).await;
    assert_eq!(new.status().await["process"], new.id());
    assert_eq!(open.frame().await.closes_with().0, 1012);
}

#[tokio::test]
async fn signal_before_serving_ends_only_the_successor() {
    let backend = Backend::echo().await;
    let old = Lockgate::with_file(&config(backend)).start().await;
    let mut open = old.echo_session().await;
    // The stopped process cannot answer the successor.
    old.signal(Signal::STOP);
    let mut new = old
        .takeover()
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let id = new
        .id()
        .and_then(|id| Pid::from_raw(id as i32))
        .expect("it runs");
    kill_process(id, Signal::TERM).expect("ours");
    let ended = within("the end of the successor", new.wait())
        .await
        .expect("a child");
    assert!(!ended.success(), "{ended}");
    old.signal(Signal::CONT);
    open.echoes().await;
    old.echo_session().await;
    assert_eq!(old.status().await["process"], old.id());
}

#[tokio::test]
async fn takeover_succeeds_with_closed_stderr() {
    let backend = Backend::echo().await;
    let mut old = Lockgate::with_file(&config(backend)).start().await;
    let mut new = old.takeover();
    let mut new = new
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    drop(new.stderr.take());
    assert_eq!(old.exit().await, Some(0));
    old.echo_session().await;
    assert_eq!(old.status().await["process"], new.id().expect("it runs"));
}

#[tokio::test]
async fn takeover_without_running_process_fails() {
    let backend = Backend::echo().await;
    let mut gone = Lockgate::with_file(&config(backend)).start().await;
    gone.terminate();
    assert_eq!(gone.exit().await, Some(0));
    let output = within("the end of the successor", gone.takeover().output())
        .await
        .expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("nothing to take over") && stderr.contains("is lockgate running"),
        "{stderr}"
    );
}

#[tokio::test]
async fn handover_to_another_user_is_refused() {
    assert!(
        geteuid().is_root(),
        "only root can become another user: run the tests as root"
    );
    let backend = Backend::echo().await;
    let lockgate = Lockgate::with_file(&config(backend)).start().await;
    let mut open = lockgate.echo_session().await;
    let socket = UnixStream::connect(lockgate.folder().join("admin.sock")).await;
    let mut admin = Wire::stream(socket.expect("it listens"));
    admin
        .send("POST /handover HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let head = admin.head().await;
    assert_eq!(head.status(), 200);
    let offer = String::from_utf8(admin.body(&head).await).expect("a name");
    let mut intruder = Program::start("intruder.py", &[offer.trim()]);
    assert_eq!(intruder.line().await, "nothing");
    // The offer does not block a legitimate successor.
    let new = lockgate.successor(&[]).await;
    assert_eq!(new.status().await["process"], new.id());
    assert_eq!(open.frame().await.closes_with().0, 1012);
}

#[tokio::test]
async fn takeover_moves_the_lock_of_the_certificate_store() {
    let fixture = AcmeFixture::new().await;
    let old = fixture.start(&["a.test"], "").await;
    issued(&old, "a.test").await;
    let orders = fixture.pebble.orders();
    // An unfinished TLS handshake keeps the old process running.
    let waiting = TcpStream::connect(old.https).await.expect("it listens");
    let new = old.successor(&[]).await;
    assert_eq!(issued(&new, "a.test").await["error"], Value::Null);
    let (ok, output) = new.command(&["cert", "renew", "a.test"]).await;
    assert!(!ok && output.contains("within the last day"), "{output}");
    // The new process never found the lock held by another.
    assert!(new.log("WARN").is_empty(), "{}", new.stderr());
    assert_eq!(fixture.pebble.orders(), orders);
    drop(waiting);
}

#[tokio::test]
async fn takeover_closes_listeners_that_are_no_longer_configured() {
    let backend = Backend::echo().await;
    let other = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let two = config(backend).replace("http = []", &format!("http = [\"{other}\"]"));
    let mut old = Lockgate::with_file(&two).start().await;
    TcpStream::connect(other).await.expect("it listens");
    old.write_config(&config(backend));
    let new = old.successor(&[]).await;
    assert_eq!(old.exit().await, Some(0));
    let started = Instant::now();
    TcpStream::connect(other)
        .await
        .expect_err("the port is closed");
    // It is refused; an ignored connection would take longer.
    assert!(started.elapsed().as_secs() < 20);
    new.echo_session().await;
}
