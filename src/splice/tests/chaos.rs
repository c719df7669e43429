//! Two peers with random behaviour: every session ends, and output is a prefix of the input.

use crate::{
    proto::frame::FrameHeader,
    splice::{
        backpressure::SlowReaderPolicy,
        outcome::{EndReason, Initiator},
        rate_limit::{OverRateAction, RateLimit},
        tests::harness::*,
    },
};
use proptest::{collection::vec, prelude::*};
use std::sync::atomic::Ordering::SeqCst;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    runtime,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// One action of a peer.
#[derive(Debug, Clone)]
enum Action {
    Send(u8, usize),
    Partial(u8, usize),
    Close(Option<u16>),
    Bad(u8),
    Wait(u64),
}

/// Behaviour of a peer: its actions, the sizes of its writes, its reads, and whether it stays open.
#[derive(Debug, Clone)]
struct Peer {
    acts: Vec<Action>,
    piece: usize,
    reads: usize,
    pause: u64,
    stays_open: bool,
    pipe: usize,
}

fn peer() -> impl Strategy<Value = Peer> {
    let first = prop_oneof![Just(BINARY), Just(TEXT), Just(PING_FRAME), Just(PONG)];
    let act = prop_oneof![
        8 => (first.clone(), 0usize..126).prop_map(|(first, len)| Action::Send(first, len)),
        2 => (Just(BINARY), 126usize..3000).prop_map(|(first, len)| Action::Send(first, len)),
        1 => (first, 1usize..120).prop_map(|(first, len)| Action::Partial(first, len)),
        1 => proptest::option::of(Just(4000)).prop_map(Action::Close),
        1 => prop_oneof![Just(0x83), Just(0xC1), Just(0x80)].prop_map(Action::Bad),
        4 => prop_oneof![0u64..100, 0u64..60_000].prop_map(Action::Wait),
    ];
    (
        vec(act, 0..12),
        1usize..200,
        1usize..5000,
        prop_oneof![Just(0), 0u64..3000],
        any::<bool>(),
        1usize..600,
    )
        .prop_map(|(acts, piece, reads, pause, stays_open, pipe)| Peer {
            acts,
            piece,
            reads,
            pause,
            stays_open,
            pipe,
        })
}

/// Runs the peer's actions. Returns the bytes it sent that must be relayed.
async fn act(
    mut out: WriteHalf<DuplexStream>,
    peer: Peer,
    masked: bool,
    gone: CancellationToken,
) -> Vec<u8> {
    let mut good = Vec::new();
    let mut over = false;
    for act in peer.acts {
        let (bytes, passes, last) = match act {
            Action::Wait(span) => {
                sleep(millis(span)).await;
                continue;
            }
            Action::Send(first, len) => (frame(first, &vec![7; len], masked), true, false),
            Action::Close(code) => {
                let payload = code.map(|code| close_payload(code, "")).unwrap_or_default();
                (frame(CLOSE, &payload, masked), true, true)
            }
            Action::Bad(first) => (frame(first, b"bad", masked), false, true),
            Action::Partial(first, len) => {
                let mut bytes = frame(first, &vec![7; len], masked);
                bytes.pop();
                // No part of a truncated control frame is relayed.
                if !over && matches!(first, TEXT | BINARY) {
                    good.extend_from_slice(&bytes);
                }
                let _ = write(&mut out, &bytes, peer.piece).await;
                let _ = out.shutdown().await;
                return good;
            }
        };
        if passes && !over {
            good.extend_from_slice(&bytes);
        }
        over |= last;
        if write(&mut out, &bytes, peer.piece).await.is_err() {
            return good;
        }
    }
    if !over && peer.stays_open {
        // The peer stays open until the session ends.
        gone.cancelled().await;
    }
    let _ = out.shutdown().await;
    good
}

async fn write(
    out: &mut WriteHalf<DuplexStream>,
    bytes: &[u8],
    piece: usize,
) -> std::io::Result<()> {
    for piece in bytes.chunks(piece) {
        out.write_all(piece).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Reads until EOF at the peer's speed.
async fn read(mut from: ReadHalf<DuplexStream>, reads: usize, pause: u64) -> Vec<u8> {
    let mut got = Vec::new();
    let mut room = vec![0; reads];
    loop {
        match from.read(&mut room).await {
            Ok(0) | Err(_) => return got,
            Ok(n) => got.extend_from_slice(&room[..n]),
        }
        sleep(millis(pause)).await;
    }
}

/// Checks that the output is a prefix of the input, with Pings of ours in between and at most one Close of ours at the
/// end. Returns whether all of the input was delivered.
fn check(out: &[u8], sent: &[u8], masked: bool) -> bool {
    let (mut rest, mut expected, mut closed) = (out, sent, false);
    while !rest.is_empty() {
        assert!(!closed, "{} bytes after a Close", rest.len());
        let header = FrameHeader::parse(rest).expect("a frame of RFC 6455");
        let whole = header.map(|header| header.len + header.payload_len as usize);
        let Some(whole) = whole.filter(|whole| *whole <= rest.len()) else {
            // Truncated by the peer or by a reset, possibly inside a frame of ours.
            let ours = matches!(rest[0], CLOSE | PING_FRAME);
            assert!(
                ours || expected.starts_with(rest),
                "not a prefix of a frame"
            );
            return expected.len() == rest.len();
        };
        let (frame, after) = rest.split_at(whole);
        let header = header.expect("it is whole");
        closed = frame[0] == CLOSE;
        if expected.starts_with(frame) {
            expected = &expected[whole..];
        } else {
            let ours = closed || (frame[0] == PING_FRAME && header.payload_len == 12);
            assert!(ours, "{:02x?}… was not sent", &frame[..frame.len().min(16)]);
            assert_eq!(header.mask.is_some(), masked);
        }
        rest = after;
    }
    expected.is_empty()
}

/// Further settings of `[session]`.
#[derive(Debug, Clone)]
struct Strict {
    messages: u32,
    bytes: u64,
    close: bool,
    idle: bool,
}

fn strict() -> impl Strategy<Value = Strict> {
    let messages = prop_oneof![Just(0), 1u32..20];
    let bytes = prop_oneof![Just(0), 50u64..5000];
    (messages, bytes, any::<bool>(), any::<bool>()).prop_map(|(messages, bytes, close, idle)| {
        Strict {
            messages,
            bytes,
            close,
            idle,
        }
    })
}

async fn run_session(
    client: Peer,
    backend: Peer,
    order: Option<u64>,
    pings: bool,
    strict: Option<Strict>,
) {
    let mut builder = Builder {
        client_pipe: client.pipe,
        backend_pipe: backend.pipe,
        ..Builder::default()
    };
    if pings {
        builder = builder.ping_client();
        builder.limits.backend_ping = builder.limits.client_ping;
    }
    if let Some(strict) = &strict {
        builder = builder.limits(|limits| {
            limits.rate = RateLimit {
                messages: strict.messages,
                frames: 0,
                bytes: strict.bytes,
                over: if strict.close {
                    OverRateAction::Close
                } else {
                    OverRateAction::Pause
                },
            };
            limits.max_idle = strict.idle.then_some(secs(20));
            limits.slow_reader = Some(SlowReaderPolicy {
                after: secs(1),
                close: strict.close,
            });
        });
    }
    let mut rig = builder.start();
    let sessions = rig.sessions.clone();
    let mut orders = JoinSet::new();
    orders.spawn(async move {
        // A session that is still open at the end receives the last close order.
        sleep(millis(order.unwrap_or(10_000_000))).await;
        sessions.close_all(1012);
    });
    let bytes = cost(&client) + cost(&backend);
    let client_pipe = std::mem::replace(&mut rig.client.pipe, duplex(1).0);
    let backend_pipe = std::mem::replace(&mut rig.backend.pipe, duplex(1).0);
    let ((sent_up, got_down), (sent_down, got_up), outcome) = tokio::join!(
        run_peer(client, client_pipe, true),
        run_peer(backend, backend_pipe, false),
        rig.outcome(),
    );
    // The number of polls is bounded by the bytes and Pings.
    let polls = rig.polls.load(SeqCst);
    let secs = (outcome.ended - rig.started).as_secs();
    // A rate-paused client is polled at most 50 times per second.
    let rate_polls = if strict.is_some() { secs * 60 } else { 0 };
    assert!(
        polls <= 100 + bytes * 8 + secs / 10 + rate_polls,
        "{polls} polls for {bytes} bytes"
    );
    let client_bytes_delivered = check(&got_up, &sent_up, true);
    let backend_bytes_delivered = check(&got_down, &sent_down, false);
    let ended_by_lockgate = matches!(
        outcome.why,
        EndReason::Ordered
            | EndReason::PingTimeout
            | EndReason::OverRate
            | EndReason::SlowReader
            | EndReason::MaxIdle
    );
    if !ended_by_lockgate {
        match outcome.by {
            Initiator::Client => assert!(client_bytes_delivered || rig.backend.wire.was_reset()),
            Initiator::Backend => assert!(backend_bytes_delivered || rig.client.wire.was_reset()),
            Initiator::Lockgate | Initiator::Operator => panic!("{outcome:?}"),
        }
    }
}

/// Runs a peer. Returns the bytes it sent that must be relayed, and the bytes it received.
async fn run_peer(peer: Peer, pipe: DuplexStream, masked: bool) -> (Vec<u8>, Vec<u8>) {
    let (from, out) = split(pipe);
    let gone = CancellationToken::new();
    let (reads, pause) = (peer.reads, peer.pause);
    tokio::join!(act(out, peer, masked, gone.clone()), async {
        let got = read(from, reads, pause).await;
        gone.cancel();
        got
    })
}

/// Returns an upper bound on the number of bytes that a peer sends.
fn cost(peer: &Peer) -> u64 {
    let cost = |act: &Action| match act {
        Action::Send(_, len) | Action::Partial(_, len) => *len as u64 + 14,
        Action::Close(_) | Action::Bad(_) | Action::Wait(_) => 20,
    };
    300 + peer.acts.iter().map(cost).sum::<u64>()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_session_ends_and_output_is_a_prefix_of_input(
        client in peer(),
        backend in peer(),
        order in proptest::option::of(0u64..100_000),
        pings in any::<bool>(),
        strict in proptest::option::of(strict()),
    ) {
        runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run_session(client, backend, order, pings, strict));
    }
}
