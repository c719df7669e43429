//! Floods of HTTP/2 frames (CVE-2023-44487, CVE-2024-27316, CVE-2019-9512 to 9518): the connection is closed, or the
//! process does not grow, and clients on other connections are hardly slowed down.
//!
//! `LOCKGATE_FLOOD` sets the duration of each flood in seconds (1). The figures are printed.

use crate::harness::{
    Backend, Frame, Head, Lockgate, RawH2, Wire, eventually, observe,
    raw_h2::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, HELLO, PING, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, frame, hpack, read_frame,
    },
    switching_protocols, within,
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::pin,
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
async fn h2_floods_neither_grow_memory_nor_delay_other_clients() {
    let seconds = std::env::var("LOCKGATE_FLOOD").ok();
    let seconds = seconds.map_or(1, |it| it.parse().expect("a number of seconds"));
    let echo = Backend::echo().await;
    let silent_backend = silent_backend().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\naccess = \"off\"\n[tls]\ndev_ca = true\n\
         [session]\nclose_timeout = \"100ms\"\n\
         [[routes]]\nname = \"silent\"\nhosts = [\"a.test\"]\npath = \"/silent\"\nto = \"ws://{silent_backend}\"\n\
         [[routes]]\nname = \"echo\"\nhosts = [\"a.test\"]\nto = \"ws://{echo}\"\n"
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    let mut wrong = vec![];
    for flood in floods() {
        // A first run allocates memory that is kept: scratch buffers, the allocator's arenas.
        let warm_up = Duration::from_millis(300);
        flood.run(&lockgate, Instant::now() + warm_up).await;
        let mut before = round_trips(&mut client, Instant::now() + warm_up).await;
        let memory = private_dirty(&lockgate);
        let until = Instant::now() + Duration::from_secs(seconds);
        let (outcome, mut during, grown) = tokio::join!(
            flood.run(&lockgate, until),
            round_trips(&mut client, until),
            growth(&lockgate, memory, until)
        );
        let p99 = [p99(&mut before), p99(&mut during)];
        println!(
            "{:<42} {outcome}, {grown:+} KiB; p99 of another client {:.2} ms before, {:.2} ms during it ({} round trips)",
            flood.name,
            p99[0].as_secs_f64() * 1e3,
            p99[1].as_secs_f64() * 1e3,
            during.len(),
        );
        // The end of the run interrupts the last connection, and a loaded machine may delay others.
        let closed =
            outcome.closed_connections > 0 && 2 * outcome.closed_connections >= outcome.connections;
        // The allocator may retain about one MiB; one byte kept per frame would exceed the limit.
        if grown > if closed { 8 * 1024 } else { 2 * 1024 } {
            wrong.push(format!("{}: {grown} KiB more", flood.name));
        }
        // Flood, Lockgate and this client share two cores with other processes: the limit only rules out an outage.
        if p99[1] > Duration::from_millis(500).max(20 * p99[0]) {
            wrong.push(format!("{}: a p99 of {:?}", flood.name, p99[1]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let stderr = lockgate.stderr();
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[tokio::test]
async fn unfinished_header_block_is_closed_at_its_deadline() {
    let backend = Backend::listen().await;
    let limits = "[limits]\nidle = \"600ms\"\nrequest_head = \"600ms\"";
    let lockgate = Lockgate::to(backend.address).server(limits).start().await;
    let list = |path| [(":method", "GET"), (":scheme", "https"), (":path", path)];
    let begun = |stream| frame(HEADERS, END_STREAM, stream, &hpack(&list("/")));
    let refused = frame(HEADERS, END_HEADERS | END_STREAM, 1, &hpack(&list("/")));
    // The first request is limited by `request_head`. A later one is not yet known to have begun: the connection counts
    // as idle, receives a GOAWAY, and is then limited by `request_head`.
    for (name, bytes, due) in [
        ("the first", begun(1), 600),
        ("a later one", [refused, begun(3)].concat(), 1200),
    ] {
        for drips in [false, true] {
            // The deadline begins at some time during the TLS handshake of this client.
            let started = Instant::now();
            let stream = lockgate.tls_for_h2().await;
            let raw = RawH2::over(stream, &[HELLO, &bytes].concat()).await;
            let (mut reader, mut writer) = tokio::io::split(raw.into_inner());
            let stream = if due == 600 { 1 } else { 3 };
            let drip = async {
                let mut ticker = tokio::time::interval(Duration::from_millis(100));
                loop {
                    ticker.tick().await;
                    let more = frame(CONTINUATION, 0, stream, b"");
                    if !drips
                        || writer.write_all(&more).await.is_err()
                        || writer.flush().await.is_err()
                    {
                        return std::future::pending::<()>().await;
                    }
                }
            };
            let closed = async { while read_frame(&mut reader).await.is_some() {} };
            within("the close of the connection", async {
                tokio::select! {
                    () = drip => {}
                    () = closed => {}
                }
            })
            .await;
            let took = started.elapsed().as_millis();
            println!("{name}, drips: {drips}: over after {took} ms");
            // A client that drips may be disconnected earlier because it sends too many CONTINUATION frames.
            let min = if drips { 0 } else { due - 100 };
            assert!(
                (min..due + 10_000).contains(&took),
                "{name}, {drips}: {took} ms"
            );
        }
    }
    assert!(backend.untouched());
}

#[tokio::test]
async fn unread_small_frames_of_one_connection_pin_at_most_32_mib() {
    let echo = Backend::echo().await;
    let setup = Lockgate::to(echo).with("session = { messages_per_second = 5 }");
    let lockgate = setup.server("access = \"off\"").start().await;
    let connect = hpack(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", "/"),
        ("sec-websocket-version", "13"),
    ]);
    let streams = || (0..30).map(|n| 2 * n + 1);
    let opened = streams().map(|stream| frame(HEADERS, END_HEADERS, stream, &connect));
    let hello = [HELLO.to_vec(), opened.collect::<Vec<_>>().concat()].concat();
    let mut raw = RawH2::over(lockgate.tls_for_h2().await, &hello).await;
    eventually("all sessions", async || {
        observe(lockgate.status().await, |status| status["sessions"] == 30)
    })
    .await;
    // Each session reads these messages, which it may forward at a low rate, and then reads no further bytes.
    let messages = Frame::text("x").masked().encode().repeat(2300);
    for stream in streams() {
        raw.try_send(&frame(DATA, 0, stream, &messages).repeat(4))
            .await;
    }
    let mut credit = HashMap::new();
    while credit.values().filter(|bytes| **bytes > 30_000).count() < 25 {
        let frame = raw.frame().await.expect("the connection is open");
        if frame.kind == WINDOW_UPDATE
            && frame.stream != 0
            && let Some(increment) = frame.payload.first_chunk()
        {
            *credit.entry(frame.stream).or_insert(0) += u32::from_be_bytes(*increment);
        }
    }
    let before = private_dirty(&lockgate);
    let (mut reader, mut writer) = tokio::io::split(raw.into_inner());
    let send = async {
        for (stream, bytes) in credit {
            let frames = frame(DATA, 0, stream, b"x").repeat(bytes.min(9000) as usize);
            if writer.write_all(&frames).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
        // The answer shows that the frames were read.
        let _ = writer.write_all(&frame(PING, 0, 0, MARK)).await;
        let _ = writer.flush().await;
    };
    let read = async {
        while let Some(frame) = read_frame(&mut reader).await {
            if frame.kind == GOAWAY || frame.kind == PING && frame.payload == MARK {
                break;
            }
        }
    };
    let mut transfer = pin!(async { tokio::join!(send, read) });
    let mut ticker = tokio::time::interval(Duration::from_millis(20));
    let mut grown = 0;
    within("the end of the frames or of the connection", async {
        loop {
            let done = tokio::select! {
                _ = &mut transfer => true,
                _ = ticker.tick() => false,
            };
            grown = grown.max(private_dirty(&lockgate) - before);
            if done {
                break;
            }
        }
    })
    .await;
    println!("unread small frames: {grown:+} KiB");
    assert!(grown < 32 * 1024, "{grown} KiB more");
}

/// Frames that are repeated on one connection until it is closed, and then on the next one.
struct Flood {
    name: &'static str,
    /// Bytes sent once, after the preface.
    first: Vec<u8>,
    /// The repeated bytes, by number from 0.
    next: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
    /// Maximum number of repetitions per connection.
    max: u32,
    /// Number of repetitions after which the client waits until all of them have been read.
    step: u32,
    /// Whether the client reads responses.
    reads: bool,
}

#[derive(Debug, Default)]
struct Outcome {
    connections: u32,
    sent: u32,
    /// Connections that ended, by GOAWAY or without it.
    closed_connections: u32,
    /// Connections from which Lockgate stopped reading.
    stuck: u32,
}

fn floods() -> Vec<Flood> {
    let get = |authority| {
        hpack(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", authority),
            (":path", "/silent"),
        ])
    };
    let (known, unknown) = (get("a.test"), get("b.test"));
    let open = frame(HEADERS, END_HEADERS, 1, &known);
    let upgrade = hpack(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", "/silent"),
    ]);
    let request =
        |block: Vec<u8>| move |n: u32| frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block);
    let reset = |block: Vec<u8>| {
        let cancel = 8_u32.to_be_bytes();
        move |n: u32| {
            let request = frame(HEADERS, END_HEADERS, 2 * n + 1, &block);
            [request, frame(RST_STREAM, 0, 2 * n + 1, &cancel)].concat()
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
            .max(1000),
        flood("malformed requests", |n| {
            frame(
                HEADERS,
                END_HEADERS,
                2 * n + 1,
                &hpack(&[("connection", "x")]),
            )
        }),
        flood("requests beyond the limit of streams", request(known)),
        flood("refused requests, answers unread", request(unknown)).unread(),
        flood("CONTINUATION, empty", more(b"")).behind(&begun),
        flood("CONTINUATION, a field each", more(&hpack(&[("x-a", "1")]))).behind(&begun),
        flood(
            "CONTINUATION, of the maximum size",
            more(&hpack(&[("x-a", "x".repeat(16_000))])),
        )
        .behind(&begun)
        .max(1000),
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
        max: 20_000,
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

    fn max(mut self, max: u32) -> Flood {
        self.max = max;
        self
    }

    fn step(mut self, step: u32) -> Flood {
        self.step = step;
        self
    }

    /// Reads no response, and sends until the connection accepts no further bytes.
    fn unread(mut self) -> Flood {
        (self.reads, self.max) = (false, 1 << 30);
        self
    }

    /// Floods one connection after the other until `until`.
    async fn run(&self, lockgate: &Lockgate, until: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        while Instant::now() < until {
            outcome.connections += 1;
            self.run_connection(lockgate, until, &mut outcome).await;
        }
        outcome
    }

    async fn run_connection(&self, lockgate: &Lockgate, until: Instant, outcome: &mut Outcome) {
        let stream = lockgate.tls_for_h2().await;
        let hello = [HELLO, &self.first].concat();
        let raw = RawH2::over(stream, &hello).await;
        let (reader, mut writer) = tokio::io::split(raw.into_inner());
        let (marks, mut marks_rx) = watch::channel(0);
        // The task owns `marks`, which is dropped when the connection is closed.
        let mut reading = JoinSet::new();
        if self.reads {
            reading.spawn(read(reader, marks));
        } else {
            reading.spawn(async move {
                let _held = (reader, marks);
                std::future::pending().await
            });
        }
        let (mut sent, mut pings) = (0, 0);
        while sent < self.max && Instant::now() < until {
            let to = sent.saturating_add(self.step.min(100)).min(self.max);
            let mut bytes: Vec<u8> = (sent..to).flat_map(&self.next).collect();
            // The answer to a PING shows that everything before it was read.
            let marks_end = self.reads && (self.step < 100 || to == self.max);
            if marks_end {
                pings += 1;
                bytes.extend(frame(PING, 0, 0, MARK));
            }
            let step = async {
                writer.write_all(&bytes).await.ok()?;
                writer.flush().await.ok()?;
                let expected = if marks_end { pings } else { 0 };
                marks_rx.wait_for(|marks| *marks >= expected).await.ok()?;
                marks_rx.has_changed().ok()
            };
            match timeout(STUCK_AFTER, step).await {
                Ok(Some(_)) => outcome.sent += to - sent,
                Ok(None) => return outcome.closed_connections += 1,
                Err(_) => return outcome.stuck += 1,
            }
            sent = to;
        }
    }
}

/// Reads responses and counts the marks until the connection is closed.
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
            closed_connections,
            stuck,
        } = self;
        write!(
            f,
            "{sent} sent in {connections} connections, {closed_connections} closed, {stuck} stuck"
        )
    }
}

/// Starts a backend that answers handshakes only and reads until the end, so that other requests stay open.
async fn silent_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_handshake(stream));
        }
    });
    address
}

async fn answer_handshake(mut stream: TcpStream) {
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

/// Durations of consecutive echoes.
async fn round_trips(client: &mut Wire, until: Instant) -> Vec<Duration> {
    let mut round_trips = vec![];
    while Instant::now() < until || round_trips.len() < 20 {
        let started = Instant::now();
        let message = Frame::text("still here?");
        client.send_frame(message.clone()).await;
        assert_eq!(client.frame().await, message);
        round_trips.push(started.elapsed());
        // A pause, so that this client is not a flood itself.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    round_trips
}

fn p99(round_trips: &mut [Duration]) -> Duration {
    round_trips.sort();
    round_trips[round_trips.len() * 99 / 100]
}

/// The maximum growth of the process until `until`, in KiB.
async fn growth(lockgate: &Lockgate, before: i64, until: Instant) -> i64 {
    let mut max = i64::MIN;
    let mut ticker = tokio::time::interval(Duration::from_millis(50));
    while Instant::now() < until {
        ticker.tick().await;
        max = max.max(private_dirty(lockgate) - before);
    }
    max
}

/// The private dirty memory of the process, in KiB.
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
/// Time without progress after which a connection counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);
