//! A reader that does not read stops the sender; nothing is lost and little is held.

use crate::harness::{Backend, Frame, Lockgate, Wire};
use std::time::Duration;

/// Two sockets' buffers at their largest (`tcp_wmem`, `tcp_rmem`: 4 and 6 MiB) on both legs, and some.
const BOUND: usize = 24 << 20;

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_backend() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let (client, server, _) = lockgate.session(&backend).await;
    stops(server, client).await;
}

#[tokio::test]
async fn a_backend_that_does_not_read_stops_the_client() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let (client, server, _) = lockgate.session(&backend).await;
    stops(client, server).await;
}

async fn stops(mut sender: Wire, mut reader: Wire) {
    // One frame of 48 MiB, a multiple of what is sent at once, so that the stream stays whole wherever it stops.
    let payload = vec![0x55; 48 << 20];
    let frame = match sender.plays_client() {
        true => Frame::binary(&payload).masked(),
        false => Frame::binary(&payload),
    };
    let bytes = frame.encode();
    let sent = sender.fill(&bytes, Duration::from_millis(500)).await;
    assert!(
        sent < BOUND,
        "{sent} bytes were sent and the peer does not read"
    );
    let (_, received) = tokio::join!(sender.send(&bytes[sent..]), reader.exactly(bytes.len()));
    assert!(received == bytes, "every byte arrives, as it was sent");
}
