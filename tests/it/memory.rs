//! Memory per session: idle sessions, a second set of them, and sessions whose peer never reads.
//!
//! `LOCKGATE_SESSIONS` sets the number of idle sessions (1000). The figures are printed.

use crate::harness::{
    Backend, Lockgate, RawH2, Wire, eventually, handshake, observe, raise_descriptor_limit,
    raw_h2::{END_HEADERS, END_STREAM, HEADERS, HELLO, SETTINGS, WINDOW_UPDATE, frame, hpack},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::client::TlsStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_session_uses_at_most_12_kib_and_memory_is_reused() {
    let sessions = std::env::var("LOCKGATE_SESSIONS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1000);
    raise_descriptor_limit();
    let backend = Backend::quiet().await;
    let lockgate = Arc::new(
        Lockgate::to(backend)
            .server("access = \"off\"")
            .start()
            .await,
    );

    // The first sessions allocate memory that is kept: runtime, scratch buffers, the allocator's arenas.
    drop(open(&lockgate, 20).await);
    until_sessions(&lockgate, 0).await;
    let before = stable_pss(&lockgate).await;
    let first = open(&lockgate, sessions).await;
    until_sessions(&lockgate, sessions).await;
    let with_first = stable_pss(&lockgate).await;
    drop(first);
    until_sessions(&lockgate, 0).await;
    let left = stable_pss(&lockgate).await;
    let second = open(&lockgate, sessions).await;
    until_sessions(&lockgate, sessions).await;
    let with_second = stable_pss(&lockgate).await;
    drop(second);

    let each = (with_first - before) as f64 / sessions as f64;
    println!(
        "idle: {sessions} sessions, {before} KiB before, {with_first} with them: {each:.1} KiB each; {left} after; \
         {with_second} with the second set ({:+.1} %)",
        (with_second as f64 / with_first as f64 - 1.0) * 100.0
    );
    assert!(each <= 12.0, "{each:.1} KiB for an idle session");
    assert!(
        with_second as f64 <= with_first as f64 * 1.05 + ARENA,
        "the second set took {with_second} KiB after {with_first}"
    );
}

/// KiB that the allocator may reserve once, independent of the number of sessions.
const ARENA: f64 = 1024.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_use_bounded_memory() {
    let (backend, taken) = Backend::flooding().await;
    stuck(backend, taken, 200, |client| async move {
        let _held = client;
        std::future::pending::<()>().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_that_never_read_use_bounded_memory() {
    let backend = Backend::quiet().await;
    let (count, taken) = watch::channel(0_u64);
    let count = Arc::new(count);
    stuck(backend, taken, 200, move |mut client| {
        let count = count.clone();
        async move {
            let frame = flood_frame();
            let mut sent = 0;
            while let Ok(n) = client.write(&frame[sent..]).await {
                sent = (sent + n) % frame.len();
                count.send_modify(|total| *total += n as u64);
            }
        }
    })
    .await;
}

/// KiB for a response that the client does not read: three buffers of 32 KiB between the backend and the client, 64 KiB
/// towards the client, the state of the request, and a margin.
const RESPONSE_KIB: f64 = 224.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_that_are_never_read_use_bounded_memory() {
    let (backend, clients) = (endless_backend().await, 50);
    let lockgate = Lockgate::to(backend)
        .server("access = \"off\"")
        .start()
        .await;
    let before = pss(&lockgate);
    let mut held = vec![];
    for _ in 0..clients {
        let mut client = lockgate.tls("a.test").await;
        let request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        client.write_all(request).await.expect("it reads");
        held.push(client);
    }
    let each = (stable_pss(&lockgate).await - before) as f64 / f64::from(clients);
    println!("HTTP/1.1: {each:.0} KiB for a response that is not read");
    assert!(each <= RESPONSE_KIB, "{each:.0} KiB for a connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_responses_that_are_never_read_use_bounded_memory() {
    let backend = endless_backend().await;
    let lockgate = Lockgate::to(backend)
        .server("access = \"off\"")
        .start()
        .await;
    let before = pss(&lockgate);
    let bytes = unread_requests();
    let mut held = vec![];
    for _ in 0..2 {
        held.push(RawH2::over(lockgate.tls_for_h2().await, &bytes).await);
    }
    let each = (stable_pss(&lockgate).await - before) as f64 / held.len() as f64 / 100.0;
    println!("HTTP/2: {each:.0} KiB for a response that is not read");
    assert!(each <= RESPONSE_KIB, "{each:.0} KiB for a stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_requests_of_one_address_leave_memory_for_others() {
    raise_descriptor_limit();
    let backend = endless_backend().await;
    let lockgate = Lockgate::with_file(&format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\naccess = \"off\"\n[tls]\ndev_ca = true\n\
         [limits]\nmemory = \"64MiB\"\n\
         [pools.app]\nbackends = [\"ws://{backend}\"]\nadmission = {{ handshakes = 10_000 }}\n\
         [[routes]]\nhosts = [\"a.test\"]\npool = \"app\"\n"
    ))
    .start()
    .await;
    let bytes = unread_requests();
    let mut held = vec![];
    for _ in 0..10 {
        held.push(RawH2::over(lockgate.tls_for_h2().await, &bytes).await);
    }
    let refused = "lockgate_refusals_total{status=\"503\",why=\"memory-share\"}";
    let (streams, admitted) = (1000.0, 192.0);
    eventually("the surplus is refused", async || {
        let refused = lockgate.metric_or_zero(refused).await;
        observe(refused, |refused| *refused >= streams - admitted - 1.0)
    })
    .await;
    let used = stable_pss(&lockgate).await;
    println!("1,000 responses of one address that are not read: {used} KiB");
    assert!(used < 64 * 1024, "{used} KiB");

    for _ in 0..20 {
        let stream = connect_from(&lockgate, [127, 0, 0, 2]).await;
        let mut other = Wire::tls(lockgate.tls_over(stream).await.expect("it is accepted"));
        other.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        assert_eq!(other.head().await.status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scarce_memory_is_refused_to_the_address_that_holds_much_of_it() {
    let backend = Backend::echo().await;
    // The process itself uses more than this.
    let lockgate = Lockgate::to(backend)
        .with("[limits]\nmemory = \"1MiB\"\n")
        .start()
        .await;
    let _session = lockgate.echo_session().await;
    let mut refused = lockgate.upgrade("/", "").await;
    assert_eq!(refused.head().await.status(), 503);
    assert!(lockgate.try_tls("a.test").await.is_err());
    let failures = "lockgate_connection_failures_total{why=\"memory-share\"}";
    lockgate.until_metric(failures, 1.0).await;
    let stream = connect_from(&lockgate, [127, 0, 0, 2]).await;
    let mut other = Wire::tls(lockgate.tls_over(stream).await.expect("it is accepted"));
    other.send(&handshake("/", "")).await;
    assert_eq!(other.head().await.status(), 101);
}

/// Connects from `address`.
async fn connect_from(lockgate: &Lockgate, address: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((address, 0).into()).expect("loopback");
    socket.connect(lockgate.https).await.expect("it listens")
}

/// Encodes the start of an HTTP/2 connection with 100 requests whose responses have an unlimited window.
fn unread_requests() -> Vec<u8> {
    let list = hpack(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", "/"),
    ]);
    let window = (i32::MAX as u32).to_be_bytes();
    // SETTINGS_INITIAL_WINDOW_SIZE, and the same for the connection.
    let mut bytes = [
        HELLO,
        &frame(SETTINGS, 0, 0, &[&[0, 4][..], &window].concat()),
        &frame(
            WINDOW_UPDATE,
            0,
            0,
            &(i32::MAX as u32 - 65_535).to_be_bytes(),
        ),
    ]
    .concat();
    for stream in 0..100 {
        bytes.extend(frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            2 * stream + 1,
            &list,
        ));
    }
    bytes
}

/// Starts a backend that answers with a body without end.
async fn endless_backend() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
                let _ = stream.read(&mut [0; 4096]).await;
                let mut sent = stream.write_all(head).await;
                while sent.is_ok() {
                    sent = stream.write_all(&[0; 65_536]).await;
                }
            });
        }
    });
    address
}

/// Returns the memory once it has not changed for a second: the allocator returns what is free within a second.
async fn stable_pss(lockgate: &Lockgate) -> u64 {
    let (mut last, mut checks) = (pss(lockgate), 0);
    let mut stable = 0;
    while stable < 10 && checks < 200 {
        // The span of the measurement.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = pss(lockgate);
        stable = if now.abs_diff(last) <= 64 {
            stable + 1
        } else {
            0
        };
        (last, checks) = (now, checks + 1);
    }
    last
}

/// Opens sessions in which one side sends without limit and the other never reads, until no bytes move.
async fn stuck<F: Future<Output = ()> + Send + 'static>(
    backend: std::net::SocketAddr,
    mut taken: watch::Receiver<u64>,
    sessions: usize,
    run_client: impl Fn(TlsStream<TcpStream>) -> F,
) {
    raise_descriptor_limit();
    let lockgate = Arc::new(
        Lockgate::to(backend)
            .with("session = { max_frame = \"1GiB\", max_message = \"1GiB\" }")
            .start()
            .await,
    );
    drop(open(&lockgate, 5).await);
    until_sessions(&lockgate, 0).await;
    let before = pss(&lockgate);
    // Bytes that the first sessions sent while they were closed.
    let sent_before = *taken.borrow();
    let mut clients = JoinSet::new();
    for client in open(&lockgate, sessions).await {
        clients.spawn(run_client(client));
    }
    until_sessions(&lockgate, sessions).await;
    // Blocked: the sender's count has stood still for a second.
    while let Ok(changed) = tokio::time::timeout(Duration::from_secs(1), taken.changed()).await {
        changed.expect("the sender lives");
    }
    let sent = *taken.borrow() - sent_before;
    let each = (pss(&lockgate).saturating_sub(before)) as f64 / sessions as f64;
    println!(
        "stuck: {sessions} sessions, {} MiB sent before all stood still, {each:.1} KiB each",
        sent >> 20
    );
    assert!(each <= 256.0, "{each:.1} KiB for a stuck session");
}

/// Opens `sessions` sessions, a few at a time.
async fn open(lockgate: &Arc<Lockgate>, sessions: usize) -> Vec<TlsStream<TcpStream>> {
    let handshakes = Arc::new(Semaphore::new(32));
    let mut opening = JoinSet::new();
    for _ in 0..sessions {
        let (lockgate, handshakes) = (lockgate.clone(), handshakes.clone());
        opening.spawn(async move {
            let _permit = handshakes.acquire_owned().await.expect("never closed");
            let mut client = lockgate.tls("a.test").await;
            client
                .write_all(handshake("/", "").as_bytes())
                .await
                .expect("it reads");
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.expect("a whole head"));
            }
            assert!(
                head.starts_with(b"HTTP/1.1 101"),
                "{}",
                String::from_utf8_lossy(&head)
            );
            client
        });
    }
    opening.join_all().await
}

async fn until_sessions(lockgate: &Lockgate, expected: usize) {
    eventually(format!("{expected} sessions"), async || {
        observe(lockgate.status().await, |it| it["sessions"] == expected)
    })
    .await;
}

/// A client's frame of 1 MiB, the size of one write.
fn flood_frame() -> Vec<u8> {
    crate::harness::Frame::binary(&vec![0x55; 1 << 20])
        .masked()
        .encode()
}

/// Proportional anonymous memory of the process in KiB, without the mapped binary.
fn pss(lockgate: &Lockgate) -> u64 {
    let rollup =
        std::fs::read_to_string(format!("/proc/{}/smaps_rollup", lockgate.id())).expect("Linux");
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Pss_Anon:"))
        .expect("a line for it");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number")
}
