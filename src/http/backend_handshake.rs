//! The handshake with a backend: request, and verification of the response.
//!
//! Open [`backend_handshake`] first. [`AbandonGuard`] attributes a client's disconnection to a backend that is slow.

use crate::{
    http::{
        admitted::AdmittedRequest,
        context::Context,
        pooled::{MAX_BUF_LEN, MAX_HEADERS},
        refusal::{NoResponse, Refusal, RefusalReason},
        retry::FailureKind,
        rewrite,
    },
    net::{dial::DialError, socket::BackendStream, subnet::SubnetKey},
    proto::handshake::{Bad101, Negotiated, Offer},
    upstream::lease::Lease,
};
use ::http::{HeaderMap, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{self, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// A backend's response to a handshake.
pub(crate) enum HandshakeOutcome {
    /// A valid 101; `headers` are the ones that the client receives.
    Upgraded {
        agreed: Negotiated,
        backend: (BackendStream, Bytes),
        headers: HeaderMap,
    },
    /// Any other response, with its body still to be read.
    Rejected(Response<Incoming>),
}

/// The reason why a backend gave no valid response to a handshake.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("no connection")]
    Connect(#[from] DialError),
    #[error("no connection in time (session.handshake_timeout)")]
    ConnectTimeout,
    #[error("no HTTP answer")]
    Broken(#[source] hyper::Error),
    #[error("no answer within {0:?} (session.handshake_timeout)")]
    Timeout(Duration),
    #[error("no answer within {0:?}; then the client disconnected")]
    Abandoned(Duration),
    #[error(
        "the answer to a WebSocket handshake was {0} (is this the right path and port, and does the server accept \
         WebSockets there?)"
    )]
    Status(StatusCode),
    #[error("invalid 101 response")]
    Bad101(#[from] Bad101),
    #[error("internal error: the upgraded stream has an unexpected type")]
    ForeignStream,
}

/// Records a failure of the lease's backend if the wait for its response is cancelled after at least half of the
/// handshake timeout, usually because the client has disconnected. Clients have deadlines of their own, which often
/// expire before ours.
pub(crate) struct AbandonGuard<'a> {
    lease: Option<&'a Lease>,
    client: SubnetKey,
    since: Instant,
    threshold: Duration,
}

/// A stream whose first write is the head of a handshake, in which it writes the managed header names in the case of
/// their RFCs.
///
/// hyper writes a name as the client wrote it, or in title case: `sec-websocket-key`, `Sec-Websocket-Key`. Some old
/// Python servers compare case-sensitively with RFC 6455's `Sec-WebSocket-Key`, and hyper has no setting for that
/// spelling, so the bytes of the head are rewritten. Only the case of letters changes, so lengths stay the same.
#[derive(Debug)]
struct HeaderCaseWriter<S> {
    io: S,
    head: HeadProgress,
}

/// How much of a head has been written.
#[derive(Debug)]
enum HeadProgress {
    /// Nothing.
    Pending,
    /// A part of the rewritten head: its first bytes, whose number follows.
    Partial(Vec<u8>, usize),
    /// All of it.
    Written,
}

/// Sends the handshake in one write over a new connection, and verifies the response. The caller sets the deadline.
pub(crate) async fn backend_handshake(
    context: &Context,
    lease: &Lease,
    stream: BackendStream,
    admitted: &AdmittedRequest<'_, '_>,
    offer: &Offer,
) -> Result<HandshakeOutcome, HandshakeError> {
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUF_LEN)
        .handshake(TokioIo::new(HeaderCaseWriter::new(stream)))
        .await
        .map_err(HandshakeError::Broken)?;
    let mut connection = Some(Box::pin(connection.with_upgrades()));
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = admitted.outbound.target.clone().into();
    *request.headers_mut() = admitted.outbound.headers_for(lease);
    *request.extensions_mut() = admitted.parts.extensions.clone();
    let mut response = drive(&mut connection, sender.send_request(request))
        .await
        .map_err(HandshakeError::Broken)?;
    let upgraded = hyper::upgrade::on(&mut response);
    let (parts, body) = response.into_parts();
    if parts.status != StatusCode::SWITCHING_PROTOCOLS {
        if parts.status.is_success() || parts.status.is_informational() {
            return Err(HandshakeError::Status(parts.status));
        }
        if let Some(connection) = connection {
            // Drives the connection until the body has been read.
            context.tasks.spawn(async { drop(connection.await) });
        }
        return Ok(HandshakeOutcome::Rejected(Response::from_parts(
            parts, body,
        )));
    }
    let agreed = offer.check(&parts)?;
    let raw = drive(&mut connection, upgraded)
        .await
        .map_err(HandshakeError::Broken)?
        .downcast::<TokioIo<HeaderCaseWriter<BackendStream>>>();
    let raw = raw.map_err(|_| HandshakeError::ForeignStream)?;
    // All other headers of the 101 are forwarded, Sec-WebSocket-* too; Connection and Upgrade are set for each client.
    let mut headers = rewrite::end_to_end(&parts.headers);
    headers.remove(header::CONTENT_LENGTH);
    Ok(HandshakeOutcome::Upgraded {
        agreed,
        backend: (raw.io.into_inner().into_inner(), raw.read_buf),
        headers,
    })
}

/// Awaits `future` and drives the connection that it needs; errors of the connection reach the future.
async fn drive<C: Future + Unpin, F: Future>(driven: &mut Option<C>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if driven
            .as_mut()
            .is_some_and(|driven| Pin::new(driven).poll(cx).is_ready())
        {
            *driven = None;
        }
        future.as_mut().poll(cx)
    })
    .await
}

// === impl HandshakeError ===

impl HandshakeError {
    /// Returns whether the backend was not reached; the dial has recorded that.
    pub(crate) fn is_connect(&self) -> bool {
        use HandshakeError::{Connect, ConnectTimeout};
        matches!(self, Connect(_) | ConnectTimeout)
    }

    /// Returns whether the backend was reached and did not respond, which counts as a failure that the client may have
    /// caused. An invalid response does not count, because a client may cause it by the path that it requests.
    pub(crate) fn is_no_response(&self) -> bool {
        use HandshakeError::{Abandoned, Broken, Timeout};
        matches!(self, Broken(_) | Timeout(_) | Abandoned(_))
    }

    /// Returns whether the cause is exhausted resources of this process or machine, not the backend.
    pub(crate) fn is_exhaustion(&self) -> bool {
        matches!(self, HandshakeError::Connect(error) if error.is_exhaustion())
    }

    /// Returns the kind of failure if another backend may be tried; `None` if the backend's response is final, the time
    /// is over, or the error is internal.
    pub(crate) fn failure(&self) -> Option<FailureKind> {
        match self {
            HandshakeError::Connect(error) if error.is_exhaustion() => None,
            HandshakeError::Connect(_) => Some(FailureKind::Connect),
            HandshakeError::Broken(_) | HandshakeError::Bad101(_) => Some(FailureKind::Response),
            HandshakeError::Status(_)
            | HandshakeError::ConnectTimeout
            | HandshakeError::Timeout(_)
            | HandshakeError::Abandoned(_)
            | HandshakeError::ForeignStream => None,
        }
    }

    /// Returns the refusal for the client: which side failed, and nothing about the internal network.
    pub(crate) fn refusal(&self) -> Refusal {
        let bad_gateway = |why, text| Refusal::new(StatusCode::BAD_GATEWAY, why, text);
        match self {
            HandshakeError::Connect(error) if error.is_exhaustion() => Refusal::no_descriptor(),
            HandshakeError::Connect(error) => Refusal::no_response(error.into()),
            HandshakeError::Broken(_) => Refusal::no_response(NoResponse::Broken),
            HandshakeError::Status(_) => bad_gateway(
                RefusalReason::Status,
                "the backend did not accept the WebSocket",
            ),
            HandshakeError::Bad101(error) => bad_gateway(
                RefusalReason::Bad101(*error),
                "the backend's WebSocket handshake is invalid",
            ),
            HandshakeError::ConnectTimeout
            | HandshakeError::Timeout(_)
            | HandshakeError::Abandoned(_) => Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                RefusalReason::HandshakeTimeout,
                "the backend did not answer in time",
            ),
            HandshakeError::ForeignStream => Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                RefusalReason::ForeignStream,
                "internal error",
            ),
        }
    }
}

// === impl AbandonGuard ===

impl<'a> AbandonGuard<'a> {
    /// Starts the wait for a connected backend that has `timeout` to respond, of which a part was used since `since`.
    pub(crate) fn start(
        lease: &'a Lease,
        client: SubnetKey,
        since: Instant,
        timeout: Duration,
    ) -> Self {
        AbandonGuard {
            lease: Some(lease),
            client,
            since,
            threshold: timeout / 2,
        }
    }

    /// Ends the wait without a failure: there is a response, or the timeout is handled by the caller.
    pub(crate) fn disarm(mut self) {
        self.lease = None;
    }
}

impl Drop for AbandonGuard<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        if let Some(lease) = self.lease
            && waited >= self.threshold
        {
            lease.record_handshake_failure(&HandshakeError::Abandoned(waited), self.client);
        }
    }
}

// === impl HeaderCaseWriter ===

impl<S> HeaderCaseWriter<S> {
    fn new(io: S) -> Self {
        HeaderCaseWriter {
            io,
            head: HeadProgress::Pending,
        }
    }

    fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeaderCaseWriter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeaderCaseWriter<S> {
    /// Rewrites the head in the first write. hyper passes the whole head in one call, because this stream does not
    /// support vectored writes. The head is then sent by one call too, because some old servers read it by a single
    /// `recv`.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if let HeadProgress::Pending = this.head {
            let mut head = buf.to_vec();
            canonicalise(&mut head);
            this.head = HeadProgress::Partial(head, 0);
        }
        let HeadProgress::Partial(head, sent) = &mut this.head else {
            return Pin::new(&mut this.io).poll_write(cx, buf);
        };
        // hyper passes what is left of the same head again.
        let rest = &head[*sent..];
        let rest = &rest[..rest.len().min(buf.len())];
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, rest))?;
        *sent += written;
        if *sent == head.len() {
            this.head = HeadProgress::Written;
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Rewrites the managed header names of a head in the case of their RFCs.
fn canonicalise(head: &mut [u8]) {
    for line in head.split_mut(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = &mut line[..colon];
        if let Some(canonical) = CANONICAL
            .iter()
            .find(|canonical| canonical.as_bytes().eq_ignore_ascii_case(name))
        {
            name.copy_from_slice(canonical.as_bytes());
        }
    }
}

/// The header names that Lockgate sets, in the case of RFC 6455 §11.3, RFC 9110, RFC 7239, RFC 9440 and common
/// practice.
const CANONICAL: [&str; 14] = [
    "Client-Cert",
    "Connection",
    "Forwarded",
    "Host",
    "Origin",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "Upgrade",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
];

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn managed_names_get_canonical_case_and_other_bytes_stay() {
        let mut head = *b"GET /host: HTTP/1.1\r\nhOST: A.test\r\nsec-websocket-key: x-real-ip: y\r\nx-MINE: Host: z\r\n\r\n";
        canonicalise(&mut head);
        let expected = b"GET /host: HTTP/1.1\r\nHost: A.test\r\nSec-WebSocket-Key: x-real-ip: y\r\nx-MINE: Host: z\r\n\r\n";
        assert_eq!(head, *expected);
    }

    #[tokio::test]
    async fn head_that_is_sent_in_parts_has_canonical_case() {
        let head =
            "GET / HTTP/1.1\r\nx-a: y\r\nhost: host: z\r\nsec-websocket-key: x\r\n\r\nhost: 1";
        let (near, mut far) = tokio::io::duplex(3);
        let mut writer = HeaderCaseWriter::new(near);
        let write = async {
            let (head, after) = head.as_bytes().split_at(head.len() - 7);
            writer.write_all(head).await.unwrap();
            writer.write_all(after).await.unwrap();
            drop(writer);
        };
        let mut received = String::new();
        let (_, length) = tokio::join!(write, far.read_to_string(&mut received));
        assert_eq!(length.unwrap(), head.len());
        let expected = head
            .replace("\r\nhost", "\r\nHost")
            .replace("sec-websocket-key", "Sec-WebSocket-Key");
        // What follows the head is the session's.
        assert_eq!(
            received,
            expected.replace("\r\n\r\nHost: 1", "\r\n\r\nhost: 1")
        );
    }
}
