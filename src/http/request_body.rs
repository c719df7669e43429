//! The body of a request, as it comes from hyper.

use crate::http::timeouts::ConnState;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A request body. If it is dropped before its end, the client may still be sending it, and the connection must not be
/// closed with a reset.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    /// `None` once the body is complete.
    connection: Option<ConnState>,
}

// === impl RequestBody ===

impl RequestBody {
    /// Wraps the body of a request on `connection`.
    pub(crate) fn new(body: Incoming, connection: &ConnState) -> Self {
        let connection = (!body.is_end_stream()).then(|| connection.clone());
        RequestBody { body, connection }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.connection = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.record_unread();
        }
    }
}
