//! A takeover whose other process hangs: signals and commands are handled at once, and the takeover fails after 10 s.

use super::config;
use crate::{
    contract::{
        Lines,
        handover::{Packets, new_process, offered},
    },
    harness::{Backend, Lockgate, eventually, eventually_within, within},
};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The deadline of a takeover and a reserve for a loaded machine.
const TAKEOVER_DEADLINE: Duration = Duration::from_secs(60);

/// Plays a successor that hangs after it has sent these messages.
async fn hung_successor(lockgate: &Lockgate, messages: &[&str]) -> Packets {
    let packets = offered(lockgate).await;
    for message in messages {
        packets
            .send(&format!("{{\"is\":\"{message}\"}}"), None)
            .await;
    }
    packets
}

#[tokio::test]
async fn successor_that_hangs_delays_neither_status_nor_sigterm() {
    for messages in [&[][..], &["ready"]] {
        let backend = Backend::echo().await;
        let mut lockgate = Lockgate::with_file(&config(backend)).start().await;
        let mut open = lockgate.echo_session().await;
        let _packets = hung_successor(&lockgate, messages).await;
        for _ in 0..3 {
            assert_eq!(lockgate.status().await["state"], "ready", "{messages:?}");
        }
        let (ok, output) = lockgate.command(&["reload"]).await;
        assert!(ok, "{messages:?}: {output}");
        open.echoes().await;
        let started = Instant::now();
        lockgate.terminate();
        assert_eq!(open.frame().await.closes_with().0, 1001, "{messages:?}");
        drop(open);
        assert_eq!(lockgate.exit().await, Some(0));
        // A takeover fails after 10 s.
        assert!(started.elapsed() < Duration::from_secs(9), "{messages:?}");
    }
}

#[tokio::test]
async fn takeover_by_a_hung_successor_fails_after_10_s_and_the_log_has_the_duration() {
    let failed = async |messages: &[&str], missing: &str| {
        let backend = Backend::echo().await;
        let lockgate = Lockgate::with_file(&config(backend)).start().await;
        let mut open = lockgate.echo_session().await;
        let started = Instant::now();
        let packets = hung_successor(&lockgate, messages).await;
        let warning = eventually_within(TAKEOVER_DEADLINE, "a warning", async || {
            lockgate.log("WARN").first().cloned()
        })
        .await;
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(9), "{took:?}");
        let error = warning["error"].as_str().expect("text");
        let waited = error
            .split("within ")
            .nth(1)
            .and_then(|rest| rest.strip_suffix('s'))
            .and_then(|seconds| seconds.parse::<f64>().ok());
        assert!(error.contains(missing), "{error}");
        assert!(
            waited.is_some_and(|waited| (waited - took.as_secs_f64()).abs() < 8.0),
            "{error}, not {took:?}"
        );
        drop(packets);
        open.echoes().await;
        let new = lockgate.successor(&[]).await;
        assert_eq!(new.status().await["process"], new.id());
        assert_eq!(open.frame().await.closes_with().0, 1012);
    };
    tokio::join!(failed(&[], "`ready`"), failed(&["ready"], "`serving`"));
}

#[tokio::test]
async fn predecessor_that_hangs_does_not_delay_sigterm_of_the_successor() {
    let (mut successor, packets) = new_process(&mut Lines::new()).await;
    assert!(packets.receive().await.contains("ready"));
    packets.send("{\"is\":\"yes\"}", None).await;
    assert!(packets.receive().await.contains("serving"));
    let started = Instant::now();
    let id = successor.child.id().expect("it runs");
    let id = Pid::from_raw(id as i32).expect("positive");
    kill_process(id, Signal::TERM).expect("ours");
    let exit = within("the exit", successor.child.wait()).await;
    assert!(exit.expect("a child").success());
    // A takeover fails after 10 s.
    assert!(started.elapsed() < Duration::from_secs(9));
}

#[tokio::test]
async fn successor_that_is_refused_after_the_permission_stops() {
    let (mut successor, packets) = new_process(&mut Lines::new()).await;
    assert!(packets.receive().await.contains("ready"));
    packets.send("{\"is\":\"yes\"}", None).await;
    assert!(packets.receive().await.contains("serving"));
    packets.send("{\"is\":\"no\"}", None).await;
    let exit = timeout(TAKEOVER_DEADLINE, successor.child.wait()).await;
    assert!(exit.expect("it stops").expect("a child").success());
}

#[tokio::test]
async fn stopped_successor_is_replaced_by_another_one() {
    let backend = Backend::echo().await;
    let lockgate = Lockgate::with_file(&config(backend)).start().await;
    let mut open = lockgate.echo_session().await;
    // Another offer is possible as soon as this process has ended.
    let packets = hung_successor(&lockgate, &["ready"]).await;
    drop(packets);
    eventually("a warning", async || !lockgate.log("WARN").is_empty()).await;
    let new = lockgate.successor(&[]).await;
    assert_eq!(new.status().await["process"], new.id());
    assert_eq!(open.frame().await.closes_with().0, 1012);
}
