//! Peers that do not read: how many bytes are pending, when they count as slow readers, and how they are handled.

use crate::splice::{backpressure::SlowReaderPolicy, tests::harness::*};
use tokio::time::sleep;

fn slow_reader(close: bool) -> Builder {
    Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .limits(|limits| {
        limits.slow_reader = Some(SlowReaderPolicy {
            after: secs(30),
            close,
        });
    })
}

const STUCK: &str = "lockgate_stuck_bytes{leg=\"client\"}";

const SLOW: &str = "lockgate_slow_readers{leg=\"client\"}";

#[tokio::test(start_paused = true)]
async fn slow_reader_is_only_counted_without_close() {
    let mut rig = slow_reader(false).start();
    let long = rig.backend.send_frame(BINARY, &[1; 1000]).await;
    settle().await;
    assert_eq!(rig.metric(STUCK), (long.len() - 16).to_string());
    sleep(millis(29_990)).await;
    assert_eq!(rig.metric(SLOW), "0");
    sleep(millis(20)).await;
    assert_eq!(rig.metric(SLOW), "1");
    let other = "lockgate_slow_readers{leg=\"backend\"}";
    assert_eq!(rig.metric(other), "0");
    sleep(secs(36_000)).await;
    rig.client.expect(&long).await;
    settle().await;
    assert_eq!(
        (rig.metric(STUCK), rig.metric(SLOW)),
        ("0".into(), "0".into())
    );
    assert!(rig.is_running());
}

#[tokio::test(start_paused = true)]
async fn reload_closes_a_peer_that_is_already_slow() {
    let mut rig = slow_reader(false).start();
    rig.backend.send_frame(BINARY, &[1; 1000]).await;
    sleep(secs(100)).await;
    rig.limits.send_modify(|limits| {
        limits.slow_reader = Some(SlowReaderPolicy {
            after: secs(30),
            close: true,
        });
    });
    rig.sessions.wake_all();
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), secs(100));
    assert_eq!(rig.end().await.1, "slow-reader");
}

#[tokio::test(start_paused = true)]
async fn peer_that_accepts_a_few_bytes_is_not_slow() {
    let mut rig = slow_reader(true).start();
    let long = rig.backend.send_frame(BINARY, &[1; 1000]).await;
    for chunk in long.chunks(16) {
        sleep(secs(29)).await;
        rig.client.expect(chunk).await;
    }
    assert!(rig.is_running());
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_read_is_closed_and_reset() {
    let mut rig = slow_reader(true).start();
    rig.backend.send_frame(BINARY, &[1; 1000]).await;
    rig.backend.expect_close(1001).await;
    assert_span(rig.elapsed(), secs(30));
    rig.backend.expect_eof().await;
    assert_span(rig.elapsed(), secs(30) + CLOSE_TIMEOUT);
    assert_eq!(rig.end().await, ("client", "slow-reader", Some(1008)));
    assert!(rig.client.wire.was_reset() && !rig.backend.wire.was_reset());
    assert_eq!(
        (rig.metric(STUCK), rig.metric(SLOW)),
        ("0".into(), "0".into())
    );
}

#[tokio::test(start_paused = true)]
async fn peer_that_reads_at_the_last_moment_receives_its_1008() {
    let mut rig = slow_reader(true).start();
    let long = rig.backend.send_frame(BINARY, &[1; 1000]).await;
    rig.backend.expect_close(1001).await;
    rig.client.expect(&long).await;
    rig.client.expect_close(1008).await;
}

#[tokio::test(start_paused = true)]
async fn backend_that_does_not_read_is_closed_and_its_client_gets_1011() {
    let mut builder = slow_reader(true);
    (builder.client_pipe, builder.backend_pipe) = (4096, 16);
    let mut rig = builder.start();
    rig.client.send_frame(BINARY, &[1; 1000]).await;
    rig.client.expect_close(1011).await;
    assert_span(rig.elapsed(), secs(30));
    assert_eq!(rig.end().await, ("backend", "slow-reader", Some(1008)));
    assert!(rig.backend.wire.was_reset() && !rig.client.wire.was_reset());
}

#[tokio::test(start_paused = true)]
async fn slow_client_inside_its_own_frame_closes_tcp_to_the_backend() {
    let mut rig = slow_reader(true).start();
    let half = rig.client.frame(BINARY, &[1; 100]);
    rig.client.send(&half[..50]).await;
    rig.backend.expect(&half[..50]).await;
    rig.backend.send_frame(BINARY, &[1; 1000]).await;
    // Nothing may follow a truncated frame.
    rig.backend.expect_eof().await;
    assert_span(rig.elapsed(), secs(30) + CLOSE_TIMEOUT);
    assert!(rig.client.wire.was_reset());
}
