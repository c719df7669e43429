//! Legs that end without a Close: EOF, errors, truncated frames.

use crate::{
    net::socket::Transport,
    splice::{
        leg::LegIo,
        pump::{MAX_DISCARDED, READ_BUF_LEN},
        tests::harness::*,
    },
};
use std::{
    io,
    pin::Pin,
    sync::atomic::Ordering::SeqCst,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    task::coop,
    time::sleep,
};

#[tokio::test(start_paused = true)]
async fn half_closed_client_still_receives_backend_frames() {
    let mut rig = Rig::start();
    let last = rig.client.send_frame(TEXT, b"last text").await;
    rig.client.half_close().await;
    rig.backend.expect(&last).await;
    rig.backend.expect_close(1001).await;
    let more = rig.backend.send_frame(TEXT, b"more").await;
    rig.client.expect(&more).await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.client.expect(&answer).await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn half_closed_backend_still_receives_client_frames() {
    for code in [1011, 1014, 4321] {
        let mut rig = Builder::default()
            .limits(|limits| limits.backend_gone_code = code)
            .start();
        let last = rig.backend.send_frame(TEXT, b"last text").await;
        rig.backend.half_close().await;
        rig.client.expect(&last).await;
        rig.client.expect_close(code).await;
        let more = rig.client.send_frame(TEXT, b"more").await;
        rig.backend.expect(&more).await;
        let answer = rig.client.close(code, "");
        rig.client.send(&answer).await;
        rig.backend.expect(&answer).await;
        rig.client.expect_eof().await;
        rig.backend.expect_eof().await;
        assert_eq!(rig.end().await, ("backend", "gone", Some(code)));
    }
}

#[tokio::test(start_paused = true)]
async fn close_reply_after_a_lost_leg_is_awaited_until_close_timeout() {
    let mut rig = Rig::start();
    rig.backend.half_close().await;
    rig.client.expect_close(1011).await;
    sleep(secs(4)).await;
    let more = rig.client.send_frame(TEXT, b"not a close reply").await;
    rig.backend.expect(&more).await;
    rig.client.expect_eof().await;
    assert_span(rig.elapsed(), CLOSE_TIMEOUT);
    assert_eq!(rig.end().await, ("backend", "gone", Some(1011)));
}

#[tokio::test(start_paused = true)]
async fn dropped_client_closes_the_backend_with_1001() {
    let mut rig = Rig::start();
    let last = rig.client.send_frame(TEXT, b"last text").await;
    rig.client.pipe = tokio::io::duplex(1).0;
    rig.backend.expect(&last).await;
    rig.backend.expect_close(1001).await;
    // Input from the backend is discarded without effect.
    rig.backend.send_frame(TEXT, b"discarded").await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < millis(2));
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn dropped_backend_closes_the_client_with_1011() {
    let mut rig = Rig::start();
    let last = rig.backend.send_frame(TEXT, b"last text").await;
    rig.backend.pipe = tokio::io::duplex(1).0;
    rig.client.expect(&last).await;
    rig.client.expect_close(1011).await;
    let answer = rig.client.close(1011, "");
    rig.client.send(&answer).await;
    rig.client.expect_eof().await;
    assert!(rig.elapsed() < millis(2));
    assert_eq!(rig.end().await, ("backend", "gone", Some(1011)));
}

#[tokio::test(start_paused = true)]
async fn reset_ends_a_leg_like_eof() {
    let mut rig = Rig::start();
    settle().await;
    rig.client.wire.fail_reads();
    rig.backend.expect_close(1001).await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.backend.expect_eof().await;
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));

    let mut rig = Rig::start();
    settle().await;
    rig.backend.wire.fail_reads();
    rig.client.expect_close(1011).await;
    let answer = rig.client.close(1011, "");
    rig.client.send(&answer).await;
    rig.client.expect_eof().await;
    assert_eq!(rig.end().await, ("backend", "gone", Some(1011)));
}

#[tokio::test(start_paused = true)]
async fn leg_whose_writes_fail_is_gone() {
    let mut rig = Rig::start();
    settle().await;
    rig.backend.wire.fail_writes();
    rig.client.send_frame(TEXT, b"discarded text").await;
    rig.client.expect_close(1011).await;
    let answer = rig.client.close(1011, "");
    rig.client.send(&answer).await;
    rig.client.expect_eof().await;
    assert!(rig.elapsed() < millis(5));
    assert_eq!(rig.end().await, ("backend", "gone", Some(1011)));

    let mut rig = Rig::start();
    settle().await;
    rig.client.wire.fail_writes();
    rig.backend.send_frame(TEXT, b"discarded text").await;
    rig.backend.expect_close(1001).await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < millis(5));
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn input_of_a_leg_whose_writes_fail_is_still_relayed() {
    // Regardless of which direction is polled first.
    for earlier_frames in [0, 1] {
        let mut rig = Rig::start();
        for _ in 0..earlier_frames {
            let text = rig.client.send_frame(TEXT, b"x").await;
            rig.backend.expect(&text).await;
        }
        // The backend stops accepting input and sends a text, then its Close.
        let why = rig.backend.frame(TEXT, b"why");
        let close = rig.backend.close(1008, "enough");
        let down = [why.clone(), close.clone()].concat();
        let up = rig.client.frame(TEXT, b"too much");
        settle().await;
        rig.backend.wire.fail_writes();
        tokio::join!(rig.client.send(&up), rig.backend.send(&down));
        rig.client.expect(&why).await;
        rig.client.expect(&close).await;
        let answer = rig.client.close(1008, "");
        rig.client.send(&answer).await;
        rig.client.expect_eof().await;
        assert_eq!(rig.end().await, ("backend", "closed", Some(1008)));
    }
}

#[tokio::test(start_paused = true)]
async fn failed_write_ends_the_session_although_the_other_leg_is_blocked() {
    let mut rig = Builder {
        backend_pipe: 16,
        ..Builder::default()
    }
    .start();
    rig.client.send_frame(BINARY, &[1; 1000]).await;
    settle().await;
    rig.client.wire.fail_writes();
    let down = rig.backend.frame(TEXT, b"x");
    rig.backend.send(&down).await;
    rig.backend
        .expect(&rig.client.frame(BINARY, &[1; 1000])[..16])
        .await;
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
    assert!(rig.elapsed() < secs(7), "{:?}", rig.elapsed());
}

#[tokio::test(start_paused = true)]
async fn backend_input_for_a_lost_client_is_limited() {
    // With and without reading the Close.
    for backend_pipe in [64 * 1024, 512] {
        let mut rig = Builder {
            backend_pipe,
            ..Builder::default()
        }
        .start();
        rig.client.send_frame(BINARY, &[1; 1000]).await;
        settle().await;
        rig.client.wire.fail_writes();
        let message = rig.backend.frame(BINARY, &[2; 60_000]);
        while rig.backend.pipe.write_all(&message).await.is_ok() {}
        assert!(rig.elapsed() < millis(10), "{:?}", rig.elapsed());
        assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
        let received = rig.backend.wire.received.load(SeqCst) as usize;
        // The lingering close discards as much again.
        assert!((MAX_DISCARDED..=2 * MAX_DISCARDED + READ_BUF_LEN).contains(&received));
    }
}

#[tokio::test(start_paused = true)]
async fn truncated_header_is_not_relayed() {
    let long = head(BINARY, 70_000, true);
    for cut in 1..long.len() {
        let mut rig = Rig::start();
        let good = rig.client.send_frame(TEXT, b"good").await;
        rig.client.send(&long[..cut]).await;
        rig.client.half_close().await;
        rig.backend.expect(&good).await;
        rig.backend.expect_close(1001).await;
        let answer = rig.backend.close(1001, "");
        rig.backend.send(&answer).await;
        rig.client.expect(&answer).await;
        rig.backend.expect_eof().await;
        assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
    }
}

#[tokio::test(start_paused = true)]
async fn truncated_control_frame_is_not_relayed() {
    let ping = frame(PING_FRAME, b"half a ping", false);
    for cut in 1..ping.len() {
        let mut rig = Rig::start();
        rig.backend.send(&ping[..cut]).await;
        rig.backend.half_close().await;
        rig.client.expect_close(1011).await;
    }
}

#[tokio::test(start_paused = true)]
async fn truncated_frame_closes_tcp_without_a_close_frame() {
    for cut in [6, 7, 50, 105] {
        let mut rig = Rig::start();
        let whole = rig.client.frame(BINARY, &[1; 100]);
        rig.client.send(&whole[..cut]).await;
        rig.client.half_close().await;
        rig.backend.expect(&whole[..cut]).await;
        rig.backend.expect_eof().await;
        rig.client.expect_eof().await;
        assert!(rig.elapsed() < millis(2));
        assert_eq!(rig.end().await, ("client", "cut", None));

        let mut rig = Rig::start();
        let whole = rig.backend.frame(BINARY, &[1; 110]);
        rig.backend.send(&whole[..cut]).await;
        rig.backend.half_close().await;
        rig.client.expect(&whole[..cut]).await;
        rig.client.expect_eof().await;
        rig.backend.expect_eof().await;
        assert!(rig.elapsed() < millis(2));
        assert_eq!(rig.end().await, ("backend", "cut", None));
    }
}

#[tokio::test(start_paused = true)]
async fn frame_truncated_during_the_closing_handshake_closes_tcp_at_once() {
    // The backend sends a Close; the client is in the middle of a frame.
    let mut rig = Rig::start();
    let whole = rig.client.frame(BINARY, &[1; 100]);
    rig.client.send(&whole[..50]).await;
    rig.backend.expect(&whole[..50]).await;
    let close = rig.backend.close(1000, "");
    rig.backend.send(&close).await;
    rig.client.expect(&close).await;
    rig.client.half_close().await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < millis(2));
    assert_eq!(rig.end().await, ("backend", "closed", Some(1000)));

    // The same with a close order.
    let mut rig = Rig::start();
    rig.client.send(&whole[..50]).await;
    rig.backend.expect(&whole[..50]).await;
    rig.sessions.close_all(1012);
    rig.client.expect_close(1012).await;
    rig.client.half_close().await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < millis(2));
    assert_eq!(rig.end().await, ("lockgate", "ordered", Some(1012)));
}

#[tokio::test(start_paused = true)]
async fn bytes_read_before_eof_are_delivered() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .start();
    let whole = rig.backend.send_frame(BINARY, &[1; 40_000]).await;
    rig.backend.half_close().await;
    sleep(secs(60)).await;
    rig.client.expect(&whole).await;
    rig.client.expect_close(1011).await;
    let answer = rig.client.close(1011, "");
    rig.client.send(&answer).await;
    rig.backend.expect(&answer).await;
    assert_eq!(rig.end().await, ("backend", "gone", Some(1011)));
    assert!(!rig.client.wire.was_reset());
}

#[tokio::test(start_paused = true)]
async fn truncated_frame_is_delivered_up_to_its_last_byte() {
    let mut rig = Builder {
        client_pipe: 16,
        ..Builder::default()
    }
    .start();
    let whole = rig.backend.frame(BINARY, &[1; 40_000]);
    rig.backend.send(&whole[..30_000]).await;
    rig.backend.half_close().await;
    sleep(secs(60)).await;
    rig.client.expect(&whole[..30_000]).await;
    rig.client.expect_eof().await;
    assert_eq!(rig.end().await, ("backend", "cut", None));
}

#[tokio::test(start_paused = true)]
async fn simultaneous_drop_of_both_peers_ends_the_session() {
    let mut rig = Rig::start();
    rig.client.pipe = tokio::io::duplex(1).0;
    rig.backend.pipe = tokio::io::duplex(1).0;
    assert_eq!(rig.outcome().await.why.as_str(), "gone");
    assert!(rig.elapsed() < millis(2));
}

/// A client that never stops sending, over a stream that is always ready.
struct EndlessSender(Vec<u8>, Wire);

impl AsyncRead for EndlessSender {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(coop::poll_proceed(cx)).made_progress();
        buf.put_slice(&self.0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EndlessSender {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.1).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.1).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.1).poll_shutdown(cx)
    }
}

impl Transport for EndlessSender {
    fn bytes_accepted(&self) -> u64 {
        self.1.bytes_accepted()
    }

    fn reset(&self) {
        self.1.reset();
    }
}

impl LegIo for EndlessSender {}

/// A backend that accepts all bytes immediately.
struct Sink(Wire);

impl AsyncRead for Sink {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(coop::poll_proceed(cx)).made_progress();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Sink {
    fn bytes_accepted(&self) -> u64 {
        0
    }

    fn reset(&self) {}
}

impl LegIo for Sink {}

#[tokio::test(start_paused = true)]
async fn endless_traffic_in_one_direction_does_not_starve_the_other() {
    let (client, client_wire) = TestPeer::new(1024, true);
    let (backend, backend_wire) = TestPeer::new(1024, false);
    let endless = EndlessSender(frame(BINARY, &[1; 1000], true), client_wire);
    let mut rig = Builder::default().start_over(client, endless, backend, Sink(backend_wire));
    let down = rig.backend.send_frame(TEXT, b"stop it").await;
    // Paused time does not advance while a task is busy: yields are counted instead.
    let mut yields = 0;
    let got = rig.client.expect(&down);
    tokio::pin!(got);
    tokio::select! {
        biased;
        () = &mut got => {}
        () = async { while yields < 1000 { tokio::task::yield_now().await; yields += 1; } } => {
            panic!("starved");
        }
    }
}
