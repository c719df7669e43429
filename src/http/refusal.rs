//! Refusals: the response to a request that does not reach a backend, and which side caused it.

use crate::{
    gateway::route::Route,
    guard::{Denial, DenialReason},
    http::{
        body::{Body, text, whole},
        conn_end::ConnEnd,
    },
    net::dial::DialError,
    observe::{
        log_throttle::{KeyedLogThrottle, LogThrottle},
        logging::ErrorChain,
    },
    proto::handshake::{Bad101, BadHandshake},
    upstream::{lease::Lease, unavailable::Unavailable},
};
use ::http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use bytes::Bytes;
use std::{
    borrow::Cow,
    error::Error,
    sync::{Arc, LazyLock},
};
use tracing::warn;

/// A request that Lockgate answers itself.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Below 500, and 501: caused by the client. 502 and 504: by the backend. 503: by the backend, or by a limit, a
    /// drain or the shutdown of Lockgate. 500: by Lockgate.
    pub(crate) status: StatusCode,
    /// The reason in the access log and in the metrics.
    pub(crate) why: RefusalReason,
    /// The message for the client, one line.
    pub(crate) text: Cow<'static, str>,
    /// Boxed, so that a `Result` with a refusal stays small.
    headers: Option<Box<HeaderMap>>,
    /// The body instead of `text`, with its type in `headers`.
    body: Option<Box<Bytes>>,
}

/// Why a request was refused. The words are a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalReason {
    /// The backend did not answer in time (`limits.answer_idle`).
    AnswerIdle,
    /// The TLS handshake with the backend failed.
    BackendTls,
    /// The framing of the request body is wrong.
    Body,
    /// The request body was not received in time (`limits.body_idle`).
    BodyIdle,
    /// The backend did not answer in HTTP.
    Broken,
    /// The route requires a client certificate.
    ClientCert,
    /// The client disconnected before it received the response.
    ClientLeft,
    /// A CONNECT other than an extended one.
    Connect,
    /// No connection to the backend.
    Dial,
    /// No file descriptor is left for a connection to the backend.
    Descriptors,
    /// Descriptors are scarce, and the client's address holds more than its share of them.
    DescriptorsShare,
    /// The route is draining.
    Draining,
    /// A redirect to https would not end, because a proxy has marked the request as https (`server.cleartext`).
    ForwardedProto,
    /// An internal error: the upgraded stream has an unexpected type.
    ForeignStream,
    /// The backend did not complete the handshake in time (`session.handshake_timeout`).
    HandshakeTimeout,
    /// A frame violates HTTP/2, and the connection ends.
    H2Connection,
    /// The head has more header fields than Lockgate accepts.
    HeadFields,
    /// The head is larger than `limits.head_size`.
    HeadSize,
    /// A line of the head, or the number of lines, is too large for the server of the backend.
    HeaderLine,
    /// A header with an underscore that backends could confuse with a managed one.
    HeaderTwin,
    /// `Host` is absent, repeated or malformed.
    Host,
    /// Three quarters of the memory are used, and the address may use more than a tenth of it.
    MemoryShare,
    /// The connection was opened with another policy for client certificates, or before `tls.client_ca` changed.
    Misdirected,
    /// hyper cannot parse the request: the request line, a header field or a frame of HTTP/2 is malformed.
    Malformed,
    /// No route matches.
    NoRoute,
    /// A WebSocket on a route for plain HTTP.
    OnlyHttp,
    /// A plain request on a route for WebSockets.
    OnlyWebsocket,
    /// The path is malformed.
    Path,
    /// An extended CONNECT with a protocol other than `websocket`.
    Protocol,
    /// The head for the backend could not be built.
    Rebuild,
    /// The limit on concurrent requests of the client's address is reached (`limits.requests_per_ip`).
    RequestsShare,
    /// The limit on sessions is reached.
    SessionsFull,
    /// The limit on sessions of the client's address is reached (`limits.sessions_per_ip`).
    SessionsShare,
    /// The backend answered with an unexpected status.
    Status,
    /// The server is stopping.
    Stopping,
    /// The HTTP/2 connection has more concurrent streams than it may have (`limits.h2_streams`).
    StreamsExcess,
    /// As many sessions of the HTTP/2 connection are open or closing as it may have streams (`limits.h2_streams`).
    StreamsFull,
    /// The request target is malformed, or names another authority than `Host`.
    Target,
    /// The request target is longer than hyper accepts.
    TargetSize,
    /// The token is ambiguous or malformed.
    Token,
    /// The client sent a token and a different header of that name.
    TokenConflict,
    /// The method TRACE.
    Trace,
    /// The backend used a transfer coding that was not requested.
    TransferCoding,
    /// `Transfer-Encoding` is not exactly `chunked`.
    TransferEncoding,
    /// A handshake with a body.
    UpgradeBody,
    /// The client's handshake is malformed.
    Handshake(BadHandshake),
    /// The backend's 101 is invalid.
    Bad101(Bad101),
    /// A guard denied the request.
    Guard(DenialReason),
    /// The pool has no lease.
    Unavailable(Unavailable),
}

/// Why a backend gave no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoResponse {
    /// The TLS handshake failed.
    Tls,
    /// There was no connection.
    Dial,
    /// The connection ended, or carried something other than HTTP.
    Broken,
}

// === impl Refusal ===

impl Refusal {
    /// Creates a refusal without further headers; `text` is the body for the client.
    pub(crate) fn new(
        status: StatusCode,
        why: RefusalReason,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Refusal {
            status,
            why,
            text: text.into(),
            headers: None,
            body: None,
        }
    }

    /// Creates a 400 refusal.
    pub(crate) fn bad(why: RefusalReason, text: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, why, text)
    }

    /// Creates a 426 refusal, whose response names the protocol that the route requires (RFC 9110 §15.5.22).
    pub(crate) fn upgrade_required(why: RefusalReason, text: &'static str) -> Self {
        Refusal::new(StatusCode::UPGRADE_REQUIRED, why, text).with(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        )
    }

    /// Creates a 503 refusal with the time after which a retry is useful.
    pub(crate) fn unavailable(why: RefusalReason, text: &'static str) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why, text)
            .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// Creates the refusal of a request whose route is draining.
    pub(crate) fn draining() -> Self {
        Refusal::unavailable(
            RefusalReason::Draining,
            "this route is draining, try again later",
        )
    }

    /// Creates the refusal of a handshake while the server is stopping.
    pub(crate) fn stopping() -> Self {
        Refusal::unavailable(
            RefusalReason::Stopping,
            "this server is stopping, try again",
        )
    }

    /// Creates a 503 refusal because no file descriptor is left for a connection to a backend.
    pub(crate) fn no_descriptor() -> Self {
        Refusal::unavailable(
            RefusalReason::Descriptors,
            "this server has too many connections, try again later",
        )
    }

    /// Creates a 502 refusal for a backend that gave no response. The text contains nothing about the internal network.
    pub(crate) fn no_response(cause: NoResponse) -> Self {
        let (why, text) = match cause {
            NoResponse::Tls => (
                RefusalReason::BackendTls,
                "the backend cannot be reached over TLS",
            ),
            NoResponse::Dial => (RefusalReason::Dial, "the backend cannot be reached"),
            NoResponse::Broken => (RefusalReason::Broken, "the backend did not answer in HTTP"),
        };
        Refusal::new(StatusCode::BAD_GATEWAY, why, text)
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.get_or_insert_default().append(name, value);
        self
    }

    /// Builds the response for a client of `connection`. A connection with an unread request body closes after it, and
    /// the client may still be sending on one that closes.
    pub(crate) fn respond(&self, version: Version, connection: &ConnEnd) -> Response<Body> {
        let mut response = self.response(version);
        let headers = response.headers_mut();
        if version == Version::HTTP_2 {
            return response;
        }
        if connection.is_unread() {
            headers.append(header::CONNECTION, HeaderValue::from_static("close"));
        } else if headers
            .get(header::CONNECTION)
            .is_some_and(|it| it == "close")
        {
            connection.record_unread();
        }
        response
    }

    /// Builds the response for a client that speaks `version`.
    pub(crate) fn response(&self, version: Version) -> Response<Body> {
        if let Some(relayed) = &self.body {
            let mut response = Response::new(whole(Bytes::clone(relayed)));
            *response.status_mut() = self.status;
            let further = self.headers.as_deref().cloned();
            *response.headers_mut() = further.unwrap_or_default();
            return response;
        }
        let mut response = Response::new(text(format!("{}\n", self.text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if self.status == StatusCode::UPGRADE_REQUIRED && version != Version::HTTP_2 {
            // RFC 9110 §7.8: a sender of Upgrade names it in Connection. HTTP/2 has neither.
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if let Some(further) = &self.headers {
            headers.extend(HeaderMap::clone(further));
        }
        response
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        let mut refusal =
            Refusal::new(denial.status, RefusalReason::Guard(denial.why), denial.text);
        refusal.body = denial.body.map(Box::new);
        let headers = denial.headers.into_iter();
        headers.fold(refusal, |refusal, (name, value)| refusal.with(name, value))
    }
}

impl From<Unavailable> for Refusal {
    fn from(unavailable: Unavailable) -> Self {
        let text = match unavailable {
            Unavailable::NoBackend => "no backend is available",
            Unavailable::Unresolved => "no backend is known, try again later",
            Unavailable::Down => "all backends are down, try again later",
            Unavailable::Full | Unavailable::QueueFull | Unavailable::QueueWait => {
                "all backends are full, try again later"
            }
            Unavailable::QueueShare => {
                "too many queued requests from this address, try again later"
            }
            Unavailable::Draining => "all backends are draining, try again later",
        };
        Refusal::unavailable(RefusalReason::Unavailable(unavailable), text)
    }
}

// === impl NoResponse ===

impl From<&DialError> for NoResponse {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::Tls { .. } => NoResponse::Tls,
            _ => NoResponse::Dial,
        }
    }
}

// === impl RefusalReason ===

impl RefusalReason {
    /// Returns the word for the access log and the metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RefusalReason::AnswerIdle => "answer-idle",
            RefusalReason::BackendTls => "backend-tls",
            RefusalReason::Body => "body",
            RefusalReason::BodyIdle => "body-idle",
            RefusalReason::Broken => "broken",
            RefusalReason::ClientCert => "client-cert",
            RefusalReason::ClientLeft => "client-left",
            RefusalReason::Connect => "connect",
            RefusalReason::Dial => "dial",
            RefusalReason::Descriptors => "descriptors",
            RefusalReason::DescriptorsShare => "descriptors-share",
            RefusalReason::Draining => "draining",
            RefusalReason::ForwardedProto => "forwarded-proto",
            RefusalReason::ForeignStream => "foreign-stream",
            RefusalReason::HandshakeTimeout => "handshake-timeout",
            RefusalReason::H2Connection => "h2-connection",
            RefusalReason::HeadFields => "head-fields",
            RefusalReason::HeadSize => "head-size",
            RefusalReason::HeaderLine => "header-line",
            RefusalReason::HeaderTwin => "header-twin",
            RefusalReason::Host => "host",
            RefusalReason::Malformed => "malformed",
            RefusalReason::MemoryShare => "memory-share",
            RefusalReason::Misdirected => "misdirected",
            RefusalReason::NoRoute => "no-route",
            RefusalReason::OnlyHttp => "only-http",
            RefusalReason::OnlyWebsocket => "only-websocket",
            RefusalReason::Path => "path",
            RefusalReason::Protocol => "protocol",
            RefusalReason::Rebuild => "rebuild",
            RefusalReason::RequestsShare => "requests-share",
            RefusalReason::SessionsFull => "sessions-full",
            RefusalReason::SessionsShare => "sessions-share",
            RefusalReason::Status => "status",
            RefusalReason::Stopping => "stopping",
            RefusalReason::StreamsExcess => "streams-excess",
            RefusalReason::StreamsFull => "streams-full",
            RefusalReason::Target => "target",
            RefusalReason::TargetSize => "target-size",
            RefusalReason::Token => "token",
            RefusalReason::TokenConflict => "token-conflict",
            RefusalReason::Trace => "trace",
            RefusalReason::TransferCoding => "transfer-coding",
            RefusalReason::TransferEncoding => "transfer-encoding",
            RefusalReason::UpgradeBody => "upgrade-body",
            RefusalReason::Handshake(error) => error.as_str(),
            RefusalReason::Bad101(error) => error.as_str(),
            RefusalReason::Guard(reason) => reason.as_str(),
            RefusalReason::Unavailable(unavailable) => unavailable.as_str(),
        }
    }
}

/// Logs that a backend failed, at a limited rate for each backend and reason: a backend that is down fails once per
/// client.
pub(crate) fn warn_backend_failure(
    route: &Route,
    lease: &Lease,
    error: &(dyn Error + 'static),
    why: RefusalReason,
    what: &str,
) {
    static THROTTLE: LazyLock<KeyedLogThrottle<(Arc<str>, &str)>> =
        LazyLock::new(KeyedLogThrottle::new);
    let key = (lease.backend().name().clone(), why.as_str());
    if let Some(suppressed) = THROTTLE.allow(key) {
        let error = ErrorChain(error);
        warn!(route = %route.name, backend = %lease.backend().name(), %error, suppressed, "{what}");
    }
}

/// Logs at a limited rate that no descriptor is left for a connection to a backend.
pub(crate) fn warn_exhaustion(error: &(dyn Error + 'static)) {
    static THROTTLE: LogThrottle = LogThrottle::new();
    if let Some(suppressed) = THROTTLE.allow() {
        let error = ErrorChain(error);
        warn!(%error, suppressed, "no resources for a connection to a backend; refusing requests");
    }
}
