//! TLS as a client: the settings towards one backend, and the configuration for HTTPS.

use crate::net::{
    crypto::provider,
    dial::DialError,
    pem::{self, PemError},
};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, Error, RootCertStore, client::WantsClientCert,
    pki_types::ServerName,
};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The TLS settings of one backend.
#[derive(Clone)]
pub(crate) struct TlsClient {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// The name and the files from which a [`TlsClient`] is built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TlsClientFiles<'a> {
    /// The name that the backend's certificate must have.
    pub(crate) server_name: &'a str,
    /// The only CAs that are trusted; `None`: the public CAs.
    pub(crate) ca: Option<&'a Path>,
    /// The client certificate with its chain, and its key.
    pub(crate) client_cert: Option<(&'a Path, &'a Path)>,
}

/// Why the TLS settings are invalid, with the key at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadTlsClient {
    #[error("{key}: {} cannot be read as PEM", .file.display())]
    Read {
        key: &'static str,
        file: PathBuf,
        #[source]
        source: PemError,
    },
    #[error("{key}: {} holds no certificate", .file.display())]
    None { key: &'static str, file: PathBuf },
    #[error("tls.cert, tls.key: the pair cannot be used")]
    Pair(#[source] rustls::Error),
    #[error("tls.server_name: `{0}` is not a name that a certificate could have")]
    Name(String),
}

// === impl TlsClient ===

impl TlsClient {
    /// Reads the files.
    pub(crate) fn build(files: TlsClientFiles<'_>) -> Result<TlsClient, BadTlsClient> {
        let name = files.server_name;
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| BadTlsClient::Name(name.to_owned()))?;
        let roots = match files.ca {
            Some(file) => Arc::new(roots(file)?),
            None => pem::public_roots(),
        };
        let builder = config_builder(roots);
        let mut config = match files.client_cert {
            Some((cert, key)) => {
                let chain = pem::read_certificates(cert);
                let chain = chain.map_err(|source| BadTlsClient::read("tls.cert", cert, source))?;
                if chain.is_empty() {
                    return Err(BadTlsClient::none("tls.cert", cert));
                }
                let key = pem::read_key(key)
                    .map_err(|source| BadTlsClient::read("tls.key", key, source))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(BadTlsClient::Pair)?
            }
            None => builder.with_no_client_auth(),
        };
        // The WebSocket handshake is HTTP/1.1 (RFC 6455 §4.1).
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsClient {
            connector: TlsConnector::from(Arc::new(config)),
            name,
        })
    }

    /// Performs the TLS handshake on a connection within `limit`.
    pub(crate) async fn connect_tls_within<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        limit: Duration,
    ) -> Result<TlsStream<S>, DialError> {
        let connected = timeout(limit, self.connect_tls(stream)).await;
        connected.unwrap_or_else(|_| {
            Err(DialError::TlsTimeout {
                name: self.name.to_str().into_owned(),
                after: limit,
            })
        })
    }

    /// Performs the TLS handshake on a connection. The caller sets the deadline.
    pub(crate) async fn connect_tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<TlsStream<S>, DialError> {
        let stream = self.connector.connect(self.name.clone(), stream).await;
        stream.map_err(|source| {
            let inner = source.get_ref().and_then(|inner| inner.downcast_ref());
            DialError::Tls {
                name: self.name.to_str().into_owned(),
                source: if inner.is_some_and(is_ca_as_leaf) {
                    io::Error::new(source.kind(), CA_AS_LEAF)
                } else {
                    source
                },
            }
        })
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsClient").field(&self.name).finish()
    }
}

/// Returns the configuration of a client that trusts `roots` and has no certificate.
pub(crate) fn client_config(roots: Arc<RootCertStore>) -> Arc<ClientConfig> {
    Arc::new(config_builder(roots).with_no_client_auth())
}

/// Returns whether the server presented a certificate that is marked as that of a CA, which rustls refuses.
pub(crate) fn is_ca_as_leaf(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            let cause = other.0.downcast_ref();
            matches!(cause, Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

/// The message for [`is_ca_as_leaf`].
pub(crate) const CA_AS_LEAF: &str = "the server's own certificate is marked as a CA (CA:TRUE); issue it with CA:FALSE, \
     for example by openssl req -x509 … -addext basicConstraints=critical,CA:FALSE";

fn config_builder(roots: Arc<RootCertStore>) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites and groups for 1.2 and 1.3")
        .with_root_certificates(roots)
}

fn roots(file: &Path) -> Result<RootCertStore, BadTlsClient> {
    let roots = pem::read_roots(file);
    let roots = roots.map_err(|source| BadTlsClient::read("tls.ca", file, source))?;
    if roots.is_empty() {
        Err(BadTlsClient::none("tls.ca", file))
    } else {
        Ok(roots)
    }
}

// === impl BadTlsClient ===

impl BadTlsClient {
    fn read(key: &'static str, file: &Path, source: PemError) -> BadTlsClient {
        BadTlsClient::Read {
            key,
            file: file.to_owned(),
            source,
        }
    }

    fn none(key: &'static str, file: &Path) -> BadTlsClient {
        BadTlsClient::None {
            key,
            file: file.to_owned(),
        }
    }
}
