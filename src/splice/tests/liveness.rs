//! Liveness: which peers receive Pings, and when a peer is considered dead.

use super::rig::*;
use crate::splice::PingPolicy;
use std::{sync::atomic::Ordering::SeqCst, time::Duration};
use tokio::time::{Instant, sleep};

fn ping_backend() -> Builder {
    Builder::default().limits(|limits| limits.backend_ping = Some(PING))
}

/// Silence until a peer is considered dead.
const PATIENCE: Duration = secs(50);

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_given_up_at_interval_and_timeout() {
    let mut rig = Builder::default().ping_client().start();
    rig.client.expect_ping().await;
    assert_span(rig.elapsed(), secs(30));
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), PATIENCE);
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert_span(rig.elapsed(), PATIENCE);
    assert_eq!(rig.end().await, ("client", "ping-timeout", Some(1001)));
    assert!(rig.client.dials.was_reset() && !rig.backend.dials.was_reset());
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_is_given_up_at_interval_and_timeout() {
    let mut rig = ping_backend().start();
    // Masked, as every frame towards a backend: expect_ping looks.
    rig.backend.expect_ping().await;
    assert_span(rig.elapsed(), secs(30));
    rig.client.expect_close(1011).await;
    assert_span(rig.elapsed(), PATIENCE);
    assert_eq!(rig.end().await, ("backend", "ping-timeout", Some(1011)));
    assert!(!rig.client.dials.was_reset() && rig.backend.dials.was_reset());
}

#[tokio::test(start_paused = true)]
async fn a_backend_receives_no_ping_by_default() {
    let mut rig = Builder::default().ping_client().start();
    for _ in 0..100 {
        let text = rig.client.say(TEXT, b"x").await;
        rig.backend.expect(&text).await;
        rig.backend.expect_nothing(secs(20)).await;
    }
    assert!(rig.is_running());
}

#[tokio::test(start_paused = true)]
async fn any_byte_proves_life() {
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
    let heard = Instant::now();
    rig.client.expect_ping().await;
    assert_span(heard.elapsed() + millis(1), secs(30));
    rig.backend.expect_close(1001).await;
    assert_span(heard.elapsed() + millis(1), PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn answers_to_our_pings_are_swallowed() {
    for bytewise in [false, true] {
        let mut rig = Builder::default().ping_client().start();
        let mut seen = Vec::new();
        for _ in 0..20 {
            let payload = rig.client.expect_ping().await;
            assert!(!seen.contains(&payload));
            let pong = rig.client.frame(PONG, &payload);
            if bytewise {
                rig.client.trickle(&pong).await;
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
    let mut near_miss = own.clone();
    near_miss[0] ^= 1;
    for payload in [
        b"".as_slice(),
        b"unsolicited",
        &near_miss,
        &own[..11],
        &[own.as_slice(), b"+"].concat(),
    ] {
        let pong = rig.client.say(PONG, payload).await;
        rig.backend.expect(&pong).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_backends_pong_to_our_ping_is_swallowed() {
    let mut rig = ping_backend().start();
    for _ in 0..5 {
        let payload = rig.backend.expect_ping().await;
        rig.backend.say(PONG, &payload).await;
        rig.client.expect_nothing(secs(1)).await;
    }
    // The client may not use it: it was not asked.
    let pong = rig.client.say(PONG, b"mine").await;
    rig.backend.expect(&pong).await;
}

#[tokio::test(start_paused = true)]
async fn a_pong_to_the_latest_ping_reaches_its_sender() {
    let mut rig = Builder::default().ping_client().start();
    sleep(secs(29)).await;
    let ping = rig.backend.say(PING_FRAME, b"are you there").await;
    rig.client.expect(&ping).await;
    // A Ping of ours would suppress the answer to this one.
    rig.client.expect_nothing(secs(18)).await;
    let pong = rig.client.say(PONG, b"are you there").await;
    rig.backend.expect(&pong).await;
    // The Pong has arrived: Lockgate may send a Ping again.
    rig.client.expect_ping().await;
    assert_span(rig.elapsed(), secs(77));
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_relayed_ping_is_question_enough() {
    let mut rig = Builder::default().ping_client().start();
    let ping = rig.backend.say(PING_FRAME, b"are you there").await;
    rig.client.expect(&ping).await;
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_relayed_ping_that_waited_in_a_full_pipe_is_not_overtaken() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    let long = rig.backend.say(BINARY, &[1; 1000]).await;
    // The pipe is full when our Ping is due; when it is read, the backend's Ping comes through first.
    sleep(secs(35)).await;
    let ping = rig.backend.say(PING_FRAME, b"are you there").await;
    rig.client.expect(&long).await;
    rig.client.expect(&ping).await;
    rig.client.expect_nothing(secs(10)).await;
    let pong = rig.client.say(PONG, b"are you there").await;
    rig.backend.expect(&pong).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_inside_a_long_frame_that_it_sends_lives() {
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
async fn a_client_inside_a_long_frame_that_it_receives_lives() {
    let mut rig = Builder::default().ping_client().start();
    let long = rig.backend.frame(BINARY, &[1; 60]);
    for byte in &long {
        rig.backend.send(&[*byte]).await;
        sleep(secs(10)).await;
    }
    // Our Ping has waited for the end of the frame, where it then stands.
    rig.client.expect(&long).await;
    let payload = rig.client.expect_ping().await;
    assert!(rig.elapsed() > secs(600));
    let pong = rig.client.frame(PONG, &payload);
    rig.client.send(&pong).await;
    rig.client.expect_ping().await;
    assert!(rig.is_running());
}

#[tokio::test(start_paused = true)]
async fn our_ping_stands_between_frames_that_come_in_one_piece() {
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
async fn our_ping_stands_before_half_a_header_that_is_held() {
    let mut rig = Builder::default().ping_client().start();
    let text = rig.backend.frame(TEXT, &[1; 1000]);
    rig.backend.send(&text[..3]).await;
    rig.client.expect_ping().await;
    assert_span(rig.elapsed(), secs(30));
    rig.backend.send(&text[3..]).await;
    rig.client.expect(&text).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_under_back_pressure_lives() {
    let mut rig = Builder {
        backend_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    let long = rig.client.say(BINARY, &[1; 1000]).await;
    rig.client.expect_nothing(secs(36_000)).await;
    // Back-pressure has ended: the clock resumes where it stopped, at zero.
    rig.backend.expect(&long).await;
    let flowing = Instant::now();
    rig.client.expect_ping().await;
    assert_span(flowing.elapsed(), secs(30));
    rig.backend.expect_close(1001).await;
    assert_span(flowing.elapsed(), PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn time_under_back_pressure_is_not_given_back_twice() {
    let mut rig = Builder {
        backend_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    let long = rig.client.frame(BINARY, &[1; 1000]);
    rig.client.send(&long).await;
    sleep(secs(36_000)).await;
    // More is there to be read when the pressure is off.
    rig.client.send(&long).await;
    rig.backend.expect(&long).await;
    rig.backend.expect(&long).await;
    let flowing = Instant::now();
    rig.client.expect_ping().await;
    assert_span(flowing.elapsed(), secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_that_reads_nothing_is_closed() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    rig.backend.say(BINARY, &[1; 1000]).await;
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), PATIENCE);
    assert_eq!(rig.end().await.1, "ping-timeout");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_that_reads_slowly_stays_open() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .ping_client()
    .start();
    let long = rig.backend.say(BINARY, &[1; 1000]).await;
    for chunk in long.chunks(16) {
        sleep(secs(19)).await;
        rig.client.expect(chunk).await;
    }
    assert!(rig.elapsed() > secs(1000));
    rig.client.expect_ping().await;
    assert!(rig.is_running());
}

#[tokio::test(start_paused = true)]
async fn a_dead_client_inside_a_frame_is_called_dead() {
    let mut rig = Builder::default().ping_client().start();
    let long = rig.client.frame(BINARY, &[1; 1000]);
    rig.client.send(&long[..100]).await;
    rig.backend.expect(&long[..100]).await;
    // Nothing may follow a truncated frame.
    rig.backend.expect_eof().await;
    assert_span(rig.elapsed(), PATIENCE);
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
        rig.backend.say(PONG, &payload).await;
    }
    assert_span(rig.elapsed(), secs(28));
    let payload = rig.client.expect_ping().await;
    rig.client.say(PONG, &payload).await;
    rig.client.expect_close(1011).await;
    assert_span(rig.elapsed(), secs(38));
    assert_eq!(rig.end().await, ("backend", "ping-timeout", Some(1011)));
}

#[tokio::test(start_paused = true)]
async fn liveness_costs_a_few_polls_an_interval() {
    let mut rig = Builder::default().ping_client().start();
    for _ in 0..100 {
        let payload = rig.client.expect_ping().await;
        rig.client.say(PONG, &payload).await;
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
    let text = rig.client.say(TEXT, b"x").await;
    rig.backend.expect(&text).await;
    let mut rig = Builder::default()
        .limits(|limits| limits.client_ping = Some(at_once))
        .start();
    rig.client.expect_ping().await;
    assert_eq!(rig.end().await.1, "ping-timeout");
}
