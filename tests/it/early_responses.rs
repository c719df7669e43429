//! Responses that are sent before the request body was read: they arrive although the client is still sending
//! (RFC 9112 §9.6, RFC 9113 §8.1). The table of clients, sizes and responses is in `tests/python/early_client.py`.

use crate::harness::{
    Backend, EndKind, Lockgate, Program, RawH2, Setup, Wire, eventually, eventually_within,
    observe,
    raw_h2::{DATA, END_HEADERS, END_STREAM, HEADERS, HELLO, RST_STREAM, frame, hpack},
    within,
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Routes for the paths of the table: refusals of Lockgate, and a backend that answers early.
fn setup(backend: SocketAddr) -> Setup {
    let route = |name: &str, path: &str, more: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\nhosts = [\"a.test\", \"localhost\"]\npath = \"{path}\"\n\
             to = \"ws://{backend}\"\n{more}\n"
        )
    };
    Lockgate::to(backend)
        .with("name = \"early-401\"\npath = \"/401/*\"")
        .with(&route("forbidden", "/ours/403", "deny = [\"127.0.0.0/8\"]"))
        .with(&route("sockets", "/ours/426", "only = \"websocket\""))
        .with(&route("draining", "/ours/503", ""))
        .with(&route("early-413", "/413/*", ""))
}

const CASES: [&str; 7] = [
    "/ours/a%2Fb=400",
    "/ours/403=403",
    "/ours/426=426",
    "/ours/503=503",
    "/401/close=401",
    "/413/close=413",
    "/413/read=413",
];

/// Uploads with these clients and sizes, `repeats` times each, and requires every response.
async fn all_arrive(clients: &str, sizes: &str, repeats: u32) {
    let (_server, backend) = Program::server("early_answer.py").await;
    let lockgate = setup(backend).start().await;
    let (accepted, output) = lockgate.command(&["drain", "--route", "draining"]).await;
    assert!(accepted, "{output}");
    let base = format!("https://localhost:{}", lockgate.https.port());
    let (ca, repeats) = (lockgate.ca().display().to_string(), repeats.to_string());
    let arguments = [&[&*base, &ca, &repeats, clients, sizes], &CASES[..]].concat();
    let output = Program::run("early_client.py", &arguments).await;
    let (lines, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{lines}{errors}");
    let all = format!(" {repeats}/{repeats} ");
    let lost: Vec<_> = lines.lines().filter(|line| !line.contains(&all)).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    let rows = clients.split(',').count() * sizes.split(',').count() * CASES.len();
    assert_eq!(lines.lines().count(), rows, "{lines}");
}

#[tokio::test]
async fn responses_before_the_end_of_a_short_upload_arrive_in_every_client() {
    all_arrive(
        "requests-1,curl-1,curl-2,aiohttp-1,httpx-1,httpx-2",
        "60000,1000000",
        3,
    )
    .await;
}

#[tokio::test]
async fn responses_before_the_end_of_a_long_upload_arrive_in_every_client() {
    all_arrive(
        // A body of this length may take httpx over HTTP/2 longer than the lingering close lasts.
        "requests-1,curl-1,curl-2,aiohttp-1,httpx-1",
        "30000000",
        1,
    )
    .await;
}

/// The head of a request with 30 MB, which the route refuses.
const UPLOAD: &str =
    "POST /ours/a%2Fb HTTP/1.1\r\nHost: a.test\r\nContent-Length: 30000000\r\n\r\n";

async fn connections(lockgate: &Lockgate) -> f64 {
    lockgate.metric("lockgate_connections").await
}

#[tokio::test]
async fn connection_with_an_unread_body_is_half_closed_and_discards_the_rest() {
    let lockgate = setup(Backend::echo().await).start().await;
    let mut client = lockgate.request(UPLOAD).await;
    client.send([b'x'; 10_000]).await;
    let end = client.end().await;
    let text = String::from_utf8_lossy(&end.bytes).into_owned();
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    assert!(text.to_lowercase().contains("connection: close"), "{text}");
    assert_eq!(end.kind, EndKind::Fin);
    // The rest is accepted, and the connection still counts.
    for _ in 0..20 {
        client.send(vec![b'x'; 100_000]).await;
    }
    assert_eq!(connections(&lockgate).await, 1.0);
    drop(client);
    eventually("no connection", async || {
        observe(connections(&lockgate).await, |open| *open == 0.0)
    })
    .await;
}

#[tokio::test]
async fn lingering_close_ends_after_five_seconds_without_a_byte() {
    let lockgate = setup(Backend::echo().await).start().await;
    let mut client = lockgate.request(UPLOAD).await;
    assert_eq!(client.end().await.kind, EndKind::Fin);
    let (begun, mut silent_since) = (Instant::now(), Instant::now());
    while begun.elapsed() < Duration::from_secs(3) {
        client.send(b"x").await;
        silent_since = Instant::now();
        assert_eq!(connections(&lockgate).await, 1.0);
    }
    eventually_within(Duration::from_secs(15), "no connection", async || {
        observe(connections(&lockgate).await, |open| *open == 0.0)
    })
    .await;
    let waited = silent_since.elapsed();
    assert!(waited > Duration::from_millis(4500), "{waited:?}");
}

#[tokio::test]
async fn lingering_connections_count_towards_the_limit_of_their_address() {
    let limits = "[limits]\nconnections_per_ip = 1";
    let lockgate = setup(Backend::echo().await).with(limits).start().await;
    let mut client = lockgate.request(UPLOAD).await;
    assert_eq!(client.end().await.kind, EndKind::Fin);
    assert!(lockgate.try_tls("a.test").await.is_err());
    drop(client);
    eventually("another connection", async || {
        lockgate.try_tls("a.test").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn shutdown_ends_lingering_connections_within_a_second_and_exits_with_0() {
    let drain = "[drain]\nwindow = \"20s\"\naccept_grace = \"0s\"";
    let mut lockgate = setup(Backend::echo().await).with(drain).start().await;
    let mut client = lockgate.request(UPLOAD).await;
    assert_eq!(client.end().await.kind, EndKind::Fin);
    let sending = tokio::spawn(async move {
        while client.try_send(b"x").await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let begun = Instant::now();
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));
    // A second and a margin: `drain.window` is 20 s.
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    within("the end of the connection", sending)
        .await
        .expect("no panic");
}

#[tokio::test]
async fn early_response_of_a_backend_that_resets_its_connection_arrives_whole() {
    // The response fits the receive buffer: what the backend has not sent at the reset is lost.
    let (_server, backend) = Program::server("early_answer.py").await;
    let lockgate = setup(backend).start().await;
    for path in ["/413/close?20000", "/413/close?10"] {
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 30000000\r\n\r\n");
        let mut client = lockgate.request(request).await;
        let length = path
            .split('?')
            .nth(1)
            .expect("a length")
            .parse::<usize>()
            .expect("a number");
        let _ = client
            .fill(&vec![b'x'; 5_000_000], Duration::from_secs(1))
            .await;
        let head = client.head().await;
        assert_eq!(head.status(), 413, "{path}");
        assert_eq!(client.body(&head).await.len(), length, "{path}");
    }
}

#[tokio::test]
async fn malformed_framing_closes_the_connection() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let next = "GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for fields in [
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: , chunked\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Content_Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n",
    ] {
        let method = if fields.starts_with("Upgrade") {
            "GET"
        } else {
            "POST"
        };
        let request = format!("{method} / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n0\r\n\r\n{next}");
        let end = lockgate.request(request).await.end().await;
        let text = String::from_utf8_lossy(&end.bytes).into_owned();
        assert!(text.starts_with("HTTP/1.1 400 "), "{fields:?}: {text}");
        assert!(
            text.to_lowercase().contains("connection: close"),
            "{fields:?}: {text}"
        );
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{fields:?}: {text}");
        assert_eq!(end.kind, EndKind::Fin, "{fields:?}");
    }
    assert!(
        lockgate
            .records()
            .iter()
            .all(|record| record["path"] != "/next")
    );
}

/// An upload to a path; its body has begun.
fn h2_upload(path: &str) -> Vec<u8> {
    let list = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", path),
    ];
    let data = frame(DATA, 0, 1, &[b'x'; 16_000]);
    [
        HELLO,
        &frame(HEADERS, END_HEADERS, 1, &hpack(&list)),
        &data,
        &data,
    ]
    .concat()
}

#[tokio::test]
async fn http2_response_is_complete_before_its_stream_is_reset_without_error() {
    let (_server, backend) = Program::server("early_answer.py").await;
    let lockgate = setup(backend).start().await;
    for (path, status) in [
        ("/ours/a%2Fb", 400),
        ("/ours/426", 426),
        ("/413/close", 413),
    ] {
        let mut client = RawH2::over(lockgate.tls_for_h2().await, &h2_upload(path)).await;
        let (mut seen, mut is_complete) = (None, false);
        loop {
            let frame = client.frame().await.expect("the response precedes the end");
            match frame.kind {
                HEADERS if frame.stream == 1 => seen = Some(frame.status()),
                RST_STREAM => {
                    assert!(is_complete, "{path}: {frame:?}");
                    assert_eq!(frame.error(), 0, "{path}");
                    break;
                }
                _ => {}
            }
            is_complete |=
                frame.stream == 1 && frame.kind <= HEADERS && frame.flags & END_STREAM != 0;
        }
        assert_eq!(seen, Some(status), "{path}");
    }
}

#[tokio::test]
async fn plain_http_upload_to_the_tls_port_gets_its_response() {
    let lockgate = setup(Backend::echo().await).start().await;
    let stream = tokio::net::TcpStream::connect(lockgate.https)
        .await
        .expect("it listens");
    let mut client = Wire::plain(stream);
    client.send(UPLOAD).await;
    client.send(vec![b'x'; 1_000_000]).await;
    let end = client.end().await;
    assert!(end.bytes.starts_with(b"HTTP/1.1 400 "));
    assert_eq!(end.kind, EndKind::Fin);
    client.send(vec![b'x'; 1_000_000]).await;
    let failures = "lockgate_connection_failures_total{why=\"plain_http\"}";
    lockgate.until_metric(failures, 1.0).await;
}
