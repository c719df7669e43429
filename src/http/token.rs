//! Moves tokens from the places where browsers can put them into a header, and removes them from every place that a
//! route lists.
//!
//! A page cannot set a header on a WebSocket, so its token travels as a subprotocol, in the query or as a cookie. The
//! backend receives it in one header; whatever could make two parsers see different tokens is refused.
//! Where a token is removed, all other bytes stay as they are, in their order.

use crate::{
    config::{Token, TokenSource},
    http::refusal::{Refusal, RefusalReason},
    proto::{
        cookie,
        handshake::{Negotiated, Offer},
        query::{self, QueryPair},
    },
};
use ::http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{self, Entry},
    uri::PathAndQuery,
};
use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;

/// How a request's token was handled.
#[derive(Debug, Default)]
pub(crate) struct ExtractedToken {
    /// Where it was found, if anywhere.
    pub(crate) from: Option<TokenSource>,
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
    pub(crate) fn is_ambient(&self) -> bool {
        matches!(self.from, Some(TokenSource::Cookie(_)))
    }

    /// Returns the subprotocol in the response if the backend selects none, in the form that may be logged.
    pub(crate) fn subprotocol(&self) -> Option<&str> {
        self.echo.as_ref().map(|echo| &*echo.name)
    }

    /// Selects the subprotocol that carried the token if the backend selects none. RFC 6455 §4.1 allows a server to
    /// select none, but browsers fail such a handshake (WHATWG WebSockets, "establish a WebSocket connection").
    pub(crate) fn select_echo(&self, agreed: &mut Negotiated, headers: &mut HeaderMap) {
        let Some(echo) = self.echo.as_ref().filter(|_| agreed.subprotocol.is_none()) else {
            return;
        };
        if let Ok(mut value) = HeaderValue::try_from(&*echo.offered) {
            value.set_sensitive(true);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
            agreed.subprotocol = Some(echo.name.clone());
        }
    }
}

/// Moves the token of a request, and of `offer` if it is a handshake. The first source that has one counts; the token
/// is removed from every source, whether it counts or not.
pub(crate) fn relocate_token(
    rule: &Token,
    target: &mut PathAndQuery,
    headers: &mut HeaderMap,
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
                rewrite_offer(offer.as_deref(), headers)?;
                found
            }
            TokenSource::Query(name) => from_query(name, target)?,
            TokenSource::Cookie(name) => from_cookie(name, headers)?,
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
        Some(source) => put(to, &token, source, headers)?,
        None => mark_sensitive(to, headers),
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
        return Err(Refusal::bad(RefusalReason::TokenConflict, text));
    }
    headers.insert(to.clone(), value);
    Ok(())
}

/// Marks a header that the client has set itself as a secret, too.
pub(crate) fn mark_sensitive(to: &HeaderName, headers: &mut HeaderMap) {
    if let Entry::Occupied(mut own) = headers.entry(to) {
        own.iter_mut().for_each(|value| value.set_sensitive(true));
    }
}

fn bad(text: String) -> Refusal {
    Refusal::bad(RefusalReason::Token, text)
}

/// Returns the refusal for a head that became invalid by removing a token; this should not be possible.
fn broken() -> Refusal {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Refusal::new(
        status,
        RefusalReason::Rebuild,
        "the request cannot be forwarded",
    )
}

/// Accepts base64url with or without padding.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes `NAME, TOKEN`, `NAME.TOKEN`, or `NAME, NAME.TOKEN` from the offered subprotocols.
fn from_subprotocol(name: &str, offer: &mut Offer) -> (Vec<Vec<u8>>, Option<SubprotocolEcho>) {
    let token_in = |one: &str| Some(one.strip_prefix(name)?.strip_prefix('.')?.to_owned());
    let (mut tokens, mut echo, mut others) = (Vec::new(), None, Vec::new());
    let mut all = std::mem::take(&mut offer.subprotocols)
        .into_iter()
        .peekable();
    while let Some(one) = all.next() {
        if *one == *name {
            let token = all.next_if(|next| token_in(next).is_none());
            tokens.extend(token.map(|token| token.into_string().into_bytes()));
            // Preferred to the one that contains the token.
            echo = Some(one);
        } else if let Some(token) = token_in(&one) {
            tokens.push(token.into_bytes());
            echo = echo.or(Some(one));
        } else {
            others.push(one);
        }
    }
    offer.subprotocols = others;
    let echo = echo.map(|offered| SubprotocolEcho {
        name: name.into(),
        offered,
    });
    (tokens, echo)
}

/// Writes the remaining offer. Outside a handshake a list has no meaning, and could still contain a token.
fn rewrite_offer(offer: Option<&Offer>, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let offered = offer.map_or_else(String::new, |offer| offer.subprotocols.join(", "));
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if !offered.is_empty() {
        let offered = HeaderValue::try_from(offered).map_err(|_| broken())?;
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
    Ok(())
}

/// Takes the parameters of that name from the query. A plus stays one: no token has a space (RFC 6750 §2.1).
fn from_query(name: &str, target: &mut PathAndQuery) -> Result<Vec<Vec<u8>>, Refusal> {
    let pairs = target.query().into_iter().flat_map(query::pairs);
    let (matching, others): (Vec<QueryPair<'_>>, Vec<QueryPair<'_>>) =
        pairs.partition(|pair| percent_decode(pair.name.as_bytes()).eq(name.bytes()));
    if matching.is_empty() {
        return Ok(Vec::new());
    }
    let values = matching.iter().filter_map(|pair| pair.value);
    let values = values.map(|value| percent_decode(value.as_bytes()).collect());
    let values = values.collect();
    let others: Vec<&str> = others.iter().map(|pair| pair.raw).collect();
    let rest = match &*others {
        [] => target.path().to_owned(),
        others => format!("{}?{}", target.path(), others.join("&")),
    };
    *target = PathAndQuery::try_from(rest).map_err(|_| broken())?;
    Ok(values)
}

/// Takes the cookies of that name from every line.
fn from_cookie(name: &str, headers: &mut HeaderMap) -> Result<Vec<Vec<u8>>, Refusal> {
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for line in headers.get_all(header::COOKIE) {
        let before = values.len();
        let mut others = Vec::new();
        for pair in cookie::pairs(line.as_bytes()) {
            // Servers ignore white space around `=`, and most remove quotes.
            match pair.value {
                Some(value) if pair.name.trim_ascii() == name.as_bytes() => {
                    values.push(cookie::unquote(value.trim_ascii()).to_vec());
                }
                _ => others.push(pair.raw),
            }
        }
        if values.len() == before {
            lines.push(line.clone());
            continue;
        }
        let rest = others.join(&b';');
        let rest = rest.trim_ascii();
        if !rest.is_empty() {
            lines.push(HeaderValue::from_bytes(rest).map_err(|_| broken())?);
        }
    }
    headers.remove(header::COOKIE);
    for line in lines {
        headers.append(header::COOKIE, line);
    }
    Ok(values)
}

#[cfg(test)]
mod tests;
