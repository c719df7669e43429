//! Refuses requests that different HTTP parsers could interpret differently (RFC 9110, RFC 9112).
//!
//! Only the request itself is checked, and whether its connection may carry it; routing and guards follow later.

use crate::{
    http::{
        refusal::{Refusal, RefusalReason},
        request::RequestContext,
    },
    net::random::random_bytes,
    proto::{
        handshake::{self, BadHandshake, Offer},
        path::{BadPath, NormalPath},
    },
    router::{framework::TRUSTED_BY_BACKENDS, host::Authority, rule::RouteQuery},
    tls::client_auth::CaSetId,
};
use ::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request::Parts};
use hyper::ext::Protocol;

/// A request that passed validation.
#[derive(Debug)]
pub(crate) struct ValidatedRequest<'a> {
    /// The `Host` field as received: it is forwarded byte for byte. Empty if an HTTP/1.0 request has none.
    pub(crate) host: &'a str,
    /// The parsed `Host` field.
    pub(crate) authority: Authority<'a>,
    /// The normalised path, which is matched and forwarded.
    pub(crate) path: NormalPath<'a>,
    /// The path in which an escaped slash separates segments; `None` if it has none.
    pub(crate) separated_path: Option<NormalPath<'a>>,
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

/// Refuses a head of more than `max` bytes or [`MAX_HEADERS`] fields. The size is that of the parsed fields:
/// in HTTP/2 without compression (RFC 9113 §10.5.1).
pub(crate) fn check_head_size(request: &Parts, max: u64) -> Result<(), Refusal> {
    let too_large = |why, text| {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Refusal::new(status, why, text)
    };
    let (overhead, mut size) = if request.version == Version::HTTP_2 {
        (H2_FIELD_OVERHEAD, 4 * H2_FIELD_OVERHEAD)
    } else {
        (": \r\n".len(), "  HTTP/1.1\r\n\r\n".len())
    };
    let uri = &request.uri;
    size += request.method.as_str().len();
    size +=
        uri.scheme_str().map_or(0, str::len) + uri.authority().map_or(0, |it| it.as_str().len());
    size += uri.path_and_query().map_or(0, |it| it.as_str().len());
    for (name, value) in &request.headers {
        size += name.as_str().len() + value.len() + overhead;
    }
    if size as u64 > max {
        return Err(too_large(
            RefusalReason::HeadSize,
            format!("the head of the request is larger than {max} bytes (limits.head_size)"),
        ));
    }
    if request.headers.len() > MAX_HEADERS {
        return Err(too_large(
            RefusalReason::HeadFields,
            format!(
                "the request has more than {MAX_HEADERS} header fields, which is a fixed limit"
            ),
        ));
    }
    Ok(())
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
        // RFC 9112 §3.2: HTTP/1.0 requires no Host. An absolute target names the host, too.
        authority
            if request.version == Version::HTTP_10
                && !request.headers.contains_key(header::HOST) =>
        {
            authority.map_or("", |authority| authority.as_str())
        }
        _ => single_host(&request.headers)?,
    };
    let authority = match host {
        "" if !request.headers.contains_key(header::HOST) => Authority::unknown(),
        host => Authority::parse(host)
            .map_err(|error| Refusal::bad(RefusalReason::Host, format!("bad Host: {error}")))?,
    };
    match_target(request, &authority)?;
    let path = request.uri.path();
    let (path, separated_path) = match NormalPath::parse(path) {
        // Whether it is accepted depends on the route.
        Err(BadPath::EscapedSlash) => {
            NormalPath::parse_both(path).map(|(path, separated)| (path, Some(separated)))
        }
        parsed => parsed.map(|path| (path, None)),
    }
    .map_err(refuse_path)?;
    validate_framing(&request.headers).map_err(|refusal| close(refusal, request.version))?;
    reject_underscore_twins(&request.headers).map_err(|refusal| close(refusal, request.version))?;
    let offer = if extended_connect {
        Offer::read_connect(&request.headers, fresh_key()).map(Some)
    } else {
        Offer::read(request)
    };
    let offer = offer.map_err(refuse_handshake)?;
    if offer.is_some() && has_body(&request.headers) {
        let refusal = Refusal::bad(
            RefusalReason::UpgradeBody,
            "a WebSocket handshake has no body (RFC 6455 section 4.1)",
        );
        return Err(close(refusal, request.version));
    }
    Ok(ValidatedRequest {
        host,
        authority,
        path,
        separated_path,
        offer,
    })
}

/// Refuses a request as misdirected (RFC 9110 §15.5.20) if its host requires client authentication and the connection
/// was opened without it, or the other way round: the client has coalesced connections, or attempts a bypass. A client
/// certificate counts as long as `tls.client_ca` has the CAs that it was verified against.
pub(crate) fn check_misdirected(
    rc: &RequestContext<'_>,
    validated: &ValidatedRequest<'_>,
) -> Result<(), Refusal> {
    // No client has a certificate there, so a route that uses them refuses the request itself.
    if rc.peer.is_cleartext {
        return Ok(());
    }
    let host = Some(&*validated.authority.host).filter(|host| !host.is_empty());
    let text = match (
        rc.gateway.tls.client_auth(host),
        rc.peer.client_auth_requested,
    ) {
        (Some(_), false) => {
            "this host requests client certificates (client_cert), but this connection was opened without such a \
             request: with another server name, or with none"
        }
        (None, true) => {
            "this host requests no client certificates (client_cert), but one was requested on this connection: it was \
             opened with another server name, or with none"
        }
        (Some(client_auth), true) => return check_ca_set(rc, client_auth.ca_set),
        (None, false) => return Ok(()),
    };
    Err(misdirected(text))
}

/// Refuses a request whose client certificate was verified against other CAs than `ca_set`. Its connection closes,
/// because the client must present a certificate again.
fn check_ca_set(rc: &RequestContext<'_>, ca_set: CaSetId) -> Result<(), Refusal> {
    let certificate = rc.peer.client_cert.as_ref();
    if certificate.is_none_or(|certificate| certificate.is_verified_by(ca_set)) {
        return Ok(());
    }
    let refusal = misdirected(
        "the trusted client CAs (tls.client_ca) have changed since this connection was opened; connect again",
    );
    match &rc.in_flight {
        // RFC 9113 §8.2.2: HTTP/2 has no Connection field, but GOAWAY.
        Some(in_flight) if rc.version == Version::HTTP_2 => {
            in_flight.close_connection();
            Err(refusal)
        }
        _ => Err(refusal.with(header::CONNECTION, HeaderValue::from_static("close"))),
    }
}

/// Closes the connection after a refusal for framing (RFC 9112 §6.3): what follows the head could be a body for one
/// parser and a request for another.
fn close(refusal: Refusal, version: Version) -> Refusal {
    match version {
        // RFC 9113 §8.2.2: HTTP/2 has no Connection field, and its frames delimit a body.
        Version::HTTP_2 => refusal,
        _ => refusal.with(header::CONNECTION, HeaderValue::from_static("close")),
    }
}

fn misdirected(text: &'static str) -> Refusal {
    let status = StatusCode::MISDIRECTED_REQUEST;
    Refusal::new(status, RefusalReason::Misdirected, text)
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
    if has_single_transfer_coding(headers) {
        Ok(())
    } else {
        Err(Refusal::bad(
            RefusalReason::TransferEncoding,
            "Transfer-Encoding must be exactly `chunked`",
        ))
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

/// Returns the refusal of a path.
pub(crate) fn refuse_path(error: BadPath) -> Refusal {
    Refusal::bad(RefusalReason::Path, format!("bad request target: {error}"))
}

/// Returns the refusal of a handshake.
pub(crate) fn refuse_handshake(error: BadHandshake) -> Refusal {
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

/// Maximum number of header fields: the limit of `websockets` and of most Python servers.
pub(crate) const MAX_HEADERS: usize = 128;

/// The overhead of a field in the size of a header list (RFC 9113 §10.5.1).
const H2_FIELD_OVERHEAD: usize = 32;

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

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::Request;

    /// Parses a request line and headers, separated by `|`. `:protocol` is that of an extended CONNECT.
    fn parts(head: &str) -> Parts {
        let mut lines = head.split('|');
        let line: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let mut request = Request::builder()
            .method(line[0])
            .uri(line[1])
            .version(match line[2] {
                "HTTP/1.0" => Version::HTTP_10,
                "HTTP/1.1" => Version::HTTP_11,
                "HTTP/2" => Version::HTTP_2,
                other => panic!("{other}"),
            });
        for header in lines {
            request = match header.split_once(": ").unwrap() {
                (":protocol", protocol) => request.extension(Protocol::from(protocol)),
                (name, value) => request.header(name, value),
            };
        }
        request.body(()).unwrap().into_parts().0
    }

    /// Requests, and the status and word of their refusal.
    const REFUSED: &[(&str, u16, &str)] = &[
        ("TRACE / HTTP/1.1|Host: a.test", 405, "trace"),
        (
            "CONNECT a.test:443 HTTP/1.1|Host: a.test:443",
            405,
            "connect",
        ),
        (
            "CONNECT https://a.test/ HTTP/2|:protocol: connect-udp",
            501,
            "protocol",
        ),
        ("GET / HTTP/1.1", 400, "host"),
        ("GET / HTTP/1.0|Host: ", 400, "host"),
        (
            "GET / HTTP/1.1|Host: a.test|Connection: upgrade|Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==",
            400,
            "missing-upgrade",
        ),
        ("GET / HTTP/1.1|Host: a.test|Host: a.test", 400, "host"),
        ("GET / HTTP/1.1|Host: a.test@b.test", 400, "host"),
        ("GET http://b.test/ HTTP/1.1|Host: a.test", 400, "target"),
        ("GET ftp://a.test/ HTTP/1.1|Host: a.test", 400, "target"),
        ("GET /../x HTTP/1.1|Host: a.test", 400, "path"),
        ("OPTIONS * HTTP/1.1|Host: a.test", 400, "path"),
        (
            "POST / HTTP/1.1|Host: a.test|Transfer-Encoding: gzip, chunked",
            400,
            "transfer-encoding",
        ),
        (
            "GET / HTTP/1.1|Host: a.test|X_Forwarded_For: 192.0.2.1",
            400,
            "header-twin",
        ),
        (
            "POST / HTTP/1.1|Host: a.test|Connection: upgrade|Upgrade: websocket",
            405,
            "wrong-method",
        ),
        (
            "GET / HTTP/1.0|Host: a.test|Connection: upgrade|Upgrade: websocket",
            400,
            "http-1.0",
        ),
        (
            "GET / HTTP/1.1|Host: a.test|Connection: upgrade|Upgrade: websocket",
            426,
            "wrong-version",
        ),
        (
            "GET / HTTP/1.1|Host: a.test|Connection: upgrade|Upgrade: websocket|Sec-WebSocket-Version: 13",
            400,
            "missing-key",
        ),
        (
            "GET / HTTP/1.1|Host: a.test|Connection: upgrade|Upgrade: websocket|Sec-WebSocket-Version: 13\
             |Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==|Content-Length: 1",
            400,
            "upgrade-body",
        ),
    ];

    /// Valid requests, their host, and whether they are WebSocket handshakes.
    const ACCEPTED: &[(&str, &str, bool)] = &[
        ("GET /a HTTP/1.0|Host: a.test", "a.test", false),
        ("GET /a HTTP/1.0", "", false),
        ("GET http://a.test/a HTTP/1.0", "a.test", false),
        (
            "GET / HTTP/1.1|Host: a.test|Upgrade: websocket",
            "a.test",
            false,
        ),
        (
            "GET / HTTP/1.1|Host: a.test|Upgrade: websocket|Sec-WebSocket-Version: 13\
             |Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==",
            "a.test",
            true,
        ),
        ("GET http://A.test/a HTTP/1.1|Host: a.test", "a.test", false),
        (
            "POST / HTTP/1.1|Host: a.test|Transfer-Encoding: Chunked",
            "a.test",
            false,
        ),
        ("GET https://a.test/ HTTP/2", "a.test", false),
        (
            "CONNECT https://a.test/ws HTTP/2|:protocol: websocket",
            "a.test",
            true,
        ),
        (
            "GET / HTTP/1.1|Host: a.test:8443|Connection: keep-alive, Upgrade|Upgrade: WebSocket\
             |Sec-WebSocket-Version: 13|Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==|Content-Length: 0",
            "a.test:8443",
            true,
        ),
    ];

    #[test]
    fn invalid_requests_are_refused_with_status_and_word() {
        for (head, status, why) in REFUSED {
            let request = parts(head);
            let refusal = validate(&request).expect_err(head);
            let refused = (refusal.status.as_u16(), refusal.why.as_str());
            assert_eq!(refused, (*status, *why), "{head}");
        }
    }

    #[test]
    fn valid_requests_are_accepted() {
        for (head, host, is_websocket) in ACCEPTED {
            let request = parts(head);
            let validated = validate(&request).expect(head);
            let accepted = (validated.host, validated.offer.is_some());
            assert_eq!(accepted, (*host, *is_websocket), "{head}");
        }
    }
}
