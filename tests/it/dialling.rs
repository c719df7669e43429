//! Connecting to backends that do not answer: the time that clients wait, the choice of the next backend, ejection and
//! recovery.

mod addresses;
mod tls;

use crate::harness::{
    Answering, Dropping, Lockgate, Wire, eventually, eventually_within, handshake, observe,
};
use std::{
    fmt::Display,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Far more than the default of `connect_timeout`, and less than `session.handshake_timeout`.
const FIRST: Duration = Duration::from_secs(6);

/// Less than the `connect_timeout` of 2 s of the tests that use it, and far more than a request takes.
const AT_ONCE: Duration = Duration::from_millis(1800);

fn config(backends: &[impl Display], more: &str) -> String {
    let backends: Vec<_> = backends.iter().map(|it| format!("\"ws://{it}\"")).collect();
    format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
         [pools.p]\nbackends = [{}]\n{more}\n\
         [[routes]]\nname = \"r\"\nhosts = [\"a.test\"]\npool = \"p\"\norigins = [\"*\"]\n",
        backends.join(", ")
    )
}

async fn start(backends: &[SocketAddr], more: &str) -> Lockgate {
    Lockgate::with_file(&config(backends, more)).start().await
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    WebSocket,
    Plain,
}

/// Sends a request with these header lines; returns the connection, the status, the cookie that is set and the time.
async fn send(
    lockgate: &Lockgate,
    kind: Kind,
    more: &str,
) -> (Wire, u16, Option<String>, Duration) {
    let mut wire = lockgate.connect().await;
    let started = Instant::now();
    wire.send(match kind {
        Kind::WebSocket => handshake("/", more),
        Kind::Plain => format!("GET / HTTP/1.1\r\nHost: a.test\r\n{more}\r\n"),
    })
    .await;
    let head = wire.head().await;
    let cookie = head.get("set-cookie");
    let cookie = cookie.map(|line| line.split(';').next().expect("a pair").to_owned());
    (wire, head.status(), cookie, started.elapsed())
}

/// Requires success, and returns the time that it took.
async fn succeeds(lockgate: &Lockgate, kind: Kind, more: &str) -> Duration {
    let (_wire, status, _, time) = send(lockgate, kind, more).await;
    let expected = if kind == Kind::WebSocket { 101 } else { 200 };
    assert_eq!(status, expected, "{kind:?} after {time:?}");
    time
}

async fn retries(lockgate: &Lockgate) -> f64 {
    lockgate
        .metric_or_zero("lockgate_retries_total{pool=\"p\"}")
        .await
}

fn transitions(backend: SocketAddr, to: &str) -> String {
    format!(
        "lockgate_backend_transitions_total{{pool=\"p\",backend=\"ws://{backend}\",to=\"{to}\"}}"
    )
}

#[track_caller]
fn until(lockgate: &Lockgate, series: &str, value: f64) -> impl Future<Output = ()> {
    eventually_within(
        Duration::from_secs(30),
        format!("{series} {value}"),
        async move || observe(lockgate.metric_or_zero(series).await, |it| *it == value).map(drop),
    )
}

/// Returns the state of a backend, and the reason.
async fn state(lockgate: &Lockgate, backend: SocketAddr) -> (String, Option<String>) {
    let status = lockgate.status().await;
    let backends = status["backends"].as_array().expect("a list");
    let name = format!("ws://{backend}");
    let one = backends.iter().find(|one| one["address"] == *name);
    let one = one.unwrap_or_else(|| panic!("no {name}: {status:#}"));
    let text = |key: &str| one[key].as_str().map(str::to_owned);
    (text("state").expect("a word"), text("why"))
}

#[tokio::test]
async fn first_client_waits_for_one_connect_and_later_ones_not_at_all() {
    for kind in [Kind::WebSocket, Kind::Plain] {
        for balance in ["least-sessions", "round-robin", "random-two", "hash"] {
            let (dead, alive) = (Dropping::new().await, Answering::new());
            let more = format!("balance = \"{balance}\"\nconnect_timeout = \"2s\"");
            let more = match balance {
                "hash" => format!("{more}\nhash = \"header:x-key\""),
                _ => more,
            };
            let lockgate = start(&[dead.address, alive.address], &more).await;
            let mut open = Vec::new();
            let mut first = Duration::ZERO;
            // At most one in two requests is sent to the dead backend.
            for key in 0.. {
                let (wire, status, _, time) =
                    send(&lockgate, kind, &format!("X-Key: {key}\r\n")).await;
                assert!(matches!(status, 101 | 200), "{kind:?} {balance}: {status}");
                open.push(wire);
                first = first.max(time);
                if retries(&lockgate).await > 0.0 {
                    break;
                }
            }
            assert!(first < FIRST, "{kind:?} {balance}: {first:?}");
            let mut later = Duration::ZERO;
            for key in 0..20 {
                let time = succeeds(&lockgate, kind, &format!("X-Key: {key}\r\n")).await;
                later = later.max(time);
            }
            println!("{kind:?} {balance}: first {first:?}, later {later:?}");
            assert!(later < AT_ONCE, "{kind:?} {balance}: {later:?}");
            assert_eq!(retries(&lockgate).await, 1.0, "{kind:?} {balance}");
        }
    }
}

#[tokio::test]
async fn sticky_client_of_a_dead_backend_moves_to_the_one_that_answered() {
    for kind in [Kind::WebSocket, Kind::Plain] {
        let (one, other) = (Answering::new(), Answering::new());
        let addresses = [one.address, other.address];
        let more = "sticky = \"cookie\"\nbalance = \"round-robin\"\nconnect_timeout = \"2s\"";
        let lockgate = start(&addresses, more).await;
        let mut cookies = Vec::new();
        for _ in 0..2 {
            let (_, _, cookie, _) = send(&lockgate, Kind::Plain, "").await;
            cookies.push(format!(
                "Cookie: {}\r\n",
                cookie.expect("a first response has one")
            ));
        }
        let _dead = one.drop_connections().await;
        let mut moved = Vec::new();
        for cookie in &cookies {
            let (_, status, set, time) = send(&lockgate, kind, cookie).await;
            assert!(matches!(status, 101 | 200), "{kind:?}: {status}");
            assert!(time < FIRST, "{kind:?}: {time:?}");
            moved.extend(set);
        }
        let [moved] = &moved[..] else {
            panic!("one of two clients moves: {moved:?}");
        };
        // Neither the new cookie nor an old one leads to the dead backend.
        for cookie in cookies.iter().chain([&format!("Cookie: {moved}\r\n")]) {
            let time = succeeds(&lockgate, kind, cookie).await;
            assert!(time < AT_ONCE, "{kind:?}: {time:?}");
        }
        assert_eq!(retries(&lockgate).await, 1.0, "{kind:?}");
    }
}

#[tokio::test]
async fn failed_connects_eject_whatever_the_window() {
    let (dead, alive) = (Dropping::new().await, Answering::new());
    // The window is shorter than one failed connect.
    let more =
        "connect_timeout = \"300ms\"\npassive = { fails = 3, within = \"100ms\", eject = \"60s\" }";
    let lockgate = start(&[dead.address, alive.address], more).await;
    succeeds(&lockgate, Kind::WebSocket, "").await;
    // One client has failed; the other failures are those of Lockgate's own connects.
    until(&lockgate, &transitions(dead.address, "ejected"), 1.0).await;
    let (word, why) = state(&lockgate, dead.address).await;
    assert_eq!(word, "ejected");
    assert!(why.is_some_and(|why| why.contains("connect_timeout")));
    assert_eq!(retries(&lockgate).await, 1.0);
}

#[tokio::test]
async fn refusals_far_apart_eject_too() {
    let (mut refusing, alive) = (Answering::new(), Answering::new());
    refusing.refuse().await;
    let more =
        "balance = \"round-robin\"\npassive = { fails = 3, within = \"1ms\", eject = \"60s\" }";
    let lockgate = start(&[refusing.address, alive.address], more).await;
    for _ in 0..8 {
        succeeds(&lockgate, Kind::WebSocket, "").await;
    }
    until(&lockgate, &transitions(refusing.address, "ejected"), 1.0).await;
    assert_eq!(retries(&lockgate).await, 3.0);
}

#[tokio::test]
async fn ejected_backend_gets_no_client_before_a_connect_of_lockgate_succeeds() {
    let (mut refusing, alive) = (Answering::new(), Answering::new());
    refusing.refuse().await;
    let more =
        "balance = \"round-robin\"\npassive = { fails = 2, within = \"10s\", eject = \"200ms\" }";
    let lockgate = start(&[refusing.address, alive.address], more).await;
    for _ in 0..6 {
        succeeds(&lockgate, Kind::WebSocket, "").await;
    }
    until(&lockgate, &transitions(refusing.address, "ejected"), 1.0).await;
    let before = retries(&lockgate).await;
    // Several times as long as the ejection.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        succeeds(&lockgate, Kind::Plain, "").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(retries(&lockgate).await, before);
    assert_eq!(state(&lockgate, refusing.address).await.0, "ejected");
    let recovered = Answering::at(refusing.address);
    until(&lockgate, &transitions(recovered.address, "up"), 1.0).await;
    for _ in 0..4 {
        succeeds(&lockgate, Kind::Plain, "").await;
    }
    let there = format!("ws://{}", recovered.address);
    let uses_it = |record: &serde_json::Value| record["backend"] == *there;
    lockgate.record(uses_it).await;
    assert_eq!(retries(&lockgate).await, before);
}

#[tokio::test]
async fn backend_that_did_not_answer_is_used_again_after_a_connect() {
    let (dead, alive) = (Dropping::new().await, Answering::new());
    let more = "balance = \"round-robin\"\nconnect_timeout = \"500ms\"\npassive = { fails = 0 }";
    let lockgate = start(&[dead.address, alive.address], more).await;
    for _ in 0..6 {
        succeeds(&lockgate, Kind::Plain, "").await;
    }
    assert_eq!(retries(&lockgate).await, 1.0);
    let recovered = dead.answer();
    let there = format!("ws://{}", recovered.address);
    eventually_within(FIRST * 2, "a request there", async || {
        succeeds(&lockgate, Kind::Plain, "").await;
        let records = lockgate.records();
        records.iter().any(|record| record["backend"] == *there)
    })
    .await;
    assert_eq!(retries(&lockgate).await, 1.0);
}

#[tokio::test]
async fn dead_backend_is_tried_if_no_other_is_left() {
    let (dead, alive) = (Dropping::new().await, Answering::new());
    let (other, more) = (
        alive.address,
        "balance = \"round-robin\"\nconnect_timeout = \"300ms\"\npassive = { fails = 0 }",
    );
    let lockgate = start(&[dead.address, other], more).await;
    for _ in 0..2 {
        succeeds(&lockgate, Kind::Plain, "").await;
    }
    let dropped = alive.drop_connections().await;
    let (_, status, _, time) = send(&lockgate, Kind::Plain, "").await;
    assert_eq!(status, 502);
    // Both were tried: one waits for `connect_timeout`, and so does the other.
    assert!(time >= Duration::from_millis(550), "{time:?}");
    drop(dropped);
}

#[tokio::test]
async fn clients_that_give_up_before_connect_timeout_do_not_hide_a_dead_backend() {
    for kind in [Kind::WebSocket, Kind::Plain] {
        let (dead, alive) = (Dropping::new().await, Answering::new());
        let lockgate = start(&[dead.address, alive.address], "balance = \"round-robin\"").await;
        for _ in 0..2 {
            let mut wire = lockgate.connect().await;
            wire.send(match kind {
                Kind::WebSocket => handshake("/", ""),
                Kind::Plain => "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
            })
            .await;
            // How long this client waits is what the test is about.
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        eventually("the failure of the dead backend", async || {
            let why = state(&lockgate, dead.address).await.1;
            observe(why.unwrap_or_default(), |why| {
                why.contains("no connection within")
            })
        })
        .await;
        for _ in 0..4 {
            let time = succeeds(&lockgate, kind, "").await;
            assert!(time < AT_ONCE, "{kind:?}: {time:?}");
        }
    }
}

#[tokio::test]
async fn short_handshake_timeout_leaves_time_for_another_backend() {
    let (dead, alive) = (Dropping::new().await, Answering::new());
    let more = "balance = \"round-robin\"\nretry = { times = 1, within = \"1s\" }";
    let config = format!(
        "[session]\nhandshake_timeout = \"3s\"\n{}",
        config(&[dead.address, alive.address], more)
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    for kind in [Kind::WebSocket, Kind::Plain, Kind::WebSocket, Kind::Plain] {
        succeeds(&lockgate, kind, "").await;
    }
    assert_eq!(retries(&lockgate).await, 1.0);
}

#[tokio::test]
async fn queued_request_waits_for_the_backend_that_answers() {
    let (dead, alive) = (Dropping::new().await, Answering::new());
    let more =
        "balance = \"round-robin\"\nconnect_timeout = \"2s\"\nadmission = { handshakes = 1 }";
    let lockgate = start(&[dead.address, alive.address], more).await;
    for _ in 0..2 {
        succeeds(&lockgate, Kind::WebSocket, "").await;
    }
    let before = retries(&lockgate).await;
    let mut slowest = Duration::ZERO;
    let requests = (0..20).map(|_| succeeds(&lockgate, Kind::WebSocket, ""));
    for time in futures_util::future::join_all(requests).await {
        slowest = slowest.max(time);
    }
    assert!(slowest < 2 * AT_ONCE, "{slowest:?}");
    assert_eq!(retries(&lockgate).await, before);
}

#[tokio::test]
async fn connect_timeout_applies_after_a_reload() {
    let dead = Dropping::new().await;
    let with = |timeout: &str| {
        config(
            &[dead.address],
            &format!("retry = {{ times = 0 }}\nconnect_timeout = \"{timeout}\""),
        )
    };
    let lockgate = Lockgate::with_file(&with("300ms")).start().await;
    let (_, status, _, time) = send(&lockgate, Kind::WebSocket, "").await;
    assert_eq!(status, 502);
    assert!(time < AT_ONCE, "{time:?}");
    let (ok, text) = {
        lockgate.write_config(&with("1500ms"));
        lockgate.command(&["reload"]).await
    };
    assert!(ok, "{text}");
    let (_, status, _, time) = send(&lockgate, Kind::Plain, "").await;
    assert_eq!(status, 502);
    let timeout = Duration::from_millis(1500);
    assert!(time >= timeout && time < FIRST, "{time:?}");
}

#[tokio::test]
async fn connect_timeout_of_zero_is_refused() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("lockgate.toml");
    let text = config(&["127.0.0.1:1"], "connect_timeout = \"0s\"");
    std::fs::write(&file, text).expect("writable");
    let output = Lockgate::run(folder.path(), &["check", "--config", "lockgate.toml"]).await;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(
        text.contains("lockgate.toml:8:") && text.contains("connect_timeout"),
        "{text}"
    );
}
