//! A takeover of the running process: no client is refused, sessions move one by one, and a successor that
//! cannot start changes nothing.

mod storm;

use crate::{
    acme::fixture::{Rig, issued},
    harness::{Backend, Frame, Lockgate, Program, Wire, handshake, within},
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

async fn session(lockgate: &Lockgate) -> Wire {
    let mut wire = lockgate.upgrade("/", "").await;
    assert_eq!(wire.head().await.status(), 101);
    echoes(&mut wire).await;
    wire
}

async fn echoes(wire: &mut Wire) {
    wire.send_frame(Frame::text("hello")).await;
    assert_eq!(wire.frame().await, Frame::text("hello"));
}

#[tokio::test]
async fn sessions_are_told_1012_and_the_old_process_ends() {
    let backend = Backend::echo().await;
    let mut old = Lockgate::with_file(&config(backend)).start().await;
    let process = old.id();
    let mut open = vec![session(&old).await, session(&old).await];
    // On its way in: it has no session yet, and gets one.
    let mut late = old.connect().await;
    let new = old.successor(&[]).await;
    assert_eq!(new.https, old.https);
    let mut moved = session(&new).await;
    late.send(handshake("/", "")).await;
    assert_eq!(late.head().await.status(), 101);
    open.push(late);
    for mut wire in open {
        assert_eq!(wire.frame().await.closes_with().0, 1012);
        wire.send_frame(Frame::close(1012, "")).await;
    }
    assert_eq!(old.exit().await, Some(0));
    assert!(old.stderr().contains("has taken over"), "{}", old.stderr());
    let last = format!("the other one serves\",\"process\":{process}");
    assert!(old.stderr().contains(&last), "{}", old.stderr());
    echoes(&mut moved).await;
    // The socket's file is the new one's: the old one has not removed it.
    assert_eq!(new.status().await["process"], new.id());
    session(&new).await;
}

#[tokio::test]
async fn a_signal_while_it_retires_is_a_stop() {
    let backend = Backend::echo().await;
    let mut old = Lockgate::with_file(&config(backend).replace("4s", "10m"))
        .start()
        .await;
    let mut open = vec![];
    for _ in 0..30 {
        open.push(session(&old).await);
    }
    let new = old.successor(&[]).await;
    // Half a minute apart, were they spread over the ten minutes; twenty a second is what few get.
    old.terminate();
    let mut codes = vec![];
    for mut wire in open {
        codes.push(wire.frame().await.closes_with().0);
        wire.send_frame(Frame::close(1000, "")).await;
    }
    assert!(codes.contains(&1001), "{codes:?}");
    assert_eq!(old.exit().await, Some(0));
    session(&new).await;
}

#[tokio::test]
async fn failed_successor_changes_nothing() {
    let backend = Backend::echo().await;
    let old = Lockgate::with_file(&config(backend)).start().await;
    let mut open = session(&old).await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let two = format!(
        "https = [\"127.0.0.1:0\", \"{}\"]",
        taken.local_addr().expect("bound")
    );
    let metrics = format!(
        "metrics = \"{}\"\n[tls]",
        taken.local_addr().expect("bound")
    );
    for (text, code, said) in [
        (
            config(backend).replace("https = [\"127.0.0.1:0\"]", &two),
            1,
            "must stand where it stood",
        ),
        // Found when it has the admin socket already.
        (
            config(backend).replace("[tls]", &metrics),
            1,
            "must stand where it stood",
        ),
        ("nonsense = 1\n".to_owned(), 64, "nonsense"),
    ] {
        old.write_config(&text);
        let output = within("its end", old.takeover().output())
            .await
            .expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
        old.write_config(&config(backend));
        echoes(&mut open).await;
        session(&old).await;
    }
    let (well, said) = old.tell(&["status"]).await;
    assert!(well && said.contains("ready"), "{said}");
    // And another try finds it willing.
    let new = old.successor(&[]).await;
    assert_eq!(new.status().await["process"], new.id());
    assert_eq!(open.frame().await.closes_with().0, 1012);
}

#[tokio::test]
async fn a_signal_before_it_serves_ends_the_new_one_alone() {
    let backend = Backend::echo().await;
    let old = Lockgate::with_file(&config(backend)).start().await;
    let mut open = session(&old).await;
    // It answers no client in the meantime.
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
    let ended = within("its end", new.wait()).await.expect("a child");
    assert!(!ended.success(), "{ended}");
    old.signal(Signal::CONT);
    echoes(&mut open).await;
    session(&old).await;
    assert_eq!(old.status().await["process"], old.id());
}

#[tokio::test]
async fn a_terminal_that_is_gone_is_no_reason_to_fail() {
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
    session(&old).await;
    assert_eq!(old.status().await["process"], new.id().expect("it runs"));
}

#[tokio::test]
async fn without_a_running_one_there_is_nothing_to_take_over() {
    let backend = Backend::echo().await;
    let mut gone = Lockgate::with_file(&config(backend)).start().await;
    gone.terminate();
    assert_eq!(gone.exit().await, Some(0));
    let output = within("its end", gone.takeover().output())
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
async fn nothing_is_given_to_another_user() {
    assert!(
        geteuid().is_root(),
        "only root can become another user: run the tests as root"
    );
    let backend = Backend::echo().await;
    let lockgate = Lockgate::with_file(&config(backend)).start().await;
    let mut open = session(&lockgate).await;
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
    // It has not kept anybody out.
    let new = lockgate.successor(&[]).await;
    assert_eq!(new.status().await["process"], new.id());
    assert_eq!(open.frame().await.closes_with().0, 1012);
}

#[tokio::test]
async fn the_lock_of_the_certificates_moves_along() {
    let rig = Rig::new().await;
    let old = rig.start(&["a.test"], "").await;
    issued(&old, "a.test").await;
    let orders = rig.pebble.orders();
    // In the middle of its handshake: the old process stays for it.
    let waiting = TcpStream::connect(old.https).await.expect("it listens");
    let new = old.successor(&[]).await;
    assert_eq!(issued(&new, "a.test").await["error"], Value::Null);
    let (well, said) = new.tell(&["cert", "renew", "a.test"]).await;
    assert!(!well && said.contains("within the last day"), "{said}");
    assert!(
        !new.stderr().contains("another process manages"),
        "{}",
        new.stderr()
    );
    assert_eq!(rig.pebble.orders(), orders);
    drop(waiting);
}

#[tokio::test]
async fn listeners_that_are_no_longer_wanted_are_closed() {
    let backend = Backend::echo().await;
    let other = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("bound");
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
    assert!(started.elapsed().as_secs() < 1);
    session(&new).await;
}
