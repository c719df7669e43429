//! One handshake: look at the first bytes, read the ClientHello, check that its name has a certificate, finish.

mod hello;

use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{self, ClientHello};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ProtocolVersion, ServerConfig};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::StartHandshake;

use super::policy::provider;
use super::{TlsError, TlsServer};
use crate::wire::{self, ServerStream};

/// A connection whose TLS handshake is done.
#[derive(Debug)]
pub struct AcceptedTls<S> {
    /// Its plaintext.
    pub stream: Box<ServerStream<S>>,
    /// The name asked for, in lower case and without a trailing dot; `None` if the client sent none.
    pub sni: Option<Box<str>>,
    /// 1.2 or 1.3.
    pub version: ProtocolVersion,
    /// Whether the client was asked for its certificate.
    pub client_auth_requested: bool,
    /// The client's own, verified; resumption keeps it.
    pub certificate: Option<CertificateDer<'static>>,
}

/// What a handshake was for.
#[derive(Debug)]
pub enum AcceptOutcome<S> {
    /// A client's requests follow.
    Client(AcceptedTls<S>),
    /// A CA asked whether a name is ours (RFC 8737). It has its answer, and nothing follows.
    AcmeValidated,
}

/// Ends TLS on a stream. It waits for the client without limit: the caller owns the deadline. Only the rest of a CA's
/// handshake has one of its own, 2 s.
///
/// # Errors
/// By cause; where TLS was spoken the client has got its alert.
pub async fn accept<S>(termination: &TlsServer, stream: S) -> Result<AcceptOutcome<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // On the heap, and gone after it: the task of a connection would else carry the handshake's room for its whole life.
    Box::pin(handshake(termination, stream)).await
}

async fn handshake<S>(termination: &TlsServer, mut stream: S) -> Result<AcceptOutcome<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    let hello = match hello::read(&mut stream, &mut bytes).await {
        Err(TlsError::PlainHttp) => {
            // Whether or not it arrives, the cause is the missing TLS.
            let _ = reject_plain_http(stream).await;
            return Err(TlsError::PlainHttp);
        }
        hello => hello?,
    };
    let sni = hello.client_hello().server_name().map(normalize_sni);

    if is_challenge(&hello.client_hello()) {
        // Boxed: every other handshake would carry the room for it.
        return Box::pin(answer_acme_challenge(hello, stream, sni, termination)).await;
    }
    let asking = termination.client_auth(sni.as_deref());
    let config = asking.map_or(&termination.config, |asking| &asking.config);
    let config = config.clone();
    // rustls would ask the same question later and answer `access_denied`; the RFCs have better words.
    if config.cert_resolver.resolve(hello.client_hello()).is_none() {
        let (description, error) = match sni {
            Some(name) => (UNRECOGNIZED_NAME, TlsError::NoCertificate(name)),
            None => (MISSING_EXTENSION, TlsError::NoServerName),
        };
        // Whether or not it arrives, the cause is the name.
        let _ = send_alert(stream, description).await;
        return Err(error);
    }
    // It has its own copy of the bytes, and they are read once more.
    drop(hello);

    let stream = wire::accept(stream, bytes, config).await?;
    let agreed = stream.agreed();
    let version = agreed.protocol_version();
    let chain = agreed.peer_certificates().unwrap_or_default();
    Ok(AcceptOutcome::Client(AcceptedTls {
        version: version.ok_or(rustls::Error::HandshakeNotComplete)?,
        client_auth_requested: asking.is_some(),
        certificate: chain.first().cloned(),
        stream,
        sni,
    }))
}

/// RFC 8737 §3: exactly this protocol is offered, and a name.
fn is_challenge(hello: &ClientHello<'_>) -> bool {
    let mut protocols = hello.alpn().into_iter().flatten();
    protocols.next() == Some(ACME_TLS) && protocols.next().is_none()
}

/// Shows a CA the certificate that it asked for, and ends the connection: it carries no HTTP.
async fn answer_acme_challenge<S>(
    hello: server::Accepted,
    io: S,
    sni: Option<Box<str>>,
    termination: &TlsServer,
) -> Result<AcceptOutcome<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = sni.unwrap_or_default();
    let Some(key) = termination.shelf.challenge(&name, hello.client_hello()) else {
        // Whether or not it arrives, the cause is the name.
        let _ = send_alert(io, UNRECOGNIZED_NAME).await;
        return Err(TlsError::NoChallenge(name));
    };
    let shown = async {
        let start = StartHandshake::from_parts(hello, io);
        let mut stream = start.into_stream(challenge_config(key)).await?;
        // The CA has seen what it wanted; how it leaves does not matter.
        let _ = stream.shutdown().await;
        Ok(AcceptOutcome::AcmeValidated)
    };
    let shown = timeout(CHALLENGE_TIMEOUT, shown).await;
    shown.unwrap_or(Err(TlsError::SlowChallenge))
}

fn challenge_config(key: Arc<CertifiedKey>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites and groups for 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// Sends a fatal alert in clear, which is how all are sent before the ServerHello (RFC 8446 §6).
async fn send_alert(mut io: impl AsyncWrite + Unpin, description: u8) -> io::Result<()> {
    io.write_all(&[21, 3, 3, 0, 2, 2, description]).await?;
    io.flush().await?;
    io.shutdown().await
}

/// Tells a client that speaks HTTP in clear what to do instead; what it sent may hold a secret and is not repeated.
async fn reject_plain_http(mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    io.write_all(PLAIN_HTTP_RESPONSE).await?;
    io.shutdown().await?;
    // The rest of its request: unread, it would reset the connection and take the answer with it.
    let mut rest = io.take(REST_OF_REQUEST);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

/// A server name as certificates are looked up by: DNS ignores case and a root dot (RFC 6066 §3).
pub(super) fn normalize_sni(name: &str) -> Box<str> {
    name.strip_suffix('.')
        .unwrap_or(name)
        .to_ascii_lowercase()
        .into()
}

/// The ALPN name of TLS-ALPN-01 (RFC 8737 §6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// From a CA's ClientHello to the end of its connection.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(2);

/// The answer to HTTP in clear.
const PLAIN_HTTP_RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
    This port speaks TLS: the URL must begin with https:// or wss://\n";

/// What is read of a request that is not for us.
const REST_OF_REQUEST: u64 = 64 * 1024;

/// RFC 6066 §3: the answer to a name that the server does not know.
const UNRECOGNIZED_NAME: u8 = 112;

/// RFC 8446 §9.2: the answer to a missing server name where one is needed.
const MISSING_EXTENSION: u8 = 109;

#[cfg(test)]
mod tests;
