//! `lockgate explain`: the result of routing a request, without sending it.

use crate::harness::Lockgate;
use serde_json::Value;
use tempfile::TempDir;

const CONFIG: &str = r#"
[tls]
dev_ca = true
client_ca = "clients.pem"
[[routes]]
name = "chat"
hosts = ["a.test"]
path = "/ws/*"
to = "ws://127.0.0.1:8765"
framework = "tornado"
deny = ["192.0.2.0/24"]
[[routes]]
name = "site"
hosts = ["a.test"]
only = "http"
to = "http://127.0.0.1:8000"
[[routes]]
name = "closed"
hosts = ["c.test"]
client_cert = "require"
to = "http://127.0.0.1:8000"
[[routes]]
name = "ajar"
hosts = ["d.test"]
client_cert = "optional"
to = "http://127.0.0.1:8000"
"#;

#[tokio::test]
async fn explanation_has_verdicts_and_the_forwarded_request() {
    let (code, report) = explain(&["wss://a.test/ws/x?y=1", "--protocol", "v2"]).await;
    assert_eq!(code, Some(0));
    assert_eq!(report["route"], "chat");
    assert_eq!(
        report["backends"],
        serde_json::json!(["ws://127.0.0.1:8765"])
    );
    assert_eq!(report["line"], "GET /ws/x?y=1 HTTP/1.1");
    assert_eq!(report["routes"][0]["verdict"], "wins");
    let why = report["routes"][1]["verdict"].as_str().expect("a text");
    assert!(why.contains("`only`"), "{why}");
    let headers = report["headers"].to_string();
    assert!(
        headers.contains(r#"["sec-websocket-protocol","v2"]"#),
        "{headers}"
    );
    let advice = report["advice"].as_str().expect("a text");
    assert!(advice.contains("xheaders=True"), "{advice}");
}

#[tokio::test]
async fn explanation_of_a_refusal_has_status_and_why() {
    for (arguments, status, why) in [
        (&["wss://a.test/"][..], 404, "only-http"),
        (&["wss://b.test/ws"], 404, "no-route"),
        (
            &["wss://a.test/ws", "--header", "Origin: https://b.test"],
            403,
            "origin",
        ),
        (&["wss://a.test/ws", "--from", "192.0.2.7"], 403, "address"),
        (&["https://a.test/a/..%2fb"], 400, "path"),
        (&["https://c.test/"], 403, "client-cert"),
    ] {
        let (code, report) = explain(arguments).await;
        assert_eq!(code, Some(1), "{arguments:?}");
        assert_eq!(
            (&report["status"], &report["why"]),
            (&status.into(), &why.into()),
            "{report}"
        );
    }
}

/// The client presents no certificate, which `optional` permits.
#[tokio::test]
async fn forged_client_cert_header_is_removed() {
    let forged = ["https://d.test/", "--header", "Client-Cert: :AAAA:"];
    let (code, report) = explain(&forged).await;
    assert_eq!(code, Some(0), "{report}");
    let headers = report["headers"].to_string();
    assert!(!headers.contains("client-cert"), "{headers}");
}

#[tokio::test]
async fn explain_accepts_the_flags_of_run() {
    let folder = TempDir::new().expect("a folder");
    let flags = [
        "--to",
        "ws://127.0.0.1:8765",
        "--host",
        "a.test",
        "--origin",
        "https://b.test",
    ];
    for (origin, code, text) in [
        ("Origin: https://b.test", 0, "ws://127.0.0.1:8765"),
        ("Origin: https://c.test", 1, "origin"),
    ] {
        let request = ["explain", "wss://a.test/ws", "--header", origin];
        let output = Lockgate::run(folder.path(), &[&request[..], &flags].concat()).await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.contains(text), "{printed}");
    }
}

async fn explain(arguments: &[&str]) -> (Option<i32>, Value) {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("lockgate.toml"), CONFIG).expect("writable");
    let mut ca = rcgen::CertificateParams::new([]).expect("no names");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let ca = ca.self_signed(&rcgen::KeyPair::generate().expect("random"));
    let ca = ca.expect("it signs").pem();
    std::fs::write(folder.path().join("clients.pem"), ca).expect("writable");
    let mut all = vec!["explain", "--json", "--config", "lockgate.toml"];
    all.extend(arguments);
    let output = Lockgate::run(folder.path(), &all).await;
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), report)
}
