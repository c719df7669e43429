//! Tokens in a subprotocol, query or cookie: the header that the backend receives, the response, and that no log has
//! the token.

use crate::harness::{Backend, Frame, Lockgate, Program, Wire, switching_protocols};
use serde_json::Value;
use std::fmt::Write as _;

const RULE: &str = r#"token = { from = ["subprotocol:bearer", "query:token", "cookie:session"] }"#;
/// The token; only the header of the request to the backend may contain it.
const SECRET: &str = "s3cr3t.t0k-n";

/// Request target, further header lines, the request at the backend, and the subprotocol in the response.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
);

#[tokio::test]
async fn token_of_a_handshake_is_moved_into_the_authorization_header() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).with(RULE).start().await;
    let rows: [Row; 7] = [
        ("/a?x=%20+&token=T&y", "", &["GET /a?x=%20+&y HTTP/1.1"], ""),
        ("/a?token=T", "", &["GET /a HTTP/1.1"], ""),
        (
            "/a",
            "Cookie: a=1; session=T; b=\"2\"\r\n",
            &["GET /a HTTP/1.1", "cookie: a=1; b=\"2\""],
            "",
        ),
        (
            "/a",
            "Sec-WebSocket-Protocol: bearer, T\r\n",
            &["GET /a HTTP/1.1"],
            "bearer",
        ),
        (
            "/a",
            "Sec-WebSocket-Protocol: v9, bearer.T\r\n",
            &["GET /a HTTP/1.1", "sec-websocket-protocol: v9"],
            "bearer.T",
        ),
        (
            "/a?token=U",
            "Sec-WebSocket-Protocol: v1, bearer\r\nSec-WebSocket-Protocol: T\r\nCookie: session=V\r\n",
            &["GET /a HTTP/1.1", "sec-websocket-protocol: v1"],
            "v1",
        ),
        (
            "/a?token=T",
            "Authorization: Bearer T\r\n",
            &["GET /a HTTP/1.1"],
            "",
        ),
    ];
    for (target, more, expected, subprotocol) in rows {
        let mut client = lockgate.upgrade(target, more).await;
        let seen = accept_handshake(&backend).await;
        let lines = |name: &str| {
            seen.all(name)
                .iter()
                .map(|v| format!("{name}: {v}"))
                .collect()
        };
        let all: Vec<Vec<String>> = ["cookie", "sec-websocket-protocol"].map(lines).into();
        let all = [vec![seen.start.clone()], all.concat()].concat();
        assert_eq!(all, expected, "{target} {more}");
        assert_eq!(seen.all("authorization"), ["Bearer T"], "{target} {more}");
        let head = client.head().await;
        assert_eq!(head.status(), 101);
        assert_eq!(
            head.all("sec-websocket-protocol").concat(),
            subprotocol,
            "{more}"
        );
        if !subprotocol.is_empty() {
            let named = subprotocol.split('.').next();
            lockgate
                .record(|it| it["event"] == "open" && it["subprotocol"].as_str() == named)
                .await;
        }
    }
}

#[tokio::test]
async fn token_is_moved_over_http2() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).with(RULE).start().await;
    let mut client = lockgate.h2().await;
    for (target, more, subprotocol) in [
        (
            "/?token=T&x",
            &[("cookie", "a=1"), ("cookie", "b=2")][..],
            None,
        ),
        (
            "/?x",
            &[
                ("cookie", "a=1"),
                ("cookie", "session=T"),
                ("cookie", "b=2"),
            ],
            None,
        ),
        (
            "/?x",
            &[
                ("sec-websocket-protocol", "bearer, T"),
                ("cookie", "a=1; b=2"),
            ],
            Some("bearer"),
        ),
    ] {
        let ((answer, _session), seen) =
            tokio::join!(client.websocket(target, more), accept_handshake(&backend));
        assert_eq!(answer.status(), 200);
        let chosen = answer.headers().get("sec-websocket-protocol");
        assert_eq!(
            chosen.map(|chosen| chosen.to_str().expect("ASCII")),
            subprotocol
        );
        assert_eq!(seen.start, "GET /?x HTTP/1.1");
        assert_eq!(seen.all("authorization"), ["Bearer T"]);
        assert_eq!(seen.all("cookie"), ["a=1; b=2"]);
        assert_eq!(seen.get("sec-websocket-protocol"), None);
    }
}

/// Browsers attach cookies to requests of any page, so that a cookie counts only from an allowed origin.
#[tokio::test]
async fn plain_request_with_cookie_of_another_origin_is_refused() {
    let backend = Backend::listen().await;
    let file = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
         [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\n{}",
        backend.address,
        RULE.replace("] }", "], to = \"X-Auth-Token\" }")
    );
    let lockgate = Lockgate::with_file(&file).start().await;
    for (target, more, status) in [
        ("/p?token=T", "", 200),
        ("/p", "Cookie: session=T\r\n", 200),
        ("/p", "Cookie: session=T\r\nOrigin: https://a.test\r\n", 200),
        ("/p?token=T", "Origin: https://b.test\r\n", 200),
        ("/p", "Cookie: session=T\r\nOrigin: https://b.test\r\n", 403),
        ("/p?token=T", "X-Auth-Token: U\r\n", 400),
        ("/p?token=T", "X_Auth_Token: T\r\n", 400),
        ("/p?token=T&token=U", "", 400),
        ("/p?token=a%0d%0aX-Admin:1", "", 400),
    ] {
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: a.test\r\n{more}Content-Length: 0\r\n\r\n");
        let mut client = lockgate.request(request).await;
        if status == 200 {
            let mut server = backend.accept().await;
            let seen = server.head().await;
            assert_eq!(seen.start, "POST /p HTTP/1.1");
            assert_eq!(seen.all("x-auth-token"), ["T"], "{target} {more}");
            assert_eq!(
                (seen.get("cookie"), seen.get("authorization")),
                (None, None)
            );
            server
                .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
        assert_eq!(client.head().await.status(), status, "{target} {more}");
    }
}

/// Browsers send no Origin with a GET for a script or picture, but Sec-Fetch-Site (W3C Fetch Metadata).
#[tokio::test]
async fn plain_request_with_cookie_from_another_site_without_origin_is_refused() {
    let script = "Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n";
    let link = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let frame = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n";
    let cross = "Sec-Fetch-Site: cross-site\r\n";
    let same_site = "Sec-Fetch-Site: same-site\r\n";
    let allowed = "Origin: https://b.test\r\n";
    let rows: [(&str, &str, &[&str], u16); 17] = [
        ("GET", "cookie", &[], 200),
        (
            "GET",
            "cookie",
            &["Sec-Fetch-Site: same-origin\r\n", script],
            200,
        ),
        ("GET", "cookie", &["Sec-Fetch-Site: none\r\n", link], 200),
        ("GET", "cookie", &[cross, script], 403),
        ("GET", "cookie", &[same_site, script], 403),
        (
            "GET",
            "cookie",
            &["Sec-Fetch-Site: unknown\r\n", script],
            403,
        ),
        (
            "GET",
            "cookie",
            &["Sec-Fetch-Site: none\r\n", cross, script],
            403,
        ),
        ("GET", "cookie", &[cross], 403),
        ("HEAD", "cookie", &[cross, script], 403),
        ("GET", "cookie", &[cross, frame], 403),
        ("GET", "cookie", &[cross, link], 200),
        ("GET", "cookie", &[same_site, link], 200),
        ("HEAD", "cookie", &[cross, link], 403),
        ("POST", "cookie", &[cross, link], 403),
        ("GET", "cookie", &[cross, script, allowed], 200),
        ("GET", "query", &[cross, script], 200),
        ("GET", "no", &[cross, script], 200),
    ];
    for origins in ["origins = [\"https://b.test\"]", "origins = [\"*\"]"] {
        let backend = Backend::listen().await;
        let file = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{}\"\n{RULE}\n{origins}\n",
            backend.address
        );
        let lockgate = Lockgate::with_file(&file).start().await;
        for (method, token, more, status) in rows {
            let more = more.concat();
            let case = format!("{origins} {method} {token} {more}");
            let (target, cookie) = match token {
                "cookie" => ("/p", "Cookie: session=T\r\n"),
                "query" => ("/p?token=T", ""),
                _ => ("/p", ""),
            };
            let status = if origins.contains('*') { 200 } else { status };
            let mut client = lockgate
                .request(format!(
                    "{method} {target} HTTP/1.1\r\nHost: a.test\r\n{cookie}{more}Content-Length: 0\r\n\r\n"
                ))
                .await;
            if status == 200 {
                let mut server = backend.accept().await;
                let expected = if token == "no" {
                    &[][..]
                } else {
                    &["Bearer T"]
                };
                assert_eq!(server.head().await.all("authorization"), expected, "{case}");
                server
                    .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await;
            }
            assert_eq!(client.head().await.status(), status, "{case}");
        }
        if !origins.contains('*') {
            lockgate.record(|record| record["why"] == "origin").await;
        }
    }
}

#[tokio::test]
async fn token_appears_in_no_log_metric_or_explanation() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with(RULE);
    let setup = setup.env("RUST_LOG", "lockgate=trace");
    let mut lockgate = setup.start().await;
    let mut written = String::new();
    let mut held: Vec<(Wire, Wire)> = vec![];
    for (target, more) in requests_with_token() {
        let mut client = lockgate.upgrade(&target, &more).await;
        let (mut server, seen) = backend.accept_session().await;
        assert_eq!(seen.all("authorization"), [format!("Bearer {SECRET}")]);
        assert_eq!(format!("{seen:?}").matches(SECRET).count(), 1, "{seen:?}");
        assert_eq!(client.head().await.status(), 101);
        client.send_frame(Frame::text("hello")).await;
        assert_eq!(server.text().await, "hello");
        held.push((client, server));
    }
    write!(
        written,
        "{}{}",
        lockgate.status().await,
        lockgate.metrics().await
    )
    .expect("a string");
    written.push_str(&lockgate.command(&["status"]).await.1);
    // Refusals: by Lockgate, when the backend closes the connection, and when it does not listen.
    for (target, more) in requests_with_token() {
        let conflict = format!("{more}Authorization: Bearer other\r\n");
        let mut client = lockgate.upgrade(&target, &conflict).await;
        written.push_str(&refused(&mut client, 400).await);
        let mut client = lockgate.upgrade(&target, &more).await;
        drop(backend.accept().await);
        written.push_str(&refused(&mut client, 502).await);
    }
    let illegal = format!("/?token={SECRET}%20x");
    written.push_str(&refused(&mut lockgate.upgrade(&illegal, "").await, 400).await);
    drop(backend);
    let (target, more) = requests_with_token().remove(0);
    written.push_str(&refused(&mut lockgate.upgrade(&target, &more).await, 502).await);
    drop(held);
    let opened = lockgate.records().into_iter();
    let opened = opened.filter(|record| record["event"] == "open");
    for open in opened {
        lockgate
            .record(|it| it["event"] == "close" && it["id"] == open["id"])
            .await;
    }
    for (target, more) in requests_with_token() {
        let url = format!("wss://a.test{target}");
        let mut arguments = vec!["explain", "--config", "config.toml", &url];
        let offered = more
            .strip_prefix("Sec-WebSocket-Protocol: ")
            .map(str::trim_end);
        match offered {
            Some(offered) => offered
                .split(", ")
                .for_each(|one| arguments.extend(["--protocol", one])),
            None if !more.is_empty() => arguments.extend(["--header", more.trim_end()]),
            None => {}
        }
        for json in [false, true] {
            let mut arguments = arguments.clone();
            arguments.extend(json.then_some("--json"));
            let explained = Lockgate::run(lockgate.folder(), &arguments).await;
            let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
            assert!(explained.contains("Bearer [redacted]"), "{explained}");
            assert!(explained.contains("moved from "), "{explained}");
            written.push_str(&explained);
        }
    }
    lockgate.terminate();
    lockgate.exit().await;
    write!(written, "{:?}{}", lockgate.records(), lockgate.stderr()).expect("a string");
    assert!(
        written.contains("token-conflict") && written.contains("\"dial\""),
        "{written}"
    );
    assert!(!written.contains(SECRET), "{written}");
    assert!(!written.contains(ENCODED), "{written}");
}

#[tokio::test]
async fn python_server_receives_the_token_in_its_header() {
    let (_server, address) = Program::server("websockets_echo.py").await;
    let lockgate = Lockgate::to(address).with(RULE).start().await;
    for (target, more, chosen) in [
        ("/headers?token=T", "", ""),
        ("/headers", "Cookie: session=T\r\n", ""),
        (
            "/headers",
            "Sec-WebSocket-Protocol: bearer, T\r\n",
            "bearer",
        ),
        (
            "/headers",
            "Sec-WebSocket-Protocol: bearer, T, chat.v1\r\n",
            "chat.v1",
        ),
    ] {
        let mut client = lockgate.upgrade(target, more).await;
        let head = client.head().await;
        assert_eq!(head.status(), 101);
        assert_eq!(head.all("sec-websocket-protocol").concat(), chosen);
        let seen = client.text().await;
        let seen: Value = serde_json::from_str(&seen).expect("JSON");
        let fields = seen["headers"].as_array().expect("a list").iter();
        let own: Vec<_> = fields.filter(|field| field[0] == "authorization").collect();
        assert_eq!(own, [&serde_json::json!(["authorization", "Bearer T"])]);
        assert_eq!(seen["query"], "");
    }
}

/// Target and header lines of one request per source of the token.
fn requests_with_token() -> Vec<(String, String)> {
    vec![
        (
            "/".into(),
            format!("Sec-WebSocket-Protocol: v1, bearer, {SECRET}\r\n"),
        ),
        (
            "/".into(),
            format!("Sec-WebSocket-Protocol: bearer.{SECRET}, bearer\r\n"),
        ),
        (format!("/?a=b&token={ENCODED}"), String::new()),
        ("/".into(), format!("Cookie: session={SECRET}; a=b\r\n")),
    ]
}

/// Checks the status of a refusal; returns its head and body.
async fn refused(client: &mut Wire, status: u16) -> String {
    let head = client.head().await;
    assert_eq!(head.status(), status, "{head:?}");
    let body = client.body(&head).await;
    format!("{head:?}{}", String::from_utf8_lossy(&body))
}

/// Answers the next handshake with `v1`, if that is offered.
async fn accept_handshake(backend: &Backend) -> crate::harness::Head {
    let mut wire = backend.accept().await;
    let head = wire.head().await;
    let chosen = match head.get("sec-websocket-protocol") {
        Some("v1") => "Sec-WebSocket-Protocol: v1\r\n",
        _ => "",
    };
    wire.send(switching_protocols(&head, chosen)).await;
    head
}

/// The token, percent-encoded.
const ENCODED: &str = "%733cr3t.t0k-n";
