//! Round-trip times of our Pings, and backend Pings that Lockgate answers on behalf of the client.

use crate::splice::tests::harness::*;
use tokio::time::sleep;

fn answering() -> Builder {
    Builder::default()
        .ping_client()
        .limits(|limits| limits.answer_backend_ping = Some(PING.interval + PING.timeout))
}

#[tokio::test(start_paused = true)]
async fn round_trip_time_is_measured_per_leg() {
    let mut rig = Builder::default()
        .ping_client()
        .limits(|limits| limits.backend_ping = Some(PING))
        .start();
    let entry = rig.entry();
    assert_eq!(entry.round_trips().client.last(), None);
    let (client, backend) = (
        rig.client.expect_ping().await,
        rig.backend.expect_ping().await,
    );
    sleep(millis(80)).await;
    rig.backend.send_frame(PONG, &backend).await;
    sleep(millis(40)).await;
    rig.client.send_frame(PONG, &client).await;
    settle().await;
    let rtts = entry.round_trips();
    assert_span(rtts.backend.last().unwrap(), millis(80));
    assert_span(rtts.client.last().unwrap(), millis(120));
    for leg in ["client", "backend"] {
        let count = format!("lockgate_ping_rtt_seconds_count{{leg=\"{leg}\"}}");
        assert_eq!(rig.metric(&count), "1");
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_answer_to_the_latest_ping_is_measured() {
    let mut rig = Builder::default().ping_client().start();
    let first = rig.client.expect_ping().await;
    // Input that is not the Pong proves liveness: the next Ping is sent 30 s later.
    let text = rig.client.send_frame(TEXT, b"x").await;
    rig.backend.expect(&text).await;
    let second = rig.client.expect_ping().await;
    rig.client.send_frame(PONG, &first).await;
    settle().await;
    let entry = rig.entry();
    assert_eq!(entry.round_trips().client.last(), None);
    rig.client.send_frame(PONG, &second).await;
    settle().await;
    assert!(entry.round_trips().client.last().unwrap() < millis(5));
    // A repeated Pong counts once.
    rig.client.send_frame(PONG, &second).await;
    settle().await;
    let count = "lockgate_ping_rtt_seconds_count{leg=\"client\"}";
    assert_eq!(rig.metric(count), "1");
}

#[tokio::test(start_paused = true)]
async fn backends_ping_is_relayed_by_default() {
    let mut rig = Builder::default().ping_client().start();
    let ping = rig.backend.send_frame(PING_FRAME, b"ping").await;
    rig.client.expect(&ping).await;
}

#[tokio::test(start_paused = true)]
async fn backend_pings_to_a_live_client_are_answered_by_lockgate() {
    let mut rig = answering().start();
    for payload in [b"".as_slice(), b"ping", &[9; 125]] {
        rig.backend.send_frame(PING_FRAME, payload).await;
        let pong = rig.backend.next().await;
        assert_eq!((pong.first, pong.masked), (PONG, true));
        assert_eq!(pong.payload, payload);
    }
    // Between data frames, which are relayed unchanged.
    let text = rig.backend.frame(TEXT, b"x");
    let ping = rig.backend.frame(PING_FRAME, b"and now?");
    rig.backend
        .send(&[text.clone(), ping, text.clone()].concat())
        .await;
    rig.client.expect(&text.repeat(2)).await;
    assert_eq!(rig.backend.next().await.payload, b"and now?");
    rig.client.expect_nothing(secs(1)).await;
    // No relayed Ping is unanswered, so ours is sent on time.
    rig.client.expect_ping().await;
    assert_span(rig.elapsed(), secs(30));
}

#[tokio::test(start_paused = true)]
async fn backend_ping_is_relayed_to_a_silent_client() {
    // No other Ping is sent to the client, so Lockgate must send one if the client is silent.
    let mut rig = answering()
        .limits(|limits| limits.client_ping = None)
        .start();
    sleep(secs(49)).await;
    rig.backend.send_frame(PING_FRAME, b"ping").await;
    assert_eq!(rig.backend.next().await.first, PONG);
    sleep(secs(2)).await;
    let ping = rig.backend.send_frame(PING_FRAME, b"ping").await;
    rig.client.expect(&ping).await;
    let pong = rig.client.send_frame(PONG, b"ping").await;
    rig.backend.expect(&pong).await;
    // The Pong proved liveness.
    rig.backend.send_frame(PING_FRAME, b"again?").await;
    assert_eq!(rig.backend.next().await.payload, b"again?");
    rig.client.expect_nothing(secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn our_pong_waits_for_a_frame_boundary_and_answers_the_latest_ping() {
    let mut rig = answering().start();
    let long = rig.client.frame(BINARY, &[1; 300]);
    rig.client.send(&long[..100]).await;
    rig.backend.expect(&long[..100]).await;
    for payload in [b"1", b"2", b"3"] {
        rig.backend.send_frame(PING_FRAME, payload).await;
        rig.backend.expect_nothing(secs(1)).await;
    }
    let text = rig.client.frame(TEXT, b"x");
    rig.client.send(&[&long[100..], &text].concat()).await;
    rig.backend.expect(&long[100..]).await;
    // The latest is enough (RFC 6455 §5.5.3).
    assert_eq!(rig.backend.next().await.payload, b"3");
    rig.backend.expect(&text).await;
}

#[tokio::test(start_paused = true)]
async fn backend_ping_is_relayed_to_a_client_under_back_pressure() {
    let mut builder = answering();
    builder.backend_pipe = 16;
    let mut rig = builder.start();
    let long = rig.client.send_frame(BINARY, &[1; 1000]).await;
    settle().await;
    let ping = rig.backend.send_frame(PING_FRAME, b"ping").await;
    rig.client.expect(&ping).await;
    rig.backend.expect(&long).await;
}

#[tokio::test(start_paused = true)]
async fn backend_ping_after_the_client_close_is_not_answered() {
    let mut rig = answering().start();
    let close = rig.client.close(1000, "");
    rig.client.send(&close).await;
    rig.backend.expect(&close).await;
    rig.backend.send_frame(PING_FRAME, b"ping").await;
    rig.backend.expect_nothing(secs(1)).await;
    let answer = rig.backend.close(1000, "");
    rig.backend.send(&answer).await;
    rig.client.expect(&answer).await;
    assert_eq!(rig.end().await, ("client", "closed", Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn backend_ping_is_relayed_to_a_rate_paused_client() {
    use crate::splice::rate_limit::{OverRateAction, RateLimit};
    let mut rig = answering()
        .limits(|limits| {
            limits.rate = RateLimit {
                messages: 1,
                frames: 0,
                bytes: 0,
                over: OverRateAction::Pause,
            };
        })
        .start();
    let text = rig.client.frame(TEXT, b"x");
    rig.client.send(&text.repeat(10)).await;
    rig.backend.expect(&text).await;
    // A client that is not read is not known to be alive: the Ping is relayed.
    let ping = rig.backend.send_frame(PING_FRAME, b"ping").await;
    rig.client.expect(&ping).await;
}
