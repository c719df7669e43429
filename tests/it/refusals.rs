//! Refusals of backends, routes and guards, and the request that a backend receives. `request_validation` has the
//! tables of hostile requests.

use crate::harness::{Backend, Lockgate, handshake, switching_protocols};

#[tokio::test]
async fn refusal_of_the_backend_is_forwarded_with_its_body() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let counted = |status: &str, fields: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let cases = [
        (401, counted("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\nX-Two: 1\r\nX-Two: 2\r\n", "who?")),
        (403, counted("403 Forbidden", "Content-Type: application/json\r\n", "{\"detail\":\"no\"}")),
        (404, counted("404 Not Found", "", "")),
        (302, counted("302 Found", "Location: /login\r\n", "")),
        (
            422,
            "HTTP/1.1 422 Unprocessable Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwhat\r\n1\r\n?\r\n0\r\n\r\n".into(),
        ),
        (503, counted("503 Service Unavailable", "Retry-After: 7\r\n", "later")),
    ];
    for (status, answer) in cases {
        let mut client = lockgate.upgrade("/", "").await;
        let mut server = backend.accept().await;
        server.head().await;
        server.send(&answer).await;

        let head = client.head().await;
        assert_eq!(head.status(), status);
        let (_, sent_body) = answer.split_once("\r\n\r\n").expect("a head");
        let sent_body = if status == 422 { "what?" } else { sent_body };
        assert_eq!(client.body(&head).await, sent_body.as_bytes(), "{status}");
        for line in answer
            .split("\r\n")
            .skip(1)
            .take_while(|line| !line.is_empty())
        {
            let (name, value) = line.split_once(": ").expect("a field");
            let passed = head.fields.iter().any(|(n, v)| n == name && v == value);
            assert!(
                passed || name == "Transfer-Encoding",
                "{status}: {line:?} not in {:?}",
                head.fields
            );
        }
        let record = lockgate.record(|record| record["status"] == status).await;
        assert_eq!(record["path"], "/", "{record}");
    }
}

#[tokio::test]
async fn handshake_is_rebuilt_for_the_backend() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let request = "GET /room%20one?a=%2F&b HTTP/1.1\r\nhOST: A.Test:8443\r\nX-dUP: 1\r\nx-dup: 2\r\nX-Bytes: \u{fc}\r\n\
        upgrade: WebSocket\r\nconnection: keep-alive, Upgrade, X-Drop, Cookie, Sec-WebSocket-Key\r\nX-Drop: 1\r\n\
        Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nCookie: a=1\r\nCookie: b=2\r\n\
        X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: evil.test\r\nX-Real-IP: 6.6.6.6\r\n\
        Forwarded: for=6.6.6.6\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
        sec-websocket-protocol: b, a\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits, x-other\r\n\r\n";
    let mut client = lockgate.request(request).await;
    let mut server = backend.accept().await;
    let seen = server.head().await;

    assert_eq!(seen.start, "GET /room%20one?a=%2F&b HTTP/1.1");
    let exactly = |name: &str| -> Vec<&str> {
        seen.fields
            .iter()
            .filter(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
            .collect()
    };
    // Lockgate's own fields have canonical case, forwarded fields keep the client's.
    assert_eq!(exactly("Host"), ["A.Test:8443"], "{seen:?}");
    assert_eq!(seen.all("host").len(), 1);
    assert_eq!(
        (exactly("X-dUP"), exactly("x-dup")),
        (vec!["1"], vec!["2"]),
        "{seen:?}"
    );
    assert_eq!(
        seen.get("x-bytes"),
        Some("\u{c3}\u{bc}"),
        "unchanged UTF-8, decoded here as Latin-1"
    );
    assert_eq!(
        (seen.all("upgrade"), seen.all("connection")),
        (vec!["websocket"], vec!["Upgrade"]),
        "{seen:?}"
    );
    assert_eq!(
        exactly("Sec-WebSocket-Key"),
        ["dGhlIHNhbXBsZSBub25jZQ=="],
        "{seen:?}"
    );
    assert_eq!(exactly("Sec-WebSocket-Version"), ["13"]);
    assert_eq!(exactly("Sec-WebSocket-Protocol"), ["b, a"]);
    assert_eq!(
        exactly("Sec-WebSocket-Extensions"),
        ["permessage-deflate; client_max_window_bits, x-other"]
    );
    assert_eq!(seen.all("cookie").join("; "), "a=1; b=2", "{seen:?}");
    for removed in ["x-drop", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(seen.get(removed), None, "{seen:?}");
    }
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.all("x-forwarded-host"), ["A.Test:8443"]);
    assert!(!format!("{seen:?}").contains("6.6.6.6"), "{seen:?}");

    server
        .send(switching_protocols(
            &seen,
            "Sec-WebSocket-Protocol: a\r\nX-From: backend\r\n",
        ))
        .await;
    let answer = client.head().await;
    assert_eq!(
        (answer.status(), answer.get("sec-websocket-protocol")),
        (101, Some("a"))
    );
    assert_eq!(answer.get("x-from"), Some("backend"));
    assert_eq!(answer.get("date"), None, "nothing is added to a 101");
}

#[tokio::test]
async fn unsupported_version_gets_426_with_version_13() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let request = handshake("/", "").replace("Version: 13", "Version: 8");
    let head = lockgate.request(request).await.head().await;
    assert_eq!(head.status(), 426);
    // RFC 6455 §4.4.
    assert_eq!(head.get("sec-websocket-version"), Some("13"));
    assert!(backend.untouched());
}

#[tokio::test]
async fn foreign_origin_gets_403_that_names_the_key() {
    let backend = Backend::listen().await;
    let to = format!("ws://{}", backend.address);
    let lockgate = Lockgate::with_flags(&["--to", &to, "--host", "a.test"])
        .start()
        .await;
    let mut evil = lockgate.upgrade("/", "Origin: https://evil.test\r\n").await;
    let head = evil.head().await;
    let body = String::from_utf8(evil.body(&head).await).expect("text");
    assert_eq!(head.status(), 403);
    assert!(body.contains("origins"), "{body:?}");
    assert!(backend.untouched());
}

#[tokio::test]
async fn origin_with_the_same_host_is_allowed_on_any_port() {
    let backend = Backend::echo().await;
    let to = format!("ws://{backend}");
    let lockgate = Lockgate::with_flags(&["--to", &to, "--host", "a.test"])
        .start()
        .await;
    for origin in ["https://a.test", "https://a.test:8443", "https://A.TEST"] {
        let mut client = lockgate
            .upgrade("/", &format!("Origin: {origin}\r\n"))
            .await;
        assert_eq!(client.head().await.status(), 101, "{origin}");
    }
}

#[tokio::test]
async fn missing_route_is_a_404_and_websocket_only_route_a_426() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with("path = \"/ws/*\"\nonly = \"websocket\"");
    let lockgate = setup.start().await;
    assert_eq!(
        lockgate.upgrade("/other", "").await.head().await.status(),
        404
    );
    assert_eq!(
        lockgate.upgrade("/wsx", "").await.head().await.status(),
        404,
        "prefixes end at a segment"
    );
    let mut plain = lockgate
        .request("GET /ws/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    assert_eq!(plain.head().await.status(), 426);
    assert!(backend.untouched());
}

#[tokio::test]
async fn deny_rule_applies_to_every_form_of_its_path() {
    let backend = Backend::listen().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
         [[routes]]\nname = \"admin\"\nhosts = [\"a.test\"]\npath = \"/admin/*\"\nto = \"ws://{0}\"\ndeny = [\"0.0.0.0/0\"]\n\
         [[routes]]\nname = \"site\"\nhosts = [\"a.test\"]\nto = \"ws://{0}\"\n",
        backend.address
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    for (path, status) in [
        ("/admin/x", 403),
        ("//admin/x", 403),
        ("/admin//x", 403),
        ("/./admin/x", 403),
        ("/%61dmin/x", 403),
        ("/site/../admin/x", 403),
        ("/admin%2Fx", 400),
        ("/%2Fadmin/x", 400),
        ("/admin%5Cx", 400),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let head = lockgate.request(request).await.head().await;
        assert_eq!(head.status(), status, "{path}");
    }
    assert!(backend.untouched());
}

#[tokio::test]
async fn header_fields_cannot_override_path_or_scheme() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    for twin in ["SCRIPT_NAME", "PATH_INFO"] {
        let request = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{twin}: /x\r\n\r\n");
        assert_eq!(
            lockgate.request(request).await.head().await.status(),
            400,
            "{twin}"
        );
    }
    let trace = "TRACE / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\n\r\n";
    assert_eq!(lockgate.request(trace).await.head().await.status(), 405);
    let _client = lockgate
        .request(
            "GET / HTTP/1.1\r\nHost: a.test\r\nScript-Name: /x\r\nX-Original-URL: /x\r\nX-Forwarded-Ssl: off\r\n\
             Proxy: http://evil.test\r\nX-Mine: 1\r\n\r\n",
        )
        .await;
    let seen = backend.accept().await.head().await;
    for name in ["script-name", "x-original-url", "x-forwarded-ssl", "proxy"] {
        assert_eq!(seen.get(name), None, "{name}");
    }
    assert_eq!(seen.get("x-mine"), Some("1"));
}
