//! Back-pressure: a peer that does not read stops the sender, without loss and with bounded buffers.

use crate::harness::{Backend, Frame, Lockgate, Wire};
use std::time::Duration;

/// The maximum socket buffers (`tcp_wmem`, `tcp_rmem`: 4 and 6 MiB) of both legs, and a reserve.
const MAX_BUFFERED: usize = 24 << 20;

/// Bytes that one call sends or receives.
const PART: usize = 1 << 20;

#[tokio::test]
async fn client_that_does_not_read_stops_the_backend() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let (client, server, _) = lockgate.session(&backend).await;
    check_sender_stops(server, client).await;
}

#[tokio::test]
async fn backend_that_does_not_read_stops_the_client() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let (client, server, _) = lockgate.session(&backend).await;
    check_sender_stops(client, server).await;
}

async fn check_sender_stops(mut sender: Wire, mut reader: Wire) {
    // One frame of 48 MiB, so that the stream stays valid wherever the sender stops.
    let payload = vec![0x55; 48 << 20];
    let frame = if sender.is_client() {
        Frame::binary(&payload).masked()
    } else {
        Frame::binary(&payload)
    };
    let bytes = frame.encode();
    let sent = sender.fill(&bytes, Duration::from_millis(500)).await;
    assert!(
        sent < MAX_BUFFERED,
        "{sent} bytes were sent and the peer does not read"
    );
    // Each part has its own deadline, so that a slow machine is no failure.
    let send = async {
        for part in bytes[sent..].chunks(PART) {
            sender.send(part).await;
        }
    };
    let receive = async {
        for part in bytes.chunks(PART) {
            let received = reader.exactly(part.len()).await;
            assert!(received == part, "every byte arrives, as it was sent");
        }
    };
    tokio::join!(send, receive);
}
