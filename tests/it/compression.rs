//! permessage-deflate (RFC 7692): relayed, stripped, or offloaded by Lockgate. `interop` has the tests with real
//! servers and clients.

use crate::harness::{Backend, Frame, Lockgate, Wire, handshake};
use flate2::{Decompress, FlushDecompress};
use std::time::{Duration, Instant};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_max_window_bits=12";

async fn lockgate(backend: &Backend, session: &str) -> Lockgate {
    let setup = Lockgate::to(backend.address);
    setup
        .with(&format!("session = {{ {session} }}"))
        .start()
        .await
}

/// Opens a session whose client offers compression; the backend must not receive the offer. Also returns the extensions
/// sent to the client.
async fn session(lockgate: &Lockgate, backend: &Backend) -> (Wire, Wire, Option<String>) {
    let mut client = lockgate.request(handshake("/", OFFER)).await;
    let (server, request) = backend.accept_session().await;
    assert_eq!(request.get("sec-websocket-extensions"), None);
    let answer = client.head().await;
    assert_eq!(answer.status(), 101);
    let extensions = answer.get("sec-websocket-extensions").map(str::to_owned);
    (client, server, extensions)
}

/// A compressed message of a client.
fn deflated(payload: &[u8]) -> Frame {
    Frame {
        reserved: 4,
        ..Frame::new(0x1, payload)
    }
}

fn inflated(frame: &Frame) -> Vec<u8> {
    assert!(frame.fin && frame.reserved == 4, "{frame:?}");
    let mut text = Vec::with_capacity(1 << 20);
    let whole = [&frame.payload[..], &[0, 0, 0xff, 0xff]].concat();
    let mut window = Decompress::new(false);
    window
        .decompress_vec(&whole, &mut text, FlushDecompress::Sync)
        .expect("it is deflated");
    text
}

/// "Hello" (RFC 7692 §7.2.3.1), and "Hello" again as a reference into the window (§7.2.3.2).
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
const AGAIN: [u8; 5] = [0xf2, 0x00, 0x11, 0x00, 0x00];

#[tokio::test]
async fn strip_never_negotiates_compression() {
    let backend = Backend::listen().await;
    let lockgate = lockgate(&backend, "compression = \"strip\"").await;
    let (mut client, mut server, extensions) = session(&lockgate, &backend).await;
    assert_eq!(extensions, None);
    client.send_frame(Frame::text("plain")).await;
    assert_eq!(server.frame().await.payload, b"plain");
    // The extension was not negotiated.
    client.send_frame(deflated(&HELLO)).await;
    assert_eq!(client.frame().await.closes_with().0, 1002);
}

#[tokio::test]
async fn offload_relays_plain_messages_to_the_backend() {
    let backend = Backend::listen().await;
    let lockgate = lockgate(&backend, "compression = \"offload\"").await;
    let (mut client, mut server, extensions) = session(&lockgate, &backend).await;
    assert_eq!(extensions.as_deref(), Some(ANSWER));
    let opened = lockgate.record(|record| record["event"] == "open").await;
    assert_eq!(opened["extensions"], ANSWER);

    for payload in [&HELLO[..], &AGAIN] {
        client.send_frame(deflated(payload)).await;
        let received = server.frame().await;
        assert_eq!((received.masked, received.reserved), (true, 0));
        assert_eq!((received.opcode, &received.payload[..]), (1, &b"Hello"[..]));
    }
    client.send_frame(Frame::text("not compressed")).await;
    assert_eq!(server.frame().await.payload, b"not compressed");

    let long = "a".repeat(100_000);
    server.send_frame(Frame::text(&long)).await;
    // One or more frames, of which the first has RSV1 set (RFC 7692 §6).
    let mut received = client.frame().await;
    assert_eq!(received.reserved, 4);
    while !received.fin {
        let more = client.frame().await;
        assert_eq!((more.opcode, more.reserved), (0, 0));
        received.payload = [received.payload, more.payload].concat();
        received.fin = more.fin;
    }
    assert!(received.payload.len() < 1000 && inflated(&received) == long.as_bytes());
    server.send_frame(Frame::text("short")).await;
    assert_eq!(client.frame().await, Frame::text("short"));

    // Control frames pass between the fragments of a message that Lockgate compresses.
    let begun = Frame {
        fin: false,
        ..Frame::text(&"b".repeat(200))
    };
    server.send_frame(begun).await;
    let first = client.frame().await;
    assert!(!first.fin && first.reserved == 4);
    server.send_frame(Frame::ping(b"there?")).await;
    assert_eq!(client.frame().await, Frame::ping(b"there?"));
    server.send_frame(Frame::new(0x0, b"end")).await;
    let last = client.frame().await;
    let whole = Frame {
        payload: [first.payload, last.payload].concat(),
        ..deflated(b"")
    };
    assert_eq!(
        inflated(&whole),
        format!("{}end", "b".repeat(200)).as_bytes()
    );

    client.send_frame(Frame::close(4000, "bye")).await;
    assert_eq!(server.frame().await.closes_with(), (4000, "bye"));
}

#[tokio::test]
async fn offload_without_an_offer_compresses_nothing() {
    let backend = Backend::listen().await;
    let lockgate = lockgate(&backend, "compression = \"offload\"").await;
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    let long = Frame::text(&"a".repeat(1000));
    server.send_frame(long.clone()).await;
    assert_eq!(client.frame().await, long);
}

#[tokio::test]
async fn decompression_bomb_is_closed_with_1009() {
    let backend = Backend::listen().await;
    let session_keys = "compression = \"offload\", max_message = \"1MiB\"";
    let lockgate = lockgate(&backend, session_keys).await;
    let (mut client, mut server, _) = session(&lockgate, &backend).await;
    // 64 MiB of zeros: each match of two bits repeats 258 of them.
    let mut bomb = flate2::Compress::new(flate2::Compression::best(), false);
    let mut payload = Vec::with_capacity(1 << 20);
    let zeros = vec![0; 64 << 20];
    bomb.compress_vec(&zeros, &mut payload, flate2::FlushCompress::Sync)
        .expect("it has room");
    assert!(payload.len() < 1 << 18);
    client.send_frame(deflated(&payload)).await;
    let inflated = payload_until_close(&mut server).await;
    assert!(inflated <= 1 << 20, "{inflated}");
    assert_eq!(client.frame().await.closes_with().0, 1009);
}

/// Number of payload bytes before the Close.
async fn payload_until_close(server: &mut Wire) -> usize {
    let mut bytes = 0;
    loop {
        let frame = server.frame().await;
        if frame.is_close() {
            assert_eq!(frame.closes_with().0, 1001);
            return bytes;
        }
        bytes += frame.payload.len();
    }
}

#[tokio::test]
async fn invalid_compressed_data_closes_the_session_with_1007() {
    let backend = Backend::listen().await;
    let lockgate = lockgate(&backend, "compression = \"offload\"").await;
    let (mut client, mut server, _) = session(&lockgate, &backend).await;
    client.send_frame(deflated(&[0xff, 0xff, 0xff])).await;
    assert_eq!(client.frame().await.closes_with().0, 1007);
    assert_eq!(server.frame().await.closes_with().0, 1001);
    let closed = lockgate.closed().await;
    assert_eq!(closed["why"], "bad-deflate", "{closed}");
}

#[tokio::test]
async fn offload_works_over_http2() {
    let address = Backend::echo().await;
    let setup = Lockgate::to(address).with("session = { compression = \"offload\" }");
    let lockgate = setup.start().await;
    let offer = [(
        "sec-websocket-extensions",
        "permessage-deflate; client_max_window_bits",
    )];
    let (answer, client) = lockgate.h2().await.websocket("/", &offer).await;
    let extensions = answer.headers().get("sec-websocket-extensions");
    assert_eq!(
        extensions.map(|value| value.as_bytes()),
        Some(ANSWER.as_bytes())
    );
    let mut client = client.expect("a 200");
    client.send_frame(deflated(&HELLO)).await;
    assert_eq!(client.frame().await, Frame::text("Hello"));
    let long = "a".repeat(1000);
    client.send_frame(Frame::text(&long)).await;
    assert_eq!(inflated(&client.frame().await), long.as_bytes());
}

/// The inflated length counts, because the backend receives it.
#[tokio::test]
async fn byte_rate_counts_the_inflated_length() {
    let backend = Backend::listen().await;
    let session_keys = "compression = \"offload\", bytes_per_second = \"100KB/s\"";
    let lockgate = lockgate(&backend, session_keys).await;
    let (mut client, mut server, _) = session(&lockgate, &backend).await;
    let mut compressed = Vec::with_capacity(1 << 16);
    flate2::Compress::new(flate2::Compression::best(), false)
        .compress_vec(
            &[b'a'; 300_000],
            &mut compressed,
            flate2::FlushCompress::Sync,
        )
        .expect("it has room");
    assert!(compressed.len() < 1000);
    let started = Instant::now();
    client.send_frame(deflated(&compressed)).await;
    let mut received = 0;
    while received < 300_000 {
        received += server.frame().await.payload.len();
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1950), "{took:?}");
}

/// The client's frames count, not those that the backend receives: fragments that inflate to nothing, and one message
/// that becomes many frames.
#[tokio::test]
async fn frame_rate_counts_the_frames_of_the_client() {
    let session_keys = "compression = \"offload\", frames_per_second = 10, over_rate = \"close\"";
    for compressed in [true, false] {
        let backend = Backend::listen().await;
        let lockgate = lockgate(&backend, session_keys).await;
        let (mut client, mut server, _) = session(&lockgate, &backend).await;
        let mut large = Vec::with_capacity(1 << 16);
        flate2::Compress::new(flate2::Compression::best(), false)
            .compress_vec(&[b'a'; 3_000_000], &mut large, flate2::FlushCompress::Sync)
            .expect("it has room");
        client.send_frame(deflated(&large)).await;
        let mut frames = 0;
        while !server.frame().await.fin {
            frames += 1;
        }
        assert!(frames > 10, "{frames}");
        let first = Frame {
            fin: false,
            reserved: if compressed { 4 } else { 0 },
            ..Frame::new(0x1, b"")
        };
        let empty = Frame {
            fin: false,
            ..Frame::new(0x0, b"")
        };
        // In one write and more than enough, because the rate permits another frame every 100 ms.
        let empties = empty.masked().encode().repeat(50);
        client
            .send([first.masked().encode(), empties].concat())
            .await;
        assert_eq!(client.frame().await.closes_with(), (1008, ""));
        let record = lockgate.closed().await;
        assert_eq!(record["why"], "over-rate");
    }
}

/// A long fragment that inflates to no bytes.
fn empty_deflated() -> Frame {
    Frame {
        fin: false,
        ..deflated(&[0x00, 0x00, 0x00, 0xff, 0xff].repeat(60_000))
    }
}

/// The compressed length counts if it is larger than the inflated length.
#[tokio::test]
async fn byte_rate_counts_the_compressed_length_if_larger() {
    let backend = Backend::listen().await;
    let session_keys = "compression = \"offload\", bytes_per_second = \"100KB/s\"";
    let lockgate = lockgate(&backend, session_keys).await;
    let (mut client, mut server, _) = session(&lockgate, &backend).await;
    let started = Instant::now();
    client.send_frame(empty_deflated()).await;
    client.send_frame(Frame::new(0, &HELLO)).await;
    while server.frame().await.payload != b"Hello" {}
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(1950), "{took:?}");
}

#[tokio::test]
async fn byte_rate_closes_a_session_over_its_compressed_length() {
    let backend = Backend::listen().await;
    let session_keys =
        "compression = \"offload\", bytes_per_second = \"100KB\", over_rate = \"close\"";
    let lockgate = lockgate(&backend, session_keys).await;
    let (mut client, _server, _) = session(&lockgate, &backend).await;
    client.send_frame(empty_deflated()).await;
    assert_eq!(client.frame().await.closes_with().0, 1008);
    assert_eq!(lockgate.closed().await["why"], "over-rate");
}
