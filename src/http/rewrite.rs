//! Rebuilds message heads: the request line and managed headers are new, every other end-to-end header is forwarded,
//! repeated headers in their order.

use crate::{
    config::{ClientCert, Compression},
    gateway::route::Route,
    http::{
        body::Body,
        refusal::{Refusal, RefusalReason},
        request::RequestContext,
        token::{self, ExtractedToken},
        validate::{self, ValidatedRequest},
    },
    proto::{
        cookie,
        deflate::DeflateParams,
        forwarded,
        handshake::{self, Offer},
    },
    router::framework::{HeadLimit, TRUSTED_BY_BACKENDS},
    upstream::{balance_key::BalanceKey, lease::Lease, pool::Pool, sticky::SidCapture},
};
use ::http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request::Parts,
    response, uri::PathAndQuery,
};
use http_body_util::BodyExt;

/// The head that a backend receives in place of the client's, and what its response is completed with.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) target: PathAndQuery,
    pub(crate) headers: HeaderMap,
    /// The compression that Lockgate negotiates with the client itself.
    pub(crate) agreement: Option<DeflateParams>,
    /// Where the token was found.
    pub(crate) token: ExtractedToken,
}

// === impl Outbound ===

impl Outbound {
    /// Returns the headers for the lease's backend.
    pub(crate) fn headers_for(&self, lease: &Lease) -> HeaderMap {
        let mut headers = self.headers.clone();
        if let Some(host) = lease.host() {
            headers.insert(header::HOST, host.clone());
        }
        headers
    }
}

/// Builds the head for a backend of the request's route. Extensions that the backend must not receive, and a
/// subprotocol that is a token, are removed from the offer.
pub(crate) fn rewrite(
    rc: &RequestContext<'_>,
    route: &Route,
    request: &Parts,
    validated: &mut ValidatedRequest<'_>,
) -> Result<Outbound, Refusal> {
    let (mut target, mut headers) = rebuild(rc, route, request, validated).map_err(|error| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            RefusalReason::Rebuild,
            format!("the request cannot be forwarded: {error}"),
        )
    })?;
    let agreement = validated.offer.as_mut().and_then(|offer| {
        negotiate_compression(route.compression, &request.headers, offer, &mut headers)
    });
    let token = match &route.token {
        Some(rule) => {
            let offer = validated.offer.as_mut();
            token::relocate_token(rule, &mut target, &mut headers, offer)?
        }
        None => ExtractedToken::default(),
    };
    if !route.guards.is_empty() {
        token::mark_sensitive(&header::AUTHORIZATION, &mut headers);
    }
    let outbound = Outbound {
        target,
        headers,
        agreement,
        token,
    };
    if let Some(limit) = &route.expectations.head_limit
        && (validated.offer.is_some() || !limit.handshakes_only)
    {
        check_head(limit, &request.method, &outbound)?;
    }
    Ok(outbound)
}

/// Refuses a request that the server of the backend would leave unanswered.
fn check_head(limit: &HeadLimit, method: &Method, outbound: &Outbound) -> Result<(), Refusal> {
    let too_large = |what: String, max: usize, of: &str| {
        Refusal::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            RefusalReason::HeaderLine,
            format!(
                "{what}; the server behind this route accepts at most {max} {of} (framework = \"{}\")",
                limit.framework
            ),
        )
    };
    let target = outbound.target.as_str();
    // An extended CONNECT is forwarded as GET, which is shorter.
    let request_line = method.as_str().len() + target.len() + "  HTTP/1.1\r\n".len();
    if request_line > limit.line {
        let what = format!("the request line has {request_line} bytes");
        return Err(too_large(what, limit.line, "bytes"));
    }
    for (name, value) in &outbound.headers {
        let line = name.as_str().len() + value.len() + ": \r\n".len();
        if line > limit.line {
            let what = format!("the line of the header {name} has {line} bytes");
            return Err(too_large(what, limit.line, "bytes"));
        }
    }
    let lines = outbound.headers.len();
    if lines > limit.lines {
        let what = format!("the request has {lines} header lines");
        return Err(too_large(what, limit.lines, "lines"));
    }
    Ok(())
}

fn rebuild(
    rc: &RequestContext<'_>,
    route: &Route,
    request: &Parts,
    validated: &ValidatedRequest<'_>,
) -> Result<(PathAndQuery, HeaderMap), ::http::Error> {
    let (gateway, peer) = (rc.gateway, rc.peer.address);
    let stripped = route.strip_prefix.as_deref().and_then(|prefix| {
        let rest = validated.path.strip_prefix(prefix)?;
        Some((prefix, rest))
    });
    let path = match stripped {
        Some((_, rest)) => rest,
        None if route.keeps_path => request.uri.path(),
        None => validated.path.as_str(),
    };
    let target = match request.uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}"))?,
        None => PathAndQuery::try_from(path)?,
    };

    let trusted = gateway.trusts(peer);
    let incoming = &request.headers;
    let mut headers = end_to_end(incoming);
    // A client of HTTP/1.0 may name no host: then it is the address to which the client has connected.
    let local = rc.peer.local.to_string();
    let named = Some(validated.host).filter(|host| !host.is_empty());
    let client_host = named.unwrap_or(&local);
    if request.version == Version::HTTP_2 {
        headers = as_http1(headers, validated.host)?;
    }
    if let Some(host) = &route.host {
        headers.insert(header::HOST, host.clone());
    } else if !headers.contains_key(header::HOST) {
        headers.insert(header::HOST, client_host.try_into()?);
    }
    for name in TRUSTED_BY_BACKENDS.iter().filter(|_| !trusted) {
        headers.remove(*name);
    }
    set_client_cert_header(&mut headers, rc, route);
    headers.remove(header::EXPECT);
    if let Some(offer) = &validated.offer {
        headers.remove(header::CONTENT_LENGTH);
        // Forwarded as the client sent them; over HTTP/2 a client need not send them.
        headers.insert(header::SEC_WEBSOCKET_KEY, (*offer.key).try_into()?);
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    }

    let proto = match validated.offer {
        // Without a report of its proxy, only the connection itself is known.
        _ if rc.peer.is_cleartext => "http",
        Some(_) => route.expectations.websocket_proto,
        None => "https",
    };
    let proto = forwarded::proto(incoming, trusted).unwrap_or(proto);
    let scheme = match proto {
        "http" | "ws" if rc.peer.is_cleartext => "http",
        _ => "https",
    };
    let chain = forwarded::x_forwarded_for(incoming, peer, |address| gateway.trusts(address));
    let host = incoming.get(X_FORWARDED_HOST).filter(|_| trusted).cloned();
    headers.insert(X_FORWARDED_FOR, chain.try_into()?);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(proto));
    headers.insert(
        X_FORWARDED_HOST,
        host.map_or_else(|| client_host.try_into(), Ok)?,
    );
    headers.insert(
        header::FORWARDED,
        forwarded::forwarded_element(rc.client, client_host, scheme).try_into()?,
    );
    headers.insert(X_REAL_IP, rc.client.to_string().try_into()?);
    if let (Some((prefix, _)), Some(name)) = (stripped, route.expectations.prefix_header) {
        headers.insert(HeaderName::try_from(name)?, prefix.try_into()?);
    }
    Ok((target, headers))
}

/// Sets `Client-Cert` to the certificate that the client has presented (RFC 9440), and removes such headers that the
/// client sent. Does nothing if the route does not use client certificates.
fn set_client_cert_header(headers: &mut HeaderMap, rc: &RequestContext<'_>, route: &Route) {
    if route.client_cert == ClientCert::Off {
        return;
    }
    headers.remove(CLIENT_CERT);
    headers.remove(CLIENT_CERT_CHAIN);
    if let Some(certificate) = &rc.peer.client_cert {
        headers.insert(CLIENT_CERT, certificate.value().clone());
    }
}

/// Removes the extensions from the handshake with the backend unless `compression` is "pass". Returns the parameters
/// that Lockgate negotiates with the client itself (`session.compression`).
fn negotiate_compression(
    compression: Compression,
    request_headers: &HeaderMap,
    offer: &mut Offer,
    outbound: &mut HeaderMap,
) -> Option<DeflateParams> {
    if compression == Compression::Pass {
        return None;
    }
    outbound.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    // A backend that accepts an extension which was not offered violates RFC 6455.
    offer.extensions = Vec::new();
    match compression {
        Compression::Offload => DeflateParams::negotiate(request_headers),
        Compression::Pass | Compression::Strip => None,
    }
}

/// Returns the headers that are not for this hop only (RFC 9110 §7.6.1).
pub(crate) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<&[u8]> = handshake::tokens(headers, &header::CONNECTION).collect();
    let mut forwarded = HeaderMap::with_capacity(headers.len() + 8);
    for (name, value) in headers {
        let named = named
            .iter()
            .any(|token| token.eq_ignore_ascii_case(name.as_str().as_bytes()));
        // Over HTTP/2 the same length may occur twice (RFC 9110 §8.6); it is forwarded once.
        let is_repeated = name == header::CONTENT_LENGTH && forwarded.contains_key(name);
        if !HOP_BY_HOP.contains(&name.as_str()) && (!named || is_end_to_end(name)) && !is_repeated {
            forwarded.append(name, value.clone());
        }
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // RFC 9112 §6.3: Transfer-Encoding overrides the length, and a proxy removes the length before forwarding.
        forwarded.remove(header::CONTENT_LENGTH);
    }
    forwarded
}

/// Converts what HTTP/2 expresses differently: `:authority`, and a split cookie (RFC 9113 §8.3.1, §8.2.3).
fn as_http1(headers: HeaderMap, host: &str) -> Result<HeaderMap, ::http::Error> {
    let mut translated = HeaderMap::with_capacity(headers.len() + 1);
    translated.insert(header::HOST, host.try_into()?);
    if let Some(cookie) = cookie::joined(&headers) {
        translated.insert(header::COOKIE, cookie);
    }
    for (name, value) in &headers {
        if name != header::HOST && name != header::COOKIE {
            translated.append(name, value.clone());
        }
    }
    Ok(translated)
}

/// Rewrites a backend's response to `request` for this hop. Refuses a response of which no valid form exists.
pub(crate) fn rewrite_response(
    response: &mut response::Parts,
    request: &Parts,
) -> Result<(), Refusal> {
    let version = request.version;
    let bad_gateway = |why, text| Err(Refusal::new(StatusCode::BAD_GATEWAY, why, text));
    if !validate::has_single_transfer_coding(&response.headers) {
        return bad_gateway(
            RefusalReason::TransferCoding,
            "the backend's answer has a transfer coding that was not requested",
        );
    }
    // RFC 9110 §15: other values are invalid, and a client treats them as it likes.
    if response.status.as_u16() > MAX_STATUS {
        return bad_gateway(
            RefusalReason::Status,
            "the backend's answer has an invalid status code",
        );
    }
    let upgrade = response.headers.remove(header::UPGRADE);
    let trailer = announced_trailers(response, request);
    response.headers = end_to_end(&response.headers);
    if let Some(trailer) = trailer {
        response.headers.insert(header::TRAILER, trailer);
    }
    response.version = version;
    let keep_upgrade =
        response.status == StatusCode::UPGRADE_REQUIRED && version != Version::HTTP_2;
    // RFC 9110 §15.5.22: a 426 names the protocol, and §7.8: in a header that Connection lists. HTTP/2 has neither.
    if let Some(upgrade) = upgrade.filter(|_| keep_upgrade) {
        response.headers.insert(header::UPGRADE, upgrade);
        let named = HeaderValue::from_static("upgrade");
        response.headers.insert(header::CONNECTION, named);
    }
    // RFC 9110 §8.6.
    if response.status == StatusCode::NO_CONTENT {
        response.headers.remove(header::CONTENT_LENGTH);
    }
    Ok(())
}

/// Returns the `Trailer` field for a client of HTTP/1.1 that accepts trailers (RFC 9110 §6.5.1): hyper writes those
/// that are announced, at the end of a chunked body. HTTP/2 needs no announcement.
fn announced_trailers(response: &response::Parts, request: &Parts) -> Option<HeaderValue> {
    let accepts = request.version == Version::HTTP_11
        && handshake::has_token(&request.headers, &header::TE, "trailers");
    if !accepts || !response.headers.contains_key(header::TRANSFER_ENCODING) {
        return None;
    }
    let names = handshake::tokens(&response.headers, &header::TRAILER);
    let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
    let names: Vec<HeaderName> = names
        .filter(|name| !HOP_BY_HOP.contains(&name.as_str()) && !NOT_IN_TRAILERS.contains(name))
        .collect();
    let names: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    let has_names = !names.is_empty();
    has_names.then(|| HeaderValue::try_from(names.join(", ")).ok())?
}

/// Returns the trailers that may be forwarded (RFC 9110 §6.5.1).
pub(crate) fn trailers(trailers: HeaderMap) -> HeaderMap {
    let mut trailers = end_to_end(&trailers);
    for name in NOT_IN_TRAILERS {
        trailers.remove(name);
    }
    trailers
}

/// Headers that `Connection` cannot remove: by listing them, a client could make us drop headers on which a backend, or
/// a proxy in front of Lockgate, relies.
fn is_end_to_end(name: &HeaderName) -> bool {
    validate::is_managed(name.as_str()) || PROTECTED.contains(&name.as_str())
}

/// Adds the affinity cookie to a response, if the pool uses one and the request has none for this backend.
pub(crate) fn set_cookie(pool: &Pool, key: BalanceKey, lease: &Lease, headers: &mut HeaderMap) {
    if let Some(cookie) = pool.cookie(key, lease) {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Passes the first data frame of a body to `sid_capture`.
pub(crate) fn capture_sid(body: Body, sid_capture: Option<SidCapture>) -> Body {
    let Some(sid_capture) = sid_capture else {
        return body;
    };
    let mut sid_capture = Some(sid_capture);
    body.map_frame(move |frame| {
        if let Some(sid_capture) = sid_capture.take_if(|_| frame.is_data()) {
            sid_capture.capture(frame.data_ref().map_or(&[], |data| data));
        }
        frame
    })
    .boxed_unsync()
}

pub(crate) const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(crate) const PROTECTED: [&str; 9] = [
    "accept",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-type",
    "cookie",
    "origin",
    "range",
    "set-cookie",
];

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// Fields of framing, routing, authentication and content format.
const NOT_IN_TRAILERS: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::HOST,
    header::MAX_FORWARDS,
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
];

/// The last status code of RFC 9110 §15.
const MAX_STATUS: u16 = 599;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
