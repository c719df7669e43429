//! Fixtures for the tests of this module: a folder with a CA and its pairs, configurations, and a client.

use crate::{
    config::{CertificateFiles, Diagnostic, Located, Location, Tls, TlsVersion},
    net::crypto::provider,
    tls::{
        accept::{AcceptOutcome, AcceptedTls, accept},
        certs::{CertIssuers, Certificates},
        error::TlsError,
        server_config::{TlsServer, server_config, ticketer},
        x509,
    },
};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    server::{ProducesTickets, WebPkiClientVerifier},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio_rustls::{TlsConnector, client};

/// A folder with PEM files, and the CA that signed them.
pub(crate) struct Pki {
    pub(crate) folder: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Pki {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        // The name is unique: a CA with a trusted name but another key gives a bad signature instead of an unknown CA.
        params.distinguished_name.push(
            rcgen::DnType::CommonName,
            folder.path().display().to_string(),
        );
        Pki {
            folder,
            ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// Creates a pair for these names: `file.pem`, `file.key`.
    pub(crate) fn pair(&self, file: &str, names: &[&str]) -> Located<CertificateFiles> {
        self.pair_with(file, names, |_| {})
    }

    pub(crate) fn pair_with(
        &self,
        file: &str,
        names: &[&str],
        configure: impl FnOnce(&mut CertificateParams),
    ) -> Located<CertificateFiles> {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        configure(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        self.write(&format!("{file}.key"), key.serialize_pem());
        self.write(&format!("{file}.pem"), certificate.pem());
        self.entry(&format!("{file}.pem"), &format!("{file}.key"))
    }

    /// Creates an entry with its own position, so that a test can check that a diagnostic points at it.
    pub(crate) fn entry(&self, cert: &str, key: &str) -> Located<CertificateFiles> {
        Located {
            value: CertificateFiles {
                cert: Located::nowhere(self.path(cert)),
                key: Located::nowhere(self.path(key)),
            },
            at: LOCATION,
        }
    }

    pub(crate) fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    pub(crate) fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        client(self.ca.der().clone(), versions)
    }
}

pub(crate) const LOCATION: Option<Location> = Some(Location {
    source: 3,
    start: 14,
    end: 15,
});

pub(crate) fn tls(certificates: Vec<Located<CertificateFiles>>, default: &str) -> Tls {
    Tls {
        min_version: TlsVersion::V1_2,
        certificates,
        default: (!default.is_empty()).then(|| Located {
            value: default.to_owned(),
            at: LOCATION,
        }),
        client_ca: None,
        dev_ca: false,
    }
}

/// Builds the certificates of a valid configuration.
pub(crate) fn build_certificates(tls: &Tls) -> Certificates {
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let certificates =
        Certificates::build(tls, &[], None, &CertIssuers::default(), &mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    certificates
}

pub(crate) fn server(tls: &Tls) -> Arc<rustls::ServerConfig> {
    server_config_for(tls, build_certificates(tls), ticketer().unwrap())
}

/// Returns the server configuration without client authentication.
pub(crate) fn server_config_for(
    tls: &Tls,
    certificates: Certificates,
    ticketer: Arc<dyn ProducesTickets>,
) -> Arc<rustls::ServerConfig> {
    let verifier = WebPkiClientVerifier::no_client_auth();
    server_config(tls, Arc::new(certificates), verifier, ticketer)
}

pub(crate) fn root(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// Returns a client that trusts `root` and stores tickets.
pub(crate) fn client(
    root: CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Runs one TLS handshake over a pipe and returns both ends.
pub(crate) async fn tls_handshake(
    server: &Arc<rustls::ServerConfig>,
    client: &TlsConnector,
    name: &str,
) -> (
    Result<AcceptedTls<DuplexStream>, TlsError>,
    std::io::Result<client::TlsStream<DuplexStream>>,
) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let both = async { tokio::join!(accept_client(server, near), client.connect(name, far)) };
    tokio::time::timeout(TEST_TIMEOUT, both)
        .await
        .expect("the handshake hangs")
}

/// Performs the server's side of the TLS handshake.
pub(crate) async fn accept_client<S>(
    server: &Arc<rustls::ServerConfig>,
    stream: S,
) -> Result<AcceptedTls<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin + std::fmt::Debug,
{
    match accept(&tls_server(server), stream).await? {
        AcceptOutcome::Client(accepted) => Ok(accepted),
        AcceptOutcome::PlainHttp(_) => Err(TlsError::PlainHttp),
        AcceptOutcome::AcmeValidated => panic!("no challenge is pending"),
    }
}

pub(crate) fn tls_server(server: &Arc<rustls::ServerConfig>) -> TlsServer {
    TlsServer {
        config: server.clone(),
        client_auth: None,
        issued: Arc::default(),
    }
}

/// A timeout far longer than any handshake.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns the names of the certificate that was presented to a client.
pub(crate) fn presented_names(stream: &client::TlsStream<DuplexStream>) -> Vec<Box<str>> {
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    x509::names(&chain[0]).unwrap()
}
