//! Requests that hyper, h2 or rustls refuse before Lockgate sees them: each has a line in the access log or the log, a
//! metric, and a response that names the fault.

use crate::harness::{
    Backend, EndKind, H2, Lockgate, RawH2, Refusing, eventually, observe,
    raw_h2::{
        CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEADERS, HELLO, RST_STREAM, SETTINGS, frame,
        hpack,
    },
    request,
};
use std::{process::Stdio, time::Instant};
use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command};

/// Returns a request with this target and these fields.
fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

async fn refusals(lockgate: &Lockgate, status: u16, why: &str) -> f64 {
    let series = format!("lockgate_refusals_total{{status=\"{status}\",why=\"{why}\"}}");
    lockgate.metric_or_zero(&series).await
}

#[tokio::test]
async fn request_that_hyper_cannot_parse_has_text_access_line_and_metric() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let malformed = [
        get("/ws?filter={\"a\":1}", ""),
        get("/?<", ""),
        get("/?>", ""),
        get("/a b", ""),
        get("/\u{e4}\0", ""),
        get("/", "X A: 1\r\n"),
        get("/", "X-A: \x01\r\n"),
        get("/", "no colon\r\n"),
        get("/", "Content-Length: x\r\n"),
        get("/", "Transfer-Encoding: gzip\r\n"),
        "GET / HTTP/1.2\r\nHost: a.test\r\n\r\n".into(),
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
        "\x16\x03\x01\x02\r\n\r\n".into(),
    ];
    for (n, request) in malformed.iter().enumerate() {
        let end = lockgate.request(request).await.end().await;
        let text = String::from_utf8_lossy(&end.bytes).into_owned();
        assert!(text.starts_with("HTTP/1.1 400 "), "{request:?}: {text}");
        assert!(text.contains("malformed"), "{request:?}: {text}");
        assert_eq!(end.kind, EndKind::Fin, "{request:?}");
        eventually(
            format!("{} refusals after {request:?}", n + 1),
            async || {
                observe(refusals(&lockgate, 400, "malformed").await, |count| {
                    *count == (n + 1) as f64
                })
            },
        )
        .await;
    }
    let record = lockgate.record(|record| record["why"] == "malformed").await;
    assert_eq!(
        (&record["status"], &record["client"]),
        (&400.into(), &"127.0.0.1".into())
    );
    assert_eq!(
        (&record["path"], &record["method"]),
        (&"".into(), &"".into()),
        "{record}"
    );
    eventually("a line for each request", async || {
        let lines = lockgate.records();
        let lines = lines.iter().filter(|record| record["why"] == "malformed");
        observe(lines.count(), |count| *count == malformed.len())
    })
    .await;
}

#[tokio::test]
async fn malformed_request_after_others_on_its_connection_is_recorded() {
    let lockgate = Lockgate::to(Backend::echo().await)
        .with("only = \"websocket\"")
        .start()
        .await;
    let requests = [get("/", ""), get("/", ""), get("/?\"", ""), get("/", "")].concat();
    let end = lockgate.request(requests).await.end().await;
    let text = String::from_utf8_lossy(&end.bytes).into_owned();
    assert_eq!(text.matches("HTTP/1.1 426").count(), 2, "{text}");
    assert_eq!(text.matches("HTTP/1.1 400").count(), 1, "{text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 3, "{text}");
    lockgate.record(|record| record["why"] == "malformed").await;
}

#[tokio::test]
async fn preface_of_http2_without_alpn_is_recorded() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    lockgate
        .request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .end()
        .await;
    lockgate.record(|record| record["why"] == "malformed").await;
}

#[tokio::test]
async fn head_above_the_limit_gets_431_that_names_the_key_over_both_versions() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    // The first has a path in the access log; the others are above hyper's limits.
    for (length, path) in [(16_500, "/long"), (30_000, ""), (300_000, "")] {
        let request = get("/long", &format!("X-A: {}\r\n", "x".repeat(length)));
        let mut client = lockgate.request(request).await;
        let head = client.head().await;
        let text = String::from_utf8_lossy(&client.body(&head).await).into_owned();
        assert_eq!(head.status(), 431, "{length}: {text}");
        assert!(text.contains("limits.head_size"), "{length}: {text}");
        let matches =
            |record: &serde_json::Value| record["status"] == 431 && record["path"] == path;
        assert_eq!(lockgate.record(matches).await["why"], "head-size");
    }
    for fields in [129, 200, 400] {
        let request = get("/fields", &"X-A: 1\r\n".repeat(fields));
        let mut client = lockgate.request(request).await;
        let head = client.head().await;
        let text = String::from_utf8_lossy(&client.body(&head).await).into_owned();
        assert_eq!(head.status(), 431, "{fields}: {text}");
        assert!(text.contains("128 header fields"), "{fields}: {text}");
    }
    let record = lockgate
        .record(|record| record["why"] == "head-fields")
        .await;
    assert_eq!(record["path"], "/fields");

    let mut client: H2 = lockgate.h2().await;
    for length in [17_000, 40_000] {
        let mut long = request("GET", "/long-2");
        let value = "x".repeat(length).parse().expect("a value");
        long.headers_mut().insert("x-a", value);
        assert_eq!(client.send(long).await.status(), 431, "{length}");
    }
    // The second is above the limit of h2, which answers it itself: its path is unknown.
    for path in ["/long-2", ""] {
        let matches = |record: &serde_json::Value| record["http"] == "2" && record["path"] == path;
        assert_eq!(lockgate.record(matches).await["why"], "head-size");
    }
}

#[tokio::test]
async fn each_head_above_the_limit_of_h2_is_recorded() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let mut client: H2 = lockgate.h2().await;
    // The first status is a literal in the response of h2, the others refer to it (RFC 7541 §2.3.3).
    for _ in 0..3 {
        let mut long = request("GET", "/");
        let value = "x".repeat(40_000).parse().expect("a value");
        long.headers_mut().insert("x-a", value);
        assert_eq!(client.send(long).await.status(), 431);
    }
    eventually("three records", async || {
        let records = lockgate.records();
        let refused = records.iter().filter(|it| it["why"] == "head-size");
        observe(refused.count(), |count| *count == 3)
    })
    .await;
}

#[tokio::test]
async fn head_at_the_limit_is_forwarded() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let fixed = get("/", "X-A: \r\n").len();
    let value = "x".repeat(16 * 1024 - fixed);
    let _client = lockgate
        .request(get("/", &format!("X-A: {value}\r\n")))
        .await;
    assert_eq!(
        backend.accept().await.head().await.get("x-a"),
        Some(&*value)
    );
}

/// A GET on stream 1 with these further fields.
fn h2_get(fields: &[(&str, &str)]) -> Vec<u8> {
    let base = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    let block = hpack(&[&base, fields].concat());
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
}

#[tokio::test]
async fn request_that_h2_refuses_is_recorded() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    for fields in [
        ("X-Upper", "1"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        (":path", "/twice"),
    ] {
        // h2 resets the stream, or ends the connection if the header list cannot be decoded.
        let counted = async || {
            refusals(&lockgate, 400, "malformed").await
                + refusals(&lockgate, 400, "h2-connection").await
        };
        let before = counted().await;
        let bytes = [HELLO, &h2_get(&[fields])].concat();
        let mut client = RawH2::over(lockgate.tls_for_h2().await, &bytes).await;
        while client
            .frame()
            .await
            .is_some_and(|frame| frame.kind != RST_STREAM)
        {}
        eventually("one more refusal", async || {
            observe(counted().await, |count| *count == before + 1.0)
        })
        .await;
    }
    let record = lockgate.record(|record| record["why"] == "malformed").await;
    assert_eq!(
        (&record["http"], &record["path"]),
        (&"2".into(), &"".into()),
        "{record}"
    );
}

#[tokio::test]
async fn connection_that_h2_ends_with_an_error_is_recorded() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let mut expected = 0.0;
    for bytes in [
        [HELLO, &frame(SETTINGS, 0, 1, b"")].concat(),
        [HELLO, &frame(HEADERS, END_HEADERS, 2, b"")].concat(),
        [HELLO, &frame(CONTINUATION, END_HEADERS, 1, b"")].concat(),
        [HELLO, &frame(HEADERS, END_HEADERS, 1, &[0xFF; 20])].concat(),
    ] {
        let mut client = RawH2::over(lockgate.tls_for_h2().await, &bytes).await;
        while client
            .frame()
            .await
            .is_some_and(|frame| frame.kind != GOAWAY)
        {}
        expected += 1.0;
        eventually(format!("{expected} refusals"), async || {
            observe(refusals(&lockgate, 400, "h2-connection").await, |count| {
                *count == expected
            })
        })
        .await;
    }
}

#[tokio::test]
async fn end_of_an_http2_connection_by_its_client_is_no_refusal() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let mut client = lockgate.h2().await;
    assert_eq!(client.send(request("GET", "/")).await.status(), 502);
    drop(client);
    eventually("no connection", async || {
        observe(lockgate.metric("lockgate_connections").await, |open| {
            *open == 0.0
        })
    })
    .await;
    for why in ["malformed", "h2-connection", "streams-excess"] {
        assert_eq!(refusals(&lockgate, 400, why).await, 0.0, "{why}");
    }
}

/// Runs curl against the host, and expects a failure.
async fn curl(lockgate: &Lockgate, scheme: &str, options: &[&str]) {
    let port = lockgate.https.port();
    let resolve = format!("a.test:{port}:127.0.0.1");
    let url = format!("{scheme}://a.test:{port}/");
    let mut command = Command::new("curl");
    command.args(["-s", "--max-time", "60", "--resolve", &resolve, &url]);
    command.args(options).stdout(Stdio::null());
    let status = command.status().await.expect("curl is installed");
    assert!(!status.success() || scheme == "http", "{options:?}");
}

#[tokio::test]
async fn failed_tls_handshakes_are_logged_at_info_once_per_reason_and_second() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let ca = lockgate.ca().display().to_string();
    for _ in 0..3 {
        // The CA of the system, which is not the development CA.
        curl(&lockgate, "https", &[]).await;
        curl(
            &lockgate,
            "https",
            &[
                "--cacert",
                &ca,
                "--tls-max",
                "1.2",
                "--ciphers",
                "ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA256",
            ],
        )
        .await;
        curl(
            &lockgate,
            "https",
            &[
                "--cacert",
                &ca,
                "--tls-max",
                "1.1",
                "--ciphers",
                "DEFAULT@SECLEVEL=0",
            ],
        )
        .await;
        curl(&lockgate, "http", &[]).await;
        assert!(lockgate.try_tls("unknown.test").await.is_err());
        let mut stream = TcpStream::connect(lockgate.https)
            .await
            .expect("it listens");
        stream.write_all(b"SSH-2.0-x\r\n").await.expect("it reads");
    }
    let expected = [
        ("certificate_refused", "does not trust the issuer"),
        ("incompatible", "no cipher suite in common"),
        ("plain_http", "plain HTTP"),
        ("no_certificate", "no certificate for the server name"),
        ("not_tls", "not a TLS handshake"),
    ];
    for (why, text) in expected {
        let line = eventually(format!("a line for {why}"), async || {
            let lines = lockgate.log("INFO");
            lines.into_iter().find(|line| line["why"] == why)
        })
        .await;
        let error = line["error"].as_str().unwrap_or_default();
        assert!(error.contains(text), "{line}");
        assert_eq!(line["client"], "127.0.0.1");
    }
    let lines = lockgate.log("INFO");
    let of = |why: &str| {
        lines
            .iter()
            .filter(|line| line["why"] == why)
            .collect::<Vec<_>>()
    };
    let refused = of("certificate_refused");
    assert!(
        refused[0]["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("lockgate cert trust")),
        "{refused:?}"
    );
    assert!(
        refused[0]["error"]
            .as_str()
            .is_some_and(|error| error.contains("a.test")),
        "{refused:?}"
    );
    // Of many failures of the same reason, one has a line each second, however slow the machine.
    let failures = "lockgate_connection_failures_total{why=\"not_tls\"}";
    let counted = lockgate.metric(failures).await;
    let (started, before) = (Instant::now(), of("not_tls").len());
    let mut held = vec![];
    for _ in 0..20 {
        let mut stream = TcpStream::connect(lockgate.https)
            .await
            .expect("it listens");
        stream.write_all(b"SSH-2.0-x\r\n").await.expect("it reads");
        held.push(stream);
    }
    eventually("twenty more failures", async || {
        lockgate.metric(failures).await >= counted + 20.0
    })
    .await;
    let most = before + 3 + started.elapsed().as_secs() as usize;
    let lines = lockgate.log("INFO");
    let written = lines.iter().filter(|line| line["why"] == "not_tls").count();
    assert!(written <= most, "{written} lines, {most} at most");
}

#[tokio::test]
async fn client_without_a_common_version_has_its_own_error() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let ca = lockgate.ca().display().to_string();
    curl(
        &lockgate,
        "https",
        &[
            "--cacert",
            &ca,
            "--tls-max",
            "1.1",
            "--ciphers",
            "DEFAULT@SECLEVEL=0",
        ],
    )
    .await;
    let line = eventually("a line", async || {
        let lines = lockgate.log("INFO");
        lines.into_iter().find(|line| line["why"] == "incompatible")
    })
    .await;
    let error = line["error"].as_str().unwrap_or_default();
    assert!(error.contains("no TLS version in common"), "{line}");
}

#[tokio::test]
async fn frequent_failure_of_one_backend_does_not_hide_another() {
    let refusing = Refusing::new();
    let refusing_address = refusing.address;
    let broken = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let broken_address = broken.local_addr().expect("bound");
    tokio::spawn(async move { while broken.accept().await.is_ok() {} });
    let other = format!(
        "[[routes]]\nname = \"broken\"\nhosts = [\"a.test\"]\npath = \"/broken\"\nto = \"ws://{broken_address}\"\norigins = [\"*\"]"
    );
    let lockgate = Lockgate::to(refusing_address)
        .with("name = \"refusing\"")
        .with(&other);
    let lockgate = lockgate.start().await;
    for _ in 0..5 {
        assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 502);
    }
    assert_eq!(
        lockgate.upgrade("/broken", "").await.head().await.status(),
        502
    );
    let warned = |address: std::net::SocketAddr| {
        let name = address.to_string();
        let lines = lockgate.log("WARN");
        let is_of = |line: &&serde_json::Value| line["backend"].to_string().contains(&name);
        lines.iter().filter(is_of).count()
    };
    eventually("a line for each backend", async || {
        warned(refusing_address) > 0 && warned(broken_address) > 0
    })
    .await;
}
