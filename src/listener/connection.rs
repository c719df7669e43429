//! One accepted connection, up to its first request: PROXY header, permit per IP, TLS, all under one deadline.

use crate::{
    config::ProxyProtocol,
    gateway::Gateway,
    http::{
        client_table::{ClientLimit, ClientLimits, ClientPermit},
        context::Context,
        peer::{ClientCertHeader, Peer},
        redirect, server,
    },
    listener::limits::{ConnectionLimiter, ConnectionPermit},
    net::{
        linger::{STOPPING_LINGER, linger},
        socket::Socket,
    },
    observe::{log_throttle::KeyedLogThrottle, logging::ErrorChain},
    proto::proxy_header::{self, BadProxyHeader},
    tls::{
        accept::{self, AcceptOutcome},
        error::TlsError,
    },
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
    time::{sleep, timeout},
};
use tracing::{debug, info};

/// Serves the connections of all https and http listeners.
#[derive(Debug)]
pub(crate) struct ConnectionHandler {
    /// The context of requests.
    pub http: Arc<Context>,
    /// The limits that count connections per IP.
    pub limiter: Arc<ConnectionLimiter>,
    /// Limits the log lines of rejected connections, by reason.
    pub throttle: KeyedLogThrottle<&'static str>,
}

/// A connection that the limits of its client's address admit.
struct AdmittedConnection {
    client: SocketAddr,
    /// The address that the client connected to.
    local: SocketAddr,
    per_ip: ClientPermit,
}

/// The reason why a connection ended before its first request.
#[derive(Debug, thiserror::Error)]
enum AcceptError {
    #[error("TLS handshake not completed in time (limits.tls_handshake)")]
    Deadline,
    #[error(
        "connection limit for this address reached (limits.connections_per_ip, limits.accepts_per_ip)"
    )]
    PerIpLimit,
    #[error("descriptors are scarce, and this address holds more than a tenth of them")]
    DescriptorShare,
    #[error("memory is scarce, and this address may use more than a tenth of it")]
    MemoryShare,
    #[error("the connection is from {0}, which is not among server.trusted_proxies")]
    UntrustedProxy(IpAddr),
    #[error("bad PROXY header")]
    Proxy(#[from] BadProxyHeader),
    #[error("connection failed")]
    Io(#[from] io::Error),
    #[error("TLS handshake failed")]
    Tls(#[from] TlsError),
}

// === impl ConnectionHandler ===

impl ConnectionHandler {
    /// Serves one connection of an https listener.
    pub(crate) async fn serve_tls(
        self: Arc<Self>,
        mut tcp: TcpStream,
        from: SocketAddr,
        permit: ConnectionPermit,
    ) {
        let gateway = self.http.live.snapshot();
        let deadline = gateway.limits.tls_handshake.0;
        let result = timeout(deadline, async {
            let admitted = self.admit(&gateway, &mut tcp, from).await?;
            let outcome = accept::accept(&gateway.tls, Socket::new(tcp)).await?;
            Ok((outcome, admitted))
        })
        .await
        .unwrap_or(Err(AcceptError::Deadline));
        drop(gateway);
        match result {
            Ok((AcceptOutcome::AcmeValidated, _)) => self.http.metrics.count_challenge(),
            Ok((AcceptOutcome::Client(accepted), admitted)) => {
                // Boxed, so that an idle connection does not keep the memory of the handshake's state.
                let guard = Box::new((permit, admitted.per_ip));
                let peer = Peer {
                    client_auth_requested: accepted.client_ca_set.is_some(),
                    client_cert: accepted
                        .certificate
                        .zip(accepted.client_ca_set)
                        .map(|(certificate, ca_set)| ClientCertHeader::new(&certificate, ca_set)),
                    ..Peer::new(admitted.client, admitted.local)
                };
                Box::pin(server::serve(
                    self.http.clone(),
                    accepted.stream,
                    peer,
                    guard,
                ))
                .await;
            }
            Ok((AcceptOutcome::PlainHttp(stream), admitted)) => {
                self.reject(from, &TlsError::PlainHttp.into());
                let stopping = async {
                    self.http.tasks.stopping().await;
                    sleep(STOPPING_LINGER).await;
                };
                tokio::select! {
                    () = linger(stream) => {}
                    () = stopping => {}
                }
                drop((permit, admitted));
            }
            Err(error) => self.reject(from, &error),
        }
    }

    /// Serves one connection of a clear-text listener that redirects.
    pub(crate) async fn serve_plain(
        self: Arc<Self>,
        mut tcp: TcpStream,
        from: SocketAddr,
        permit: ConnectionPermit,
        https_port: u16,
    ) {
        let gateway = self.http.live.snapshot();
        let deadline = gateway.limits.tls_handshake.0;
        let result = timeout(deadline, self.admit(&gateway, &mut tcp, from)).await;
        drop(gateway);
        match result.unwrap_or(Err(AcceptError::Deadline)) {
            Ok(admitted) => {
                let guard = Box::new((permit, admitted.per_ip));
                redirect::serve_redirect(
                    self.http.clone(),
                    Socket::new(tcp),
                    admitted.client.ip(),
                    https_port,
                    guard,
                )
                .await;
            }
            Err(error) => self.reject(from, &error),
        }
    }

    /// Serves one connection of a clear-text listener for proxies that terminate TLS: only trusted ones may connect.
    pub(crate) async fn serve_cleartext(
        self: Arc<Self>,
        mut tcp: TcpStream,
        from: SocketAddr,
        permit: ConnectionPermit,
    ) {
        let gateway = self.http.live.snapshot();
        let result = timeout(gateway.limits.tls_handshake.0, async {
            let proxy = from.ip().to_canonical();
            if !gateway.trusts(proxy) {
                return Err(AcceptError::UntrustedProxy(proxy));
            }
            self.admit(&gateway, &mut tcp, from).await
        })
        .await
        .unwrap_or(Err(AcceptError::Deadline));
        drop(gateway);
        match result {
            Ok(admitted) => {
                let peer = Peer {
                    is_cleartext: true,
                    ..Peer::new(admitted.client, admitted.local)
                };
                let guard = Box::new((permit, admitted.per_ip));
                let (http, stream) = (self.http.clone(), Socket::new(tcp));
                Box::pin(server::serve_cleartext(http, stream, peer, guard)).await;
            }
            Err(error) => self.reject(from, &error),
        }
    }

    /// Reads the PROXY header if there must be one, and applies the limits of the client's address.
    async fn admit(
        &self,
        gateway: &Gateway,
        tcp: &mut TcpStream,
        from: SocketAddr,
    ) -> Result<AdmittedConnection, AcceptError> {
        let client = self.client_addr(gateway, tcp, from).await?;
        Ok(AdmittedConnection {
            client,
            per_ip: self.per_ip_permit(gateway, client.ip())?,
            local: tcp.local_addr()?,
        })
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
            return Err(AcceptError::UntrustedProxy(peer.ip()));
        }
        let source = read_proxy_header(tcp).await?;
        Ok(source.map_or(peer, canonical))
    }

    fn per_ip_permit(
        &self,
        gateway: &Gateway,
        address: IpAddr,
    ) -> Result<ClientPermit, AcceptError> {
        let limits = ClientLimits::new(gateway, address, gateway.limits.connections_per_ip);
        let permit = self.limiter.per_ip_permit(address, limits);
        permit.map_err(|limit| match limit {
            ClientLimit::PerIp => AcceptError::PerIpLimit,
            ClientLimit::Descriptors => AcceptError::DescriptorShare,
            ClientLimit::Memory => AcceptError::MemoryShare,
        })
    }

    fn reject(&self, from: SocketAddr, error: &AcceptError) {
        let (why, client) = (error.as_str(), from.ip().to_canonical());
        self.http.metrics.count_connection_failure(why);
        // Port scans and health checks over TCP would fill the log.
        if matches!(
            error,
            AcceptError::Io(_) | AcceptError::Tls(TlsError::Gone | TlsError::Io(_))
        ) {
            debug!(%client, why, error = %ErrorChain(error), "connection rejected");
        } else if let Some(suppressed) = self.throttle.allow(why) {
            let hint = self.hint(error);
            info!(%client, why, error = %ErrorChain(error), hint, suppressed, "connection rejected");
        }
    }

    /// Returns what an operator can do, if that is more than the error implies.
    fn hint(&self, error: &AcceptError) -> Option<&'static str> {
        let AcceptError::Tls(error) = error else {
            return None;
        };
        match error {
            TlsError::CertificateRefused { name, .. } => {
                let gateway = self.http.live.snapshot();
                let is_dev = gateway.certificates.is_from_dev_ca(name.as_deref());
                Some(if is_dev { TRUST_DEV_CA } else { CHECK_CHAIN })
            }
            _ => None,
        }
    }
}

// === impl AcceptError ===

impl AcceptError {
    fn as_str(&self) -> &'static str {
        match self {
            AcceptError::Deadline => "deadline",
            AcceptError::PerIpLimit => "share",
            AcceptError::DescriptorShare => "descriptors-share",
            AcceptError::MemoryShare => "memory-share",
            AcceptError::UntrustedProxy(_) => "untrusted-proxy",
            AcceptError::Proxy(_) => "proxy-header",
            AcceptError::Io(_) => "io",
            AcceptError::Tls(error) => error.as_str(),
        }
    }
}

/// Reads the header and not one byte more: the bytes that follow belong to TLS.
async fn read_proxy_header(tcp: &mut TcpStream) -> Result<Option<SocketAddr>, AcceptError> {
    let mut seen = 0;
    let mut head = [0; proxy_header::MAX_LEN];
    loop {
        tcp.readable().await?;
        let peeked = tcp.peek(&mut head).await?;
        match proxy_header::parse(&head[..peeked])? {
            Some(header) => {
                tcp.read_exact(&mut head[..header.len]).await?;
                return Ok(header.source);
            }
            None if tcp.ready(Interest::READABLE).await?.is_read_closed() => {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            // Peeking does not clear readiness: wait for more in steps, under the caller's deadline.
            None if peeked == seen => sleep(PEEK_INTERVAL).await,
            None => seen = peeked,
        }
    }
}

const TRUST_DEV_CA: &str = "the certificate is of the development CA: run `lockgate cert trust` on the machine of the \
    client, or give the client the file that `lockgate cert ca` prints";

const CHECK_CHAIN: &str = "`lockgate cert list` shows the names and dates of each certificate; its file must contain the \
    intermediate certificates, too";

/// A header normally arrives in one segment; this is for the rare case that it does not.
const PEEK_INTERVAL: Duration = Duration::from_millis(5);
