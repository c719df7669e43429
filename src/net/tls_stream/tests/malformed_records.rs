//! Records other than application data: those that a client may send at any time, and invalid ones.

use crate::net::tls_stream::{
    COALESCE_LIMIT, buffers,
    tests::{
        harness::{BOTH, both, now, read_exact, write_flushed},
        malformed_peer::*,
        *,
    },
};

/// A client that requests renegotiation sends nothing until it receives an answer.
#[tokio::test]
async fn renegotiation_is_refused_at_once_and_only_once() {
    let (mut server, mut client) = with_malformed_peer(&TLS12).await;
    let written = server.io().writes;
    send_record(&mut client, HANDSHAKE, &client_hello()).await;
    assert!(now(server.read(&mut [0; 1])).await.is_none());
    assert_eq!((server.io().writes, server.buffered()), (written + 1, 0));
    write_flushed(&mut client, b"well then").await.unwrap();
    assert_eq!(read_exact(&mut server, 9).await.unwrap(), b"well then");
    send_record(&mut client, HANDSHAKE, &client_hello()).await;
    let error = server.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

/// RFC 8446 §6.1: neither a reply nor an alert may follow.
#[tokio::test]
async fn nothing_follows_close_notify() {
    for (version, kind, content) in [
        (&TLS12, HANDSHAKE, &client_hello()[..]),
        (&TLS13, HANDSHAKE, &KEY_UPDATE[..]),
        (&TLS12, ALERT, &[2, 80]),
        (&TLS13, ALERT, &[2, 80]),
    ] {
        let (mut server, mut client) = with_malformed_peer(version).await;
        let last = poll_fn(|cx| server.poll_write_and_close(cx, b"last")).await;
        assert_eq!(last.unwrap(), 4);
        let written = server.io().writes;
        send_record(&mut client, kind, content).await;
        let _ = now(server.read(&mut [0; 1])).await;
        server.shutdown().await.unwrap();
        assert_eq!(server.io().writes, written, "{:?} {kind}", version.version);
    }
}

#[tokio::test]
async fn data_inside_a_split_handshake_message_is_an_error() {
    for cut in 1..KEY_UPDATE.len() {
        let (mut server, mut client) = with_malformed_peer(&TLS13).await;
        write_flushed(&mut client, b"before").await.unwrap();
        send_record(&mut client, HANDSHAKE, &KEY_UPDATE[..cut]).await;
        assert_eq!(read_exact(&mut server, 6).await.unwrap(), b"before");
        assert!(now(server.read(&mut [0; 1])).await.is_none());
        // Writing is possible in the middle of a message.
        write_flushed(&mut server, b"go on").await.unwrap();
        assert_eq!(read_exact(&mut client, 5).await.unwrap(), b"go on");
        send_record(&mut client, DATA, b"between").await;
        let error = server.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn too_many_empty_records_are_an_error() {
    for version in BOTH {
        let (mut server, mut client) = with_malformed_peer(version).await;
        for _ in 0..30 {
            send_record(&mut client, DATA, b"").await;
        }
        write_flushed(&mut client, b"sorry").await.unwrap();
        assert_eq!(read_exact(&mut server, 5).await.unwrap(), b"sorry");
        for _ in 0..40 {
            send_record(&mut client, DATA, b"").await;
        }
        let error = server.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

/// A client that reads almost everything, but never all of it.
#[tokio::test]
async fn unsent_bytes_do_not_accumulate() {
    let (mut server, mut client) = both(&TLS13, 1024).await;
    for _ in 0..20 {
        while let Some(n) = now(server.write(&[1; 60_000])).await {
            n.unwrap();
        }
        // Read until the rest is sent with the next write.
        while server.engine.outgoing.bytes().len() > COALESCE_LIMIT {
            let mut piece = [0; 512];
            client.get_mut().0.read_exact(&mut piece).await.unwrap();
            assert!(now(server.flush()).await.is_none());
        }
        assert!(
            server.buffered() <= 2 * buffers::SCRATCH_LEN,
            "{} bytes held",
            server.buffered()
        );
    }
}

/// A KeyUpdate that requests one in return.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 1];

/// Returns the shortest ClientHello that rustls parses.
fn client_hello() -> Vec<u8> {
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0]].concat();
    [&[1, 0, 0, body.len() as u8][..], &body].concat()
}
