//! Tokens where browsers can put them: what the backend gets, what the client is answered, and where a token never appears.

use crate::harness::{Backend, Frame, Lockgate, Program, Wire, switching_protocols};
use serde_json::Value;
use std::fmt::Write as _;

const RULE: &str = r#"token = { from = ["subprotocol:bearer", "query:token", "cookie:session"] }"#;
/// What must be nowhere but in one header of one request.
const SECRET: &str = "s3cr3t.t0k-n";

/// The request line, what the backend gets, and what the client is answered.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static str,
);

#[tokio::test]
async fn a_handshake_has_its_token_in_one_place() {
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
    for (target, more, expected, answered) in rows {
        let mut client = lockgate.upgrade(target, more).await;
        let seen = hands(&backend).await;
        let told = |name: &str| {
            seen.all(name)
                .iter()
                .map(|v| format!("{name}: {v}"))
                .collect()
        };
        let all: Vec<Vec<String>> = ["cookie", "sec-websocket-protocol"].map(told).into();
        let all = [vec![seen.start.clone()], all.concat()].concat();
        assert_eq!(all, expected, "{target} {more}");
        assert_eq!(seen.all("authorization"), ["Bearer T"], "{target} {more}");
        let head = client.head().await;
        assert_eq!(head.status(), 101);
        assert_eq!(
            head.all("sec-websocket-protocol").concat(),
            answered,
            "{more}"
        );
        if !answered.is_empty() {
            let named = answered.split('.').next();
            lockgate
                .record(|it| it["event"] == "open" && it["subprotocol"].as_str() == named)
                .await;
        }
    }
}

#[tokio::test]
async fn over_http_2_as_well() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).with(RULE).start().await;
    let mut client = lockgate.h2().await;
    for (target, more, answered) in [
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
            tokio::join!(client.websocket(target, more), hands(&backend));
        assert_eq!(answer.status(), 200);
        let chosen = answer.headers().get("sec-websocket-protocol");
        assert_eq!(
            chosen.map(|chosen| chosen.to_str().expect("ASCII")),
            answered
        );
        assert_eq!(seen.start, "GET /?x HTTP/1.1");
        assert_eq!(seen.all("authorization"), ["Bearer T"]);
        assert_eq!(seen.all("cookie"), ["a=1; b=2"]);
        assert_eq!(seen.get("sec-websocket-protocol"), None);
    }
}

/// A bearer is taken for a page's own doing, and a cookie comes along from any page.
#[tokio::test]
async fn plain_requests_too_but_no_cookie_of_another_origin() {
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
        let ask =
            format!("POST {target} HTTP/1.1\r\nHost: a.test\r\n{more}Content-Length: 0\r\n\r\n");
        let mut client = lockgate.request(ask).await;
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

#[tokio::test]
async fn it_is_in_no_log_no_metric_and_no_explanation() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with(RULE);
    let setup = setup.env("RUST_LOG", "lockgate=trace");
    let mut lockgate = setup.start().await;
    let mut said = String::new();
    let mut held: Vec<(Wire, Wire)> = vec![];
    for (target, more) in places() {
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
        said,
        "{}{}",
        lockgate.status().await,
        lockgate.metrics().await
    )
    .expect("a string");
    said.push_str(&lockgate.tell(&["status"]).await.1);
    // Refused: by us, and where the backend breaks off or is not there at all.
    for (target, more) in places() {
        let conflict = format!("{more}Authorization: Bearer other\r\n");
        let mut client = lockgate.upgrade(&target, &conflict).await;
        said.push_str(&refused(&mut client, 400).await);
        let mut client = lockgate.upgrade(&target, &more).await;
        drop(backend.accept().await);
        said.push_str(&refused(&mut client, 502).await);
    }
    let illegal = format!("/?token={SECRET}%20x");
    said.push_str(&refused(&mut lockgate.upgrade(&illegal, "").await, 400).await);
    drop(backend);
    let (target, more) = places().remove(0);
    said.push_str(&refused(&mut lockgate.upgrade(&target, &more).await, 502).await);
    drop(held);
    let opened = lockgate.records().into_iter();
    let opened = opened.filter(|record| record["event"] == "open");
    for open in opened {
        lockgate
            .record(|it| it["event"] == "close" && it["id"] == open["id"])
            .await;
    }
    for (target, more) in places() {
        let url = format!("wss://a.test{target}");
        let mut ask = vec!["explain", "--config", "config.toml", &url];
        let offered = more
            .strip_prefix("Sec-WebSocket-Protocol: ")
            .map(str::trim_end);
        match offered {
            Some(offered) => offered
                .split(", ")
                .for_each(|one| ask.extend(["--protocol", one])),
            None if !more.is_empty() => ask.extend(["--header", more.trim_end()]),
            None => {}
        }
        for json in [false, true] {
            let mut ask = ask.clone();
            ask.extend(json.then_some("--json"));
            let told = Lockgate::run(lockgate.folder(), &ask).await;
            let told = String::from_utf8_lossy(&told.stdout).into_owned();
            assert!(told.contains("Bearer [redacted]"), "{told}");
            assert!(told.contains("moved from "), "{told}");
            said.push_str(&told);
        }
    }
    lockgate.terminate();
    lockgate.exit().await;
    write!(said, "{:?}{}", lockgate.records(), lockgate.stderr()).expect("a string");
    assert!(
        said.contains("token-conflict") && said.contains("\"dial\""),
        "{said}"
    );
    assert!(!said.contains(SECRET), "{said}");
    assert!(!said.contains(ENCODED), "{said}");
}

#[tokio::test]
async fn a_server_in_python_finds_it_in_its_header() {
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

/// A request for each place.
fn places() -> Vec<(String, String)> {
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

/// The status of a refusal, and all that the client is told.
async fn refused(client: &mut Wire, status: u16) -> String {
    let head = client.head().await;
    assert_eq!(head.status(), status, "{head:?}");
    let body = client.body(&head).await;
    format!("{head:?}{}", String::from_utf8_lossy(&body))
}

/// Answers the next handshake with `v1`, if that is offered.
async fn hands(backend: &Backend) -> crate::harness::Head {
    let mut wire = backend.accept().await;
    let head = wire.head().await;
    let chosen = match head.get("sec-websocket-protocol") {
        Some("v1") => "Sec-WebSocket-Protocol: v1\r\n",
        _ => "",
    };
    wire.send(switching_protocols(&head, chosen)).await;
    head
}

/// The secret as a query may have it.
const ENCODED: &str = "%733cr3t.t0k-n";
