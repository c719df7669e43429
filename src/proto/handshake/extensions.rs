//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 §9.1), and permessage-deflate's answer (RFC 7692 §7.1).

use http::header::{HeaderMap, SEC_WEBSOCKET_EXTENSIONS};

use super::super::list;
use super::as_token;

/// One element of the list.
pub(in crate::proto) struct Extension<'a> {
    pub(in crate::proto) name: &'a str,
    parameters: Vec<Parameter<'a>>,
}

struct Parameter<'a> {
    name: &'a str,
    value: Option<String>,
}

/// The extensions over all lines, in order; `None` in the place of one that is malformed. A line without any counts as
/// malformed too: the list has at least one element.
pub(in crate::proto) fn read(headers: &HeaderMap) -> impl Iterator<Item = Option<Extension<'_>>> {
    let lines = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    lines.flat_map(|line| {
        let elements = list::split(line.as_bytes(), b',').filter(|e| !e.is_empty());
        let mut elements = elements.map(Extension::parse).peekable();
        let nothing = elements.peek().is_none();
        elements.chain(nothing.then_some(None))
    })
}

// === impl Extension ===

impl<'a> Extension<'a> {
    /// `extension-token *( ";" extension-param )`
    fn parse(element: &'a [u8]) -> Option<Self> {
        let mut parts = list::split(element, b';');
        Some(Extension {
            name: as_token(parts.next()?)?,
            parameters: parts.map(Parameter::parse).collect::<Option<_>>()?,
        })
    }

    /// Names and values, in order.
    pub(in crate::proto) fn parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let all = self.parameters.iter();
        all.map(|parameter| (parameter.name, parameter.value.as_deref()))
    }

    /// Whether a server may answer an offer of permessage-deflate with these parameters (RFC 7692 §7.1).
    pub(super) fn is_deflate_answer(&self) -> bool {
        let repeated = |at: usize, name| self.parameters.iter().take(at).any(|p| p.name == name);
        self.parameters.iter().enumerate().all(|(at, parameter)| {
            let value = parameter.value.as_deref();
            let allowed = match parameter.name {
                "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
                // An answer must carry the value: 8 to 15, without a leading zero.
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
    /// `token [ "=" ( token | quoted-string ) ]`; what is quoted must be a token too (RFC 6455 §9.1).
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

/// The size of a window, as its logarithm (RFC 7692 §7.1.2): 8 to 15, without a leading zero.
pub(in crate::proto) fn bits(value: &str) -> Option<u8> {
    let is_right = matches!(value, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15");
    is_right.then(|| value.parse().ok())?
}
