//! The matrix of closes: {client, backend} × {Close with a code, FIN without Close, RST, kill -9, truncation in
//! mid-frame} × what each side then receives.

use crate::harness::{Backend, End, EndKind, Frame, Lockgate, Program, Wire};

/// Opens a session; the test controls both ends.
async fn session() -> (Lockgate, Wire, Wire) {
    let backend = Backend::listen().await;
    // Some peers here never answer a Close; the wait for them is short.
    let setup = Lockgate::to(backend.address).with("session = { close_timeout = \"1s\" }");
    let lockgate = setup.start().await;
    let (client, server, _) = lockgate.session(&backend).await;
    (lockgate, client, server)
}

fn nothing_more(kind: EndKind) -> End {
    End {
        bytes: vec![],
        kind,
    }
}

// --- Close with a code ---

#[tokio::test]
async fn client_close_is_relayed_and_answered_by_the_backend() {
    for (code, reason) in [
        (1000, ""),
        (1001, "going away"),
        (3000, "registered"),
        (4001, "the moon is full"),
    ] {
        let (lockgate, mut client, mut server) = session().await;
        let close = Frame::close(code, reason);
        client.send_frame(close.clone()).await;
        assert_eq!(
            server.frame().await,
            close.clone().masked(),
            "as it was sent, still masked"
        );
        server.send_frame(Frame::close(code, "seen")).await;
        server.finish().await;
        assert_eq!(client.frame().await.closes_with(), (code, "seen"));
        assert_eq!(client.end().await, nothing_more(EndKind::Fin));
        assert_eq!(server.end().await, nothing_more(EndKind::Fin));
        let record = lockgate.closed().await;
        assert_eq!(
            (&record["code"], &record["by"]),
            (&code.into(), &"client".into()),
            "{record}"
        );
    }
}

#[tokio::test]
async fn backend_close_is_relayed_and_answered_by_the_client() {
    for (code, reason) in [
        (1000, ""),
        (1012, "restarting"),
        (1014, ""),
        (4002, "kicked"),
    ] {
        let (lockgate, mut client, mut server) = session().await;
        let close = Frame::close(code, reason);
        server.send_frame(close.clone()).await;
        assert_eq!(client.frame().await, close);
        client.send_frame(Frame::close(code, "seen")).await;
        assert_eq!(server.frame().await.closes_with(), (code, "seen"));
        server.finish().await;
        assert_eq!(client.end().await, nothing_more(EndKind::Fin));
        assert_eq!(server.end().await, nothing_more(EndKind::Fin));
        let record = lockgate.closed().await;
        assert_eq!(
            (&record["code"], &record["by"]),
            (&code.into(), &"backend".into()),
            "{record}"
        );
    }
}

#[tokio::test]
async fn close_without_a_code_is_relayed_without_one() {
    let (_lockgate, mut client, mut server) = session().await;
    let empty = Frame::new(0x8, b"");
    client.send_frame(empty.clone()).await;
    assert_eq!(server.frame().await, empty.clone().masked());
    server.send_frame(empty.clone()).await;
    assert_eq!(client.frame().await, empty);
}

#[tokio::test]
async fn backend_messages_after_the_client_close_are_relayed() {
    let (_lockgate, mut client, mut server) = session().await;
    client.send_frame(Frame::close(1000, "")).await;
    assert!(server.frame().await.is_close());
    server.send_frame(Frame::text("last words")).await;
    server.send_frame(Frame::close(1000, "")).await;
    assert_eq!(client.frame().await, Frame::text("last words"));
    assert_eq!(client.frame().await.closes_with().0, 1000);
}

#[tokio::test]
async fn unanswered_close_ends_after_close_timeout() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with("session = { close_timeout = \"300ms\" }");
    let lockgate = setup.start().await;
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    client.send_frame(Frame::close(1000, "")).await;
    assert!(server.frame().await.is_close());
    // Neither end answers.
    client.end().await;
    server.end().await;
    lockgate.closed().await;
}

// --- FIN without Close ---

#[tokio::test]
async fn client_fin_sends_1001_to_the_backend_and_relays_its_rest() {
    for with_close_notify in [true, false] {
        let (lockgate, mut client, mut server) = session().await;
        client.send_frame(Frame::text("before")).await;
        if with_close_notify {
            client.finish().await
        } else {
            client.fin_without_close_notify()
        }
        assert_eq!(server.frame().await, Frame::text("before").masked());
        let close = server.frame().await;
        assert!(close.masked);
        assert_eq!(close.closes_with().0, 1001);
        server.send_frame(Frame::text("too late?")).await;
        assert_eq!(client.frame().await, Frame::text("too late?"));
        server.send_frame(Frame::close(1001, "")).await;
        server.finish().await;
        assert_eq!(server.end().await, nothing_more(EndKind::Fin));
        assert_eq!(client.end().await.kind, EndKind::Fin);
        assert_eq!(lockgate.closed().await["by"], "client");
    }
}

#[tokio::test]
async fn backend_fin_sends_1011_to_the_client_and_relays_its_rest() {
    let (lockgate, mut client, mut server) = session().await;
    server.send_frame(Frame::text("before")).await;
    server.finish().await;
    assert_eq!(client.frame().await, Frame::text("before"));
    assert_eq!(client.frame().await.closes_with().0, 1011);
    client.send_frame(Frame::text("too late?")).await;
    assert_eq!(server.frame().await, Frame::text("too late?").masked());
    client.send_frame(Frame::close(1011, "")).await;
    assert_eq!(client.end().await, nothing_more(EndKind::Fin));
    server.end().await;
    let record = lockgate.closed().await;
    assert_eq!(record["by"], "backend", "{record}");
}

#[tokio::test]
async fn backend_gone_code_is_configurable() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with("session = { backend_gone_code = 4999 }");
    let lockgate = setup.start().await;
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    server.finish().await;
    assert_eq!(client.frame().await.closes_with().0, 4999);
}

// --- RST ---

#[tokio::test]
async fn client_reset_sends_1001_to_the_backend() {
    let (lockgate, mut client, mut server) = session().await;
    client.send_frame(Frame::text("before")).await;
    assert_eq!(server.frame().await, Frame::text("before").masked());
    client.reset();
    assert_eq!(server.frame().await.closes_with().0, 1001);
    server.send_frame(Frame::close(1001, "")).await;
    assert_eq!(server.end().await, nothing_more(EndKind::Fin));
    assert_eq!(lockgate.closed().await["by"], "client");
}

#[tokio::test]
async fn backend_reset_sends_1011_to_the_client() {
    let (lockgate, mut client, mut server) = session().await;
    server.send_frame(Frame::text("before")).await;
    assert_eq!(client.frame().await, Frame::text("before"));
    server.reset();
    assert_eq!(client.frame().await.closes_with().0, 1011);
    client.send_frame(Frame::close(1011, "")).await;
    assert_eq!(client.end().await, nothing_more(EndKind::Fin));
    assert_eq!(lockgate.closed().await["by"], "backend");
}

// --- kill -9 ---

#[tokio::test]
async fn killed_client_sends_1001_to_the_backend() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let url = format!("wss://localhost:{}/", lockgate.https.port());
    let mut client = Program::start("hold.py", &[&url, &lockgate.ca().display().to_string()]);
    let (mut server, _) = backend.accept_session().await;
    assert_eq!(client.line().await, "open");
    client.kill().await;
    assert_eq!(server.frame().await.closes_with().0, 1001);
    server.send_frame(Frame::close(1001, "")).await;
    assert_eq!(server.end().await, nothing_more(EndKind::Fin));
    assert_eq!(lockgate.closed().await["by"], "client");
}

#[tokio::test]
async fn killed_backend_sends_1011_to_the_client() {
    let (server, address) = Program::server("websockets_echo.py").await;
    let lockgate = Lockgate::to(address).start().await;
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    client.send_frame(Frame::text("hello")).await;
    assert_eq!(client.frame().await, Frame::text("hello"));
    server.kill().await;
    assert_eq!(client.frame().await.closes_with().0, 1011);
    client.send_frame(Frame::close(1011, "")).await;
    assert_eq!(client.end().await, nothing_more(EndKind::Fin));
    assert_eq!(lockgate.closed().await["by"], "backend");
}

// --- Truncation in mid-frame ---

/// After the header, in the payload, and one byte before the end.
const CUTS: [usize; 3] = [6, 40, 105];

#[tokio::test]
async fn truncated_client_frame_closes_backend_tcp_without_extra_bytes() {
    let whole = Frame::binary(&[7; 100]).masked().encode();
    for cut in CUTS {
        for reset in [false, true] {
            let (lockgate, mut client, mut server) = session().await;
            client.send_frame(Frame::text("whole")).await;
            assert_eq!(server.frame().await, Frame::text("whole").masked());
            client.send(&whole[..cut]).await;
            if reset {
                client.reset();
            } else {
                client.finish().await;
            }
            let end = server.end().await;
            assert!(
                whole[..cut].starts_with(&end.bytes) || (reset && is_a_close(&end.bytes)),
                "cut at {cut}, reset {reset}: {:?}",
                end.bytes
            );
            assert!(
                reset || partly_relayed(&end.bytes, cut),
                "cut at {cut}: {:?}",
                end.bytes
            );
            assert_eq!(lockgate.closed().await["by"], "client");
        }
    }
}

#[tokio::test]
async fn truncated_backend_frame_closes_client_tcp_without_extra_bytes() {
    let whole = Frame::binary(&[7; 104]).encode();
    for cut in CUTS {
        for reset in [false, true] {
            let (lockgate, mut client, mut server) = session().await;
            server.send_frame(Frame::text("whole")).await;
            assert_eq!(client.frame().await, Frame::text("whole"));
            server.send(&whole[..cut]).await;
            if reset {
                server.reset();
            } else {
                server.finish().await;
            }
            let end = client.end().await;
            assert!(
                whole[..cut].starts_with(&end.bytes) || (reset && is_a_close(&end.bytes)),
                "cut at {cut}, reset {reset}: {:?}",
                end.bytes
            );
            assert!(
                reset || partly_relayed(&end.bytes, cut),
                "cut at {cut}: {:?}",
                end.bytes
            );
            assert_eq!(lockgate.closed().await["by"], "backend");
        }
    }
}

/// A reset discards unread bytes: if no byte of the frame was read, the peer receives a Close.
fn is_a_close(bytes: &[u8]) -> bool {
    Frame::decode(bytes).is_some_and(|(frame, length)| {
        length == bytes.len() && matches!(frame.closes_with().0, 1001 | 1011)
    })
}

/// After a FIN every byte that was read has been delivered.
fn partly_relayed(relayed: &[u8], cut: usize) -> bool {
    relayed.len() == cut
}

#[tokio::test]
async fn truncated_header_is_not_relayed() {
    let (lockgate, mut client, mut server) = session().await;
    client.send([0x82]).await;
    client.finish().await;
    assert_eq!(server.frame().await.closes_with().0, 1001);
    assert_eq!(
        lockgate.record(|record| record["event"] == "open").await["path"],
        "/"
    );

    let (lockgate, mut client, mut server) = session().await;
    server.send([0x82]).await;
    server.finish().await;
    assert_eq!(client.frame().await.closes_with().0, 1011);
    client.send_frame(Frame::close(1011, "")).await;
    assert_eq!(lockgate.closed().await["by"], "backend");
}
