//! The deadline of one HTTP/2 stream whose client does not accept the response.
//!
//! hyper polls a body only while the stream has flow-control window, so a body cannot end itself. The task of each
//! stream therefore runs inside [`StreamGuard::run`], which has a timer and drops the task: that releases the response
//! body with its lease and connection, and h2 sends RST_STREAM for a stream that nothing refers to.
//!
//! After a response that is complete before the request body, the same task discards the rest of the body.

use crate::http::{
    body::Body,
    conn_state::{ConnState, InFlight},
    progress::{ProgressLimits, ProgressMeter},
    request_body::UnreadBody,
    rewrite,
};
use crate::{lifecycle::tasks::Tasks, net::linger::STOPPING_LINGER};
use ::http::HeaderMap;
use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    task::unconstrained,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

/// The delivery of one response, shared by its stream's task and the bytes that h2 has queued.
#[derive(Debug)]
pub(crate) struct ResponseProgress {
    delivery: Mutex<Delivery>,
    idle: Duration,
}

#[derive(Debug)]
struct Delivery {
    meter: ProgressMeter,
    /// The bytes that h2 has received and not yet sent.
    queued: u64,
    /// Wakes the body that waits until nothing is queued.
    waker: Option<Waker>,
}

/// What a stream holds until its task ends.
pub(crate) struct StreamGuard {
    progress: Arc<ResponseProgress>,
    connection: ConnState,
    unread: Arc<UnreadBody>,
    tasks: Tasks,
    _in_flight: InFlight,
}

/// A response body whose delivery is measured. It ends only when h2 has sent all of it, because a stream whose end is
/// queued can no longer be reset.
pub(crate) struct MeteredBody {
    /// `None` once it is complete, so that its guards are released before the last bytes are sent.
    body: Option<Body>,
    trailers: Option<HeaderMap>,
    progress: Arc<ResponseProgress>,
}

/// Bytes of a response; h2 consumes them as it sends them.
#[derive(Debug)]
pub(crate) struct MeteredBytes {
    bytes: Bytes,
    progress: Arc<ResponseProgress>,
}

// === impl ResponseProgress ===

impl ResponseProgress {
    pub(crate) fn new(limits: ProgressLimits) -> Self {
        ResponseProgress {
            delivery: Mutex::new(Delivery {
                meter: ProgressMeter::new(limits),
                queued: 0,
                waker: None,
            }),
            idle: limits.longest_wait(),
        }
    }

    fn queue(self: &Arc<Self>, bytes: Bytes) -> MeteredBytes {
        if !bytes.is_empty() {
            let mut delivery = self.delivery();
            delivery.queued += bytes.len() as u64;
            delivery.meter.wait(Instant::now());
        }
        MeteredBytes {
            bytes,
            progress: self.clone(),
        }
    }

    fn sent(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let (bytes, now) = (bytes as u64, Instant::now());
        let mut delivery = self.delivery();
        delivery.queued = delivery.queued.saturating_sub(bytes);
        delivery.meter.record_bytes(bytes, now);
        if delivery.queued == 0 {
            delivery.meter.stop(now);
            let waker = delivery.waker.take();
            drop(delivery);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn poll_delivered(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut delivery = self.delivery();
        if delivery.queued == 0 {
            return Poll::Ready(());
        }
        delivery.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Returns when to check again; `None` if the client is too slow.
    fn next_check(&self, now: Instant) -> Option<Instant> {
        let mut delivery = self.delivery();
        if delivery.meter.is_overdue(now) {
            return None;
        }
        // A wait that begins later has a later deadline.
        Some(delivery.meter.deadline().unwrap_or(now + self.idle))
    }

    // No code that holds the lock can panic halfway, so a poisoned lock is used.
    fn delivery(&self) -> MutexGuard<'_, Delivery> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl StreamGuard ===

impl StreamGuard {
    pub(crate) fn new(
        progress: Arc<ResponseProgress>,
        connection: ConnState,
        unread: Arc<UnreadBody>,
        tasks: Tasks,
        in_flight: InFlight,
    ) -> Self {
        StreamGuard {
            progress,
            connection,
            unread,
            tasks,
            _in_flight: in_flight,
        }
    }

    /// Runs the task of the stream. Drops it if the client accepts the response too slowly.
    pub(crate) async fn run(self, task: impl Future<Output = ()>) {
        // Boxed because the future would otherwise hold it twice: as captured, and as polled.
        let mut task = Box::pin(task);
        let mut next_check = Instant::now() + self.progress.idle;
        loop {
            tokio::select! {
                biased;
                () = &mut task => {
                    drop(task);
                    return Box::pin(self.discard_unread()).await;
                }
                () = unconstrained(sleep_until(next_check)) => {}
            }
            match self.progress.next_check(Instant::now()) {
                Some(later) => next_check = later,
                None => break,
            }
        }
        debug!(
            "stream reset; its client does not read the response (limits.body_idle, limits.body_min_rate)"
        );
        drop(task);
        self.connection.record_stall();
    }

    /// Discards the rest of the request body; while the process stops, only briefly.
    async fn discard_unread(&self) {
        let stopping = async {
            self.tasks.stopping().await;
            sleep(STOPPING_LINGER).await;
        };
        let is_complete = tokio::select! {
            is_complete = self.unread.discard() => is_complete,
            () = stopping => false,
        };
        if !is_complete {
            self.connection.end().record_unread();
        }
    }
}

// === impl MeteredBody ===

impl MeteredBody {
    pub(crate) fn new(body: Body, progress: Arc<ResponseProgress>) -> Self {
        MeteredBody {
            body: Some(body),
            trailers: None,
            progress,
        }
    }
}

impl HttpBody for MeteredBody {
    type Data = MeteredBytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<MeteredBytes>, Self::Error>>> {
        if let Some(body) = &mut self.body {
            let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
            if body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
                self.body = None;
            }
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => {
                    let bytes = self.progress.queue(bytes);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Ok(Err(other))) => {
                    self.body = None;
                    let trailers = other.into_trailers().ok().map(rewrite::trailers);
                    self.trailers = trailers.filter(|it| !it.is_empty());
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {}
            }
        }
        ready!(self.progress.poll_delivered(cx));
        Poll::Ready(self.trailers.take().map(|it| Ok(Frame::trailers(it))))
    }

    /// Returns whether there is no body. The end of a body is a separate frame.
    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

// === impl MeteredBytes ===

impl Buf for MeteredBytes {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.progress.sent(count);
    }
}

impl Drop for MeteredBytes {
    fn drop(&mut self) {
        self.progress.sent(self.bytes.len());
    }
}
