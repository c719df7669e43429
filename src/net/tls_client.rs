//! TLS with a backend: trust roots and client certificate.

use crate::{
    config::{self, BackendAddress, BackendSource, Diagnostic, Located},
    net::dial::DialError,
    observe::logging::ErrorChain,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
};
use std::{
    fmt,
    path::Path,
    sync::{Arc, LazyLock},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The TLS settings of one backend.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// Why the TLS settings are invalid, with the key at fault.
#[derive(Debug, thiserror::Error)]
enum BadTlsClient {
    #[error("{key}: {} cannot be read as PEM", .file.display())]
    Read {
        key: &'static str,
        file: std::path::PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("{key}: {} holds no certificate", .file.display())]
    None {
        key: &'static str,
        file: std::path::PathBuf,
    },
    #[error("tls.cert, tls.key: the pair cannot be used")]
    Pair(#[source] rustls::Error),
    #[error("tls.server_name: `{0}` is not a name that a certificate could have")]
    Name(String),
}

// === impl TlsClient ===

impl TlsClient {
    /// Reads the files that `backend` names; `None` without TLS, or after an error.
    pub(crate) fn build(
        backend: &Located<config::Backend>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let BackendSource::One(BackendAddress::Tcp { host, .. }) = &backend.address else {
            return None;
        };
        if !backend.address.has_tls() {
            return None;
        }
        let client = tls(&backend.tls, host);
        client
            .map_err(|error| {
                diagnostics.push(Diagnostic {
                    at: backend.at,
                    message: ErrorChain(&error).to_string(),
                    hint: Some(HINT.into()),
                });
            })
            .ok()
    }

    /// Performs the TLS handshake on a connection. The caller sets the deadline.
    pub async fn connect_tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<TlsStream<S>, DialError> {
        let stream = self.connector.connect(self.name.clone(), stream).await;
        stream.map_err(|source| DialError::Tls {
            name: self.name.to_str().into_owned(),
            source,
        })
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsClient").field(&self.name).finish()
    }
}

fn tls(backend: &config::BackendTls, host: &str) -> Result<TlsClient, BadTlsClient> {
    let name = backend.server_name.as_deref().unwrap_or(host);
    let name =
        ServerName::try_from(name.to_owned()).map_err(|_| BadTlsClient::Name(name.to_owned()))?;
    let roots = match &backend.ca {
        Some(file) => roots(file)?,
        None => PUBLIC_ROOTS.clone(),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites and groups for 1.2 and 1.3")
        .with_root_certificates(roots);
    let mut config = match (&backend.cert, &backend.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates("tls.cert", cert)?;
            let read = |source| BadTlsClient::Read {
                key: "tls.key",
                file: key.clone(),
                source,
            };
            let key = PrivateKeyDer::from_pem_file(key).map_err(read)?;
            let config = config.with_client_auth_cert(chain, key);
            config.map_err(BadTlsClient::Pair)?
        }
        _ => config.with_no_client_auth(),
    };
    // The WebSocket handshake is HTTP/1.1 (RFC 6455 §4.1).
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsClient {
        connector: TlsConnector::from(Arc::new(config)),
        name,
    })
}

fn roots(file: &Path) -> Result<Arc<RootCertStore>, BadTlsClient> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.ca", file)? {
        // An invalid certificate is skipped as long as another one is valid.
        let _ = roots.add(certificate);
    }
    match roots.is_empty() {
        true => Err(BadTlsClient::None {
            key: "tls.ca",
            file: file.to_owned(),
        }),
        false => Ok(Arc::new(roots)),
    }
}

fn certificates(
    key: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, BadTlsClient> {
    let read = |source| BadTlsClient::Read {
        key,
        file: file.to_owned(),
        source,
    };
    let certificates = CertificateDer::pem_file_iter(file).map_err(read)?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(read)?;
    match certificates.is_empty() {
        true => Err(BadTlsClient::None {
            key,
            file: file.to_owned(),
        }),
        false => Ok(certificates),
    }
}

/// The public roots, about 150; shared by all backends.
static PUBLIC_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
    Arc::new(RootCertStore::from_iter(roots))
});

const HINT: &str = "the files are PEM: ca with the certificates of CAs, cert with a certificate and its chain, key with \
    its private key, without a password; a relative path is relative to the directory of the configuration file";
