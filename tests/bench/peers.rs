//! Client and backend, in a process of their own that nobody counts.

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject as _},
    version::TLS13,
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
};

/// Sends a message from the client, and once the backend has it whole, one of the same size back.
pub(crate) fn play(ca: &Path, (client, backend): (u16, u16), size: usize, times: usize) {
    let (asks, answers) = (frame(size, true), frame(size, false));
    let mut client = secure(ca, connect(client));
    let mut backend = connect(backend);
    let mut room = vec![0; asks.len().max(answers.len())];
    for _ in 0..times {
        relayed(&mut client, &mut backend, &asks, &mut room);
        relayed(&mut backend, &mut client, &answers, &mut room);
    }
}

fn relayed(from: &mut impl Write, to: &mut impl Read, frame: &[u8], room: &mut [u8]) {
    from.write_all(frame).expect("it is taken");
    from.flush().expect("it is taken");
    let came = &mut room[..frame.len()];
    to.read_exact(came).expect("it is relayed");
    assert!(came == frame, "not as it was sent");
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream
}

/// TLS 1.3 with AES-128-GCM.
fn secure(ca: &Path, tcp: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(ca).expect("a certificate");
    roots.add(ca).expect("a CA");
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .expect("a suite for it")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = super::NAME.try_into().expect("a name");
    let mut connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    // A message is written at once, not in parts as its reader takes them.
    connection.set_buffer_limit(None);
    StreamOwned::new(connection, tcp)
}

/// A binary message in one frame (RFC 6455 §5.2); nobody here looks at what it says.
fn frame(size: usize, masked: bool) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut frame = vec![0x82];
    match size {
        0..=125 => frame.push(size as u8 | mask_bit),
        126..=0xFFFF => {
            frame.push(126 | mask_bit);
            frame.extend((size as u16).to_be_bytes());
        }
        _ => {
            frame.push(127 | mask_bit);
            frame.extend((size as u64).to_be_bytes());
        }
    }
    if masked {
        frame.extend([0x12, 0x34, 0x56, 0x78]);
    }
    frame.extend((0..size).map(|n| n as u8));
    frame
}
