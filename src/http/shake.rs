//! The handshake with a backend: dial, request, and verification of the response.

use super::{
    Context, Peer,
    canonical::HeaderCaseWriter,
    outbound::{self, Outbound},
    reach::connect_backend,
    reject::Refusal,
    tries::FailureKind,
};
use crate::{
    proto::handshake::{Bad101, Negotiated, Offer},
    splice::BackendStream,
    upstream::{DialError, Lease},
};
use ::http::{Extensions, HeaderMap, Request, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    future::poll_fn,
    net::IpAddr,
    pin::{Pin, pin},
    time::Duration,
};
use tokio::time::Instant;

/// A backend's response to a handshake.
pub(super) enum HandshakeOutcome {
    /// A valid 101; `headers` are the ones that the client receives.
    Upgraded {
        agreed: Negotiated,
        backend: (BackendStream, Bytes),
        headers: HeaderMap,
    },
    /// Another response, to be forwarded whole.
    Rejected(Response<Incoming>),
}

/// Dials, sends the handshake in one write, and verifies the response.
pub(super) async fn backend_handshake(
    context: &Context,
    lease: &Lease,
    peer: &Peer,
    outbound: &Outbound,
    extensions: &Extensions,
    offer: &Offer,
) -> Result<HandshakeOutcome, HandshakeError> {
    let stream = connect_backend(&context.resolver, lease, peer).await?;
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .title_case_headers(true)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(HeaderCaseWriter::new(stream)))
        .await
        .map_err(HandshakeError::Broken)?;
    let mut connection = Some(Box::pin(connection.with_upgrades()));
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = outbound.target.clone().into();
    *request.headers_mut() = outbound.headers.clone();
    *request.extensions_mut() = extensions.clone();
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
            // The body follows.
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
    let raw = raw.map_err(|_| HandshakeError::UnexpectedStream)?;
    // RFC 6455 §4.2.2: what a 101 must have; the rest, Sec-WebSocket-* too, is up to the backend.
    let mut headers = outbound::end_to_end(&parts.headers);
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

/// The reason why a backend gave no valid response to a handshake.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("no connection")]
    Connect(#[from] DialError),
    #[error("no HTTP answer")]
    Broken(#[source] hyper::Error),
    #[error("no answer within {0:?} (session.handshake_timeout)")]
    Timeout(Duration),
    #[error("no answer within {0:?}, when the client left")]
    Abandoned(Duration),
    #[error("the answer to a WebSocket handshake was {0}")]
    Status(StatusCode),
    #[error("the 101 is wrong")]
    Bad101(#[from] Bad101),
    #[error("the upgraded stream is not the one that was dialled")]
    UnexpectedStream,
}

impl HandshakeError {
    /// Returns whether the backend did not respond, which counts as a failure. An invalid response does not, because a client
    /// may cause it by the path that it requests.
    pub(super) fn is_no_response(&self) -> bool {
        use HandshakeError::{Abandoned, Broken, Connect, Timeout};
        matches!(self, Connect(_) | Broken(_) | Timeout(_) | Abandoned(_))
    }

    /// Returns `None` if the backend's response is final, or no time is left for another attempt.
    pub(super) fn failure(&self) -> Option<FailureKind> {
        match self {
            HandshakeError::Connect(_) => Some(FailureKind::Dial),
            HandshakeError::Broken(_) | HandshakeError::Bad101(_) => Some(FailureKind::Answer),
            HandshakeError::Status(_)
            | HandshakeError::Timeout(_)
            | HandshakeError::Abandoned(_)
            | HandshakeError::UnexpectedStream => None,
        }
    }

    /// Returns the refusal for the client: which side failed, and nothing about the internal network.
    pub(super) fn refusal(&self) -> Refusal {
        let bad_gateway = |why, text| Refusal::new(StatusCode::BAD_GATEWAY, why, text);
        match self {
            HandshakeError::Connect(DialError::Tls { .. }) => {
                bad_gateway("backend-tls", "the backend cannot be reached over TLS")
            }
            HandshakeError::Connect(_) => bad_gateway("dial", "the backend cannot be reached"),
            HandshakeError::Broken(_) => {
                bad_gateway("broken", "the backend did not answer in HTTP")
            }
            HandshakeError::Status(_) => {
                bad_gateway("status", "the backend did not accept the WebSocket")
            }
            HandshakeError::Bad101(error) => {
                bad_gateway(error.as_str(), "the backend's WebSocket handshake is wrong")
            }
            HandshakeError::Timeout(_) | HandshakeError::Abandoned(_) => Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                "handshake-timeout",
                "the backend did not answer in time",
            ),
            HandshakeError::UnexpectedStream => Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "foreign-stream",
                "internal error",
            ),
        }
    }
}

// === impl AbandonGuard ===

/// A client that waits for a lease's backend. If it is dropped while waiting, the client has disconnected: a backend that
/// delayed it for half of the handshake's time counts as unresponsive, like one that lets all of it pass. Clients have
/// their own deadlines, and those that are as long as ours end before it.
pub(super) struct AbandonGuard<'a> {
    waits_for: Option<&'a Lease>,
    client: IpAddr,
    since: Instant,
    enough: Duration,
}

impl<'a> AbandonGuard<'a> {
    /// Starts now; a handshake may last `most`.
    pub(super) fn waiting(lease: &'a Lease, client: IpAddr, most: Duration) -> Self {
        AbandonGuard {
            waits_for: Some(lease),
            client,
            since: Instant::now(),
            enough: most / 2,
        }
    }

    /// Records that there is a response, or that the time is over.
    pub(super) fn over(mut self) {
        self.waits_for = None;
    }
}

impl Drop for AbandonGuard<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        if let Some(lease) = self.waits_for
            && waited >= self.enough
        {
            lease.abandoned(&HandshakeError::Abandoned(waited), self.client);
        }
    }
}

/// The limit for a response: far more than servers send.
pub(super) const MAX_HEADERS: usize = 256;
