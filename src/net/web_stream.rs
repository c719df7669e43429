//! A connection to a web server: TCP, and TLS for https.

use crate::net::{
    dial::{self, DialError, DialOptions, SourceAddrs},
    happy_eyeballs::{AddressHistory, AttemptPermits},
    resolver::Resolver,
};
use rustls::pki_types::ServerName;
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// A TCP or TLS stream.
pub(crate) trait WebStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> WebStream for S {}

/// What connections to web servers need. The caller sets the deadline of a connection.
pub(crate) struct WebDialer<'a> {
    pub(crate) resolver: &'a Resolver,
    /// The addresses that did not answer a short time ago.
    pub(crate) history: &'a AddressHistory,
    /// The time limit of a TCP connect to each address.
    pub(crate) connect_timeout: Duration,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebConnectError {
    #[error("cannot connect to {host}")]
    Connect {
        host: String,
        #[source]
        source: DialError,
    },
    #[error("the TLS handshake with {host} failed")]
    Tls {
        host: String,
        #[source]
        source: std::io::Error,
    },
}

// === impl WebDialer ===

impl WebDialer<'_> {
    /// Connects to a server; without `tls` in clear text.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        tls: Option<(TlsConnector, ServerName<'static>)>,
    ) -> Result<Box<dyn WebStream>, WebConnectError> {
        let tcp = self.tcp(host, port).await;
        let tcp = tcp.map_err(|source| WebConnectError::Connect {
            host: host.to_owned(),
            source,
        })?;
        let Some((connector, name)) = tls else {
            return Ok(Box::new(tcp));
        };
        let tls = connector.connect(name, tcp).await;
        let tls = tls.map_err(|source| WebConnectError::Tls {
            host: host.to_owned(),
            source,
        })?;
        Ok(Box::new(tls))
    }

    /// Connects by TCP.
    pub(crate) async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let options = DialOptions {
            resolver: self.resolver,
            sources: &SourceAddrs::default(),
            history: self.history,
            permits: AttemptPermits::Unlimited,
            connect_timeout: self.connect_timeout,
        };
        dial::tcp(host, port, options).await
    }
}
