//! The session's timer, which is not reset while reads only postpone deadlines.

use crate::splice::{backpressure::SlowReaderPolicy, tests::harness::*};
use std::sync::atomic::Ordering::SeqCst;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn idle_timeout_postponed_many_times_still_fires_on_time() {
    let mut rig = Builder::default()
        .limits(|limits| limits.max_idle = Some(secs(30)))
        .start();
    for _ in 0..100 {
        sleep(secs(7)).await;
        let frame = rig.client.send_frame(BINARY, b"still here").await;
        rig.backend.expect(&frame).await;
    }
    let (last, polls) = (rig.elapsed(), rig.polls.load(SeqCst));
    rig.client.expect_close(1001).await;
    assert_span(rig.elapsed() - last, secs(30));
    // The timer fires early once, then on time.
    let polls = rig.polls.load(SeqCst) - polls;
    assert!(polls <= 4, "polled {polls} times");
}

#[tokio::test(start_paused = true)]
async fn ping_postponed_many_times_is_still_sent_on_time() {
    let mut rig = Builder::default().ping_client().start();
    for _ in 0..100 {
        sleep(secs(11)).await;
        let frame = rig.client.send_frame(BINARY, b"still here").await;
        rig.backend.expect(&frame).await;
    }
    let last = rig.elapsed();
    rig.client.expect_ping().await;
    assert_span(rig.elapsed() - last, PING.interval);
}

#[tokio::test(start_paused = true)]
async fn limit_changed_while_the_timer_is_armed_applies_at_once() {
    let mut rig = Builder::default()
        .limits(|limits| limits.max_idle = Some(secs(3600)))
        .start();
    let frame = rig.client.send_frame(BINARY, b"hello").await;
    rig.backend.expect(&frame).await;
    sleep(secs(10)).await;
    rig.limits
        .send_modify(|limits| limits.max_idle = Some(secs(30)));
    rig.sessions.wake_all();
    rig.client.expect_close(1001).await;
    assert_span(rig.elapsed(), secs(30));
}

#[tokio::test(start_paused = true)]
async fn peer_blocked_directly_after_a_quiescent_read_is_found_in_time() {
    let mut builder = Builder::default().limits(|limits| {
        limits.max_idle = Some(secs(3600));
        limits.slow_reader = Some(SlowReaderPolicy {
            after: secs(30),
            close: true,
        });
    });
    builder.client_pipe = 16;
    let mut rig = builder.start();
    sleep(secs(5)).await;
    let frame = rig.backend.send_frame(BINARY, b"short").await;
    rig.client.expect(&frame).await;
    rig.backend.send_frame(BINARY, &[1; 1000]).await;
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), secs(35));
    assert_eq!(rig.end().await.1, "slow-reader");
}
