//! Balancing of thousands of sessions by weight: during connects, over a reload, and when a backend is added.
//!
//! `LOCKGATE_SESSIONS` sets the number of connects (2000). Half of them are HTTP/2 streams, and one in 51 closes again,
//! so that 20,000 descriptors are enough for the others. The figures are printed.

use super::file;
use crate::harness::{
    Frame, H2, Lockgate, Wire, eventually, handshake, observe, raise_descriptor_limit,
    switching_protocols,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{net::TcpListener, task::JoinSet};

/// An echo server that counts its live sessions.
struct Counting {
    address: SocketAddr,
    live: Arc<AtomicUsize>,
    weight: usize,
}

/// A client with many sessions, half of them over HTTP/2, and its HTTP/2 connections without free streams.
#[derive(Default)]
struct Worker {
    h2: Option<H2>,
    streams: usize,
    full: Vec<H2>,
    held: Vec<Wire>,
    closed: usize,
}

// === impl Counting ===

impl Counting {
    async fn new(weight: usize) -> Counting {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let live = Arc::new(AtomicUsize::new(0));
        let counted = live.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(Wire::thin(stream), counted.clone()));
            }
        });
        Counting {
            address,
            live,
            weight,
        }
    }
}

async fn echo(mut wire: Wire, live: Arc<AtomicUsize>) {
    let request = wire.head().await;
    live.fetch_add(1, SeqCst);
    wire.send(switching_protocols(&request, "")).await;
    while let Some(mut frame) = wire.next_frame().await {
        frame.masked = false;
        let last = frame.is_close();
        wire.send_frame(frame).await;
        if last {
            break;
        }
    }
    live.fetch_sub(1, SeqCst);
}

// === impl Lane ===

impl Worker {
    /// Opens sessions while there are numbers below `end`.
    async fn open(mut self, lockgate: Arc<Lockgate>, next: Arc<AtomicUsize>, end: usize) -> Worker {
        loop {
            let number = next.fetch_add(1, SeqCst);
            if number >= end {
                return self;
            }
            let mut wire = match number % 2 {
                0 => {
                    // The bare stream uses a single descriptor.
                    let mut wire = Wire::stream(lockgate.tls("a.test").await);
                    wire.send(handshake("/", "")).await;
                    assert_eq!(wire.head().await.status(), 101);
                    wire
                }
                _ => self.stream(&lockgate).await,
            };
            if number % CLOSE_EVERY != 10 {
                self.held.push(wire);
                continue;
            }
            wire.send_frame(Frame::close(1000, "")).await;
            assert_eq!(wire.frame().await, Frame::close(1000, ""));
            self.closed += 1;
        }
    }

    async fn stream(&mut self, lockgate: &Lockgate) -> Wire {
        // `limits.h2_streams`; closed streams are not replaced here.
        if self.streams == 100 {
            self.full.extend(self.h2.take());
        }
        if self.h2.is_none() {
            (self.h2, self.streams) = (Some(lockgate.h2().await), 0);
        }
        self.streams += 1;
        self.h2.as_mut().expect("just made").session("/").await
    }

    /// Checks that every open session echoes.
    async fn echo(mut self) -> (usize, usize) {
        for (number, wire) in self.held.iter_mut().enumerate() {
            let message = Frame::text(&format!("message {number}"));
            wire.send_frame(message.clone()).await;
            assert_eq!(wire.frame().await, message);
        }
        (self.held.len(), self.closed)
    }
}

/// Counts live sessions once their number is stable: returns the largest relative deviation from a share, and the
/// counts.
async fn deviation(backends: &[Counting], workers: &[Worker]) -> (f64, Vec<usize>) {
    let held: usize = workers.iter().map(|worker| worker.held.len()).sum();
    let counts = || -> Vec<usize> { backends.iter().map(|it| it.live.load(SeqCst)).collect() };
    eventually("the end of the closed sessions", async || {
        observe(counts().iter().sum(), |open: &usize| *open == held)
    })
    .await;
    let (counts, weights) = (counts(), backends.iter().map(|it| it.weight).sum::<usize>());
    let share = |backend: &Counting| (held * backend.weight) as f64 / weights as f64;
    let parts = backends.iter().zip(&counts);
    let parts = parts.map(|(backend, count)| (*count as f64 / share(backend) - 1.0).abs());
    (parts.fold(0.0, f64::max), counts)
}

/// Opens sessions up to number `end`; `action` runs after a quarter of them.
async fn open_sessions(
    lockgate: &Arc<Lockgate>,
    workers: Vec<Worker>,
    next: &Arc<AtomicUsize>,
    end: usize,
    action: impl Future<Output = ()>,
) -> Vec<Worker> {
    let open = |worker: Worker| worker.open(lockgate.clone(), next.clone(), end);
    let opening: JoinSet<_> = workers.into_iter().map(open).collect();
    let first = next.load(SeqCst);
    eventually("a quarter of the connects", async || {
        observe(next.load(SeqCst), |it| *it >= first + (end - first) / 4)
    })
    .await;
    action.await;
    let workers = opening.join_all().await;
    // Workers that stopped have taken numbers too.
    next.store(end, SeqCst);
    workers
}

fn config(backends: &[Counting], more: &str) -> String {
    let one = |it: &Counting| {
        let Counting {
            address, weight, ..
        } = it;
        format!("{{ address = \"ws://{address}\", weight = {weight} }}")
    };
    let list: Vec<_> = backends.iter().map(one).collect();
    // Idle sessions are not read, so that Pings are disabled.
    let no_pings = "access = \"off\"\n[session]\nping = { legs = \"off\" }\n[tls]";
    file(&format!("backends = [{}]", list.join(", "))).replace("[tls]", no_pings)
        + "name = \"chat\"\n"
        + more
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_sessions_are_balanced_by_weight() {
    let sessions = std::env::var("LOCKGATE_SESSIONS").ok();
    let sessions: usize = sessions.map_or(2000, |it| it.parse().expect("a number"));
    raise_descriptor_limit();
    let mut backends = vec![];
    for weight in [1, 2, 4] {
        backends.push(Counting::new(weight).await);
    }
    let lockgate = Lockgate::with_file(&config(&backends, "")).start().await;
    let lockgate = Arc::new(lockgate);
    let reload = async |text: String| {
        lockgate.write_config(&text);
        let (ok, output) = lockgate.command(&["reload"]).await;
        assert!(ok, "{output}");
    };
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers: Vec<_> = (0..WORKERS).map(|_| Worker::default()).collect();
    let mut results = vec![];

    workers = open_sessions(&lockgate, workers, &next, sessions * 2 / 5, async {}).await;
    results.push(deviation(&backends, &workers).await);
    let other = "[[routes]]\nname = \"other\"\nhosts = [\"b.test\"]\npool = \"chat\"\n";
    let reloaded = reload(config(&backends, other));
    workers = open_sessions(&lockgate, workers, &next, sessions * 3 / 5, reloaded).await;
    results.push(deviation(&backends, &workers).await);
    backends.push(Counting::new(2).await);
    let scaled_out = reload(config(&backends, ""));
    workers = open_sessions(&lockgate, workers, &next, sessions * 7 / 10, scaled_out).await;
    // The new backend gets all new sessions until it has its share, which is less than the remaining number.
    workers = open_sessions(&lockgate, workers, &next, sessions, async {}).await;
    results.push(deviation(&backends, &workers).await);

    let (mut held, mut closed) = (0, 0);
    let all: JoinSet<_> = workers.into_iter().map(Worker::echo).collect();
    for worker in all.join_all().await {
        (held, closed) = (held + worker.0, closed + worker.1);
    }
    assert_eq!(held + closed, sessions);
    println!(
        "{sessions} connects, half of them over HTTP/2, {closed} closed again, {held} are alive at the end:"
    );
    let after = [
        "1:2:4",
        "the same after a reload",
        "1:2:4:2 after a scale-out",
    ];
    for (after, (deviation, counts)) in after.iter().zip(&results) {
        println!(
            "{after}: {counts:?}, deviation {:.2} % at most",
            100.0 * deviation
        );
    }
    assert!(results.iter().all(|(deviation, _)| *deviation <= 0.02));
}

/// Clients that open one session after the other.
const WORKERS: usize = 20;
/// One session in this number is closed at once, alternating between HTTP/1.1 and HTTP/2.
const CLOSE_EVERY: usize = 51;
