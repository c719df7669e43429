//! The opening handshake of RFC 6455 §4: the client's offer, and validation of the backend's 101.
//!
//! No message is written here: `http` rebuilds the request from the validated parts. [`Offer`] is the entry; the
//! grammar of `Sec-WebSocket-Extensions` and the errors of both handshakes are here, too.

use crate::proto::{frame_tracker::RsvBits, header_list};
use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
};
use http::{
    Method, StatusCode, Version,
    header::{self, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_EXTENSIONS},
    request, response,
};
use sha1::{Digest, Sha1};
use std::collections::HashSet;
use thiserror::Error;

/// What a client offers in a valid opening handshake (RFC 6455 §4.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// `Sec-WebSocket-Key` as sent; for HTTP/2, which has none, a generated one.
    pub key: Box<str>,
    /// `Sec-WebSocket-Protocol`: the subprotocols in the client's order of preference, each once.
    pub subprotocols: Vec<Box<str>>,
    /// `Sec-WebSocket-Extensions`: the names without their parameters, in order, each once.
    pub extensions: Vec<Box<str>>,
    /// Whether the request lacks `Connection: upgrade`; only lenient routes accept such an offer.
    pub lacks_connection: bool,
}

/// What the backend's 101 chose from an [`Offer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The subprotocol, which is one of those offered.
    pub subprotocol: Option<Box<str>>,
    /// The extensions with their parameters as the backend wrote them; several lines are joined by a comma.
    pub extensions: Option<Box<str>>,
    /// The reserved bits that frames may use.
    pub reserved: RsvBits,
}

/// One element of `Sec-WebSocket-Extensions` (RFC 6455 §9.1).
pub struct Extension<'a> {
    /// The extension's name.
    pub name: &'a str,
    parameters: Vec<Parameter<'a>>,
}

/// A parameter of an extension.
struct Parameter<'a> {
    name: &'a str,
    value: Option<String>,
}

/// Why a client's opening handshake is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadHandshake {
    /// An upgrade with a method other than GET.
    #[error("a WebSocket handshake must use GET")]
    WrongMethod,
    /// A handshake without `Connection: upgrade`.
    #[error(
        "the header `Connection: Upgrade` is missing; a route with handshake = \"lenient\" accepts that"
    )]
    MissingConnection,
    /// A handshake without `Upgrade: websocket`.
    #[error("the header `Upgrade: websocket` is missing")]
    MissingUpgrade,
    /// An upgrade in HTTP/1.0, which does not support it.
    #[error("a WebSocket handshake needs HTTP/1.1")]
    Http10,
    /// `Sec-WebSocket-Version` is absent, repeated or not 13.
    #[error("Sec-WebSocket-Version must be 13, once")]
    WrongVersion,
    /// No `Sec-WebSocket-Key`.
    #[error("Sec-WebSocket-Key is missing")]
    MissingKey,
    /// `Sec-WebSocket-Key` is repeated, or not 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64, once")]
    BadKey,
    /// `Sec-WebSocket-Protocol` is not a list of different tokens.
    #[error("Sec-WebSocket-Protocol must list different tokens")]
    BadSubprotocols,
    /// `Sec-WebSocket-Extensions` does not follow RFC 6455 §9.1.
    #[error("Sec-WebSocket-Extensions is malformed")]
    BadExtensions,
}

/// Why a backend's response does not complete the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Bad101 {
    /// The status is not 101.
    #[error("the backend's answer is not a 101")]
    Status,
    /// The status line is not HTTP/1.1.
    #[error("the backend's 101 is not HTTP/1.1")]
    WrongVersion,
    /// `Upgrade` is not exactly `websocket`.
    #[error("the backend's 101 has no Upgrade: websocket")]
    Upgrade,
    /// `Connection` does not contain `upgrade`.
    #[error("the backend's 101 has no Connection: upgrade")]
    Connection,
    /// No `Sec-WebSocket-Accept`.
    #[error("the backend's 101 has no Sec-WebSocket-Accept")]
    MissingAccept,
    /// `Sec-WebSocket-Accept` is repeated or does not match the key.
    #[error("the backend's Sec-WebSocket-Accept does not answer the key")]
    WrongAccept,
    /// More than one `Sec-WebSocket-Protocol`.
    #[error("the backend's 101 has several Sec-WebSocket-Protocol headers")]
    RepeatedSubprotocol,
    /// A subprotocol that the client did not offer.
    #[error("the backend chose a subprotocol that the client did not offer")]
    UnofferedSubprotocol,
    /// `Sec-WebSocket-Extensions` does not follow RFC 6455 §9.1.
    #[error("the backend's Sec-WebSocket-Extensions is malformed")]
    BadExtensions,
    /// An extension that the client did not offer.
    #[error("the backend chose an extension that the client did not offer")]
    UnofferedExtension,
    /// The same extension twice.
    #[error("the backend chose an extension twice")]
    RepeatedExtension,
    /// Parameters that RFC 7692 §7.1 does not allow in a response.
    #[error("the backend's permessage-deflate parameters are wrong")]
    DeflateParameters,
}

/// A header is repeated that may occur only once.
struct RepeatedHeader;

// === impl Offer ===

impl Offer {
    /// Parses the offer of a request. `Ok(None)` if the request requests no upgrade to a WebSocket: neither `Upgrade`
    /// contains `websocket` nor `Connection` contains `upgrade`, one of them does and there is no `Sec-WebSocket-Key`,
    /// or it is HTTP/2, where both are meaningless.
    pub fn read(request: &request::Parts) -> Result<Option<Offer>, BadHandshake> {
        let headers = &request.headers;
        if request.version > Version::HTTP_11 {
            return Ok(None);
        }
        let has_upgrade = has_token(headers, &header::UPGRADE, "websocket");
        let has_connection = has_token(headers, &header::CONNECTION, "upgrade");
        match (has_upgrade, has_connection) {
            (true, true) => {}
            (false, false) => return Ok(None),
            // Without a key it is an ordinary request that offers another protocol.
            _ if !headers.contains_key(header::SEC_WEBSOCKET_KEY)
                || request.version != Version::HTTP_11
                || request.method != Method::GET =>
            {
                return Ok(None);
            }
            (false, true) => return Err(BadHandshake::MissingUpgrade),
            (true, false) => {}
        }
        // RFC 6455 §4.2.1: an HTTP/1.1 or higher GET request.
        if request.version != Version::HTTP_11 {
            return Err(BadHandshake::Http10);
        }
        if request.method != Method::GET {
            return Err(BadHandshake::WrongMethod);
        }
        check_version(headers)?;
        Ok(Some(Offer {
            key: read_key(headers)?,
            subprotocols: read_subprotocols(headers)?,
            extensions: read_extension_names(headers)?,
            lacks_connection: !has_connection,
        }))
    }

    /// Parses the offer of an extended CONNECT whose `:protocol` is `websocket` (RFC 8441 §5): its headers are those of
    /// RFC 6455 except for the key, which is meaningless there. The version may be missing.
    pub fn read_connect(headers: &HeaderMap, key: Box<str>) -> Result<Offer, BadHandshake> {
        if headers.contains_key(header::SEC_WEBSOCKET_VERSION) {
            check_version(headers)?;
        }
        Ok(Offer {
            key,
            subprotocols: read_subprotocols(headers)?,
            extensions: read_extension_names(headers)?,
            lacks_connection: false,
        })
    }

    /// Validates the backend's response (RFC 6455 §4.1, the six steps of the client).
    pub fn check(&self, response: &response::Parts) -> Result<Negotiated, Bad101> {
        let headers = &response.headers;
        if response.status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Bad101::Status);
        }
        if response.version != Version::HTTP_11 {
            return Err(Bad101::WrongVersion);
        }
        let mut upgrade = tokens(headers, &header::UPGRADE);
        match (upgrade.next(), upgrade.next()) {
            (Some(one), None) if one.eq_ignore_ascii_case(b"websocket") => {}
            _ => return Err(Bad101::Upgrade),
        }
        if !has_token(headers, &header::CONNECTION, "upgrade") {
            return Err(Bad101::Connection);
        }
        match single_line(headers, &header::SEC_WEBSOCKET_ACCEPT) {
            Ok(None) => return Err(Bad101::MissingAccept),
            Ok(Some(accept))
                if accept.as_bytes().trim_ascii() == accept_key(&self.key).as_bytes() => {}
            _ => return Err(Bad101::WrongAccept),
        }
        let subprotocol = self.check_subprotocol(headers)?;
        let (extensions, reserved) = self.check_extensions(headers)?;
        Ok(Negotiated {
            subprotocol,
            extensions,
            reserved,
        })
    }

    fn check_subprotocol(&self, headers: &HeaderMap) -> Result<Option<Box<str>>, Bad101> {
        let chosen = match single_line(headers, &header::SEC_WEBSOCKET_PROTOCOL) {
            Ok(None) => return Ok(None),
            Ok(Some(chosen)) => chosen.as_bytes().trim_ascii(),
            Err(RepeatedHeader) => return Err(Bad101::RepeatedSubprotocol),
        };
        // Subprotocols are compared case-sensitively (RFC 6455 §4.1).
        match self.subprotocols.iter().find(|s| s.as_bytes() == chosen) {
            Some(offered) => Ok(Some(offered.clone())),
            None => Err(Bad101::UnofferedSubprotocol),
        }
    }

    fn check_extensions(&self, headers: &HeaderMap) -> Result<(Option<Box<str>>, RsvBits), Bad101> {
        let mut seen = HashSet::new();
        let mut reserved = RsvBits::None;
        for accepted in parse_extensions(headers) {
            let accepted = accepted.ok_or(Bad101::BadExtensions)?;
            if !self.extensions.iter().any(|e| **e == *accepted.name) {
                return Err(Bad101::UnofferedExtension);
            }
            reserved = match accepted.name {
                "permessage-deflate" if !accepted.is_valid_deflate_response() => {
                    return Err(Bad101::DeflateParameters);
                }
                "permessage-deflate" if seen.is_empty() => RsvBits::Deflate,
                _ => RsvBits::Any,
            };
            if !seen.insert(accepted.name) {
                return Err(Bad101::RepeatedExtension);
            }
        }
        if seen.is_empty() {
            return Ok((None, RsvBits::None));
        }
        let lines = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        let joined = lines.collect::<Vec<_>>().join(", ");
        Ok((Some(joined.into()), reserved))
    }
}

// === impl Extension ===

impl<'a> Extension<'a> {
    /// Parses `extension-token *( ";" extension-param )`.
    fn parse(element: &'a [u8]) -> Option<Self> {
        let mut parts = header_list::split(element, b';');
        Some(Extension {
            name: as_token(parts.next()?)?,
            parameters: parts.map(Parameter::parse).collect::<Option<_>>()?,
        })
    }

    /// Returns names and values, in order.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let parameters = self.parameters.iter();
        parameters.map(|parameter| (parameter.name, parameter.value.as_deref()))
    }

    /// Returns whether a server may accept an offer of permessage-deflate with these parameters (RFC 7692 §7.1).
    pub fn is_valid_deflate_response(&self) -> bool {
        let repeated = |at: usize, name| self.parameters.iter().take(at).any(|p| p.name == name);
        self.parameters.iter().enumerate().all(|(at, parameter)| {
            let value = parameter.value.as_deref();
            let allowed = match parameter.name {
                "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
                // A response must contain the value: 8 to 15, without a leading zero.
                "server_max_window_bits" | "client_max_window_bits" => {
                    value.is_some_and(|value| parse_window_bits(value).is_some())
                }
                _ => false,
            };
            allowed && !repeated(at, parameter.name)
        })
    }
}

// === impl Parameter ===

impl<'a> Parameter<'a> {
    /// Parses `token [ "=" ( token | quoted-string ) ]`; the quoted content must be a token, too (RFC 6455 §9.1).
    fn parse(part: &'a [u8]) -> Option<Self> {
        let Some(at) = part.iter().position(|byte| *byte == b'=') else {
            return Some(Parameter {
                name: as_token(part)?,
                value: None,
            });
        };
        let (name, value) = part.split_at_checked(at)?;
        let value = header_list::unquote(value.get(1..)?.trim_ascii())?;
        as_token(&value)?;
        Some(Parameter {
            name: as_token(name.trim_ascii())?,
            value: String::from_utf8(value).ok(),
        })
    }
}

// === impl BadHandshake ===

impl BadHandshake {
    /// Returns the status of the refusal.
    pub fn status(self) -> StatusCode {
        match self {
            BadHandshake::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            BadHandshake::WrongVersion => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns a word of a closed set for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            BadHandshake::WrongMethod => "wrong-method",
            BadHandshake::MissingConnection => "missing-connection",
            BadHandshake::MissingUpgrade => "missing-upgrade",
            BadHandshake::Http10 => "http-1.0",
            BadHandshake::WrongVersion => "wrong-version",
            BadHandshake::MissingKey => "missing-key",
            BadHandshake::BadKey => "bad-key",
            BadHandshake::BadSubprotocols => "bad-subprotocols",
            BadHandshake::BadExtensions => "bad-extensions",
        }
    }
}

// === impl Bad101 ===

impl Bad101 {
    /// Returns a word of a closed set for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Bad101::Status => "not-101",
            Bad101::WrongVersion => "wrong-version",
            Bad101::Upgrade => "bad-upgrade",
            Bad101::Connection => "bad-connection",
            Bad101::MissingAccept => "missing-accept",
            Bad101::WrongAccept => "wrong-accept",
            Bad101::RepeatedSubprotocol => "repeated-subprotocol",
            Bad101::UnofferedSubprotocol => "unoffered-subprotocol",
            Bad101::BadExtensions => "bad-extensions",
            Bad101::UnofferedExtension => "unoffered-extension",
            Bad101::RepeatedExtension => "repeated-extension",
            Bad101::DeflateParameters => "bad-deflate-parameters",
        }
    }
}

/// Returns the value of `Sec-WebSocket-Accept` for `key` (RFC 6455 §4.2.2, step 5.4).
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    STANDARD.encode(hash.finalize())
}

/// Returns the elements of a comma-separated list of tokens over all lines of `name`, trimmed and without empty ones
/// (RFC 9110 §5.6.1). Not for headers whose elements may contain a quoted comma.
pub fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

/// Returns whether the list `name` contains `token`, ignoring case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|t| t.eq_ignore_ascii_case(token.as_bytes()))
}

/// Returns `bytes` as a token (RFC 9110 §5.6.2), or `None` if they are not one.
pub fn as_token(bytes: &[u8]) -> Option<&str> {
    let is_token_byte = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if bytes.is_empty() || !bytes.iter().all(is_token_byte) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// Checks the version. RFC 6455 §4.4: another one is answered with 426 and the supported version.
fn check_version(headers: &HeaderMap) -> Result<(), BadHandshake> {
    match single_line(headers, &header::SEC_WEBSOCKET_VERSION) {
        Ok(Some(version)) if version.as_bytes().trim_ascii() == b"13" => Ok(()),
        _ => Err(BadHandshake::WrongVersion),
    }
}

/// Returns the value of `Sec-WebSocket-Key` for `nonce`, which must be random (RFC 6455 §4.1).
pub fn key(nonce: [u8; 16]) -> Box<str> {
    STANDARD.encode(nonce).into()
}

fn read_key(headers: &HeaderMap) -> Result<Box<str>, BadHandshake> {
    let key = match single_line(headers, &header::SEC_WEBSOCKET_KEY) {
        Ok(Some(key)) => key.to_str().map_err(|_| BadHandshake::BadKey)?.trim(),
        Ok(None) => return Err(BadHandshake::MissingKey),
        Err(RepeatedHeader) => return Err(BadHandshake::BadKey),
    };
    // RFC 6455 §4.2.1: a value that, when decoded, is 16 bytes in length.
    match LENIENT.decode(key) {
        Ok(nonce) if nonce.len() == 16 => Ok(key.into()),
        _ => Err(BadHandshake::BadKey),
    }
}

fn read_subprotocols(headers: &HeaderMap) -> Result<Vec<Box<str>>, BadHandshake> {
    let mut seen = HashSet::new();
    let mut offered = Vec::new();
    for token in tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL) {
        // RFC 6455 §4.1: tokens, and all of them unique.
        match as_token(token) {
            Some(token) if seen.insert(token) => offered.push(token.into()),
            _ => return Err(BadHandshake::BadSubprotocols),
        }
    }
    // RFC 6455 §4.3: a list of at least one.
    if offered.is_empty() && headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Err(BadHandshake::BadSubprotocols);
    }
    Ok(offered)
}

fn read_extension_names(headers: &HeaderMap) -> Result<Vec<Box<str>>, BadHandshake> {
    let mut seen = HashSet::new();
    let mut offered = Vec::new();
    for extension in parse_extensions(headers) {
        let Extension { name, .. } = extension.ok_or(BadHandshake::BadExtensions)?;
        // RFC 7692 §5: a repeated name is an alternative set of parameters.
        if seen.insert(name) {
            offered.push(name.into());
        }
    }
    Ok(offered)
}

/// Parses the extensions of all header lines, in order, with `None` for a malformed one. An empty line is malformed,
/// too: the list has at least one element.
pub fn parse_extensions(headers: &HeaderMap) -> impl Iterator<Item = Option<Extension<'_>>> {
    let lines = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    lines.flat_map(|line| {
        let elements = header_list::split(line.as_bytes(), b',').filter(|e| !e.is_empty());
        let mut elements = elements.map(Extension::parse).peekable();
        let is_empty = elements.peek().is_none();
        elements.chain(is_empty.then_some(None))
    })
}

/// Parses the size of a window, as its base-2 logarithm (RFC 7692 §7.1.2): 8 to 15, without a leading zero.
pub fn parse_window_bits(value: &str) -> Option<u8> {
    let is_valid = matches!(value, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15");
    is_valid.then(|| value.parse().ok())?
}

/// Returns the only line of `name`, if there is one.
fn single_line<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, RepeatedHeader> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (line, None) => Ok(line),
        (_, Some(_)) => Err(RepeatedHeader),
    }
}

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Ignores the unused bits of the last character, as RFC 4648 §3.5 allows: clients with a made-up key set them.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests;
