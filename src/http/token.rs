//! Moves tokens from the places where browsers can put them into a header, and removes them from every place that a
//! route lists.
//!
//! A page cannot set a header on a WebSocket, so its token travels as a subprotocol, in the query or as a cookie. The
//! backend receives it in one header; whatever could make two parsers see different tokens is refused.

mod places;

use super::{outbound::Outbound, reject::Refusal};
use crate::{
    config::{Token, TokenSource},
    proto::handshake::{Negotiated, Offer},
};
use ::http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{self, Entry},
};
use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use places::{from_cookie, from_query, from_subprotocol, rewrite_offer};

/// How a request's token was handled.
#[derive(Debug, Default)]
pub(super) struct ExtractedToken {
    /// Where it was found, if anywhere.
    pub(super) from: Option<TokenSource>,
    /// The offered subprotocol that carried the token.
    echo: Option<SubprotocolEcho>,
}

#[derive(Debug)]
struct SubprotocolEcho {
    /// The name as configured, which may be logged.
    name: Box<str>,
    /// The name as the client offered it.
    offered: Box<str>,
}

// === impl ExtractedToken ===

impl ExtractedToken {
    /// Returns whether browsers send it automatically, whichever page causes the request.
    pub(super) fn is_ambient(&self) -> bool {
        matches!(self.from, Some(TokenSource::Cookie(_)))
    }

    /// Returns the subprotocol in the response if the backend selects none, in the form that may be logged.
    pub(super) fn subprotocol(&self) -> Option<&str> {
        self.echo.as_ref().map(|echo| &*echo.name)
    }

    /// Selects the subprotocol that carried the token if the backend selects none. RFC 6455 §4.1 allows a server to
    /// select none, but browsers fail such a handshake (WHATWG WebSockets, "establish a WebSocket connection").
    pub(super) fn select_echo(self, agreed: &mut Negotiated, headers: &mut HeaderMap) {
        let Some(echo) = self.echo.filter(|_| agreed.subprotocol.is_none()) else {
            return;
        };
        if let Ok(mut value) = HeaderValue::try_from(&*echo.offered) {
            value.set_sensitive(true);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
            agreed.subprotocol = Some(echo.name);
        }
    }
}

/// Moves the token of a request, and of `offer` if it is a handshake. The first source that has one counts; the token
/// is removed from every source, whether it counts or not.
pub(super) fn relocate_token(
    rule: &Token,
    outbound: &mut Outbound,
    mut offer: Option<&mut Offer>,
) -> Result<ExtractedToken, Refusal> {
    let mut extracted = ExtractedToken::default();
    let mut token = Vec::new();
    for source in &rule.from {
        let found = match source {
            TokenSource::Subprotocol(name) => {
                let found = offer
                    .as_deref_mut()
                    .map(|offer| from_subprotocol(name, offer));
                let (found, echo) = found.unwrap_or_default();
                extracted.echo = extracted.echo.or(echo);
                rewrite_offer(offer.as_deref(), &mut outbound.headers)?;
                found
            }
            TokenSource::Query(name) => from_query(name, &mut outbound.target)?,
            TokenSource::Cookie(name) => from_cookie(name, &mut outbound.headers)?,
        };
        let mut found = found.into_iter().filter(|found| !found.is_empty());
        if let Some(first) = found.next().filter(|_| extracted.from.is_none()) {
            if found.any(|other| other != first) {
                return Err(bad(format!("two different tokens in {source}")));
            }
            token = decode(source, first).ok_or_else(|| {
                bad(format!(
                    "the token in {source} has characters that are not allowed in a header"
                ))
            })?;
            extracted.from = Some(source.clone());
        }
    }
    let to = &rule.to.0;
    match &extracted.from {
        Some(source) => put(to, &token, source, &mut outbound.headers)?,
        None => mark_sensitive(to, &mut outbound.headers),
    }
    Ok(extracted)
}

/// Decodes the token. A subprotocol allows fewer characters than a header: `base64url.` before the name marks it
/// as encoded, as with Kubernetes and Phoenix.
fn decode(source: &TokenSource, token: Vec<u8>) -> Option<Vec<u8>> {
    let token = match source {
        TokenSource::Subprotocol(name) if name.starts_with("base64url.") => {
            BASE64URL.decode(token).ok()?
        }
        _ => token,
    };
    // A space would split it into two words, and a comma would split it where headers are joined.
    let fits = |byte: &u8| byte.is_ascii_graphic() && *byte != b',';
    (!token.is_empty() && token.iter().all(fits)).then_some(token)
}

/// Sets the header. A header of the client must have the same value: otherwise one of the two could be verified and the
/// other one used.
fn put(
    to: &HeaderName,
    token: &[u8],
    source: &TokenSource,
    headers: &mut HeaderMap,
) -> Result<(), Refusal> {
    let scheme: &[u8] = if to == header::AUTHORIZATION {
        b"Bearer "
    } else {
        b""
    };
    let mut value = HeaderValue::from_bytes(&[scheme, token].concat()).map_err(|_| broken())?;
    value.set_sensitive(true);
    // `X_Auth_Token` becomes the same variable as `X-Auth-Token` in every WSGI and CGI server.
    let is_twin = |name: &HeaderName| name != to && name.as_str().replace('_', "-") == to.as_str();
    if headers.get_all(to).iter().any(|own| *own != value) || headers.keys().any(is_twin) {
        let text = format!("a token in {source}, and a different {to}");
        return Err(Refusal::bad("token-conflict", text));
    }
    headers.insert(to.clone(), value);
    Ok(())
}

/// Marks a header that the client has set itself as a secret, too.
fn mark_sensitive(to: &HeaderName, headers: &mut HeaderMap) {
    if let Entry::Occupied(mut own) = headers.entry(to) {
        own.iter_mut().for_each(|value| value.set_sensitive(true));
    }
}

fn bad(text: String) -> Refusal {
    Refusal::bad("token", text)
}

/// Returns the refusal for a head that became invalid by removing a token; this should not be possible.
fn broken() -> Refusal {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Refusal::new(status, "rebuild", "the request cannot be forwarded")
}

/// Accepts base64url with or without padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests;
