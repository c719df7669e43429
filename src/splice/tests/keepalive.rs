//! How long our Pings take, and a backend's Pings that are answered in its client's stead.

use super::rig::*;
use tokio::time::sleep;

fn answering() -> Builder {
    Builder::default()
        .ping_client()
        .limits(|limits| limits.answer_backend_ping = Some(PING.interval + PING.timeout))
}

#[tokio::test(start_paused = true)]
async fn a_round_trip_is_measured_per_leg() {
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
    rig.backend.say(PONG, &backend).await;
    sleep(millis(40)).await;
    rig.client.say(PONG, &client).await;
    settle().await;
    let trips = entry.round_trips();
    assert_span(trips.backend.last().unwrap(), millis(80));
    assert_span(trips.client.last().unwrap(), millis(120));
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
    let text = rig.client.say(TEXT, b"x").await;
    rig.backend.expect(&text).await;
    let second = rig.client.expect_ping().await;
    rig.client.say(PONG, &first).await;
    settle().await;
    let entry = rig.entry();
    assert_eq!(entry.round_trips().client.last(), None);
    rig.client.say(PONG, &second).await;
    settle().await;
    assert!(entry.round_trips().client.last().unwrap() < millis(5));
    // A repeated Pong counts once.
    rig.client.say(PONG, &second).await;
    settle().await;
    let count = "lockgate_ping_rtt_seconds_count{leg=\"client\"}";
    assert_eq!(rig.metric(count), "1");
}

#[tokio::test(start_paused = true)]
async fn a_backends_ping_is_relayed_by_default() {
    let mut rig = Builder::default().ping_client().start();
    let ping = rig.backend.say(PING_FRAME, b"you?").await;
    rig.client.expect(&ping).await;
}

#[tokio::test(start_paused = true)]
async fn a_live_clients_pings_are_answered_in_its_stead() {
    let mut rig = answering().start();
    for payload in [b"".as_slice(), b"you?", &[9; 125]] {
        rig.backend.say(PING_FRAME, payload).await;
        let pong = rig.backend.next().await;
        assert_eq!((pong.first, pong.masked), (PONG, true));
        assert_eq!(pong.payload, payload);
    }
    // Between data frames, which stay what they were.
    let text = rig.backend.frame(TEXT, b"x");
    let ping = rig.backend.frame(PING_FRAME, b"and now?");
    rig.backend
        .send(&[text.clone(), ping, text.clone()].concat())
        .await;
    rig.client.expect(&text.repeat(2)).await;
    assert_eq!(rig.backend.next().await.payload, b"and now?");
    rig.client.expect_nothing(secs(1)).await;
    // No relayed Ping is open, so that ours comes in its time.
    rig.client.expect_ping().await;
    assert_span(rig.elapsed(), secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_may_be_gone_gets_the_ping_itself() {
    // No other Ping is sent to the client, so Lockgate must send one if the client is silent.
    let mut rig = answering()
        .limits(|limits| limits.client_ping = None)
        .start();
    sleep(secs(49)).await;
    rig.backend.say(PING_FRAME, b"you?").await;
    assert_eq!(rig.backend.next().await.first, PONG);
    sleep(secs(2)).await;
    let ping = rig.backend.say(PING_FRAME, b"you?").await;
    rig.client.expect(&ping).await;
    let pong = rig.client.say(PONG, b"you?").await;
    rig.backend.expect(&pong).await;
    // That proved liveness.
    rig.backend.say(PING_FRAME, b"again?").await;
    assert_eq!(rig.backend.next().await.payload, b"again?");
    rig.client.expect_nothing(secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn our_answer_waits_for_the_end_of_a_frame_and_is_the_latest() {
    let mut rig = answering().start();
    let long = rig.client.frame(BINARY, &[1; 300]);
    rig.client.send(&long[..100]).await;
    rig.backend.expect(&long[..100]).await;
    for payload in [b"1", b"2", b"3"] {
        rig.backend.say(PING_FRAME, payload).await;
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
async fn a_client_that_is_not_read_proves_nothing() {
    let mut builder = answering();
    builder.backend_pipe = 16;
    let mut rig = builder.start();
    let long = rig.client.say(BINARY, &[1; 1000]).await;
    settle().await;
    let ping = rig.backend.say(PING_FRAME, b"you?").await;
    rig.client.expect(&ping).await;
    rig.backend.expect(&long).await;
}

#[tokio::test(start_paused = true)]
async fn a_ping_behind_the_clients_close_is_not_answered() {
    let mut rig = answering().start();
    let close = rig.client.close(1000, "");
    rig.client.send(&close).await;
    rig.backend.expect(&close).await;
    rig.backend.say(PING_FRAME, b"you?").await;
    rig.backend.expect_nothing(secs(1)).await;
    let answer = rig.backend.close(1000, "");
    rig.backend.send(&answer).await;
    rig.client.expect(&answer).await;
    assert_eq!(rig.end().await, ("client", "closed", Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn a_paused_client_proves_nothing_either() {
    use crate::splice::{OverRateAction, RateLimit};
    let mut rig = answering()
        .limits(|limits| {
            limits.rate = RateLimit {
                messages: 1,
                bytes: 0,
                over: OverRateAction::Pause,
            };
        })
        .start();
    let text = rig.client.frame(TEXT, b"x");
    rig.client.send(&text.repeat(10)).await;
    rig.backend.expect(&text).await;
    // It is not read, so that nothing of it is known: the Ping goes to it.
    let ping = rig.backend.say(PING_FRAME, b"you?").await;
    rig.client.expect(&ping).await;
}
