//! Clients that disconnect while their backend does not read, so that no read of Lockgate returns the end.

use crate::harness::{Backend, Frame, H2, Lockgate, Wire, eventually, observe};
use socket2::SockRef;
use std::{net::Shutdown, time::Duration};

#[tokio::test]
async fn client_that_resets_while_its_backend_does_not_read_is_gone() {
    let backend = Backend::listen().await;
    let lockgate = with_close_timeout(&backend).await;
    let (mut client, _server, _) = lockgate.session(&backend).await;
    block(&mut client).await;
    client.reset();
    check_gone(&lockgate).await;
}

#[tokio::test]
async fn end_of_an_http2_connection_ends_its_sessions_whose_backends_do_not_read() {
    let backend = Backend::listen().await;
    let lockgate = with_close_timeout(&backend).await;
    let stream = lockgate.tls_for_h2().await;
    let socket = SockRef::from(stream.get_ref().0);
    let socket = socket.try_clone().expect("a descriptor is left");
    let mut client = H2::over(stream).await;
    let (mut session, _server) = tokio::join!(client.session("/"), backend.accept_session());
    block(&mut session).await;
    socket.shutdown(Shutdown::Both).expect("still connected");
    check_gone(&lockgate).await;
}

async fn with_close_timeout(backend: &Backend) -> Lockgate {
    let setup = Lockgate::to(backend.address).with("session = { close_timeout = \"1s\" }");
    setup.start().await
}

/// Returns a frame larger than all socket buffers, so that the stream stays valid wherever the sender stops.
fn payload() -> Vec<u8> {
    Frame::binary(&vec![0x55; 24 << 20]).masked().encode()
}

/// Sends until the backend, which does not read, blocks the client. Returns the number of bytes sent.
async fn block(client: &mut Wire) -> usize {
    let bytes = payload();
    let mut sent = 0;
    // In chunks, because hyper's client accepts any number of bytes at once.
    for chunk in bytes.chunks(16 * 1024) {
        let accepted = client.fill(chunk, Duration::from_millis(500)).await;
        sent += accepted;
        if accepted < chunk.len() {
            break;
        }
    }
    assert!(sent < bytes.len(), "the backend does not read");
    sent
}

/// Waits for the end of the session and the release of its permit.
async fn check_gone(lockgate: &Lockgate) {
    let record = lockgate.closed().await;
    assert_eq!(
        (&record["by"], &record["why"]),
        (&"client".into(), &"gone".into())
    );
    eventually("no session is left", async || {
        observe(lockgate.status().await["sessions"].clone(), |left| {
            left == 0
        })
    })
    .await;
}
