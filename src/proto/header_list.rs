//! Lists in header values whose elements may hold quoted strings (RFC 9110 §5.6).

/// Splits `bytes` at each `separator` outside quoted strings, and trims the parts. A quoted string that is not
/// terminated extends to the end.
pub fn split(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = bytes.split(move |byte| {
        // RFC 9110 §5.6.4: in a quoted-pair the octet after the backslash has no special meaning.
        if std::mem::take(&mut escaped) {
            return false;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        *byte == separator && !quoted
    });
    parts.map(<[u8]>::trim_ascii)
}

/// Like [`split`], but parses from the end and returns the last part first. If several proxies append to one value, an
/// earlier part, for instance one with an open quote, cannot hide the later parts.
pub fn split_from_right(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = left?;
        let mut quoted = false;
        let separator_at = bytes.iter().enumerate().rposition(|(at, byte)| {
            quoted ^= *byte == b'"' && !is_escaped(bytes, at);
            *byte == separator && !quoted
        });
        let (before, part) = match separator_at.and_then(|at| bytes.split_at_checked(at)) {
            Some((before, part)) => (Some(before), part.get(1..).unwrap_or_default()),
            None => (None, bytes),
        };
        left = before;
        Some(part.trim_ascii())
    })
}

/// Returns whether an odd number of backslashes precedes `at`.
fn is_escaped(bytes: &[u8], at: usize) -> bool {
    let before = bytes.get(..at).unwrap_or_default();
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

/// Returns the content of a quoted string; a value that does not begin with a quote is returned as it is. `None` if the
/// quoted string is not terminated, or if anything follows it.
pub fn unquote(value: &[u8]) -> Option<Vec<u8>> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        return Some(value.to_vec());
    };
    let mut content = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter().copied();
    loop {
        match bytes.next()? {
            b'"' => break,
            b'\\' => content.push(bytes.next()?),
            byte => content.push(byte),
        }
    }
    bytes.next().is_none().then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separator_inside_quotes_is_ignored() {
        let table: &[(&str, &[&str])] = &[
            ("", &[""]),
            ("a", &["a"]),
            (" a ,\tb,", &["a", "b", ""]),
            (r#"a="1,2", b"#, &[r#"a="1,2""#, "b"]),
            (r#"a="\",", b"#, &[r#"a="\",""#, "b"]),
            (r#"a="\\", b"#, &[r#"a="\\""#, "b"]),
            (r#"a="1, b"#, &[r#"a="1, b"#]),
            (r"a\, b", &[r"a\", "b"]),
        ];
        for (value, parts) in table {
            let parts = parts.iter().map(|part| part.as_bytes());
            assert!(split(value.as_bytes(), b',').eq(parts), "{value}");
        }
    }

    #[test]
    fn open_quote_does_not_hide_later_parts_from_the_right() {
        let table: &[(&str, &[&str])] = &[
            ("", &[""]),
            (" a ,\tb,", &["", "b", "a"]),
            (r#"a="1,2", b"#, &["b", r#"a="1,2""#]),
            (r#"a="\",", b"#, &["b", r#"a="\",""#]),
            (r#"a="\\", b"#, &["b", r#"a="\\""#]),
            (r#"c, a="\\""#, &[r#"a="\\""#, "c"]),
            (r#"", b="1,2", c"#, &["c", r#"b="1,2""#, "\""]),
            (r#"\", b"#, &["b", r#"\""#]),
        ];
        for (value, parts) in table {
            let parts = parts.iter().map(|part| part.as_bytes());
            assert!(
                split_from_right(value.as_bytes(), b',').eq(parts),
                "{value}"
            );
        }
    }

    #[test]
    fn unquote_rejects_incomplete_quoted_strings() {
        let table: &[(&str, Option<&str>)] = &[
            ("a", Some("a")),
            ("", Some("")),
            (r#""""#, Some("")),
            (r#""a b""#, Some("a b")),
            (r#""a\"\\b""#, Some(r#"a"\b"#)),
            (r#"""#, None),
            (r#""a"#, None),
            (r#""a\""#, None),
            (r#""a"b"#, None),
        ];
        for (value, expected) in table {
            let expected = expected.map(|content| content.as_bytes().to_vec());
            assert_eq!(unquote(value.as_bytes()), expected, "{value}");
        }
    }
}
