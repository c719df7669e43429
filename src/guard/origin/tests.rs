use crate::guard::origin::*;

fn pattern(text: &str) -> OriginPattern {
    let host = |text: &str| match text.strip_prefix("*.") {
        Some(suffix) => HostPattern::Under(suffix.into()),
        None if text == "*" => HostPattern::Any,
        None => HostPattern::Exact(text.into()),
    };
    match text {
        "same-host" => OriginPattern::SameHost,
        "*" => OriginPattern::Any,
        _ => match text.split_once("://") {
            Some((scheme, rest)) => OriginPattern::Host {
                scheme: Some(scheme.into()),
                host: host(rest),
            },
            None => OriginPattern::Host {
                scheme: None,
                host: host(text),
            },
        },
    }
}

fn check(patterns: &str, host: &str, origins: &[&[u8]]) -> Result<(), Denial> {
    let patterns: Vec<_> = patterns.split_whitespace().map(pattern).collect();
    let mut headers = HeaderMap::new();
    for origin in origins {
        headers.append(ORIGIN, HeaderValue::from_bytes(origin).unwrap());
    }
    OriginGuard::new(&patterns).check(&headers, host)
}

#[test]
fn origins_are_compared_with_the_patterns() {
    // The patterns, the request's host, the Origin, whether it is admitted
    for (patterns, host, origin, admitted) in [
        (
            "same-host",
            "chat.example.com",
            "https://chat.example.com",
            true,
        ),
        (
            "same-host",
            "chat.example.com",
            "http://chat.example.com",
            true,
        ),
        (
            "same-host",
            "chat.example.com",
            "https://chat.example.com:8443",
            true,
        ),
        (
            "same-host",
            "chat.example.com",
            "HTTPS://Chat.Example.COM",
            true,
        ),
        (
            "same-host",
            "chat.example.com",
            "https://chat.example.com.",
            true,
        ),
        ("same-host", "localhost", "http://localhost:3000", true),
        ("same-host", "127.0.0.1", "http://127.0.0.1:3000", true),
        ("same-host", "::1", "https://[::1]:8443", true),
        ("same-host", "::1", "https://[0:0:0:0:0:0:0:1]", true),
        ("same-host", "::1", "https://[::2]", false),
        (
            "same-host",
            "chat.example.com",
            "https://example.com",
            false,
        ),
        (
            "same-host",
            "chat.example.com",
            "https://a.chat.example.com",
            false,
        ),
        (
            "same-host",
            "chat.example.com",
            "https://evil.example",
            false,
        ),
        (
            "same-host",
            "chat.example.com",
            "https://chat.example.com.evil.example",
            false,
        ),
        (
            "same-host",
            "chat.example.com",
            "https://evilchat.example.com",
            false,
        ),
        ("same-host", "chat.example.com", "null", false),
        ("*", "chat.example.com", "https://evil.example", true),
        ("*", "chat.example.com", "null", true),
        ("*", "chat.example.com", "not an origin", true),
        (
            "same-host *",
            "chat.example.com",
            "https://evil.example",
            true,
        ),
        ("", "chat.example.com", "https://chat.example.com", false),
        ("https://app.example", "h", "https://app.example", true),
        ("https://app.example", "h", "https://app.example:444", true),
        ("https://app.example", "h", "http://app.example", false),
        ("https://app.example", "h", "https://app.example.", true),
        ("https://app.example", "h", "https://h", false),
        ("app.example", "h", "https://app.example", true),
        ("app.example", "h", "http://app.example", true),
        ("app.example", "h", "capacitor://app.example", true),
        ("app.example", "h", "https://x.app.example", false),
        ("*.app.example", "h", "https://x.app.example", true),
        ("*.app.example", "h", "https://y.x.app.example:8443", true),
        ("*.app.example", "h", "https://app.example", false),
        ("*.app.example", "h", "https://.app.example", false),
        ("*.app.example", "h", "https://evilapp.example", false),
        ("https://*.app.example", "h", "http://x.app.example", false),
        ("https://*", "h", "https://evil.example", true),
        ("https://*", "h", "http://evil.example", false),
        ("https://*", "h", "null", false),
        (
            "same-host https://app.example",
            "h",
            "https://app.example",
            true,
        ),
        ("same-host https://app.example", "h", "https://h", true),
        ("https://[::1]", "h", "https://[::1]", true),
        ("https://::1", "h", "https://[::1]", true),
        (
            "chrome-extension://abcdefgh",
            "h",
            "chrome-extension://abcdefgh",
            true,
        ),
        ("same-host", "h", "chrome-extension://abcdefgh", false),
        ("same-host", "h", "", false),
        ("same-host", "h", "h", false),
        ("same-host", "h", "://h", false),
        ("same-host", "h", "https://", false),
        ("same-host", "h", "https://:443", false),
        ("same-host", "h", "https://h/", false),
        ("same-host", "h", "https://h/path", false),
        ("same-host", "h", "https://h?x", false),
        ("same-host", "h", "https://h#x", false),
        ("same-host", "h", "https://user@h", false),
        ("same-host", "h", "https://evil.example@h", false),
        ("same-host", "h", "https://h https://evil.example", false),
        ("same-host", "h", "https://h, https://h", false),
        ("same-host", "h", "https://h\\.evil.example", false),
        ("same-host", "h", "Null", false),
    ] {
        let found = check(patterns, host, &[origin.as_bytes()]);
        assert_eq!(found.is_ok(), admitted, "{patterns:?} {host} {origin:?}");
    }
}

#[test]
fn missing_origin_is_admitted() {
    for patterns in ["same-host", "https://app.example", "", "*"] {
        assert_eq!(check(patterns, "h", &[]), Ok(()), "{patterns:?}");
    }
}

#[test]
fn several_origins_are_admitted_only_by_the_any_pattern() {
    let both: &[&[u8]] = &[b"https://h", b"https://h"];
    let refused = check("same-host", "h", both).unwrap_err();
    assert_eq!(refused.why, DenialReason::Origin);
    assert!(refused.text.contains("`origins`"), "{}", refused.text);
    assert_eq!(check("*", "h", both), Ok(()));
}

#[test]
fn denial_names_the_origin_and_the_pattern_to_add() {
    let refused = |origin: &[u8]| {
        let refused = check("same-host", "h", &[origin]).unwrap_err();
        assert_eq!(refused.why, DenialReason::Origin);
        assert!(refused.text.contains("`origins`"), "{}", refused.text);
        refused.text
    };
    let text = refused(b"https://Evil.example:8443");
    assert!(
        text.contains("Origin https://Evil.example:8443 is not allowed"),
        "{text}"
    );
    assert!(text.contains("\"https://evil.example\""), "{text}");
    assert!(refused(b"http://[::2]").contains("\"http://[::2]\""));
    assert!(refused(b"null").contains("Origin null"));
    // Invalid text is shown escaped, and long text is truncated.
    assert!(refused(b"https://\xff").contains("https://\\xff"));
    assert!(refused(format!("https://{}", "a".repeat(5_000)).as_bytes()).len() < 400);
}

#[test]
fn suggested_pattern_admits_the_origin() {
    for origin in [
        "https://evil.example:8443",
        "http://[::2]:1",
        "app://Obsidian.md",
    ] {
        let text = check("same-host", "h", &[origin.as_bytes()])
            .unwrap_err()
            .text;
        let added = text.rsplit('"').nth(1).unwrap();
        assert_eq!(check(added, "h", &[origin.as_bytes()]), Ok(()), "{added}");
    }
}

#[test]
fn cleartext_page_of_the_same_host_is_reported() {
    for (patterns, origin, host, reported) in [
        (&["same-host"][..], "http://a.test", "a.test", true),
        (&["same-host"], "http://a.test:8080", "a.test", true),
        (&["same-host"], "https://a.test", "a.test", false),
        (&["same-host"], "http://b.test", "a.test", false),
        (&["same-host"], "http://localhost:3000", "localhost", false),
        (&["same-host"], "http://127.0.0.1", "127.0.0.1", false),
        (
            &["same-host", "http://a.test"],
            "http://a.test",
            "a.test",
            false,
        ),
        (&["*"], "http://a.test", "a.test", false),
    ] {
        let patterns: Vec<OriginPattern> = patterns.iter().map(|it| it.parse().unwrap()).collect();
        let guard = OriginGuard::new(&patterns);
        let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_str(origin).unwrap())]);
        if patterns != [OriginPattern::Any] && host == "a.test" && origin.contains(host) {
            assert!(guard.check(&headers, host).is_ok(), "{origin}");
        }
        assert_eq!(
            guard.is_cleartext_same_host(&headers, host),
            reported,
            "{patterns:?} {origin}"
        );
    }
}

#[test]
fn ambient_credentials_are_admitted_by_origin_or_fetch_metadata() {
    let script = &[("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")][..];
    let link = &[
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ][..];
    let frame = &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")][..];
    // The patterns, the method, the values of Sec-Fetch-Site, Origin, the other fields, whether it is admitted
    for (patterns, method, sites, origin, fields, admitted) in [
        ("same-host", Method::GET, &[][..], None, &[][..], true),
        (
            "same-host",
            Method::GET,
            &["same-origin"],
            None,
            script,
            true,
        ),
        ("same-host", Method::GET, &["none"], None, link, true),
        (
            "same-host",
            Method::GET,
            &["cross-site"],
            None,
            script,
            false,
        ),
        (
            "same-host",
            Method::GET,
            &["same-site"],
            None,
            script,
            false,
        ),
        ("same-host", Method::GET, &[""], None, script, false),
        (
            "same-host",
            Method::GET,
            &["none", "cross-site"],
            None,
            script,
            false,
        ),
        ("same-host", Method::GET, &["cross-site"], None, link, true),
        (
            "same-host",
            Method::GET,
            &["cross-site"],
            None,
            frame,
            false,
        ),
        (
            "same-host",
            Method::HEAD,
            &["cross-site"],
            None,
            link,
            false,
        ),
        (
            "same-host",
            Method::POST,
            &["cross-site"],
            None,
            link,
            false,
        ),
        ("b.test", Method::GET, &["same-site"], None, script, false),
        (
            "b.test",
            Method::GET,
            &["same-site"],
            Some("https://b.test"),
            script,
            true,
        ),
        (
            "b.test",
            Method::GET,
            &["same-site"],
            Some("https://c.test"),
            script,
            false,
        ),
        (
            "b.test",
            Method::GET,
            &["cross-site"],
            Some("https://c.test"),
            link,
            false,
        ),
        ("*", Method::POST, &["cross-site"], None, script, true),
    ] {
        let patterns: Vec<_> = patterns.split_whitespace().map(pattern).collect();
        let mut headers = HeaderMap::new();
        for site in sites {
            headers.append("sec-fetch-site", HeaderValue::from_static(site));
        }
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        let guard = OriginGuard::new(&patterns);
        let checked = guard.check_ambient(&method, &headers, "a.test");
        assert_eq!(
            checked.is_ok(),
            admitted,
            "{patterns:?} {method} {headers:?}"
        );
    }
}
