//! Streaming bodies with idle deadlines, and guards that are held until a body is complete.

use super::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
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

/// Forwards a request body, and ends it with an error when no byte has arrived for `idle`; `seen` records both.
pub(super) fn request_body(body: Incoming, idle: Duration, seen: Arc<BodyStatus>) -> Body {
    with_idle_timeout(body, idle, seen, ())
}

/// Forwards a response body, and aborts it when no byte has arrived for `idle`. `guard` is dropped when the body is
/// complete or abandoned.
pub(super) fn response_body<G: Send + 'static>(body: Incoming, idle: Duration, guard: G) -> Body {
    with_idle_timeout(body, idle, Arc::default(), guard)
}

/// A request body that is lent to one attempt after another: attempts that did not reach their backend read none of it.
pub(super) struct ReplayableBody(Arc<SharedBody>);

struct SharedBody {
    body: Mutex<Body>,
    /// Set when the body is to be read: its backend was reached.
    wanted: Notify,
}

// === impl ReplayableBody ===

impl ReplayableBody {
    pub(super) fn new(body: Body) -> Self {
        ReplayableBody(Arc::new(SharedBody {
            body: Mutex::new(body),
            wanted: Notify::new(),
        }))
    }

    /// Completes when the body is to be read; never completes for an empty body.
    pub(super) async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    /// Returns a handle for the next attempt; the previous one has ended.
    pub(super) fn lend(&self) -> Body {
        match self.body().is_end_stream() {
            true => super::reject::empty(),
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
        self.0.wanted.notify_one();
        Pin::new(&mut *self.body()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}

fn with_idle_timeout<G: Send + 'static>(
    body: Incoming,
    idle: Duration,
    seen: Arc<BodyStatus>,
    guard: G,
) -> Body {
    if body.is_end_stream() {
        return body.map_err(Into::into).boxed_unsync();
    }
    IdleTimeoutBody {
        body,
        idle,
        seen,
        timer: Box::pin(sleep(idle)),
        waiting: true,
        _guard: guard,
    }
    .boxed_unsync()
}

/// The progress of a body so far.
#[derive(Debug, Default)]
pub(super) struct BodyStatus {
    /// A part of the body has passed; the reader of this flag clears it.
    pub(super) moved: AtomicBool,
    /// The body was ended because nothing arrived within the idle deadline.
    pub(super) timed_out: AtomicBool,
    /// The body could not be read: its framing is wrong, or its sender has disconnected.
    pub(super) broken: AtomicBool,
}

struct IdleTimeoutBody<G> {
    body: Incoming,
    idle: Duration,
    seen: Arc<BodyStatus>,
    timer: Pin<Box<Sleep>>,
    /// Set while the timer runs: a read is pending. Between reads, the delay is the reader's.
    waiting: bool,
    _guard: G,
}

/// The error of a body that exceeded its idle deadline.
#[derive(Debug, thiserror::Error)]
#[error("no byte of the body came in time (limits.body_idle, limits.answer_idle)")]
struct BodyTimeout;

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
            self.waiting = false;
            self.seen.moved.store(true, Ordering::Relaxed);
            if let Some(Err(_)) = &frame {
                self.seen.broken.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !self.waiting {
            self.waiting = true;
            let deadline = Instant::now() + self.idle;
            self.timer.as_mut().reset(deadline);
        }
        ready!(self.timer.as_mut().poll(cx));
        self.seen.timed_out.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(BodyTimeout.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
