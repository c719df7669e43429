//! Liveness: which peers receive Pings, and when a peer is considered dead.

use crate::splice::{keepalive::PingPolicy, tests::harness::*};
use std::{sync::atomic::Ordering::SeqCst, time::Duration};
use tokio::time::{Instant, sleep};

fn ping_backend() -> Builder {
    Builder::default().limits(|limits| limits.backend_ping = Some(PING))
}

/// Silence until a peer is considered dead.
const DEAD_AFTER: Duration = secs(50);

#[tokio::test(start_paused = true)]
async fn silent_client_is_dead_after_interval_and_timeout() {
    let mut rig = Builder::default().ping_client().start();
    rig.client.expect_ping().await;
    assert_span(rig.elapsed(), secs(30));
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), DEAD_AFTER);
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert_span(rig.elapsed(), DEAD_AFTER);
    assert_eq!(rig.end().await, ("client", "ping-timeout", Some(1001)));
    assert!(rig.client.wire.was_reset() && !rig.backend.wire.was_reset());
}

#[tokio::test(start_paused = true)]
async fn silent_backend_is_dead_after_interval_and_timeout() {
    let mut rig = ping_backend().start();
    // expect_ping checks the mask.
    rig.backend.expect_ping().await;
    assert_span(rig.elapsed(), secs(30));
    rig.client.expect_close(1011).await;
    assert_span(rig.elapsed(), DEAD_AFTER);
    assert_eq!(rig.end().await, ("backend", "ping-timeout", Some(1011)));
    assert!(!rig.client.wire.was_reset() && rig.backend.wire.was_reset());
}

#[tokio::test(start_paused = true)]
async fn backend_receives_no_ping_by_default() {
    let mut rig = Builder::default().ping_client().start();
    for _ in 0..100 {
        let text = rig.client.send_frame(TEXT, b"x").await;
        rig.backend.expect(&text).await;
        rig.backend.expect_nothing(secs(20)).await;
    }
    assert!(rig.is_running());
}

#[tokio::test(start_paused = true)]
async fn any_received_byte_proves_liveness() {
    let mut rig = Builder::default().ping_client().start();
    let text = rig.client.frame(TEXT, b"slow");
    for (i, byte) in text.iter().enumerate() {
        sleep(millis(49_990)).await;
        rig.client.send(&[*byte]).await;
        settle().await;
        let pings = rig.client.expect_ping().await;
        assert_eq!(pings.len(), 12, "at byte {i}");
    }
    rig.backend.expect(&text).await;
    // The clock restarts with the last byte.
    let last_byte = Instant::now();
    rig.client.expect_ping().await;
    assert_span(last_byte.elapsed() + millis(1), secs(30));
    rig.backend.expect_close(1001).await;
    assert_span(last_byte.elapsed() + millis(1), DEAD_AFTER);
}

#[tokio::test(start_paused = true)]
async fn pongs_for_our_pings_are_not_relayed() {
    for bytewise in [false, true] {
        let mut rig = Builder::default().ping_client().start();
        let mut seen = Vec::new();
        for _ in 0..20 {
            let payload = rig.client.expect_ping().await;
            assert!(!seen.contains(&payload));
            let pong = rig.client.frame(PONG, &payload);
            if bytewise {
                rig.client.send_bytewise(&pong).await;
            } else {
                rig.client.send(&pong).await;
            }
            seen.push(payload);
        }
        // In the middle of other frames, too.
        let (a, b) = (rig.client.frame(0x01, b"a"), rig.client.frame(0x80, b"b"));
        let pong = rig.client.frame(PONG, &seen[19]);
        rig.client
            .send(&[a.clone(), pong, b.clone()].concat())
            .await;
        rig.backend.expect(&[a, b].concat()).await;
        assert!(rig.is_running());
    }
}

#[tokio::test(start_paused = true)]
async fn foreign_pongs_are_relayed() {
    let mut rig = Builder::default().ping_client().start();
    let own = rig.client.expect_ping().await;
    let mut similar = own.clone();
    similar[0] ^= 1;
    for payload in [
        b"".as_slice(),
        b"unsolicited",
        &similar,
        &own[..11],
        &[own.as_slice(), b"+"].concat(),
    ] {
        let pong = rig.client.send_frame(PONG, payload).await;
        rig.backend.expect(&pong).await;
    }
}

#[tokio::test(start_paused = true)]
async fn backend_pong_for_our_ping_is_not_relayed() {
    let mut rig = ping_backend().start();
    for _ in 0..5 {
        let payload = rig.backend.expect_ping().await;
        rig.backend.send_frame(PONG, &payload).await;
        rig.client.expect_nothing(secs(1)).await;
    }
    // The client may send an unsolicited Pong.
    let pong = rig.client.send_frame(PONG, b"mine").await;
    rig.backend.expect(&pong).await;
}

#[tokio::test(start_paused = true)]
async fn pong_for_a_relayed_ping_is_relayed() {
    let mut rig = Builder::default().ping_client().start();
    sleep(secs(29)).await;
    let ping = rig.backend.send_frame(PING_FRAME, b"are you there").await;
    rig.client.expect(&ping).await;
    // A Ping of ours could suppress the answer to this one.
    rig.client.expect_nothing(secs(18)).await;
    let pong = rig.client.send_frame(PONG, b"are you there").await;
    rig.backend.expect(&pong).await;
    // The Pong has arrived: Lockgate may send a Ping again.
    rig.client.expect_ping().await;
    assert_span(rig.elapsed(), secs(77));
}

#[tokio::test(start_paused = true)]
async fn unanswered_relayed_ping_replaces_our_ping() {
    let mut rig = Builder::default().ping_client().start();
    let ping = rig.backend.send_frame(PING_FRAME, b"are you there").await;
    rig.client.expect(&ping).await;
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), DEAD_AFTER);
}

#[tokio::test(start_paused = true)]
async fn relayed_ping_delayed_by_back_pressure_suppresses_our_ping() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    let long = rig.backend.send_frame(BINARY, &[1; 1000]).await;
    // The pipe is full when our Ping is due; once it is read, the backend's Ping is relayed first.
    sleep(secs(35)).await;
    let ping = rig.backend.send_frame(PING_FRAME, b"are you there").await;
    rig.client.expect(&long).await;
    rig.client.expect(&ping).await;
    rig.client.expect_nothing(secs(10)).await;
    let pong = rig.client.send_frame(PONG, b"are you there").await;
    rig.backend.expect(&pong).await;
}

#[tokio::test(start_paused = true)]
async fn client_that_sends_a_long_frame_slowly_is_alive() {
    let mut rig = Builder::default().ping_client().start();
    let long = rig.client.frame(BINARY, &[1; 60]);
    for byte in &long {
        rig.client.send(&[*byte]).await;
        sleep(secs(10)).await;
    }
    rig.backend.expect(&long).await;
    assert!(rig.elapsed() > secs(600) && rig.is_running());
}

#[tokio::test(start_paused = true)]
async fn client_that_receives_a_long_frame_slowly_is_alive() {
    let mut rig = Builder::default().ping_client().start();
    let long = rig.backend.frame(BINARY, &[1; 60]);
    for byte in &long {
        rig.backend.send(&[*byte]).await;
        sleep(secs(10)).await;
    }
    // Our Ping was delayed until the end of the frame.
    rig.client.expect(&long).await;
    let payload = rig.client.expect_ping().await;
    assert!(rig.elapsed() > secs(600));
    let pong = rig.client.frame(PONG, &payload);
    rig.client.send(&pong).await;
    rig.client.expect_ping().await;
    assert!(rig.is_running());
}

#[tokio::test(start_paused = true)]
async fn our_ping_is_inserted_between_frames_of_one_read() {
    let mut rig = Builder::default().ping_client().start();
    let first = rig.backend.frame(0x02, &[1; 100]);
    let second = rig.backend.frame(0x80, &[2; 100]);
    rig.backend.send(&first[..50]).await;
    sleep(secs(31)).await;
    rig.backend.send(&[&first[50..], &second].concat()).await;
    rig.client.expect(&first).await;
    rig.client.expect_ping().await;
    rig.client.expect(&second).await;
}

#[tokio::test(start_paused = true)]
async fn our_ping_is_inserted_before_a_partial_header() {
    let mut rig = Builder::default().ping_client().start();
    let text = rig.backend.frame(TEXT, &[1; 1000]);
    rig.backend.send(&text[..3]).await;
    rig.client.expect_ping().await;
    assert_span(rig.elapsed(), secs(30));
    rig.backend.send(&text[3..]).await;
    rig.client.expect(&text).await;
}

#[tokio::test(start_paused = true)]
async fn client_under_back_pressure_is_not_dead() {
    let mut rig = Builder {
        backend_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    let long = rig.client.send_frame(BINARY, &[1; 1000]).await;
    rig.client.expect_nothing(secs(36_000)).await;
    // Back-pressure has ended: the clock resumes where it stopped, at zero.
    rig.backend.expect(&long).await;
    let resumed = Instant::now();
    rig.client.expect_ping().await;
    assert_span(resumed.elapsed(), secs(30));
    rig.backend.expect_close(1001).await;
    assert_span(resumed.elapsed(), DEAD_AFTER);
}

#[tokio::test(start_paused = true)]
async fn time_under_back_pressure_is_deducted_once() {
    let mut rig = Builder {
        backend_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    let long = rig.client.frame(BINARY, &[1; 1000]);
    rig.client.send(&long).await;
    sleep(secs(36_000)).await;
    // More input is available when back-pressure ends.
    rig.client.send(&long).await;
    rig.backend.expect(&long).await;
    rig.backend.expect(&long).await;
    let resumed = Instant::now();
    rig.client.expect_ping().await;
    assert_span(resumed.elapsed(), secs(30));
}

#[tokio::test(start_paused = true)]
async fn silent_peer_that_reads_nothing_is_closed() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    rig.backend.send_frame(BINARY, &[1; 1000]).await;
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), DEAD_AFTER);
    assert_eq!(rig.end().await.1, "ping-timeout");
}

#[tokio::test(start_paused = true)]
async fn silent_peer_that_reads_slowly_stays_open() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    let long = rig.backend.send_frame(BINARY, &[1; 1000]).await;
    for chunk in long.chunks(16) {
        sleep(secs(19)).await;
        rig.client.expect(chunk).await;
    }
    assert!(rig.elapsed() > secs(1000));
    rig.client.expect_ping().await;
    assert!(rig.is_running());
}

#[tokio::test(start_paused = true)]
async fn dead_client_inside_a_frame_ends_with_ping_timeout() {
    let mut rig = Builder::default().ping_client().start();
    let long = rig.client.frame(BINARY, &[1; 1000]);
    rig.client.send(&long[..100]).await;
    rig.backend.expect(&long[..100]).await;
    // Nothing may follow a truncated frame.
    rig.backend.expect_eof().await;
    assert_span(rig.elapsed(), DEAD_AFTER);
    assert_eq!(rig.end().await, ("client", "ping-timeout", None));
}

#[tokio::test(start_paused = true)]
async fn both_legs_may_receive_pings() {
    let mut rig = Builder::default()
        .ping_client()
        .limits(|limits| {
            limits.backend_ping = Some(PingPolicy {
                interval: secs(7),
                timeout: secs(3),
            });
        })
        .start();
    for _ in 0..4 {
        let payload = rig.backend.expect_ping().await;
        rig.backend.send_frame(PONG, &payload).await;
    }
    assert_span(rig.elapsed(), secs(28));
    let payload = rig.client.expect_ping().await;
    rig.client.send_frame(PONG, &payload).await;
    rig.client.expect_close(1011).await;
    assert_span(rig.elapsed(), secs(38));
    assert_eq!(rig.end().await, ("backend", "ping-timeout", Some(1011)));
}

#[tokio::test(start_paused = true)]
async fn liveness_needs_few_polls_per_interval() {
    let mut rig = Builder::default().ping_client().start();
    for _ in 0..100 {
        let payload = rig.client.expect_ping().await;
        rig.client.send_frame(PONG, &payload).await;
    }
    let polls = rig.polls.load(SeqCst);
    assert!(polls <= 500, "{polls} polls for 100 pings");
}

#[tokio::test(start_paused = true)]
async fn extreme_policies_neither_spin_nor_overflow() {
    let never = PingPolicy {
        interval: secs(1_000_000_000),
        timeout: secs(1_000_000_000),
    };
    let at_once = PingPolicy {
        interval: Duration::ZERO,
        timeout: Duration::ZERO,
    };
    let mut rig = Builder::default()
        .limits(|limits| limits.client_ping = Some(never))
        .start();
    let text = rig.client.send_frame(TEXT, b"x").await;
    rig.backend.expect(&text).await;
    let mut rig = Builder::default()
        .limits(|limits| limits.client_ping = Some(at_once))
        .start();
    rig.client.expect_ping().await;
    assert_eq!(rig.end().await.1, "ping-timeout");
}
