//! Repeated renewals of certificates with a validity of seconds, under open sessions.
//!
//! `LOCKGATE_RENEWALS` sets the number of renewals (2), `LOCKGATE_VALIDITY` the validity in seconds (12).

use super::fixture::{AcmeFixture, issued, until};
use crate::harness::{Frame, Wire, handshake, web::trusting};
use rustls::pki_types::ServerName;
use std::{collections::BTreeSet, net::Ipv4Addr, path::PathBuf, time::Duration};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

const SESSIONS: usize = 50;

fn setting(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |it| it.parse().expect("a number"))
}

/// Echoes numbered messages until `stop` is set; returns how many came back in order.
async fn echo(root: PathBuf, port: u16, mut stop: watch::Receiver<bool>) -> u64 {
    let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .expect("it listens");
    let name = ServerName::try_from("a.test").expect("a name");
    let stream = trusting(&root).connect(name, tcp).await.expect("trusted");
    let mut session = Wire::tls(stream);
    session.send(handshake("/", "")).await;
    assert_eq!(session.head().await.status(), 101);
    for n in 0.. {
        if *stop.borrow_and_update() {
            session.send_frame(Frame::close(1000, "")).await;
            assert!(session.frame().await.is_close());
            return n;
        }
        let message = Frame::text(&format!("message {n}"));
        session.send_frame(message.clone()).await;
        assert_eq!(session.frame().await, message);
        // The pace of the session, not a wait.
        sleep(Duration::from_millis(20)).await;
    }
    unreachable!("the stop signal arrives first")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_do_not_interrupt_sessions() {
    let renewals = setting("LOCKGATE_RENEWALS", 2) as usize;
    let validity = setting("LOCKGATE_VALIDITY", 12);
    let fixture = AcmeFixture::with(|pebble| pebble.validity(validity)).await;
    let lockgate = fixture.start(&["a.test"], "").await;
    let mut row = issued(&lockgate, "a.test").await;
    let root = fixture.pebble.root().await;
    let (stop, stopped) = watch::channel(false);
    let mut sessions = JoinSet::new();
    for _ in 0..SESSIONS {
        sessions.spawn(echo(root.clone(), fixture.https, stopped.clone()));
    }

    let started = Instant::now();
    let mut leaves = BTreeSet::from([fixture.leaf("a.test").await.expect("trusted")]);
    for _ in 0..renewals {
        let before = row["not_after"].clone();
        row = until(&lockgate, "a.test", |row| row["not_after"] != before).await;
        // The new certificate is used from the next handshake on.
        leaves.insert(fixture.leaf("a.test").await.expect("trusted"));
    }
    assert_eq!(leaves.len(), renewals + 1);
    stop.send_replace(true);
    let mut messages = 0;
    while let Some(echoed) = sessions.join_next().await {
        messages += echoed.expect("nothing was lost");
    }
    println!(
        "{renewals} renewals of {validity}-second certificates in {:.0?}, {SESSIONS} sessions, {messages} messages, 0 lost",
        started.elapsed()
    );
    assert_eq!(fixture.pebble.orders(), renewals + 1);
}
