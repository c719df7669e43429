//! Reads Cookie header fields (RFC 6265 §4.2.1). Servers disagree on quotes and on white space around `=`, so both are
//! left to the caller.

use http::{HeaderMap, HeaderValue, header::COOKIE};

/// One element of a Cookie field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookiePair<'a> {
    /// All bytes between two semicolons.
    pub raw: &'a [u8],
    /// The bytes before the first `=`, or all if there is none, without white space in front.
    pub name: &'a [u8],
    /// The bytes after the first `=`, without white space at the end.
    pub value: Option<&'a [u8]>,
}

/// Returns the elements of one Cookie field, also empty ones. Joined with semicolons, their `raw` parts are the field.
pub fn pairs(field: &[u8]) -> impl Iterator<Item = CookiePair<'_>> {
    field.split(|byte| *byte == b';').map(|raw| {
        let pair = raw.trim_ascii();
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        CookiePair {
            raw,
            name: parts.next().unwrap_or_default(),
            value: parts.next(),
        }
    })
}

/// Returns the value of each cookie with this exact name, in order. HTTP/2 may send cookies one by one (RFC 9113
/// §8.2.3).
pub fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let fields = headers.get_all(COOKIE).into_iter();
    let all = fields.flat_map(|field| pairs(field.as_bytes()));
    all.filter(move |pair| pair.name == name.as_bytes())
        .filter_map(|pair| pair.value)
}

/// Returns all fields as one, as HTTP/1.1 has them (RFC 9113 §8.2.3); `None`: there is none.
pub fn joined(headers: &HeaderMap) -> Option<HeaderValue> {
    let fields: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    // A field that consists of valid ones is valid.
    let joined = (!fields.is_empty()).then(|| HeaderValue::from_bytes(&fields.join(&b"; "[..])));
    joined?.ok()
}

/// Returns a value without the quotes around it (RFC 6265 §4.1.1).
pub fn unquote(value: &[u8]) -> &[u8] {
    let bare = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    bare.unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_is_split_into_pairs() {
        type Pair<'a> = (&'a str, Option<&'a str>);
        let cases: [(&str, &[Pair<'_>]); 9] = [
            ("", &[("", None)]),
            ("a=1", &[("a", Some("1"))]),
            ("a=1; b=2", &[("a", Some("1")), ("b", Some("2"))]),
            ("a=1;b=2", &[("a", Some("1")), ("b", Some("2"))]),
            ("a=b=c", &[("a", Some("b=c"))]),
            (" a = 1 ", &[("a ", Some(" 1"))]),
            ("a; b=", &[("a", None), ("b", Some(""))]),
            ("=1;;", &[("", Some("1")), ("", None), ("", None)]),
            ("a=\"1;2\"", &[("a", Some("\"1")), ("2\"", None)]),
        ];
        for (field, expected) in cases {
            let found: Vec<_> = pairs(field.as_bytes()).collect();
            let shown = found.iter().map(|pair| (pair.name, pair.value));
            let expected = expected
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.map(str::as_bytes)));
            assert!(shown.eq(expected), "{field}: {found:?}");
            let raw: Vec<_> = found.iter().map(|pair| pair.raw).collect();
            assert_eq!(raw.join(&b';'), field.as_bytes());
        }
    }

    #[test]
    fn values_have_the_exact_name_in_the_order_of_all_fields() {
        let fields = [
            "x=1; sid=a",
            "sid",
            "sidx=b; xsid=c; SID=d; sid =e",
            "sid=f;sid=g",
        ];
        let fields = fields.map(|field| (COOKIE, field.parse().unwrap()));
        let headers = HeaderMap::from_iter(fields);
        let found: Vec<_> = values(&headers, "sid").collect();
        assert_eq!(found, [b"a", b"f", b"g"]);
        assert_eq!(values(&headers, "none").next(), None);
    }

    #[test]
    fn only_a_pair_of_quotes_is_removed() {
        for (value, bare) in [
            ("a", "a"),
            ("\"a\"", "a"),
            ("\"\"", ""),
            ("\"", "\""),
            ("\"a", "\"a"),
            ("a\"", "a\""),
            ("\"\"a\"\"", "\"a\""),
            ("", ""),
        ] {
            assert_eq!(unquote(value.as_bytes()), bare.as_bytes(), "{value}");
        }
    }
}
