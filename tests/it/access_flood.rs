//! Refused requests do not flood the access log.

use crate::harness::{Backend, Lockgate, Wire, eventually, observe};
use serde_json::Value;
use std::time::Instant;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Requests of the flood, sent together.
const FLOOD: usize = 3000;

/// The address of a client behind the trusted proxy that the test is.
const FLOODER: &str = "192.0.2.1";

#[tokio::test]
async fn refusals_of_one_client_are_limited_and_counted() {
    let lockgate = start().await;
    let mut client = lockgate.connect().await;
    let started = Instant::now();
    let path = format!("/{}", "x".repeat(8000));
    client.send(request("none.test", &path, FLOODER)).await;
    assert_eq!(read_answer(&mut client).await, 404);
    for _ in 0..FLOOD / 100 {
        let requests = request("none.test", "/x", FLOODER).repeat(100);
        client.send(requests).await;
        for _ in 0..100 {
            assert_eq!(read_answer(&mut client).await, 404);
        }
    }
    let seconds = started.elapsed().as_secs_f64();

    // Another client, and a session of the same one.
    client
        .send(request("none.test", "/other", "198.51.100.1"))
        .await;
    assert_eq!(read_answer(&mut client).await, 404);
    lockgate.record(|record| record["path"] == "/other").await;
    let mut session = lockgate
        .upgrade("/", &format!("X-Forwarded-For: {FLOODER}\r\n"))
        .await;
    assert_eq!(session.head().await.status(), 101);
    let opened = lockgate.record(|record| record["event"] == "open").await;
    assert_eq!(opened["client"], FLOODER);

    let records = eventually("a summary of the rest", async || {
        let records = lockgate.records();
        observe(records, |records| {
            lines(records) + omitted(records) == FLOOD + 1
        })
        .map_err(|records| format!("{} lines, {} omitted", lines(&records), omitted(&records)))
    })
    .await;
    let written = lines(&records);
    // 100 at once, and 10 per second.
    let most = 100 + 10 * (seconds as usize + 2);
    assert!(
        (100..=most).contains(&written),
        "{written} lines in {seconds} s"
    );
    let longest = records.iter().filter_map(|record| record["path"].as_str());
    let longest = longest.map(|path| path.chars().count()).max();
    assert!(longest <= Some(257), "{longest:?}");
}

#[tokio::test]
async fn answered_requests_are_always_logged() {
    let lockgate = start().await;
    // A status of the backend is not a refusal.
    let mut client = lockgate.connect().await;
    for _ in 0..200 {
        client.send(request("a.test", "/missing", FLOODER)).await;
        assert_eq!(read_answer(&mut client).await, 404);
    }
    eventually("200 records", async || {
        let count = lockgate
            .records()
            .iter()
            .filter(|record| record["status"] == 404)
            .count();
        observe(count, |count| *count == 200)
    })
    .await;
}

/// A proxy that trusts the test, with an echo server, and below `/missing` a server that answers 404.
async fn start() -> Lockgate {
    let missing = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = missing.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = missing.accept().await {
            tokio::spawn(answer_404(stream));
        }
    });
    Lockgate::to(Backend::echo().await)
        .with("name = \"echo\"")
        .with("[[routes]]\nname = \"missing\"\nhosts = [\"a.test\"]\npath = \"/missing\"")
        .with(&format!("to = \"http://{address}\""))
        .server("trusted_proxies = [\"127.0.0.1\"]")
        .start()
        .await
}

async fn answer_404(mut stream: TcpStream) {
    let mut request = Vec::new();
    while let Ok(1..) = stream.read_buf(&mut request).await {
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            let response = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            if stream.write_all(response).await.is_err() {
                return;
            }
        }
    }
}

fn request(host: &str, path: &str, client: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {client}\r\n\r\n")
}

async fn read_answer(wire: &mut Wire) -> u16 {
    let head = wire.head().await;
    wire.body(&head).await;
    head.status()
}

fn lines(records: &[Value]) -> usize {
    let of_flood = |record: &&Value| record["event"] == "request" && record["client"] == FLOODER;
    records.iter().filter(of_flood).count()
}

fn omitted(records: &[Value]) -> usize {
    let of_flood = |record: &&Value| record["event"] == "omitted" && record["client"] == FLOODER;
    let counts = records.iter().filter(of_flood);
    let counts = counts.filter_map(|record| record["requests"].as_u64());
    usize::try_from(counts.sum::<u64>()).expect("few")
}
