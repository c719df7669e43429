//! Floods of HTTP/2 frames (CVE-2023-44487, CVE-2024-27316, CVE-2019-9512 to 9518): the connection goes, or the process
//! does not grow, and clients on other connections are hardly slowed down.
//!
//! `LOCKGATE_FLOOD` sets for how many seconds each one lasts (1, to be quick). The figures are printed.

use crate::harness::{
    Backend, Frame, Head, Lockgate, RawH2, Wire,
    raw_h2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, HELLO, PING, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, frame, hpack, read_frame,
    },
    switching_protocols, within,
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_end_or_cost_nothing_and_nobody_else_notices() {
    let seconds = std::env::var("LOCKGATE_FLOOD").ok();
    let seconds = seconds.map_or(1, |it| it.parse().expect("a number of seconds"));
    let echo = Backend::echo().await;
    let deaf = deaf().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\naccess = \"off\"\n[tls]\ndev_ca = true\n\
         [session]\nclose_timeout = \"100ms\"\n\
         [[routes]]\nname = \"deaf\"\nhosts = [\"a.test\"]\npath = \"/deaf\"\nto = \"ws://{deaf}\"\n\
         [[routes]]\nname = \"echo\"\nhosts = [\"a.test\"]\nto = \"ws://{echo}\"\n"
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut healthy = lockgate.upgrade("/", "").await;
    assert_eq!(healthy.head().await.status(), 101);
    let mut wrong = vec![];
    for flood in floods() {
        // Once for what stays: scratch buffers, the allocator's arenas.
        let lasts = Duration::from_millis(300);
        flood.run(&lockgate, Instant::now() + lasts).await;
        let mut before = trips(&mut healthy, Instant::now() + lasts).await;
        let memory = private_dirty(&lockgate);
        let until = Instant::now() + Duration::from_secs(seconds);
        let (outcome, mut during, grown) = tokio::join!(
            flood.run(&lockgate, until),
            trips(&mut healthy, until),
            growth(&lockgate, memory, until)
        );
        let p99 = [p99(&mut before), p99(&mut during)];
        println!(
            "{:<42} {outcome}, {grown:+} KiB; another's p99 {:.2} ms before, {:.2} ms during it ({} round trips)",
            flood.name,
            p99[0].as_secs_f64() * 1e3,
            p99[1].as_secs_f64() * 1e3,
            during.len(),
        );
        // The last connection is cut off by the clock.
        let goes = outcome.gone > 0 && outcome.gone + 1 >= outcome.connections;
        // A MiB or so is what the allocator has not given back yet; a byte kept of each frame would be more.
        if grown > if goes { 8 * 1024 } else { 2 * 1024 } {
            wrong.push(format!("{}: {grown} KiB more", flood.name));
        }
        // Two cores for the flood, for Lockgate and for this clock: no benchmark, only far from an outage.
        if p99[1] > Duration::from_millis(500) {
            wrong.push(format!("{}: a p99 of {:?}", flood.name, p99[1]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let stderr = lockgate.stderr();
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[tokio::test]
async fn headers_without_an_end_are_let_go() {
    let backend = Backend::listen().await;
    let limits = "[limits]\nidle = \"600ms\"\nrequest_head = \"600ms\"";
    let lockgate = Lockgate::to(backend.address).server(limits).start().await;
    let list = |path| [(":method", "GET"), (":scheme", "https"), (":path", path)];
    let begun = |stream| frame(HEADERS, END_STREAM, stream, &hpack(&list("/")));
    let refused = frame(HEADERS, END_HEADERS | END_STREAM, 1, &hpack(&list("/")));
    // The first one has `request_head`. Later ones are not known to have begun: the connection is idle, receives a GOAWAY,
    // and then has `request_head`.
    for (name, bytes, due) in [
        ("the first", begun(1), 600),
        ("a later one", [refused, begun(3)].concat(), 1200),
    ] {
        for drips in [false, true] {
            let stream = lockgate.tls_for_h2().await;
            let started = Instant::now();
            let raw = RawH2::over(stream, &[HELLO, &bytes].concat()).await;
            let (mut reader, mut writer) = tokio::io::split(raw.into_inner());
            let stream = if due == 600 { 1 } else { 3 };
            let drip = async {
                let mut pulse = tokio::time::interval(Duration::from_millis(100));
                loop {
                    pulse.tick().await;
                    let more = frame(CONTINUATION, 0, stream, b"");
                    if !drips
                        || writer.write_all(&more).await.is_err()
                        || writer.flush().await.is_err()
                    {
                        return std::future::pending::<()>().await;
                    }
                }
            };
            let over = async { while read_frame(&mut reader).await.is_some() {} };
            within("its end", async {
                tokio::select! {
                    () = drip => {}
                    () = over => {}
                }
            })
            .await;
            let took = started.elapsed().as_millis();
            println!("{name}, drips: {drips}: over after {took} ms");
            // A client that drips is disconnected earlier: a legitimate client does not send that many pieces.
            let least = if drips { 0 } else { due - 100 };
            assert!(
                (least..due + 1000).contains(&took),
                "{name}, {drips}: {took} ms"
            );
        }
    }
    assert!(backend.untouched());
}

/// What is sent again and again, in one connection until that goes, and then in the next one.
struct Flood {
    name: &'static str,
    /// What comes once, behind the preface.
    first: Vec<u8>,
    /// What comes then, for the numbers from 0.
    next: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
    /// How many of it in one connection at most.
    most: u32,
    /// The number of frames after which it waits until all of them were read.
    step: u32,
    /// Whether it takes what it is answered.
    reads: bool,
}

#[derive(Debug, Default)]
struct Outcome {
    connections: u32,
    sent: u32,
    /// Connections that ended, by GOAWAY or without it.
    gone: u32,
    /// Connections from which Lockgate stopped reading.
    stuck: u32,
}

fn floods() -> Vec<Flood> {
    let get = |authority| {
        hpack(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", authority),
            (":path", "/deaf"),
        ])
    };
    let (known, unknown) = (get("a.test"), get("b.test"));
    let open = frame(HEADERS, END_HEADERS, 1, &known);
    let upgrade = hpack(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", "/deaf"),
    ]);
    let ask =
        |block: Vec<u8>| move |n: u32| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block);
    let reset = |block: Vec<u8>| {
        let cancel = 8_u32.to_be_bytes();
        move |n: u32| {
            let ask = frame(HEADERS, END_HEADERS, 2 * n + 1, &block);
            [ask, frame(RST_STREAM, 0, 2 * n + 1, &cancel)].concat()
        }
    };
    let same = |bytes: Vec<u8>| move |_| bytes.clone();
    let begun = frame(HEADERS, END_STREAM, 1, &hpack(&[(":method", "GET")]));
    let more = |block: &[u8]| same(frame(CONTINUATION, 0, 1, block));
    vec![
        flood("rapid reset", reset(known.clone())),
        flood("rapid reset of refused requests", reset(unknown.clone())),
        flood("rapid reset, 10 at a time", reset(known.clone())).step(10),
        flood("rapid reset of WebSockets, 10 at a time", reset(upgrade))
            .step(10)
            .most(1000),
        flood("malformed requests", |n| {
            frame(
                HEADERS,
                END_HEADERS,
                2 * n + 1,
                &hpack(&[("connection", "x")]),
            )
        }),
        flood("requests beyond the limit of streams", ask(known)),
        flood("refused requests, answers unread", ask(unknown)).unread(),
        flood("CONTINUATION, empty", more(b"")).behind(&begun),
        flood("CONTINUATION, a field each", more(&hpack(&[("x-a", "1")]))).behind(&begun),
        flood(
            "CONTINUATION, of the greatest size",
            more(&hpack(&[("x-a", "x".repeat(16_000))])),
        )
        .behind(&begun)
        .most(1000),
        flood("DATA, empty", same(frame(DATA, 0, 1, b""))).behind(&open),
        flood("DATA, padding alone", same(frame(DATA, 8, 1, &[0]))).behind(&open),
        flood("PING", same(frame(PING, 0, 0, &[7; 8]))),
        flood("PING, answers unread", same(frame(PING, 0, 0, &[7; 8]))).unread(),
        flood("SETTINGS, empty", same(frame(SETTINGS, 0, 0, b""))),
        flood("SETTINGS, answers unread", same(frame(SETTINGS, 0, 0, b""))).unread(),
        flood("SETTINGS, a window to and fro", |n| {
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, n as u8, 0])
        })
        .behind(&open),
        flood(
            "WINDOW_UPDATE",
            same(frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        )
        .behind(&open),
        flood("PRIORITY", |n| frame(2, 0, 2 * n + 1, &[0, 0, 0, 0, 1])),
        flood(
            "frames of an unknown kind",
            same(frame(0x42, 0, 0, &[0; 100])),
        ),
    ]
}

fn flood(name: &'static str, next: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Flood {
    Flood {
        name,
        first: vec![],
        next: Box::new(next),
        most: 20_000,
        step: u32::MAX,
        reads: true,
    }
}

// === impl Flood ===

impl Flood {
    fn behind(mut self, first: &[u8]) -> Flood {
        self.first = first.to_vec();
        self
    }

    fn most(mut self, most: u32) -> Flood {
        self.most = most;
        self
    }

    fn step(mut self, step: u32) -> Flood {
        self.step = step;
        self
    }

    /// Reads no response, and sends until the connection accepts no further bytes.
    fn unread(mut self) -> Flood {
        (self.reads, self.most) = (false, 1 << 30);
        self
    }

    /// One connection after the other.
    async fn run(&self, lockgate: &Lockgate, until: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        while Instant::now() < until {
            outcome.connections += 1;
            self.pour(lockgate, until, &mut outcome).await;
        }
        outcome
    }

    async fn pour(&self, lockgate: &Lockgate, until: Instant, outcome: &mut Outcome) {
        let stream = lockgate.tls_for_h2().await;
        let hello = [HELLO, &self.first].concat();
        let raw = RawH2::over(stream, &hello).await;
        let (reader, mut writer) = tokio::io::split(raw.into_inner());
        let (marks, mut marked) = watch::channel(0);
        // Dropped with its handle, and `marks` is when the connection is over.
        let mut reading = JoinSet::new();
        if self.reads {
            reading.spawn(read(reader, marks));
        } else {
            reading.spawn(async move {
                let _held = (reader, marks);
                std::future::pending().await
            });
        }
        let (mut sent, mut asked) = (0, 0);
        while sent < self.most && Instant::now() < until {
            let to = sent.saturating_add(self.step.min(100)).min(self.most);
            let mut bytes: Vec<u8> = (sent..to).flat_map(&self.next).collect();
            // The answer to a PING shows that everything before it was read.
            let asks = self.reads && (self.step < 100 || to == self.most);
            if asks {
                asked += 1;
                bytes.extend(frame(PING, 0, 0, MARK));
            }
            let step = async {
                writer.write_all(&bytes).await.ok()?;
                writer.flush().await.ok()?;
                let wanted = if asks { asked } else { 0 };
                marked.wait_for(|marks| *marks >= wanted).await.ok()?;
                marked.has_changed().ok()
            };
            match timeout(PATIENCE, step).await {
                Ok(Some(_)) => outcome.sent += to - sent,
                Ok(None) => return outcome.gone += 1,
                Err(_) => return outcome.stuck += 1,
            }
            sent = to;
        }
    }
}

/// Takes what is answered and counts the marks, until the connection is over.
async fn read(mut reader: impl AsyncRead + Unpin, marks: watch::Sender<u32>) {
    while let Some(frame) = read_frame(&mut reader).await {
        match frame.kind {
            GOAWAY => return,
            PING if frame.payload == MARK => marks.send_modify(|marks| *marks += 1),
            _ => {}
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome {
            connections,
            sent,
            gone,
            stuck,
        } = self;
        write!(
            f,
            "{sent} sent in {connections} connections, {gone} gone, {stuck} stuck"
        )
    }
}

/// A backend that answers handshakes and nothing else, and reads until the end: what is asked there stays on its way.
async fn deaf() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(listen(stream));
        }
    });
    address
}

async fn listen(mut stream: TcpStream) {
    let mut head = Vec::with_capacity(1024);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut head).await {
            Ok(1..) => {}
            _ => return,
        }
    }
    let head = Head::parse(&head);
    if head.get("upgrade").is_some() {
        let answer = switching_protocols(&head, "");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

/// Round trips, one after the other.
async fn trips(healthy: &mut Wire, until: Instant) -> Vec<Duration> {
    let mut trips = vec![];
    while Instant::now() < until || trips.len() < 20 {
        let started = Instant::now();
        let message = Frame::text("still here?");
        healthy.send_frame(message.clone()).await;
        assert_eq!(healthy.frame().await, message);
        trips.push(started.elapsed());
        // A client that thinks for a moment, not one more flood.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    trips
}

fn p99(trips: &mut [Duration]) -> Duration {
    trips.sort();
    trips[trips.len() * 99 / 100]
}

/// The most that the process has grown, in KiB, looked at again and again.
async fn growth(lockgate: &Lockgate, before: i64, until: Instant) -> i64 {
    let mut most = i64::MIN;
    let mut pulse = tokio::time::interval(Duration::from_millis(50));
    while Instant::now() < until {
        pulse.tick().await;
        most = most.max(private_dirty(lockgate) - before);
    }
    most
}

/// What the process has to itself, in KiB.
fn private_dirty(lockgate: &Lockgate) -> i64 {
    let rollup = format!("/proc/{}/smaps_rollup", lockgate.id());
    let rollup = std::fs::read_to_string(rollup).expect("Linux");
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Private_Dirty:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    kib.expect("a number")
}

const MARK: &[u8; 8] = b"the last";
/// How long nothing may move before a connection counts as stuck.
const PATIENCE: Duration = Duration::from_millis(500);
