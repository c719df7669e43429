//! More clients than a backend accepts handshakes from at a time: which ones wait, for how long, and in which order.
//!
//! `LOCKGATE_CLIENTS` sets how many there are in the storm (200, to be quick). The figures are printed.

use crate::harness::{
    Backend, Lockgate, Wire, handshake, raise_descriptor_limit, switching_protocols, within,
};
use std::{
    fmt::Display,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

const HEAD: &str = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
     [limits]\ntls_handshake = \"60s\"\n[session]\nhandshake_timeout = \"60s\"\n[tls]\ndev_ca = true\n";

/// A whole configuration: one pool, one route to it.
pub(crate) fn pool(backends: &[impl Display], more: &str) -> String {
    let backends: Vec<_> = backends.iter().map(|at| format!("\"ws://{at}\"")).collect();
    format!(
        "{HEAD}[pools.p]\nbackends = [{}]\n{more}\n[[routes]]\nname = \"r\"\nhosts = [\"a.test\"]\npool = \"p\"\n\
         origins = [\"*\"]\n",
        backends.join(", ")
    )
}

async fn waiting_are(lockgate: &Lockgate, wanted: usize) {
    within("the queue's length", async {
        let series = "lockgate_admission_waiting{pool=\"p\"}";
        while lockgate.metric_or_zero(series).await != wanted as f64 {}
    })
    .await;
}

async fn refused(lockgate: &Lockgate, reason: &str) -> f64 {
    let series = format!("lockgate_admission_refused_total{{pool=\"p\",reason=\"{reason}\"}}");
    lockgate.metric_or_zero(&series).await
}

/// A handshake of a client that has this address.
async fn comes(lockgate: &Lockgate, path: &str, client: usize) -> Wire {
    let from = format!(
        "X-Forwarded-For: 10.0.{}.{}\r\n",
        client / 250,
        client % 250
    );
    lockgate.upgrade(path, &from).await
}

async fn answer(wire: &mut Wire) -> String {
    let request = wire.head().await;
    wire.send(switching_protocols(&request, "")).await;
    request.start
}

#[tokio::test]
async fn request_without_free_capacity_waits_in_fifo_order() {
    let backend = Backend::listen().await;
    let config = pool(&[backend.address], "admission = { handshakes = 1 }");
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut clients = vec![];
    for n in 0..5 {
        clients.push(comes(&lockgate, &format!("/{n}"), n).await);
        // The first does not wait, and no request is counted as waiting before it has arrived.
        within("the first handshake", async {
            while lockgate.status().await["backends"][0]["handshakes"] != 1 {}
        })
        .await;
        waiting_are(&lockgate, n).await;
    }
    let status = lockgate.status().await;
    assert_eq!(status["pools"][0]["waiting"], 4);
    // One who leaves is forgotten.
    drop(clients.remove(2));
    waiting_are(&lockgate, 3).await;
    let mut sessions = vec![];
    for n in [0, 1, 3, 4] {
        let mut wire = backend.accept().await;
        assert_eq!(answer(&mut wire).await, format!("GET /{n} HTTP/1.1"));
        sessions.push(wire);
    }
    for mut client in clients {
        assert_eq!(client.head().await.status(), 101);
    }
    waiting_are(&lockgate, 0).await;
}

#[tokio::test]
async fn a_full_queue_and_a_long_wait_are_refused_each_in_its_words() {
    let backend = Backend::listen().await;
    let more = "admission = { handshakes = 1, queue = 12, wait = \"4s\" }";
    let lockgate = Lockgate::with_file(&pool(&[backend.address], more))
        .start()
        .await;
    let _shaking = comes(&lockgate, "/", 0).await;
    let _answers = backend.accept().await;
    let mut late = comes(&lockgate, "/", 1).await;
    waiting_are(&lockgate, 1).await;
    // A tenth of twelve.
    let mut greedy = comes(&lockgate, "/", 1).await;
    let mut others = vec![];
    for client in 2..13 {
        others.push(comes(&lockgate, "/", client).await);
    }
    let mut surplus = comes(&lockgate, "/", 13).await;
    for (wire, why) in [
        (&mut greedy, "queue-share"),
        (&mut surplus, "queue-full"),
        (&mut late, "queue-wait"),
    ] {
        let head = wire.head().await;
        assert_eq!(head.status(), 503, "{why}");
        assert_eq!(head.get("retry-after"), Some("1"));
        lockgate.record(|record| record["why"] == why).await;
        assert!(refused(&lockgate, why).await >= 1.0, "{why}");
    }
    for mut wire in others {
        assert_eq!(wire.head().await.status(), 503);
    }
    assert_eq!(refused(&lockgate, "queue-wait").await, 12.0);
    waiting_are(&lockgate, 0).await;
}

#[tokio::test]
async fn a_reload_serves_those_who_wait() {
    let (old, new) = (Backend::listen().await, Backend::listen().await);
    let more = "admission = { handshakes = 1 }";
    let lockgate = Lockgate::with_file(&pool(&[old.address], more))
        .start()
        .await;
    let _shaking = comes(&lockgate, "/", 0).await;
    let _answers = old.accept().await;
    let mut waits = comes(&lockgate, "/", 1).await;
    waiting_are(&lockgate, 1).await;
    lockgate.write_config(&pool(&[new.address], more));
    assert_eq!(answer(&mut new.accept().await).await, "GET / HTTP/1.1");
    assert_eq!(waits.head().await.status(), 101);
}

#[tokio::test]
async fn plain_requests_wait_too_until_a_head_is_there() {
    let backend = Backend::listen().await;
    let more = "admission = { handshakes = 1 }";
    let lockgate = Lockgate::with_file(&pool(&[backend.address], more))
        .start()
        .await;
    let ask = "GET /one HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut first = lockgate.request(ask).await;
    let mut wire = backend.accept().await;
    assert_eq!(wire.head().await.start, "GET /one HTTP/1.1");
    let mut second = comes(&lockgate, "/two", 1).await;
    waiting_are(&lockgate, 1).await;
    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        .await;
    // Its body is none of this.
    assert_eq!(
        answer(&mut backend.accept().await).await,
        "GET /two HTTP/1.1"
    );
    assert_eq!(second.head().await.status(), 101);
    wire.send("ok").await;
    let head = first.head().await;
    assert_eq!(first.body(&head).await, b"ok");
}

#[tokio::test]
async fn slow_body_or_slow_response_does_not_block_other_requests() {
    let backend = Backend::listen().await;
    let more = "admission = { handshakes = 1 }";
    let lockgate = Lockgate::with_file(&pool(&[backend.address], more))
        .start()
        .await;
    for ask in [
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nh",
        "GET /poll HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        let _slow = lockgate.request(ask).await;
        let mut held = backend.accept().await;
        held.head().await;
        let mut client = comes(&lockgate, "/", 1).await;
        answer(&mut backend.accept().await).await;
        assert_eq!(client.head().await.status(), 101);
    }
}

#[tokio::test]
async fn a_backend_that_a_reload_adds_gets_a_part_at_first() {
    let (old, new) = (Backend::echo().await, Backend::echo().await);
    let more = "slow_start = \"1h\"";
    let lockgate = Lockgate::with_file(&pool(&[old], more)).start().await;
    let mut sessions = vec![];
    for _ in 0..40 {
        let mut wire = comes(&lockgate, "/", 0).await;
        assert_eq!(wire.head().await.status(), 101);
        sessions.push(wire);
    }
    lockgate.write_config(&pool(&[old, new], more));
    within("the reload", async {
        while lockgate.status().await["backends"][1]["state"] != "warming" {}
    })
    .await;
    for _ in 0..40 {
        let mut wire = comes(&lockgate, "/", 0).await;
        assert_eq!(wire.head().await.status(), 101);
        sessions.push(wire);
    }
    let status = lockgate.status().await;
    let leases = status["backends"][1]["leases"].as_u64().expect("a number");
    // It would have got all of them; of a tenth, 16 and more are one in a million times.
    println!("a new backend got {leases} of 40");
    assert!(leases <= 15, "{leases} of 40");
    assert_eq!(status["backends"][0]["state"], "up");
}

/// A backend that takes 50 ms for a handshake; with the most that it had at a time.
async fn slow_backend() -> (SocketAddr, Arc<AtomicUsize>) {
    // Room for all of them, so that an overflow would be Lockgate's listener's.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind(([127, 0, 0, 1], 0).into())
        .expect("a free port");
    let listener: TcpListener = socket.listen(4096).expect("it listens");
    let address = listener.local_addr().expect("bound");
    let most = Arc::new(AtomicUsize::new(0));
    let (now, seen) = (Arc::new(AtomicUsize::new(0)), most.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let now = now.clone();
            seen.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::spawn(async move {
                let mut wire = Wire::thin(stream);
                let request = wire.head().await;
                sleep(Duration::from_millis(50)).await;
                now.fetch_sub(1, SeqCst);
                wire.send(switching_protocols(&request, "")).await;
                // Until the client leaves.
                while wire.next_frame().await.is_some() {}
            });
        }
    });
    (address, most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_is_served_in_turn_and_the_backend_has_no_more_than_it_can() {
    let clients = std::env::var("LOCKGATE_CLIENTS")
        .ok()
        .and_then(|n| n.parse().ok());
    let (measured, clients) = (clients.is_some(), clients.unwrap_or(200));
    let handshakes = if measured { 64 } else { 16 };
    raise_descriptor_limit();
    let (backend, most) = slow_backend().await;
    let more =
        format!("admission = {{ handshakes = {handshakes}, queue = {clients}, wait = \"60s\" }}");
    let lockgate = Arc::new(Lockgate::with_file(&pool(&[backend], &more)).start().await);
    let (overflows, began) = (listen_overflows(), Instant::now());
    let mut storm = JoinSet::new();
    for n in 0..clients {
        let lockgate = lockgate.clone();
        storm.spawn(async move {
            let stream = lockgate.try_tls("a.test").await.expect("it lets us in");
            let mut wire = Wire::tls(stream);
            let from = format!("X-Forwarded-For: 10.0.{}.{}\r\n", n / 250, n % 250);
            wire.send(handshake("/", &from)).await;
            let asked = Instant::now();
            let mut answer = vec![];
            while !answer.ends_with(b"\r\n\r\n") {
                answer.extend(wire.exactly(1).await);
            }
            assert!(answer.starts_with(b"HTTP/1.1 101"));
            (asked.elapsed(), wire)
        });
    }
    let served = timeout(Duration::from_secs(60), storm.join_all()).await;
    let served = served.expect("all within their deadline");
    let took = began.elapsed();
    let mut waits: Vec<_> = served.iter().map(|(wait, _)| *wait).collect();
    waits.sort_unstable();
    let overflows = listen_overflows() - overflows;
    let most = most.load(SeqCst);
    println!(
        "storm: {clients} clients, {handshakes} handshakes of 50 ms at a time: {took:.2?}; at most {most} at a time; \
         waited {:.2?} in the middle, {:.2?} at most; {overflows} listen overflows",
        waits[clients / 2],
        waits[clients - 1],
    );
    assert!(most <= handshakes, "{most} at a time");
    assert_eq!(most, handshakes, "it was no storm");
    // They are the whole machine's: only where nothing else runs do they mean this test.
    assert!(!measured || overflows == 0, "{overflows} listen overflows");
    waiting_are(&lockgate, 0).await;
}

/// TcpExtListenOverflows.
fn listen_overflows() -> u64 {
    let text = std::fs::read_to_string("/proc/net/netstat").expect("Linux");
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split(' ').position(|name| name == "ListenOverflows");
    let value = at.and_then(|at| values.split(' ').nth(at));
    value
        .and_then(|value| value.parse().ok())
        .expect("a number")
}
