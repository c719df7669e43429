//! One accepted connection, up to its first request: PROXY header, permit per IP, TLS, all under one deadline.

use super::{ConnectionLimiter, ConnectionPermit};
use crate::{
    config::ProxyProtocol,
    gateway::Gateway,
    http::{self, ClientCertHeader, Context, Peer},
    observe::ErrorChain,
    proto::proxy::{self, BadProxyHeader},
    splice::Socket,
    tls::{self, AcceptOutcome},
};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, Interest},
    net::TcpStream,
    time::timeout,
};
use tracing::debug;

/// What connections of every listener need.
#[derive(Debug)]
pub struct ConnectionHandler {
    /// What requests need.
    pub http: Arc<Context>,
    /// The limits that count connections per IP.
    pub admission: Arc<ConnectionLimiter>,
}

/// The reason why a connection ended before its first request.
#[derive(Debug, thiserror::Error)]
enum AcceptError {
    #[error("no TLS handshake in time (limits.tls_handshake)")]
    Deadline,
    #[error(
        "this address has its share of connections (limits.connections_per_ip, limits.accepts_per_ip)"
    )]
    Share,
    #[error("a PROXY header from {0}, which is not among server.trusted_proxies")]
    Untrusted(IpAddr),
    #[error("bad PROXY header")]
    Proxy(#[from] BadProxyHeader),
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("TLS failed")]
    Tls(#[from] tls::TlsError),
}

// === impl ConnectionHandler ===

impl ConnectionHandler {
    /// Serves one connection of an https listener.
    pub async fn serve_tls(
        self: Arc<Self>,
        mut tcp: TcpStream,
        from: SocketAddr,
        permit: ConnectionPermit,
    ) {
        let gateway = self.http.live.snapshot();
        let deadline = gateway.limits.tls_handshake.0;
        let entered = timeout(deadline, async {
            let client = self.client_addr(&gateway, &mut tcp, from).await?;
            let share = self
                .admission
                .per_ip_permit(client.ip())
                .ok_or(AcceptError::Share)?;
            let ends = (client, tcp.local_addr()?);
            let entered = tls::accept(&gateway.tls, Socket::new(tcp)).await?;
            Ok((entered, ends, share))
        })
        .await
        .unwrap_or(Err(AcceptError::Deadline));
        drop(gateway);
        match entered {
            Ok((AcceptOutcome::AcmeValidated, ..)) => self.http.metrics.challenge_answered(),
            Ok((AcceptOutcome::Client(accepted), (client, reached), share)) => {
                // Boxed: the TLS handshake's state is freed by now, and this is what a waiting connection keeps.
                let guard = Box::new((permit, share));
                let peer = Peer {
                    address: client.ip(),
                    port: client.port(),
                    local: reached,
                    client_auth_requested: accepted.client_auth_requested,
                    client_cert: accepted.certificate.as_deref().map(ClientCertHeader::of),
                };
                Box::pin(http::serve(self.http.clone(), accepted.stream, peer, guard)).await;
            }
            Err(turned) => self.reject(from, &turned),
        }
    }

    /// Serves one connection of a clear-text listener.
    pub async fn serve_plain(
        self: Arc<Self>,
        mut tcp: TcpStream,
        from: SocketAddr,
        permit: ConnectionPermit,
        https_port: u16,
    ) {
        let gateway = self.http.live.snapshot();
        let entered = timeout(
            gateway.limits.tls_handshake.0,
            self.client_addr(&gateway, &mut tcp, from),
        )
        .await;
        let entered = entered.unwrap_or(Err(AcceptError::Deadline));
        let entered = entered.map(|client| client.ip()).and_then(|address| {
            Ok((
                address,
                self.admission
                    .per_ip_permit(address)
                    .ok_or(AcceptError::Share)?,
            ))
        });
        drop(gateway);
        match entered {
            Ok((address, share)) => {
                let guard = Box::new((permit, share));
                http::serve_redirect(
                    self.http.clone(),
                    Socket::new(tcp),
                    address,
                    https_port,
                    guard,
                )
                .await;
            }
            Err(turned) => self.reject(from, &turned),
        }
    }

    /// Returns the client's address: the peer's, or the one in a trusted peer's PROXY header.
    async fn client_addr(
        &self,
        gateway: &Gateway,
        tcp: &mut TcpStream,
        peer: SocketAddr,
    ) -> Result<SocketAddr, AcceptError> {
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        let peer = canonical(peer);
        if gateway.proxy_protocol == ProxyProtocol::Off {
            return Ok(peer);
        }
        if !gateway.trusts(peer.ip()) {
            return Err(AcceptError::Untrusted(peer.ip()));
        }
        let source = read_proxy_header(tcp).await?;
        Ok(source.map_or(peer, canonical))
    }

    fn reject(&self, from: SocketAddr, turned: &AcceptError) {
        self.http.metrics.connection_failed(turned.as_str());
        debug!(client = %from.ip().to_canonical(), error = %ErrorChain(turned), "connection turned away");
    }
}

// === impl AcceptError ===

impl AcceptError {
    fn as_str(&self) -> &'static str {
        match self {
            AcceptError::Deadline => "deadline",
            AcceptError::Share => "share",
            AcceptError::Untrusted(_) => "untrusted-proxy",
            AcceptError::Proxy(_) => "proxy-header",
            AcceptError::Io(_) => "io",
            AcceptError::Tls(error) => error.as_str(),
        }
    }
}

/// Reads the header and not one byte more: the bytes that follow belong to TLS.
async fn read_proxy_header(tcp: &mut TcpStream) -> Result<Option<SocketAddr>, AcceptError> {
    let mut seen = 0;
    let mut head = [0; proxy::MAX_LEN];
    loop {
        tcp.readable().await?;
        let peeked = tcp.peek(&mut head).await?;
        match proxy::parse(&head[..peeked])? {
            Some(header) => {
                tcp.read_exact(&mut head[..header.len]).await?;
                return Ok(header.source);
            }
            None if tcp.ready(Interest::READABLE).await?.is_read_closed() => {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            // Peeking does not clear readiness: wait for more in steps, under the caller's deadline.
            None if peeked == seen => tokio::time::sleep(PEEK_INTERVAL).await,
            None => seen = peeked,
        }
    }
}

/// A header normally arrives in one segment; this is for the rare case that it does not.
const PEEK_INTERVAL: Duration = Duration::from_millis(5);
