//! Our Pings among the frames of others: messages in fragments and frames of 16 MiB, in both directions at once; not a byte
//! is changed, every Pong to a Ping of ours is swallowed, every other one relayed.
//!
//! `LOCKGATE_SESSIONS` and `LOCKGATE_SECONDS` set how many sessions there are and how long each lasts (20 and 3, to be
//! quick; 500 and 20 are the 10,000 session-seconds of the figure). The figures are printed.

use crate::harness::{Backend, Frame, Lockgate, Wire, handshake, raise_descriptor_limit};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// One side sends frames that its seed decides, and asks; the other one is silent but for its Pongs. So it is asked by
/// Lockgate, too: between the frames.
struct Stream {
    seed: u64,
    huge: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    frames: u64,
    bytes: u64,
    ours: u64,
    foreign: u64,
}

// === impl Stream ===

impl Stream {
    /// As good as by chance, and the same for both sides (xorshift64).
    fn next(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below
    }

    /// The frames of the next message: one or several, at times with a Ping in between, at times one of 16 MiB.
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

/// Sends messages until `until`, then a text; sees that only the answers to its own Pings come back.
async fn send(mut wire: Wire, mut stream: Stream, until: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut asked = Vec::new();
    while Instant::now() < until {
        for frame in stream.message() {
            if frame.opcode == 9 {
                asked.push(frame.payload.clone());
            }
            let frame = if wire.plays_client() {
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
        // Not all that the machine can carry: others want to be seen, too.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    wire.send_frame(Frame::text("the end")).await;
    for payload in &asked {
        let pong = said(&mut wire).await;
        assert_eq!(
            (pong.opcode, &pong.payload),
            (10, payload),
            "a Pong that it asked for"
        );
        seen.foreign += 1;
    }
    let end = said(&mut wire).await;
    assert_eq!(
        end.payload, b"the end too",
        "no Pong to a Ping of Lockgate's"
    );
    seen
}

/// The next frame of the other side: a slow machine lets it be asked by Lockgate as well.
async fn said(wire: &mut Wire) -> Frame {
    loop {
        let frame = wire.next_frame().await.expect("the session lives");
        if frame.opcode != 9 {
            return frame;
        }
        wire.send_frame(Frame::pong(&frame.payload)).await;
    }
}

/// Reads what the same seed says, and answers every Ping.
async fn receive(mut wire: Wire, mut stream: Stream) -> Seen {
    let mut seen = Seen::default();
    let mut expected = std::collections::VecDeque::new();
    loop {
        let frame = wire.next_frame().await.expect("the session lives");
        seen.frames += 1;
        seen.bytes += frame.payload.len() as u64;
        if frame.opcode == 9 {
            wire.send_frame(Frame::pong(&frame.payload)).await;
            if frame.payload.len() == 12 && !frame.payload.starts_with(b"foreign") {
                seen.ours += 1;
                continue;
            }
        }
        if frame.opcode == 1 {
            assert_eq!(frame.payload, b"the end");
            assert!(expected.is_empty(), "a message is cut");
            wire.send_frame(Frame::text("the end too")).await;
            return seen;
        }
        if expected.is_empty() {
            expected.extend(stream.message());
        }
        let wanted = expected.pop_front().expect("a message has frames");
        assert!(
            (frame.fin, frame.opcode) == (wanted.fin, wanted.opcode)
                && frame.payload == wanted.payload,
            "frame {} is not the one that was sent",
            seen.frames
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_pings_corrupt_nothing_and_their_answers_are_swallowed() {
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
    let mut playing = JoinSet::new();
    for (i, (client, server)) in (1_u64..).zip(pairs) {
        let seed = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let huge = i.is_multiple_of(10);
        let stream = move || Stream { seed, huge };
        let (from, to) = if i.is_multiple_of(2) {
            (client, server)
        } else {
            (server, client)
        };
        playing.spawn(send(from, stream(), until));
        playing.spawn(receive(to, stream()));
    }
    let started = Instant::now();
    let mut all = Seen::default();
    while let Some(seen) = playing.join_next().await {
        let seen = seen.expect("no frame is corrupted");
        all.frames += seen.frames;
        all.bytes += seen.bytes;
        all.ours += seen.ours;
        all.foreign += seen.foreign;
    }
    println!(
        "{sessions} sessions of {span:?} ({:?} in all): {} frames, {} MiB, {} Pings of ours among them, {} of others answered",
        started.elapsed(),
        all.frames,
        all.bytes >> 20,
        all.ours,
        all.foreign
    );
    assert!(all.ours > sessions && all.foreign > 0, "{all:?}");
}
