//! Guards for JSON Web Tokens: which requests are admitted, what the backend receives, how sessions end with their
//! token, how a newer token extends them, and how key sets are fetched.

mod config;
mod hostile;
mod issuers;
mod refresh;

use crate::harness::{
    Backend, Issuer, Lockgate, Setup, Wire,
    issuer::{Behaviour, SigningKey, now},
    switching_protocols,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Lockgate with one route that lists the guard `login`.
fn guarded(backend: &Backend, guard: &str) -> Setup {
    Lockgate::to(backend.address)
        .with("guards = [\"login\"]\ntoken = { from = [\"query:token\", \"cookie:session\", \"subprotocol:bearer\"] }")
        .with(guard)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Opens a session with this token, and returns both ends.
async fn open(lockgate: &Lockgate, backend: &Backend, token: &str) -> (Wire, Wire) {
    let mut client = lockgate.upgrade("/ws", &bearer(token)).await;
    let (server, _) = backend.accept_session().await;
    assert_eq!(client.head().await.status(), 101);
    (client, server)
}

#[tokio::test]
async fn valid_token_opens_a_session_and_its_claims_reach_the_backend_and_the_log() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    let guard = issuer.guard(
        "headers = { x-user = \"sub\", x-roles = \"realm.roles\", x-admin = \"admin\", x-none = \"none\" }\nrequired = { scope = \"chat\" }",
    );
    let lockgate = guarded(&backend, &guard).start().await;
    let mut claims = issuer.claims("anna", 600);
    claims["scope"] = json!("profile chat");
    claims["realm"] = json!({ "roles": ["a"] });
    claims["admin"] = json!(true);
    let token = issuer.sign(claims);
    let mut open_sessions = Vec::new();
    let forged = "X-User: eve\r\nX_User: eve\r\nx-none: eve\r\nX-Other: kept\r\n";
    for more in [
        bearer(&token),
        format!("Cookie: session={token}\r\n"),
        format!("Sec-WebSocket-Protocol: bearer, {token}\r\n"),
        format!("{}Cookie: session={token}\r\n", bearer(&token)),
    ] {
        let mut client = lockgate.upgrade("/ws", &format!("{more}{forged}")).await;
        let (server, head) = backend.accept_session().await;
        assert_eq!(client.head().await.status(), 101, "{more}");
        open_sessions.push((client, server));
        assert_eq!(head.all("x-user"), ["anna"]);
        assert_eq!(head.all("x-roles"), ["WyJhIl0"]);
        assert_eq!(head.all("x-admin"), ["true"]);
        assert_eq!(head.all("x-other"), ["kept"]);
        assert!(head.all("x-none").is_empty() && head.all("x_user").is_empty());
    }
    let opened = lockgate.record(|it| it["event"] == "open").await;
    assert_eq!(opened["subject"], "anna");
    let (ok, listed) = lockgate
        .command(&["sessions", "--json", "--subject", "anna"])
        .await;
    assert!(ok && listed.contains("\"subject\":\"anna\""), "{listed}");
    let (ok, listed) = lockgate.command(&["sessions", "--subject", "eve"]).await;
    assert!(ok && listed.contains("no sessions"), "{listed}");
    let (ok, closed) = lockgate.command(&["kick", "--subject", "anna"]).await;
    assert!(ok, "{closed}");
    let end = lockgate.closed().await;
    assert_eq!(
        (&end["subject"], &end["by"]),
        (&json!("anna"), &json!("operator"))
    );
    assert!(!lockgate.stderr().contains(&token));
}

#[tokio::test]
async fn request_without_a_valid_token_is_refused_and_reaches_no_backend() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    let guard = issuer.guard("required = { scope = \"chat\" }\nheaders = { x-user = \"sub\" }");
    let lockgate = guarded(&backend, &guard).start().await;
    let changed = |name: &str, value: serde_json::Value| {
        let mut claims = issuer.claims("anna", 600);
        claims["scope"] = json!("chat");
        claims[name] = value;
        issuer.sign(claims)
    };
    let rows = [
        (String::new(), 401, "Bearer"),
        (bearer("x"), 401, "invalid_token"),
        (
            bearer(&changed("exp", json!(now() - 31))),
            401,
            "has expired",
        ),
        (
            bearer(&changed("nbf", json!(now() + 60))),
            401,
            "not valid yet",
        ),
        (
            bearer(&changed("aud", json!("other"))),
            401,
            "another audience",
        ),
        (
            bearer(&changed("iss", json!("http://other"))),
            401,
            "another issuer",
        ),
        (
            bearer(&changed("scope", json!("profile"))),
            403,
            "insufficient_scope",
        ),
        (bearer(&changed("sub", json!("anna\u{e9}"))), 403, ""),
        (
            format!(
                "{}Cookie: session={}\r\n",
                bearer(&changed("a", json!(1))),
                changed("a", json!(2))
            ),
            400,
            "",
        ),
        ("Authorization: Basic YTpi\r\n".to_owned(), 401, "Bearer"),
    ];
    for (more, status, challenge) in rows {
        for request in [
            lockgate.upgrade("/ws", &more).await,
            lockgate
                .request(format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{more}\r\n"))
                .await,
        ] {
            let mut request = request;
            let head = request.head().await;
            assert_eq!(head.status(), status, "{more} {head:?}");
            let found = head.get("www-authenticate").unwrap_or_default();
            assert!(found.contains(challenge), "{more} {found}");
        }
    }
    lockgate
        .record(|it| it["event"] == "request" && it["why"] == "jwt" && it["status"] == 401)
        .await;
    assert!(backend.untouched());
}

#[tokio::test]
async fn session_is_closed_when_its_token_expires_and_one_that_ignores_the_expiry_stays() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    let guard = format!(
        "{}[[routes]]\nname = \"kept\"\nhosts = [\"a.test\"]\npath = \"/kept\"\nto = \"ws://{}\"\nguards = [\"once\"]\n{}",
        issuer.guard("leeway = \"0s\"\nclose_code = 3000"),
        backend.address,
        issuer
            .guard("leeway = \"0s\"\non_expiry = \"ignore\"")
            .replace("login", "once"),
    );
    let lockgate = Lockgate::to(backend.address)
        .with("name = \"first\"\nguards = [\"login\"]")
        .with(&guard)
        .start()
        .await;
    let started = Instant::now();
    let token = issuer.token("anna", 3);
    let (mut client, mut server) = open(&lockgate, &backend, &token).await;
    let mut kept = lockgate.upgrade("/kept", &bearer(&token)).await;
    let (_kept_server, _) = backend.accept_session().await;
    assert_eq!(kept.head().await.status(), 101);
    let frame = client.frame().await;
    assert_eq!(frame.closes_with(), (3000, "token expired"));
    // `exp` has whole seconds, so that 3 s may be up to one shorter.
    assert!(started.elapsed() > Duration::from_secs(2) - Duration::from_millis(100));
    assert_eq!(server.frame().await.closes_with().0, 1001);
    server
        .send_frame(crate::harness::Frame::close(1001, ""))
        .await;
    client
        .send_frame(crate::harness::Frame::close(3000, ""))
        .await;
    let end = lockgate.closed().await;
    assert_eq!(
        (&end["why"], &end["by"], &end["code"]),
        (&json!("expired"), &json!("lockgate"), &json!(3000))
    );
    let (_, listed) = lockgate.command(&["sessions", "--json"]).await;
    assert!(listed.contains("/kept"), "{listed}");
}

#[tokio::test]
async fn rotation_refuses_no_valid_token_and_unknown_keys_cause_one_fetch_a_minute() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    let lockgate = guarded(&backend, &issuer.guard("")).start().await;
    let _first = open(&lockgate, &backend, &issuer.token("anna", 600)).await;
    assert_eq!(issuer.fetches(), 1);
    issuer.rotate("k2", true);
    // Many at once wait for the same fetch.
    let token = issuer.token("anna", 600);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(lockgate.upgrade("/ws", &bearer(&token)).await);
    }
    let mut servers = Vec::new();
    for _ in 0..20 {
        servers.push(backend.accept_session().await);
    }
    for client in &mut clients {
        assert_eq!(client.head().await.status(), 101);
    }
    assert_eq!(issuer.fetches(), 2);
    for kid in ["a", "b", "../../etc/passwd", "' OR 1=1 --"] {
        issuer.rotate(kid, false);
        let mut client = lockgate
            .upgrade("/ws", &bearer(&issuer.token("anna", 600)))
            .await;
        assert_eq!(client.head().await.status(), 401);
    }
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn issuer_that_fails_keeps_the_last_keys_in_use_and_without_any_the_answer_is_503() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    for broken in [
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
            .to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        b"garbage\r\n\r\n".to_vec(),
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n".to_vec(),
            vec![b' '; 2_000_000],
        ]
        .concat(),
    ] {
        issuer.behave(Behaviour::Raw(broken));
        let lockgate = guarded(&backend, &issuer.guard("")).start().await;
        let mut client = lockgate
            .upgrade("/ws", &bearer(&issuer.token("anna", 600)))
            .await;
        let head = client.head().await;
        assert_eq!(head.status(), 503);
        assert!(head.get("retry-after").is_some());
        lockgate
            .record(|it| it["event"] == "request" && it["why"] == "authority")
            .await;
        lockgate
            .until_logged("the key set of an issuer cannot be fetched")
            .await;
    }
    issuer.behave(Behaviour::Normal);
    let lockgate = guarded(&backend, &issuer.guard("")).start().await;
    let _session = open(&lockgate, &backend, &issuer.token("anna", 600)).await;
    issuer.behave(Behaviour::Silent);
    let _session = open(&lockgate, &backend, &issuer.token("anna", 600)).await;
    // A reload keeps the keys that were fetched.
    let path = lockgate.folder().join("config.toml");
    let text = std::fs::read_to_string(&path).expect("it is readable");
    lockgate.write_config(&format!("# changed\n{text}"));
    lockgate.until_logged("configuration applied").await;
    let _session = open(&lockgate, &backend, &issuer.token("anna", 600)).await;
}

#[tokio::test]
async fn keys_come_from_a_file_or_a_secret_too() {
    let backend = Backend::listen().await;
    let key = SigningKey::p256("e1");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keys.json");
    std::fs::write(&file, json!({ "keys": [key.public()] }).to_string()).expect("writable");
    let secret = "0123456789abcdef0123456789abcdef";
    let lockgate = Lockgate::to(backend.address)
        .with("name = \"first\"\nguards = [\"file\"]")
        .with(&format!(
            "[[routes]]\nname = \"own\"\nhosts = [\"a.test\"]\npath = \"/own\"\nto = \"ws://{}\"\nguards = [\"own\"]\n\
             [guards.file.jwt]\nissuer = \"id\"\naudience = [\"*\"]\njwks = \"{}\"\n\
             [guards.own.jwt]\nissuer = \"\"\naudience = [\"*\"]\nsecret = \"${{SECRET}}\"",
            backend.address,
            file.display()
        ))
        .env("SECRET", secret)
        .start()
        .await;
    let claims = json!({ "iss": "id", "sub": "anna", "exp": now() + 600 });
    let _session = open(&lockgate, &backend, &key.sign(&claims)).await;
    let own = jsonwebtoken::encode(
        &jsonwebtoken::Header::default(),
        &json!({ "sub": "anna", "exp": now() + 600 }),
        &jsonwebtoken::EncodingKey::from_secret(secret.as_bytes()).expect("a key"),
    )
    .expect("it signs");
    let mut client = lockgate.upgrade("/own", &bearer(&own)).await;
    let (_server, _) = backend.accept_session().await;
    assert_eq!(client.head().await.status(), 101);
    // The guard of one route does not admit to another one.
    let mut client = lockgate.upgrade("/ws", &bearer(&own)).await;
    assert_eq!(client.head().await.status(), 401);
    // A changed file is read again.
    let newer = SigningKey::p256("e2");
    std::fs::write(&file, json!({ "keys": [newer.public()] }).to_string()).expect("writable");
    lockgate.until_logged("configuration applied").await;
    let _session = open(&lockgate, &backend, &newer.sign(&claims)).await;
    let mut client = lockgate.upgrade("/ws", &bearer(&key.sign(&claims))).await;
    assert_eq!(client.head().await.status(), 401);
}

#[tokio::test]
async fn every_http2_stream_and_every_plain_request_is_checked_on_its_own() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    let lockgate = guarded(&backend, &issuer.guard("")).start().await;
    let mut client = lockgate.h2().await;
    let authorization = format!("Bearer {}", issuer.token("anna", 600));
    let fields = [("authorization", &*authorization)];
    let accepted = async {
        let mut server = backend.accept().await;
        let head = server.head().await;
        server.send(switching_protocols(&head, "")).await;
        server
    };
    let ((answer, _session), _server) = tokio::join!(client.websocket("/ws", &fields), accepted);
    assert_eq!(answer.status(), 200);
    let (answer, _) = client.websocket("/ws", &[]).await;
    assert_eq!(answer.status(), 401);
    // On a kept connection, too.
    let mut plain = lockgate
        .request(format!(
            "GET /a HTTP/1.1\r\nHost: a.test\r\nAuthorization: {authorization}\r\n\r\n"
        ))
        .await;
    let mut server = backend.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
    let head = plain.head().await;
    assert_eq!((head.status(), plain.body(&head).await.len()), (200, 2));
    plain.send("GET /b HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(plain.head().await.status(), 401);
}
