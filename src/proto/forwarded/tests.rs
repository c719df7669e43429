//! Tables of proxy chains. `10.0.0.0/8` and `fd00::/8` are trusted.

use crate::proto::forwarded::*;

fn trusted(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 10,
        IpAddr::V6(v6) => v6.octets()[0] == 0xFD,
    }
}

fn headers(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, value.parse().unwrap());
    }
    headers
}

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

/// The header lines, the peer, and the chain that backends receive; its first address is the client.
#[test]
fn chain_ends_at_the_first_untrusted_address() {
    let table: &[(&[&str], &str, &str)] = &[
        (&[], "192.0.2.1", "192.0.2.1"),
        (&[], "10.0.0.1", "10.0.0.1"),
        (&[], "::ffff:192.0.2.1", "192.0.2.1"),
        // Headers of an untrusted peer are ignored.
        (&["x-forwarded-for: 1.1.1.1"], "192.0.2.1", "192.0.2.1"),
        (&["forwarded: for=1.1.1.1"], "192.0.2.1", "192.0.2.1"),
        (
            &["x-forwarded-for: 1.1.1.1"],
            "10.0.0.1",
            "1.1.1.1, 10.0.0.1",
        ),
        (
            &["x-forwarded-for: 1.1.1.1"],
            "::ffff:10.0.0.1",
            "1.1.1.1, 10.0.0.1",
        ),
        // Addresses before the client's were invented by the client.
        (
            &["x-forwarded-for: 6.6.6.6, 1.1.1.1, 10.0.0.2"],
            "10.0.0.1",
            "1.1.1.1, 10.0.0.2, 10.0.0.1",
        ),
        (
            &["x-forwarded-for: 10.6.6.6, 1.1.1.1"],
            "10.0.0.1",
            "1.1.1.1, 10.0.0.1",
        ),
        (
            &[
                "x-forwarded-for: 6.6.6.6",
                "x-forwarded-for: 1.1.1.1,10.0.0.3",
                "x-forwarded-for: 10.0.0.2",
            ],
            "10.0.0.1",
            "1.1.1.1, 10.0.0.3, 10.0.0.2, 10.0.0.1",
        ),
        (
            &["x-forwarded-for: 10.0.0.3, 10.0.0.2"],
            "10.0.0.1",
            "10.0.0.3, 10.0.0.2, 10.0.0.1",
        ),
        // Ports, brackets, mapped addresses, empty elements.
        (
            &["x-forwarded-for: 1.2.3.4:5678,, ::ffff:10.0.0.2 ,"],
            "fd00::1",
            "1.2.3.4, 10.0.0.2, fd00::1",
        ),
        (
            &["x-forwarded-for: [2001:db8::1]:80, [fd00::2], fd00::3"],
            "10.0.0.1",
            "2001:db8::1, fd00::2, fd00::3, 10.0.0.1",
        ),
        // Garbage ends the chain at the last good address.
        (&["x-forwarded-for: unknown"], "10.0.0.1", "10.0.0.1"),
        (&["x-forwarded-for: [10.0.0.2]"], "10.0.0.1", "10.0.0.1"),
        (&["x-forwarded-for: 1.1.1.1:x"], "10.0.0.1", "10.0.0.1"),
        (&["x-forwarded-for: 1.1.1.01"], "10.0.0.1", "10.0.0.1"),
        (
            &["x-forwarded-for: 1.1.1.1, what?, 10.0.0.2"],
            "10.0.0.1",
            "10.0.0.2, 10.0.0.1",
        ),
        // A quote has no meaning here, so it cannot hide what a proxy appended.
        (
            &["x-forwarded-for: \"6.6.6.6, 1.1.1.1"],
            "10.0.0.1",
            "1.1.1.1, 10.0.0.1",
        ),
        // RFC 7239, only where X-Forwarded-For is absent.
        (
            &["forwarded: for=6.6.6.6", "x-forwarded-for: 1.1.1.1"],
            "10.0.0.1",
            "1.1.1.1, 10.0.0.1",
        ),
        (
            &[
                "forwarded: for=6.6.6.6, For=\"[2001:db8::1]:80\";proto=https, host=\"a,b\" ; for=10.0.0.2",
            ],
            "10.0.0.1",
            "2001:db8::1, 10.0.0.2, 10.0.0.1",
        ),
        (
            &["forwarded: for=\"6.6.6.6, for=1.1.1.1;host=\"a, for=7.7.7.7\""],
            "10.0.0.1",
            "1.1.1.1, 10.0.0.1",
        ),
        (&["forwarded: for=_hidden"], "10.0.0.1", "10.0.0.1"),
        (&["forwarded: proto=https"], "10.0.0.1", "10.0.0.1"),
        (
            &["forwarded: for=1.1.1.1;for=2.2.2.2"],
            "10.0.0.1",
            "10.0.0.1",
        ),
        (&["forwarded: for=\"1.1.1.1"], "10.0.0.1", "10.0.0.1"),
    ];
    for (lines, peer, chain) in table {
        let headers = headers(lines);
        let expected_client = chain.split(", ").next().unwrap();
        assert_eq!(
            client(&headers, ip(peer), trusted),
            ip(expected_client),
            "{lines:?}"
        );
        let value = x_forwarded_for(&headers, ip(peer), trusted);
        assert_eq!(value, *chain, "{lines:?}");
    }
}

#[test]
fn chain_is_limited_to_100_hops() {
    let long = format!("x-forwarded-for: 1.1.1.1{}", ", 10.0.0.2".repeat(100));
    let headers = headers(&[&long]);
    assert_eq!(client(&headers, ip("10.0.0.1"), trusted), ip("10.0.0.2"));
    let value = x_forwarded_for(&headers, ip("10.0.0.1"), trusted);
    assert_eq!(value.split(", ").count(), 101);
}

#[test]
fn forwarded_element_quotes_values_that_are_no_token() {
    let table = [
        (
            "192.0.2.1",
            "a.example",
            "for=192.0.2.1;host=a.example;proto=https",
        ),
        (
            "::ffff:192.0.2.1",
            "a.example:8443",
            "for=192.0.2.1;host=\"a.example:8443\";proto=https",
        ),
        (
            "2001:db8::1",
            "[::1]:80",
            "for=\"[2001:db8::1]\";host=\"[::1]:80\";proto=https",
        ),
        ("192.0.2.1", "", "for=192.0.2.1;host=\"\";proto=https"),
        (
            "192.0.2.1",
            r#"a"\b"#,
            r#"for=192.0.2.1;host="a\"\\b";proto=https"#,
        ),
        ("192.0.2.1", "a\r\nb", "for=192.0.2.1;proto=https"),
        ("192.0.2.1", "bücher.example", "for=192.0.2.1;proto=https"),
    ];
    for (address, host, element) in table {
        assert_eq!(forwarded_element(ip(address), host, "https"), element);
    }
    let element = forwarded_element(ip("192.0.2.1"), "a", "ht;tp");
    assert_eq!(element, "for=192.0.2.1;host=a");
}

#[test]
fn proto_is_the_last_scheme_of_a_trusted_proxy() {
    let table: &[(&[&str], Option<&str>)] = &[
        (&[], None),
        (&["x-forwarded-proto: https"], Some("https")),
        (&["x-forwarded-proto: WSS"], Some("wss")),
        (&["x-forwarded-proto: http, https"], Some("https")),
        (
            &["x-forwarded-proto: https", "x-forwarded-proto: http"],
            Some("http"),
        ),
        (&["x-forwarded-proto: gopher"], None),
        (
            &[
                "x-forwarded-proto: ftp",
                "forwarded: for=1.1.1.1;proto=https",
            ],
            None,
        ),
        (
            &["forwarded: proto=http, for=1.1.1.1;Proto=\"https\""],
            Some("https"),
        ),
        (&["forwarded: proto=http, for=1.1.1.1"], None),
    ];
    for (lines, scheme) in table {
        assert_eq!(proto(&headers(lines), true), *scheme, "{lines:?}");
        assert_eq!(proto(&headers(lines), false), None, "{lines:?}");
    }
}
