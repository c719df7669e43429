use crate::http::h2::*;
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
fn frames_are_coalesced_after_other_tasks_have_run() {
    let cx = &mut task::Context::from_waker(Waker::noop());
    let (near, far) = duplex(1 << 20);
    let coalescer = WriteCoalescer::new(near);
    let mut connection = pin!(connection(coalescer.clone(), 3, 100));
    let mut far = pin!(far);
    let mut buf = [0; 1000];
    let mut received = |cx: &mut task::Context<'_>| {
        let mut buf = ReadBuf::new(&mut buf);
        let read = far.as_mut().poll_read(cx, &mut buf);
        read.map(|_| buf.filled().len())
    };
    assert!(
        coalescer
            .poll_with(cx, connection.as_mut(), true)
            .is_pending()
    );
    assert!(received(cx).is_pending());
    assert!(
        coalescer
            .poll_with(cx, connection.as_mut(), true)
            .is_pending()
    );
    assert!(matches!(received(cx), Poll::Ready(300)));
    assert_eq!(coalescer.lock().pending.capacity(), 0);
    assert!(
        coalescer
            .poll_with(cx, connection.as_mut(), true)
            .is_pending()
    );
    assert!(received(cx).is_pending());
}

#[tokio::test]
async fn pending_bytes_are_bounded_and_sent_when_socket_accepts_them() {
    let (near, mut far) = duplex(1000);
    let coalescer = WriteCoalescer::new(near);
    let polled = coalescer.clone();
    let running = tokio::spawn(async move {
        let mut connection = pin!(connection(polled.clone(), 40, 16_384));
        poll_fn(|cx| polled.poll_with(cx, connection.as_mut(), true)).await
    });
    let mut left = 40 * 16_384;
    let mut buf = vec![0; 4096];
    while left > 0 {
        let n = far.read(&mut buf).await.unwrap();
        assert!(n > 0 && coalescer.lock().pending.len() <= MAX_PENDING);
        left -= n;
    }
    drop(far);
    assert_eq!(running.await.unwrap(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn failed_write_ends_the_connection() {
    let (near, far) = duplex(1000);
    drop(far);
    let coalescer = WriteCoalescer::new(near);
    let mut connection = pin!(connection(coalescer.clone(), 1, 100));
    let ended = poll_fn(|cx| coalescer.poll_with(cx, connection.as_mut(), true)).await;
    assert_ne!(ended, io::ErrorKind::TimedOut);
}

#[test]
fn single_request_is_sent_without_delay() {
    let cx = &mut task::Context::from_waker(Waker::noop());
    let (near, far) = duplex(1 << 20);
    let coalescer = WriteCoalescer::new(near);
    let mut connection = pin!(connection(coalescer.clone(), 3, 100));
    let polled = coalescer.poll_with(cx, connection.as_mut(), false);
    assert!(polled.is_pending());
    let mut buf = [0; 1000];
    let mut buf = ReadBuf::new(&mut buf);
    assert!(pin!(far).poll_read(cx, &mut buf).is_ready());
    assert_eq!(buf.filled().len(), 300);
}
