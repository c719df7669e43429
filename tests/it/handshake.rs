//! No tunnel before a valid 101: forged, late or missing ones. Whatever the client sent early stays with us.

use crate::harness::{Backend, Frame, Head, Lockgate, handshake, switching_protocols};
use std::net::SocketAddr;

/// What the backend does instead of a right answer.
enum Answer {
    /// Sends this and waits.
    Says(String),
    /// Sends this, then FIN.
    SaysAndEnds(String),
    /// RST.
    Resets,
}

#[tokio::test]
async fn a_forged_101_opens_nothing() {
    use Answer::{Resets, Says, SaysAndEnds};
    type Case = (&'static str, fn(&str) -> Answer);
    // Each is given the right answer and spoils it.
    let cases: [Case; 17] = [
        ("status 200", |right| {
            Says(right.replace("101 Switching Protocols", "200 OK"))
        }),
        ("status 102", |right| {
            SaysAndEnds(right.replace("101 Switching Protocols", "102 Processing"))
        }),
        ("HTTP/1.0", |right| {
            Says(right.replace("HTTP/1.1", "HTTP/1.0"))
        }),
        ("another accept", |right| {
            Says(right.replace("Accept: ", "Accept: AAAA"))
        }),
        ("accept in another case", |right| {
            Says(flip_case_of_accept(right))
        }),
        ("no accept", |right| {
            Says(right.replace("Sec-WebSocket-Accept", "X-Accept"))
        }),
        ("two accepts", |right| {
            Says(add(right, "Sec-WebSocket-Accept: AAAA"))
        }),
        ("no Upgrade", |right| {
            Says(right.replace("Upgrade: websocket\r\n", ""))
        }),
        ("Upgrade: h2c", |right| {
            Says(right.replace("websocket", "h2c"))
        }),
        ("no Connection", |right| {
            Says(right.replace("Connection: Upgrade\r\n", ""))
        }),
        ("Connection: close", |right| {
            Says(right.replace("Connection: Upgrade", "Connection: close"))
        }),
        ("a subprotocol that was not offered", |right| {
            Says(add(right, "Sec-WebSocket-Protocol: mine"))
        }),
        ("an extension that was not offered", |right| {
            Says(add(right, "Sec-WebSocket-Extensions: permessage-deflate"))
        }),
        ("no HTTP at all", |_| {
            Says("SSH-2.0-OpenSSH_9.2\r\n\r\n".into())
        }),
        ("half a head, then FIN", |right| {
            SaysAndEnds(right[..right.len() / 2].into())
        }),
        ("FIN", |_| SaysAndEnds(String::new())),
        ("RST", |_| Resets),
    ];
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    for (name, spoil) in cases {
        println!("{name}");
        let (status, early) = attempt(&lockgate, &backend, |request| {
            spoil(&switching_protocols(request, ""))
        })
        .await;
        assert_eq!(status, 502, "{name}");
        assert!(early.is_empty(), "{name}: {early:?} reached the backend");
    }
}

#[tokio::test]
async fn a_late_101_opens_nothing() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with("session = { handshake_timeout = \"500ms\" }");
    let lockgate = setup.start().await;
    type Case = (&'static str, fn(&str) -> String);
    let cases: [Case; 3] = [
        ("silence", |_| String::new()),
        ("half a head, then silence", |right| {
            right[..right.len() / 2].into()
        }),
        ("all but the last byte", |right| {
            right[..right.len() - 1].into()
        }),
    ];
    for (name, cut) in cases {
        println!("{name}");
        let answer = |request: &Head| Answer::Says(cut(&switching_protocols(request, "")));
        let (status, early) = attempt(&lockgate, &backend, answer).await;
        assert_eq!(status, 504, "{name}");
        assert!(early.is_empty(), "{name}: {early:?} reached the backend");
    }
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_a_502() {
    let nobody: SocketAddr = {
        let backend = Backend::listen().await;
        backend.address
    };
    let lockgate = Lockgate::to(nobody).start().await;
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
async fn a_426_of_the_backend_keeps_saying_to_what() {
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
                .is_some_and(|named| named.contains("upgrade")),
            "{head:?}"
        );
    }
}

#[tokio::test]
async fn a_handshake_that_a_stop_meets_is_a_503() {
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
async fn an_answer_may_have_many_headers() {
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
async fn interim_answers_do_not_open_a_tunnel_nor_end_the_wait() {
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

/// One handshake with a frame on its heels; returns what the client was told and what the backend got beyond the head.
async fn attempt(
    lockgate: &Lockgate,
    backend: &Backend,
    answer: impl Fn(&Head) -> Answer,
) -> (u16, Vec<u8>) {
    let mut client = lockgate.request(with_early_frame()).await;
    let mut server = backend.accept().await;
    let request = server.head().await;
    match answer(&request) {
        Answer::Says(answer) => server.send(answer).await,
        Answer::SaysAndEnds(answer) => {
            server.send(answer).await;
            server.finish().await;
        }
        Answer::Resets => {
            server.reset();
            return (client.head().await.status(), vec![]);
        }
    }
    let status = client.head().await.status();
    // Only its end proves that nothing came.
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
        .expect("the right answer has it");
    let flipped = rest.chars().map(|c| {
        if c.is_ascii_lowercase() {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        }
    });
    format!("{before}Accept: {}", flipped.collect::<String>())
}
