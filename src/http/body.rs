//! Bodies on their way through: what they hold until they are through, and how long they may stand still.

use super::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// Passes `body` on; `guard` is dropped when it is through or given up.
pub(super) fn held<G: Send + 'static>(body: Incoming, guard: G) -> Body {
    Held {
        body,
        _guard: guard,
    }
    .map_err(Into::into)
    .boxed_unsync()
}

/// Passes `body` on, and ends it with an error when no byte has come for `idle`; `late` then says so.
pub(super) fn patient(body: Incoming, idle: Duration, late: Arc<AtomicBool>) -> Body {
    if body.is_end_stream() {
        return body.map_err(Into::into).boxed_unsync();
    }
    Patient {
        body,
        idle,
        late,
        timer: Box::pin(sleep(idle)),
    }
    .boxed_unsync()
}

struct Held<G> {
    body: Incoming,
    _guard: G,
}

struct Patient {
    body: Incoming,
    idle: Duration,
    late: Arc<AtomicBool>,
    timer: Pin<Box<Sleep>>,
}

/// A body stood still for too long.
#[derive(Debug, thiserror::Error)]
#[error("no byte of the body came in time (limits.body_idle)")]
struct Late;

// === impl Held ===

impl<G> Unpin for Held<G> {}

impl<G: Send> HttpBody for Held<G> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl Patient ===

impl HttpBody for Patient {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let deadline = Instant::now() + self.idle;
            self.timer.as_mut().reset(deadline);
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        ready!(self.timer.as_mut().poll(cx));
        self.late.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(Late.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
