//! The closing handshake: codes and reasons are relayed, replies are awaited, and a missing reply is bounded by
//! `close_timeout`.

use crate::splice::tests::harness::*;
use std::{sync::atomic::Ordering::SeqCst, time::Duration};
use tokio::time::sleep;

/// Returns the leg that begins the closing handshake, and the other leg.
fn legs(rig: &mut Rig, from_client: bool) -> (&mut TestPeer, &mut TestPeer) {
    if from_client {
        (&mut rig.client, &mut rig.backend)
    } else {
        (&mut rig.backend, &mut rig.client)
    }
}

fn name(from_client: bool) -> &'static str {
    if from_client { "client" } else { "backend" }
}

#[tokio::test(start_paused = true)]
async fn close_codes_and_reasons_are_relayed_unchanged() {
    for from_client in [true, false] {
        for code in [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4000,
            4999,
        ] {
            let mut rig = Rig::start();
            let (first, second) = legs(&mut rig, from_client);
            let close = first.close(code, "a reason: ünïcode");
            first.send(&close).await;
            second.expect(&close).await;
            let answer = second.close(code, "mine");
            second.send(&answer).await;
            first.expect(&answer).await;
            first.expect_eof().await;
            second.expect_eof().await;
            assert!(rig.elapsed() < millis(2));
            assert_eq!(rig.end().await, (name(from_client), "closed", Some(code)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn close_without_a_code_is_relayed_without_one() {
    for from_client in [true, false] {
        let mut rig = Rig::start();
        let (first, second) = legs(&mut rig, from_client);
        let close = first.send_frame(CLOSE, b"").await;
        second.expect(&close).await;
        let answer = second.send_frame(CLOSE, b"").await;
        first.expect(&answer).await;
        first.expect_eof().await;
        assert_eq!(rig.end().await, (name(from_client), "closed", None));
    }
}

#[tokio::test(start_paused = true)]
async fn close_sent_byte_by_byte_is_relayed_as_one_frame() {
    let mut rig = Rig::start();
    let close = rig.client.close(4001, "slowly");
    rig.client.send_bytewise(&close[..close.len() - 1]).await;
    rig.backend.expect_nothing(secs(1)).await;
    rig.client.send(&close[close.len() - 1..]).await;
    rig.backend.expect(&close).await;
}

#[tokio::test(start_paused = true)]
async fn frames_of_the_other_leg_are_relayed_until_its_close() {
    for from_client in [true, false] {
        let mut rig = Rig::start();
        let (first, second) = legs(&mut rig, from_client);
        let close = first.close(1000, "");
        first.send(&close).await;
        second.expect(&close).await;
        for i in 0..4 {
            let more = second.send_frame(TEXT, &[b'0' + i]).await;
            first.expect(&more).await;
            sleep(secs(1)).await;
        }
        let answer = second.close(1000, "");
        // Frames after a Close are discarded.
        let stray = second.frame(TEXT, b"stray");
        second.send(&[answer.clone(), stray].concat()).await;
        first.expect(&answer).await;
        first.expect_eof().await;
        assert_eq!(rig.end().await, (name(from_client), "closed", Some(1000)));
    }
}

#[tokio::test(start_paused = true)]
async fn input_after_a_close_is_discarded() {
    let mut rig = Rig::start();
    let close = rig.client.close(1000, "");
    let stray = rig.client.frame(TEXT, b"stray");
    rig.client
        .send(&[close.clone(), stray.clone()].concat())
        .await;
    rig.backend.expect(&close).await;
    rig.client.send(&stray).await;
    rig.backend.expect_nothing(secs(1)).await;
    let answer = rig.backend.close(1000, "");
    rig.backend.send(&answer).await;
    rig.client.expect(&answer).await;
    rig.backend.expect_eof().await;
    assert_eq!(rig.end().await, ("client", "closed", Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn closes_that_cross_are_both_relayed_once() {
    let mut rig = Rig::start();
    let (up, down) = (rig.client.close(1000, "me"), rig.backend.close(1001, "you"));
    rig.client.send(&up).await;
    rig.backend.send(&down).await;
    rig.client.expect(&down).await;
    rig.backend.expect(&up).await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < millis(2));
    assert_eq!(rig.outcome().await.why.as_str(), "closed");
}

#[tokio::test(start_paused = true)]
async fn late_close_reply_is_awaited() {
    let mut rig = Rig::start();
    let close = rig.client.close(1000, "");
    rig.client.send(&close).await;
    rig.backend.expect(&close).await;
    sleep(millis(4990)).await;
    let answer = rig.backend.close(1000, "");
    rig.backend.send(&answer).await;
    rig.client.expect(&answer).await;
    let ended = rig.outcome().await.ended;
    assert_span(ended - rig.started, millis(4990));
}

#[tokio::test(start_paused = true)]
async fn missing_close_reply_ends_the_session_at_close_timeout() {
    for from_client in [true, false] {
        let mut rig = Rig::start();
        let (first, second) = legs(&mut rig, from_client);
        let close = first.close(3999, "");
        first.send(&close).await;
        second.expect(&close).await;
        // A peer that keeps sending receives no extra time.
        let more = second.send_frame(TEXT, b"and another thing").await;
        first.expect(&more).await;
        second.expect_eof().await;
        first.expect_eof().await;
        assert_span(rig.elapsed(), CLOSE_TIMEOUT);
        let outcome = rig.outcome().await;
        assert_span(outcome.ended - rig.started, CLOSE_TIMEOUT);
        assert_eq!(
            (outcome.by.as_str(), outcome.code),
            (name(from_client), Some(3999))
        );
        assert!(!rig.client.wire.was_reset() && !rig.backend.wire.was_reset());
    }
}

#[tokio::test(start_paused = true)]
async fn tcp_drop_instead_of_a_close_answer_ends_the_handshake() {
    for from_client in [true, false] {
        for payload in [close_payload(4000, "a reason"), Vec::new()] {
            let mut rig = Rig::start();
            let (first, second) = legs(&mut rig, from_client);
            let close = first.send_frame(CLOSE, &payload).await;
            second.expect(&close).await;
            second.half_close().await;
            let answer = first.next().await;
            // The code that it sent, or none.
            assert_eq!(answer.first, CLOSE);
            assert_eq!(answer.payload, payload.get(..2).unwrap_or_default());
            assert_eq!(answer.masked, !from_client);
            first.expect_eof().await;
            assert!(rig.elapsed() < millis(2));
            let code = (!payload.is_empty()).then_some(4000);
            assert_eq!(rig.end().await, (name(from_client), "closed", code));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tcp_drop_after_own_close_still_closes_cleanly() {
    for from_client in [true, false] {
        let mut rig = Rig::start();
        let (first, second) = legs(&mut rig, from_client);
        let close = first.close(1000, "");
        first.send(&close).await;
        first.half_close().await;
        second.expect(&close).await;
        let answer = second.close(1000, "");
        second.send(&answer).await;
        first.expect(&answer).await;
        second.expect_eof().await;
        assert_eq!(rig.end().await, (name(from_client), "closed", Some(1000)));
    }
}

#[tokio::test(start_paused = true)]
async fn lingering_close_sends_fin_and_discards_input_for_a_second() {
    let mut rig = Rig::start();
    let close = rig.client.close(1000, "");
    rig.client.send(&close).await;
    rig.backend.expect(&close).await;
    let answer = rig.backend.close(1000, "");
    rig.backend.send(&answer).await;
    rig.client.expect(&answer).await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    let over = rig.elapsed();
    assert!(over < millis(2));
    // More than the pipe holds: it is read and discarded during one second.
    let before = rig.client.wire.received.load(SeqCst);
    let stray = vec![0xFF; 300_000];
    rig.client.send(&stray).await;
    settle().await;
    assert_eq!(rig.client.wire.received.load(SeqCst) - before, 300_000);
    let outcome = rig.outcome().await;
    assert_span(rig.elapsed(), secs(1));
    assert!(outcome.ended - rig.started < millis(2));
}

#[tokio::test(start_paused = true)]
async fn lingering_close_ends_when_both_peers_have_closed() {
    let mut rig = Rig::start();
    let close = rig.client.close(1000, "");
    rig.client.send(&close).await;
    let answer = rig.backend.close(1000, "");
    rig.backend.send(&answer).await;
    rig.client.expect(&answer).await;
    rig.client.half_close().await;
    rig.backend.half_close().await;
    rig.outcome().await;
    assert!(rig.elapsed() < millis(2));
}

#[tokio::test(start_paused = true)]
async fn close_timeout_of_zero_still_relays_the_close() {
    let mut rig = Builder::default()
        .limits(|limits| limits.close_timeout = Duration::ZERO)
        .start();
    let close = rig.client.close(1000, "");
    rig.client.send(&close).await;
    rig.backend.expect(&close).await;
    rig.backend.expect_eof().await;
    assert_eq!(rig.end().await, ("client", "closed", Some(1000)));
}
