//! Limits on a client: fragments, messages and bytes per second; and the maximum idle time of a session.

use crate::splice::{
    limits::SessionLimits,
    rate_limit::{OverRateAction, RateLimit},
    tests::harness::*,
};
use std::sync::atomic::Ordering::SeqCst;
use tokio::time::{Instant, sleep};

fn rate(messages: u32, bytes: u64, over: OverRateAction) -> Builder {
    Builder::default().limits(|limits| {
        limits.rate = RateLimit {
            messages,
            frames: 0,
            bytes,
            over,
        };
    })
}

/// Reads the Close at the backend and replies to it.
async fn reply_to_close(rig: &mut Rig, code: u16) {
    rig.backend.expect_close(code).await;
    let close = rig.backend.close(code, "");
    rig.backend.send(&close).await;
}

#[tokio::test(start_paused = true)]
async fn too_many_client_fragments_close_with_1008() {
    let mut rig = Builder::default()
        .limits(|limits| limits.bounds.max_fragments = 2)
        .start();
    for first in [0x01, 0x80, 0x01] {
        let frame = rig.client.send_frame(first, b"x").await;
        rig.backend.expect(&frame).await;
    }
    let frame = rig.client.send_frame(0x00, b"x").await;
    rig.backend.expect(&frame).await;
    rig.client.send_frame(0x80, b"x").await;
    reply_to_close(&mut rig, 1001).await;
    rig.client.expect_close(1008).await;
    let end = ("client", "too-many-fragments", Some(1008));
    assert_eq!(rig.end().await, end);
}

#[tokio::test(start_paused = true)]
async fn too_many_backend_fragments_close_with_1008() {
    let mut rig = Builder::default()
        .limits(|limits| limits.bounds.max_fragments = 1)
        .start();
    let frame = rig.backend.send_frame(0x01, b"x").await;
    rig.client.expect(&frame).await;
    rig.backend.send_frame(0x80, b"x").await;
    rig.client.expect_close(1011).await;
    rig.backend.expect_close(1008).await;
    assert_eq!(rig.end().await.1, "too-many-fragments");
}

#[tokio::test(start_paused = true)]
async fn messages_beyond_the_burst_are_delayed() {
    let mut rig = rate(10, 0, OverRateAction::Pause).start();
    let frame = rig.client.frame(TEXT, b"x");
    rig.client.send(&frame.repeat(35)).await;
    for i in 0..35_u64 {
        rig.backend.expect(&frame).await;
        // Ten at once, then one every 100 ms.
        assert_span(rig.elapsed(), millis(100 * i.saturating_sub(9)));
    }
    // One second of silence restores the burst.
    sleep(secs(1)).await;
    let silent_since = Instant::now();
    rig.client.send(&frame.repeat(10)).await;
    rig.backend.expect(&frame.repeat(10)).await;
    assert_span(silent_since.elapsed(), millis(0));
    assert!(rig.polls.load(SeqCst) < 100);
}

#[tokio::test(start_paused = true)]
async fn pings_count_as_messages_but_fragments_and_our_pongs_do_not() {
    let mut rig = rate(2, 0, OverRateAction::Close).ping_client().start();
    let payload = rig.client.expect_ping().await;
    let pong = rig.client.frame(PONG, &payload);
    let whole = [
        rig.client.frame(0x01, b"a"),
        rig.client.frame(0x00, b"b").repeat(50),
        rig.client.frame(0x80, b"c"),
    ]
    .concat();
    rig.client.send(&pong.repeat(20)).await;
    rig.client.send(&whole.repeat(2)).await;
    rig.backend.expect(&whole.repeat(2)).await;
    rig.client.send_frame(PING_FRAME, b"one too many").await;
    reply_to_close(&mut rig, 1001).await;
    rig.client.expect_close(1008).await;
    assert_eq!(rig.end().await, ("client", "over-rate", Some(1008)));
}

#[tokio::test(start_paused = true)]
async fn close_is_exempt_from_the_message_rate() {
    for over in [OverRateAction::Pause, OverRateAction::Close] {
        let mut rig = rate(3, 0, over).start();
        let frames = rig.client.frame(TEXT, b"x").repeat(3);
        let close = rig.client.close(1000, "");
        let bytes = [frames, close].concat();
        rig.client.send(&bytes).await;
        rig.backend.expect(&bytes).await;
        assert_span(rig.elapsed(), millis(0));
    }
}

#[tokio::test(start_paused = true)]
async fn message_over_the_rate_closes_after_relaying_earlier_ones() {
    let mut rig = rate(5, 0, OverRateAction::Close).start();
    let frame = rig.client.frame(BINARY, &[7; 300]);
    rig.client.send(&frame.repeat(9)).await;
    rig.backend.expect(&frame.repeat(5)).await;
    reply_to_close(&mut rig, 1001).await;
    rig.client.expect_close(1008).await;
    assert_eq!(rig.end().await, ("client", "over-rate", Some(1008)));
}

#[tokio::test(start_paused = true)]
async fn byte_rate_delays_a_frame_larger_than_the_burst() {
    let mut rig = rate(0, 10_000, OverRateAction::Pause).start();
    let frame = rig.client.frame(BINARY, &[7; 50_000 - 8]);
    let (client, backend) = (&mut rig.client, &mut rig.backend);
    tokio::join!(client.send(&frame), backend.expect(&frame));
    // The burst at once, the rest in four seconds.
    let elapsed = rig.elapsed();
    assert!(
        (millis(3_980)..millis(4_050)).contains(&elapsed),
        "{elapsed:?}"
    );
    assert!(rig.polls.load(SeqCst) < 500);
}

#[tokio::test(start_paused = true)]
async fn paused_clients_input_is_read_only_in_small_parts() {
    let mut rig = rate(0, 1_000, OverRateAction::Pause).start();
    let frame = rig.client.frame(BINARY, &[7; 40_000]);
    rig.client.send(&frame).await;
    settle().await;
    assert!(rig.client.wire.received.load(SeqCst) <= 1_000);
    assert_eq!(rig.metric("lockgate_rate_paused_sessions"), "1");
    rig.backend.expect(&frame).await;
    sleep(secs(1)).await;
    assert_eq!(rig.metric("lockgate_rate_paused_sessions"), "0");
}

#[tokio::test(start_paused = true)]
async fn minimum_rates_relay_every_frame_eventually() {
    let mut rig = rate(1, 1, OverRateAction::Pause).start();
    let ping = rig.client.send_frame(PING_FRAME, &[1; 125]).await;
    let text = rig.client.send_frame(TEXT, &[1; 200]).await;
    rig.backend.expect(&ping).await;
    rig.backend.expect(&text).await;
    let bytes = (ping.len() + text.len()) as u64;
    assert!(rig.elapsed() >= secs(bytes - 140) && rig.elapsed() <= secs(bytes));
}

#[tokio::test(start_paused = true)]
async fn byte_rate_closes_even_inside_a_frame() {
    let mut rig = rate(0, 1_000, OverRateAction::Close).start();
    let frame = rig.client.frame(BINARY, &[7; 40_000]);
    rig.client.send(&frame[..900]).await;
    rig.backend.expect(&frame[..900]).await;
    rig.client.send(&frame[900..2_000]).await;
    rig.client.expect_close(1008).await;
    // Nothing may follow a truncated frame.
    rig.backend.expect(&frame[900..2_000]).await;
    rig.backend.expect_eof().await;
    assert_eq!(rig.end().await, ("client", "over-rate", Some(1008)));
}

#[tokio::test(start_paused = true)]
async fn backend_input_is_not_rate_limited() {
    let mut rig = rate(1, 100, OverRateAction::Close).start();
    let frames = rig.backend.frame(BINARY, &[7; 500]).repeat(100);
    let (client, backend) = (&mut rig.client, &mut rig.backend);
    tokio::join!(backend.send(&frames), client.expect(&frames));
    assert_span(rig.elapsed(), millis(0));
}

#[tokio::test(start_paused = true)]
async fn paused_client_receives_no_keepalive_ping() {
    let mut rig = rate(0, 100, OverRateAction::Pause).ping_client().start();
    let frame = rig.client.frame(BINARY, &[7; 20_000]);
    rig.client.send(&frame).await;
    let (client, backend) = (&mut rig.client, &mut rig.backend);
    tokio::join!(client.expect_nothing(secs(190)), backend.expect(&frame));
    // The keepalive clock resumes when the client is read again.
    rig.client.expect_ping().await;
    assert!(rig.elapsed() >= secs(225), "{:?}", rig.elapsed());
}

#[tokio::test(start_paused = true)]
async fn input_of_a_paused_client_precedes_the_close_of_a_drain() {
    let mut rig = rate(1, 0, OverRateAction::Pause).start();
    let frame = rig.client.frame(TEXT, b"x");
    rig.client.send(&frame.repeat(20)).await;
    rig.backend.expect(&frame).await;
    rig.sessions.close_all(1012);
    rig.backend.expect(&frame.repeat(19)).await;
    rig.backend.expect_close(1001).await;
    rig.client.expect_close(1012).await;
    assert_span(rig.elapsed(), millis(0));
    let close = rig.client.close(1012, "");
    rig.client.send(&close).await;
    let close = rig.backend.close(1001, "");
    rig.backend.send(&close).await;
    assert_eq!(rig.end().await, ("lockgate", "ordered", Some(1012)));
}

#[tokio::test(start_paused = true)]
async fn end_of_a_paused_client_is_detected_after_its_backend_is_gone() {
    let mut rig = rate(1, 0, OverRateAction::Pause).start();
    let frame = rig.client.frame(TEXT, b"x");
    let close = rig.client.close(1000, "");
    rig.client.send(&[frame.repeat(600), close].concat()).await;
    rig.backend.expect(&frame).await;
    rig.backend.wire.fail_reads();
    rig.client.expect_close(1011).await;
    assert_eq!(rig.end().await.1, "gone");
    assert!(rig.elapsed() <= CLOSE_TIMEOUT + millis(3));
}

#[tokio::test(start_paused = true)]
async fn early_data_counts_for_the_rate() {
    let mut builder = rate(5, 0, OverRateAction::Pause);
    let frame = frame(TEXT, b"x", true);
    builder.client_early = frame.repeat(8);
    let mut rig = builder.start();
    rig.backend.expect(&frame.repeat(5)).await;
    rig.backend.expect_nothing(millis(190)).await;
    rig.backend.expect(&frame.repeat(3)).await;
    assert_span(rig.elapsed(), millis(600));
}

/// Applies changed limits to the session, as a reload does.
fn reload(rig: &Rig, change: impl FnOnce(&mut SessionLimits)) {
    rig.limits.send_modify(change);
    rig.sessions.wake_all();
}

#[tokio::test(start_paused = true)]
async fn reload_changes_the_rate_of_a_live_session() {
    let mut rig = rate(0, 1, OverRateAction::Pause).start();
    let frame = rig.client.frame(BINARY, &[7; 10_000]);
    rig.client.send(&frame).await;
    rig.backend.expect(&frame[..1]).await;
    reload(&rig, |limits| limits.rate.bytes = 0);
    rig.backend.expect(&frame[1..]).await;
    assert_span(rig.elapsed(), millis(0));
    reload(&rig, |limits| {
        limits.rate.messages = 1;
        limits.rate.over = OverRateAction::Close;
    });
    settle().await;
    rig.client.send(&frame.repeat(2)).await;
    rig.backend.expect(&frame).await;
    rig.backend.expect_close(1001).await;
    rig.client.expect_close(1008).await;
}

fn idle() -> Builder {
    Builder::default().limits(|limits| limits.max_idle = Some(secs(60)))
}

#[tokio::test(start_paused = true)]
async fn idle_session_is_closed_with_1001_on_both_sides() {
    let mut rig = idle().start();
    rig.client.expect_close(1001).await;
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), secs(60));
    let (a, b) = (rig.client.close(1001, ""), rig.backend.close(1001, ""));
    rig.client.send(&a).await;
    rig.backend.send(&b).await;
    assert_eq!(rig.end().await, ("lockgate", "max-idle", Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn control_frames_do_not_reset_the_idle_timeout() {
    let mut rig = idle().ping_client().start();
    for _ in 0..5 {
        sleep(secs(10)).await;
        let ping = rig.client.send_frame(PING_FRAME, b"hello").await;
        rig.backend.expect(&ping).await;
        let pong = rig.backend.send_frame(PONG, b"hello").await;
        rig.client.expect(&pong).await;
    }
    rig.client.expect_close(1001).await;
    assert_span(rig.elapsed(), secs(60));
}

#[tokio::test(start_paused = true)]
async fn data_in_either_direction_resets_the_idle_timeout() {
    let mut rig = idle().start();
    for i in 0..10 {
        sleep(secs(59)).await;
        let (from, to) = match i % 2 {
            0 => (&mut rig.client, &mut rig.backend),
            _ => (&mut rig.backend, &mut rig.client),
        };
        let text = from.send_frame(TEXT, b"x").await;
        to.expect(&text).await;
    }
    let long = rig.client.frame(BINARY, &[1; 20]);
    rig.client.send(&long[..6]).await;
    for byte in &long[6..] {
        sleep(secs(50)).await;
        rig.client.send(&[*byte]).await;
    }
    rig.backend.expect(&long).await;
    let silent_since = Instant::now();
    rig.client.expect_close(1001).await;
    assert_span(silent_since.elapsed() + millis(1), secs(60));
}

#[tokio::test(start_paused = true)]
async fn unread_output_does_not_postpone_the_idle_timeout() {
    let mut builder = idle();
    builder.client_pipe = 16;
    let mut rig = builder.start();
    rig.backend.send_frame(BINARY, &[1; 100]).await;
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), secs(60));
}

#[tokio::test(start_paused = true)]
async fn delivered_output_resets_the_idle_timeout() {
    let mut builder = idle();
    builder.client_pipe = 16;
    let mut rig = builder.start();
    let long = rig.backend.send_frame(BINARY, &[1; 100]).await;
    sleep(secs(50)).await;
    rig.client.expect(&long).await;
    let silent_since = Instant::now();
    rig.client.expect_close(1001).await;
    assert_span(silent_since.elapsed(), secs(60));
}

#[tokio::test(start_paused = true)]
async fn delivered_control_frames_do_not_postpone_the_idle_timeout() {
    let mut builder = idle();
    builder.client_pipe = 16;
    let mut rig = builder.start();
    let ping = rig.backend.send_frame(PING_FRAME, &[1; 100]).await;
    sleep(secs(50)).await;
    rig.client.expect(&ping).await;
    rig.client.expect_close(1001).await;
    assert_span(rig.elapsed(), secs(60));
}

#[tokio::test(start_paused = true)]
async fn reload_reaches_an_idle_session() {
    let mut rig = Builder::default().start();
    sleep(secs(1000)).await;
    reload(&rig, |limits| limits.max_idle = Some(secs(1001)));
    rig.client.expect_close(1001).await;
    assert_span(rig.elapsed(), secs(1001));
}
