//! `lockgate probe` and `lockgate doctor`: their output for a running Lockgate, and for errors.

use crate::harness::{Backend, Lockgate, Program, Refusing, eventually, free_port};
use serde_json::Value;
use std::process::Output;
use tempfile::TempDir;

#[tokio::test]
async fn probe_reports_each_step_over_http1_and_http2() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    for (flags, http, status) in [(&[][..], "1.1", 101), (&["--h2"], "2", 200)] {
        let (code, seen) = probe(&lockgate, "/ws", flags).await;
        assert_eq!(code, Some(0), "{seen}");
        for step in ["dns_ms", "tcp_ms", "handshake_ms", "ping_ms"] {
            assert!(seen[step].as_f64().is_some_and(|ms| ms >= 0.0), "{seen}");
        }
        let tls = &seen["tls"];
        assert_eq!(tls["version"], "TLSv1_3");
        assert_eq!(tls["group"], "X25519MLKEM768");
        let names = tls["certificate"]["names"].to_string();
        assert!(names.contains("localhost"), "{names}");
        assert_eq!(seen["answer"]["http"], http);
        assert_eq!(seen["answer"]["status"], status);
        assert_eq!(seen["closed"]["code"], 1000);
    }
    let (_, seen) = probe(&lockgate, "/", &["--protocol", "chat.v2"]).await;
    assert_eq!(seen["answer"]["subprotocol"], "chat.v2", "{seen}");
}

#[tokio::test]
async fn probe_reports_a_refusal_with_its_body() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    for flags in [&[][..], &["--h2"]] {
        let probed = probe(&lockgate, "/", flags);
        let backend_response = async {
            let mut server = backend.accept().await;
            server.head().await;
            server
                .send("HTTP/1.1 403 Forbidden\r\nX-Why: moon\r\nContent-Length: 9\r\n\r\nnot today")
                .await;
        };
        let ((code, seen), ()) = tokio::join!(probed, backend_response);
        assert_eq!(code, Some(1));
        assert_eq!(seen["answer"]["status"], 403, "{seen}");
        assert_eq!(seen["answer"]["body"], "not today");
        assert!(seen["answer"]["headers"].to_string().contains("moon"));
        let failed = seen["failed"].as_str().expect("a text");
        assert!(failed.contains("refused with 403"), "{failed}");
    }
}

/// As in the README, if the server is slower than Lockgate, or has ended.
#[tokio::test]
async fn probe_before_the_server_has_started_names_the_server() {
    let port = free_port();
    let to = format!("ws://127.0.0.1:{port}");
    let lockgate = Lockgate::with_flags(&["--to", &to, "--host", "localhost"]);
    let lockgate = lockgate.start().await;
    let (code, seen) = probe(&lockgate, "/", &[]).await;
    assert_eq!((code, &seen["answer"]["status"]), (Some(1), &502.into()));
    let failed = seen["failed"].as_str().expect("a text");
    for part in [
        "refused with 502",
        "server behind",
        "--to",
        "lockgate status",
    ] {
        assert!(failed.contains(part), "{failed}");
    }
    let _server = Program::example("websockets-chat", port);
    eventually("the probe succeeds", async || {
        let (code, seen) = probe(&lockgate, "/", &[]).await;
        if code == Some(0) { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test]
async fn failure_is_reported_with_its_step() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let port = lockgate.https.port();
    let folder = TempDir::new().expect("a folder");
    let ca = lockgate.ca().display().to_string();
    let refusing = Refusing::new();
    let closed_port = refusing.address.port();
    for (url, ca, step, text) in [
        (format!("wss://localhost:{port}/"), None, "TLS", "--ca FILE"),
        (format!("ws://localhost:{port}/"), None, "handshake", "400"),
        (
            format!("wss://localhost:{closed_port}/"),
            Some(&ca),
            "TCP",
            "cannot connect",
        ),
        (
            "wss://unknown.invalid/".to_owned(),
            Some(&ca),
            "DNS",
            "no address",
        ),
        (
            "https://localhost/".to_owned(),
            Some(&ca),
            "",
            "wss:// or ws://",
        ),
    ] {
        let mut arguments = vec!["probe", "--json", &url];
        if let Some(ca) = ca {
            arguments.extend(["--ca", ca]);
        }
        let (code, seen) = parse_output(&Lockgate::run(folder.path(), &arguments).await);
        assert_eq!(code, Some(1));
        let failed = seen["failed"].as_str().expect("a text");
        assert!(
            failed.starts_with(step) && failed.contains(text),
            "{failed}"
        );
    }
}

#[tokio::test]
async fn doctor_checks_ports_names_backends_and_certificates() {
    let folder = TempDir::new().expect("a folder");
    let used = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let used = used.local_addr().map(|at| (at, used)).expect("it has one");
    let echo = Backend::echo().await;
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    for (file, text) in [
        ("a.crt", pair.cert.pem()),
        ("a.key", pair.signing_key.serialize_pem()),
        (
            "lockgate.toml",
            format!(
                "[server]\nhttps = [\"{}\"]\nhttp = []\nadmin = \"off\"\n\
                 [tls]\ncertificates = [{{ cert = \"a.crt\", key = \"a.key\" }}]\n\
                 [pools.a]\nbackends = [{{ address = \"ws://{echo}\" }}, \"http://127.0.0.1:1\"]\n\
                 [pools.b]\nbackends = [{{ address = \"ws://{echo}\", sources = [\"127.0.0.9\", \"192.0.2.9\"] }}]\n\
                 [[routes]]\nhosts = [\"localhost\"]\npool = \"a\"\n",
                used.0
            ),
        ),
    ] {
        std::fs::write(folder.path().join(file), text).expect("writable");
    }
    // The admin address is passed like to `run`.
    let admin = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let admin = (admin.local_addr().expect("bound").to_string(), admin);
    let config = ["doctor", "--json", "--config", "lockgate.toml"];
    let arguments = [&config[..], &["--admin", &admin.0]].concat();
    let (code, findings) = parse_output(&Lockgate::run(folder.path(), &arguments).await);
    assert_eq!(code, Some(1), "{findings}");
    let state = |what: &str| {
        let mut all = findings.as_array().expect("a list").iter();
        let found =
            all.find(|finding| finding["what"].as_str().is_some_and(|it| it.contains(what)));
        found.unwrap_or_else(|| panic!("{what} in {findings}"))["state"].clone()
    };
    assert_eq!(state("clock"), "ok");
    assert_eq!(state(&format!("port {}", used.0)), "fail");
    assert_eq!(state(&format!("port {}", admin.0)), "fail");
    assert_eq!(state("name localhost"), "ok");
    assert_eq!(state(&format!("backend ws://{echo}")), "ok");
    assert_eq!(state("backend http://127.0.0.1:1"), "warn");
    assert_eq!(state("a.crt"), "ok");
    assert_eq!(state(&format!("{echo} from 127.0.0.9")), "ok");
    assert_eq!(state(&format!("{echo} from 192.0.2.9")), "warn");
}

#[tokio::test]
async fn doctor_performs_the_tls_handshake_with_a_backend() {
    let folder = TempDir::new().expect("a folder");
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let plain = plain.expect("a free port");
    let echo = plain.local_addr().expect("it has one");
    // A server without TLS closes the connection after a ClientHello.
    tokio::spawn(async move { while plain.accept().await.is_ok() {} });
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\nadmin = \"off\"\n[tls]\ndev_ca = true\n\
         [[routes]]\nhosts = [\"localhost\"]\nto = \"wss://{echo}\"\n"
    );
    std::fs::write(folder.path().join("lockgate.toml"), config).expect("writable");
    let arguments = ["doctor", "--json", "--config", "lockgate.toml"];
    let (_, findings) = parse_output(&Lockgate::run(folder.path(), &arguments).await);
    let mut all = findings.as_array().expect("a list").iter();
    let backend = all.find(|finding| finding["what"].to_string().contains("wss://"));
    let backend = backend.unwrap_or_else(|| panic!("no backend in {findings}"));
    assert_eq!(backend["state"], "warn", "{backend}");
    assert!(backend["seen"].to_string().contains("TLS"), "{backend}");
}

#[tokio::test]
async fn probe_explains_a_ca_as_server_certificate_and_a_missing_name() {
    let folder = TempDir::new().expect("a folder");
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("random bytes");
    let cert = params.self_signed(&key).expect("a certificate").pem();
    let (cert_file, key_file) = (folder.path().join("ca.crt"), folder.path().join("ca.key"));
    std::fs::write(&cert_file, cert).expect("writable");
    std::fs::write(&key_file, key.serialize_pem()).expect("writable");
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n\
         [tls]\ncertificates = [{{ cert = {cert_file:?}, key = {key_file:?} }}]\n\
         [[routes]]\nhosts = [\"localhost\"]\nto = \"ws://{}\"\n",
        Backend::echo().await
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let port = lockgate.https.port();
    let ca = cert_file.display().to_string();
    for (host, text) in [("localhost", "CA:FALSE"), ("127.0.0.1", "tls.default")] {
        let url = format!("wss://{host}:{port}/");
        let arguments = ["probe", "--json", "--ca", &ca, &url];
        let (code, seen) = parse_output(&Lockgate::run(folder.path(), &arguments).await);
        assert_eq!(code, Some(1), "{seen}");
        let failed = seen["failed"].as_str().expect("a text");
        assert!(
            failed.starts_with("TLS") && failed.contains(text),
            "{failed}"
        );
        assert!(!failed.contains("OtherError"), "{failed}");
    }
}

async fn probe(lockgate: &Lockgate, path: &str, flags: &[&str]) -> (Option<i32>, Value) {
    let folder = TempDir::new().expect("a folder");
    let url = format!("wss://localhost:{}{path}", lockgate.https.port());
    let ca = lockgate.ca().display().to_string();
    let arguments = [&["probe", "--json", "--ca", &ca, &url], flags].concat();
    parse_output(&Lockgate::run(folder.path(), &arguments).await)
}

fn parse_output(output: &Output) -> (Option<i32>, Value) {
    let value = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        value.unwrap_or_else(|_| panic!("{output:?}")),
    )
}
