//! Hostile tokens: none is accepted in any place, none reaches a backend, and none is in a log.

use crate::{
    harness::{
        Backend, Issuer, Lockgate,
        issuer::{SigningKey, encode, now},
    },
    jwt::guarded,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Returns hostile tokens, each with what it tries. `key` is the issuer's own key, and `secret` its shared one if it
/// has one.
fn hostile(
    issuer: &Issuer,
    key: &SigningKey,
    secret: Option<&[u8]>,
) -> Vec<(&'static str, String)> {
    let valid = issuer.claims("anna", 600);
    let payload = valid.to_string();
    let head = |fields: Value| {
        let mut head = json!({ "alg": key.algorithm_name(), "typ": "JWT", "kid": key.name() });
        for (name, value) in fields.as_object().expect("fields") {
            head[name] = value.clone();
        }
        head.to_string()
    };
    let with = |name: &str, value: Value| {
        let mut claims = valid.clone();
        claims[name] = value;
        key.sign_raw(&head(json!({})), &claims.to_string())
    };
    let without = |name: &str| {
        let mut claims = valid.clone();
        claims.as_object_mut().expect("claims").remove(name);
        key.sign_raw(&head(json!({})), &claims.to_string())
    };
    let good = key.sign_raw(&head(json!({})), &payload);
    let parts: Vec<&str> = good.split('.').collect();
    let mut all = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", "", "HS0", "null"] {
        let message = format!(
            "{}.{}",
            encode(json!({ "alg": alg }).to_string()),
            encode(&payload)
        );
        all.push(("no signature", format!("{message}.")));
        all.push(("no signature, but text", format!("{message}.{}", parts[2])));
    }
    all.push(("no algorithm", key.sign_raw("{\"typ\":\"JWT\"}", &payload)));
    all.push((
        "an algorithm that is no text",
        key.sign_raw("{\"alg\":[\"ES256\"]}", &payload),
    ));
    all.push((
        "two algorithms",
        key.sign_raw("{\"alg\":\"ES256\",\"alg\":\"none\"}", &payload),
    ));
    // The public key as the secret of an HMAC.
    let public = key.public().to_string();
    for (what, secret) in [
        ("HS256 with the public key", public.as_bytes()),
        ("HS256 with a guessed secret", b"secret".as_slice()),
        ("HS256 with an empty-looking secret", b"\0".as_slice()),
        ("HS256 with the name of the key", key.name().as_bytes()),
    ] {
        let signing = jsonwebtoken::EncodingKey::from_secret(secret).expect("a key");
        let head = jsonwebtoken::Header {
            kid: Some(key.name().to_owned()),
            ..jsonwebtoken::Header::default()
        };
        all.push((
            what,
            jsonwebtoken::encode(&head, &valid, &signing).expect("it signs"),
        ));
    }
    // Keys of the attacker, offered in every way that RFC 7515 §4.1 has.
    let own = SigningKey::p256(key.name());
    let jwk = own.public();
    for (what, fields) in [
        ("another key of the same name", json!({})),
        ("an embedded key", json!({ "jwk": jwk })),
        (
            "the URL of a key set",
            json!({ "jku": "http://127.0.0.1:1/keys" }),
        ),
        (
            "the URL of a certificate",
            json!({ "x5u": "http://127.0.0.1:1/cert" }),
        ),
        (
            "an embedded certificate",
            json!({ "x5c": [BASE64_STANDARD.encode("certificate")] }),
        ),
        (
            "a name with a path",
            json!({ "kid": "../../../../dev/null" }),
        ),
        (
            "a name with SQL",
            json!({ "kid": "k1' UNION SELECT 'secret" }),
        ),
        ("a name with a command", json!({ "kid": "k1|id" })),
        ("a name that is a number", json!({ "kid": 1 })),
        ("an empty name", json!({ "kid": "" })),
        (
            "a name with a control character",
            json!({ "kid": "k1\u{0}" }),
        ),
    ] {
        all.push((what, own.sign_raw(&head(fields), &payload)));
    }
    all.push((
        "an unknown critical extension",
        key.sign_raw(&head(json!({ "crit": ["exp2"], "exp2": 1 })), &payload),
    ));
    all.push((
        "an unencoded payload",
        key.sign_raw(&head(json!({ "crit": ["b64"], "b64": false })), &payload),
    ));
    // Claims of the wrong type, or absent.
    for (what, token) in [
        ("exp as text", with("exp", json!((now() + 600).to_string()))),
        ("exp as list", with("exp", json!([now() + 600]))),
        ("exp as null", with("exp", Value::Null)),
        ("exp as a negative number", with("exp", json!(-1))),
        ("exp that is too large", with("exp", json!(1e300))),
        ("exp in the past", with("exp", json!(now() - 3600))),
        ("no exp", without("exp")),
        ("nbf as text", with("nbf", json!("0"))),
        ("nbf in the future", with("nbf", json!(now() + 3600))),
        ("iss as list", with("iss", json!([issuer.name()]))),
        (
            "iss with a slash more",
            with("iss", json!(format!("{}/", issuer.name()))),
        ),
        ("iss as object", with("iss", json!({ "a": issuer.name() }))),
        ("no iss", without("iss")),
        ("aud as object", with("aud", json!({ "chat": true }))),
        ("aud as number", with("aud", json!(1))),
        ("aud with another case", with("aud", json!("CHAT"))),
        ("aud as empty list", with("aud", json!([]))),
        ("no aud", without("aud")),
        ("sub as number", with("sub", json!(1))),
        ("sub as empty text", with("sub", json!(""))),
        ("sub that is long", with("sub", json!("a".repeat(2_000)))),
    ] {
        all.push((what, token));
    }
    let doubled = payload.replacen('{', "{\"sub\":\"root\",", 1);
    all.push(("a claim twice", key.sign_raw(&head(json!({})), &doubled)));
    let nested = payload.replacen('{', "{\"a\":{\"b\":1,\"b\":2},", 1);
    all.push((
        "a nested claim twice",
        key.sign_raw(&head(json!({})), &nested),
    ));
    for (what, payload) in [
        ("a list", "[]"),
        ("text", "\"a\""),
        ("nothing", ""),
        ("half of an object", "{\"exp\":1"),
    ] {
        all.push((what, key.sign_raw(&head(json!({})), payload)));
    }
    // Damaged tokens.
    let mut signature = parts[2].to_owned();
    signature.replace_range(0..1, if signature.starts_with('A') { "B" } else { "A" });
    for (what, token) in [
        (
            "a changed signature",
            format!("{}.{}.{signature}", parts[0], parts[1]),
        ),
        ("a shortened signature", good[..good.len() - 2].to_owned()),
        ("no signature part", format!("{}.{}", parts[0], parts[1])),
        ("a fourth part", format!("{good}.x")),
        (
            "five parts, as an encrypted token has",
            format!("{good}.x.y"),
        ),
        (
            "padding",
            format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        ),
        (
            "a changed payload",
            format!("{}.{}.{}", parts[0], encode(doubled), parts[2]),
        ),
        ("dots alone", "..".to_owned()),
        (
            "a long token",
            format!("{}.{}.{}", parts[0], "A".repeat(17_000), parts[2]),
        ),
    ] {
        all.push((what, token));
    }
    if let Some(secret) = secret {
        let key = jsonwebtoken::EncodingKey::from_secret(secret).expect("a key");
        let head = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS512);
        all.push((
            "HS512 of the shared secret",
            jsonwebtoken::encode(&head, &valid, &key).expect("it signs"),
        ));
    }
    all
}

#[tokio::test]
async fn no_hostile_token_is_accepted_in_any_place() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    let key = SigningKey::p256("k9");
    // A key that must not be used: a secret in a public set.
    let secret = b"0123456789abcdef0123456789abcdef";
    let oct = json!({ "kty": "oct", "kid": "k8", "k": encode(secret), "alg": "HS256" });
    issuer.publish(json!({ "keys": [oct, key.public()] }));
    let lockgate = guarded(&backend, &issuer.guard("")).start().await;
    let mut tokens = hostile(&issuer, &key, Some(secret));
    assert!(tokens.len() >= 60, "{}", tokens.len());
    let mut log = String::new();
    let count = tokens.len();
    for (what, token) in &mut tokens {
        for place in ["header", "query", "cookie", "subprotocol"] {
            let (target, more) = match place {
                "header" => (
                    "/ws".to_owned(),
                    format!("Authorization: Bearer {token}\r\n"),
                ),
                "query" => (format!("/ws?token={token}"), String::new()),
                "cookie" => ("/ws".to_owned(), format!("Cookie: session={token}\r\n")),
                _ => (
                    "/ws".to_owned(),
                    format!("Sec-WebSocket-Protocol: bearer, {token}\r\n"),
                ),
            };
            let mut client = lockgate.upgrade(&target, &more).await;
            let status = client.head().await.status();
            // 414, 431: longer than a head may be; 400: no subprotocol has that form.
            let is_refused = matches!(status, 400 | 401 | 403 | 414 | 431);
            if !is_refused {
                writeln!(log, "{what} in the {place}: {status}").expect("a String");
            }
        }
    }
    assert!(log.is_empty(), "of {count} tokens:\n{log}");
    // The valid one is accepted, so that the others are refused for what is wrong in them.
    let good = key.sign(&issuer.claims("anna", 600));
    let mut client = lockgate
        .upgrade("/ws", &format!("Authorization: Bearer {good}\r\n"))
        .await;
    let (_server, _) = backend.accept_session().await;
    assert_eq!(client.head().await.status(), 101);
    let stderr = lockgate.stderr();
    let records = format!("{:?}", lockgate.records());
    for (what, token) in tokens.iter().filter(|(_, token)| token.len() > 40) {
        let part = &token[token.len() / 2 - 10..token.len() / 2 + 10];
        assert!(!stderr.contains(part) && !records.contains(part), "{what}");
    }
}

#[tokio::test]
async fn key_sets_that_are_hostile_are_refused_or_bounded() {
    let (issuer, backend) = (Issuer::start().await, Backend::listen().await);
    let key = SigningKey::p256("k1");
    let public = key.public();
    let mut for_encryption = public.clone();
    for_encryption["use"] = json!("enc");
    let mut other_algorithm = public.clone();
    other_algorithm["alg"] = json!("ES384");
    let many: Vec<Value> = (0..200)
        .map(|_| SigningKey::p256("x").public())
        .chain([public.clone()])
        .collect();
    for (what, keys) in [
        ("a key for encryption", json!({ "keys": [for_encryption] })),
        (
            "a key for another algorithm",
            json!({ "keys": [other_algorithm] }),
        ),
        ("no key", json!({ "keys": [] })),
        ("keys that are no list", json!({ "keys": { "a": 1 } })),
        ("a key behind two hundred others", json!({ "keys": many })),
    ] {
        issuer.publish(keys);
        let lockgate: Lockgate = guarded(&backend, &issuer.guard("")).start().await;
        let token = key.sign(&issuer.claims("anna", 600));
        let mut client = lockgate
            .upgrade("/ws", &format!("Authorization: Bearer {token}\r\n"))
            .await;
        let status = client.head().await.status();
        assert!(matches!(status, 401 | 503), "{what}: {status}");
    }
    assert!(backend.untouched());
}
