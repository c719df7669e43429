//! The session's one timer, which is left as it is while reads only put deadlines off.

use super::rig::*;
use crate::splice::SlowReaderPolicy;
use std::sync::atomic::Ordering::SeqCst;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_deadline_that_was_put_off_again_and_again_comes_in_time() {
    let mut rig = Builder::default()
        .limits(|limits| limits.max_idle = Some(secs(30)))
        .start();
    for _ in 0..100 {
        sleep(secs(7)).await;
        let said = rig.client.say(BINARY, b"still here").await;
        rig.backend.expect(&said).await;
    }
    let (last, polls) = (rig.elapsed(), rig.polls.load(SeqCst));
    rig.client.expect_close(1001).await;
    assert_span(rig.elapsed() - last, secs(30));
    // Too early once, then in time.
    let polls = rig.polls.load(SeqCst) - polls;
    assert!(polls <= 4, "polled {polls} times");
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_was_put_off_again_and_again_comes_in_time() {
    let mut rig = Builder::default().ping_client().start();
    for _ in 0..100 {
        sleep(secs(11)).await;
        let said = rig.client.say(BINARY, b"still here").await;
        rig.backend.expect(&said).await;
    }
    let last = rig.elapsed();
    rig.client.expect_ping().await;
    assert_span(rig.elapsed() - last, PING.interval);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_changes_while_the_timer_waits_counts_at_once() {
    let mut rig = Builder::default()
        .limits(|limits| limits.max_idle = Some(secs(3600)))
        .start();
    let said = rig.client.say(BINARY, b"hello").await;
    rig.backend.expect(&said).await;
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
    let said = rig.backend.say(BINARY, b"short").await;
    rig.client.expect(&said).await;
    rig.backend.say(BINARY, &[1; 1000]).await;
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), secs(35));
    assert_eq!(rig.end().await.1, "slow-reader");
}
