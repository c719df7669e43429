//! A real Python server that asks every second, and a client whose link needs longer than that.

use crate::harness::{Frame, Lockgate, Program, Wire, within};
use std::time::Duration;
use tokio::time::sleep;

/// What the link takes, there and back: more than the server's `ping_interval` and `ping_timeout` of a second each.
const LINK: Duration = Duration::from_millis(2500);

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

/// The next frame, and if it is a Ping the answer to it, as late as the link makes it.
async fn late(client: &mut Wire) -> Frame {
    let frame = client.frame().await;
    if frame.opcode == 9 {
        sleep(LINK).await;
        // It may be closed meanwhile.
        let pong = Frame::pong(&frame.payload).masked().encode();
        let _ = client.try_send(&pong).await;
    }
    frame
}

#[tokio::test]
async fn a_relayed_ping_that_is_answered_late_costs_the_session() {
    let (_server, _lockgate, mut client) = session("never").await;
    let close = within("the server's patience", async {
        loop {
            let frame = late(&mut client).await;
            if frame.is_close() {
                return frame;
            }
        }
    });
    assert_eq!(close.await.closes_with(), (1011, "keepalive ping timeout"));
}

#[tokio::test]
async fn a_ping_that_is_answered_for_a_live_client_costs_nothing() {
    let (_server, lockgate, mut client) = session("when-client-live").await;
    for _ in 0..3 {
        let frame = late(&mut client).await;
        assert_eq!(
            (frame.opcode, frame.payload.len()),
            (9, 12),
            "a Ping of ours"
        );
    }
    client.send_frame(Frame::text("still here")).await;
    assert_eq!(client.text().await, "still here");
    let of = |what| lockgate.metric(what);
    let count = of("lockgate_ping_rtt_seconds_count{leg=\"client\"}").await;
    let sum = of("lockgate_ping_rtt_seconds_sum{leg=\"client\"}").await;
    assert_eq!(count, 3.0);
    assert!(sum >= 3.0 * LINK.as_secs_f64(), "{sum} s");
}
