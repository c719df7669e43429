//! A tokio-rustls client at the other end of a pipe, which may split reads into pieces.

mod early_data;
mod harness;
mod malformed_peer;
mod malformed_records;

use crate::net::tls_stream::{
    MAX_PLAINTEXT, MAX_RECORD_LEN, accept, buffers, tests::harness::*, *,
};
use rustls::version::{TLS12, TLS13};
use std::future::poll_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

#[tokio::test]
async fn data_of_any_length_passes_in_both_directions() {
    for version in BOTH {
        let (mut server, mut client) = both(version, 64 * 1024).await;
        assert_eq!(server.tls_state().protocol_version(), Some(version.version));
        for size in [1, 100, 16_384, 16_385, 65_536, 65_550, 300_000] {
            let bytes = pattern(size);
            let (sent, got) = tokio::join!(
                write_flushed(&mut client, &bytes),
                read_exact(&mut server, size)
            );
            sent.unwrap();
            assert!(got.unwrap() == bytes, "{size} bytes to the server");
            let (sent, got) = tokio::join!(
                write_flushed(&mut server, &bytes),
                read_exact(&mut client, size)
            );
            sent.unwrap();
            assert!(got.unwrap() == bytes, "{size} bytes to the client");
            assert_eq!(server.buffered(), 0, "after {size} bytes");
        }
    }
}

#[tokio::test]
async fn input_in_single_bytes_is_decrypted() {
    for version in BOTH {
        let (near, far) = duplex(64 * 1024);
        let mut slow_pipe = Pieces::new(near, 1);
        let (accepted, connected) = tokio::join!(
            accept(&mut slow_pipe, Vec::new(), server_config()),
            connect(version, far)
        );
        let (mut server, mut client) = (accepted.unwrap(), connected.unwrap());
        let bytes = pattern(3_000);
        write_flushed(&mut client, &bytes).await.unwrap();
        assert!(read_exact(&mut server, bytes.len()).await.unwrap() == bytes);
        assert_eq!(server.buffered(), 0);
    }
}

/// Each write is a packet, and wakes the client.
#[tokio::test]
async fn tickets_share_the_first_write_and_close_notify_the_last() {
    let (near, far) = duplex(64 * 1024);
    let counted = Pieces::new(near, MAX_RECORD_LEN);
    let client = async {
        let mut client = connect(&TLS13, far).await.unwrap();
        write_flushed(&mut client, b"hello").await.unwrap();
        client
    };
    let (accepted, mut client) = tokio::join!(accept(counted, Vec::new(), server_config()), client);
    let mut server = accepted.unwrap();
    assert_eq!(read_exact(&mut server, 5).await.unwrap(), b"hello");
    assert_eq!(server.io().writes, 1);
    // hyper flushes while it waits for an answer.
    server.flush().await.unwrap();
    assert!(
        server.buffered() > 0 && server.io().writes == 1,
        "no tickets"
    );
    write_flushed(&mut server, b"first").await.unwrap();
    assert_eq!(server.io().writes, 2);
    assert_eq!(read_exact(&mut client, 5).await.unwrap(), b"first");
    assert_eq!(client.get_ref().1.tls13_tickets_received(), 2);
    let last = poll_fn(|cx| server.poll_write_and_close(cx, b"last")).await;
    assert_eq!((last.unwrap(), server.io().writes), (4, 3));
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"last");
    server.shutdown().await.unwrap();
    assert_eq!(server.io().writes, 3);
    assert!(
        poll_fn(|cx| server.poll_write_and_close(cx, b"more"))
            .await
            .is_err()
    );
}

/// A silent client may be waiting for an acknowledgement of its Finished.
#[tokio::test]
async fn tickets_are_sent_at_once_to_a_silent_client() {
    let (mut server, mut client) = both(&TLS13, 64 * 1024).await;
    assert_eq!(server.buffered(), 0);
    server.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(client.get_ref().1.tls13_tickets_received(), 2);
}

/// Many records arrive in one read, and the reader requests small pieces.
#[tokio::test]
async fn coalesced_records_are_kept_for_a_slow_reader() {
    let (mut server, mut client) = both(&TLS13, 256 * 1024).await;
    let bytes = pattern(40_000);
    for piece in bytes.chunks(100) {
        client.write_all(piece).await.unwrap();
    }
    client.flush().await.unwrap();
    let mut got = Vec::new();
    let mut piece = [0; 7];
    while got.len() < bytes.len() {
        let n = server.read(&mut piece).await.unwrap();
        got.extend_from_slice(&piece[..n]);
        assert!(
            server.buffered() <= 3 * MAX_RECORD_LEN,
            "{} bytes held",
            server.buffered()
        );
    }
    assert!(got == bytes);
    assert_eq!(server.buffered(), 0);
}

/// A client may send its Finished and its first data in one write.
#[tokio::test]
async fn data_sent_with_the_finished_message_is_kept() {
    for version in BOTH {
        let (near, far) = duplex(64 * 1024);
        let server = async {
            let mut server = accept(near, Vec::new(), server_config()).await.unwrap();
            // Before the first read.
            write_flushed(&mut server, b"welcome").await.unwrap();
            assert_eq!(read_exact(&mut server, 5).await.unwrap(), b"early");
            server
        };
        let client = async {
            let mut client = connect(version, far).await.unwrap();
            write_flushed(&mut client, b"early").await.unwrap();
            assert_eq!(read_exact(&mut client, 7).await.unwrap(), b"welcome");
            client
        };
        // In TLS 1.3 the server receives both in one read.
        tokio::join!(server, client);
    }
}

#[tokio::test]
async fn close_notify_ends_one_direction_only() {
    for version in BOTH {
        let (mut server, mut client) = both(version, 64 * 1024).await;
        write_flushed(&mut client, b"last data").await.unwrap();
        // tokio-rustls closes the pipe as well; it still reads.
        client.shutdown().await.unwrap();
        assert_eq!(read_exact(&mut server, 9).await.unwrap(), b"last data");
        let mut none = [0; 1];
        assert_eq!(server.read(&mut none).await.unwrap(), 0);
        assert_eq!(server.read(&mut none).await.unwrap(), 0);
        assert!(!server.wants_io_read());
        write_flushed(&mut server, &pattern(100_000)[..60_000])
            .await
            .unwrap();
        server.shutdown().await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 60_000);
        let error = server.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn client_may_send_after_our_close_notify() {
    for version in BOTH {
        let (mut server, mut client) = both(version, 64 * 1024).await;
        server.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        write_flushed(&mut client, b"still here").await.unwrap();
        assert_eq!(read_exact(&mut server, 10).await.unwrap(), b"still here");
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn eof_without_close_notify_is_an_error() {
    for part in [0, 30] {
        let (mut server, mut client) = both(&TLS13, 64 * 1024).await;
        write_flushed(&mut client, &pattern(100)).await.unwrap();
        // Nothing, or the beginning of a record.
        let beginning = [&[23, 3, 3, 1, 0][..], &[0; 25]].concat();
        let (raw, _) = client.get_mut();
        raw.write_all(&beginning[..part]).await.unwrap();
        raw.shutdown().await.unwrap();
        assert!(read_exact(&mut server, 100).await.unwrap() == pattern(100));
        for _ in 0..2 {
            let error = server.read(&mut [0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        // The other direction is open.
        write_flushed(&mut server, b"are you there?").await.unwrap();
        assert_eq!(
            read_exact(&mut client, 14).await.unwrap(),
            b"are you there?"
        );
    }
}

#[tokio::test]
async fn key_update_by_the_client_is_answered() {
    let (mut server, mut client) = both(&TLS13, 64 * 1024).await;
    for round in 0..5 {
        // The client updates its keys and requests an update of ours: the answer precedes our next data.
        client.get_mut().1.refresh_traffic_keys().unwrap();
        for (size, reply) in [(10, 20), (40_000, 40_000)] {
            write_flushed(&mut client, &pattern(size)).await.unwrap();
            assert!(read_exact(&mut server, size).await.unwrap() == pattern(size));
            write_flushed(&mut server, &pattern(reply)).await.unwrap();
            assert!(read_exact(&mut client, reply).await.unwrap() == pattern(reply));
        }
        assert_eq!(server.buffered(), 0, "round {round}");
    }
}

/// rustls updates keys before their confidentiality limit, also in the middle of a large write.
#[tokio::test]
async fn exhausted_keys_are_updated_automatically() {
    let (near, far) = duplex(64 * 1024);
    let (accepted, connected) = tokio::join!(
        accept(near, Vec::new(), with_short_lived_keys()),
        connect(&TLS13, far)
    );
    let (mut server, mut client) = (accepted.unwrap(), connected.unwrap());
    for _ in 0..50 {
        write_flushed(&mut server, &pattern(20_000)).await.unwrap();
        assert!(read_exact(&mut client, 20_000).await.unwrap() == pattern(20_000));
        write_flushed(&mut client, b"go on").await.unwrap();
        assert_eq!(read_exact(&mut server, 5).await.unwrap(), b"go on");
    }
}

#[tokio::test]
async fn records_before_garbage_are_read_and_garbage_gets_an_alert() {
    for (version, alert) in [
        (&TLS13, rustls::AlertDescription::BadRecordMac),
        (&TLS12, rustls::AlertDescription::BadRecordMac),
    ] {
        let (mut server, mut client) = both(version, 64 * 1024).await;
        write_flushed(&mut client, b"before").await.unwrap();
        let (raw, _) = client.get_mut();
        raw.write_all(&[&[23, 3, 3, 0, 40][..], &[7; 40]].concat())
            .await
            .unwrap();
        assert_eq!(read_exact(&mut server, 6).await.unwrap(), b"before");
        for _ in 0..2 {
            let error = server.read(&mut [0; 9]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.downcast::<rustls::Error>().is_ok());
        }
        assert!(server.write(b"more").await.is_err());
        assert_eq!(server.buffered(), 0);
        server.shutdown().await.unwrap();
        let error = client.read(&mut [0; 9]).await.unwrap_err();
        let error = error.downcast::<rustls::Error>().unwrap();
        assert_eq!(error, rustls::Error::AlertReceived(alert));
    }
}

#[tokio::test]
async fn client_that_does_not_read_blocks_after_one_write() {
    let (mut server, mut client) = both(&TLS13, 1024).await;
    let bytes = pattern(1_000_000);
    let mut sent = 0;
    // Until a write is pending.
    while let Some(n) = now(server.write(&bytes[sent..])).await {
        sent += n.unwrap();
        assert!(
            server.buffered() <= buffers::SCRATCH_LEN,
            "{} bytes held",
            server.buffered()
        );
    }
    assert!(sent <= MAX_PLAINTEXT, "{sent} bytes accepted");
    assert!(now(server.flush()).await.is_none());
    // The other direction is not blocked.
    write_flushed(&mut client, b"still here").await.unwrap();
    assert_eq!(read_exact(&mut server, 10).await.unwrap(), b"still here");
    let (flushed, got) = tokio::join!(server.flush(), read_exact(&mut client, sent));
    flushed.unwrap();
    assert!(got.unwrap() == bytes[..sent]);
    assert_eq!(server.buffered(), 0);
}

#[tokio::test]
async fn vectored_write_joins_slices() {
    let (mut server, mut client) = both(&TLS13, 64 * 1024).await;
    let parts: [&[u8]; 4] = [b"", b"head", b"", &[b'x'; 20_000]];
    let slices = parts.map(io::IoSlice::new);
    assert_eq!(server.write_vectored(&slices).await.unwrap(), 20_004);
    let got = read_exact(&mut client, 20_004).await.unwrap();
    assert!(got.starts_with(b"headxxx") && got.ends_with(b"xxx"));
    assert_eq!(server.write_vectored(&slices[..1]).await.unwrap(), 0);
    assert_eq!(server.write_vectored(&slices[3..]).await.unwrap(), 20_000);
}

#[tokio::test]
async fn invalid_client_hello_is_answered_with_an_alert() {
    let (near, mut far) = duplex(1024);
    far.write_all(&[22, 3, 1, 0, 4, 2, 0, 0, 0]).await.unwrap();
    let error = accept(near, Vec::new(), server_config()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    assert_eq!((answer.len(), answer[0]), (7, 21));
}

#[tokio::test]
async fn client_eof_during_the_handshake_is_unexpected_eof() {
    let (near, far) = duplex(64 * 1024);
    drop(far);
    let error = accept(near, Vec::new(), server_config()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// An endless handshake message is bounded, as in rustls.
#[tokio::test]
async fn incomplete_input_is_bounded() {
    let (near, mut far) = duplex(1024 * 1024);
    let mut endless = Vec::new();
    // A ClientHello of 60,000 bytes, one in each record.
    for byte in [1, 0, 0xea, 0x60].into_iter().chain([0; 59_000]) {
        endless.extend_from_slice(&[22, 3, 1, 0, 1, byte]);
    }
    far.write_all(&endless).await.unwrap();
    let error = accept(near, Vec::new(), server_config()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
