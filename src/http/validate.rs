//! Refuses requests that different HTTP parsers could interpret differently (RFC 9110, RFC 9112).
//!
//! Only the request itself is checked; routing and guards follow later.

use crate::{
    http::refusal::{Refusal, RefusalReason},
    net::random::random_bytes,
    proto::handshake::{self, BadHandshake, Offer},
    router::{framework::TRUSTED_BY_BACKENDS, host::Authority, path::NormalPath, rule::RouteQuery},
};
use ::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request::Parts};
use hyper::ext::Protocol;

/// A request that passed validation.
#[derive(Debug)]
pub(crate) struct ValidatedRequest<'a> {
    /// The `Host` field as received: it is forwarded byte for byte.
    pub(crate) host: &'a str,
    /// The parsed `Host` field.
    pub(crate) authority: Authority<'a>,
    /// The normalised path, which is matched and forwarded.
    pub(crate) path: NormalPath<'a>,
    /// Set if the request is a WebSocket handshake.
    pub(crate) offer: Option<Offer>,
}

// === impl ValidatedRequest ===

impl ValidatedRequest<'_> {
    /// Returns the offered subprotocols.
    pub(crate) fn subprotocols(&self) -> Vec<&str> {
        let offered = self.offer.iter().flat_map(|offer| &offer.subprotocols);
        offered.map(|subprotocol| &**subprotocol).collect()
    }

    /// Returns the request in the form that routes match.
    pub(crate) fn route_query<'a>(
        &'a self,
        headers: &'a HeaderMap,
        subprotocols: &'a [&'a str],
    ) -> RouteQuery<'a> {
        RouteQuery {
            host: &self.authority.host,
            path: &self.path,
            headers,
            websocket: self.offer.is_some(),
            subprotocols,
        }
    }
}

/// Validates a request, or returns the reason for its refusal.
pub(crate) fn validate(request: &Parts) -> Result<ValidatedRequest<'_>, Refusal> {
    if request.method == Method::TRACE {
        // TRACE would expose headers added by proxies; nginx and Apache refuse it as well.
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            RefusalReason::Trace,
            "the method TRACE is not supported",
        ));
    }
    let extended_connect = is_extended_connect(request)?;
    let host = match request.uri.authority() {
        // RFC 9113 §8.3.1: `:authority` replaces Host, which may be missing then.
        Some(authority)
            if request.version == Version::HTTP_2
                && !request.headers.contains_key(header::HOST) =>
        {
            authority.as_str()
        }
        _ => single_host(&request.headers)?,
    };
    let authority = Authority::parse(host)
        .map_err(|error| Refusal::bad(RefusalReason::Host, format!("bad Host: {error}")))?;
    match_target(request, &authority)?;
    let path = NormalPath::parse(request.uri.path()).map_err(|error| {
        Refusal::bad(RefusalReason::Path, format!("bad request target: {error}"))
    })?;
    validate_framing(&request.headers)?;
    reject_underscore_twins(&request.headers)?;
    let offer = match extended_connect {
        true => Offer::read_connect(&request.headers, fresh_key()).map(Some),
        false => Offer::read(request),
    };
    let offer = offer.map_err(refuse_handshake)?;
    if offer.is_some() && has_body(&request.headers) {
        return Err(Refusal::bad(
            RefusalReason::UpgradeBody,
            "a WebSocket handshake has no body (RFC 6455 section 4.1)",
        ));
    }
    Ok(ValidatedRequest {
        host,
        authority,
        path,
        offer,
    })
}

/// Returns whether this is the extended CONNECT of a WebSocket (RFC 8441 §4); any other CONNECT is refused.
fn is_extended_connect(request: &Parts) -> Result<bool, Refusal> {
    if request.method != Method::CONNECT {
        return Ok(false);
    }
    match request.extensions.get::<Protocol>().map(Protocol::as_str) {
        Some("websocket") => Ok(true),
        Some(_) => Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            RefusalReason::Protocol,
            "the only supported :protocol of an extended CONNECT is `websocket`",
        )),
        None => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            RefusalReason::Connect,
            "this is not a forward proxy",
        )),
    }
}

/// Returns a new `Sec-WebSocket-Key` for the backend: HTTP/1.1 requires one, extended CONNECT has none.
fn fresh_key() -> Box<str> {
    handshake::key(random_bytes())
}

/// Requires exactly one `Host` (RFC 9112 §3.2).
fn single_host(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Err(Refusal::bad(RefusalReason::Host, "the request has no Host")),
        (Some(_), Some(_)) => Err(Refusal::bad(
            RefusalReason::Host,
            "the request has more than one Host",
        )),
        (Some(host), None) => host
            .to_str()
            .map_err(|_| Refusal::bad(RefusalReason::Host, "bad Host: it is not ASCII")),
    }
}

/// Requires an absolute-form target to name the same authority as `Host`; other forms are for proxies and `OPTIONS *`.
fn match_target(request: &Parts, authority: &Authority<'_>) -> Result<(), Refusal> {
    let Some(target_authority) = request.uri.authority() else {
        return Ok(());
    };
    let named = Authority::parse(target_authority.as_str()).map_err(|error| {
        Refusal::bad(
            RefusalReason::Target,
            format!("bad request target: {error}"),
        )
    })?;
    match request.uri.scheme_str() {
        None => Err(Refusal::bad(
            RefusalReason::Target,
            "the request target must be a path",
        )),
        Some("http" | "https" | "ws" | "wss") if named == *authority => Ok(()),
        Some("http" | "https" | "ws" | "wss") => Err(Refusal::bad(
            RefusalReason::Target,
            "the request target and Host name different authorities",
        )),
        Some(_) => Err(Refusal::bad(
            RefusalReason::Target,
            "the scheme of the request target is not supported",
        )),
    }
}

/// Refuses framing that two parsers could read differently, although hyper has parsed it (RFC 9112 §6.3, §11.2).
fn validate_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    match has_single_transfer_coding(headers) {
        true => Ok(()),
        false => Err(Refusal::bad(
            RefusalReason::TransferEncoding,
            "Transfer-Encoding must be exactly `chunked`",
        )),
    }
}

/// Refuses headers with an underscore that backends could confuse with managed ones: `X_Forwarded_For` becomes the same
/// variable as `X-Forwarded-For` in every WSGI and CGI server.
fn reject_underscore_twins(headers: &HeaderMap) -> Result<(), Refusal> {
    for name in headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| name.contains('_'))
    {
        let twin = name.replace('_', "-");
        if is_managed(&twin) {
            return Err(Refusal::bad(
                RefusalReason::HeaderTwin,
                format!("the header {name} could be interpreted as {twin}"),
            ));
        }
    }
    Ok(())
}

/// Returns whether Lockgate sets this header, or it determines how the request is parsed.
pub(crate) fn is_managed(name: &str) -> bool {
    MANAGED.contains(&name)
        || TRUSTED_BY_BACKENDS.contains(&name)
        || name.starts_with("sec-websocket-")
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|length| length.as_bytes() != b"0")
}

fn refuse_handshake(error: BadHandshake) -> Refusal {
    let refusal = Refusal::new(
        error.status(),
        RefusalReason::Handshake(error),
        format!("bad WebSocket handshake: {error}"),
    );
    match error {
        BadHandshake::WrongMethod => refusal.with(header::ALLOW, HeaderValue::from_static("GET")),
        BadHandshake::WrongVersion => refusal.with(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        ),
        _ => refusal,
    }
}

/// Returns whether a body is plain or chunked: another coding could only be forwarded without its name (RFC 9112 §6.1).
pub(crate) fn has_single_transfer_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

pub(crate) const MANAGED: [&str; 11] = [
    "connection",
    "content-length",
    "forwarded",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];
