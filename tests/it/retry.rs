//! Another backend where one fails before anything of an answer has reached the client; and what is never tried again.

use crate::{
    admission::pool,
    harness::{Lockgate, Wire, switching_protocols},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::net::{TcpListener, TcpSocket};

/// A backend that does what the path says, and how many requests it has got.
async fn obeying(good: bool) -> (SocketAddr, Arc<AtomicUsize>) {
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
                match (path, good) {
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

/// An address that refuses connections as long as the returned socket exists.
fn dead() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind(([127, 0, 0, 1], 0).into())
        .expect("a free port");
    (socket.local_addr().expect("bound"), socket)
}

async fn retries(lockgate: &Lockgate) -> f64 {
    lockgate
        .metric_or_zero("lockgate_retries_total{pool=\"p\"}")
        .await
}

#[tokio::test]
async fn one_dead_backend_of_three_fails_nobody() {
    let (dead, _held) = dead();
    let (one, _) = obeying(true).await;
    let (other, _) = obeying(true).await;
    let config = pool(&[dead, one, other], "balance = \"round-robin\"");
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut failed = 0;
    for _ in 0..60 {
        let mut wire = lockgate.upgrade("/", "").await;
        failed += usize::from(wire.head().await.status() != 101);
    }
    let retried = retries(&lockgate).await;
    println!("one of three is dead: {failed} of 60 failed, {retried} were tried again");
    assert_eq!(failed, 0);
    assert!(retried >= 1.0);
    // The record names the last one.
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
    let (bad, of_bad) = obeying(false).await;
    let (good, _) = obeying(true).await;
    let config = pool(&[bad, good], "balance = \"round-robin\"");
    let lockgate = Lockgate::with_file(&config).start().await;
    for path in ["/502", "/503", "/504", "/reset", "/bad"] {
        // Every other one comes to the bad one first.
        for _ in 0..2 {
            let mut wire = lockgate.upgrade(path, "").await;
            assert_eq!(wire.head().await.status(), 101, "{path}");
        }
    }
    assert_eq!(retries(&lockgate).await, of_bad.load(SeqCst) as f64);
    assert!(of_bad.load(SeqCst) >= 5);
}

#[tokio::test]
async fn affinity_follows_a_retry_to_the_other_backend() {
    let (bad, of_bad) = obeying(false).await;
    let (good, _) = obeying(true).await;
    let config = pool(
        &[bad, good],
        "balance = \"round-robin\"\nsticky = \"cookie\"",
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let ask = async |path: &str, cookie: Option<&str>| {
        let cookie = cookie.map_or_else(String::new, |it| format!("Cookie: {it}\r\n"));
        let mut wire = lockgate.upgrade(path, &cookie).await;
        let head = wire.head().await;
        assert_eq!(head.status(), 101, "{path}");
        let set = head.get("set-cookie");
        set.map(|line| line.split(';').next().expect("a pair").to_owned())
    };
    let mut of_the_bad = None;
    for _ in 0..2 {
        let before = of_bad.load(SeqCst);
        let cookie = ask("/", None).await;
        if of_bad.load(SeqCst) > before {
            of_the_bad = cookie;
        }
    }
    let of_the_bad = of_the_bad.expect("each has its turn");
    assert_eq!(ask("/", Some(&of_the_bad)).await, None);
    let moved = ask("/503", Some(&of_the_bad)).await.expect("another one");
    assert_ne!(moved, of_the_bad);
    let before = of_bad.load(SeqCst);
    assert_eq!(ask("/503", Some(&moved)).await, None);
    assert_eq!(of_bad.load(SeqCst), before);
}

#[tokio::test]
async fn an_answer_that_all_give_reaches_the_client_and_a_refusal_is_the_last_word() {
    let (one, of_one) = obeying(true).await;
    let (other, of_other) = obeying(true).await;
    let lockgate = Lockgate::with_file(&pool(&[one, other], "")).start().await;
    let asked = || of_one.load(SeqCst) + of_other.load(SeqCst);
    let mut wire = lockgate.upgrade("/401", "").await;
    assert_eq!(wire.head().await.status(), 401);
    assert_eq!(asked(), 1);
    let mut wire = lockgate.upgrade("/503-all", "").await;
    let head = wire.head().await;
    assert_eq!((head.status(), head.get("x-mine")), (503, Some("yes")));
    assert_eq!(wire.body(&head).await, b"mine");
    // Each of them once, though twice would be allowed.
    assert_eq!(asked(), 3);
    let mut wire = lockgate.upgrade("/reset-all", "").await;
    assert_eq!(wire.head().await.status(), 502);
    assert_eq!(asked(), 5);
}

#[tokio::test]
async fn a_backend_alone_is_dialled_twice_or_as_the_config_says() {
    let (dead, _held) = dead();
    let lockgate = Lockgate::with_file(&pool(&[dead], "")).start().await;
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 502);
    assert_eq!(retries(&lockgate).await, 1.0);
    let config = pool(&[dead], "retry = { times = 0 }");
    let lockgate = Lockgate::with_file(&config).start().await;
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 502);
    assert_eq!(retries(&lockgate).await, 0.0);
    // One that answered has said what it has to say.
    let (alone, asked) = obeying(true).await;
    let lockgate = Lockgate::with_file(&pool(&[alone], "")).start().await;
    for (path, status) in [("/503-all", 503), ("/reset-all", 502)] {
        assert_eq!(
            lockgate.upgrade(path, "").await.head().await.status(),
            status
        );
    }
    assert_eq!(asked.load(SeqCst), 2);
}

#[tokio::test]
async fn a_plain_request_is_sent_again_only_where_that_is_safe() {
    let (dead, _held) = dead();
    let (alive, of_alive) = obeying(true).await;
    let config = pool(&[dead, alive], "balance = \"round-robin\"");
    let lockgate = Lockgate::with_file(&config).start().await;
    // Nothing of it was sent to the dead one.
    for _ in 0..4 {
        let ask = "POST /plain HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello";
        let mut wire = lockgate.request(ask).await;
        let head = wire.head().await;
        assert_eq!(head.status(), 200);
        assert_eq!(wire.body(&head).await, b"hello");
    }
    assert!(retries(&lockgate).await >= 1.0);
    assert_eq!(of_alive.load(SeqCst), 4);

    let (bad, of_bad) = obeying(false).await;
    let (good, of_good) = obeying(true).await;
    let config = pool(&[bad, good], "balance = \"round-robin\"");
    let lockgate = Lockgate::with_file(&config).start().await;
    for (head, body, again) in [
        ("GET /reset", "", true),
        ("POST /reset", "", false),
        ("PUT /reset", "x", false),
    ] {
        let (asked, tried) = (
            || of_bad.load(SeqCst) + of_good.load(SeqCst),
            retries(&lockgate).await,
        );
        let before = asked();
        let mut answers = vec![];
        for _ in 0..2 {
            let length = body.len();
            let ask = format!(
                "{head} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            answers.push(lockgate.request(ask).await.head().await.status());
        }
        answers.sort_unstable();
        let tried = retries(&lockgate).await - tried;
        assert_eq!((asked() - before) as f64, 2.0 + tried, "{head}");
        match again {
            true => assert!(tried >= 1.0 && answers == [200, 200], "{head}: {answers:?}"),
            false => assert!(tried == 0.0 && answers == [200, 502], "{head}: {answers:?}"),
        }
    }
}
