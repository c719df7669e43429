//! The client leg over real TLS, which has its own buffers and its own closing sequence.

use crate::{
    net::tls_stream,
    splice::{pump::READ_BUF_LEN, tests::harness::*},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer,
};
use std::{
    io::ErrorKind,
    sync::{Arc, atomic::Ordering::SeqCst},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client};

/// A session whose client uses TLS over a pipe with the given capacity in bytes, and that client.
async fn start(client_pipe: usize) -> (Rig, client::TlsStream<DuplexStream>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (mut far, wire) = TestPeer::new(client_pipe, true);
    let pipe = std::mem::replace(&mut far.pipe, duplex(1).0);
    let (accepted, connected) = tokio::join!(
        tls_stream::accept(wire, Vec::new(), Arc::new(server)),
        TlsConnector::from(Arc::new(client)).connect("localhost".try_into().unwrap(), pipe),
    );
    let (backend, backend_wire) = TestPeer::new(4096, false);
    let rig = Builder::default().start_over(far, accepted.unwrap(), backend, backend_wire);
    (rig, connected.unwrap())
}

#[tokio::test(start_paused = true)]
async fn frames_and_the_lingering_close_pass_through_tls() {
    let (mut rig, client) = start(4096).await;
    let up = rig.client.frame(BINARY, &[1; 5_000]).repeat(50);
    let down = rig.backend.frame(BINARY, &[2; 5_000]).repeat(50);
    let close = rig.client.close(1000, "done");
    let answer = rig.backend.close(1000, "");
    let (mut client_in, mut client_out) = tokio::io::split(client);
    let mut got = Vec::new();
    let peer = async {
        // Without close_notify before EOF, reading to the end would be an error.
        tokio::join!(
            async {
                client_out.write_all(&up).await.unwrap();
                client_out.flush().await.unwrap();
            },
            async {
                let mut first = vec![0; down.len()];
                client_in.read_exact(&mut first).await.unwrap();
                assert!(first == down);
            }
        );
        client_out.write_all(&close).await.unwrap();
        client_out.flush().await.unwrap();
        client_in.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, answer);
        client_out.shutdown().await.unwrap();
    };
    let backend = async {
        let (mut backend_in, mut backend_out) = tokio::io::split(&mut rig.backend.pipe);
        let mut first = vec![0; up.len()];
        tokio::join!(
            async { backend_out.write_all(&down).await.unwrap() },
            async {
                backend_in.read_exact(&mut first).await.unwrap();
            }
        );
        assert!(first == up);
        rig.backend.expect(&close).await;
        rig.backend.send(&answer).await;
        rig.backend.half_close().await;
        rig.backend.expect_eof().await;
    };
    timeout(secs(3600), async { tokio::join!(peer, backend) })
        .await
        .expect("stalled");
    assert_eq!(rig.end().await, ("client", "closed", Some(1000)));
    assert!(rig.elapsed() < secs(1));
}

#[tokio::test(start_paused = true)]
async fn client_drop_without_close_notify_is_gone() {
    let (mut rig, mut client) = start(64 * 1024).await;
    let text = rig.client.frame(TEXT, b"last text");
    client.write_all(&text).await.unwrap();
    client.flush().await.unwrap();
    rig.backend.expect(&text).await;
    drop(client);
    rig.backend.expect_close(1001).await;
    let answer = rig.backend.close(1001, "");
    rig.backend.send(&answer).await;
    assert_eq!(rig.end().await, ("client", "gone", Some(1001)));
}

#[tokio::test(start_paused = true)]
async fn tls_client_that_never_reads_blocks_the_backend_and_is_reset() {
    let (mut rig, mut client) = start(4096).await;
    let frames = rig.backend.frame(BINARY, &[1; 5_000]).repeat(200);
    let mut sent = 0;
    while let Ok(n) = timeout(secs(10), rig.backend.pipe.write(&frames[sent..])).await {
        sent += n.unwrap();
    }
    // One read of the pump, and the output buffered by TLS.
    let received = rig.backend.wire.received.load(SeqCst);
    assert!(
        received <= 2 * READ_BUF_LEN as u64 + 4096,
        "{received} bytes read"
    );
    let polls = rig.polls.load(SeqCst);
    sleep(secs(3600)).await;
    assert_eq!(rig.polls.load(SeqCst), polls);
    // The other direction is not blocked.
    let text = rig.client.frame(TEXT, b"still here");
    client.write_all(&text).await.unwrap();
    client.flush().await.unwrap();
    rig.backend.expect(&text).await;
    rig.sessions.close_all(1012);
    rig.backend.expect_close(1001).await;
    assert_eq!(rig.end().await, ("lockgate", "ordered", Some(1012)));
    assert!(rig.client.wire.was_reset());
    // A reset, not a FIN: the client detects the truncation.
    let mut got = Vec::new();
    let end = client.read_to_end(&mut got).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    assert!(frames.starts_with(&got));
}
