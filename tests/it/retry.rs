//! Retries on another backend when one fails before the response has begun, and requests that are never retried.

use crate::{
    admission::pool,
    harness::{Lockgate, Refusing, Wire, switching_protocols},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::net::TcpListener;

/// Starts a backend that answers as the path requests; also returns its request counter.
async fn scripted_backend(healthy: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = counted.clone();
            tokio::spawn(async move {
                let mut wire = Wire::plain(stream);
                let request = wire.head().await;
                count.fetch_add(1, SeqCst);
                let path = request.start.split(' ').nth(1).expect("a request line");
                match (path, healthy) {
                    ("/401" | "/503-all" | "/reset-all", _)
                    | ("/502" | "/503" | "/504" | "/reset" | "/bad", false) => match &path[1..4] {
                        "res" => return wire.reset(),
                        "bad" => wire.send("HTTP/1.1 101 Switching Protocols\r\n\r\n").await,
                        status => {
                            let head = format!(
                                "HTTP/1.1 {status} So\r\nX-Mine: yes\r\nContent-Length: 4\r\n\r\nmine"
                            );
                            wire.send(head).await;
                        }
                    },
                    ("/plain", _) => {
                        let body = wire.body(&request).await;
                        let length = body.len();
                        wire.send(format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                        ))
                        .await;
                        wire.send(body).await;
                    }
                    _ if request.get("sec-websocket-key").is_none() => {
                        wire.send(
                            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                        )
                        .await;
                    }
                    _ => wire.send(switching_protocols(&request, "")).await,
                }
                wire.end().await;
            });
        }
    });
    (address, count)
}

async fn retries(lockgate: &Lockgate) -> f64 {
    lockgate
        .metric_or_zero("lockgate_retries_total{pool=\"p\"}")
        .await
}

#[tokio::test]
async fn dead_backend_of_three_fails_no_handshake() {
    let refusing = Refusing::new();
    let dead = refusing.address;
    let (one, _) = scripted_backend(true).await;
    let (other, _) = scripted_backend(true).await;
    let config = pool(&[dead, one, other], "balance = \"round-robin\"");
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut failed = 0;
    for _ in 0..60 {
        let mut wire = lockgate.upgrade("/", "").await;
        failed += usize::from(wire.head().await.status() != 101);
    }
    let retried = retries(&lockgate).await;
    println!("one of three is dead: {failed} of 60 failed, {retried} were retried");
    assert_eq!(failed, 0);
    assert!(retried >= 1.0);
    // The access record names the backend of the last attempt.
    let dead = format!("ws://{dead}");
    assert!(
        lockgate
            .records()
            .iter()
            .all(|record| record["backend"] != dead.as_str())
    );
}

#[tokio::test]
async fn failure_before_a_response_is_retried_on_another_backend() {
    let (bad, bad_requests) = scripted_backend(false).await;
    let (healthy, _) = scripted_backend(true).await;
    let config = pool(&[bad, healthy], "balance = \"round-robin\"");
    let lockgate = Lockgate::with_file(&config).start().await;
    for path in ["/502", "/503", "/504", "/reset", "/bad"] {
        // With round-robin, every other handshake tries the bad backend first.
        for _ in 0..2 {
            let mut wire = lockgate.upgrade(path, "").await;
            assert_eq!(wire.head().await.status(), 101, "{path}");
        }
    }
    assert_eq!(retries(&lockgate).await, bad_requests.load(SeqCst) as f64);
    assert!(bad_requests.load(SeqCst) >= 5);
}

#[tokio::test]
async fn affinity_follows_a_retry_to_the_other_backend() {
    let (bad, bad_requests) = scripted_backend(false).await;
    let (healthy, _) = scripted_backend(true).await;
    let config = pool(
        &[bad, healthy],
        "balance = \"round-robin\"\nsticky = \"cookie\"",
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let open = async |path: &str, cookie: Option<&str>| {
        let cookie = cookie.map_or_else(String::new, |it| format!("Cookie: {it}\r\n"));
        let mut wire = lockgate.upgrade(path, &cookie).await;
        let head = wire.head().await;
        assert_eq!(head.status(), 101, "{path}");
        let set = head.get("set-cookie");
        set.map(|line| line.split(';').next().expect("a pair").to_owned())
    };
    let mut bad_cookie = None;
    for _ in 0..2 {
        let before = bad_requests.load(SeqCst);
        let cookie = open("/", None).await;
        if bad_requests.load(SeqCst) > before {
            bad_cookie = cookie;
        }
    }
    let bad_cookie = bad_cookie.expect("round-robin uses both backends");
    assert_eq!(open("/", Some(&bad_cookie)).await, None);
    let moved = open("/503", Some(&bad_cookie)).await.expect("another one");
    assert_ne!(moved, bad_cookie);
    let before = bad_requests.load(SeqCst);
    assert_eq!(open("/503", Some(&moved)).await, None);
    assert_eq!(bad_requests.load(SeqCst), before);
}

#[tokio::test]
async fn refusal_is_not_retried_and_the_last_503_is_forwarded() {
    let (one, one_requests) = scripted_backend(true).await;
    let (other, other_requests) = scripted_backend(true).await;
    let lockgate = Lockgate::with_file(&pool(&[one, other], "")).start().await;
    let requests = || one_requests.load(SeqCst) + other_requests.load(SeqCst);
    let mut wire = lockgate.upgrade("/401", "").await;
    assert_eq!(wire.head().await.status(), 401);
    assert_eq!(requests(), 1);
    let mut wire = lockgate.upgrade("/503-all", "").await;
    let head = wire.head().await;
    assert_eq!((head.status(), head.get("x-mine")), (503, Some("yes")));
    assert_eq!(wire.body(&head).await, b"mine");
    // Each backend is tried once, although `retry.times` would allow another attempt.
    assert_eq!(requests(), 3);
    let mut wire = lockgate.upgrade("/reset-all", "").await;
    assert_eq!(wire.head().await.status(), 502);
    assert_eq!(requests(), 5);
}

#[tokio::test]
async fn only_backend_is_dialled_as_often_as_configured() {
    let refusing = Refusing::new();
    let dead = refusing.address;
    let lockgate = Lockgate::with_file(&pool(&[dead], "")).start().await;
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 502);
    assert_eq!(retries(&lockgate).await, 1.0);
    let config = pool(&[dead], "retry = { times = 0 }");
    let lockgate = Lockgate::with_file(&config).start().await;
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 502);
    assert_eq!(retries(&lockgate).await, 0.0);
    // A backend that has answered is not retried if it is the only one.
    let (alone, received) = scripted_backend(true).await;
    let lockgate = Lockgate::with_file(&pool(&[alone], "")).start().await;
    for (path, status) in [("/503-all", 503), ("/reset-all", 502)] {
        assert_eq!(
            lockgate.upgrade(path, "").await.head().await.status(),
            status
        );
    }
    assert_eq!(received.load(SeqCst), 2);
}

#[tokio::test]
async fn plain_request_is_retried_only_if_idempotent_or_unsent() {
    let refusing = Refusing::new();
    let dead = refusing.address;
    let (alive, alive_requests) = scripted_backend(true).await;
    let config = pool(&[dead, alive], "balance = \"round-robin\"");
    let lockgate = Lockgate::with_file(&config).start().await;
    // The dead backend has received no byte of the request.
    for _ in 0..4 {
        let request = "POST /plain HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello";
        let mut wire = lockgate.request(request).await;
        let head = wire.head().await;
        assert_eq!(head.status(), 200);
        assert_eq!(wire.body(&head).await, b"hello");
    }
    assert!(retries(&lockgate).await >= 1.0);
    assert_eq!(alive_requests.load(SeqCst), 4);

    let (bad, bad_requests) = scripted_backend(false).await;
    let (healthy, healthy_requests) = scripted_backend(true).await;
    let config = pool(&[bad, healthy], "balance = \"round-robin\"");
    let lockgate = Lockgate::with_file(&config).start().await;
    for (head, body, again) in [
        ("GET /reset", "", true),
        ("POST /reset", "", false),
        ("PUT /reset", "x", false),
    ] {
        let (requests, retried) = (
            || bad_requests.load(SeqCst) + healthy_requests.load(SeqCst),
            retries(&lockgate).await,
        );
        let before = requests();
        let mut answers = vec![];
        for _ in 0..2 {
            let length = body.len();
            let request = format!(
                "{head} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            answers.push(lockgate.request(request).await.head().await.status());
        }
        answers.sort_unstable();
        let retried = retries(&lockgate).await - retried;
        assert_eq!((requests() - before) as f64, 2.0 + retried, "{head}");
        if again {
            assert!(
                retried >= 1.0 && answers == [200, 200],
                "{head}: {answers:?}"
            )
        } else {
            assert!(
                retried == 0.0 && answers == [200, 502],
                "{head}: {answers:?}"
            )
        }
    }
}
