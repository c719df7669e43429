//! Live sessions by weight, of thousands: while they come, over a reload, and when another backend is added.
//!
//! `LOCKGATE_SESSIONS` sets how many connects there are (2000, to be quick). Half of them are streams of HTTP/2, and one
//! of 51 leaves again: of 20,000 descriptors Lockgate has enough for those that stay. The figures are printed.

use super::file;
use crate::harness::{
    Frame, H2, Lockgate, Wire, handshake, raise_descriptor_limit, switching_protocols, within,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

/// An echo server that counts its live sessions.
struct Counting {
    address: SocketAddr,
    live: Arc<AtomicUsize>,
    weight: usize,
}

/// A client with many sessions, one of two over HTTP/2, and those of its connections that are used up.
#[derive(Default)]
struct Lane {
    h2: Option<H2>,
    streams: usize,
    used_up: Vec<H2>,
    held: Vec<Wire>,
    left: usize,
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

impl Lane {
    /// Opens sessions for as long as there are numbers below `most`.
    async fn open(mut self, lockgate: Arc<Lockgate>, next: Arc<AtomicUsize>, most: usize) -> Lane {
        loop {
            let number = next.fetch_add(1, SeqCst);
            if number >= most {
                return self;
            }
            let mut wire = match number % 2 {
                0 => {
                    // A single descriptor.
                    let mut wire = Wire::stream(lockgate.tls("a.test").await);
                    wire.send(handshake("/", "")).await;
                    assert_eq!(wire.head().await.status(), 101);
                    wire
                }
                _ => self.stream(&lockgate).await,
            };
            if number % LEAVES != 10 {
                self.held.push(wire);
                continue;
            }
            wire.send_frame(Frame::close(1000, "")).await;
            assert_eq!(wire.frame().await, Frame::close(1000, ""));
            self.left += 1;
        }
    }

    async fn stream(&mut self, lockgate: &Lockgate) -> Wire {
        // `limits.h2_streams`, and those that leave make room for none.
        if self.streams == 100 {
            self.used_up.extend(self.h2.take());
        }
        if self.h2.is_none() {
            (self.h2, self.streams) = (Some(lockgate.h2().await), 0);
        }
        self.streams += 1;
        self.h2.as_mut().expect("just made").session("/").await
    }

    /// All that are held are alive.
    async fn echo(mut self) -> (usize, usize) {
        for (number, wire) in self.held.iter_mut().enumerate() {
            let message = Frame::text(&format!("message {number}"));
            wire.send_frame(message.clone()).await;
            assert_eq!(wire.frame().await, message);
        }
        (self.held.len(), self.left)
    }
}

/// Counts live sessions once their number is stable: returns the largest relative deviation from a share, and the counts.
async fn off(backends: &[Counting], lanes: &[Lane]) -> (f64, Vec<usize>) {
    let held: usize = lanes.iter().map(|lane| lane.held.len()).sum();
    let counts = || -> Vec<usize> { backends.iter().map(|it| it.live.load(SeqCst)).collect() };
    within("the end of those that leave", async {
        while counts().iter().sum::<usize>() != held {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let (counts, weights) = (counts(), backends.iter().map(|it| it.weight).sum::<usize>());
    let share = |backend: &Counting| (held * backend.weight) as f64 / weights as f64;
    let parts = backends.iter().zip(&counts);
    let parts = parts.map(|(backend, count)| (*count as f64 / share(backend) - 1.0).abs());
    (parts.fold(0.0, f64::max), counts)
}

/// The lanes after so many connects in all, which go on while `meanwhile` happens.
async fn connects(
    lockgate: &Arc<Lockgate>,
    lanes: Vec<Lane>,
    next: &Arc<AtomicUsize>,
    most: usize,
    meanwhile: impl Future<Output = ()>,
) -> Vec<Lane> {
    let open = |lane: Lane| lane.open(lockgate.clone(), next.clone(), most);
    let opening: JoinSet<_> = lanes.into_iter().map(open).collect();
    let first = next.load(SeqCst);
    let begun = async {
        while next.load(SeqCst) < first + (most - first) / 4 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    within("a quarter of them", begun).await;
    meanwhile.await;
    let lanes = opening.join_all().await;
    // Those who found none left took numbers too.
    next.store(most, SeqCst);
    lanes
}

fn config(backends: &[Counting], more: &str) -> String {
    let one = |it: &Counting| {
        let Counting {
            address, weight, ..
        } = it;
        format!("{{ address = \"ws://{address}\", weight = {weight} }}")
    };
    let list: Vec<_> = backends.iter().map(one).collect();
    // There is no reader where no message is expected.
    let quiet = "access = \"off\"\n[session]\nping = { legs = \"off\" }\n[tls]";
    file(&format!("backends = [{}]", list.join(", "))).replace("[tls]", quiet)
        + "name = \"chat\"\n"
        + more
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_are_shared_by_weight_over_a_reload_and_a_scale_out() {
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
        let (well, said) = lockgate.tell(&["reload"]).await;
        assert!(well, "{said}");
    };
    let next = Arc::new(AtomicUsize::new(0));
    let mut lanes: Vec<_> = (0..LANES).map(|_| Lane::default()).collect();
    let mut worst = vec![];

    lanes = connects(&lockgate, lanes, &next, sessions * 2 / 5, async {}).await;
    worst.push(off(&backends, &lanes).await);
    let other = "[[routes]]\nname = \"other\"\nhosts = [\"b.test\"]\npool = \"chat\"\n";
    let reloaded = reload(config(&backends, other));
    lanes = connects(&lockgate, lanes, &next, sessions * 3 / 5, reloaded).await;
    worst.push(off(&backends, &lanes).await);
    backends.push(Counting::new(2).await);
    let scaled_out = reload(config(&backends, ""));
    lanes = connects(&lockgate, lanes, &next, sessions * 7 / 10, scaled_out).await;
    // It takes all that is new until it has its share, which is less than what is to come.
    lanes = connects(&lockgate, lanes, &next, sessions, async {}).await;
    worst.push(off(&backends, &lanes).await);

    let (mut held, mut left) = (0, 0);
    let all: JoinSet<_> = lanes.into_iter().map(Lane::echo).collect();
    for lane in all.join_all().await {
        (held, left) = (held + lane.0, left + lane.1);
    }
    assert_eq!(held + left, sessions);
    println!(
        "{sessions} connects, half of them over HTTP/2, {left} left again, {held} are alive at the end:"
    );
    let after = [
        "1:2:4",
        "the same after a reload",
        "1:2:4:2 after a scale-out",
    ];
    for (after, (off, counts)) in after.iter().zip(&worst) {
        println!("{after}: {counts:?}, {:.2} % off at most", 100.0 * off);
    }
    assert!(worst.iter().all(|(off, _)| *off <= 0.02));
}

/// Clients that open one session after the other.
const LANES: usize = 20;
/// One of so many sessions ends at once: of either kind in turn.
const LEAVES: usize = 51;
