//! Down and up by checks, and what happens to sessions.

use super::*;
use crate::harness::Backend;

/// The next check of a backend whose answers the test writes itself.
async fn answer(backend: &Backend, status: &str) {
    let mut wire = backend.accept().await;
    let request = wire.head().await;
    assert!(
        request.start.starts_with("GET /well HTTP/1.1"),
        "{}",
        request.start
    );
    assert_eq!(request.get("host"), Some(&*backend.address.to_string()));
    let agent = request.get("user-agent").expect("checks say who they are");
    assert_eq!(agent, concat!("lockgate/", env!("CARGO_PKG_VERSION")));
    wire.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
        .await;
}

#[tokio::test]
async fn it_takes_as_many_in_a_row_as_rise_and_fall_say() {
    let backend = Backend::listen().await;
    let address = backend.address;
    let health = "health = { check = \"http\", path = \"/well\", interval = \"100ms\", timeout = \"10s\", rise = 2, fall = 3 }";
    let lockgate = start(&pool("a", &[&address], health)).await;
    let up = up("a", address);
    // When a check comes, what the one before has found is known.
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
    assert_eq!(why, "the answer to GET /well was 503 Service Unavailable");
    let stderr = lockgate.stderr();
    assert_eq!(stderr.matches("backend is down").count(), 1, "{stderr}");
    for status in ["200 OK", "500 Oops", "200 OK"] {
        answer(&backend, status).await;
        assert_eq!(lockgate.metric(&up).await, 0.0);
    }
    answer(&backend, "200 OK").await;
    until(&lockgate, &up, 1.0).await;
    for (to, times) in [("down", 1.0), ("up", 1.0), ("ejected", 0.0)] {
        let series = transitions("a", address, to);
        assert_eq!(lockgate.metric(&series).await, times, "{to}");
    }
}

#[tokio::test]
async fn backend_that_stops_listening_gets_no_new_sessions_and_keeps_open_ones() {
    let (mut goes, stays) = (Switch::on().await, Switch::on().await);
    let health = "health = { check = \"websocket\", interval = \"100ms\" }\nbalance = \"round-robin\"\npassive = { fails = 0 }";
    let lockgate = start(&pool("a", &[&goes.address, &stays.address], health)).await;
    let mut kept = vec![];
    for _ in 0..4 {
        kept.push(session(&lockgate, "a.test").await);
    }
    goes.turn_off().await;
    until(&lockgate, &up("a", goes.address), 0.0).await;
    let (state, why) = state(&lockgate, "a").await;
    assert_eq!(state, "down");
    let why = why.expect("a cause");
    assert_eq!(why.matches("cannot connect").count(), 1, "{why}");
    let mut more = vec![];
    for _ in 0..4 {
        more.push(session(&lockgate, "a.test").await);
    }
    let there = format!("ws://{}", goes.address);
    let there = |record: &serde_json::Value| record["backend"] == *there;
    assert_eq!(lockgate.records().iter().filter(|it| there(it)).count(), 2);
    for wire in kept.iter_mut().chain(&mut more) {
        echoes(wire).await;
    }
    goes.turn_on().await;
    until(&lockgate, &up("a", goes.address), 1.0).await;
    within("a session there", async {
        while lockgate.records().iter().filter(|it| there(it)).count() == 2 {
            more.push(session(&lockgate, "a.test").await);
        }
    })
    .await;
}

#[tokio::test]
async fn on_down_drain_closes_its_sessions_and_keep_does_not() {
    let (mut goes, stays) = (Switch::on().await, Switch::on().await);
    let check = |on_down| {
        format!(
            "health = {{ check = \"websocket\", interval = \"100ms\", on_down = \"{on_down}\" }}\nbalance = \"round-robin\""
        )
    };
    let both: [&dyn Display; 2] = [&goes.address, &stays.address];
    let pools = pool("a", &both, &check("drain")) + &pool("b", &both, &check("keep"));
    let lockgate = start(&pools).await;
    let mut leaving = vec![];
    for _ in 0..4 {
        leaving.push(session(&lockgate, "a.test").await);
    }
    let mut kept = vec![];
    for _ in 0..2 {
        kept.push(session(&lockgate, "b.test").await);
    }
    goes.turn_off().await;
    for wire in leaving.iter_mut().step_by(2) {
        let close = wire.frame().await;
        assert_eq!(close.closes_with().0, 1012);
        wire.send_frame(close).await;
    }
    until(&lockgate, &up("a", goes.address), 0.0).await;
    for wire in leaving.iter_mut().skip(1).step_by(2).chain(&mut kept) {
        echoes(wire).await;
    }
}

#[tokio::test]
async fn a_check_by_tcp_connects_and_says_nothing() {
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
async fn when_all_are_down_they_are_tried_or_refused() {
    let mut goes = Switch::on().await;
    let check = "health = { check = \"websocket\", interval = \"100ms\", rise = 1000000 }\n";
    let pools = pool("a", &[&goes.address], &format!("{check}all_down = \"try\""))
        + &pool(
            "b",
            &[&goes.address],
            &format!("{check}all_down = \"refuse\""),
        );
    let lockgate = start(&pools).await;
    goes.turn_off().await;
    // Checked once, for the first of the two.
    until(&lockgate, &up("a", goes.address), 0.0).await;
    for pool in ["a", "b"] {
        assert_eq!(state(&lockgate, pool).await.0, "down");
    }
    assert_eq!(knock(&lockgate, "a.test").await.1, 502);
    goes.turn_on().await;
    let mut tried = session(&lockgate, "a.test").await;
    echoes(&mut tried).await;
    let (mut wire, status) = knock(&lockgate, "b.test").await;
    assert_eq!(status, 503);
    let why = b"all backends are down";
    assert_eq!(wire.exactly(why.len()).await, why);
    let refused = "lockgate_refusals_total{status=\"503\",why=\"backends-down\"}";
    assert_eq!(lockgate.metric(refused).await, 1.0);
    assert_eq!(state(&lockgate, "b").await.0, "down");
}
