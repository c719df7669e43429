//! Access lines: the fields of JSON and the layout of text.

use super::{Lines, key_paths, snapshot};
use crate::harness::{Backend, Frame, Lockgate, Setup, eventually, observe};
use regex::Regex;
use std::fs;

const OFFER: &str = "Sec-WebSocket-Protocol: chat\r\n";

/// Opens and closes a session with and without a subprotocol, forwards a request and refuses one.
async fn traffic(setup: Setup) -> Lockgate {
    let lockgate = setup.start().await;
    for offer in ["", OFFER] {
        let mut client = lockgate.upgrade("/echo", offer).await;
        assert_eq!(client.head().await.status(), 101);
        client.send_frame(Frame::text("hello")).await;
        assert_eq!(client.text().await, "hello");
        client.send_frame(Frame::close(1000, "")).await;
        client.end().await;
    }
    for (path, status) in [("/dead", 502), ("/none", 404)] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let mut client = lockgate.request(request).await;
        assert_eq!(client.head().await.status(), status);
    }
    lockgate
}

async fn setup() -> Setup {
    let dead = "[[routes]]\nname = \"dead\"\nhosts = [\"a.test\"]\npath = \"/dead\"\nto = \"ws://127.0.0.1:1\"";
    Lockgate::to(Backend::echo().await)
        .with("name = \"echo\"\npath = \"/echo\"")
        .with(dead)
}

#[tokio::test]
async fn access_fields_in_json_are_unchanged() {
    let lockgate = traffic(setup().await).await;
    for status in [404, 502] {
        lockgate.record(|record| record["status"] == status).await;
    }
    lockgate
        .record(|record| record["event"] == "close" && record["subprotocol"] == "chat")
        .await;
    // More refusals of one address than have lines.
    let mut client = lockgate.connect().await;
    for _ in 0..150 {
        client
            .send("GET /none HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await;
        let head = client.head().await;
        client.body(&head).await;
    }
    lockgate.record(|record| record["event"] == "omitted").await;
    let mut lines = Lines::new();
    for record in lockgate.records() {
        let event = record["event"].as_str().expect("an event").to_owned();
        key_paths(&event, &record, &mut lines);
    }
    snapshot("access_json", &lines);
}

#[tokio::test]
async fn access_layout_in_text_is_unchanged() {
    let setup = setup().await.server("access = \"access.log\"");
    let lockgate = traffic(setup.env("LOCKGATE_LOG_FORMAT", "text")).await;
    let file = lockgate.folder().join("access.log");
    // Two lines of each of two sessions, and two requests.
    let text = eventually("six access lines", async || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        observe(text, |text| text.lines().count() == 6)
    })
    .await;
    let mut lines: Lines = text.lines().map(layout).collect();
    // Lines of sessions without a subprotocol differ, because fields without a value are omitted.
    assert_eq!(lines.len(), 6, "{text}");
    lines.insert(String::from("# id, duration and every number are replaced"));
    snapshot("access_text", &lines);
}

/// Replaces what differs between two runs.
fn layout(line: &str) -> String {
    [
        (r"\b[0-9a-f]{16}\b", "<id>"),
        (r" [0-9]+(\.[0-9]+)?(us|ms|s)\b", " <duration>"),
        (r"[0-9]+", "0"),
    ]
    .into_iter()
    .fold(line.to_owned(), |line, (pattern, placeholder)| {
        let pattern = Regex::new(pattern).expect("valid");
        pattern.replace_all(&line, placeholder).into_owned()
    })
}
