//! Limits per client address: concurrent WebSockets and concurrent plain requests, over HTTP/1.1 and HTTP/2, with IPv4
//! and IPv6, behind a PROXY header and behind a trusted proxy.

use crate::harness::{
    Backend, Lockgate, Setup, Wire, eventually, handshake, listener, observe, request,
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

const LIMITS: &str = "[limits]\nsessions_per_ip = 2\nrequests_per_ip = 2\n";

/// Who the client is, in the PROXY header or in X-Forwarded-For, and whether it is the same client as `192.0.2.1` or
/// `2001:db8::1`.
const CLIENTS: [(&str, bool); 5] = [
    ("192.0.2.1", true),
    ("192.0.2.2", false),
    ("2001:db8::1", true),
    ("2001:db8::ffff:2", true),
    ("2001:db8:0:1::1", false),
];

#[tokio::test]
async fn sessions_of_one_address_are_limited_and_released() {
    let lockgate = started(Backend::echo().await, "").await;
    let mut first = session(&lockgate, "").await.expect("below the limit");
    let second = session(&lockgate, "").await.expect("below the limit");
    let mut refused = lockgate.upgrade("/", "").await;
    let head = refused.head().await;
    assert_eq!(head.status(), 503);
    assert_eq!(head.get("Retry-After"), Some("1"));
    let record = lockgate
        .record(|record| record["why"] == "sessions-share")
        .await;
    assert_eq!(record["status"], 503);
    let series = "lockgate_refusals_total{status=\"503\",why=\"sessions-share\"}";
    lockgate.until_metric(series, 1.0).await;
    // Plain requests have a limit of their own, and open sessions are not affected.
    first.send_frame(crate::harness::Frame::text("hi")).await;
    assert_eq!(first.text().await, "hi");
    drop(second);
    eventually("the permit is released", async || {
        session(&lockgate, "").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn requests_of_one_address_are_limited_and_released() {
    let lockgate = started(slow_backend().await, "").await;
    let held = [waiting(&lockgate, "").await, waiting(&lockgate, "").await];
    in_flight(&lockgate, 2).await;
    let mut refused = lockgate.request(get("/", "")).await;
    let head = refused.head().await;
    assert_eq!(head.status(), 503);
    assert_eq!(head.get("Retry-After"), Some("1"));
    let record = lockgate
        .record(|record| record["why"] == "requests-share")
        .await;
    assert_eq!(record["status"], 503);
    drop(held);
    in_flight(&lockgate, 0).await;
    // A complete response releases its permit, also if the connection stays open.
    let mut wire = lockgate.connect().await;
    for _ in 0..5 {
        wire.send(get("/", "")).await;
        let head = wire.head().await;
        assert_eq!(head.status(), 200);
        wire.body(&head).await;
    }
}

#[tokio::test]
async fn streams_of_one_h2_connection_count_one_by_one() {
    let lockgate = started(slow_backend().await, "").await;
    let mut client = lockgate.h2().await;
    let mut connections = JoinSet::new();
    for _ in 0..2 {
        let mut client = lockgate.h2().await;
        connections.spawn(async move { client.try_send(request("GET", "/wait")).await.is_ok() });
    }
    in_flight(&lockgate, 2).await;
    assert_eq!(client.send(request("GET", "/")).await.status(), 503);
    connections.shutdown().await;
    in_flight(&lockgate, 0).await;
    assert_eq!(client.send(request("GET", "/")).await.status(), 200);

    let lockgate = started(Backend::echo().await, "").await;
    let mut client = lockgate.h2().await;
    let first = client.session("/").await;
    let _second = client.session("/").await;
    let (refused, _) = client.websocket("/", &[]).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    drop(first);
    eventually("the permit is released", async || {
        client.websocket("/", &[]).await.0.status() == 200
    })
    .await;
}

#[tokio::test]
async fn client_of_a_limit_is_the_one_that_a_trusted_proxy_names() {
    let backend = Backend::echo().await;
    let lockgate = started(backend, "trusted_proxies = [\"127.0.0.1\"]").await;
    let forwarded = |client: &str| format!("X-Forwarded-For: {client}\r\n");
    let mut held = vec![];
    for client in ["192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::2"] {
        held.push(
            session(&lockgate, &forwarded(client))
                .await
                .expect("below the limit"),
        );
    }
    for (client, is_full) in CLIENTS {
        let opened = session(&lockgate, &forwarded(client)).await;
        assert_eq!(opened.err(), is_full.then_some(503), "{client}");
    }

    // The header of a client that is not trusted has no effect.
    let lockgate = started(backend, "").await;
    held.push(
        session(&lockgate, &forwarded("192.0.2.1"))
            .await
            .expect("free"),
    );
    held.push(
        session(&lockgate, &forwarded("192.0.2.2"))
            .await
            .expect("free"),
    );
    let refused = session(&lockgate, &forwarded("192.0.2.3")).await;
    assert_eq!(refused.err(), Some(503));
}

#[tokio::test]
async fn client_of_a_limit_is_the_one_in_the_proxy_header() {
    let backend = slow_backend().await;
    let proxied = "proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.1\"]";
    let lockgate = started(backend, proxied).await;
    let connect = async |client: &str| {
        let (family, local) = if client.contains(':') {
            ("TCP6", "::1")
        } else {
            ("TCP4", "127.0.0.1")
        };
        let header = format!("PROXY {family} {client} {local} 1000 443\r\n");
        let wire = lockgate.connect_behind(&[header.as_bytes()]).await;
        wire.expect("it is accepted")
    };
    let mut held = vec![];
    for client in ["192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::2"] {
        let mut wire = connect(client).await;
        wire.send(get("/wait", "")).await;
        held.push(wire);
    }
    in_flight(&lockgate, 4).await;
    for (client, is_full) in CLIENTS {
        let mut wire = connect(client).await;
        wire.send(get("/", "")).await;
        let expected = if is_full { 503 } else { 200 };
        assert_eq!(wire.head().await.status(), expected, "{client}");
    }
}

#[tokio::test]
async fn reload_changes_the_limits_of_an_address_and_closes_nothing() {
    let backend = Backend::echo().await;
    let config = |limits: &str| {
        format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[limits]\n{limits}\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{backend}\"\norigins = [\"*\"]\n"
        )
    };
    let setup = Lockgate::with_file(&config("sessions_per_ip = 2\nconnections_per_ip = 0"));
    let lockgate = setup.start().await;
    let mut held = vec![
        session(&lockgate, "").await.expect("below the limit"),
        session(&lockgate, "").await.expect("below the limit"),
    ];
    assert_eq!(session(&lockgate, "").await.err(), Some(503));
    let reload = async |limits: &str| {
        lockgate.write_config(&config(limits));
        let (reloaded, output) = lockgate.command(&["reload"]).await;
        assert!(reloaded, "{output}");
        let status = lockgate.status().await;
        assert_eq!(status["config"]["needs_restart"], serde_json::json!([]));
    };
    reload("sessions_per_ip = 3").await;
    held.push(session(&lockgate, "").await.expect("below the new limit"));
    reload("sessions_per_ip = 1").await;
    assert_eq!(session(&lockgate, "").await.err(), Some(503));
    for wire in &mut held {
        wire.send_frame(crate::harness::Frame::text("hi")).await;
        assert_eq!(wire.text().await, "hi");
    }
    reload("connections_per_ip = 3").await;
    assert!(lockgate.try_tls("a.test").await.is_err());
    reload("connections_per_ip = 4").await;
    // Refused connections may not have ended yet.
    eventually("a fourth connection", async || {
        lockgate.try_tls("a.test").await.is_ok()
    })
    .await;
    assert_eq!(listener(&lockgate.status().await, "https"), lockgate.https);
}

async fn started(backend: SocketAddr, server: &str) -> Lockgate {
    let setup: Setup = Lockgate::to(backend).server(server);
    setup.with(LIMITS).start().await
}

/// Opens a session; `Err` has the status of a refusal.
async fn session(lockgate: &Lockgate, more: &str) -> Result<Wire, u16> {
    let mut wire = lockgate.request(handshake("/", more)).await;
    match wire.head().await.status() {
        101 => Ok(wire),
        status => Err(status),
    }
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{more}\r\n")
}

/// Sends a request that the backend does not answer.
async fn waiting(lockgate: &Lockgate, more: &str) -> Wire {
    lockgate.request(get("/wait", more)).await
}

async fn in_flight(lockgate: &Lockgate, expected: u64) {
    eventually(format!("{expected} requests in flight"), async || {
        let status = lockgate.status().await;
        observe(status, |status| status["requests"] == expected)
    })
    .await;
}

/// Starts a backend that answers every request but those for `/wait`.
async fn slow_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    if buffer[..length].starts_with(b"GET /wait") {
                        continue;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
