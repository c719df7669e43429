//! Bodies on their way through: how long they may stand still, and what is held until they are through.

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

/// Passes a request's body on, and ends it with an error when no byte has come for `idle`; `seen` tells of both.
pub(super) fn request_body(body: Incoming, idle: Duration, seen: Arc<BodyStatus>) -> Body {
    with_idle_timeout(body, idle, seen, ())
}

/// Passes an answer's body on, and tears it when no byte has come for `idle`. `guard` is dropped when it is through or
/// given up.
pub(super) fn response_body<G: Send + 'static>(body: Incoming, idle: Duration, guard: G) -> Body {
    with_idle_timeout(body, idle, Arc::default(), guard)
}

/// A request's body that is lent to one try after the other: those who did not reach their backend have read nothing of it.
pub(super) struct ReplayableBody(Arc<SharedBody>);

struct SharedBody {
    body: Mutex<Body>,
    /// Somebody wants to read it: whoever is to get it was reached.
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

    /// Ends when it is wanted; never, where there is nothing in it.
    pub(super) async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    /// For the next try; the one before is over.
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

/// What became of a body so far.
#[derive(Debug, Default)]
pub(super) struct BodyStatus {
    /// A piece of it has passed; whoever looks takes the mark away.
    pub(super) moved: AtomicBool,
    /// It was ended because nothing came for too long.
    pub(super) timed_out: AtomicBool,
    /// It could not be read: its framing is wrong, or its sender has gone.
    pub(super) broken: AtomicBool,
}

struct IdleTimeoutBody<G> {
    body: Incoming,
    idle: Duration,
    seen: Arc<BodyStatus>,
    timer: Pin<Box<Sleep>>,
    /// The timer runs: somebody asked for a piece and got none. Between pieces it is the reader who takes his time.
    waiting: bool,
    _guard: G,
}

/// A body stood still for too long.
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
