//! Close orders: a drain or a shutdown reaches every session, at a frame boundary.

use crate::splice::tests::harness::*;

#[tokio::test(start_paused = true)]
async fn close_order_closes_both_legs() {
    let mut rig = Rig::start();
    settle().await;
    rig.sessions.close_all(1012);
    rig.client.expect_close(1012).await;
    rig.backend.expect_close(1001).await;
    assert!(rig.elapsed() < millis(3));
    // Neither reply is relayed: each leg has received its Close.
    let (up, down) = (rig.client.close(1012, ""), rig.backend.close(1001, ""));
    rig.client.send(&up).await;
    rig.backend.send(&down).await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < millis(3));
    assert_eq!(rig.end().await, ("lockgate", "ordered", Some(1012)));
}

#[tokio::test(start_paused = true)]
async fn close_order_without_replies_ends_at_close_timeout() {
    let mut rig = Rig::start();
    rig.sessions.close_all(1001);
    rig.client.expect_close(1001).await;
    rig.backend.expect_close(1001).await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert_span(rig.elapsed(), CLOSE_TIMEOUT);
    assert_eq!(rig.end().await, ("lockgate", "ordered", Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn close_order_follows_bytes_that_were_read() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .start();
    let down = rig.backend.send_frame(BINARY, &[1; 30_000]).await;
    settle().await;
    rig.sessions.close_all(1012);
    rig.backend.expect_close(1001).await;
    rig.client.expect(&down).await;
    rig.client.expect_close(1012).await;
    assert!(rig.elapsed() < millis(3));
}

#[tokio::test(start_paused = true)]
async fn close_order_waits_for_a_frame_boundary() {
    let mut rig = Rig::start();
    let long = rig.backend.frame(0x01, &[1; 1000]);
    rig.backend.send(&long[..100]).await;
    rig.client.expect(&long[..100]).await;
    rig.sessions.close_all(1012);
    // The backend receives its Close immediately: nothing is in flight to it.
    rig.backend.expect_close(1001).await;
    rig.client.expect_nothing(secs(1)).await;
    // Between the fragments of a message is a frame boundary too.
    let next = rig.backend.frame(0x80, b"rest");
    rig.backend.send(&[&long[100..], &next].concat()).await;
    rig.client.expect(&long[100..]).await;
    rig.client.expect_close(1012).await;
    rig.client.expect_nothing(secs(1)).await;
    let up = rig.client.close(1012, "");
    rig.client.send(&up).await;
    let down = rig.backend.close(1001, "");
    rig.backend.send(&down).await;
    rig.client.expect_eof().await;
    assert_span(rig.elapsed(), secs(2));
}

#[tokio::test(start_paused = true)]
async fn close_order_truncates_a_frame_that_never_ends() {
    let mut rig = Rig::start();
    let long = rig.backend.frame(BINARY, &[1; 1000]);
    rig.backend.send(&long[..100]).await;
    rig.client.expect(&long[..100]).await;
    rig.sessions.close_all(1012);
    rig.backend.expect_close(1001).await;
    rig.client.expect_eof().await;
    assert_span(rig.elapsed(), CLOSE_TIMEOUT);
    assert_eq!(rig.end().await, ("lockgate", "ordered", Some(1012)));
}

#[tokio::test(start_paused = true)]
async fn close_order_drops_a_partial_header() {
    let mut rig = Rig::start();
    let text = rig.backend.frame(BINARY, &[1; 1000]);
    rig.backend.send(&text[..2]).await;
    settle().await;
    rig.sessions.close_all(1012);
    rig.client.expect_close(1012).await;
    rig.backend.send(&text[2..]).await;
    rig.client.expect_nothing(secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn frames_after_a_close_order_are_discarded_until_the_reply() {
    let mut rig = Rig::start();
    settle().await;
    rig.sessions.close_all(1012);
    rig.client.expect_close(1012).await;
    rig.backend.expect_close(1001).await;
    rig.client.send_frame(TEXT, b"crossed").await;
    rig.backend.send_frame(TEXT, b"crossed").await;
    rig.client.expect_nothing(secs(1)).await;
    rig.backend.expect_nothing(secs(1)).await;
    // A violation at this point only ends the wait for that leg.
    rig.client.send_frame(0x83, b"bad").await;
    let down = rig.backend.close(1001, "");
    rig.backend.send(&down).await;
    rig.client.expect_eof().await;
    assert_span(rig.elapsed(), secs(2) + millis(1));
    assert_eq!(rig.end().await, ("lockgate", "ordered", Some(1012)));
}

#[tokio::test(start_paused = true)]
async fn close_order_before_the_start_closes_the_session() {
    let builder = Builder {
        client_early: frame(TEXT, b"hello", true),
        ..Builder::default()
    };
    builder.sessions.close_all(1001);
    let mut rig = builder.start();
    rig.backend.expect(&frame(TEXT, b"hello", true)).await;
    rig.backend.expect_close(1001).await;
    rig.client.expect_close(1001).await;
    assert!(rig.elapsed() < millis(2));
}

#[tokio::test(start_paused = true)]
async fn close_order_with_a_close_in_early_data_does_not_hang() {
    let close = frame(CLOSE, &close_payload(1000, ""), true);
    let builder = Builder {
        client_early: close.clone(),
        ..Builder::default()
    };
    builder.sessions.close_all(1001);
    let mut rig = builder.start();
    rig.backend.expect(&close).await;
    let answer = rig.backend.close(1000, "");
    rig.backend.send(&answer).await;
    assert_eq!(rig.client.next().await.first, CLOSE);
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < millis(2), "{:?}", rig.elapsed());
}

#[tokio::test(start_paused = true)]
async fn close_order_is_ignored_during_the_closing_handshake() {
    let mut rig = Rig::start();
    let close = rig.client.close(4000, "");
    rig.client.send(&close).await;
    rig.backend.expect(&close).await;
    rig.sessions.close_all(1012);
    let answer = rig.backend.close(4000, "");
    rig.backend.send(&answer).await;
    rig.client.expect(&answer).await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert_eq!(rig.end().await, ("client", "closed", Some(4000)));
}

#[tokio::test(start_paused = true)]
async fn tcp_drop_after_a_close_order_ends_the_leg() {
    let mut rig = Rig::start();
    settle().await;
    rig.sessions.close_all(1012);
    rig.client.expect_close(1012).await;
    rig.backend.expect_close(1001).await;
    rig.client.half_close().await;
    rig.backend.half_close().await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < millis(3));
    assert_eq!(rig.end().await, ("lockgate", "ordered", Some(1012)));
}

#[tokio::test(start_paused = true)]
async fn close_order_waits_up_to_a_second_for_the_rest_of_a_message() {
    for rest in [true, false] {
        let mut rig = Rig::start();
        let first = rig.backend.frame(0x01, b"first half");
        rig.backend.send(&first).await;
        rig.client.expect(&first).await;
        rig.sessions.close_all(1012);
        rig.backend.expect_close(1001).await;
        rig.client.expect_nothing(millis(500)).await;
        if rest {
            let last = rig.backend.frame(0x80, b"second half");
            rig.backend.send(&last).await;
            rig.client.expect(&last).await;
        }
        rig.client.expect_close(1012).await;
        let waited = if rest { millis(500) } else { secs(1) };
        assert_span(rig.elapsed(), waited);
    }
}

#[tokio::test(start_paused = true)]
async fn session_is_closed_at_max_age() {
    let mut builder = Builder::default();
    builder.limits.max_age = Some((secs(100), 1012));
    builder.limits.client_ping = None;
    let mut rig = builder.start();
    rig.client.expect_close(1012).await;
    // Reduced by a jitter of up to one tenth.
    let lasted = rig.elapsed();
    assert!(lasted >= secs(90) && lasted <= secs(101), "{lasted:?}");
    rig.backend.expect_close(1001).await;
    let (up, down) = (rig.client.close(1012, ""), rig.backend.close(1001, ""));
    rig.client.send(&up).await;
    rig.backend.send(&down).await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert_eq!(rig.end().await, ("lockgate", "max-age", Some(1012)));
}
