use crate::router::host::*;

#[test]
fn hosts_have_one_form() {
    let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
    let rooted = format!("{longest}.");
    for (written, host, port) in [
        ("example.com", "example.com", None),
        ("Example.COM", "example.com", None),
        ("example.com.", "example.com", None),
        ("EXAMPLE.com.:443", "example.com", Some(443)),
        ("example.com:443", "example.com", Some(443)),
        ("example.com:1", "example.com", Some(1)),
        ("example.com:65535", "example.com", Some(65535)),
        ("example.com:00443", "example.com", Some(443)),
        ("localhost", "localhost", None),
        ("localhost:8443", "localhost", Some(8443)),
        ("chat_backend:8000", "chat_backend", Some(8000)),
        ("_acme.example.com", "_acme.example.com", None),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ("-a-.example", "-a-.example", None),
        ("127.0.0.1", "127.0.0.1", None),
        ("127.0.0.1:80", "127.0.0.1", Some(80)),
        ("[::1]", "::1", None),
        ("[::1]:8443", "::1", Some(8443)),
        ("[0:0:0:0:0:0:0:1]", "::1", None),
        ("[2001:DB8::0:A]:1", "2001:db8::a", Some(1)),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1", None),
        (&longest, &longest, None),
        (&rooted, &longest, None),
    ] {
        let authority = Authority::parse(written).unwrap_or_else(|e| panic!("{written}: {e}"));
        assert_eq!(authority.host, host, "{written}");
        assert_eq!(authority.port, port, "{written}");
    }
}

#[test]
fn ambiguous_hosts_are_rejected() {
    use BadAuthority::*;
    let long = "a".repeat(254);
    for (written, expected) in [
        ("", Empty),
        (".", Empty),
        (":443", Empty),
        (".:443", Empty),
        (&*long, TooLong),
        ("user@example.com", Userinfo),
        ("user:password@example.com", Userinfo),
        ("@example.com", Userinfo),
        ("example.com@", Userinfo),
        ("[::1]@example.com", Userinfo),
        ("example.com..", EmptyLabel),
        ("a..example.com", EmptyLabel),
        (".example.com", EmptyLabel),
        ("example.com/", Character),
        ("example.com/ws", Character),
        ("example.com?x", Character),
        ("example.com#x", Character),
        ("example.com,evil.example", Character),
        ("example.com evil.example", Character),
        (" example.com", Character),
        ("example.com ", Character),
        ("example.com\t", Character),
        ("example.com\r\nX: y", Port),
        ("example.com\0", Character),
        ("example.com\u{7f}", Character),
        ("example.com\\ws", Character),
        ("ex%61mple.com", Character),
        ("*.example.com", Character),
        ("b\u{fc}cher.example", Character),
        ("a;b", Character),
        ("a'b", Character),
        ("example.com:", Port),
        ("example.com:0", Port),
        ("example.com:65536", Port),
        ("example.com:99999", Port),
        ("example.com:99999999999999999999", Port),
        ("example.com:+80", Port),
        ("example.com:-1", Port),
        ("example.com: 80", Port),
        ("example.com:80 ", Port),
        ("example.com:80/ws", Port),
        ("example.com:8o", Port),
        ("example.com:80:80", Port),
        ("::1", Port),
        ("2001:db8::1", Port),
        ("[::1", Ipv6),
        ("[]", Ipv6),
        ("[]:80", Ipv6),
        ("[127.0.0.1]", Ipv6),
        ("[example.com]", Ipv6),
        ("[fe80::1%25eth0]", Ipv6),
        ("[fe80::1%eth0]", Ipv6),
        ("[v1.fe80::a]", Ipv6),
        ("[::1]x", Character),
        ("[::1]80", Character),
        ("[::1].", Character),
        ("[::1]:", Port),
        ("[::1]:65536", Port),
        ("[[::1]]", Ipv6),
        ("x[::1]", Port),
        ("::1]", Port),
    ] {
        assert_eq!(Authority::parse(written), Err(expected), "{written:?}");
    }
}

#[test]
fn normal_host_is_borrowed() {
    for written in ["example.com", "example.com.", "example.com:443"] {
        let host = Authority::parse(written).unwrap().host;
        assert!(matches!(host, Cow::Borrowed(_)), "{written}");
    }
}

proptest::proptest! {
    /// Parsing a parsed host returns the same host, so every stage compares the same one.
    #[test]
    fn parsing_is_idempotent(written in "[A-Za-z0-9_.:-]{0,20}|\\[[0-9A-F:]{2,12}\\](:[0-9]{1,5})?") {
        if let Ok(once) = Authority::parse(&written) {
            let bare = if once.host.contains(':') {
                format!("[{}]", once.host)
            } else {
                once.host.to_string()
            };
            let twice = Authority::parse(&bare);
            proptest::prop_assert_eq!(twice, Ok(Authority { host: once.host.clone(), port: None }));
        }
    }
}
