//! `track CASE SIZE TIMES`: tracks a hundred frames with payloads of SIZE bytes, TIMES times; `track.sh` counts the
//! instructions.

use lockgate::proto::frame_tracker::{Bounds, FrameTracker, Role, RsvBits};
use std::hint::black_box;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes flags only: nothing to measure.
    let [case, size, times] = &arguments[..] else {
        return;
    };
    let (size, times): (usize, u64) = (
        size.parse().expect("a number"),
        times.parse().expect("a number"),
    );
    let (sender, first) = match &**case {
        "client" => (Role::Client, BINARY),
        "server" => (Role::Server, BINARY),
        "pings" => (Role::Client, PING),
        other => panic!("unknown case: {other}"),
    };
    let stream = frame(first, size, sender).repeat(FRAMES);
    let bounds = Bounds {
        max_frame: 1 << 20,
        max_message: 1 << 20,
        max_fragments: 1000,
    };
    let mut tracker = FrameTracker::new(sender, RsvBits::None);
    for _ in 0..times {
        let mut rest = black_box(&stream[..]);
        while !rest.is_empty() {
            let progress = tracker.advance(rest, &bounds, false);
            let progress = progress.expect("valid frames");
            let control = progress.control.map_or(0, |control| control.len);
            rest = &rest[progress.pass + control..];
        }
    }
    assert_eq!(tracker.counts().frames, times * FRAMES as u64);
}

/// Returns a complete frame (RFC 6455 §5.2), masked if the client sends it.
fn frame(first: u8, size: usize, sender: Role) -> Vec<u8> {
    let (mask, key): (u8, &[u8]) = match sender {
        Role::Client => (0x80, &[1, 2, 3, 4]),
        Role::Server => (0, &[]),
    };
    let mut frame = vec![first];
    match size {
        0..126 => frame.push(mask | size as u8),
        126..65_536 => {
            frame.push(mask | 126);
            frame.extend((size as u16).to_be_bytes());
        }
        _ => {
            frame.push(mask | 127);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    frame.extend(key);
    frame.resize(frame.len() + size, 7);
    frame
}

const FRAMES: usize = 100;
const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
