//! Tokens where browsers can put them: taken out of every place that a route lists, and moved into a header.
//!
//! A page sets no header on a WebSocket, so its token travels as a subprotocol, in the query or as a cookie. What leaves
//! here has it in one place; whatever could make two readers see two tokens is refused.

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

/// What was done with a request's token.
#[derive(Debug, Default)]
pub(super) struct ExtractedToken {
    /// The place that it was in, if there was one.
    pub(super) from: Option<TokenSource>,
    /// The offered subprotocol that was for us.
    echo: Option<SubprotocolEcho>,
}

#[derive(Debug)]
struct SubprotocolEcho {
    /// As the configuration has it: this may be told.
    name: Box<str>,
    /// As the client offered it.
    offered: Box<str>,
}

// === impl ExtractedToken ===

impl ExtractedToken {
    /// Whether browsers send it unasked, whichever page has them do so.
    pub(super) fn is_ambient(&self) -> bool {
        matches!(self.from, Some(TokenSource::Cookie(_)))
    }

    /// The subprotocol that a client is answered with, where its backend chooses none, as it may be told.
    pub(super) fn subprotocol(&self) -> Option<&str> {
        self.echo.as_ref().map(|echo| &*echo.name)
    }

    /// RFC 6455 §4.1 lets a server choose none; browsers fail such a handshake (WHATWG WebSockets, "establish a WebSocket
    /// connection"). The one that was for us is our own to choose.
    pub(super) fn answer(self, agreed: &mut Negotiated, headers: &mut HeaderMap) {
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

/// Moves the token of a request, and of `offer` if it is a handshake. The first place that has one counts; it leaves
/// every place, whether it counts or not.
pub(super) fn relocate_token(
    rule: &Token,
    outbound: &mut Outbound,
    mut offer: Option<&mut Offer>,
) -> Result<ExtractedToken, Refusal> {
    let mut carried = ExtractedToken::default();
    let mut token = Vec::new();
    for place in &rule.from {
        let found = match place {
            TokenSource::Subprotocol(name) => {
                let found = offer
                    .as_deref_mut()
                    .map(|offer| from_subprotocol(name, offer));
                let (found, echo) = found.unwrap_or_default();
                carried.echo = carried.echo.or(echo);
                rewrite_offer(offer.as_deref(), &mut outbound.headers)?;
                found
            }
            TokenSource::Query(name) => from_query(name, &mut outbound.target)?,
            TokenSource::Cookie(name) => from_cookie(name, &mut outbound.headers)?,
        };
        let mut found = found.into_iter().filter(|found| !found.is_empty());
        if let Some(first) = found.next().filter(|_| carried.from.is_none()) {
            if found.any(|other| other != first) {
                return Err(bad(format!("two different tokens in {place}")));
            }
            token = plain(place, first)
                .ok_or_else(|| bad(format!("the token in {place} cannot stand in a header")))?;
            carried.from = Some(place.clone());
        }
    }
    let to = &rule.to.0;
    match &carried.from {
        Some(place) => put(to, &token, place, &mut outbound.headers)?,
        None => mark_sensitive(to, &mut outbound.headers),
    }
    Ok(carried)
}

/// The token itself. As a subprotocol it can have fewer characters than in a header: `base64url.` before the name says that it
/// is encoded, as with Kubernetes and Phoenix.
fn plain(place: &TokenSource, token: Vec<u8>) -> Option<Vec<u8>> {
    let token = match place {
        TokenSource::Subprotocol(name) if name.starts_with("base64url.") => {
            BASE64URL.decode(token).ok()?
        }
        _ => token,
    };
    // A blank would make two words of it, and a comma two of it where headers are joined.
    let fits = |byte: &u8| byte.is_ascii_graphic() && *byte != b',';
    (!token.is_empty() && token.iter().all(fits)).then_some(token)
}

/// The client's own header may say the same, but nothing else: whichever of two counted, someone could have vetted the
/// other.
fn put(
    to: &HeaderName,
    token: &[u8],
    place: &TokenSource,
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
        let text = format!("a token in {place}, and a different {to}");
        return Err(Refusal::bad("token-conflict", text));
    }
    headers.insert(to.clone(), value);
    Ok(())
}

/// The client's own header, which passes, is a secret as well.
fn mark_sensitive(to: &HeaderName, headers: &mut HeaderMap) {
    if let Entry::Occupied(mut own) = headers.entry(to) {
        own.iter_mut().for_each(|value| value.set_sensitive(true));
    }
}

fn bad(text: String) -> Refusal {
    Refusal::bad("token", text)
}

/// Less of what was right before is right.
fn broken() -> Refusal {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Refusal::new(status, "rebuild", "the request cannot be passed on")
}

/// With or without padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests;
