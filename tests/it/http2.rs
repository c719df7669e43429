//! HTTP/2: WebSockets by extended CONNECT (RFC 8441), plain requests, and isolation of streams from each other.

use crate::harness::{Backend, Frame, Lockgate, eventually, request, switching_protocols, within};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn extended_connect_becomes_an_http1_upgrade() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.h2().await;
    let pending = tokio::spawn(async move {
        let offer = [
            ("sec-websocket-protocol", "chat.v2, chat.v1"),
            ("origin", "https://a.test"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ];
        client.websocket("/room?x=1", &offer).await
    });
    let mut server = backend.accept().await;
    let seen = server.head().await;
    assert_eq!(seen.start, "GET /room?x=1 HTTP/1.1");
    for (name, value) in [
        ("host", "a.test"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat.v2, chat.v1"),
        // RFC 9113 §8.2.3.
        ("cookie", "a=1; b=2"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(seen.all(name), [value], "{name}");
    }
    let names: Vec<_> = seen.fields.iter().map(|(name, _)| &**name).collect();
    for name in ["Host", "Sec-WebSocket-Key", "Sec-WebSocket-Version"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let answer = switching_protocols(&seen, "Sec-WebSocket-Protocol: chat.v1\r\nX-More: 1\r\n");
    let early = Frame::text("with the 101").encode();
    server.send([answer.as_bytes(), &early].concat()).await;

    let (answer, session) = pending.await.expect("no panic");
    let header = |name| answer.headers().get(name).map(|value| value.as_bytes());
    assert_eq!(header("sec-websocket-protocol"), Some(&b"chat.v1"[..]));
    assert_eq!(header("x-more"), Some(&b"1"[..]));
    for name in ["upgrade", "connection", "sec-websocket-accept"] {
        assert_eq!(header(name), None, "{name}");
    }
    let mut session = session.expect("a 200");
    assert_eq!(session.frame().await, Frame::text("with the 101"));
    session.send_frame(Frame::text("up")).await;
    assert_eq!(server.frame().await, Frame::text("up").masked());
    session.send_frame(Frame::close(4000, "done")).await;
    assert_eq!(server.frame().await.closes_with(), (4000, "done"));
    server.send_frame(Frame::close(4000, "done")).await;
    assert_eq!(session.frame().await.closes_with(), (4000, "done"));
    session.end().await;
    let record = lockgate.closed().await;
    assert_eq!(
        (&record["http"], &record["code"]),
        (&"2".into(), &4000.into())
    );
}

#[tokio::test]
async fn frames_of_every_size_are_echoed() {
    let lockgate = Lockgate::to(Backend::echo().await).start().await;
    let mut client = lockgate.h2().await;
    let mut session = client.session("/").await;
    for length in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let frame = Frame::binary(&vec![7; length]);
        let sent = frame.clone();
        // Larger than the flow-control windows of both directions.
        session.send_frame(sent).await;
        assert_eq!(session.frame().await, frame, "{length}");
    }
}

#[tokio::test]
async fn plain_request_and_response_are_forwarded() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.h2().await;
    let pending = tokio::spawn(async move {
        let mut post = request("POST", "/up?x=1");
        *post.body_mut() = Full::new(Bytes::from_static(b"body"));
        let answer = client.send(post).await;
        let (parts, body) = answer.into_parts();
        (
            parts,
            body.collect().await.expect("all of it").to_bytes(),
            client,
        )
    });
    let mut server = backend.accept().await;
    let seen = server.head().await;
    assert_eq!(seen.start, "POST /up?x=1 HTTP/1.1");
    assert_eq!(seen.all("host"), ["a.test"]);
    assert_eq!(seen.get("content-length"), Some("4"));
    assert_eq!(server.exactly(4).await, b"body");
    server
        .send("HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nno")
        .await;
    let (parts, body, _client) = pending.await.expect("no panic");
    assert_eq!((parts.status.as_u16(), &body[..]), (426, &b"no"[..]));
    assert!(!parts.headers.contains_key("upgrade"), "{parts:?}");
    let record = lockgate.record(|record| record["status"] == 426).await;
    assert_eq!(
        (&record["http"], &record["host"]),
        (&"2".into(), &"a.test".into())
    );
}

#[tokio::test]
async fn refusal_of_the_backend_is_forwarded_with_its_body() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.h2().await;
    let pending = tokio::spawn(async move {
        let mut connect = request("CONNECT", "/");
        let protocol = hyper::ext::Protocol::from_static("websocket");
        connect.extensions_mut().insert(protocol);
        let (parts, body) = client.send(connect).await.into_parts();
        (parts, body.collect().await.expect("all of it").to_bytes())
    });
    let mut server = backend.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 403 Forbidden\r\nX-Why: you\r\nContent-Length: 6\r\n\r\nnot so")
        .await;
    let (parts, body) = pending.await.expect("no panic");
    assert_eq!((parts.status.as_u16(), &body[..]), (403, &b"not so"[..]));
    assert_eq!(parts.headers["x-why"], "you");
}

#[tokio::test]
async fn stuck_stream_does_not_delay_99_others() {
    // The backend of `/flood` sends without pause, the other one echoes.
    let echo = Backend::echo().await;
    let (flood, progress) = Backend::flooding().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[session]\nping = {{ legs = \"off\" }}\n\
         [[routes]]\nname = \"flood\"\nhosts = [\"a.test\"]\npath = \"/flood\"\nto = \"ws://{flood}\"\n\
         [[routes]]\nname = \"echo\"\nhosts = [\"a.test\"]\nto = \"ws://{echo}\"\n"
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut client = lockgate.h2().await;
    let _stuck = client.session("/flood").await;
    let mut others = Vec::new();
    for _ in 0..99 {
        others.push(client.session("/").await);
    }
    // The session is stuck once its backend can send no further bytes.
    let mut progress = progress;
    within("the flood to be stopped", async {
        loop {
            let pause = std::time::Duration::from_millis(500);
            if tokio::time::timeout(pause, progress.changed())
                .await
                .is_err()
            {
                break;
            }
        }
    })
    .await;
    for round in 0..20 {
        for (index, other) in others.iter_mut().enumerate() {
            let message = Frame::text(&format!("{round} {index} {}", "x".repeat(1000)));
            other.send_frame(message.clone()).await;
            assert_eq!(other.frame().await, message);
        }
    }
    assert_eq!(lockgate.status().await["sessions"], 100);
}

#[tokio::test]
async fn small_messages_of_a_paused_stream_do_not_end_another() {
    let echo = Backend::echo().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[limits]\nh2_streams = 10\n\
         [[routes]]\nname = \"slow\"\nhosts = [\"a.test\"]\npath = \"/slow\"\nto = \"ws://{echo}\"\n\
         session = {{ messages_per_second = 5 }}\n\
         [[routes]]\nname = \"echo\"\nhosts = [\"a.test\"]\nto = \"ws://{echo}\"\n"
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut client = lockgate.h2().await;
    let (mut paused, mut other) = (client.session("/slow").await, client.session("/").await);
    // As many of the smallest messages as fit into the window of a stream. Each has its own DATA frame.
    for _ in 0..9000 {
        paused.send_frame(Frame::text("x")).await;
    }
    for round in 0..5 {
        let message = Frame::text(&round.to_string());
        other.send_frame(message.clone()).await;
        assert_eq!(other.frame().await, message);
    }
    assert_eq!(paused.frame().await, Frame::text("x"));
    assert_eq!(lockgate.status().await["sessions"], 2);
}

#[tokio::test]
async fn reset_streams_count_until_their_sessions_have_ended() {
    // The backend does not answer a Close, so a session whose stream is reset lasts until `close_timeout`.
    let setup = Lockgate::to(Backend::quiet().await).with("session = { close_timeout = \"4s\" }");
    let lockgate = setup.with("[limits]\nh2_streams = 3").start().await;
    let mut client = lockgate.h2().await;
    for _ in 0..3 {
        drop(client.session("/").await);
    }
    let (refused, _) = client.websocket("/", &[]).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    let record = lockgate
        .record(|record| record["why"] == "streams-full")
        .await;
    assert_eq!(record["status"], 503);
    eventually("three sessions", async || {
        lockgate.status().await["sessions"] == 3
    })
    .await;
    // Another connection has a limit of its own.
    let _other = lockgate.h2().await.session("/").await;
    eventually("the sessions have ended", async || {
        client.websocket("/", &[]).await.0.status() == 200
    })
    .await;
}

#[tokio::test]
async fn handshake_waits_for_a_closing_session_of_its_connection() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with("[limits]\nh2_streams = 1");
    let lockgate = setup.start().await;
    let mut client = lockgate.h2().await;
    let pending = tokio::spawn(async move { (client.session("/").await, client) });
    let (mut server, _) = backend.accept_session().await;
    let (session, mut client) = pending.await.expect("no panic");
    drop(session);
    let pending = tokio::spawn(async move { client.websocket("/", &[]).await.0.status() });
    assert_eq!(server.frame().await.closes_with().0, 1001);
    server.send_frame(Frame::close(1001, "")).await;
    drop(server);
    let _next = backend.accept_session().await;
    assert_eq!(pending.await.expect("no panic"), 200);
}

#[tokio::test]
async fn h2_websocket_false_disables_extended_connect() {
    for (lines, allowed) in [("", true), ("h2_websocket = false", false)] {
        let setup = Lockgate::to(Backend::echo().await).server(lines);
        let lockgate = setup.start().await;
        let mut stream = lockgate.tls_for_h2().await;
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
            .await
            .expect("it reads");
        let settings = within("SETTINGS", async {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("a frame");
            assert_eq!(head[3], 4, "the first frame of a server is SETTINGS");
            let mut settings = vec![0; usize::from(head[2])];
            stream.read_exact(&mut settings).await.expect("the rest");
            settings
        })
        .await;
        let enabled = settings.chunks(6).any(|one| one == [0, 8, 0, 0, 0, 1]);
        assert_eq!(enabled, allowed, "{settings:?}");
    }
}

#[tokio::test]
async fn idle_connection_gets_goaway() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address);
    let lockgate = setup.server("[limits]\nidle = \"1500ms\"\n").start().await;
    let mut client = lockgate.h2().await;
    let pending = tokio::spawn(async move { (client.session("/").await, client) });
    let (mut server, _) = backend.accept_session().await;
    let (mut session, client) = pending.await.expect("no panic");
    // An idle session keeps its connection open beyond `limits.idle`.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    session.send_frame(Frame::text("still here")).await;
    assert_eq!(server.frame().await, Frame::text("still here").masked());
    session.send_frame(Frame::close(1000, "")).await;
    server.frame().await;
    server.send_frame(Frame::close(1000, "")).await;
    session.frame().await;
    drop((session, server));
    // GOAWAY without an error, and the end.
    let ended = within("the end", client.connection).await;
    ended.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn shutdown_closes_sessions_and_then_the_connection() {
    let backend = Backend::listen().await;
    let mut lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.h2().await;
    let pending = tokio::spawn(async move { (client.session("/").await, client) });
    let (mut server, _) = backend.accept_session().await;
    let (mut session, client) = pending.await.expect("no panic");
    lockgate.terminate();
    assert_eq!(session.frame().await.closes_with().0, 1001);
    assert_eq!(server.frame().await.closes_with().0, 1001);
    session.send_frame(Frame::close(1001, "")).await;
    server.send_frame(Frame::close(1001, "")).await;
    session.end().await;
    drop((session, server));
    let ended = within("the end", client.connection).await;
    ended.expect("no panic").expect("a clean end");
    assert_eq!(lockgate.exit().await, Some(0));
}

#[tokio::test]
async fn reset_stream_ends_its_session_as_gone() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.h2().await;
    let pending = tokio::spawn(async move { (client.session("/").await, client) });
    let (mut server, _) = backend.accept_session().await;
    let (session, mut client) = pending.await.expect("no panic");
    drop(session);
    assert_eq!(server.frame().await.closes_with().0, 1001);
    server.send_frame(Frame::close(1001, "")).await;
    let record = lockgate.closed().await;
    assert_eq!(
        (&record["by"], &record["why"]),
        (&"client".into(), &"gone".into())
    );
    // Its connection stays open.
    let pending = tokio::spawn(async move { (client.session("/").await, client) });
    let (mut server, _) = backend.accept_session().await;
    let (mut session, _client) = pending.await.expect("no panic");
    server.send_frame(Frame::text("down")).await;
    assert_eq!(session.frame().await, Frame::text("down"));
}
