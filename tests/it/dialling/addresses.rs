//! Names with several addresses, of which one does not answer: sessions, requests, health checks and commands.

use super::*;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Starts a server on ::1, and a socket that ignores connections on 127.0.0.1 with the same port: both are `localhost`.
async fn half_dead() -> (Dropping, Answering, String) {
    // The port of one family may be in use in the other.
    let (dead, other) = loop {
        let dead = Dropping::new().await;
        let other = SocketAddr::from((Ipv6Addr::LOCALHOST, dead.address.port()));
        if std::net::TcpListener::bind(other).is_ok() {
            break (dead, other);
        }
    };
    assert_eq!(dead.address.ip(), Ipv4Addr::LOCALHOST);
    let alive = Answering::at(other);
    let name = format!("localhost:{}", dead.address.port());
    (dead, alive, name)
}

#[tokio::test]
async fn name_with_a_dead_address_is_reached_by_the_other_one() {
    for kind in [Kind::WebSocket, Kind::Plain] {
        let (_dead, _alive, name) = half_dead().await;
        let lockgate = Lockgate::with_file(&config(&[name], "")).start().await;
        let first = succeeds(&lockgate, kind, "").await;
        assert!(first < 2 * AT_ONCE, "{kind:?}: {first:?}");
        // The dead address is known now.
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            fastest = fastest.min(succeeds(&lockgate, kind, "").await);
        }
        assert!(
            fastest < Duration::from_millis(200),
            "{kind:?}: {fastest:?}"
        );
        assert_eq!(retries(&lockgate).await, 0.0, "{kind:?}");
    }
}

#[tokio::test]
async fn descriptors_of_attempts_that_lost_are_released() {
    let (_dead, _alive, name) = half_dead().await;
    let lockgate = Lockgate::with_file(&config(&[name], "")).start().await;
    let requests = (0..10).map(|_| succeeds(&lockgate, Kind::Plain, ""));
    futures_util::future::join_all(requests).await;
    eventually("no connection to a backend", async || {
        let status = lockgate.status().await;
        let connections = status["backend_connections"].clone();
        observe(connections, |count| count.as_u64() == Some(0))
    })
    .await;
}

#[tokio::test]
async fn health_check_of_a_name_with_a_dead_address_succeeds() {
    let (_dead, _alive, name) = half_dead().await;
    let more = "health = { check = \"http\", interval = \"200ms\", timeout = \"1500ms\", fall = 1 }\nall_down = \"refuse\"";
    let lockgate = Lockgate::with_file(&config(&[&name], more)).start().await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        succeeds(&lockgate, Kind::Plain, "").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let down = format!(
        "lockgate_backend_transitions_total{{pool=\"p\",backend=\"ws://{name}\",to=\"down\"}}"
    );
    assert_eq!(lockgate.metric_or_zero(&down).await, 0.0);
}

#[tokio::test]
async fn probe_reaches_a_name_with_a_dead_address() {
    let (_dead, _alive, name) = half_dead().await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let url = format!("ws://{name}/");
    let arguments = ["probe", "--json", "--timeout", "3s", &url];
    let output = Lockgate::run(folder.path(), &arguments).await;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(
        report["tcp_ms"].as_f64().is_some_and(|ms| ms < 2000.0),
        "{report}"
    );
    assert_eq!(report["answer"]["status"], 101, "{report}");
}

#[tokio::test]
async fn doctor_names_the_address_that_does_not_answer() {
    let (dead, _alive, name) = half_dead().await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let text = config(&[&name], "connect_timeout = \"1s\"");
    std::fs::write(folder.path().join("lockgate.toml"), text).expect("writable");
    let arguments = ["doctor", "--json", "--config", "lockgate.toml"];
    let output = Lockgate::run(folder.path(), &arguments).await;
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = findings.as_array().expect("a list");
    let what = format!("backend ws://{name}");
    let finding = findings.iter().find(|one| one["what"] == *what);
    let finding = finding.unwrap_or_else(|| panic!("{findings:#?}"));
    assert_eq!(finding["state"], "warn", "{finding}");
    let seen = finding["seen"].as_str().expect("text");
    assert!(seen.contains(&dead.address.to_string()), "{seen}");
}
