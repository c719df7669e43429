//! No peer can postpone the end of a connection, of a session or of a shutdown. The table of all paths is in
//! `docs/architecture.md`.

use crate::harness::{
    Backend, Frame, Lockgate, RawH2, handshake,
    raw_h2::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, HELLO, PING, frame, hpack, read_frame},
    within,
};
use std::time::{Duration, Instant};
use tokio::{io::AsyncWriteExt, net::TcpStream};

#[tokio::test]
async fn h2_client_that_ignores_goaway_is_disconnected() {
    let backend = Backend::listen().await;
    let limits = "[limits]\nidle = \"1s\"\nrequest_head = \"2s\"\n";
    let lockgate = Lockgate::to(backend.address).server(limits).start().await;
    let first = frame(HEADERS, END_HEADERS | END_STREAM, 1, &unknown_host());
    let stream = lockgate.tls_for_h2().await;
    let raw = RawH2::over(stream, &[HELLO, &first].concat()).await;
    let (mut reader, mut writer) = tokio::io::split(raw.into_inner());
    within("GOAWAY", async {
        while read_frame(&mut reader).await.expect("a frame").kind != GOAWAY {}
    })
    .await;
    // Its requests go on, and the PING that follows the GOAWAY is not answered.
    let started = Instant::now();
    let requests = async {
        let mut ticker = tokio::time::interval(Duration::from_millis(50));
        for stream in 1.. {
            ticker.tick().await;
            let next = frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                2 * stream + 1,
                &unknown_host(),
            );
            if writer.write_all(&next).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let closed = async { while read_frame(&mut reader).await.is_some() {} };
    within("the end of the connection", async {
        tokio::select! {
            () = requests => {}
            () = closed => {}
        }
    })
    .await;
    // No other deadline ends it.
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2_frames_without_pause_do_not_extend_the_head_deadline() {
    let backend = Backend::listen().await;
    let limits = "[limits]\nidle = \"1s\"\nrequest_head = \"1s\"\n";
    let lockgate = Lockgate::to(backend.address).server(limits).start().await;
    let unknown = frame(0x42, 0, 0, &[0; 1000]).repeat(16);
    for first in [
        vec![],
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &unknown_host()),
    ] {
        let stream = lockgate.tls_for_h2().await;
        let started = Instant::now();
        let raw = RawH2::over(stream, &[HELLO, &first].concat()).await;
        let (mut reader, mut writer) = tokio::io::split(raw.into_inner());
        let reading = tokio::spawn(async move { while read_frame(&mut reader).await.is_some() {} });
        let flood = async {
            while writer.write_all(&unknown).await.is_ok() && writer.flush().await.is_ok() {}
        };
        within("the end of the connection", flood).await;
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "{:?}",
            started.elapsed()
        );
        reading.abort();
    }
}

/// Connections in every phase, of clients that neither answer nor leave.
#[tokio::test]
async fn shutdown_ends_within_its_window() {
    let backend = Backend::listen().await;
    let drain = "[drain]\nwindow = \"3s\"\naccept_grace = \"0s\"\n";
    let setup = Lockgate::to(backend.address).server(drain);
    let setup = setup.with("session = { close_timeout = \"500ms\" }");
    let mut lockgate = setup.start().await;
    let silent = TcpStream::connect(lockgate.https)
        .await
        .expect("it listens");
    let mut half_hello = TcpStream::connect(lockgate.https)
        .await
        .expect("it listens");
    half_hello
        .write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1])
        .await
        .expect("it reads");
    let half_head = lockgate.request("GET / HT").await;
    let (session, server, _) = lockgate.session(&backend).await;
    let stalled_handshake = lockgate.request(handshake("/", "")).await;
    let mut unanswered = backend.accept().await;
    unanswered.head().await;
    let mut events = lockgate
        .request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let mut event_server = backend.accept().await;
    event_server.head().await;
    event_server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        .await;
    assert_eq!(events.head().await.status(), 200);
    let upload = lockgate
        .request("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nsome")
        .await;
    let mut upload_server = backend.accept().await;
    upload_server.head().await;
    let open = hpack(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", "/"),
    ]);
    let open = frame(HEADERS, END_HEADERS | END_STREAM, 1, &open);
    let ping = frame(PING, 0, 0, &[7; 8]);
    let h2 = RawH2::over(lockgate.tls_for_h2().await, &[HELLO, &open, &ping].concat()).await;
    let mut h2_server = backend.accept().await;
    h2_server.head().await;
    let mut in_frame = lockgate.session(&backend).await;
    in_frame
        .0
        .send(&Frame::text("the beginning").masked().encode()[..8])
        .await;

    let started = Instant::now();
    lockgate.terminate();
    lockgate.exit().await;
    let took = started.elapsed();
    // A window and a margin; a connection that postpones the end would do so without limit.
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop((
        silent,
        half_hello,
        half_head,
        session,
        server,
        stalled_handshake,
        unanswered,
    ));
    drop((
        events,
        event_server,
        upload,
        upload_server,
        h2,
        h2_server,
        in_frame,
    ));
}

/// A request that is refused with 404 and reaches no backend.
fn unknown_host() -> Vec<u8> {
    hpack(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "elsewhere.test"),
        (":path", "/"),
    ])
}
