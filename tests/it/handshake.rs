//! No tunnel is opened before a valid 101; early data of the client is not relayed before.

use crate::harness::{Backend, Frame, Head, Lockgate, Refusing, handshake, switching_protocols};

/// The backend's behaviour instead of a valid response.
enum Answer {
    /// Sends this text and waits.
    Send(String),
    /// Sends this text, then FIN.
    SendAndFin(String),
    /// Sends a reset (RST).
    Reset,
}

#[tokio::test]
async fn invalid_101_opens_no_tunnel() {
    use Answer::{Reset, Send, SendAndFin};
    type Case = (&'static str, fn(&str) -> Answer);
    // Each case changes a valid response.
    let cases: [Case; 17] = [
        ("status 200", |valid| {
            Send(valid.replace("101 Switching Protocols", "200 OK"))
        }),
        ("status 102", |valid| {
            SendAndFin(valid.replace("101 Switching Protocols", "102 Processing"))
        }),
        ("HTTP/1.0", |valid| {
            Send(valid.replace("HTTP/1.1", "HTTP/1.0"))
        }),
        ("another accept", |valid| {
            Send(valid.replace("Accept: ", "Accept: AAAA"))
        }),
        ("accept in another case", |valid| {
            Send(flip_case_of_accept(valid))
        }),
        ("no accept", |valid| {
            Send(valid.replace("Sec-WebSocket-Accept", "X-Accept"))
        }),
        ("two accepts", |valid| {
            Send(add(valid, "Sec-WebSocket-Accept: AAAA"))
        }),
        ("no Upgrade", |valid| {
            Send(valid.replace("Upgrade: websocket\r\n", ""))
        }),
        ("Upgrade: h2c", |valid| {
            Send(valid.replace("websocket", "h2c"))
        }),
        ("no Connection", |valid| {
            Send(valid.replace("Connection: Upgrade\r\n", ""))
        }),
        ("Connection: close", |valid| {
            Send(valid.replace("Connection: Upgrade", "Connection: close"))
        }),
        ("a subprotocol that was not offered", |valid| {
            Send(add(valid, "Sec-WebSocket-Protocol: mine"))
        }),
        ("an extension that was not offered", |valid| {
            Send(add(valid, "Sec-WebSocket-Extensions: permessage-deflate"))
        }),
        ("no HTTP at all", |_| {
            Send("SSH-2.0-OpenSSH_9.2\r\n\r\n".into())
        }),
        ("half a head, then FIN", |valid| {
            SendAndFin(valid[..valid.len() / 2].into())
        }),
        ("FIN", |_| SendAndFin(String::new())),
        ("RST", |_| Reset),
    ];
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    for (name, corrupt) in cases {
        println!("{name}");
        let (status, early) = attempt(&lockgate, &backend, |request| {
            corrupt(&switching_protocols(request, ""))
        })
        .await;
        assert_eq!(status, 502, "{name}");
        assert!(early.is_empty(), "{name}: {early:?} reached the backend");
    }
}

#[tokio::test]
async fn late_101_opens_no_tunnel() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with("session = { handshake_timeout = \"500ms\" }");
    let lockgate = setup.start().await;
    type Case = (&'static str, fn(&str) -> String);
    let cases: [Case; 3] = [
        ("silence", |_| String::new()),
        ("half a head, then silence", |valid| {
            valid[..valid.len() / 2].into()
        }),
        ("all but the last byte", |valid| {
            valid[..valid.len() - 1].into()
        }),
    ];
    for (name, truncate) in cases {
        println!("{name}");
        let answer = |request: &Head| Answer::Send(truncate(&switching_protocols(request, "")));
        let (status, early) = attempt(&lockgate, &backend, answer).await;
        assert_eq!(status, 504, "{name}");
        assert!(early.is_empty(), "{name}: {early:?} reached the backend");
    }
}

#[tokio::test]
async fn unreachable_backend_is_a_502() {
    let closed_port = Refusing::new();
    let lockgate = Lockgate::to(closed_port.address).start().await;
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 502);
    assert_eq!(
        lockgate
            .request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .head()
            .await
            .status(),
        502
    );
}

#[tokio::test]
async fn early_data_is_relayed_first_after_the_101() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.request(with_early_frame()).await;

    let mut server = backend.accept().await;
    let request = server.head().await;
    let hello = Frame::text("with the 101");
    server
        .send(
            [
                switching_protocols(&request, "").as_bytes(),
                &hello.encode(),
            ]
            .concat(),
        )
        .await;

    assert_eq!(client.head().await.status(), 101);
    assert_eq!(client.frame().await, hello);
    assert_eq!(server.frame().await, Frame::text("too early").masked());
    client.send_frame(Frame::text("later")).await;
    assert_eq!(server.frame().await, Frame::text("later").masked());
}

#[tokio::test]
async fn upgrade_header_of_a_426_is_forwarded() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &handshake("/", ""),
    ] {
        let mut client = lockgate.request(request).await;
        let mut server = backend.accept().await;
        server.head().await;
        server
            .send(
                "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\
                 Content-Length: 0\r\n\r\n",
            )
            .await;
        let head = client.head().await;
        assert_eq!(
            (head.status(), head.get("upgrade")),
            (426, Some("websocket"))
        );
        assert!(
            head.get("connection")
                .is_some_and(|value| value.contains("upgrade")),
            "{head:?}"
        );
    }
}

#[tokio::test]
async fn pending_handshake_gets_503_on_shutdown() {
    let backend = Backend::listen().await;
    let mut lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.upgrade("/", "").await;
    let mut server = backend.accept().await;
    server.head().await;
    lockgate.terminate();
    let head = client.head().await;
    assert_eq!((head.status(), head.get("retry-after")), (503, Some("1")));
    server.end().await;
    assert_eq!(lockgate.exit().await, Some(0));
}

#[tokio::test]
async fn response_with_200_headers_is_forwarded() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        &handshake("/", ""),
    ] {
        let mut client = lockgate.request(request).await;
        let mut server = backend.accept().await;
        server.head().await;
        let many = "Set-Cookie: a=b\r\n".repeat(200);
        server
            .send(format!(
                "HTTP/1.1 403 Forbidden\r\n{many}Content-Length: 0\r\n\r\n"
            ))
            .await;
        let head = client.head().await;
        assert_eq!((head.status(), head.all("set-cookie").len()), (403, 200));
    }
}

#[tokio::test]
async fn interim_responses_do_not_open_a_tunnel() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let mut client = lockgate.request(with_early_frame()).await;
    let mut server = backend.accept().await;
    let request = server.head().await;
    server
        .send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        .await;
    server.send(switching_protocols(&request, "")).await;
    assert_eq!(client.head().await.status(), 101);
    assert_eq!(server.frame().await, Frame::text("too early").masked());
}

/// Sends a handshake followed by a frame; returns the status that the client receives and the bytes that the backend
/// receives after the head.
async fn attempt(
    lockgate: &Lockgate,
    backend: &Backend,
    answer: impl Fn(&Head) -> Answer,
) -> (u16, Vec<u8>) {
    let mut client = lockgate.request(with_early_frame()).await;
    let mut server = backend.accept().await;
    let request = server.head().await;
    match answer(&request) {
        Answer::Send(answer) => server.send(answer).await,
        Answer::SendAndFin(answer) => {
            server.send(answer).await;
            server.finish().await;
        }
        Answer::Reset => {
            server.reset();
            return (client.head().await.status(), vec![]);
        }
    }
    let status = client.head().await.status();
    // Reading to the end proves that nothing was relayed.
    (status, server.end().await.bytes)
}

fn with_early_frame() -> Vec<u8> {
    [
        handshake("/", "").as_bytes(),
        &Frame::text("too early").masked().encode(),
    ]
    .concat()
}

fn add(answer: &str, field: &str) -> String {
    answer.replacen("\r\n", &format!("\r\n{field}\r\n"), 1)
}

fn flip_case_of_accept(answer: &str) -> String {
    let (before, rest) = answer
        .split_once("Accept: ")
        .expect("a valid response has it");
    let flipped = rest.chars().map(|c| {
        if c.is_ascii_lowercase() {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        }
    });
    format!("{before}Accept: {}", flipped.collect::<String>())
}
