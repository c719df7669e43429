//! The places of tokens: the token is removed, and all other bytes stay as they are, in their order.

use super::{super::reject::Refusal, SubprotocolEcho, broken};
use crate::proto::handshake::Offer;
use ::http::{HeaderMap, HeaderValue, header, uri::PathAndQuery};
use percent_encoding::percent_decode;

/// Takes `NAME, TOKEN`, `NAME.TOKEN`, or `NAME, NAME.TOKEN` from the offered subprotocols.
pub(super) fn from_subprotocol(
    name: &str,
    offer: &mut Offer,
) -> (Vec<Vec<u8>>, Option<SubprotocolEcho>) {
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
pub(super) fn rewrite_offer(offer: Option<&Offer>, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let offered = offer.map_or_else(String::new, |offer| offer.subprotocols.join(", "));
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if !offered.is_empty() {
        let offered = HeaderValue::try_from(offered).map_err(|_| broken())?;
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
    Ok(())
}

/// Takes the parameters of that name from the query. A plus stays one: no token has a space (RFC 6750 §2.1).
pub(super) fn from_query(name: &str, target: &mut PathAndQuery) -> Result<Vec<Vec<u8>>, Refusal> {
    let pairs = target
        .query()
        .into_iter()
        .flat_map(|query| query.split('&'));
    let (matching, others): (Vec<&str>, Vec<&str>) = pairs.partition(|pair| {
        let written = pair.split('=').next().unwrap_or_default();
        percent_decode(written.as_bytes()).eq(name.bytes())
    });
    if matching.is_empty() {
        return Ok(Vec::new());
    }
    let values = matching.iter().filter_map(|pair| pair.split_once('='));
    let values = values.map(|(_, value)| percent_decode(value.as_bytes()).collect());
    let values = values.collect();
    let rest = match &*others {
        [] => target.path().to_owned(),
        others => format!("{}?{}", target.path(), others.join("&")),
    };
    *target = PathAndQuery::try_from(rest).map_err(|_| broken())?;
    Ok(values)
}

/// Takes the cookies of that name from every line.
pub(super) fn from_cookie(name: &str, headers: &mut HeaderMap) -> Result<Vec<Vec<u8>>, Refusal> {
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for line in headers.get_all(header::COOKIE) {
        let before = values.len();
        let mut others = Vec::new();
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            match value_of(name, pair) {
                Some(value) => values.push(value.to_vec()),
                None => others.push(pair),
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

/// Returns the value of a `NAME=VALUE` pair of that name, without quotes (RFC 6265 §4.1.1).
fn value_of<'a>(name: &str, pair: &'a [u8]) -> Option<&'a [u8]> {
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let (written, value) = pair.split_at_checked(equals)?;
    let value = value.strip_prefix(b"=")?.trim_ascii();
    let bare = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    (written.trim_ascii() == name.as_bytes()).then_some(bare.unwrap_or(value))
}
