use crate::config;
use crate::{http::token::*, proto::frame_tracker, router::framework};

/// The result of moving a request's token.
struct Sent {
    target: String,
    headers: HeaderMap,
    offered: Vec<Box<str>>,
    extracted: ExtractedToken,
}

impl Sent {
    fn header(&self, name: &str) -> Vec<&str> {
        let all = self.headers.get_all(name).iter();
        all.map(|value| value.to_str().unwrap()).collect()
    }
}

fn extract(
    rule: &str,
    target: &str,
    headers: &[(&str, &str)],
    subprotocols: Option<&str>,
) -> Result<Sent, Refusal> {
    let rule: Token = toml::from_str(rule).unwrap();
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        all.append(name, value.parse().unwrap());
    }
    if let Some(offered) = subprotocols.filter(|offered| !offered.is_empty()) {
        all.insert(header::SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap());
    }
    let mut target = target.parse().unwrap();
    let mut offer = subprotocols.map(|offered| Offer {
        key: "".into(),
        subprotocols: offered
            .split(", ")
            .filter(|one| !one.is_empty())
            .map(Into::into)
            .collect(),
        extensions: vec![],
        lacks_connection: false,
    });
    let extracted = relocate_token(&rule, &mut target, &mut all, offer.as_mut())?;
    Ok(Sent {
        target: target.to_string(),
        headers: all,
        offered: offer.map_or_else(Vec::new, |offer| offer.subprotocols),
        extracted,
    })
}

const ALL: &str = r#"from = ["subprotocol:bearer", "query:token", "cookie:session"]"#;

#[test]
fn tokens_in_subprotocols() {
    // offered, what the backend is offered, the token, what the client is answered
    for (offered, left, token, echo) in [
        ("bearer, T", "", Some("T"), Some("bearer")),
        ("v1, bearer, T, v2", "v1, v2", Some("T"), Some("bearer")),
        ("bearer.T", "", Some("T"), Some("bearer.T")),
        (
            "v1, bearer.a.b.c",
            "v1",
            Some("a.b.c"),
            Some("bearer.a.b.c"),
        ),
        ("bearer, bearer.T", "", Some("T"), Some("bearer")),
        ("bearer.T, bearer", "", Some("T"), Some("bearer")),
        ("v1, bearer", "v1", None, Some("bearer")),
        ("bearer.", "", None, Some("bearer.")),
        ("v1, bearers, Bearer", "v1, bearers, Bearer", None, None),
        ("", "", None, None),
    ] {
        let sent = extract(ALL, "/", &[], Some(offered)).unwrap();
        assert_eq!(sent.offered.join(", "), left, "{offered}");
        let line = sent.header("sec-websocket-protocol").concat();
        assert_eq!(line, left, "{offered}");
        let token = token.map(|token| format!("Bearer {token}"));
        assert_eq!(
            sent.header("authorization"),
            Vec::from_iter(token.as_deref()),
            "{offered}"
        );
        let (mut agreed, mut headers) = (agreed(None), HeaderMap::new());
        sent.extracted.select_echo(&mut agreed, &mut headers);
        let answered = headers.get("sec-websocket-protocol");
        assert_eq!(
            answered.map(|value| value.to_str().unwrap()),
            echo,
            "{offered}"
        );
        assert_eq!(
            agreed.subprotocol.as_deref(),
            echo.map(|_| "bearer"),
            "{offered}"
        );
    }
}

#[test]
fn subprotocol_selected_by_backend_is_kept() {
    let sent = extract(ALL, "/", &[], Some("v1, bearer, T")).unwrap();
    let (mut agreed, mut headers) = (agreed(Some("v1")), HeaderMap::new());
    sent.extracted.select_echo(&mut agreed, &mut headers);
    assert_eq!(agreed.subprotocol.as_deref(), Some("v1"));
    assert!(headers.is_empty());
}

#[test]
fn base64url_subprotocol_is_decoded() {
    const K8S: &str = "base64url.bearer.authorization.k8s.io";
    let rule = format!("from = [\"subprotocol:{K8S}\"]");
    for (offered, token) in [
        (
            format!("v4.channel.k8s.io, {K8S}.YS9iPT0"),
            Some("Bearer a/b=="),
        ),
        (format!("{K8S}, YS9iPT0"), Some("Bearer a/b==")),
        (format!("{K8S}.YSBi"), None),
        (format!("{K8S}.YQ0KYg"), None),
        (format!("{K8S}.!"), None),
    ] {
        let sent = extract(&rule, "/", &[], Some(&offered));
        assert_eq!(sent.is_ok(), token.is_some(), "{offered}");
        if let (Ok(sent), Some(token)) = (sent, token) {
            assert_eq!(sent.header("authorization"), [token]);
        }
    }
}

#[test]
fn tokens_in_queries() {
    for (target, left, token) in [
        ("/ws?token=T", "/ws", Some("T")),
        ("/?a=%20+&token=T&b=%2f", "/?a=%20+&b=%2f", Some("T")),
        ("/?token=a%2Bb%2f+c%3D=", "/", Some("a+b/+c==")),
        ("/?%74oken=T&a", "/?a", Some("T")),
        ("/?token=T&token=T&&x", "/?&x", Some("T")),
        ("/?token=&token", "/", None),
        ("/?tokens=T&Token=T", "/?tokens=T&Token=T", None),
        ("/?", "/?", None),
        ("/?x=token=T", "/?x=token=T", None),
    ] {
        let sent = extract(ALL, target, &[], None).unwrap();
        assert_eq!(sent.target, left, "{target}");
        let token = token.map(|token| format!("Bearer {token}"));
        assert_eq!(
            sent.header("authorization"),
            Vec::from_iter(token.as_deref()),
            "{target}"
        );
    }
}

#[test]
fn tokens_in_cookies() {
    for (lines, left, token) in [
        (&["session=T"][..], &[][..], Some("T")),
        (&["a=1; session=T;  b=\"2\""], &["a=1;  b=\"2\""], Some("T")),
        (&["session=T; b=2", "c=3;d"], &["b=2", "c=3;d"], Some("T")),
        (&["a=1", "session=\"T=\""], &["a=1"], Some("T=")),
        (
            &["session=; sessions=T; session"],
            &["sessions=T; session"],
            None,
        ),
    ] {
        let headers: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
        let sent = extract(ALL, "/", &headers, None).unwrap();
        assert_eq!(sent.header("cookie"), left, "{lines:?}");
        let token = token.map(|token| format!("Bearer {token}"));
        assert_eq!(
            sent.header("authorization"),
            Vec::from_iter(token.as_deref()),
            "{lines:?}"
        );
        assert_eq!(sent.extracted.is_ambient(), token.is_some());
    }
}

#[test]
fn first_source_wins_and_every_source_is_cleaned() {
    let headers = [("cookie", "session=C"), ("x-key", "own")];
    let sent = extract(ALL, "/?token=Q", &headers, Some("bearer, S")).unwrap();
    assert_eq!(sent.header("authorization"), ["Bearer S"]);
    assert_eq!(
        (&*sent.target, sent.headers.len()),
        ("/", 2),
        "{:?}",
        sent.headers
    );
    assert!(format!("{:?}", sent.headers).contains("Sensitive"));
    assert!(sent.headers["authorization"].is_sensitive());
    // Without a handshake there are no subprotocols, and no list of them is forwarded.
    let list = [("sec-websocket-protocol", "bearer, S")];
    let sent = extract(ALL, "/?token=Q", &list, None).unwrap();
    assert_eq!(sent.header("authorization"), ["Bearer Q"]);
    assert_eq!(sent.headers.len(), 1);
    let rule = r#"from = ["cookie:session", "query:token"]
        to = "x-key""#;
    let sent = extract(rule, "/?token=Q", &[("cookie", "session=C")], None).unwrap();
    assert_eq!(sent.header("x-key"), ["C"]);
    assert_eq!(sent.headers.len(), 1);
}

#[test]
fn header_of_the_client_must_match_the_token() {
    let own = |own| [("authorization", own)];
    // Without a token it is forwarded unchanged, and is a secret.
    let sent = extract(ALL, "/", &own("Basic eDp5"), None).unwrap();
    assert_eq!(sent.header("authorization"), ["Basic eDp5"]);
    assert!(sent.headers["authorization"].is_sensitive());
    assert!(extract(ALL, "/?token=T", &own("Bearer T"), None).is_ok());
    for other in ["Basic eDp5", "Bearer U", "T"] {
        let refusal = extract(ALL, "/?token=T", &own(other), None).err().unwrap();
        assert_eq!(refusal.why.as_str(), "token-conflict");
    }
    let rule = r#"from = ["query:token"]
        to = "x-key""#;
    for name in ["x_key", "x-key"] {
        assert!(
            extract(rule, "/?token=T", &[(name, "U")], None).is_err(),
            "{name}"
        );
    }
}

#[test]
fn ambiguous_or_invalid_token_is_refused_and_not_quoted() {
    for (target, cookie, subprotocols) in [
        ("/?token=LEAK&token=b", "x", None),
        ("/?token=LEAK%20b", "x", None),
        ("/?token=LEAK%0d%0aX:y", "x", None),
        ("/?token=LEAK,b", "x", None),
        ("/?token=LEAK%C3%A4", "x", None),
        ("/?token=%ffLEAK%00", "x", None),
        ("/", "session=LEAK; session=b", None),
        ("/", "session=LEAK b", None),
        ("/", "x", Some("bearer, LEAK, bearer.b")),
    ] {
        let refusal = extract(ALL, target, &[("cookie", cookie)], subprotocols).err();
        let refusal = refusal.expect(target);
        assert_eq!(
            (refusal.status, refusal.why.as_str()),
            (StatusCode::BAD_REQUEST, "token")
        );
        assert!(!format!("{refusal:?}").contains("LEAK"), "{refusal:?}");
    }
}

/// Headers that we set, that frame a request or that are for one hop cannot be overwritten by a client's token.
#[test]
fn managed_headers_are_no_token_target() {
    use crate::http::{rewrite, validate};
    let ours = validate::MANAGED
        .iter()
        .chain(&rewrite::HOP_BY_HOP)
        .chain(&rewrite::PROTECTED);
    for name in ours.chain(&framework::TRUSTED_BY_BACKENDS) {
        let taken = name
            .parse::<config::values::selector::TokenHeader>()
            .is_err();
        assert_eq!(taken, *name != "authorization", "{name}");
    }
}

fn agreed(subprotocol: Option<&str>) -> Negotiated {
    Negotiated {
        subprotocol: subprotocol.map(Into::into),
        extensions: None,
        reserved: frame_tracker::RsvBits::None,
    }
}
