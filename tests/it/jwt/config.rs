//! Wrong guards: what `lockgate check` prints, with the next step.

use crate::harness::Lockgate;

/// The lines of `[guards.login.jwt]`, a part of the message and a part of the hint.
const WRONG: &[(&str, &str, &str)] = &[
    ("", "names no issuer", "exactly as the tokens have it"),
    (
        "issuer = \"\"\naudience = [\"a\"]",
        "accepts tokens of every issuer",
        "https://id.example.com/",
    ),
    (
        "issuer = \"id\"\naudience = [\"a\"]",
        "`id` is not the URL of an issuer",
        "jwks = ",
    ),
    (
        "issuer = \"https://id.test\"",
        "names no audience",
        "[\"*\"] for any",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"*\", \"a\"]",
        "audience has \"*\" and others",
        "alone accepts every audience",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\nalgorithms = [\"HS256\"]",
        "HS256 does not fit the keys",
        "use RS256",
    ),
    (
        "issuer = \"\"\naudience = [\"*\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\nalgorithms = [\"RS256\"]",
        "RS256 does not fit the keys",
        "use HS256",
    ),
    (
        "issuer = \"\"\naudience = [\"*\"]\nsecret = \"short\"",
        "has 5 bytes",
        "openssl rand -base64 32",
    ),
    (
        "audience = [\"*\"]\nsecret = \"0123456789abcdef0123456789abcdef\"",
        "names no issuer",
        "issuer = \"\"",
    ),
    (
        "issuer = \"\"\naudience = [\"*\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\njwks = \"https://id.test/keys\"",
        "both `secret` and `jwks`",
        "keep `secret`",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\njwks = \"ftp://id.test/keys\"",
        "neither an http:// or https:// URL nor a file",
        "keys.json",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\njwks = \"missing.json\"",
        "there is no file",
        "public keys",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\nalgorithms = [\"none\"]",
        "none",
        "",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\nheaders = { x_user = \"sub\" }",
        "no backend can receive the header `x_user`",
        "x-user",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\nheaders = { host = \"sub\" }",
        "no backend can receive the header `host`",
        "x-user",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\nclose_code = 1005",
        "must not be sent",
        "3000",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\nleeway = \"1h\"",
        "more than ten minutes",
        "30s to 60s",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\nrefresh_path = \"auth\"",
        "`auth` is not a path",
        "/auth/refresh",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\nrefresh_path = \"/ws\"",
        "the route `first` has the same path",
        "no route has",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\nrefresh_path = \"/r\"\non_expiry = \"ignore\"",
        "no session is closed",
        "leave one of them out",
    ),
    (
        "issuer = \"https://id.test\"\naudience = [\"a\"]\nissuers = []",
        "issuers",
        "issuer",
    ),
];

#[tokio::test]
async fn wrong_guard_is_an_error_with_the_next_step() {
    let route = "[tls]\ndev_ca = true\n[[routes]]\nname = \"first\"\nhosts = [\"a.test\"]\npath = \"/ws\"\nto = \"ws://127.0.0.1:1\"\n";
    let mut problems = Vec::new();
    let mut cases: Vec<(String, &str, &str)> = WRONG
        .iter()
        .map(|(guard, message, hint)| {
            let text = format!("{route}guards = [\"login\"]\n[guards.login.jwt]\n{guard}\n");
            (text, *message, *hint)
        })
        .collect();
    let jwt = "jwt = { issuer = \"https://id.test\", audience = [\"a\"] }\n";
    for (text, message, hint) in [
        (
            format!("{route}guards = [\"logn\"]\n[guards.login]\n{jwt}"),
            "there is no guard `logn`",
            "did you mean `login`?",
        ),
        (
            format!("{route}guards = [\"login\"]\n"),
            "there is no guard `login`",
            "[guards.login.jwt]",
        ),
        (
            format!("{route}guards = [\"login\", \"login\"]\n[guards.login]\n{jwt}"),
            "is listed twice",
            "list it once",
        ),
        (
            format!("{route}guards = [\"a\", \"b\"]\n[guards.a]\n{jwt}[guards.b]\n{jwt}"),
            "two guards of the kind jwt",
            "second route",
        ),
        (
            format!("{route}guards = [\"login\"]\n[guards.login]\n"),
            "has no kind",
            "[guards.login.jwt]",
        ),
        (
            format!(
                "{route}guards = [\"login\"]\n[guards.login]\n{jwt}basic = {{ users = \"u\" }}\n"
            ),
            "has two kinds, jwt and basic",
            "a route may list both",
        ),
        (
            format!("{route}[guards.login]\n{jwt}"),
            "no route lists the guard `login`",
            "guards = [\"login\"]",
        ),
    ] {
        cases.push((text, message, hint));
    }
    let folder = tempfile::tempdir().expect("a folder");
    for (text, message, hint) in cases {
        std::fs::write(folder.path().join("c.toml"), &text).expect("writable");
        let output = Lockgate::run(folder.path(), &["check", "c.toml"]).await;
        let printed =
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if !printed.contains(message) || !printed.contains(hint) || !printed.contains("c.toml:") {
            problems.push(format!(
                "{text}\n--- expected {message:?} and {hint:?}, printed:\n{printed}"
            ));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

#[tokio::test]
async fn explain_shows_what_a_guard_decides_and_fetches_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://127.0.0.1:1\"\nguards = [\"login\"]\n\
         [guards.login.jwt]\nissuer = \"http://127.0.0.1:1\"\naudience = [\"chat\"]\n";
    std::fs::write(folder.path().join("c.toml"), text).expect("writable");
    let explain = async |more: &[&str]| {
        let arguments = [&["explain", "--config", "c.toml", "wss://a.test/"], more].concat();
        let output = Lockgate::run(folder.path(), &arguments).await;
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let printed = explain(&[]).await;
    assert!(
        printed.contains("guard login: refuses with 401: this route needs a token"),
        "{printed}"
    );
    let head = crate::harness::issuer::encode("{\"alg\":\"RS256\"}");
    let token = format!("Authorization: Bearer {head}.e30.AAAA");
    let printed = explain(&["--header", &token]).await;
    let expected = "guard login: verifies the token with the key set of http://127.0.0.1:1, which explain does not fetch";
    assert!(printed.contains(expected), "{printed}");
    assert!(!printed.contains("AAAA"), "{printed}");
}
