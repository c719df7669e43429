//! Requests and answers in tables: each row changes one thing in a valid handshake.

use crate::proto::handshake::*;
use http::{Request, Response};

/// RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A valid request whose headers are replaced (`name: value`), removed (`-name`) or added (`+name: value`).
fn request(method: &str, version: Version, changes: &[&str]) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method.parse().unwrap();
    parts.version = version;
    let mut valid = HeaderMap::new();
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ] {
        valid.insert(name, HeaderValue::from_static(value));
    }
    parts.headers = change(valid, changes);
    parts
}

/// A valid 101, changed in the same way.
fn response(changes: &[&str]) -> response::Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = StatusCode::SWITCHING_PROTOCOLS;
    let mut valid = HeaderMap::new();
    for (name, value) in [
        ("upgrade", "WebSocket"),
        ("connection", "upgrade"),
        ("sec-websocket-accept", ACCEPT),
    ] {
        valid.insert(name, HeaderValue::from_static(value));
    }
    parts.headers = change(valid, changes);
    parts
}

fn change(mut headers: HeaderMap, changes: &[&str]) -> HeaderMap {
    for change in changes {
        if let Some(name) = change.strip_prefix('-') {
            headers.remove(name).unwrap();
            continue;
        }
        let (name, value) = change.split_once(": ").unwrap();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        match name.strip_prefix('+') {
            Some(name) => {
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, value);
            }
            None => {
                let name: HeaderName = name.parse().unwrap();
                headers.insert(name, value);
            }
        }
    }
    headers
}

fn read(changes: &[&str]) -> Result<Option<Offer>, BadHandshake> {
    Offer::read(&request("GET", Version::HTTP_11, changes))
}

fn strings(list: &[Box<str>]) -> Vec<&str> {
    list.iter().map(|s| &**s).collect()
}

#[test]
fn accept_key_of_the_rfc_example() {
    assert_eq!(accept_key(KEY), ACCEPT);
}

#[test]
fn tokens_are_read_from_all_lines() {
    let headers = change(
        HeaderMap::new(),
        &["connection: a, ,b", "+connection: Keep-Alive,\tx\u{fe}"],
    );
    let all = tokens(&headers, &header::CONNECTION).collect::<Vec<_>>();
    assert_eq!(all, [&b"a"[..], b"b", b"Keep-Alive", "x\u{fe}".as_bytes()]);
    assert!(has_token(&headers, &header::CONNECTION, "keep-alive"));
    assert!(!has_token(&headers, &header::CONNECTION, "keep"));
    assert!(!has_token(&headers, &header::UPGRADE, "a"));
}

#[test]
fn offer_is_parsed() {
    let offer = read(&[
        "connection: keep-alive, UPGRADE",
        "upgrade: WebSocket",
        "sec-websocket-protocol: chat.v2, chat",
        "+sec-websocket-protocol: Chat",
        "sec-websocket-extensions: permessage-deflate; client_max_window_bits, x-a; q=\"b\"",
        "+sec-websocket-extensions: permessage-deflate",
    ]);
    let offer = offer.unwrap().unwrap();
    assert_eq!(&*offer.key, KEY);
    assert_eq!(strings(&offer.subprotocols), ["chat.v2", "chat", "Chat"]);
    assert_eq!(strings(&offer.extensions), ["permessage-deflate", "x-a"]);

    let least = read(&[]).unwrap().unwrap();
    assert!(least.subprotocols.is_empty() && least.extensions.is_empty());
}

#[test]
fn request_without_websocket_upgrade_is_no_offer() {
    let table: &[&[&str]] = &[
        &["-upgrade", "-connection"],
        &["-upgrade", "-sec-websocket-key"],
        &["-connection", "-sec-websocket-key"],
        &["upgrade: h2c", "-sec-websocket-key"],
        &["upgrade: websocket2", "connection: keep-alive"],
        &["connection: keep-alive", "-sec-websocket-key"],
        &["-upgrade", "connection: upgraded"],
    ];
    for changes in table {
        assert_eq!(read(changes), Ok(None), "{changes:?}");
    }
    for (method, version) in [("POST", Version::HTTP_11), ("GET", Version::HTTP_10)] {
        for change in ["-connection", "upgrade: h2c"] {
            let plain = request(method, version, &[change]);
            assert_eq!(Offer::read(&plain), Ok(None), "{method} {change}");
        }
    }
    // RFC 9113 §8.6: no 101 in HTTP/2.
    let h2 = request("GET", Version::HTTP_2, &[]);
    assert_eq!(Offer::read(&h2), Ok(None));
}

#[test]
fn request_without_one_of_the_upgrade_headers_is_an_incomplete_handshake() {
    for change in ["-connection", "connection: keep-alive"] {
        let offer = read(&[change]).unwrap().unwrap();
        assert!(offer.lacks_connection, "{change}");
    }
    for change in ["-upgrade", "upgrade: h2c", "upgrade: websocket2"] {
        assert_eq!(
            read(&[change]),
            Err(BadHandshake::MissingUpgrade),
            "{change}"
        );
    }
    assert!(!read(&[]).unwrap().unwrap().lacks_connection);
}

#[test]
fn bad_request_is_refused_with_its_cause() {
    use BadHandshake::*;
    let table: &[(&[&str], BadHandshake)] = &[
        (&["-sec-websocket-version"], WrongVersion),
        (&["sec-websocket-version: 8"], WrongVersion),
        (&["sec-websocket-version: 13, 13"], WrongVersion),
        (&["sec-websocket-version: 013"], WrongVersion),
        (&["+sec-websocket-version: 13"], WrongVersion),
        (&["-sec-websocket-key"], MissingKey),
        (&["+sec-websocket-key: x"], BadKey),
        (&["sec-websocket-key: "], BadKey),
        (&["sec-websocket-key: short"], BadKey),
        (&["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ"], BadKey),
        (&["sec-websocket-key: dGhlIHNhbXBsZSBub25jZSE="], BadKey),
        (
            &["sec-websocket-key: dGhlIHNhbXBsZSBub25j\u{fc}Q=="],
            BadKey,
        ),
        (&["sec-websocket-protocol: "], BadSubprotocols),
        (&["sec-websocket-protocol: ,"], BadSubprotocols),
        (&["sec-websocket-protocol: a b"], BadSubprotocols),
        (&["sec-websocket-protocol: \"a\""], BadSubprotocols),
        (&["sec-websocket-protocol: a/b"], BadSubprotocols),
        (&["sec-websocket-protocol: a, b, a"], BadSubprotocols),
        (
            &["sec-websocket-protocol: a", "+sec-websocket-protocol: a"],
            BadSubprotocols,
        ),
        (&["sec-websocket-extensions: "], BadExtensions),
        (&["sec-websocket-extensions: a;"], BadExtensions),
        (&["sec-websocket-extensions: a; =1"], BadExtensions),
        (&["sec-websocket-extensions: a; b="], BadExtensions),
        (&["sec-websocket-extensions: a; b=\"c"], BadExtensions),
        (&["sec-websocket-extensions: a; b=\"c d\""], BadExtensions),
        (&["sec-websocket-extensions: a b"], BadExtensions),
        (
            &[
                "sec-websocket-extensions: a",
                "+sec-websocket-extensions: ,",
            ],
            BadExtensions,
        ),
    ];
    for (changes, why) in table {
        assert_eq!(read(changes), Err(*why), "{changes:?}");
    }
    let post = request("POST", Version::HTTP_11, &[]);
    assert_eq!(Offer::read(&post), Err(WrongMethod));
    let old = request("GET", Version::HTTP_10, &[]);
    assert_eq!(Offer::read(&old), Err(Http10));
    assert_eq!(WrongMethod.status(), 405);
    assert_eq!(WrongVersion.status(), 426);
    for why in [Http10, MissingKey, BadKey, BadSubprotocols, BadExtensions] {
        assert_eq!(why.status(), 400);
    }
}

/// Some clients send a made-up key of 16 bytes whose unused last bits are not zero.
#[test]
fn key_with_unused_bits_set_is_accepted() {
    let offer = read(&["sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAB=="]);
    assert_eq!(&*offer.unwrap().unwrap().key, "AAAAAAAAAAAAAAAAAAAAAB==");
}

fn offer() -> Offer {
    let offer = read(&[
        "sec-websocket-protocol: chat, superchat",
        "sec-websocket-extensions: permessage-deflate, x-trace; a=1",
    ]);
    offer.unwrap().unwrap()
}

#[test]
fn valid_101_is_accepted() {
    const EXTENSIONS: &str = "sec-websocket-extensions";
    let plain = offer().check(&response(&[])).unwrap();
    assert_eq!(
        plain,
        Negotiated {
            subprotocol: None,
            extensions: None,
            reserved: RsvBits::None
        }
    );
    let chosen = response(&["sec-websocket-protocol: superchat"]);
    let chosen = offer().check(&chosen).unwrap().subprotocol;
    assert_eq!(chosen.as_deref(), Some("superchat"));

    let table = [
        ("permessage-deflate", RsvBits::Deflate),
        (
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=10",
            RsvBits::Deflate,
        ),
        (
            "permessage-deflate; client_max_window_bits=\"15\"; client_no_context_takeover",
            RsvBits::Deflate,
        ),
        ("x-trace", RsvBits::Any),
        ("x-trace; b=\"c\", permessage-deflate", RsvBits::Any),
        ("permessage-deflate, x-trace", RsvBits::Any),
    ];
    for (value, reserved) in table {
        let agreed = offer().check(&response(&[&format!("{EXTENSIONS}: {value}")]));
        let agreed = agreed.unwrap();
        assert_eq!(agreed.reserved, reserved, "{value}");
        assert_eq!(agreed.extensions.as_deref(), Some(value));
    }
    let lines = response(&[
        "sec-websocket-extensions: x-trace",
        "+sec-websocket-extensions: permessage-deflate",
    ]);
    let joined = offer().check(&lines).unwrap().extensions;
    assert_eq!(joined.as_deref(), Some("x-trace, permessage-deflate"));
}

#[test]
fn bad_101_is_refused_with_its_cause() {
    use Bad101::*;
    let table: &[(&[&str], Bad101)] = &[
        (&["-upgrade"], Upgrade),
        (&["upgrade: h2c"], Upgrade),
        (&["upgrade: websocket, h2c"], Upgrade),
        (&["+upgrade: websocket"], Upgrade),
        (&["-connection"], Connection),
        (&["connection: keep-alive"], Connection),
        (&["-sec-websocket-accept"], MissingAccept),
        (&["sec-websocket-accept: "], WrongAccept),
        (
            &["sec-websocket-accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo="],
            WrongAccept,
        ),
        (
            &["+sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="],
            WrongAccept,
        ),
        (&["sec-websocket-protocol: other"], UnofferedSubprotocol),
        (&["sec-websocket-protocol: Chat"], UnofferedSubprotocol),
        (&["sec-websocket-protocol: "], UnofferedSubprotocol),
        (
            &["sec-websocket-protocol: chat, superchat"],
            UnofferedSubprotocol,
        ),
        (
            &[
                "sec-websocket-protocol: chat",
                "+sec-websocket-protocol: chat",
            ],
            RepeatedSubprotocol,
        ),
        (&["sec-websocket-extensions: x-other"], UnofferedExtension),
        (&["sec-websocket-extensions: x-trace;;"], BadExtensions),
        (&["sec-websocket-extensions: "], BadExtensions),
        (
            &["sec-websocket-extensions: x-trace, x-trace"],
            RepeatedExtension,
        ),
        (
            &[
                "sec-websocket-extensions: permessage-deflate",
                "+sec-websocket-extensions: permessage-deflate",
            ],
            RepeatedExtension,
        ),
    ];
    for (changes, why) in table {
        assert_eq!(offer().check(&response(changes)), Err(*why), "{changes:?}");
    }
    for parameters in [
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=08",
        "client_max_window_bits",
        "client_no_context_takeover=1",
        "server_no_context_takeover; server_no_context_takeover",
        "level=9",
    ] {
        let line = format!("sec-websocket-extensions: permessage-deflate; {parameters}");
        let answer = offer().check(&response(&[&line]));
        assert_eq!(answer, Err(DeflateParameters), "{parameters}");
    }
    for status in [200, 204, 403] {
        let mut parts = response(&[]);
        parts.status = StatusCode::from_u16(status).unwrap();
        assert_eq!(offer().check(&parts), Err(Status));
    }
    let mut parts = response(&[]);
    parts.version = Version::HTTP_10;
    assert_eq!(offer().check(&parts), Err(WrongVersion));
}
