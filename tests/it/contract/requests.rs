//! Refusals: status and `why` word of requests that Lockgate answers itself, provoked one by one. Words that
//! need a race, another protocol or a mistake of the program are left out: protocol, rebuild, stopping, no-backend,
//! queue-share, status, foreign-stream, not-101.

use super::{Lines, snapshot};
use crate::harness::{
    Backend, Frame, Head, Lockgate, Wire, eventually, handshake, listener, observe,
    switching_protocols,
};
use serde_json::Value;
use std::{future::pending, net::SocketAddr};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

/// Starts a backend that answers with the fault named by the path.
async fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut wire = Wire::plain(stream);
                let request = wire.head().await;
                let path = request.start.split(' ').nth(1).expect("a target");
                let case = path.rsplit('/').next().expect("a last part");
                match case {
                    "broken" => return,
                    "transfer-coding" => {
                        wire.send(
                            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                        )
                        .await;
                    }
                    _ if path.starts_with("/101/") => wire.send(bad_101(case, &request)).await,
                    _ => {}
                }
                pending::<()>().await;
            });
        }
    });
    address
}

/// Starts a backend that closes every connection at once.
async fn closing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    address
}

#[rustfmt::skip] // a table
fn bad_101(case: &str, request: &Head) -> String {
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate";
    let more = match case {
        "repeated-subprotocol" => "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat\r\n",
        "unoffered-subprotocol" => "Sec-WebSocket-Protocol: other\r\n",
        "bad-extensions" => "Sec-WebSocket-Extensions: ;\r\n",
        "unoffered-extension" => "Sec-WebSocket-Extensions: other\r\n",
        "repeated-extension" => &format!("{deflate}\r\n{deflate}\r\n"),
        "bad-deflate-parameters" => &format!("{deflate}; client_max_window_bits=99\r\n"),
        _ => "",
    };
    let good = switching_protocols(request, more);
    match case {
        "wrong-version" => good.replace("HTTP/1.1", "HTTP/1.0"),
        "bad-upgrade" => good.replace("Upgrade: websocket", "Upgrade: other"),
        "bad-connection" => good.replace("Connection: Upgrade", "Connection: close"),
        "missing-accept" => good.replace("Sec-WebSocket-Accept", "X-Accept"),
        "wrong-accept" => good.replace("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: x"),
        _ => good,
    }
}

const OFFER: &str =
    "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";

/// Requests, each with its case in the path.
#[rustfmt::skip] // a table
fn cases() -> Vec<(&'static str, String)> {
    let plain = |path: &str, more: &str| format!("GET /{path} HTTP/1.1\r\nHost: a.test\r\n{more}\r\n");
    let upgrade = |path: &str, more: &str| handshake(&format!("/{path}"), more);
    let changed = |path: &str, from: &str, to: &str| handshake(&format!("/{path}"), "").replace(from, to);
    let mut cases = vec![
        ("trace", plain("trace", "").replace("GET", "TRACE")),
        ("host", plain("host", "").replace("a.test", "")),
        ("path", plain("path/%5C", "")),
        ("target", plain("target", "").replace("/target", "http://b.test/target")),
        ("transfer-encoding", plain("transfer-encoding", "Transfer-Encoding: gzip, chunked\r\n")),
        ("head-fields", plain("head-fields", &"X-A: 1\r\n".repeat(128))),
        ("head-size", plain("head-size", &format!("X-A: {}\r\n", "x".repeat(16_384)))),
        ("header-line", upgrade("header-line", &format!("X-Long: {}\r\n", "x".repeat(8192)))),
        ("header-twin", plain("header-twin", "X_Forwarded_For: 192.0.2.1\r\n")),
        ("upgrade-body", upgrade("upgrade-body", "Content-Length: 1\r\n")),
        ("wrong-method", changed("wrong-method", "GET", "POST")),
        ("http-1.0", changed("http-1.0", "HTTP/1.1", "HTTP/1.0")),
        ("wrong-version", changed("wrong-version", "Version: 13", "Version: 8")),
        ("missing-connection", changed("missing-connection", "Connection: Upgrade", "Connection: close")),
        ("missing-upgrade", changed("missing-upgrade", "Upgrade: websocket", "Upgrade: other")),
        ("missing-key", changed("missing-key", "Sec-WebSocket-Key", "X-Key")),
        ("bad-key", changed("bad-key", "Key: dGhl", "Key: x")),
        ("bad-subprotocols", upgrade("bad-subprotocols", "Sec-WebSocket-Protocol: a, a\r\n")),
        ("bad-extensions", upgrade("bad-extensions", "Sec-WebSocket-Extensions: ;\r\n")),
        ("address", plain("address", "")),
        ("origin", upgrade("origin", "Origin: https://evil.test\r\n")),
        ("only-websocket", plain("only-websocket", "")),
        ("only-http", upgrade("only-http", "")),
        ("no-route", plain("no-route", "")),
        ("token", plain("token?token=%FF", "")),
        ("token-conflict", plain("token-conflict?token=a", "Authorization: Bearer b\r\n")),
        ("misdirected", plain("misdirected", "").replace("a.test", "c.test")),
        ("body", plain("body", "Transfer-Encoding: chunked\r\n").replace("GET", "POST") + "x\r\n"),
        ("body-idle", plain("body-idle", "Content-Length: 9\r\n").replace("GET", "POST")),
        ("answer-idle", plain("answer-idle", "")),
        ("handshake-timeout", upgrade("handshake-timeout", "")),
        ("transfer-coding", plain("transfer-coding", "")),
        ("broken", upgrade("broken", "")),
        ("dial", plain("dial", "")),
        ("backend-tls", upgrade("backend-tls", "")),
        ("backends-down", plain("backends-down", "")),
        ("backends-unresolved", plain("backends-unresolved", "")),
        ("draining", plain("draining", "")),
    ];
    for case in [
        "101/wrong-version", "101/bad-upgrade", "101/bad-connection", "101/missing-accept", "101/wrong-accept",
        "101/repeated-subprotocol", "101/unoffered-subprotocol", "101/bad-extensions", "101/unoffered-extension",
        "101/repeated-extension", "101/bad-deflate-parameters",
    ] {
        cases.push((case, upgrade(case, OFFER)));
    }
    cases
}

fn config(backend: SocketAddr, closing: SocketAddr, client_ca: &str) -> String {
    let mut config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\nclient_ca = {client_ca:?}\n\
         [limits]\nanswer_idle = \"2s\"\nbody_idle = \"1s\"\n\
         [pools.good]\nbackends = [\"ws://{backend}\"]\n[pools.dead]\nbackends = [\"ws://127.0.0.1:1\"]\n\
         [pools.tls]\nbackends = [\"wss://{closing}\"]\n[pools.name]\nbackends = [\"dns://name.invalid:1\"]\n\
         [pools.down]\nbackends = [\"ws://127.0.0.1:2\"]\nall_down = \"refuse\"\nhealth = {{ check = \"tcp\" }}\n\
         [pools.queue]\nbackends = [\"ws://{backend}\"]\nadmission = {{ handshakes = 1, queue = 1, wait = \"5s\" }}\n"
    );
    for (path, pool, more) in [
        ("trace", "good", ""),
        ("101/*", "good", "origins = [\"*\"]"),
        ("address", "good", "deny = [\"0.0.0.0/0\"]"),
        ("origin", "good", ""),
        ("only-websocket", "good", "only = \"websocket\""),
        ("only-http", "good", "only = \"http\""),
        ("token", "good", "token = { from = [\"query:token\"] }"),
        (
            "token-conflict",
            "good",
            "token = { from = [\"query:token\"] }",
        ),
        (
            "header-line",
            "good",
            "framework = \"uvicorn\"\norigins = [\"*\"]",
        ),
        ("missing-connection", "good", ""),
        ("body", "good", ""),
        ("body-idle", "good", ""),
        ("answer-idle", "good", ""),
        (
            "handshake-timeout",
            "good",
            "origins = [\"*\"]\nsession = { handshake_timeout = \"500ms\" }",
        ),
        ("transfer-coding", "good", ""),
        ("broken", "good", "origins = [\"*\"]"),
        ("client-left", "good", ""),
        ("draining", "good", ""),
        ("dial", "dead", ""),
        ("backend-tls", "tls", "origins = [\"*\"]"),
        ("backends-down", "down", ""),
        ("backends-unresolved", "name", ""),
        (
            "queue/*",
            "queue",
            "session = { handshake_timeout = \"10s\" }",
        ),
    ] {
        config += &format!(
            "[[routes]]\nname = {:?}\nhosts = [\"a.test\"]\npath = \"/{path}\"\npool = {pool:?}\n{more}\n",
            path.trim_end_matches("/*")
        );
    }
    config
        + "[[routes]]\nname = \"c\"\nhosts = [\"c.test\"]\npool = \"good\"\nclient_cert = \"require\"\n"
}

#[tokio::test]
async fn statuses_and_reasons_of_refusals_are_unchanged() {
    let folder = TempDir::new().expect("a temporary folder");
    let ca = Lockgate::run(folder.path(), &["cert", "ca"]).await;
    let ca = String::from_utf8(ca.stdout).expect("UTF-8");
    let config = config(backend().await, closing().await, ca.trim());
    let lockgate = Lockgate::with_file(&config).start().await;
    let (accepted, output) = lockgate.command(&["drain", "--route", "draining"]).await;
    assert!(accepted, "{output}");
    let down = "lockgate_backend_up{pool=\"down\",backend=\"ws://127.0.0.1:2\"}";
    eventually("a failed health check", async || {
        lockgate.metric(down).await == 0.0
    })
    .await;

    let mut lines = Lines::new();
    for (case, request) in cases() {
        let _client = lockgate.request(request).await;
        lines.insert(refusal(&lockgate, case).await);
    }
    let mut uncertified = lockgate.connect_as("c.test").await;
    uncertified
        .send("GET /client-cert HTTP/1.1\r\nHost: c.test\r\n\r\n")
        .await;
    lines.insert(refusal(&lockgate, "client-cert").await);

    let connect = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
    let _client = lockgate.request(connect).await;
    let record = lockgate
        .record(|record| record["method"] == "CONNECT")
        .await;
    lines.insert(format!("connect: {} {}", record["status"], record["why"]));

    queue_refusals(&lockgate, &mut lines).await;
    snapshot("refusals", &lines);
}

/// Adds the refusals of requests that wait for a backend for too long, or cannot wait.
async fn queue_refusals(lockgate: &Lockgate, lines: &mut Lines) {
    // The backend does not answer, so that the first request keeps its lease.
    let _first = lockgate.upgrade("/queue/first", "").await;
    eventually("a handshake in progress", async || {
        let held = |it: &Value| it["pool"] == "queue" && it["handshakes"] == 1;
        observe(lockgate.status().await, |status| {
            let all = status["backends"].as_array();
            all.is_some_and(|all| all.iter().any(held))
        })
    })
    .await;
    let _second = lockgate.upgrade("/queue/queue-wait", "").await;
    let waiting = "lockgate_admission_waiting{pool=\"queue\"}";
    eventually("a waiting request", async || {
        lockgate.metric_or_zero(waiting).await >= 1.0
    })
    .await;
    let _third = lockgate.upgrade("/queue/queue-full", "").await;
    for case in ["queue/queue-full", "queue/queue-wait"] {
        lines.insert(refusal(lockgate, case).await);
    }
}

/// The status and the `why` word of the request with this case in its path.
async fn refusal(lockgate: &Lockgate, case: &str) -> String {
    let matches = |record: &Value| {
        let path = record["path"].as_str().unwrap_or_default();
        let path = path.trim_start_matches('/').trim_end_matches("/%5C");
        path == case
    };
    let record = lockgate.record(matches).await;
    format!("{case}: {} {}", record["status"], record["why"])
}

#[tokio::test]
async fn reasons_of_limits_are_unchanged() {
    let (backend, echo) = (Backend::listen().await, Backend::echo().await);
    let echo = format!("ws://{echo}");
    let lockgate = Lockgate::to(backend.address)
        .with("name = \"all\"")
        .with("[limits]\nsessions = 2")
        .with(&format!(
            "[pools.full]\nbackends = [{{ address = \"{echo}\", max_sessions = 1 }}]\nadmission = {{ queue = 0 }}\n\
             [[routes]]\nname = \"full\"\nhosts = [\"a.test\"]\npath = \"/full/*\"\npool = \"full\"\norigins = [\"*\"]"
        ))
        .start()
        .await;
    let mut lines = Lines::new();
    let mut full = lockgate.upgrade("/full/first", "").await;
    assert_eq!(full.head().await.status(), 101);
    let _refused = lockgate.upgrade("/full/backends-full", "").await;
    lines.insert(refusal(&lockgate, "full/backends-full").await);
    let (accepted, output) = lockgate.command(&["drain", "--backend", &echo]).await;
    assert!(accepted, "{output}");
    let _refused = lockgate.upgrade("/full/backends-draining", "").await;
    lines.insert(refusal(&lockgate, "full/backends-draining").await);
    assert!(full.frame().await.is_close());
    full.send_frame(Frame::close(1012, "")).await;
    lockgate.closed().await;
    let _one = lockgate.session(&backend).await;
    let _two = lockgate.session(&backend).await;
    let _refused = lockgate.upgrade("/sessions-full", "").await;
    lines.insert(refusal(&lockgate, "sessions-full").await);
    let left = lockgate
        .request("GET /client-left HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    server.head().await;
    drop(left);
    lines.insert(refusal(&lockgate, "client-left").await);
    let lockgate = Lockgate::to(backend.address)
        .server("http = [\"127.0.0.1:0\"]")
        .with("[limits]\nsessions_per_ip = 1\nrequests_per_ip = 1")
        .start()
        .await;
    let http = listener(&lockgate.status().await, "http");
    let mut marked = Wire::plain(TcpStream::connect(http).await.expect("it listens"));
    marked
        .send("GET /forwarded-proto HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: https\r\n\r\n")
        .await;
    lines.insert(refusal(&lockgate, "forwarded-proto").await);
    let _session = lockgate.session(&backend).await;
    let _refused = lockgate.upgrade("/sessions-share", "").await;
    lines.insert(refusal(&lockgate, "sessions-share").await);
    let _request = lockgate
        .request("GET /one HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    server.head().await;
    let _refused = lockgate
        .request("GET /requests-share HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    lines.insert(refusal(&lockgate, "requests-share").await);
    // A session counts in its connection until the backend has answered the Close.
    let lockgate = Lockgate::to(backend.address)
        .with("[limits]\nh2_streams = 1")
        .start()
        .await;
    let mut client = lockgate.h2().await;
    let (session, _closing) = tokio::join!(client.session("/"), backend.accept_session());
    drop(session);
    client.websocket("/streams-full", &[]).await;
    lines.insert(refusal(&lockgate, "streams-full").await);
    snapshot("refusals_limits", &lines);
}
