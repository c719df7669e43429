//! Answers to Pings of Lockgate that are no valid frames, and invalid Closes: what is tolerated is never relayed.

use crate::harness::{Backend, Frame, H2, Lockgate, Wire, eventually};

const PING: &str =
    "ping = { interval = \"200ms\", timeout = \"10s\", legs = \"both\" }, close_timeout = \"1s\"";

const ANSWERED: &str = "lockgate_ping_rtt_seconds_count{leg=\"client\"}";

/// Starts a backend and a Lockgate with these settings of `session`.
async fn start(session: &str) -> (Lockgate, Backend) {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address).with(&format!("session = {{ {session} }}"));
    (setup.start().await, backend)
}

/// Returns the payload of the next frame, which is a Ping of Lockgate.
async fn ping(peer: &mut Wire) -> Vec<u8> {
    let frame = peer.frame().await;
    assert_eq!((frame.opcode, frame.payload.len()), (9, 12), "{frame:?}");
    frame.payload
}

/// Returns the next frame that is not a Ping of Lockgate.
async fn not_ping(peer: &mut Wire) -> Frame {
    loop {
        let frame = peer.frame().await;
        if frame.opcode != 9 {
            return frame;
        }
    }
}

#[tokio::test]
async fn unmasked_pong_to_our_ping_is_consumed_and_its_client_stays() {
    for (session, pieces) in [
        (PING.to_owned(), 14),
        (PING.to_owned(), 1),
        (PING.to_owned(), 5),
        (format!("{PING}, messages_per_second = 1000"), 3),
        (format!("{PING}, compression = \"offload\""), 14),
        (format!("{PING}, compression = \"offload\""), 1),
    ] {
        let (lockgate, backend) = start(&session).await;
        let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let mut client = lockgate.upgrade("/", offer).await;
        let (mut server, _) = backend.accept_session().await;
        assert_eq!(client.head().await.status(), 101);
        for _ in 0..3 {
            let pong = Frame::pong(&ping(&mut client).await).encode();
            for piece in pong.chunks(pieces) {
                client.send(piece).await;
            }
        }
        // In the same write as valid frames, and between the fragments of a message.
        let pong = Frame::pong(&ping(&mut client).await).encode();
        let first = Frame {
            fin: false,
            ..Frame::text("be")
        };
        let last = Frame::new(0, b"tween");
        let frames = [first.masked().encode(), pong, last.masked().encode()].concat();
        client.send(frames).await;
        let mut message = vec![];
        while message != b"between" {
            let frame = not_ping(&mut server).await;
            assert!(matches!(frame.opcode, 0 | 1), "{session}: {frame:?}");
            message.extend(frame.payload);
        }
        eventually("four round-trip times", async || {
            lockgate.metric_or_zero(ANSWERED).await >= 4.0
        })
        .await;
    }
}

#[tokio::test]
async fn unmasked_pong_to_our_ping_is_consumed_over_http2() {
    let (lockgate, backend) = start(PING).await;
    let mut connection: H2 = lockgate.h2().await;
    let (accepted, mut client) = tokio::join!(backend.accept_session(), connection.session("/"));
    let (mut server, _) = accepted;
    for _ in 0..3 {
        let payload = ping(&mut client).await;
        client.send(Frame::pong(&payload).encode()).await;
    }
    client.send_frame(Frame::text("still here")).await;
    assert_eq!(not_ping(&mut server).await.payload, b"still here");
}

#[tokio::test]
async fn masked_pong_of_a_backend_to_our_ping_is_consumed() {
    for pieces in [18, 1, 7] {
        let (lockgate, backend) = start(PING).await;
        let (mut client, mut server, _) = lockgate.session(&backend).await;
        for _ in 0..3 {
            let pong = Frame::pong(&ping(&mut server).await).masked().encode();
            for piece in pong.chunks(pieces) {
                server.send(piece).await;
            }
        }
        server.send_frame(Frame::text("still here")).await;
        assert_eq!(not_ping(&mut client).await.payload, b"still here");
    }
}

/// Pongs with a wrong mask that answer no outstanding Ping of Lockgate.
#[tokio::test]
async fn other_pongs_with_a_wrong_mask_close_with_1002_and_the_line_names_the_key() {
    for case in [
        "before a Ping",
        "empty",
        "another payload",
        "another number",
        "longer",
        "repeated",
        "with a reserved bit",
        "a Ping",
    ] {
        let (lockgate, backend) = start(PING).await;
        let (mut client, mut server, _) = lockgate.session(&backend).await;
        let payload = match case {
            "before a Ping" => vec![0; 12],
            _ => ping(&mut client).await,
        };
        let own = Frame::pong(&payload).encode();
        let bytes = match case {
            "empty" => Frame::pong(b"").encode(),
            "another payload" => {
                Frame::pong(&[payload[..7].to_vec(), vec![0; 5]].concat()).encode()
            }
            "another number" => Frame::pong(&[&payload[..11], &[99]].concat()).encode(),
            "longer" => Frame::pong(&[&payload[..], b"x"].concat()).encode(),
            "repeated" => own.repeat(2),
            "with a reserved bit" => [&[0xCA], &own[1..]].concat(),
            "a Ping" => Frame::ping(&payload).encode(),
            _ => own,
        };
        client.send(bytes).await;
        assert_eq!(not_ping(&mut client).await.closes_with().0, 1002, "{case}");
        assert_eq!(not_ping(&mut server).await.closes_with().0, 1001, "{case}");
        let record = lockgate.closed().await;
        let hint = record["hint"].as_str().unwrap_or_default();
        let is_pong = case != "a Ping";
        assert_eq!(
            hint.contains("session.ping.legs"),
            is_pong,
            "{case}: {record}"
        );
    }
}

#[tokio::test]
async fn line_of_a_ping_timeout_names_the_key() {
    let session = "ping = { interval = \"100ms\", timeout = \"100ms\" }, close_timeout = \"300ms\"";
    let (lockgate, backend) = start(session).await;
    let (_client, _server, _) = lockgate.session(&backend).await;
    let record = lockgate.closed().await;
    assert_eq!(record["why"], "ping-timeout");
    let hint = record["hint"].as_str().expect("a hint");
    assert!(hint.contains("session.ping.legs"), "{record}");
}

/// Invalid reasons: a lone continuation byte, a truncated character, a surrogate, an overlong form.
const BAD_REASONS: [&[u8]; 4] = [b"\x80", b"ok \xE2\x82", b"\xED\xA0\x80", b"\xC0\xAF"];

#[tokio::test]
async fn close_with_a_reason_that_is_not_utf8_is_a_1007() {
    for reason in BAD_REASONS {
        for from_client in [true, false] {
            let (lockgate, backend) = start("close_timeout = \"300ms\"").await;
            let (mut client, mut server, _) = lockgate.session(&backend).await;
            let close = Frame::new(8, &[&1000_u16.to_be_bytes()[..], reason].concat());
            let (offender, other, lost) = if from_client {
                (&mut client, &mut server, 1001)
            } else {
                (&mut server, &mut client, 1011)
            };
            offender.send_frame(close).await;
            assert_eq!(other.frame().await.closes_with(), (lost, ""));
            assert_eq!(offender.frame().await.closes_with().0, 1007);
            let record = lockgate.closed().await;
            let ended = (&record["why"], &record["code"]);
            assert_eq!(
                ended,
                (&"bad-close-reason".into(), &1007.into()),
                "{record}"
            );
        }
    }
    let (lockgate, backend) = start("").await;
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    client.send_frame(Frame::close(1000, "żółw 🐢")).await;
    assert_eq!(server.frame().await.closes_with(), (1000, "żółw 🐢"));
}

/// paho-mqtt also answers a Close without a mask.
#[tokio::test]
async fn invalid_answer_to_a_close_returns_the_code_of_that_close() {
    for from_client in [true, false] {
        for code in [1000, 4001] {
            let (lockgate, backend) = start("").await;
            let (mut client, mut server, _) = lockgate.session(&backend).await;
            let (offender, other) = if from_client {
                (&mut client, &mut server)
            } else {
                (&mut server, &mut client)
            };
            other.send_frame(Frame::close(code, "")).await;
            assert_eq!(offender.frame().await.closes_with().0, code);
            let answer = Frame {
                masked: !from_client,
                ..Frame::close(code, "")
            };
            offender.send(answer.encode()).await;
            assert_eq!(other.frame().await.closes_with().0, code);
            let record = lockgate.closed().await;
            let by = if from_client { "backend" } else { "client" };
            let ended = (&record["why"], &record["by"], &record["code"]);
            assert_eq!(ended, (&"closed".into(), &by.into(), &code.into()));
        }
    }
}
