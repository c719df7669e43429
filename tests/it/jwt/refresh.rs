//! A newer token extends the sessions of its subject, and no others.

use crate::{
    harness::{Backend, Issuer, Lockgate, Setup, Wire, issuer::now},
    jwt::{bearer, guarded, open},
};
use serde_json::{Value, json};

/// Sends a POST to the path for newer tokens, and returns the status and the JSON of the response.
async fn refresh(lockgate: &Lockgate, more: &str) -> (u16, Value) {
    let mut client = lockgate
        .request(format!(
            "POST /auth/refresh HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n{more}\r\n"
        ))
        .await;
    let head = client.head().await;
    let body = client.body(&head).await;
    (
        head.status(),
        serde_json::from_slice(&body).unwrap_or_default(),
    )
}

fn setup(issuer: &Issuer, backend: &Backend, more: &str) -> Setup {
    let keys = format!("leeway = \"0s\"\nrefresh_path = \"/auth/refresh\"\n{more}");
    guarded(backend, &issuer.guard(&keys))
}

async fn closes(client: &mut Wire) -> (u16, String) {
    let frame = client.frame().await;
    let (code, reason) = frame.closes_with();
    (code, reason.to_owned())
}

#[tokio::test]
async fn newer_token_keeps_the_sessions_of_its_subject_open() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    let lockgate = setup(&issuer, &backend, "").start().await;
    let (mut kept, _server) = open(&lockgate, &backend, &issuer.token("anna", 3)).await;
    let (mut other, _other) = open(&lockgate, &backend, &issuer.token("bert", 3)).await;
    let newer = issuer.token("anna", 6);
    assert_eq!(
        refresh(&lockgate, &bearer(&newer)).await,
        (200, json!({ "sessions": 1 }))
    );
    // Twice is as once, and an older token does not shorten the time.
    assert_eq!(
        refresh(&lockgate, &bearer(&newer)).await,
        (200, json!({ "sessions": 1 }))
    );
    assert_eq!(
        refresh(&lockgate, &bearer(&issuer.token("anna", 2)))
            .await
            .0,
        200
    );
    assert_eq!(closes(&mut other).await, (3000, "token expired".to_owned()));
    let before = now();
    assert_eq!(closes(&mut kept).await, (3000, "token expired".to_owned()));
    assert!(
        now() - before >= 2,
        "closed {} s after the other",
        now() - before
    );
    assert_eq!(
        refresh(&lockgate, &bearer(&issuer.token("carl", 60))).await,
        (200, json!({ "sessions": 0 }))
    );
    lockgate
        .record(|it| {
            it["event"] == "request" && it["path"] == "/auth/refresh" && it["subject"] == "carl"
        })
        .await;
}

#[tokio::test]
async fn no_foreign_expired_or_cross_site_token_extends_a_session() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    let lockgate = setup(
        &issuer,
        &backend,
        "required = { scope = \"chat\" }\nheaders = { x-user = \"sub\" }",
    )
    .start()
    .await;
    let claims = |change: &dyn Fn(&mut Value)| {
        let mut claims = issuer.claims("anna", 600);
        claims["scope"] = json!("chat");
        claims["sid"] = json!("s1");
        change(&mut claims);
        issuer.sign(claims)
    };
    let first = claims(&|it| it["exp"] = json!(now() + 4));
    let (mut session, _server) = open(&lockgate, &backend, &first).await;
    let good = claims(&|_| {});
    let other_issuer = Issuer::start().await;
    let rows: [(u16, String); 10] = [
        (401, String::new()),
        (401, bearer(&claims(&|it| it["exp"] = json!(now() - 1)))),
        (401, bearer(&other_issuer.token("anna", 600))),
        (401, bearer(&claims(&|it| it["aud"] = json!("other")))),
        (403, bearer(&claims(&|it| it["scope"] = json!("other")))),
        (200, bearer(&claims(&|it| it["sub"] = json!("bert")))),
        (200, bearer(&claims(&|it| it["sid"] = json!("s2")))),
        (401, bearer(&claims(&|it| it["sid"] = Value::Null))),
        (
            200,
            bearer(&claims(&|it| {
                drop(it.as_object_mut().expect("claims").remove("sid"))
            })),
        ),
        // A browser sends the cookie with a request of every page.
        (403, format!("Cookie: session={good}\r\n")),
    ];
    for (status, more) in rows {
        let (found, json) = refresh(&lockgate, &more).await;
        assert_eq!(found, status, "{more}");
        if found == 200 {
            assert_eq!(json, json!({ "sessions": 0 }), "{more}");
        }
    }
    let mut client = lockgate
        .request("GET /auth/refresh HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!((head.status(), head.get("allow")), (405, Some("POST")));
    assert_eq!(
        closes(&mut session).await,
        (3000, "token expired".to_owned())
    );
    assert!(!lockgate.stderr().contains(&good));
}

#[tokio::test]
async fn cookie_with_an_origin_that_the_route_allows_extends_sessions() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    let keys = issuer.guard("leeway = \"0s\"\nrefresh_path = \"/auth/refresh\"");
    let lockgate = Lockgate::with_file(&format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\n\
         to = \"ws://{}\"\nguards = [\"login\"]\ntoken = {{ from = [\"cookie:session\"] }}\n{keys}",
        backend.address
    ))
    .start()
    .await;
    let (_session, _server) = open(&lockgate, &backend, &issuer.token("anna", 60)).await;
    let cookie = format!("Cookie: session={}\r\n", issuer.token("anna", 600));
    let allowed = format!("{cookie}Origin: https://a.test\r\n");
    assert_eq!(
        refresh(&lockgate, &allowed).await,
        (200, json!({ "sessions": 1 }))
    );
    assert_eq!(refresh(&lockgate, &cookie).await.0, 403);
    let foreign = format!("{cookie}Origin: https://evil.test\r\n");
    assert_eq!(refresh(&lockgate, &foreign).await.0, 403);
}

#[tokio::test]
async fn path_for_newer_tokens_belongs_to_the_hosts_of_its_guard_alone() {
    let (one, two) = (Issuer::start().await, Issuer::start().await);
    let backend = Backend::listen().await;
    let guard = |issuer: &Issuer, name: &str| {
        let keys = issuer.guard("refresh_path = \"/auth/refresh\"");
        keys.replace("login", name)
    };
    let route = |name: &str, host: &str, guards: &str| {
        let to = backend.address;
        format!(
            "[[routes]]\nname = \"{name}\"\nhosts = [\"{host}\"]\nto = \"ws://{to}\"\n{guards}\n"
        )
    };
    let lockgate = Lockgate::with_file(&format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n{}{}{}{}{}",
        route("one", "a.test", "guards = [\"one\"]"),
        route("two", "b.test", "guards = [\"two\"]"),
        route("none", "c.test", ""),
        guard(&one, "one"),
        guard(&two, "two"),
    ))
    .start()
    .await;
    let post = async |host: &str, token: &str| {
        let head = format!("POST /auth/refresh HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n");
        lockgate
            .request(format!("{head}{}\r\n", bearer(token)))
            .await
    };
    for (host, token, status) in [
        ("a.test", one.token("anna", 600), 200),
        ("a.test", two.token("anna", 600), 401),
        ("b.test", two.token("anna", 600), 200),
        ("b.test", one.token("anna", 600), 401),
    ] {
        assert_eq!(
            post(host, &token).await.head().await.status(),
            status,
            "{host}"
        );
    }
    let mut client = post("c.test", "x").await;
    let mut server = backend.accept().await;
    assert_eq!(server.head().await.start, "POST /auth/refresh HTTP/1.1");
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 204);
}
