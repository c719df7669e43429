//! A TLS client for benchmarks. It runs in a separate process, whose instructions are not counted.

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject as _},
    version::TLS13,
};
use std::{net::TcpStream, path::Path, sync::Arc};

/// A connection under TLS.
pub(crate) type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Returns a configuration with TLS 1.3, X25519 and AES-128-GCM that trusts `ca`. Its clients share tickets.
pub(crate) fn config(ca: &Path) -> Arc<ClientConfig> {
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
    Arc::new(config)
}

/// Wraps the connection in TLS. The handshake starts with the first bytes that are sent.
pub(crate) fn secure(config: &Arc<ClientConfig>, tcp: TcpStream) -> Secure {
    let name = NAME.try_into().expect("a name");
    let mut connection = ClientConnection::new(config.clone(), name).expect("a client");
    // Without a limit, a message is one write.
    connection.set_buffer_limit(None);
    StreamOwned::new(connection, tcp)
}

pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream
}

/// The server name that the client requests.
pub(crate) const NAME: &str = "localhost";

/// The file name of the CA in the directory of a benchmark.
pub(crate) const CA: &str = "bench-ca.pem";
