//! How sessions end: close code, initiator and `why` word, provoked one by one. Left out is
//! after-close, which races with the end of the session.

use super::{Lines, snapshot};
use crate::harness::{Backend, Frame, Lockgate, Wire, switching_protocols};

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// Starts a backend that answers every handshake and then acts as the path requests.
async fn backend() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port is free");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut wire = Wire::plain(stream);
                let request = wire.head().await;
                wire.send(switching_protocols(&request, "")).await;
                let path = request.start.split(' ').nth(1).expect("a target");
                match path.trim_start_matches("/backend/") {
                    "closed" => wire.send_frame(Frame::close(4000, "")).await,
                    "gone" => return,
                    "cut" => return wire.send([0x82, 10, 1]).await,
                    "masked" => wire.send(Frame::text("x").masked().encode()).await,
                    _ => {}
                }
                while let Some(frame) = wire.next_frame().await {
                    if frame.is_close() {
                        wire.send_frame(Frame {
                            masked: false,
                            ..frame
                        })
                        .await;
                        return;
                    }
                }
            });
        }
    });
    address
}

/// What a client sends, by the last part of the path.
#[rustfmt::skip] // a table
fn client_cases() -> Vec<(&'static str, Vec<u8>)> {
    let part = |frame: Frame| Frame { fin: false, ..frame };
    let sent = |frames: &[Frame]| frames.iter().flat_map(|it| it.clone().masked().encode()).collect();
    let one = |frame: Frame| sent(&[frame]);
    let kibibyte = [0; 1024];
    vec![
        ("closed", one(Frame::close(1000, ""))),
        ("closed-without-code", one(Frame::new(8, b""))),
        ("reserved-opcode", one(Frame::new(3, b""))),
        ("fragmented-control", one(part(Frame::ping(b"")))),
        ("long-control", one(Frame::ping(&[0; 126]))),
        ("non-minimal-length", vec![0x82, 0xFE, 0, 1, 0, 0, 0, 0, 0]),
        ("length-overflow", vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("reserved-bits", one(Frame { reserved: 2, ..Frame::text("x") })),
        ("unmasked", Frame::text("x").encode()),
        ("lone-continuation", one(Frame::new(0, b"x"))),
        ("interrupted-message", sent(&[part(Frame::text("x")), Frame::text("y")])),
        ("short-close", one(Frame::new(8, b"x"))),
        ("bad-close-code", one(Frame::close(1005, ""))),
        ("bad-close-reason", one(Frame::new(8, b"\x03\xE8\xFF"))),
        ("frame-too-big", one(Frame::binary(&[0; 1025]))),
        ("message-too-big", sent(&[part(Frame::binary(&kibibyte)), Frame::new(0, &kibibyte)])),
        ("too-many-fragments", sent(&[part(Frame::text("x")), part(Frame::new(0, b"x")), Frame::new(0, b"x")])),
        ("offload/bad-deflate", one(Frame { reserved: 4, ..Frame::new(1, &[0xFF; 9]) })),
        ("over-rate", sent(&[Frame::text("x"), Frame::text("x"), Frame::text("x")])),
        ("ping-timeout", vec![]),
        ("max-idle", vec![]),
        ("max-age", vec![]),
    ]
}

#[tokio::test]
async fn close_codes_initiators_and_reasons_of_sessions_are_unchanged() {
    let (backend, (flooding, _taken)) = (backend().await, Backend::flooding().await);
    let mut config = String::from(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[session]\nclose_timeout = \"1s\"\n",
    );
    for (path, session) in [
        (
            "*",
            "max_frame = \"1KiB\", max_message = \"1500B\", max_fragments = 2",
        ),
        ("client/offload/*", "compression = \"offload\""),
        (
            "client/over-rate",
            "messages_per_second = 1, over_rate = \"close\"",
        ),
        (
            "client/ping-timeout",
            "ping = { interval = \"100ms\", timeout = \"100ms\" }",
        ),
        ("client/max-idle", "max_idle = \"100ms\""),
        ("client/max-age", "max_age = \"100ms\""),
        (
            "slow-reader",
            "slow_reader = { after = \"200ms\", do = \"close\" }",
        ),
        ("drained", ""),
    ] {
        let to = if path == "slow-reader" {
            flooding
        } else {
            backend
        };
        config += &format!(
            "[[routes]]\nname = {:?}\nhosts = [\"a.test\"]\npath = \"/{path}\"\nto = \"ws://{to}\"\n\
             origins = [\"*\"]\nsession = {{ {session} }}\n",
            path.replace('/', "-").replace('*', "all")
        );
    }
    let lockgate = Lockgate::with_file(&config).start().await;
    let (mut open, mut lines) = (vec![], Lines::new());
    for (case, bytes) in client_cases() {
        let path = format!("/client/{case}");
        let offer = if case.starts_with("offload") {
            DEFLATE
        } else {
            ""
        };
        let mut client = opened(&lockgate, &path, offer).await;
        client.send(bytes).await;
        open.push((path, client));
    }
    for path in [
        "/backend/closed",
        "/backend/gone",
        "/backend/cut",
        "/backend/masked",
        "/slow-reader",
    ] {
        open.push((path.to_owned(), opened(&lockgate, path, "").await));
    }
    opened(&lockgate, "/client/gone", "").await.reset();
    lines.insert(ended(&lockgate, "/client/gone").await);
    for (path, _client) in &open {
        lines.insert(ended(&lockgate, path).await);
    }
    for (path, order) in [
        ("/drained", ["drain", "--route", "drained"]),
        ("/kicked", ["kick", "--route", "all"]),
    ] {
        let _client = opened(&lockgate, path, "").await;
        // The session is registered when its record is written.
        let is_open = |it: &serde_json::Value| it["event"] == "open" && it["path"] == path;
        lockgate.record(is_open).await;
        let (accepted, output) = lockgate.command(&order).await;
        assert!(accepted, "{output}");
        lines.insert(ended(&lockgate, path).await);
    }
    snapshot("session_ends", &lines);
}

async fn opened(lockgate: &Lockgate, path: &str, offer: &str) -> Wire {
    let mut client = lockgate.upgrade(path, offer).await;
    assert_eq!(client.head().await.status(), 101, "{path}");
    client
}

async fn ended(lockgate: &Lockgate, path: &str) -> String {
    let closed = |record: &serde_json::Value| record["event"] == "close" && record["path"] == path;
    let record = lockgate.record(closed).await;
    let [code, by, why] = ["code", "by", "why"].map(|key| record[key].to_string());
    format!("{path} code={code} by={by} why={why}")
}
