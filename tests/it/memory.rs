//! What sessions cost in memory: idle ones, a second wave of them, and ones whose peer never reads.
//!
//! `LOCKGATE_SESSIONS` sets how many idle sessions there are (1000, to be quick). The figures are printed.

use crate::harness::{Backend, Lockgate, handshake, raise_descriptor_limit, within};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::client::TlsStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_costs_little_and_a_second_wave_no_more() {
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

    // The first ones warm up what stays: the runtime, the scratch buffers, the allocator's arenas.
    drop(open(&lockgate, 20).await);
    sessions_are(&lockgate, 0).await;
    let before = pss(&lockgate);
    let first = open(&lockgate, sessions).await;
    sessions_are(&lockgate, sessions).await;
    let with_first = pss(&lockgate);
    drop(first);
    sessions_are(&lockgate, 0).await;
    let left = pss(&lockgate);
    let second = open(&lockgate, sessions).await;
    sessions_are(&lockgate, sessions).await;
    let with_second = pss(&lockgate);
    drop(second);

    let each = (with_first - before) as f64 / sessions as f64;
    println!(
        "idle: {sessions} sessions, {before} KiB before, {with_first} with them: {each:.1} KiB each; {left} after; \
         {with_second} in the second wave ({:+.1} %)",
        (with_second as f64 / with_first as f64 - 1.0) * 100.0
    );
    assert!(each <= 12.0, "{each:.1} KiB for an idle session");
    assert!(
        with_second as f64 <= with_first as f64 * 1.05 + ARENA,
        "the second wave took {with_second} KiB after {with_first}"
    );
}

/// KiB that the allocator takes once, whatever the number of sessions: it counts only where there are few.
const ARENA: f64 = 1024.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_cost_a_buffer_each_and_stop_the_backend() {
    let (backend, taken) = Backend::flooding().await;
    stuck(backend, taken, 200, |client| async move {
        let _held = client;
        std::future::pending::<()>().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_that_never_read_cost_a_buffer_each_and_stop_the_client() {
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

/// Opens sessions in which one side sends without limit and the other never reads, until no bytes move.
async fn stuck<F: Future<Output = ()> + Send + 'static>(
    backend: std::net::SocketAddr,
    mut taken: watch::Receiver<u64>,
    sessions: usize,
    play: impl Fn(TlsStream<TcpStream>) -> F,
) {
    raise_descriptor_limit();
    let lockgate = Arc::new(
        Lockgate::to(backend)
            .with("session = { max_frame = \"1GiB\", max_message = \"1GiB\" }")
            .start()
            .await,
    );
    drop(open(&lockgate, 5).await);
    sessions_are(&lockgate, 0).await;
    let before = pss(&lockgate);
    // What the first ones sent while they were being closed.
    let already = *taken.borrow();
    let mut playing = JoinSet::new();
    for client in open(&lockgate, sessions).await {
        playing.spawn(play(client));
    }
    sessions_are(&lockgate, sessions).await;
    // Blocked: the sender's count has stood still for a second.
    while let Ok(changed) = tokio::time::timeout(Duration::from_secs(1), taken.changed()).await {
        changed.expect("the sender lives");
    }
    let sent = *taken.borrow() - already;
    let each = (pss(&lockgate).saturating_sub(before)) as f64 / sessions as f64;
    println!(
        "stuck: {sessions} sessions, {} MiB sent before all stood still, {each:.1} KiB each",
        sent >> 20
    );
    assert!(each <= 256.0, "{each:.1} KiB for a stuck session");
}

/// Opens `sessions` sessions, a few at a time.
async fn open(lockgate: &Arc<Lockgate>, sessions: usize) -> Vec<TlsStream<TcpStream>> {
    let few = Arc::new(Semaphore::new(32));
    let mut opening = JoinSet::new();
    for _ in 0..sessions {
        let (lockgate, few) = (lockgate.clone(), few.clone());
        opening.spawn(async move {
            let _turn = few.acquire_owned().await.expect("never closed");
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

async fn sessions_are(lockgate: &Lockgate, wanted: usize) {
    within("the sessions' number", async {
        while lockgate.status().await["sessions"] != wanted {}
    })
    .await;
}

/// A client's frame of 1 MiB, as long as what is written at once.
fn flood_frame() -> Vec<u8> {
    crate::harness::Frame::binary(&vec![0x55; 1 << 20])
        .masked()
        .encode()
}

/// Anonymous memory in KiB (proportional): what the process holds, without the program, which other processes share.
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
