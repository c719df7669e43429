//! Frames are relayed verbatim and in order, with any pipe capacity and any chunking.

use crate::{
    proto::frame_tracker::RsvBits,
    splice::{limits::SessionLimits, tests::harness::*},
};
use proptest::{collection::vec, prelude::*};
use std::sync::atomic::Ordering::SeqCst;
use tokio::{io::AsyncWriteExt, runtime};

/// Returns frames of every valid form.
fn all_forms(masked: bool) -> Vec<u8> {
    [
        frame(TEXT, b"hello", masked),
        frame(TEXT, b"", masked),
        frame(0x01, b"frag", masked),
        frame(PING_FRAME, b"between fragments", masked),
        frame(0x00, b"", masked),
        frame(PONG, b"unsolicited", masked),
        frame(0x80, b"ment", masked),
        frame(BINARY, &[7; 125], masked),
        frame(BINARY, &[8; 126], masked),
        frame(PING_FRAME, &[9; 125], masked),
        frame(BINARY, &[10; 0xFFFF], masked),
        frame(0x02, &[11; 0x1_0000], masked),
        frame(0x80, &[12; 200_000], masked),
        frame(PING_FRAME, b"", masked),
    ]
    .concat()
}

/// Sends and reads at both ends concurrently, then closes with 1000 from the client.
async fn both_ways(mut rig: Rig, up: &[u8], down: &[u8], up_rest: &[u8], down_rest: &[u8]) {
    let client_close = rig.client.close(1000, "finished");
    let backend_close = rig.backend.close(1000, "");
    let (mut client_reads, mut client_writes) = (rig.client, Vec::new());
    let (mut backend_reads, mut backend_writes) = (rig.backend, Vec::new());
    client_writes.extend_from_slice(up_rest);
    client_writes.extend_from_slice(&client_close);
    backend_writes.extend_from_slice(down_rest);
    // Concurrently, because a pipe of one byte buffers nothing.
    let client = async {
        duplex_exchange(
            &mut client_reads,
            &client_writes,
            &[down, &backend_close].concat(),
        )
        .await;
        client_reads.expect_eof().await;
    };
    let backend = async {
        duplex_exchange(
            &mut backend_reads,
            &backend_writes,
            &[up, &client_close].concat(),
        )
        .await;
        backend_reads.send(&backend_close).await;
        backend_reads.expect_eof().await;
    };
    tokio::join!(client, backend);
    rig.client = client_reads;
    rig.backend = backend_reads;
    let outcome = rig.outcome().await;
    assert_eq!(
        (outcome.by.as_str(), outcome.why.as_str()),
        ("client", "closed")
    );
    assert_eq!(outcome.code, Some(1000));
    assert_eq!(
        outcome.from_client.bytes,
        (up.len() + client_close.len()) as u64
    );
    assert_eq!(
        outcome.from_backend.bytes,
        (down.len() + backend_close.len()) as u64
    );
    assert!(!rig.client.wire.was_reset() && !rig.backend.wire.was_reset());
}

/// Writes `out` and reads `expected` at the same time.
async fn duplex_exchange(far: &mut TestPeer, out: &[u8], expected: &[u8]) {
    let (mut written, mut got) = (0, Vec::new());
    let (mut read_half, mut write_half) = tokio::io::split(&mut far.pipe);
    while written < out.len() || got.len() < expected.len() {
        tokio::select! {
            n = write_half.write(&out[written..]), if written < out.len() => written += n.unwrap(),
            n = tokio::io::AsyncReadExt::read_buf(&mut read_half, &mut got), if got.len() < expected.len() => {
                assert!(n.unwrap() > 0, "EOF after {} of {}", got.len(), expected.len());
            }
            () = tokio::time::sleep(secs(3600)) => panic!("stalled: {written} out, {} in", got.len()),
        }
    }
    assert!(got == expected, "the bytes differ");
}

#[tokio::test(start_paused = true)]
async fn frames_are_relayed_verbatim_through_pipes_of_any_size() {
    for pipe in [1, 8, 64 * 1024] {
        let (up, down) = (all_forms(true), all_forms(false));
        both_ways(
            Builder::default().pipes(pipe).start(),
            &up,
            &down,
            &up,
            &down,
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn early_data_is_relayed_first_wherever_it_ends() {
    let (up, down) = (all_forms(true), all_forms(false));
    // In a header, in a payload, in a control frame, between frames, and beyond one read.
    for cut in [1, 2, 5, 8, 13, 30, 31, 40, 5000, up.len() - 1, up.len()] {
        let down_cut = cut.min(down.len());
        let builder = Builder {
            client_early: up[..cut].to_vec(),
            backend_early: down[..down_cut].to_vec(),
            ..Builder::default().pipes(64)
        };
        both_ways(builder.start(), &up, &down, &up[cut..], &down[down_cut..]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn early_data_is_relayed_before_further_input() {
    let (hello, welcome) = (frame(TEXT, b"hello", true), frame(TEXT, b"welcome", false));
    let builder = Builder {
        client_early: hello.clone(),
        backend_early: welcome.clone(),
        ..Builder::default()
    };
    let mut rig = builder.start();
    rig.backend.expect(&hello).await;
    rig.client.expect(&welcome).await;
    assert!(rig.elapsed() < millis(2));
}

#[tokio::test(start_paused = true)]
async fn early_close_ends_the_session() {
    let close = frame(CLOSE, &close_payload(1013, "full"), false);
    let mut rig = Builder {
        backend_early: [frame(TEXT, b"sorry", false), close.clone()].concat(),
        ..Builder::default()
    }
    .start();
    rig.client.expect(&frame(TEXT, b"sorry", false)).await;
    rig.client.expect(&close).await;
    let answer = rig.client.close(1013, "");
    rig.client.send(&answer).await;
    rig.backend.expect(&answer).await;
    assert_eq!(rig.end().await, ("backend", "closed", Some(1013)));
}

#[tokio::test(start_paused = true)]
async fn negotiated_reserved_bits_are_relayed() {
    for (reserved, first) in [
        (RsvBits::Deflate, 0xC1),
        (RsvBits::Deflate, 0xC2),
        (RsvBits::Any, 0xA1),
        (RsvBits::Any, 0xF2),
    ] {
        let mut rig = Builder {
            reserved,
            ..Builder::default()
        }
        .start();
        let up = rig.client.send_frame(first, b"compressed").await;
        rig.backend.expect(&up).await;
        let down = rig.backend.send_frame(first, b"compressed").await;
        rig.client.expect(&down).await;
    }
}

#[tokio::test(start_paused = true)]
async fn beginning_of_a_frame_is_relayed_before_its_end_arrives() {
    let mut rig = Rig::start();
    let whole = rig.client.frame(BINARY, &[5; 1000]);
    rig.client.send(&whole[..100]).await;
    rig.backend.expect(&whole[..100]).await;
    rig.client.send(&whole[100..]).await;
    rig.backend.expect(&whole[100..]).await;
}

#[tokio::test(start_paused = true)]
async fn limits_apply_from_the_next_frame_on() {
    let mut rig = Rig::start();
    let begun = rig.client.frame(BINARY, &[1; 1000]);
    rig.client.send(&begun[..500]).await;
    rig.backend.expect(&begun[..500]).await;
    rig.limits.send_modify(|limits: &mut SessionLimits| {
        limits.bounds.max_frame = 100;
        limits.bounds.max_message = 100;
    });
    // The frame that began under the old limit is relayed to its end.
    rig.client.send(&begun[500..]).await;
    rig.backend.expect(&begun[500..]).await;
    let small = rig.client.send_frame(BINARY, &[1; 100]).await;
    rig.backend.expect(&small).await;
    rig.client.send_frame(BINARY, &[1; 101]).await;
    rig.backend.expect_close(1001).await;
    rig.client.expect_close(1009).await;
    assert_eq!(rig.end().await, ("client", "frame-too-big", Some(1009)));
}

#[tokio::test(start_paused = true)]
async fn new_timers_apply_from_the_next_frame_on() {
    let mut rig = Rig::start();
    settle().await;
    rig.limits
        .send_modify(|limits| limits.client_ping = Some(PING));
    let text = rig.client.send_frame(TEXT, b"x").await;
    rig.backend.expect(&text).await;
    rig.client.expect_ping().await;
    assert_span(rig.elapsed(), secs(30) + millis(1));
}

#[tokio::test(start_paused = true)]
async fn idle_session_is_not_polled() {
    let mut rig = Rig::start();
    let text = rig.client.send_frame(TEXT, b"x").await;
    rig.backend.expect(&text).await;
    settle().await;
    let before = rig.polls.load(SeqCst);
    tokio::time::sleep(secs(36_000)).await;
    assert_eq!(rig.polls.load(SeqCst), before);
    assert!(rig.is_running());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_of_any_frames_is_relayed_verbatim(
        up in stream(true),
        down in stream(false),
        up_chunks in vec(1usize..200, 1..20),
        down_chunks in vec(1usize..200, 1..20),
        pipes in (1usize..300, 1usize..300),
    ) {
        runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(async {
                let mut rig = Builder {
                    client_pipe: pipes.0,
                    backend_pipe: pipes.1,
                    ..Builder::default()
                }
                .start();
                let (mut client_in, mut client_out) = tokio::io::split(rig.client.pipe);
                let (mut backend_in, mut backend_out) = tokio::io::split(rig.backend.pipe);
                let (mut client_got, mut backend_got) = (Vec::new(), Vec::new());
                tokio::join!(
                    chunked(&mut client_out, &up, &up_chunks),
                    chunked(&mut backend_out, &down, &down_chunks),
                    read_to(&mut client_in, &mut client_got, down.len()),
                    read_to(&mut backend_in, &mut backend_got, up.len()),
                );
                assert!(client_got == down && backend_got == up);
                rig.client.pipe = client_in.unsplit(client_out);
                rig.backend.pipe = backend_in.unsplit(backend_out);
                assert!(rig.is_running());
            });
    }
}

async fn chunked(out: &mut (impl AsyncWriteExt + Unpin), bytes: &[u8], chunks: &[usize]) {
    let (mut at, mut chunks) = (0, chunks.iter().cycle());
    while at < bytes.len() {
        let end = bytes.len().min(at + chunks.next().unwrap());
        out.write_all(&bytes[at..end]).await.unwrap();
        settle().await;
        at = end;
    }
}

async fn read_to(far: &mut (impl tokio::io::AsyncReadExt + Unpin), got: &mut Vec<u8>, len: usize) {
    while got.len() < len {
        let n = tokio::time::timeout(secs(3600), far.read_buf(got))
            .await
            .expect("stalled")
            .unwrap();
        assert!(n > 0, "EOF");
    }
}

/// Messages of any shape, with control frames between their fragments.
fn stream(masked: bool) -> impl Strategy<Value = Vec<u8>> {
    let control = prop_oneof![
        Just(None),
        (
            prop_oneof![Just(PING_FRAME), Just(PONG)],
            vec(any::<u8>(), 0..126)
        )
            .prop_map(Some)
    ];
    let payload = prop_oneof![vec(any::<u8>(), 0..130), vec(any::<u8>(), 60_000..70_000)];
    let fragment = (
        prop_oneof![20 => vec(any::<u8>(), 0..130), 1 => payload],
        control,
    );
    vec(vec(fragment, 1..4), 0..6).prop_map(move |messages| {
        let mut bytes = Vec::new();
        for message in messages {
            let last = message.len() - 1;
            for (i, (payload, control)) in message.into_iter().enumerate() {
                let opcode = if i == 0 { 0x02 } else { 0x00 };
                let fin = if i == last { 0x80 } else { 0 };
                bytes.extend(frame(fin | opcode, &payload, masked));
                if let Some((first, payload)) = control {
                    bytes.extend(frame(first, &payload, masked));
                }
            }
        }
        bytes
    })
}
