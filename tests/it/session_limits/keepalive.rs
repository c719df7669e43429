//! A Python server that sends a Ping every second, and a client with a longer round-trip time.

use crate::harness::{Frame, Lockgate, Program, Wire, within};
use std::time::Duration;
use tokio::time::sleep;

/// Round-trip time of the client: more than the server's `ping_interval` and `ping_timeout` of a second each.
const ROUND_TRIP: Duration = Duration::from_millis(2500);

async fn session(answer: &str) -> (Program, Lockgate, Wire) {
    let (server, address) = Program::server("impatient_echo.py").await;
    let lockgate = Lockgate::to(address)
        .with(&format!(
            "session = {{ ping = {{ interval = \"1s\", timeout = \"5s\" }}, answer_backend_ping = \"{answer}\" }}"
        ))
        .start()
        .await;
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    (server, lockgate, client)
}

/// Returns the next frame; a Ping is answered after the round-trip time.
async fn frame_with_late_pong(client: &mut Wire) -> Frame {
    let frame = client.frame().await;
    if frame.opcode == 9 {
        // The latency that the test is about.
        sleep(ROUND_TRIP).await;
        // The connection may already be closed.
        let pong = Frame::pong(&frame.payload).masked().encode();
        let _ = client.try_send(&pong).await;
    }
    frame
}

#[tokio::test]
async fn late_pong_to_a_relayed_ping_ends_the_session() {
    let (_server, _lockgate, mut client) = session("never").await;
    let close = within("the server's Close", async {
        loop {
            let frame = frame_with_late_pong(&mut client).await;
            if frame.is_close() {
                return frame;
            }
        }
    });
    assert_eq!(close.await.closes_with(), (1011, "keepalive ping timeout"));
}

#[tokio::test]
async fn backend_ping_is_answered_on_behalf_of_a_live_client() {
    let (_server, lockgate, mut client) = session("when-client-live").await;
    for _ in 0..3 {
        let frame = frame_with_late_pong(&mut client).await;
        assert_eq!(
            (frame.opcode, frame.payload.len()),
            (9, 12),
            "a Ping of Lockgate"
        );
    }
    client.send_frame(Frame::text("still here")).await;
    assert_eq!(client.text().await, "still here");
    let metric = |series| lockgate.metric(series);
    let count = metric("lockgate_ping_rtt_seconds_count{leg=\"client\"}").await;
    let sum = metric("lockgate_ping_rtt_seconds_sum{leg=\"client\"}").await;
    assert_eq!(count, 3.0);
    assert!(sum >= 3.0 * ROUND_TRIP.as_secs_f64(), "{sum} s");
}
