//! Slow clients: each is disconnected at its deadline, and not before.

use crate::harness::{Backend, EndKind, Lockgate, Wire, eventually, handshake, within};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Deadlines that differ, and long enough for a handshake or a request on a loaded machine.
const LIMITS: &str = "[limits]\ntls_handshake = \"1s\"\nrequest_head = \"1600ms\"\nbody_idle = \"1200ms\"\nidle = \"2s\"";

async fn with_short_limits(backend: &Backend) -> Lockgate {
    Lockgate::to(backend.address)
        .server(&format!("{LIMITS}\n"))
        .start()
        .await
}

#[tokio::test]
async fn unfinished_tls_handshake_is_closed_at_its_deadline() {
    let backend = Backend::listen().await;
    let lockgate = with_short_limits(&backend).await;
    for bytes in [&b""[..], &[0x16, 3, 1, 2, 0, 1, 0, 1]] {
        let started = Instant::now();
        let mut stream = TcpStream::connect(lockgate.https)
            .await
            .expect("it listens");
        stream.write_all(bytes).await.expect("it reads");
        let ended = within("the end", stream.read_u8()).await;
        assert!(ended.is_err(), "{bytes:?}");
        assert_closed_after(started, 1000);
    }
}

#[tokio::test]
async fn unfinished_request_head_is_closed_at_its_deadline() {
    let backend = Backend::listen().await;
    let lockgate = with_short_limits(&backend).await;
    for bytes in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow: "] {
        // The deadline begins with the end of the TLS handshake, which the client may notice later.
        let started = Instant::now();
        let mut wire = lockgate.connect().await;
        wire.send(bytes).await;
        wire.end().await;
        assert_closed_after(started, 1600);
    }
    assert!(backend.untouched());
}

#[tokio::test]
async fn dripping_bytes_do_not_extend_the_head_deadline() {
    let backend = Backend::listen().await;
    let lockgate = with_short_limits(&backend).await;
    let started = Instant::now();
    let mut stream = lockgate.tls("a.test").await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nX: ")
        .await
        .expect("it reads");
    let mut ticker = tokio::time::interval(Duration::from_millis(50));
    let (mut reader, mut writer) = tokio::io::split(stream);
    let drip = async {
        loop {
            ticker.tick().await;
            if writer.write_all(b"x").await.is_err() || writer.flush().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let ended = async { while reader.read_u8().await.is_ok() {} };
    within("the end", async {
        tokio::select! {
            () = drip => {}
            () = ended => {}
        }
    })
    .await;
    assert_closed_after(started, 1600);
}

#[tokio::test]
async fn idle_connection_is_closed_after_the_idle_limit() {
    let backend = Backend::listen().await;
    // Far longer than `idle`: if another limit were added to it, the connection would not be closed in time.
    let limits = "[limits]\ntls_handshake = \"20s\"\nrequest_head = \"20s\"\nbody_idle = \"20s\"\nidle = \"1500ms\"\n";
    let lockgate = Lockgate::to(backend.address).server(limits).start().await;
    let mut client = lockgate
        .request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let started = Instant::now();
    answer(&backend).await;
    let head = client.head().await;
    assert_eq!(client.body(&head).await, b"ok");
    assert_eq!(client.end().await.kind, EndKind::Fin);
    assert_closed_after(started, 1500);
}

#[tokio::test]
async fn idle_client_is_closed_after_its_request() {
    let backend = Backend::listen().await;
    let lockgate = with_short_limits(&backend).await;
    // Sent together with the end of the TLS handshake: the request has arrived before the server waits for it.
    let started = Instant::now();
    let mut client = lockgate
        .request_with_handshake("GET / HTTP/1.1\r\nHost: \r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 400);
    client.end().await;
    assert_closed_after(started, 2000);
}

#[tokio::test]
async fn request_sent_with_the_handshake_is_answered_and_closed_when_idle() {
    let backend = Backend::listen().await;
    let lockgate = with_short_limits(&backend).await;
    let started = Instant::now();
    let mut stream = lockgate
        .tls_with(b"GET / HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n")
        .await;
    let mut answer = Vec::new();
    let ended = within("the end", stream.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 404 "), "{ended:?}");
    assert_closed_after(started, 2000);
}

#[tokio::test]
async fn stalled_body_is_a_408() {
    let backend = Backend::listen().await;
    let lockgate = with_short_limits(&backend).await;
    let started = Instant::now();
    let mut client = lockgate
        .request("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    let mut server = backend.accept().await;
    server.head().await;
    assert_eq!(client.head().await.status(), 408);
    assert_closed_after(started, 1200);
}

#[tokio::test]
async fn client_that_does_not_read_its_response_is_closed() {
    let backend = Backend::listen().await;
    let lockgate = with_short_limits(&backend).await;
    let _stuck = lockgate
        .request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        .await;
    let piece = vec![b'x'; 1 << 20];
    // Until Lockgate, which cannot deliver the response, closes the connection.
    within("the end", async {
        while server.try_send(&piece).await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn silent_backend_is_closed_after_answer_idle() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address);
    let lockgate = setup
        .server("[limits]\nanswer_idle = \"600ms\"\n")
        .start()
        .await;

    let started = Instant::now();
    let mut client = lockgate
        .request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    server.head().await;
    assert_eq!(client.head().await.status(), 504);
    assert_closed_after(started, 600);
    server.end().await;

    // In the middle of a response and of a refused handshake: the connection can only be closed.
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &handshake("/", ""),
    ] {
        let mut client = lockgate.request(request).await;
        let mut server = backend.accept().await;
        server.head().await;
        let started = Instant::now();
        server
            .send("HTTP/1.1 403 Forbidden\r\nContent-Length: 20\r\n\r\nno")
            .await;
        assert_eq!(client.head().await.status(), 403);
        client.end().await;
        assert_closed_after(started, 600);
        server.end().await;
    }
    eventually("no lease", async || {
        lockgate.status().await["backends"][0]["leases"] == 0
    })
    .await;
}

#[tokio::test]
async fn answer_idle_does_not_count_during_an_upload() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address);
    let lockgate = setup
        .server("[limits]\nanswer_idle = \"1s\"\n")
        .start()
        .await;
    let mut client = lockgate
        .request("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 20\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    server.head().await;
    let mut ticker = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..20 {
        // The elapsed time is tested: the upload takes longer than `answer_idle`.
        ticker.tick().await;
        client.send("x").await;
        server.exactly(1).await;
    }
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 200);
}

#[tokio::test]
async fn long_poll_is_not_limited_by_client_deadlines() {
    let backend = Backend::listen().await;
    let lockgate = with_short_limits(&backend).await;
    let mut client = lockgate
        .request("GET /poll HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    server.head().await;
    // The elapsed time is tested: the wait is longer than any of the limits.
    tokio::time::sleep(Duration::from_millis(3000)).await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
        .await;
    let head = client.head().await;
    assert_eq!(client.body(&head).await, b"late");
}

async fn answer(backend: &Backend) {
    let mut server: Wire = backend.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await;
}

/// Checks that about this time has passed: not less, and less than the defaults of the limits, which are 10 s or more.
#[track_caller]
fn assert_closed_after(started: Instant, millis: u64) {
    let took = started.elapsed();
    let due = Duration::from_millis(millis);
    assert!(
        took + Duration::from_millis(100) >= due,
        "{took:?} instead of {due:?}"
    );
    assert!(
        took < Duration::from_millis(9500),
        "{took:?} instead of {due:?}"
    );
}
