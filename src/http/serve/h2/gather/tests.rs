use super::*;
use std::{future::poll_fn, pin::pin, task::Waker};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

/// Writes and flushes the given number of frames once, then waits for an error.
async fn connection(
    mut io: WriteCoalescer<DuplexStream>,
    frames: usize,
    size: usize,
) -> io::ErrorKind {
    for _ in 0..frames {
        io.write_all(&vec![7; size]).await.unwrap();
        io.flush().await.unwrap();
    }
    io.read_u8().await.unwrap_err().kind()
}

#[test]
fn frames_of_one_poll_go_together_once_the_others_had_a_turn() {
    let cx = &mut Context::from_waker(Waker::noop());
    let (near, far) = duplex(1 << 20);
    let gather = WriteCoalescer::new(near);
    let mut connection = pin!(connection(gather.clone(), 3, 100));
    let mut far = pin!(far);
    let mut room = [0; 1000];
    let mut came = |cx: &mut Context<'_>| {
        let mut buf = ReadBuf::new(&mut room);
        let read = far.as_mut().poll_read(cx, &mut buf);
        read.map(|_| buf.filled().len())
    };
    assert!(gather.poll_with(cx, connection.as_mut(), true).is_pending());
    assert!(came(cx).is_pending());
    assert!(gather.poll_with(cx, connection.as_mut(), true).is_pending());
    assert!(matches!(came(cx), Poll::Ready(300)));
    assert_eq!(gather.lock().written.capacity(), 0);
    assert!(gather.poll_with(cx, connection.as_mut(), true).is_pending());
    assert!(came(cx).is_pending());
}

#[tokio::test]
async fn what_the_socket_does_not_take_is_bounded_and_goes_later() {
    let (near, mut far) = duplex(1000);
    let gather = WriteCoalescer::new(near);
    let polled = gather.clone();
    let running = tokio::spawn(async move {
        let mut connection = pin!(connection(polled.clone(), 40, 16_384));
        poll_fn(|cx| polled.poll_with(cx, connection.as_mut(), true)).await
    });
    let mut left = 40 * 16_384;
    let mut room = vec![0; 4096];
    while left > 0 {
        let n = far.read(&mut room).await.unwrap();
        assert!(n > 0 && gather.lock().written.len() <= MAX_PENDING);
        left -= n;
    }
    drop(far);
    assert_eq!(running.await.unwrap(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_failure_to_send_ends_the_connection() {
    let (near, far) = duplex(1000);
    drop(far);
    let gather = WriteCoalescer::new(near);
    let mut connection = pin!(connection(gather.clone(), 1, 100));
    let ended = poll_fn(|cx| gather.poll_with(cx, connection.as_mut(), true)).await;
    assert_ne!(ended, io::ErrorKind::TimedOut);
}

#[test]
fn alone_it_waits_for_nobody() {
    let cx = &mut Context::from_waker(Waker::noop());
    let (near, far) = duplex(1 << 20);
    let gather = WriteCoalescer::new(near);
    let mut connection = pin!(connection(gather.clone(), 3, 100));
    let polled = gather.poll_with(cx, connection.as_mut(), false);
    assert!(polled.is_pending());
    let mut room = [0; 1000];
    let mut buf = ReadBuf::new(&mut room);
    assert!(pin!(far).poll_read(cx, &mut buf).is_ready());
    assert_eq!(buf.filled().len(), 300);
}
