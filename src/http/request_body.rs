//! The body of a request, as it comes from hyper.

use crate::{http::conn_state::ConnState, net::linger::LingerLimits};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// A request body. If it is dropped before its end, the client may still be sending it: an HTTP/1.1 connection must
/// then not be closed with a reset, and the rest of an HTTP/2 stream is discarded.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// `None` once it was left unread.
    body: Option<Incoming>,
    /// `None` once the body is complete.
    origin: Option<BodyOrigin>,
}

#[derive(Debug)]
enum BodyOrigin {
    Connection(ConnState),
    Stream(Arc<UnreadBody>),
}

/// The request body of an HTTP/2 stream whose response may be complete before it. A reset of the stream at that time,
/// even with NO_ERROR, makes curl 7.88 discard the response, and httpcore wait for a window without end.
#[derive(Debug, Default)]
pub(crate) struct UnreadBody {
    state: Mutex<UnreadState>,
    changed: Notify,
}

#[derive(Debug, Default)]
enum UnreadState {
    /// There is no body, or it is complete.
    #[default]
    Complete,
    /// A backend may be receiving the body.
    Forwarding,
    Left(Incoming),
}

// === impl RequestBody ===

impl RequestBody {
    /// Creates the body of a request on an HTTP/1.1 connection.
    pub(crate) fn new(body: Incoming, connection: &ConnState) -> Self {
        let origin = (!body.is_end_stream()).then(|| BodyOrigin::Connection(connection.clone()));
        RequestBody {
            body: Some(body),
            origin,
        }
    }

    /// Creates the body of an HTTP/2 stream, which `unread` receives if it is left.
    pub(crate) fn of_stream(body: Incoming, unread: &Arc<UnreadBody>) -> Self {
        let origin = (!body.is_end_stream()).then(|| {
            *unread.state() = UnreadState::Forwarding;
            BodyOrigin::Stream(unread.clone())
        });
        RequestBody {
            body: Some(body),
            origin,
        }
    }

    fn complete(&mut self) {
        if let Some(BodyOrigin::Stream(unread)) = self.origin.take() {
            unread.set(UnreadState::Complete);
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        // After an error of an HTTP/2 body there is nothing to discard.
        let is_last = match &frame {
            Some(Ok(_)) => body.is_end_stream(),
            Some(Err(_)) => matches!(self.origin, Some(BodyOrigin::Stream(_))),
            None => true,
        };
        if is_last {
            self.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        match (self.origin.take(), self.body.take()) {
            (Some(BodyOrigin::Connection(connection)), _) => connection.end().record_unread(),
            (Some(BodyOrigin::Stream(unread)), Some(body)) => unread.set(UnreadState::Left(body)),
            _ => {}
        }
    }
}

// === impl UnreadBody ===

impl UnreadBody {
    /// Waits until the body is complete or was left, and discards the rest, up to the limits of a lingering close.
    /// Returns whether the client has sent all of it.
    pub(crate) async fn discard(&self) -> bool {
        let mut limits = LingerLimits::begin(Instant::now());
        let mut left = loop {
            let changed = self.changed.notified();
            match self.take() {
                UnreadState::Complete => return true,
                UnreadState::Left(body) => break body,
                UnreadState::Forwarding => {}
            }
            if timeout_at(limits.end(), changed).await.is_err() {
                return false;
            }
        };
        limits.record(0, Instant::now());
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut left).poll_frame(cx));
            let frame = match timeout_at(limits.deadline(), frame).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(_)) | None) => return true,
                Err(_) => return false,
            };
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            limits.record(len, Instant::now());
            if limits.is_used_up() {
                return false;
            }
        }
    }

    fn set(&self, state: UnreadState) {
        *self.state() = state;
        self.changed.notify_one();
    }

    /// Takes a body that was left; otherwise the state stays as it is.
    fn take(&self) -> UnreadState {
        let mut state = self.state();
        match &*state {
            UnreadState::Forwarding => UnreadState::Forwarding,
            UnreadState::Complete | UnreadState::Left(_) => std::mem::take(&mut *state),
        }
    }

    // No code that holds the lock can panic halfway, so a poisoned lock is used.
    fn state(&self) -> MutexGuard<'_, UnreadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
