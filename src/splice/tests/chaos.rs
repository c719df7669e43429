//! Two peers that do anything at any time: every session ends, and what came out is what went in.

use super::rig::*;
use crate::{
    proto::frame::FrameHeader,
    splice::{EndReason, Initiator, OverRateAction, RateLimit, SlowReaderPolicy},
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

/// What a peer does next.
#[derive(Debug, Clone)]
enum Act {
    Send(u8, usize),
    Half(u8, usize),
    Close(Option<u16>),
    Bad(u8),
    Wait(u64),
}

/// A peer's life: what it does, in which pieces it writes, how it reads, and whether it ever ends by itself.
#[derive(Debug, Clone)]
struct Peer {
    acts: Vec<Act>,
    piece: usize,
    reads: usize,
    pause: u64,
    answers: bool,
    pipe: usize,
}

fn peer() -> impl Strategy<Value = Peer> {
    let first = prop_oneof![Just(BINARY), Just(TEXT), Just(PING_FRAME), Just(PONG)];
    let act = prop_oneof![
        8 => (first.clone(), 0usize..126).prop_map(|(first, len)| Act::Send(first, len)),
        2 => (Just(BINARY), 126usize..3000).prop_map(|(first, len)| Act::Send(first, len)),
        1 => (first, 1usize..120).prop_map(|(first, len)| Act::Half(first, len)),
        1 => proptest::option::of(Just(4000)).prop_map(Act::Close),
        1 => prop_oneof![Just(0x83), Just(0xC1), Just(0x80)].prop_map(Act::Bad),
        4 => prop_oneof![0u64..100, 0u64..60_000].prop_map(Act::Wait),
    ];
    (
        vec(act, 0..12),
        1usize..200,
        1usize..5000,
        prop_oneof![Just(0), 0u64..3000],
        any::<bool>(),
        1usize..600,
    )
        .prop_map(|(acts, piece, reads, pause, answers, pipe)| Peer {
            acts,
            piece,
            reads,
            pause,
            answers,
            pipe,
        })
}

/// Does what the peer does; returns all whole frames that it wrote, up to the first that may not pass or is the last.
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
            Act::Wait(span) => {
                sleep(millis(span)).await;
                continue;
            }
            Act::Send(first, len) => (frame(first, &vec![7; len], masked), true, false),
            Act::Close(code) => {
                let payload = code.map(|code| close_payload(code, "")).unwrap_or_default();
                (frame(CLOSE, &payload, masked), true, true)
            }
            Act::Bad(first) => (frame(first, b"bad", masked), false, true),
            Act::Half(first, len) => {
                let mut bytes = frame(first, &vec![7; len], masked);
                bytes.pop();
                // Of a control frame nothing passes.
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
    if !over && peer.answers {
        // It stays for as long as the session does.
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

/// Reads until EOF, as fast as the peer does.
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

/// What came out is the beginning of what went in, with Pings of ours in between and at most one Close of ours behind.
/// True if all came out.
fn check(out: &[u8], went_in: &[u8], masked: bool) -> bool {
    let (mut rest, mut expected, mut closed) = (out, went_in, false);
    while !rest.is_empty() {
        assert!(!closed, "{} bytes behind a Close", rest.len());
        let header = FrameHeader::parse(rest).expect("a frame of RFC 6455");
        let whole = header.map(|header| header.len + header.payload_len as usize);
        let Some(whole) = whole.filter(|whole| *whole <= rest.len()) else {
            // Cut: by the peer, or by a reset in the middle of whatever, a frame of ours included.
            let ours = matches!(rest[0], CLOSE | PING_FRAME);
            assert!(
                ours || expected.starts_with(rest),
                "no beginning of a frame"
            );
            return expected.len() == rest.len();
        };
        let (frame, behind) = rest.split_at(whole);
        let header = header.expect("it is whole");
        closed = frame[0] == CLOSE;
        if expected.starts_with(frame) {
            expected = &expected[whole..];
        } else {
            let ours = closed || (frame[0] == PING_FRAME && header.payload_len == 12);
            assert!(ours, "{:02x?}… was not sent", &frame[..frame.len().min(16)]);
            assert_eq!(header.mask.is_some(), masked);
        }
        rest = behind;
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

async fn live(
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
                bytes: strict.bytes,
                over: match strict.close {
                    true => OverRateAction::Close,
                    false => OverRateAction::Pause,
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
    let ((went_up, got_down), (went_down, got_up), outcome) = tokio::join!(
        be(client, client_pipe, true),
        be(backend, backend_pipe, false),
        rig.outcome(),
    );
    // Wakes are paid for by bytes and Pings; they do not come by themselves.
    let polls = rig.polls.load(SeqCst);
    let secs = (outcome.ended - rig.started).as_secs();
    // A client that waits for its rate is looked at so often at most.
    let looks = if strict.is_some() { secs * 60 } else { 0 };
    assert!(
        polls <= 100 + bytes * 8 + secs / 10 + looks,
        "{polls} polls for {bytes} bytes"
    );
    let up_came_out = check(&got_up, &went_up, true);
    let down_came_out = check(&got_down, &went_down, false);
    let by_choice = matches!(
        outcome.why,
        EndReason::Ordered
            | EndReason::PingTimeout
            | EndReason::OverRate
            | EndReason::SlowReader
            | EndReason::MaxIdle
    );
    if !by_choice {
        match outcome.by {
            Initiator::Client => assert!(up_came_out || rig.backend.dials.was_reset()),
            Initiator::Backend => assert!(down_came_out || rig.client.dials.was_reset()),
            Initiator::Lockgate | Initiator::Operator => panic!("{outcome:?}"),
        }
    }
}

/// A peer's whole life; returns what it sent that may pass, and what it got.
async fn be(peer: Peer, pipe: DuplexStream, masked: bool) -> (Vec<u8>, Vec<u8>) {
    let (from, out) = split(pipe);
    let gone = CancellationToken::new();
    let (reads, pause) = (peer.reads, peer.pause);
    tokio::join!(act(out, peer, masked, gone.clone()), async {
        let got = read(from, reads, pause).await;
        gone.cancel();
        got
    })
}

/// An upper bound on the bytes that a peer sends.
fn cost(peer: &Peer) -> u64 {
    let cost = |act: &Act| match act {
        Act::Send(_, len) | Act::Half(_, len) => *len as u64 + 14,
        Act::Close(_) | Act::Bad(_) | Act::Wait(_) => 20,
    };
    300 + peer.acts.iter().map(cost).sum::<u64>()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_session_ends_and_what_came_out_went_in(
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
            .block_on(live(client, backend, order, pings, strict));
    }
}
