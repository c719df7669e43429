//! `lockgate explain`: the result of routing a request, without sending it.

use crate::harness::{Backend, Lockgate, Wire, handshake, within};
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

/// Every combination of a peer, the addresses that proxies report, and a PROXY header. The peer is 127.0.0.1.
#[tokio::test]
async fn explanation_equals_the_answer_of_the_running_proxy() {
    let backend = Backend::listen().await;
    for (server, sources) in [
        ("", &[""][..]),
        ("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]", &[""]),
        ("trusted_proxies = [\"198.51.100.0/24\"]", &[""]),
        (
            "proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]",
            &["10.0.0.9", "198.51.100.9", "203.0.113.9"],
        ),
    ] {
        let setup =
            Lockgate::to(backend.address).with("deny = [\"203.0.113.0/24\", \"2001:db8::/32\"]");
        let lockgate = setup.server(server).start().await;
        for source in sources {
            for fields in FORWARDING {
                let lines: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
                let header = format!("PROXY TCP4 {source} 192.0.2.1 51000 443\r\n");
                let client = match *source {
                    "" => lockgate.connect().await,
                    _ => lockgate
                        .connect_behind(&[header.as_bytes()])
                        .await
                        .expect("it is trusted"),
                };
                let answered = answer(client, &backend, &lines).await;
                let mut arguments = vec![
                    "explain",
                    "--json",
                    "--config",
                    "config.toml",
                    "wss://a.test/",
                ];
                if !source.is_empty() {
                    arguments.extend(["--from", source]);
                }
                arguments.extend(fields.iter().flat_map(|line| ["--header", line]));
                let output = Lockgate::run(lockgate.folder(), &arguments).await;
                let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
                let explained = match report["status"].as_u64() {
                    Some(status) => Err(status),
                    None => Ok(sorted(
                        report["headers"]
                            .as_array()
                            .expect("a list")
                            .iter()
                            .map(|field| {
                                let text = |at: usize| field[at].as_str().expect("text").to_owned();
                                (text(0), text(1))
                            }),
                    )),
                };
                assert_eq!(explained, answered, "{server:?} {source:?} {fields:?}");
            }
        }
    }
}

/// What proxies in front of Lockgate report, as header lines.
const FORWARDING: &[&[&str]] = &[
    &[],
    &["X-Forwarded-For: 203.0.113.7"],
    &["X-Forwarded-For: 198.51.100.7"],
    &["X-Forwarded-For: 203.0.113.7, 198.51.100.7"],
    &["X-Forwarded-For: 203.0.113.7, 10.1.1.1"],
    &["X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 10.1.1.1"],
    &["X-Forwarded-For: 203.0.113.7:4711"],
    &["X-Forwarded-For: [2001:db8::7]"],
    &["X-Forwarded-For: nonsense"],
    &["X-Forwarded-For: 203.0.113.7, nonsense"],
    &["X-Forwarded-For: ,"],
    &["Forwarded: for=203.0.113.7;proto=https"],
    &["Forwarded: for=\"[2001:db8::7]:4711\", for=10.1.1.1"],
    &["Forwarded: for=_hidden"],
    &[
        "X-Forwarded-For: 198.51.100.7",
        "Forwarded: for=203.0.113.7",
    ],
    &[
        "X-Forwarded-For: 198.51.100.7",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: b.test",
    ],
    &["X-Real-IP: 203.0.113.7"],
];

/// Returns the status of a refusal, or the headers that the backend receives.
async fn answer(
    mut client: Wire,
    backend: &Backend,
    lines: &str,
) -> Result<Vec<(String, String)>, u64> {
    client.send(handshake("/", lines)).await;
    let forwarded = within("an answer or a request", async {
        tokio::select! {
            head = client.head() => Err(head.status()),
            (_, request) = backend.accept_session() => Ok(request),
        }
    });
    let request = forwarded.await.map_err(u64::from)?;
    Ok(sorted(request.fields.into_iter()))
}

fn sorted(fields: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut fields: Vec<_> = fields
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    fields.sort();
    fields
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
