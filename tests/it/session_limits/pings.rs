//! Lockgate's Pings between relayed frames, among them fragments and frames of 16 MiB: no byte is changed, Pongs to
//! Lockgate's Pings are consumed, all others are relayed.
//!
//! `LOCKGATE_SESSIONS` and `LOCKGATE_SECONDS` set the number and the duration of the sessions (20 and 3; 500 and 20 are
//! the 10,000 session-seconds of the figure). The figures are printed.

use crate::harness::{Backend, Frame, Lockgate, Wire, handshake, raise_descriptor_limit};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A pseudo-random sequence of frames, among them Pings. One side sends it; the other side sends only Pongs, so that
/// Lockgate pings it between the frames.
struct Stream {
    seed: u64,
    huge: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counters {
    frames: u64,
    bytes: u64,
    lockgate_pings: u64,
    peer_pings: u64,
}

// === impl Stream ===

impl Stream {
    /// The next pseudo-random number (xorshift64), equal on both sides.
    fn next(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    /// The frames of the next message: one or several, sometimes with a Ping in between, sometimes one of 16 MiB.
    fn message(&mut self) -> Vec<Frame> {
        if self.huge && self.next(40) == 0 {
            return vec![Frame::binary(&self.payload(16 << 20))];
        }
        let fragments = 1 + self.next(6);
        let mut frames = Vec::new();
        for i in 0..fragments {
            let len = match self.next(8) {
                0 => 0,
                1..6 => self.next(200),
                _ => self.next(20_000),
            };
            let payload = self.payload(len as usize);
            frames.push(Frame {
                fin: i + 1 == fragments,
                ..Frame::new(if i == 0 { 2 } else { 0 }, &payload)
            });
            if self.next(10) == 0 {
                frames.push(Frame::ping(format!("foreign {}", self.seed).as_bytes()));
            }
        }
        frames
    }

    fn payload(&mut self, len: usize) -> Vec<u8> {
        let start = self.next(256) as usize;
        (0..len).map(|i| (start + i) as u8).collect()
    }
}

/// Sends messages until `until`, then a text; checks that only the Pongs to its own Pings return.
async fn send(mut wire: Wire, mut stream: Stream, until: Instant) -> Counters {
    let mut counters = Counters::default();
    let mut pings = Vec::new();
    while Instant::now() < until {
        for frame in stream.message() {
            if frame.opcode == 9 {
                pings.push(frame.payload.clone());
            }
            let frame = if wire.is_client() {
                frame.masked()
            } else {
                frame
            };
            let bytes = frame.encode();
            let mut sent = 0;
            while sent < bytes.len() {
                sent += wire
                    .try_send(&bytes[sent..])
                    .await
                    .expect("the session lives");
            }
            wire.flush().await;
        }
        // A pause, so that Lockgate's Pings and the other sessions get a turn.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    wire.send_frame(Frame::text("the end")).await;
    for payload in &pings {
        let pong = next_frame_but_ping(&mut wire).await;
        assert_eq!(
            (pong.opcode, &pong.payload),
            (10, payload),
            "a Pong to its own Ping"
        );
        counters.peer_pings += 1;
    }
    let end = next_frame_but_ping(&mut wire).await;
    assert_eq!(
        end.payload, b"the end too",
        "no Pong to a Ping of Lockgate's"
    );
    counters
}

/// The next frame other than a Ping; on a slow machine Lockgate pings this side too.
async fn next_frame_but_ping(wire: &mut Wire) -> Frame {
    loop {
        let frame = wire.next_frame().await.expect("the session lives");
        if frame.opcode != 9 {
            return frame;
        }
        wire.send_frame(Frame::pong(&frame.payload)).await;
    }
}

/// Checks the frames of the same sequence, and answers every Ping.
async fn receive(mut wire: Wire, mut stream: Stream) -> Counters {
    let mut counters = Counters::default();
    let mut expected = std::collections::VecDeque::new();
    loop {
        let frame = wire.next_frame().await.expect("the session lives");
        counters.frames += 1;
        counters.bytes += frame.payload.len() as u64;
        if frame.opcode == 9 {
            wire.send_frame(Frame::pong(&frame.payload)).await;
            if frame.payload.len() == 12 && !frame.payload.starts_with(b"foreign") {
                counters.lockgate_pings += 1;
                continue;
            }
        }
        if frame.opcode == 1 {
            assert_eq!(frame.payload, b"the end");
            assert!(expected.is_empty(), "a message is incomplete");
            wire.send_frame(Frame::text("the end too")).await;
            return counters;
        }
        if expected.is_empty() {
            expected.extend(stream.message());
        }
        let sent = expected.pop_front().expect("a message has frames");
        assert!(
            (frame.fin, frame.opcode) == (sent.fin, sent.opcode) && frame.payload == sent.payload,
            "frame {} is not the one that was sent",
            counters.frames
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_of_lockgate_are_transparent_to_both_peers() {
    let number = |name: &str, default: u64| {
        let set = std::env::var(name).ok();
        set.map_or(default, |it| it.parse().expect("a number"))
    };
    let sessions = number("LOCKGATE_SESSIONS", 20);
    let span = Duration::from_secs(number("LOCKGATE_SECONDS", 3));
    raise_descriptor_limit();
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address)
        .with("session = { ping = { interval = \"50ms\", timeout = \"60s\", legs = \"both\" } }")
        .start()
        .await;
    let mut pairs = Vec::new();
    for _ in 0..sessions {
        let mut client = Wire::stream(lockgate.tls("a.test").await);
        client.send(handshake("/", "")).await;
        let (server, _) = backend.accept_session().await;
        assert_eq!(client.head().await.status(), 101);
        pairs.push((client, server));
    }
    let until = Instant::now() + span;
    let mut tasks = JoinSet::new();
    for (i, (client, server)) in (1_u64..).zip(pairs) {
        let seed = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let huge = i.is_multiple_of(10);
        let stream = move || Stream { seed, huge };
        let (from, to) = if i.is_multiple_of(2) {
            (client, server)
        } else {
            (server, client)
        };
        tasks.spawn(send(from, stream(), until));
        tasks.spawn(receive(to, stream()));
    }
    let started = Instant::now();
    let mut all = Counters::default();
    while let Some(counters) = tasks.join_next().await {
        let counters = counters.expect("no frame is corrupted");
        all.frames += counters.frames;
        all.bytes += counters.bytes;
        all.lockgate_pings += counters.lockgate_pings;
        all.peer_pings += counters.peer_pings;
    }
    println!(
        "{sessions} sessions of {span:?} ({:?} in all): {} frames, {} MiB, {} Pings of Lockgate among them, {} Pings of peers answered",
        started.elapsed(),
        all.frames,
        all.bytes >> 20,
        all.lockgate_pings,
        all.peer_pings
    );
    assert!(
        all.lockgate_pings > sessions && all.peer_pings > 0,
        "{all:?}"
    );
}
