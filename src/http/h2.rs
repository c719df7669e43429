//! HTTP/2: many requests and WebSockets on one connection, none of which can stall the others (RFC 9113 §5.2).

use crate::{
    http::{
        body::Body,
        conn_state::{ConnState, InFlight},
        context::Context,
        h2_refusals::{FoundRefusals, RefusalScanner},
        h2_response::{MeteredBody, ResponseProgress, StreamGuard},
        progress::ProgressLimits,
        request_body::{RequestBody, UnreadBody},
        timeouts::{ClientStream, ConnTimeouts, StreamParts, TimeoutStream},
        unparsed,
    },
    lifecycle::tasks::Tasks,
    net::{
        socket::{Socket, Transport},
        tls_stream::ServerStream,
    },
    splice::leg::LegIo,
};
use ::http::{Request, Response};
use hyper::{
    body::Incoming, rt::Executor, server::conn::http2, service::service_fn, upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use std::{
    cell::Cell,
    future::poll_fn,
    io,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{self, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, sleep_until},
};

/// A connection's stream, which coalesces writes, because h2 flushes after each DATA frame and a hundred sessions of
/// one connection have a frame each. It buffers writes until [`WriteCoalescer::poll_with`] sends them. Clones share the
/// same stream: one belongs to the connection, one to the caller that polls it.
struct WriteCoalescer<S>(Arc<Mutex<CoalescerInner<S>>>);

struct CoalescerInner<S> {
    io: S,
    /// Buffered bytes, from `sent` on; never more than [`MAX_PENDING`].
    pending: Vec<u8>,
    sent: usize,
    /// Set until all written bytes have reached the kernel: TLS keeps some of them until its socket accepts them.
    is_unflushed: bool,
    /// Set when the other tasks have run since the first of these bytes was written.
    yielded: bool,
    /// The error of a failed write, which the connection receives by its next call.
    failed: Option<io::Error>,
    scanner: RefusalScanner,
}

/// The client's leg of an extended CONNECT (RFC 8441): one stream of many in an HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct H2Stream {
    io: TokioIo<Upgraded>,
    bytes_accepted: u64,
    /// The read error, reported after the bytes that were read.
    read_error: Option<io::Error>,
}

/// Runs the tasks that hyper spawns for streams, so that they are tracked.
#[derive(Clone)]
struct TasksExecutor(Tasks);

/// The error of a request that arrives long after the GOAWAY; its stream is reset.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closing")]
struct ConnectionClosing;

tokio::task_local! {
    /// The guard of the stream that hyper has just opened. hyper calls the service, and then the executor, in the task
    /// of the connection; an executor that is called elsewhere runs an upgraded stream, which has no such deadline.
    static OPENED_STREAM: Cell<Option<StreamGuard>>;
}

/// Runs hyper's HTTP/2 over a client's stream.
///
/// Every stream may have [`STREAM_WINDOW`] unread bytes in flight to Lockgate, and the connection's window has room
/// for that many of each: a stream whose reader is stalled uses up its own window, never the connection's. The overhead
/// for unread small frames is limited for all streams together: see [`CONNECTION_WINDOW`].
///
/// A GOAWAY is followed by a PING, and hyper admits new streams until the client has answered it. A client that does
/// not answer within [`ConnTimeouts::goaway`] opens no further stream, and the connection ends with its last one.
pub(crate) async fn drive<F>(
    context: &Context,
    parts: StreamParts<Box<ServerStream<Socket>>>,
    client: IpAddr,
    answer: impl Fn(Request<RequestBody>, InFlight) -> F,
) -> Result<(), hyper::Error>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let driving = drive_streams(context, parts, client, answer);
    OPENED_STREAM.scope(Cell::new(None), driving).await
}

async fn drive_streams<F>(
    context: &Context,
    parts: StreamParts<Box<ServerStream<Socket>>>,
    client: IpAddr,
    answer: impl Fn(Request<RequestBody>, InFlight) -> F,
) -> Result<(), hyper::Error>
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let (state, coalescer, timeouts, connection) = {
        let gateway = context.live.snapshot();
        let limits = &gateway.limits;
        let state = ConnState::multiplexed(limits.h2_streams);
        let timeouts = ConnTimeouts::new(limits);
        let stream: ClientStream =
            TimeoutStream::new(parts, state.clone(), timeouts.without_rate());
        // Above our limit, which `validate` checks: h2 answers a larger head without calling the service.
        let head = u32::try_from(limits.head_size.0).unwrap_or(u32::MAX);
        let coalescer = WriteCoalescer::new(stream);
        let mut builder = http2::Builder::new(TasksExecutor(context.tasks.clone()));
        builder
            .auto_date_header(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(
                limits
                    .h2_streams
                    .saturating_mul(STREAM_WINDOW)
                    .clamp(CONNECTION_WINDOW, MAX_WINDOW),
            )
            .max_concurrent_streams(limits.h2_streams)
            .max_send_buf_size(MAX_SEND_BUF)
            .max_header_list_size(head.saturating_mul(2));
        if gateway.h2_websocket {
            builder.enable_connect_protocol();
        }
        let progress = ProgressLimits::of_client(limits);
        let (connection_state, tasks) = (state.clone(), context.tasks.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let state = &connection_state;
            let opened = (!state.is_refusing()).then(|| {
                let in_flight = state.begin_request();
                let progress = Arc::new(ResponseProgress::new(progress));
                let unread = Arc::new(UnreadBody::default());
                let request = request.map(|body| RequestBody::of_stream(body, &unread));
                let guard = StreamGuard::new(
                    progress.clone(),
                    state.clone(),
                    unread,
                    tasks.clone(),
                    in_flight.clone(),
                );
                OPENED_STREAM.with(|opened| opened.set(Some(guard)));
                (Box::pin(answer(request, in_flight)), progress)
            });
            async {
                let (answered, progress) = opened.ok_or(ConnectionClosing)?;
                let response = answered.await;
                Ok::<_, ConnectionClosing>(response.map(|body| MeteredBody::new(body, progress)))
            }
        });
        let io = TokioIo::new(coalescer.clone());
        let connection = builder.serve_connection(io, service);
        (state, coalescer, timeouts, connection)
    };
    let mut connection = pin!(connection);
    // The end of the time in which the client must react to the GOAWAY.
    let mut closing: Option<Instant> = None;
    let mut shutting_down = false;
    loop {
        let must_close = tokio::select! {
            // The connection is polled first: what it reads determines whether it may close.
            biased;
            ended = poll_fn(|cx| {
                let polled = coalescer.poll_with(cx, connection.as_mut(), state.is_shared());
                if let Some(refusals) = coalescer.take_refusals() {
                    for (status, why) in refusals.each() {
                        unparsed::record((&context.metrics, &context.access), client, "2", status, why);
                    }
                }
                if polled.is_pending() && state.is_finished() && !coalescer.is_unflushed() {
                    return Poll::Ready(Ok(()));
                }
                polled
            }) => break ended,
            must_close = state.notified() => must_close,
            () = state.stopped(&context.tasks, &context.sessions), if !shutting_down => {
                shutting_down = true;
                state.end().hasten();
                true
            }
            () = sleep_until(closing.unwrap_or_else(Instant::now)), if closing.is_some() && !state.is_refusing() => {
                state.refuse_requests();
                false
            }
        };
        if must_close && closing.is_none() {
            closing = Some(Instant::now() + timeouts.goaway());
            connection.as_mut().graceful_shutdown();
        }
    }
}

// === impl WriteCoalescer ===

impl<S> Clone for WriteCoalescer<S> {
    fn clone(&self) -> Self {
        WriteCoalescer(self.0.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WriteCoalescer<S> {
    pub(crate) fn new(io: S) -> Self {
        WriteCoalescer(Arc::new(Mutex::new(CoalescerInner {
            io,
            pending: Vec::new(),
            sent: 0,
            is_unflushed: false,
            yielded: false,
            failed: None,
            scanner: RefusalScanner::default(),
        })))
    }

    /// Polls the connection, and sends what it has written. If `coalesce` is set, all ready tasks run first, because
    /// their output can be sent in the same write.
    fn poll_with<F: Future>(
        &self,
        cx: &mut task::Context<'_>,
        mut connection: Pin<&mut F>,
        coalesce: bool,
    ) -> Poll<F::Output> {
        loop {
            let polled = connection.as_mut().poll(cx);
            let mut it = self.lock();
            if !it.is_unflushed {
                return polled;
            }
            if polled.is_pending() && coalesce && !it.yielded {
                it.yielded = true;
                // A task that is woken while it runs goes to the end of the queue.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match it.poll_write_out(cx) {
                // The connection sees the error at once, and ends.
                Poll::Ready(Err(error)) if polled.is_pending() => it.failed = Some(error),
                _ => return polled,
            }
        }
    }

    /// Returns the requests that h2 has refused since the last call.
    fn take_refusals(&self) -> Option<FoundRefusals> {
        self.lock().scanner.take()
    }

    /// Returns whether written bytes have not reached the kernel.
    fn is_unflushed(&self) -> bool {
        self.lock().is_unflushed
    }

    /// Locks the state. The lock is never held longer than one call.
    fn lock(&self) -> MutexGuard<'_, CoalescerInner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl CoalescerInner ===

impl<S: AsyncRead + AsyncWrite + Unpin> CoalescerInner<S> {
    fn take_error(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Writes the buffered bytes to the stream and flushes it. The buffer is freed when it is empty or on an error.
    fn poll_write_out(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.pending.len() {
            let rest = &self.pending[self.sent..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest)) {
                Ok(n) if n > 0 => self.sent += n,
                failed => {
                    self.release_buffer();
                    self.is_unflushed = false;
                    return Poll::Ready(failed.and(Err(io::ErrorKind::WriteZero.into())));
                }
            }
        }
        self.release_buffer();
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        self.is_unflushed = false;
        Poll::Ready(flushed)
    }

    /// Frees the buffer instead of clearing it, so that an idle connection holds none.
    fn release_buffer(&mut self) {
        self.pending = Vec::new();
        self.sent = 0;
        self.yielded = false;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WriteCoalescer<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut it = self.lock();
        it.take_error()?;
        Pin::new(&mut it.io).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WriteCoalescer<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut it = self.lock();
        it.take_error()?;
        if it.pending.len() >= MAX_PENDING {
            ready!(it.poll_write_out(cx))?;
        }
        let mut free = MAX_PENDING - it.pending.len();
        let mut taken = 0;
        for buf in bufs {
            let fits = &buf[..buf.len().min(free)];
            it.scanner.scan(fits);
            it.pending.extend_from_slice(fits);
            free -= fits.len();
            taken += fits.len();
        }
        it.is_unflushed |= taken > 0;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does not flush: `poll_with` does that.
    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.lock().take_error())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let mut it = self.lock();
        it.take_error()?;
        ready!(it.poll_write_out(cx))?;
        Pin::new(&mut it.io).poll_shutdown(cx)
    }
}

// === impl H2Stream ===

impl H2Stream {
    pub(crate) fn new(upgraded: Upgraded) -> Self {
        H2Stream {
            io: TokioIo::new(upgraded),
            bytes_accepted: 0,
            read_error: None,
        }
    }
}

impl Transport for H2Stream {
    /// Returns what the stream's queue has accepted, which is a few chunks ahead of the client's flow control.
    fn bytes_accepted(&self) -> u64 {
        self.bytes_accepted
    }

    /// Does nothing: a drop ends the stream.
    fn reset(&self) {}

    /// Returns `Ready` after a reset of the stream and after the end of its connection: both end the task of hyper that
    /// sends, and a flush then fails.
    fn poll_hang_up(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }
}

impl LegIo for H2Stream {}

impl AsyncRead for H2Stream {
    /// Reads all available bytes: hyper returns one DATA frame at a time, and one read becomes one write to the
    /// backend.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.read_error.take() {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        loop {
            let had = buf.filled().len();
            let read = Pin::new(&mut self.io).poll_read(cx, buf);
            let is_more = buf.filled().len() > had && buf.remaining() > 0;
            match read {
                Poll::Ready(Ok(())) if is_more => {}
                read if had == before => return read,
                Poll::Ready(Err(error)) => {
                    self.read_error = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for H2Stream {
    /// Writes chunk by chunk: hyper copies its input, and queues up to three chunks.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let chunk = &buf[..buf.len().min(CHUNK_LEN)];
        let written = Pin::new(&mut self.io).poll_write(cx, chunk);
        if let Poll::Ready(Ok(n)) = written {
            self.bytes_accepted += n as u64;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

// === impl TasksExecutor ===

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TasksExecutor {
    fn execute(&self, future: F) {
        match OPENED_STREAM.try_with(Cell::take) {
            Ok(Some(stream)) => self.0.spawn(stream.run(future)),
            Ok(None) | Err(_) => self.0.spawn(future),
        }
    }
}

/// The bytes in flight to Lockgate in one stream: the default of RFC 9113 §6.5.2.
const STREAM_WINDOW: u32 = 65_535;

/// The maximum of a window (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The minimum of a connection's window. h2 counts 256 bytes for each unread small frame, and ends the connection when
/// they reach half of its window: here 8 MiB, about the windows of 100 streams. The frames use up to three times that.
/// h2 subtracts the length of larger frames that arrive, so a client that also sends those may have more small ones.
/// Three streams that are paused with as many of the smallest messages as their windows admit (9,362) do not end the
/// others.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// The bytes of one stream's response that are buffered while its client does not read.
const MAX_SEND_BUF: usize = 64 * 1024;

/// Four full TLS records, sent by one write.
const MAX_PENDING: usize = 64 * 1024;

/// Two DATA frames of the usual size (RFC 9113 §4.2).
const CHUNK_LEN: usize = 32 * 1024;

#[cfg(test)]
mod tests;
