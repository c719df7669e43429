//! Reads the query component of a request target (RFC 3986 §3.4) as `name=value` pairs. Programs disagree on escapes,
//! `+` and repeated names, so all three are left to the caller.

/// One element of a query, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryPair<'a> {
    /// All characters between two `&`.
    pub raw: &'a str,
    /// The characters before the first `=`, or all if there is none.
    pub name: &'a str,
    /// The characters after the first `=`.
    pub value: Option<&'a str>,
}

/// Returns the elements of a query, also empty ones. Joined with `&`, their `raw` parts are the query.
pub fn pairs(query: &str) -> impl Iterator<Item = QueryPair<'_>> {
    query.split('&').map(|raw| match raw.split_once('=') {
        Some((name, value)) => QueryPair {
            raw,
            name,
            value: Some(value),
        },
        None => QueryPair {
            raw,
            name: raw,
            value: None,
        },
    })
}

/// Returns the first value of a name, both without decoding.
pub fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    pairs(query).find_map(|pair| pair.value.filter(|_| pair.name == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_split_into_pairs() {
        type Pair<'a> = (&'a str, Option<&'a str>);
        let cases: [(&str, &[Pair<'_>]); 7] = [
            ("", &[("", None)]),
            ("a=1", &[("a", Some("1"))]),
            (
                "a=1&b=2&a=3",
                &[("a", Some("1")), ("b", Some("2")), ("a", Some("3"))],
            ),
            ("a=b=c", &[("a", Some("b=c"))]),
            ("a&b=", &[("a", None), ("b", Some(""))]),
            ("=1&&", &[("", Some("1")), ("", None), ("", None)]),
            ("%61=+&a;b=1", &[("%61", Some("+")), ("a;b", Some("1"))]),
        ];
        for (query, expected) in cases {
            let found: Vec<_> = pairs(query).collect();
            let shown: Vec<_> = found.iter().map(|pair| (pair.name, pair.value)).collect();
            assert_eq!(shown, expected, "{query}");
            let raw: Vec<_> = found.iter().map(|pair| pair.raw).collect();
            assert_eq!(raw.join("&"), query);
        }
    }

    #[test]
    fn first_value_of_the_exact_name_counts() {
        for (query, expected) in [
            ("sid=a", Some("a")),
            ("EIO=4&sid=a&sid=b", Some("a")),
            ("sid&sid=a", Some("a")),
            ("sid=", Some("")),
            ("sid", None),
            ("%73id=a", None),
            ("xsid=a&sidx=b", None),
            ("", None),
        ] {
            assert_eq!(value(query, "sid"), expected, "{query}");
        }
    }
}
