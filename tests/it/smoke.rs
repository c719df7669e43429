//! Smoke tests: a client, the binary, a backend.

use crate::harness::{Backend, EndKind, Frame, Lockgate, eventually, observe, within};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::{client_async, tungstenite::Message};

#[tokio::test]
async fn flags_alone_serve_wss() {
    let backend = Backend::echo().await;
    let to = format!("ws://{backend}");
    let mut lockgate = Lockgate::with_flags(&["--to", &to, "--host", "a.test"])
        .start()
        .await;

    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    client.send_frame(Frame::text("hello")).await;
    assert_eq!(client.frame().await, Frame::text("hello"));

    lockgate.terminate();
    assert_eq!(client.frame().await.closes_with().0, 1001);
    client.send_frame(Frame::close(1001, "")).await;
    assert_eq!(lockgate.exit().await, Some(0));
}

#[tokio::test]
async fn environment_variables_replace_flags() {
    let backend = Backend::echo().await;
    let to = format!("ws://{backend}");
    let setup = Lockgate::with_flags(&[])
        .env("LOCKGATE_TO", &to)
        .env("LOCKGATE_HOST", "a.test");
    let lockgate = setup.start().await;
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 101);
}

#[tokio::test]
async fn frames_of_every_size_are_echoed_unchanged() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);

    let mut frames = vec![
        Frame::text(""),
        Frame::text("żółw 🐢"),
        Frame::ping(b"mine"),
    ];
    for size in [1, 125, 126, 65_535, 65_536, 1 << 20] {
        frames.push(Frame::binary(
            &(0..size).map(|i| i as u8).collect::<Vec<_>>(),
        ));
    }
    // A message in three fragments, with a Ping between them (RFC 6455 §5.4).
    let mut first = Frame::text("one ");
    first.fin = false;
    let mut second = Frame::new(0, b"two ");
    second.fin = false;
    frames.extend([
        first,
        Frame::ping(b"between"),
        second,
        Frame::new(0, b"three"),
    ]);

    for mut frame in frames {
        client.send_frame(frame.clone()).await;
        if frame.opcode == 0x9 {
            frame = Frame::pong(&frame.payload);
        }
        let back = client.frame().await;
        assert!(
            back == frame,
            "{} bytes came back as {}",
            frame.payload.len(),
            back.payload.len()
        );
    }
}

#[tokio::test]
async fn session_is_logged_when_it_opens_and_closes() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let mut client = lockgate
        .upgrade(
            "/room?token=secret",
            "Sec-WebSocket-Protocol: chat.v2, chat.v1\r\n",
        )
        .await;
    let answer = client.head().await;
    assert_eq!(
        (answer.status(), answer.get("sec-websocket-protocol")),
        (101, Some("chat.v2"))
    );

    let opened = lockgate.record(|record| record["event"] == "open").await;
    assert_eq!(opened["host"], "a.test");
    assert_eq!(opened["path"], "/room");
    assert_eq!(opened["client"], "127.0.0.1");
    assert_eq!(opened["subprotocol"], "chat.v2");

    client.send_frame(Frame::text("hello")).await;
    client.frame().await;
    client.send_frame(Frame::close(4000, "done")).await;
    assert_eq!(client.frame().await.closes_with(), (4000, "done"));
    assert_eq!(client.end().await.kind, EndKind::Fin);

    let closed = lockgate.closed().await;
    assert_eq!(closed["id"], opened["id"]);
    assert_eq!(closed["code"], 4000);
    assert_eq!(closed["by"], "client");
    assert!(
        !lockgate
            .records()
            .iter()
            .any(|record| record.to_string().contains("secret"))
    );
}

#[tokio::test]
async fn status_counts_sessions_and_leases() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    assert_eq!(lockgate.status().await["sessions"], 0);
    let (_client, _server, _) = lockgate.session(&backend).await;
    // A client receives its 101 before its session is registered.
    let status = eventually("one session", async || {
        observe(lockgate.status().await, |status| status["sessions"] == 1)
    })
    .await;
    assert_eq!(status["backends"][0]["leases"], 1, "{status}");
}

#[tokio::test]
async fn tungstenite_client_gets_its_echo() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let stream = lockgate.tls("a.test").await;
    let (mut client, response) = client_async("wss://a.test/chat", stream)
        .await
        .expect("a handshake");
    assert_eq!(response.status(), 101);
    for message in [Message::text("hello"), Message::binary(vec![7; 100_000])] {
        client.send(message.clone()).await.expect("it reads");
        let echoed = within("an echo", client.next()).await;
        assert_eq!(echoed.expect("open").expect("a message"), message);
    }
    client.close(None).await.expect("it reads");
    assert_eq!(lockgate.closed().await["by"], "client");
}
