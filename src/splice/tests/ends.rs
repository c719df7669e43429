//! Legs that end without a Close: EOF, errors, frames cut in the middle.

use super::rig::*;
use crate::splice::pump::{MAX_DISCARDED, READ_BUF_LEN};
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
async fn a_client_that_says_no_more_still_hears_the_backend_out() {
    let mut rig = Rig::start();
    let last = rig.client.say(TEXT, b"last words").await;
    rig.client.half_close().await;
    rig.backend.expect(&last).await;
    rig.backend.expect_close(1001).await;
    let more = rig.backend.say(TEXT, b"more").await;
    rig.client.expect(&more).await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.client.expect(&answer).await;
    rig.client.expect_eof().await;
    rig.backend.expect_eof().await;
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_says_no_more_still_hears_the_client_out() {
    for code in [1011, 1014, 4321] {
        let mut rig = Builder::default()
            .limits(|limits| limits.backend_gone_code = code)
            .start();
        let last = rig.backend.say(TEXT, b"last words").await;
        rig.backend.half_close().await;
        rig.client.expect(&last).await;
        rig.client.expect_close(code).await;
        let more = rig.client.say(TEXT, b"more").await;
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
async fn a_gone_leg_is_waited_for_until_close_timeout() {
    let mut rig = Rig::start();
    rig.backend.half_close().await;
    rig.client.expect_close(1011).await;
    sleep(secs(4)).await;
    let more = rig.client.say(TEXT, b"no answer of mine").await;
    rig.backend.expect(&more).await;
    rig.client.expect_eof().await;
    assert_span(rig.elapsed(), CLOSE_TIMEOUT);
    assert_eq!(rig.end().await, ("backend", "gone", Some(1011)));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_client_ends_the_backend_with_1001() {
    let mut rig = Rig::start();
    let last = rig.client.say(TEXT, b"last words").await;
    rig.client.pipe = tokio::io::duplex(1).0;
    rig.backend.expect(&last).await;
    rig.backend.expect_close(1001).await;
    // Input from the backend is discarded without effect.
    rig.backend.say(TEXT, b"discarded").await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < millis(2));
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_backend_ends_the_client_with_1011() {
    let mut rig = Rig::start();
    let last = rig.backend.say(TEXT, b"last words").await;
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
async fn a_reset_is_an_end_like_eof() {
    let mut rig = Rig::start();
    settle().await;
    rig.client.dials.fail_reads();
    rig.backend.expect_close(1001).await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.backend.expect_eof().await;
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));

    let mut rig = Rig::start();
    settle().await;
    rig.backend.dials.fail_reads();
    rig.client.expect_close(1011).await;
    let answer = rig.client.close(1011, "");
    rig.client.send(&answer).await;
    rig.client.expect_eof().await;
    assert_eq!(rig.end().await, ("backend", "gone", Some(1011)));
}

#[tokio::test(start_paused = true)]
async fn a_leg_that_cannot_be_written_to_is_gone() {
    let mut rig = Rig::start();
    settle().await;
    rig.backend.dials.fail_writes();
    rig.client.say(TEXT, b"discarded text").await;
    rig.client.expect_close(1011).await;
    let answer = rig.client.close(1011, "");
    rig.client.send(&answer).await;
    rig.client.expect_eof().await;
    assert!(rig.elapsed() < millis(5));
    assert_eq!(rig.end().await, ("backend", "gone", Some(1011)));

    let mut rig = Rig::start();
    settle().await;
    rig.client.dials.fail_writes();
    rig.backend.say(TEXT, b"discarded text").await;
    rig.backend.expect_close(1001).await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    rig.backend.expect_eof().await;
    assert!(rig.elapsed() < millis(5));
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn last_words_of_a_leg_that_cannot_be_written_to_are_relayed() {
    // Regardless of which direction is polled first.
    for warm_up in [0, 1] {
        let mut rig = Rig::start();
        for _ in 0..warm_up {
            let text = rig.client.say(TEXT, b"x").await;
            rig.backend.expect(&text).await;
        }
        // The backend stops accepting input and sends the reason, then its Close.
        let why = rig.backend.frame(TEXT, b"why");
        let close = rig.backend.close(1008, "enough");
        let down = [why.clone(), close.clone()].concat();
        let up = rig.client.frame(TEXT, b"too much");
        settle().await;
        rig.backend.dials.fail_writes();
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
async fn a_leg_that_cannot_be_written_to_does_not_hide_behind_a_stuck_one() {
    let mut rig = Builder {
        backend_pipe: 16,
        ..Builder::default()
    }
    .start();
    rig.client.say(BINARY, &[1; 1000]).await;
    settle().await;
    rig.client.dials.fail_writes();
    let down = rig.backend.frame(TEXT, b"x");
    rig.backend.send(&down).await;
    rig.backend
        .expect(&rig.client.frame(BINARY, &[1; 1000])[..16])
        .await;
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
    assert!(rig.elapsed() < secs(7), "{:?}", rig.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_backend_cannot_push_without_end_for_a_client_that_is_gone() {
    // Whether or not it reads the Close.
    for backend_pipe in [64 * 1024, 512] {
        let mut rig = Builder {
            backend_pipe,
            ..Builder::default()
        }
        .start();
        rig.client.say(BINARY, &[1; 1000]).await;
        settle().await;
        rig.client.dials.fail_writes();
        let message = rig.backend.frame(BINARY, &[2; 60_000]);
        while rig.backend.pipe.write_all(&message).await.is_ok() {}
        assert!(rig.elapsed() < millis(10), "{:?}", rig.elapsed());
        assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
        let received = rig.backend.dials.received.load(SeqCst) as usize;
        // As much again while leave is taken.
        assert!((MAX_DISCARDED..=2 * MAX_DISCARDED + READ_BUF_LEN).contains(&received));
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_cut_short_leaves_no_trace() {
    let long = head(BINARY, 70_000, true);
    for cut in 1..long.len() {
        let mut rig = Rig::start();
        let good = rig.client.say(TEXT, b"good").await;
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
async fn a_control_frame_cut_short_leaves_no_trace() {
    let ping = frame(PING_FRAME, b"half a ping", false);
    for cut in 1..ping.len() {
        let mut rig = Rig::start();
        rig.backend.send(&ping[..cut]).await;
        rig.backend.half_close().await;
        rig.client.expect_close(1011).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_cut_short_is_a_tcp_close() {
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
async fn a_frame_cut_short_during_the_close_is_a_tcp_close_at_once() {
    // The backend has asked for the end; the client is in the middle of a frame.
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

    // So did an order.
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
    let whole = rig.backend.say(BINARY, &[1; 40_000]).await;
    rig.backend.half_close().await;
    sleep(secs(60)).await;
    rig.client.expect(&whole).await;
    rig.client.expect_close(1011).await;
    let answer = rig.client.close(1011, "");
    rig.client.send(&answer).await;
    rig.backend.expect(&answer).await;
    assert_eq!(rig.end().await, ("backend", "gone", Some(1011)));
    assert!(!rig.client.dials.was_reset());
}

#[tokio::test(start_paused = true)]
async fn a_truncated_frame_is_delivered_up_to_its_last_byte() {
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
async fn both_may_vanish_at_once() {
    let mut rig = Rig::start();
    rig.client.pipe = tokio::io::duplex(1).0;
    rig.backend.pipe = tokio::io::duplex(1).0;
    assert_eq!(rig.outcome().await.why.as_str(), "gone");
    assert!(rig.elapsed() < millis(2));
}

/// A client that never stops sending, over a stream that is always ready.
struct Torrent(Vec<u8>, Wire);

impl AsyncRead for Torrent {
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

impl AsyncWrite for Torrent {
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

impl crate::splice::Transport for Torrent {
    fn taken(&self) -> u64 {
        self.1.taken()
    }

    fn reset(&self) {
        self.1.reset();
    }
}

/// A backend that takes everything at once.
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

impl crate::splice::Transport for Sink {
    fn taken(&self) -> u64 {
        0
    }

    fn reset(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_torrent_in_one_direction_does_not_starve_the_other() {
    let (client, client_wire) = Far::new(1024, true);
    let (backend, backend_wire) = Far::new(1024, false);
    let torrent = Torrent(frame(BINARY, &[1; 1000], true), client_wire);
    let mut rig = Builder::default().start_over(client, torrent, backend, Sink(backend_wire));
    let down = rig.backend.say(TEXT, b"stop it").await;
    // The torrent keeps the clock from moving: turns are counted instead.
    let mut turns = 0;
    let got = rig.client.expect(&down);
    tokio::pin!(got);
    tokio::select! {
        biased;
        () = &mut got => {}
        () = async { while turns < 1000 { tokio::task::yield_now().await; turns += 1; } } => {
            panic!("starved");
        }
    }
}
