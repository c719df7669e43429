//! Health checks mark backends down and up; open sessions stay or drain.

use super::*;
use crate::harness::{Backend, eventually, observe, within};

/// Answers the next health check with this status.
async fn answer(backend: &Backend, status: &str) {
    let mut wire = backend.accept().await;
    let request = wire.head().await;
    assert!(
        request.start.starts_with("GET /well HTTP/1.1"),
        "{}",
        request.start
    );
    assert_eq!(request.get("host"), Some(&*backend.address.to_string()));
    let agent = request.get("user-agent").expect("a check has a User-Agent");
    assert_eq!(agent, concat!("lockgate/", env!("CARGO_PKG_VERSION")));
    wire.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
        .await;
}

#[tokio::test]
async fn rise_and_fall_count_consecutive_results() {
    let backend = Backend::listen().await;
    let address = backend.address;
    let health = "health = { check = \"http\", path = \"/well\", interval = \"100ms\", timeout = \"10s\", rise = 2, fall = 3 }";
    let lockgate = start(&pool("a", &[&address], health)).await;
    let up = up("a", address);
    // The result of a check is applied before the next check begins.
    for status in [
        "204 No Content",
        "500 Oops",
        "404 Not Found",
        "302 Found",
        "500 Oops",
        "500 Oops",
    ] {
        answer(&backend, status).await;
        assert_eq!(lockgate.metric(&up).await, 1.0);
    }
    answer(&backend, "503 Not Now").await;
    until(&lockgate, &up, 0.0).await;
    let (state, why) = state(&lockgate, "a").await;
    assert_eq!(state, "down");
    let why = why.expect("a cause");
    assert!(why.contains("503"), "{why}");
    eventually("one warning", async || {
        let log = lockgate.log("WARN");
        log.iter().filter(|line| line["pool"] == "a").count() == 1
    })
    .await;
    for status in ["200 OK", "500 Oops", "200 OK"] {
        answer(&backend, status).await;
        assert_eq!(lockgate.metric(&up).await, 0.0);
    }
    answer(&backend, "200 OK").await;
    until(&lockgate, &up, 1.0).await;
    for (to, times) in [("down", 1.0), ("up", 1.0), ("ejected", 0.0)] {
        let series = transitions("a", address, to);
        until(&lockgate, &series, times).await;
    }
}

#[tokio::test]
async fn backend_that_stops_listening_gets_no_new_sessions_and_keeps_open_ones() {
    let (mut switched, other) = (Switch::on().await, Switch::on().await);
    let health = "health = { check = \"websocket\", interval = \"100ms\" }\nbalance = \"round-robin\"\npassive = { fails = 0 }";
    let lockgate = start(&pool("a", &[&switched.address, &other.address], health)).await;
    let mut kept = vec![];
    for _ in 0..4 {
        kept.push(session(&lockgate, "a.test").await);
    }
    switched.turn_off().await;
    until(&lockgate, &up("a", switched.address), 0.0).await;
    let (state, why) = state(&lockgate, "a").await;
    assert_eq!(state, "down");
    let why = why.expect("a cause");
    assert_eq!(why.matches("cannot connect").count(), 1, "{why}");
    let mut more = vec![];
    for _ in 0..4 {
        more.push(session(&lockgate, "a.test").await);
    }
    let there = format!("ws://{}", switched.address);
    let there = |record: &serde_json::Value| record["backend"] == *there;
    // Every session has its record before those of the backend are counted.
    eventually("the records of all sessions", async || {
        observe(lockgate.records().len(), |records| *records == 8)
    })
    .await;
    assert_eq!(lockgate.records().iter().filter(|it| there(it)).count(), 2);
    for wire in kept.iter_mut().chain(&mut more) {
        wire.echoes().await;
    }
    switched.turn_on().await;
    until(&lockgate, &up("a", switched.address), 1.0).await;
    within("a session there", async {
        while lockgate.records().iter().filter(|it| there(it)).count() == 2 {
            more.push(session(&lockgate, "a.test").await);
        }
    })
    .await;
}

#[tokio::test]
async fn on_down_drain_closes_sessions_and_keep_does_not() {
    let (mut switched, other) = (Switch::on().await, Switch::on().await);
    let check = |on_down| {
        format!(
            "health = {{ check = \"websocket\", interval = \"100ms\", on_down = \"{on_down}\" }}\nbalance = \"round-robin\""
        )
    };
    let both: [&dyn Display; 2] = [&switched.address, &other.address];
    let pools = pool("a", &both, &check("drain")) + &pool("b", &both, &check("keep"));
    let lockgate = start(&pools).await;
    let mut draining = vec![];
    for _ in 0..4 {
        draining.push(session(&lockgate, "a.test").await);
    }
    let mut kept = vec![];
    for _ in 0..2 {
        kept.push(session(&lockgate, "b.test").await);
    }
    switched.turn_off().await;
    for wire in draining.iter_mut().step_by(2) {
        let close = wire.frame().await;
        assert_eq!(close.closes_with().0, 1012);
        wire.send_frame(close).await;
    }
    until(&lockgate, &up("a", switched.address), 0.0).await;
    for wire in draining.iter_mut().skip(1).step_by(2).chain(&mut kept) {
        wire.echoes().await;
    }
}

#[tokio::test]
async fn tcp_check_connects_without_sending_bytes() {
    let backend = Backend::listen().await;
    let address = backend.address;
    let health = "health = { check = \"tcp\", interval = \"100ms\", fall = 1 }";
    let lockgate = start(&pool("a", &[&address], health)).await;
    for _ in 0..3 {
        let mut wire = backend.accept().await;
        assert!(wire.end().await.bytes.is_empty());
        assert_eq!(lockgate.metric(&up("a", address)).await, 1.0);
    }
    drop(backend);
    until(&lockgate, &up("a", address), 0.0).await;
}

#[tokio::test]
async fn all_down_tries_backends_or_refuses() {
    let mut switched = Switch::on().await;
    let check = "health = { check = \"websocket\", interval = \"100ms\", rise = 1000000 }\n";
    let pools = pool(
        "a",
        &[&switched.address],
        &format!("{check}all_down = \"try\""),
    ) + &pool(
        "b",
        &[&switched.address],
        &format!("{check}all_down = \"refuse\""),
    );
    let lockgate = start(&pools).await;
    switched.turn_off().await;
    // Both pools share one check, with the metrics of the first pool.
    until(&lockgate, &up("a", switched.address), 0.0).await;
    for pool in ["a", "b"] {
        assert_eq!(state(&lockgate, pool).await.0, "down");
    }
    assert_eq!(try_session(&lockgate, "a.test").await.1, 502);
    switched.turn_on().await;
    let mut attempted = session(&lockgate, "a.test").await;
    attempted.echoes().await;
    let (mut wire, status) = try_session(&lockgate, "b.test").await;
    assert_eq!(status, 503);
    let why = b"all backends are down";
    assert_eq!(wire.exactly(why.len()).await, why);
    let refused = "lockgate_refusals_total{status=\"503\",why=\"backends-down\"}";
    lockgate.until_metric(refused, 1.0).await;
    assert_eq!(state(&lockgate, "b").await.0, "down");
}
