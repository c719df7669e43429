//! Lists in header values whose elements may hold quoted strings (RFC 9110 §5.6).

/// The parts of `bytes` between `separator`s that stand outside quoted strings, without the white space around them.
/// A quoted string without an end reaches to the end.
pub(super) fn split(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = bytes.split(move |byte| {
        // RFC 9110 §5.6.4: a quoted-pair is the octet behind the backslash, whatever it is.
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

/// As [`split`], but read from the end, and the last part first. If several proxies append to one value, an earlier
/// part, for instance one with an open quote, then cannot hide the later parts.
pub(super) fn split_from_right(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut left = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = left?;
        let mut quoted = false;
        let cut = bytes.iter().enumerate().rposition(|(at, byte)| {
            quoted ^= *byte == b'"' && !is_escaped(bytes, at);
            *byte == separator && !quoted
        });
        let (before, part) = match cut.and_then(|at| bytes.split_at_checked(at)) {
            Some((before, part)) => (Some(before), part.get(1..).unwrap_or_default()),
            None => (None, bytes),
        };
        left = before;
        Some(part.trim_ascii())
    })
}

/// Whether an odd number of backslashes stands before `at`.
fn is_escaped(bytes: &[u8], at: usize) -> bool {
    let before = bytes.get(..at).unwrap_or_default();
    let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\');
    backslashes.count() % 2 == 1
}

/// Returns the content of a quoted string; a value that does not begin with a quote is returned as it is. `None` if the
/// quoted string has no end, or if anything follows its end.
pub(super) fn unquote(value: &[u8]) -> Option<Vec<u8>> {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        return Some(value.to_vec());
    };
    let mut said = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter().copied();
    loop {
        match bytes.next()? {
            b'"' => break,
            b'\\' => said.push(bytes.next()?),
            byte => said.push(byte),
        }
    }
    bytes.next().is_none().then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_inside_quotes_does_not_separate() {
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
    fn from_the_right_an_open_quote_swallows_nothing() {
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
    fn quotes_come_off_whole_or_not_at_all() {
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
        for (value, said) in table {
            let said = said.map(|said| said.as_bytes().to_vec());
            assert_eq!(unquote(value.as_bytes()), said, "{value}");
        }
    }
}
