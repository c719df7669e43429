//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 §9.1), and the response to permessage-deflate (RFC 7692 §7.1).

use http::header::{HeaderMap, SEC_WEBSOCKET_EXTENSIONS};

use super::super::list;
use super::as_token;

/// One element of `Sec-WebSocket-Extensions`.
pub(in crate::proto) struct Extension<'a> {
    pub(in crate::proto) name: &'a str,
    parameters: Vec<Parameter<'a>>,
}

struct Parameter<'a> {
    name: &'a str,
    value: Option<String>,
}

/// Returns the extensions over all header lines, in order, with `None` for a malformed one. An empty line is malformed,
/// too: the list has at least one element.
pub(in crate::proto) fn read(headers: &HeaderMap) -> impl Iterator<Item = Option<Extension<'_>>> {
    let lines = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    lines.flat_map(|line| {
        let elements = list::split(line.as_bytes(), b',').filter(|e| !e.is_empty());
        let mut elements = elements.map(Extension::parse).peekable();
        let is_empty = elements.peek().is_none();
        elements.chain(is_empty.then_some(None))
    })
}

// === impl Extension ===

impl<'a> Extension<'a> {
    /// Parses `extension-token *( ";" extension-param )`.
    fn parse(element: &'a [u8]) -> Option<Self> {
        let mut parts = list::split(element, b';');
        Some(Extension {
            name: as_token(parts.next()?)?,
            parameters: parts.map(Parameter::parse).collect::<Option<_>>()?,
        })
    }

    /// Returns names and values, in order.
    pub(in crate::proto) fn parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let parameters = self.parameters.iter();
        parameters.map(|parameter| (parameter.name, parameter.value.as_deref()))
    }

    /// Returns whether a server may accept an offer of permessage-deflate with these parameters (RFC 7692 §7.1).
    pub(super) fn is_valid_deflate_response(&self) -> bool {
        let repeated = |at: usize, name| self.parameters.iter().take(at).any(|p| p.name == name);
        self.parameters.iter().enumerate().all(|(at, parameter)| {
            let value = parameter.value.as_deref();
            let allowed = match parameter.name {
                "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
                // A response must contain the value: 8 to 15, without a leading zero.
                "server_max_window_bits" | "client_max_window_bits" => {
                    value.is_some_and(|value| bits(value).is_some())
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
        let value = list::unquote(value.get(1..)?.trim_ascii())?;
        as_token(&value)?;
        Some(Parameter {
            name: as_token(name.trim_ascii())?,
            value: String::from_utf8(value).ok(),
        })
    }
}

/// Parses the size of a window, as its base-2 logarithm (RFC 7692 §7.1.2): 8 to 15, without a leading zero.
pub(in crate::proto) fn bits(value: &str) -> Option<u8> {
    let is_valid = matches!(value, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15");
    is_valid.then(|| value.parse().ok())?
}
