//! Streaming bodies with idle deadlines, and guards that are held until a body is complete.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep},
};

/// A streaming body, never buffered whole.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A request body that is lent to one attempt after another: attempts that did not reach their backend read none of it.
pub(crate) struct ReplayableBody(Arc<SharedBody>);

struct SharedBody {
    body: Mutex<Body>,
    /// Notified when an attempt reads the body, which means that its backend was reached.
    read_started: Notify,
}

/// The progress of a body so far.
#[derive(Debug, Default)]
pub(crate) struct BodyStatus {
    /// A part of the body was forwarded; the reader of this flag clears it.
    pub(crate) moved: AtomicBool,
    /// The body was ended because nothing arrived within the idle deadline.
    pub(crate) timed_out: AtomicBool,
    /// The body could not be read: its framing is wrong, or its sender has disconnected.
    pub(crate) broken: AtomicBool,
    /// The whole body was forwarded.
    pub(crate) complete: AtomicBool,
}

struct IdleTimeoutBody<G> {
    body: Incoming,
    idle: Duration,
    status: Arc<BodyStatus>,
    timer: Pin<Box<Sleep>>,
    /// Set while a read is pending and the timer runs. Between reads the delay is caused by the reader.
    timer_running: bool,
    _guard: G,
}

/// The error of a body that exceeded its idle deadline.
#[derive(Debug, thiserror::Error)]
#[error("no byte of the body was received in time (limits.body_idle, limits.answer_idle)")]
struct BodyTimeout;

/// Returns an empty body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body of one chunk.
pub(crate) fn text(text: String) -> Body {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Forwards a request body, and ends it with an error when no byte has arrived for `idle`. `status` records progress
/// and errors.
pub(crate) fn request_body(body: Incoming, idle: Duration, status: Arc<BodyStatus>) -> Body {
    with_idle_timeout(body, idle, status, ())
}

/// Forwards a response body, and aborts it when no byte has arrived for `idle`. `guard` is dropped when the body is
/// complete or abandoned.
pub(crate) fn response_body<G: Send + 'static>(body: Incoming, idle: Duration, guard: G) -> Body {
    with_idle_timeout(body, idle, Arc::default(), guard)
}

fn with_idle_timeout<G: Send + 'static>(
    body: Incoming,
    idle: Duration,
    status: Arc<BodyStatus>,
    guard: G,
) -> Body {
    if body.is_end_stream() {
        return body.map_err(Into::into).boxed_unsync();
    }
    IdleTimeoutBody {
        body,
        idle,
        status,
        timer: Box::pin(sleep(idle)),
        timer_running: true,
        _guard: guard,
    }
    .boxed_unsync()
}

// === impl ReplayableBody ===

impl ReplayableBody {
    pub(crate) fn new(body: Body) -> Self {
        ReplayableBody(Arc::new(SharedBody {
            body: Mutex::new(body),
            read_started: Notify::new(),
        }))
    }

    /// Completes when an attempt reads the body; never for an empty body.
    pub(crate) async fn read_started(&self) {
        self.0.read_started.notified().await;
    }

    /// Returns a handle for the next attempt; the previous one has ended.
    pub(crate) fn lend(&self) -> Body {
        match self.body().is_end_stream() {
            true => empty(),
            false => ReplayableBody(self.0.clone()).boxed_unsync(),
        }
    }

    fn body(&self) -> MutexGuard<'_, Body> {
        self.0.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for ReplayableBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.read_started.notify_one();
        Pin::new(&mut *self.body()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}

// === impl IdleTimeoutBody ===

impl<G> Unpin for IdleTimeoutBody<G> {}

impl<G: Send> HttpBody for IdleTimeoutBody<G> {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer_running = false;
            self.status.moved.store(true, Ordering::Relaxed);
            if let Some(Err(_)) = &frame {
                self.status.broken.store(true, Ordering::Relaxed);
            } else if frame.is_none() || self.body.is_end_stream() {
                self.status.complete.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !self.timer_running {
            self.timer_running = true;
            let deadline = Instant::now() + self.idle;
            self.timer.as_mut().reset(deadline);
        }
        ready!(self.timer.as_mut().poll(cx));
        self.status.timed_out.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(BodyTimeout.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
