//! 0-RTT, which is never accepted.

use crate::net::tls_stream::{
    accept,
    tests::{
        harness::{Pieces, client_config, pattern, read_exact, server_config},
        *,
    },
};
use rustls::{ClientConfig, ClientConnection, crypto::aws_lc_rs, server::ServerSessionMemoryCache};
use std::{io::Write, sync::Arc};
use tokio::io::DuplexStream;

/// RFC 8446 §4.2.10: a client with a ticket of an earlier server sends early data and repeats it after the handshake.
///
/// Larger early data cannot be split into as many pieces: with each read rustls processes the skipped bytes again and
/// counts them again; 16 KiB exceed its limit.
#[tokio::test]
async fn rejected_early_data_is_skipped() {
    for (size, piece) in [(100, 100), (1_000, 1_000), (5_000, usize::MAX)] {
        let (near, mut far) = duplex(64 * 1024);
        let client = async {
            let config = client_config_with_foreign_ticket().await;
            let name = "localhost".try_into().unwrap();
            let mut client = ClientConnection::new(config, name).unwrap();
            let mut early = client.early_data().unwrap();
            assert_eq!(early.write(&pattern(size)).unwrap(), size);
            finish(&mut client, &mut far).await;
            assert!(!client.is_early_data_accepted());
            client.writer().write_all(&pattern(size)).unwrap();
            send(&mut client, &mut far).await;
        };
        let server = async {
            let pieces = Pieces::new(near, piece);
            let mut server = accept(pieces, Vec::new(), server_config()).await.unwrap();
            assert!(read_exact(&mut server, size).await.unwrap() == pattern(size));
            assert_eq!(server.engine.incoming.len(), 0);
        };
        tokio::join!(server, client);
    }
}

async fn client_config_with_foreign_ticket() -> Arc<ClientConfig> {
    let mut other = (*server_config()).clone();
    other.max_early_data_size = 16_384;
    other.session_storage = ServerSessionMemoryCache::new(16);
    let mut config = client_config(aws_lc_rs::default_provider(), &TLS13);
    config.enable_early_data = true;
    let config = Arc::new(config);
    let (near, mut far) = duplex(64 * 1024);
    let client = async {
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(config.clone(), name).unwrap();
        finish(&mut client, &mut far).await;
        while client.tls13_tickets_received() == 0 {
            receive(&mut client, &mut far).await;
        }
    };
    let (_, server) = tokio::join!(client, accept(near, Vec::new(), Arc::new(other)));
    server.unwrap();
    config
}

async fn finish(client: &mut ClientConnection, io: &mut DuplexStream) {
    send(client, io).await;
    while client.is_handshaking() {
        receive(client, io).await;
        send(client, io).await;
    }
}

async fn send(client: &mut ClientConnection, io: &mut DuplexStream) {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    io.write_all(&bytes).await.unwrap();
}

async fn receive(client: &mut ClientConnection, io: &mut DuplexStream) {
    let mut bytes = [0; 4096];
    let n = io.read(&mut bytes).await.unwrap();
    assert_ne!(n, 0, "the server has closed");
    client.read_tls(&mut &bytes[..n]).unwrap();
    client.process_new_packets().unwrap();
}
