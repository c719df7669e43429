//! Clients that do not read a response, or send a request body, fast enough: each stream has a deadline of its own
//! (`limits.body_idle`, `limits.body_min_rate`), whatever the flow control of HTTP/2 permits.

use crate::harness::{
    Backend, DEADLINE, Lockgate, RawH2, Wire, eventually, observe,
    raw_h2::{
        DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, HELLO, RST_STREAM, RawFrame, SETTINGS,
        WINDOW_UPDATE, frame, hpack,
    },
    within,
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    sync::watch,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// `limits.body_idle` in these tests.
const BODY_IDLE: Duration = Duration::from_secs(1);

/// The other deadlines are longer than that of any wait of the tests.
const LIMITS: &str = "[limits]\nbody_idle = \"1s\"\nanswer_idle = \"90s\"\nidle = \"120s\"\n";

#[tokio::test]
async fn unread_h2_response_is_reset_after_body_idle() {
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n".to_owned() + &"x".repeat(100);
    let refused_handshake = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n{}",
        "x".repeat(100)
    );
    for (name, list, response, window) in [
        ("unfinished response, no window", get("/"), &*long, 0),
        ("unfinished response, small window", get("/"), &*long, 10),
        ("chunked response, no window", get("/"), chunked, 0),
        ("complete response, no window", get("/"), &*short, 0),
        // The tail is queued in the HTTP/2 connection.
        ("complete response, small window", get("/"), &*short, 10),
        ("refused handshake", connect("/"), &*refused_handshake, 0),
    ] {
        let backend = Backend::listen().await;
        let lockgate = Lockgate::to(backend.address).server(LIMITS).start().await;
        let mut client = h2_with_window(&lockgate, window).await;
        client
            .try_send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &list))
            .await;
        let mut server = backend.accept().await;
        server.head().await;
        let started = Instant::now();
        server.send(response).await;
        let reset = until(&mut client, RST_STREAM).await;
        assert_eq!(reset.stream, 1, "{name}");
        assert_due(name, started, BODY_IDLE);
        server.end().await;
        assert_no_leases(&lockgate).await;
    }
}

#[tokio::test]
async fn unread_h2_refusal_is_reset_after_body_idle() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).server(LIMITS).start().await;
    for window in [0, 3] {
        let mut client = h2_with_window(&lockgate, window).await;
        let list = list(&[(":authority", "elsewhere.test"), (":path", "/")]);
        let started = Instant::now();
        client
            .try_send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &list))
            .await;
        assert_eq!(until(&mut client, RST_STREAM).await.stream, 1);
        assert_due("refusal", started, BODY_IDLE);
    }
}

/// The client's stream is reset although the request body is still open, and the backend's connection ends although the
/// backend has sent nothing since.
#[tokio::test]
async fn unread_h2_response_ends_its_open_request_body() {
    let backend = Backend::listen().await;
    let limits = LIMITS.replace(
        "body_idle = \"1s\"",
        "body_idle = \"1s\"\nbody_min_rate = 0",
    );
    let lockgate = Lockgate::to(backend.address).server(&limits).start().await;
    let mut client = h2_with_window(&lockgate, 0).await;
    client
        .try_send(&frame(HEADERS, END_HEADERS, 1, &post("/")))
        .await;
    let mut server = backend.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        .await;
    // The upload makes progress; the response does not.
    let mut ticker = tokio::time::interval(Duration::from_millis(100));
    let reset = within("RST_STREAM", async {
        loop {
            tokio::select! {
                next = client.frame() => match next.expect("a frame") {
                    reset if reset.kind == RST_STREAM => return reset,
                    _ => {}
                },
                _ = ticker.tick() => {}
            }
        }
    });
    let reset = reset.await;
    assert_eq!(reset.stream, 1);
    server.end().await;
    assert_no_leases(&lockgate).await;
}

#[tokio::test]
async fn stuck_h2_streams_release_max_sessions_after_body_idle() {
    let (backend, answers) = held_backend().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n{LIMITS}\
         [pools.p]\nbackends = [{{ address = \"ws://{backend}\", max_sessions = 50 }}]\nadmission = {{ handshakes = 200, queue = 0 }}\n\
         [[routes]]\nname = \"r\"\nhosts = [\"a.test\"]\npool = \"p\"\n"
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut stuck = h2_with_window(&lockgate, 0).await;
    for stream in 0..50 {
        stuck
            .try_send(&frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                2 * stream + 1,
                &get("/long"),
            ))
            .await;
    }
    eventually("50 leases", async || {
        observe(lockgate.status().await, |status| {
            status["backends"][0]["leases"] == 50
        })
    })
    .await;
    let mut other = lockgate.request(GET).await;
    assert_eq!(other.head().await.status(), 503);
    answers.send_replace(true);
    eventually("a 200 for another client", async || {
        let mut other = lockgate.request(GET).await;
        let head = other.head().await;
        other.body(&head).await;
        head.status() == 200
    })
    .await;
    assert_no_leases(&lockgate).await;
}

#[tokio::test]
async fn ten_stalled_streams_end_the_h2_connection() {
    let backend = answering_backend().await;
    let limits = LIMITS.to_owned() + "request_head = \"1s\"\n";
    let lockgate = Lockgate::to(backend).server(&limits).start().await;
    for stalled in [9, 10] {
        let mut client = h2_with_window(&lockgate, 0).await;
        for stream in 0..stalled {
            let open = frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                2 * stream + 1,
                &get("/long"),
            );
            client.try_send(&open).await;
        }
        if stalled == 10 {
            // The client does not answer the PING that follows the GOAWAY.
            let (mut resets, mut goaways) = (0, 0);
            let ended = async {
                while let Some(next) = client.frame().await {
                    resets += usize::from(next.kind == RST_STREAM);
                    goaways += usize::from(next.kind == GOAWAY);
                }
            };
            within("the end of the connection", ended).await;
            assert!(resets == 10 && goaways > 0, "{resets}, {goaways}");
        } else {
            for _ in 0..stalled {
                until(&mut client, RST_STREAM).await;
            }
            let refused = frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                2 * stalled + 1,
                &get("/"),
            );
            client.try_send(&refused).await;
            assert_eq!(until(&mut client, HEADERS).await.status(), 200);
        }
    }
}

#[tokio::test]
async fn download_below_body_min_rate_is_aborted() {
    let (backend, mut aborted) = flooding_backend().await;
    for (rate, ends) in [(5_000_000, true), (0, false)] {
        // The kernel accepts bytes in steps, which must be shorter than `body_idle`.
        let limits = LIMITS.replace("\"1s\"", "\"2s\"") + &format!("body_min_rate = {rate}\n");
        let lockgate = Lockgate::to(backend).server(&limits).start().await;
        // HTTP/2: 2,000 bytes per second, in steps within `body_idle`.
        let mut client = h2_with_window(&lockgate, 0).await;
        client
            .try_send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/")))
            .await;
        let started = Instant::now();
        let mut ticker = tokio::time::interval(Duration::from_millis(100));
        let reset = within("RST_STREAM, or the end of the measurement", async {
            loop {
                tokio::select! {
                    next = client.frame() => match next {
                        Some(next) if next.kind == RST_STREAM => return true,
                        Some(_) => {}
                        None => panic!("the connection ended"),
                    },
                    _ = ticker.tick() => {
                        if !ends && started.elapsed() > BODY_IDLE * 5 {
                            return false;
                        }
                        let more = frame(WINDOW_UPDATE, 0, 1, &200_u32.to_be_bytes());
                        let connection = frame(WINDOW_UPDATE, 0, 0, &200_u32.to_be_bytes());
                        client.try_send(&[more, connection].concat()).await;
                    }
                }
            }
        });
        assert_eq!(reset.await, ends, "HTTP/2, {rate}");
        drop(client);
        within("the end of the backend's connection", aborted.recv()).await;

        // HTTP/1.1: small segments keep the buffers of the kernel small.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .set_recv_buffer_size(16 * 1024)
            .expect("a small buffer");
        socket2::SockRef::from(&socket)
            .set_tcp_mss(1000)
            .expect("a small segment");
        let tcp = socket.connect(lockgate.https).await.expect("it listens");
        let mut stream = lockgate.tls_over(tcp).await.expect("a TLS handshake");
        stream.write_all(GET.as_bytes()).await.expect("it reads");
        let drip = async {
            let mut ticker = tokio::time::interval(Duration::from_millis(50));
            let mut piece = [0; 12_500];
            loop {
                ticker.tick().await;
                if stream.read_exact(&mut piece).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let span = if ends { DEADLINE } else { BODY_IDLE * 6 };
        tokio::select! {
            () = drip => {}
            over = tokio::time::timeout(span, aborted.recv()) => {
                assert_eq!(over.is_ok(), ends, "HTTP/1.1, {rate}");
                if over.is_ok() {
                    continue;
                }
            }
        }
        drop(stream);
        within("the end of the backend's connection", aborted.recv()).await;
    }
}

#[tokio::test]
async fn upload_below_body_min_rate_is_a_408() {
    for (rate, ends) in [(500, true), (0, false)] {
        let backend = Backend::listen().await;
        let limits = LIMITS.to_owned() + &format!("body_min_rate = {rate}\n");
        let lockgate = Lockgate::to(backend.address).server(&limits).start().await;
        let mut ticker = tokio::time::interval(Duration::from_millis(100));

        let head = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n";
        let mut client = lockgate.request(head).await;
        let mut server = backend.accept().await;
        let started = Instant::now();
        let status = loop {
            tokio::select! {
                head = client.head() => break Some(head.status()),
                _ = ticker.tick() => {
                    if !ends && started.elapsed() > BODY_IDLE * 3 {
                        break None;
                    }
                }
            }
            client.try_send(&[b'x'; 10]).await;
            client.flush().await;
        };
        assert_eq!(status, ends.then_some(408), "HTTP/1.1, {rate}");
        drop(client);
        server.end().await;

        let mut client = h2_with_window(&lockgate, 65_535).await;
        client
            .try_send(&frame(HEADERS, END_HEADERS, 1, &post("/")))
            .await;
        let mut server = backend.accept().await;
        let started = Instant::now();
        let status = loop {
            tokio::select! {
                next = client.frame() => match next.expect("a frame") {
                    next if next.kind == HEADERS => break Some(next.status()),
                    _ => continue,
                },
                _ = ticker.tick() => {
                    if !ends && started.elapsed() > BODY_IDLE * 3 {
                        break None;
                    }
                }
            }
            client.try_send(&frame(DATA, 0, 1, &[b'x'; 10])).await;
        };
        assert_eq!(status, ends.then_some(408), "HTTP/2, {rate}");
        drop(client);
        server.end().await;
        assert_no_leases(&lockgate).await;
    }
}

#[tokio::test]
async fn stalled_h2_upload_is_a_408() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).server(LIMITS).start().await;
    let mut client = h2_with_window(&lockgate, 65_535).await;
    let started = Instant::now();
    client
        .try_send(&frame(HEADERS, END_HEADERS, 1, &post("/")))
        .await;
    client.try_send(&frame(DATA, 0, 1, b"half")).await;
    let mut server = backend.accept().await;
    assert_eq!(until(&mut client, HEADERS).await.status(), 408);
    assert_due("upload", started, BODY_IDLE);
    server.end().await;
    assert_no_leases(&lockgate).await;
}

/// The client reads everything at once, so silence and a low rate are the backend's.
#[tokio::test]
async fn server_sent_events_are_not_limited_by_client_deadlines() {
    let backend = Backend::listen().await;
    let limits = "[limits]\nbody_idle = \"1s\"\nidle = \"1s\"\nrequest_head = \"1s\"\n";
    let lockgate = Lockgate::to(backend.address).server(limits).start().await;
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

    let mut client = lockgate.request(GET).await;
    let mut server = backend.accept().await;
    server.head().await;
    server.send(head).await;
    assert_eq!(client.head().await.status(), 200);
    let mut h2 = h2_with_window(&lockgate, 65_535).await;
    h2.try_send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/")))
        .await;
    let mut h2_server = backend.accept().await;
    h2_server.head().await;
    h2_server.send(head).await;
    assert_eq!(until(&mut h2, HEADERS).await.status(), 200);
    for pause in [0, 300, 2500, 1200] {
        // The silence of the backend is tested.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        for server in [&mut server, &mut h2_server] {
            server.send("6\r\ndata\n\n\r\n").await;
        }
        assert_eq!(client.chunk().await, b"data\n\n");
        let event = until(&mut h2, DATA).await;
        assert_eq!(event.payload, b"data\n\n");
    }
    for server in [&mut server, &mut h2_server] {
        server.send("0\r\n\r\n").await;
    }
    assert_eq!(client.chunk().await, b"");
    let last = until(&mut h2, DATA).await;
    assert_eq!((last.flags, last.payload.len()), (END_STREAM, 0));
}

/// A client over HTTP/2 that reads slowly, but fast enough, gets the whole response.
#[tokio::test]
async fn h2_response_is_complete_if_its_client_is_fast_enough() {
    let backend = answering_backend().await;
    let lockgate = Lockgate::to(backend).server(LIMITS).start().await;
    let mut client = h2_with_window(&lockgate, 0).await;
    client
        .try_send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/long")))
        .await;
    let mut received = 0;
    let started = Instant::now();
    while received < LONG {
        let part = u32::try_from(LONG / 20).expect("small");
        let more = frame(WINDOW_UPDATE, 0, 1, &part.to_be_bytes());
        let connection = frame(WINDOW_UPDATE, 0, 0, &part.to_be_bytes());
        client.try_send(&[more, connection].concat()).await;
        let before = received;
        while received < (before + part as usize).min(LONG) {
            let next = client.frame().await.expect("a frame");
            assert_ne!(next.kind, RST_STREAM, "{next:?}");
            if next.kind == DATA {
                received += next.payload.len();
            }
        }
        // The pace of the client.
        tokio::time::sleep(BODY_IDLE / 8).await;
    }
    assert!(started.elapsed() > BODY_IDLE * 2);
    let last = until(&mut client, DATA).await;
    assert_eq!((last.flags, last.payload.len()), (END_STREAM, 0));
    assert_no_leases(&lockgate).await;
}

/// Length of the response to `/long`.
const LONG: usize = 200_000;

/// Starts a backend that answers every request with a short body, and `/long` with a long one.
async fn answering_backend() -> SocketAddr {
    let (backend, answers) = held_backend().await;
    answers.send_replace(true);
    backend
}

/// Starts the same backend, but it answers `/long` only once the returned value is true.
async fn held_backend() -> (SocketAddr, watch::Sender<bool>) {
    let (release, answers) = watch::channel(false);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut wire, mut answers) = (Wire::plain(stream), answers.clone());
            tokio::spawn(async move {
                let head = wire.head().await;
                let length = if head.start.contains("/long") {
                    // The value of a sender that was dropped stays.
                    drop(answers.wait_for(|released| *released).await);
                    LONG
                } else {
                    2
                };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{}",
                    "x".repeat(length)
                );
                let mut sent = 0;
                while sent < answer.len() {
                    match wire.try_send(&answer.as_bytes()[sent..]).await {
                        Some(n) => sent += n,
                        None => break,
                    }
                }
            });
        }
    });
    (address, release)
}

/// Starts a backend whose responses have no end; also reports each one that was aborted.
async fn flooding_backend() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (report, aborted) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let report = report.clone();
            tokio::spawn(async move {
                let mut wire = Wire::plain(stream);
                wire.head().await;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                    .await;
                while wire.try_send(&[b'x'; 16 * 1024]).await.is_some() {}
                let _ = report.send(());
            });
        }
    });
    (address, aborted)
}

/// Opens a connection with this window for each stream of a response.
async fn h2_with_window(lockgate: &Lockgate, window: u32) -> RawH2 {
    let stream = lockgate.tls_for_h2().await;
    let window = window.to_be_bytes();
    let settings = frame(SETTINGS, 0, 0, &[&[0, 4], &window[..]].concat());
    RawH2::over(stream, &[HELLO, &settings].concat()).await
}

/// The next frame of this kind; others are skipped.
#[track_caller]
fn until(client: &mut RawH2, kind: u8) -> impl Future<Output = RawFrame> {
    within("a certain frame", async move {
        loop {
            let next = client.frame().await;
            match next
                .unwrap_or_else(|| panic!("the connection ended before a frame of kind {kind}"))
            {
                next if next.kind == kind => return next,
                _ => {}
            }
        }
    })
}

fn get(path: &str) -> Vec<u8> {
    list(&[(":authority", "a.test"), (":path", path)])
}

fn list(more: &[(&str, &str)]) -> Vec<u8> {
    hpack(&[&[(":method", "GET"), (":scheme", "https")], more].concat())
}

fn post(path: &str) -> Vec<u8> {
    hpack(&[
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", path),
    ])
}

fn connect(path: &str) -> Vec<u8> {
    hpack(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "a.test"),
        (":path", path),
        ("sec-websocket-version", "13"),
    ])
}

async fn assert_no_leases(lockgate: &Lockgate) {
    eventually("no lease of the backend", async || {
        observe(lockgate.status().await, |status| {
            status["backends"][0]["leases"] == 0
        })
    })
    .await;
}

#[track_caller]
fn assert_due(name: &str, started: Instant, due: Duration) {
    let took = started.elapsed();
    // Every other deadline is 90 s or more.
    assert!(
        took + Duration::from_millis(100) >= due && took < due + Duration::from_secs(10),
        "{name}: {took:?} instead of {due:?}"
    );
}
