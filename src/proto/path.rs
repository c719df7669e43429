//! Paths in two forms. The normal form (RFC 3986 §6.2.2) is forwarded. Routes are compared with the path decoded once,
//! as servers decode it, so that the backend never reads another path than the one that was matched and guarded.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::{borrow::Cow, fmt};

/// A path in normal form: it starts with `/`, escapes are in upper case and only where they are needed, and no segment
/// is `.`, `..` or, except for the last, empty. The caller limits its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath<'a> {
    normal: Cow<'a, str>,
    /// The path with every escape decoded, except for an escaped slash; `None` if it has no escape.
    decoded: Option<Box<str>>,
}

/// Why a path is refused. The client's fault: 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Also the targets `*` and `host:port`.
    #[error("the path does not start with /")]
    NotAbsolute,
    /// White space, a control character, `?`, `#`, or anything beyond ASCII, without an escape.
    #[error("the path has a character that must be escaped")]
    Character,
    /// Servers disagree on whether it separates segments.
    #[error("the path has a backslash")]
    Backslash,
    /// `%` without two hexadecimal digits.
    #[error("the path has a % that is no escape")]
    Escape,
    /// `%00` to `%1F` and `%7F`: legitimate paths do not contain them, and they end strings and lines in some parsers.
    #[error("the path has an escaped control character")]
    Control,
    /// More `..` than segments before them.
    #[error("the path leads above the root")]
    AboveRoot,
    /// `%2F`: it separates segments for most Python servers but not for others, so it could bypass a rule.
    #[error("the path has an escaped slash, which servers read in different ways")]
    EscapedSlash,
}

// === impl NormalPath ===

impl<'a> NormalPath<'a> {
    /// Normalises a path (without its query); borrows it if it is already in normal form.
    pub fn parse(path: &'a str) -> Result<NormalPath<'a>, BadPath> {
        let segments = path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
        let mut normal = true;
        let mut rest = segments.split('/').peekable();
        while let Some(segment) = rest.next() {
            normal &= is_normal(segment)? && (!segment.is_empty() || rest.peek().is_none());
        }
        let normal = if normal {
            Cow::Borrowed(path)
        } else {
            Cow::Owned(normalise(segments, EscapedSlash::Refused)?)
        };
        let decoded = normal.contains('%').then(|| {
            let decoded = percent_decode_str(&normal).decode_utf8_lossy();
            decoded.into_owned().into_boxed_str()
        });
        Ok(NormalPath { normal, decoded })
    }

    /// Returns the two forms in which a path with an escaped slash is compared if it is forwarded as it is: the normal
    /// form, in which `%2F` is a part of its segment, and the path in which it separates segments. A server may read
    /// the path in either way.
    pub fn parse_both(path: &str) -> Result<(Self, Self), BadPath> {
        let segments = path.strip_prefix('/').ok_or(BadPath::NotAbsolute)?;
        let normal = normalise(segments, EscapedSlash::Kept)?;
        let kept = normal.replace("%2F", "%252F");
        let kept = percent_decode_str(&kept).decode_utf8_lossy().into_owned();
        let separated = path.replace("%2F", "/").replace("%2f", "/");
        let separated = NormalPath::parse(&separated)?;
        Ok((
            NormalPath {
                normal: Cow::Owned(normal),
                decoded: Some(kept.into()),
            },
            NormalPath {
                normal: Cow::Owned(separated.normal.into_owned()),
                decoded: separated.decoded,
            },
        ))
    }

    /// Returns the path in normal form, as it is forwarded.
    pub fn as_str(&self) -> &str {
        &self.normal
    }

    /// Returns the path decoded exactly once, as servers read it: `/%40admin` is `/@admin`, and `/%2540admin` is
    /// `/%40admin`. An octet that is not UTF-8 is U+FFFD. Routes are compared with this form.
    pub fn decoded(&self) -> &str {
        self.decoded.as_deref().unwrap_or(&self.normal)
    }

    /// Returns what follows `prefix`, if that ends at a segment boundary; the result is never empty. Both are compared
    /// decoded. Returns `None` if the path does not begin with the prefix, or the prefix is empty.
    pub fn strip_prefix(&self, prefix: &str) -> Option<&str> {
        let prefix = prefix.trim_end_matches('/');
        if prefix.is_empty() {
            return None;
        }
        let path = self.as_str();
        let mut rest = path.as_bytes();
        for expected in percent_decode_str(prefix) {
            let (octet, after) = match rest {
                // In normal form every `%` begins an escape.
                [b'%', high, low, after @ ..] => (escaped_octet(*high, *low)?, after),
                [octet, after @ ..] => (*octet, after),
                [] => return None,
            };
            if octet != expected {
                return None;
            }
            rest = after;
        }
        match &path[path.len() - rest.len()..] {
            "" => Some("/"),
            rest => rest.starts_with('/').then_some(rest),
        }
    }
}

impl fmt::Display for NormalPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.normal)
    }
}

/// Returns the form of a configured path that is compared with [`NormalPath::decoded`]. A blank and characters beyond
/// ASCII may be written unescaped in a configuration, never in a request.
pub fn comparable(configured: &str) -> Result<Box<str>, BadPath> {
    let escaped = utf8_percent_encode(configured, UNESCAPED).to_string();
    NormalPath::parse(&escaped).map(|normal| normal.decoded().into())
}

/// What happens to `%2F`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EscapedSlash {
    Refused,
    /// It stays escaped.
    Kept,
}

/// One character of a segment.
enum SegmentByte {
    Plain(u8),
    /// An octet that was escaped, and whether the escape is written in upper case.
    Escaped(u8, bool),
}

fn is_normal(segment: &str) -> Result<bool, BadPath> {
    let mut normal = !is_dots(segment);
    for piece in pieces(segment, EscapedSlash::Refused) {
        if let SegmentByte::Escaped(octet, upper) = piece? {
            normal &= upper && !is_unreserved(octet);
        }
    }
    Ok(normal)
}

/// Normalises the segments that follow the first `/`.
fn normalise(segments: &str, slash: EscapedSlash) -> Result<String, BadPath> {
    let mut path = String::with_capacity(1 + segments.len());
    let mut segment = String::new();
    let mut rest = segments.split('/').peekable();
    while let Some(written) = rest.next() {
        segment.clear();
        for piece in pieces(written, slash) {
            match piece? {
                SegmentByte::Plain(byte) => segment.push(char::from(byte)),
                // Unnecessary escapes are decoded (RFC 3986 §6.2.2.2), the others are in upper case (§6.2.2.1).
                SegmentByte::Escaped(octet, _) if is_unreserved(octet) => {
                    segment.push(char::from(octet));
                }
                SegmentByte::Escaped(octet, _) => {
                    segment.push('%');
                    for digit in [octet >> 4, octet & 0xF] {
                        let digit = char::from_digit(digit.into(), 16).expect("four bits");
                        segment.push(digit.to_ascii_uppercase());
                    }
                }
            }
        }
        // After decoding, so that %2e counts as a dot (RFC 3986 §5.2.4, §6.2.2.3).
        match segment.as_str() {
            "." => {}
            ".." => path.truncate(path.rfind('/').ok_or(BadPath::AboveRoot)?),
            // nginx merges slashes too: for some servers `//admin` is `/admin`.
            "" if rest.peek().is_some() => continue,
            _ => {
                path.push('/');
                path.push_str(&segment);
                continue;
            }
        }
        // A dot segment at the end names a directory, so the path ends with a slash.
        if rest.peek().is_none() {
            path.push('/');
        }
    }
    Ok(path)
}

fn pieces(
    segment: &str,
    slash: EscapedSlash,
) -> impl Iterator<Item = Result<SegmentByte, BadPath>> {
    let mut bytes = segment.bytes();
    std::iter::from_fn(move || {
        Some(match bytes.next()? {
            b'%' => escaped(bytes.next(), bytes.next(), slash),
            b'\\' => Err(BadPath::Backslash),
            b'?' | b'#' => Err(BadPath::Character),
            // Also characters that RFC 3986 requires to be escaped but browsers do not escape, such as `|`: they are
            // unambiguous.
            byte @ b'!'..=b'~' => Ok(SegmentByte::Plain(byte)),
            _ => Err(BadPath::Character),
        })
    })
}

fn escaped(high: Option<u8>, low: Option<u8>, slash: EscapedSlash) -> Result<SegmentByte, BadPath> {
    let octet = high
        .zip(low)
        .and_then(|(high, low)| escaped_octet(high, low));
    match octet.ok_or(BadPath::Escape)? {
        b'\\' => Err(BadPath::Backslash),
        b'/' if slash == EscapedSlash::Refused => Err(BadPath::EscapedSlash),
        octet if octet.is_ascii_control() => Err(BadPath::Control),
        octet => {
            let lower = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase());
            Ok(SegmentByte::Escaped(octet, !lower(high) && !lower(low)))
        }
    }
}

/// Returns the octet that two hexadecimal digits stand for.
fn escaped_octet(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

fn is_dots(text: &str) -> bool {
    matches!(text, "." | "..")
}

/// Returns whether the octet is unreserved (RFC 3986 §2.3).
fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

/// Characters that a configuration may have unescaped and a request may not, besides those beyond ASCII.
const UNESCAPED: &AsciiSet = &CONTROLS.add(b' ');

#[cfg(test)]
mod tests;
