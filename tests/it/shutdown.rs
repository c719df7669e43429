//! SIGTERM and SIGINT: sessions end with 1001, the process with 0; a second one ends both at once.

use crate::harness::{Backend, Frame, Lockgate, eventually};
use rustix::process::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::{task::JoinSet, time::sleep};

#[tokio::test]
async fn sigterm_and_sigint_close_sessions_with_1001_and_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let backend = Backend::listen().await;
        let mut lockgate = Lockgate::to(backend.address).start().await;
        let (mut client, mut server, _) = lockgate.session(&backend).await;
        lockgate.signal(signal);
        assert_eq!(client.frame().await.closes_with().0, 1001);
        assert_eq!(server.frame().await.closes_with().0, 1001);
        client.send_frame(Frame::close(1001, "")).await;
        server.send_frame(Frame::close(1001, "")).await;
        server.finish().await;
        let record = lockgate.closed().await;
        assert_eq!(
            (&record["code"], &record["by"]),
            (&1001.into(), &"lockgate".into()),
            "{record}"
        );
        assert_eq!(lockgate.exit().await, Some(0));
    }
}

#[tokio::test]
async fn second_signal_exits_without_waiting_for_peers() {
    let backend = Backend::listen().await;
    // Longer than any deadline of a test: without the second signal this would fail.
    let setup = Lockgate::to(backend.address).with("session = { close_timeout = \"10m\" }");
    let mut lockgate = setup.start().await;
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    lockgate.terminate();
    assert!(client.frame().await.is_close());
    assert!(server.frame().await.is_close());
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));
    let record = lockgate.closed().await;
    assert_eq!(
        (&record["code"], &record["why"]),
        (&1001.into(), &"ordered".into()),
        "{record}"
    );
    let warnings = lockgate.log("WARN");
    assert!(
        warnings
            .iter()
            .any(|line| line["message"].to_string().contains("second signal")
                && line["sessions"] == 1),
        "{warnings:?}"
    );
    let has_deadline = |line: &Value| line["message"].to_string().contains("deadline");
    assert!(!warnings.iter().any(has_deadline), "{warnings:?}");
}

#[tokio::test]
async fn second_signal_without_sessions_logs_no_warning() {
    let setup = Lockgate::to(Backend::echo().await);
    let setup = setup.with("[drain]\naccept_grace = \"10m\"\nwindow = \"20m\"");
    let mut lockgate = setup.start().await;
    lockgate.terminate();
    eventually("the shutdown begins", async || {
        let lines = lockgate.log("INFO");
        let is_stop = |line: &Value| line["message"].to_string().contains("stopping");
        lines.iter().any(is_stop)
    })
    .await;
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));
    let warnings = lockgate.log("WARN");
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// A message about sessions is for a process that has some.
#[tokio::test]
async fn process_without_sessions_does_not_mention_any() {
    let setup = Lockgate::to(Backend::echo().await);
    let mut first = setup.with("name = \"chat\"\ntap = true").start().await;
    for (command, expected) in [
        (&["tap", "--for", "100ms"][..], "none is open"),
        (&["drain", "--route", "chat"], "it has none"),
    ] {
        let (succeeded, text) = first.command(command).await;
        assert!(succeeded && text.contains(expected), "{text}");
        assert!(!text.contains(" 0 "), "{text}");
    }
    let mut second = first.successor(&[]).await;
    assert_eq!(first.exit().await, Some(0));
    second.terminate();
    assert_eq!(second.exit().await, Some(0));
    for lockgate in [&first, &second] {
        let lines = lockgate.log("INFO");
        let mut ends = lines.iter().filter(|line| {
            let target = line["target"].as_str().unwrap_or_default();
            ["lockgate::server::stop", "lockgate::server::takeover"].contains(&target)
        });
        let count = ends.clone().count();
        assert!(count >= 2, "{lines:?}");
        let mentions = |line: &&Value| line.to_string().contains("session");
        assert_eq!(ends.find(mentions), None, "{lines:?}");
    }
}

#[tokio::test]
async fn session_cut_at_the_deadline_has_a_close_record() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with("session = { close_timeout = \"10m\" }");
    let mut lockgate = setup.with("[drain]\nwindow = \"1s\"").start().await;
    let (mut client, _server, _) = lockgate.session(&backend).await;
    lockgate.terminate();
    assert!(client.frame().await.is_close());
    assert_eq!(lockgate.exit().await, Some(0));
    let record = lockgate.closed().await;
    assert_eq!(record["code"], 1001, "{record}");
    let warnings = lockgate.log("WARN");
    let is_reported =
        |line: &Value| line["message"].to_string().contains("deadline") && line["sessions"] == 1;
    assert!(warnings.iter().any(is_reported), "{warnings:?}");
}

#[tokio::test]
async fn idle_keep_alive_connection_does_not_delay_the_exit() {
    let mut lockgate = Lockgate::to(Backend::echo().await).start().await;
    let mut idle = lockgate.connect().await;
    let started = Instant::now();
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));
    // Less than `drain.window`, which is 20 s.
    assert!(started.elapsed() < Duration::from_secs(15));
    idle.end().await;
}

#[tokio::test]
async fn last_session_has_the_close_timeout_of_its_route() {
    let backend = Backend::echo().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
         [drain]\nwindow = \"6s\"\naccept_grace = \"0s\"\n[session]\nclose_timeout = \"100ms\"\n\
         [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{backend}\"\norigins = [\"*\"]\n\
         session = {{ close_timeout = \"4s\" }}\n"
    );
    let mut lockgate = Lockgate::with_file(&config).start().await;
    let mut open = vec![];
    for _ in 0..80 {
        open.push(lockgate.echo_session().await);
    }
    lockgate.terminate();
    let mut closing = JoinSet::new();
    for mut wire in open {
        closing.spawn(async move {
            assert_eq!(wire.frame().await.closes_with().0, 1001);
            // Less than the timeout of the route.
            sleep(Duration::from_secs(3)).await;
            wire.send_frame(Frame::close(1001, "")).await;
        });
    }
    while let Some(closed) = closing.join_next().await {
        closed.expect("1001");
    }
    assert_eq!(lockgate.exit().await, Some(0));
    let warnings = lockgate.log("WARN");
    assert!(warnings.is_empty(), "{warnings:?}");
}
