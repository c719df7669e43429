//! Streaming bodies with idle deadlines, and guards that are held until a body is complete.

use crate::http::{
    progress::{ProgressLimits, ProgressMeter},
    request_body::RequestBody,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep},
};

/// A streaming body, never buffered whole.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A request body that is lent to one attempt after another: attempts that did not reach their backend read none of it.
/// Handles share the body.
#[derive(Clone)]
pub(crate) struct ReplayableBody(Arc<SharedBody>);

struct SharedBody {
    lent: Mutex<LentBody>,
    /// Notified when an attempt reads the body, which means that its backend was reached.
    read_started: Notify,
}

/// Cancels a request body that is still being sent.
pub(crate) struct RequestCanceller(Weak<SharedBody>);

struct LentBody {
    /// `None` once it was cancelled.
    body: Option<Body>,
    /// Wakes the attempt that waits for bytes.
    waker: Option<Waker>,
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

struct TimeoutBody<B, G> {
    body: B,
    status: Arc<BodyStatus>,
    /// Runs while a read is pending. Between reads the delay is caused by the reader.
    meter: ProgressMeter,
    timer: Pin<Box<Sleep>>,
    /// Cancels the request body if this is a response that is abandoned before its end.
    request: Option<RequestCanceller>,
    _guard: G,
}

/// The error of a body that exceeded its deadline.
#[derive(Debug, thiserror::Error)]
#[error(
    "the body was not received in time (limits.body_idle, limits.body_min_rate, limits.answer_idle)"
)]
struct BodyTimeout;

/// The error of a request body whose response was abandoned.
#[derive(Debug, thiserror::Error)]
#[error("the client does not read the response")]
struct BodyCancelled;

/// Returns an empty body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body of one chunk.
pub(crate) fn text(text: String) -> Body {
    whole(Bytes::from(text))
}

/// Returns a body that is known as a whole.
pub(crate) fn whole(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Forwards a request body, and ends it with an error when its client is slower than `limits`. `status` records
/// progress and errors.
pub(crate) fn request_body(
    body: RequestBody,
    limits: ProgressLimits,
    status: Arc<BodyStatus>,
) -> Body {
    with_timeout(body, limits, status, None, ())
}

/// Forwards a response body, and aborts it when no byte has arrived for `idle`. `guard` is dropped when the body is
/// complete or abandoned; if it is abandoned, `request` is cancelled.
pub(crate) fn response_body<G: Send + 'static>(
    body: Incoming,
    idle: Duration,
    request: Option<RequestCanceller>,
    guard: G,
) -> Body {
    let limits = ProgressLimits::idle(idle);
    with_timeout(body, limits, Arc::default(), request, guard)
}

fn with_timeout<B, G: Send + 'static>(
    body: B,
    limits: ProgressLimits,
    status: Arc<BodyStatus>,
    request: Option<RequestCanceller>,
    guard: G,
) -> Body
where
    B: HttpBody<Data = Bytes, Error = hyper::Error> + Send + Unpin + 'static,
{
    if body.is_end_stream() {
        return body.map_err(Into::into).boxed_unsync();
    }
    TimeoutBody {
        body,
        status,
        meter: ProgressMeter::new(limits),
        timer: Box::pin(sleep(limits.longest_wait())),
        request,
        _guard: guard,
    }
    .boxed_unsync()
}

// === impl ReplayableBody ===

impl ReplayableBody {
    pub(crate) fn new(body: Body) -> Self {
        ReplayableBody(Arc::new(SharedBody {
            lent: Mutex::new(LentBody {
                body: Some(body),
                waker: None,
            }),
            read_started: Notify::new(),
        }))
    }

    /// Completes when an attempt reads the body; never for an empty body.
    pub(crate) async fn read_started(&self) {
        self.0.read_started.notified().await;
    }

    /// Returns a handle for the next attempt; the previous one has ended.
    pub(crate) fn lend(&self) -> Body {
        if self.is_end_stream() {
            return empty();
        }
        self.clone().boxed_unsync()
    }

    /// Returns a handle that cancels the body, but does not keep it.
    pub(crate) fn canceller(&self) -> RequestCanceller {
        RequestCanceller(Arc::downgrade(&self.0))
    }

    fn lent(&self) -> MutexGuard<'_, LentBody> {
        self.0.lent()
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
        let mut lent = self.lent();
        let Some(body) = &mut lent.body else {
            return Poll::Ready(Some(Err(BodyCancelled.into())));
        };
        let frame = Pin::new(body).poll_frame(cx);
        if frame.is_pending() {
            lent.waker = Some(cx.waker().clone());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.lent()
            .body
            .as_ref()
            .is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.lent()
            .body
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

// === impl SharedBody ===

impl SharedBody {
    fn lent(&self) -> MutexGuard<'_, LentBody> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl RequestCanceller ===

impl RequestCanceller {
    /// Drops the body, and ends it with an error for the attempt that reads it. An HTTP/2 stream is reset only when
    /// nothing refers to it.
    fn cancel(&self) {
        let Some(shared) = self.0.upgrade() else {
            return;
        };
        let mut lent = shared.lent();
        let (body, waker) = (lent.body.take(), lent.waker.take());
        drop(lent);
        drop(body);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

// === impl TimeoutBody ===

impl<B, G> Unpin for TimeoutBody<B, G> {}

impl<B, G> HttpBody for TimeoutBody<B, G>
where
    B: HttpBody<Data = Bytes, Error = hyper::Error> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let it = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut it.body).poll_frame(cx) {
            let data = frame
                .as_ref()
                .and_then(|frame| frame.as_ref().ok()?.data_ref());
            let now = Instant::now();
            it.meter
                .record_bytes(data.map_or(0, |data| data.len() as u64), now);
            it.meter.stop(now);
            it.status.moved.store(true, Ordering::Relaxed);
            match &frame {
                Some(Ok(_)) if !it.body.is_end_stream() => {}
                Some(Err(_)) => it.status.broken.store(true, Ordering::Relaxed),
                Some(Ok(_)) | None => {
                    it.status.complete.store(true, Ordering::Relaxed);
                    // What is left of the request body may still be sent.
                    it.request = None;
                }
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if it.meter.wait(Instant::now()) {
            it.arm_timer();
        }
        loop {
            ready!(it.timer.as_mut().poll(cx));
            if it.meter.is_overdue(Instant::now()) {
                break;
            }
            it.arm_timer();
        }
        it.status.timed_out.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(BodyTimeout.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B, G> TimeoutBody<B, G> {
    fn arm_timer(&mut self) {
        if let Some(deadline) = self.meter.deadline() {
            self.timer.as_mut().reset(deadline);
        }
    }
}

impl<B, G> Drop for TimeoutBody<B, G> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            request.cancel();
        }
    }
}
