//! Runs one TLS handshake: sniffs the first bytes, reads the ClientHello, checks that its server name has a
//! certificate, and completes the handshake.

use crate::{
    net::{
        crypto::provider,
        tls_stream::{self, ServerStream},
    },
    tls::{client_auth::CaSetId, error::TlsError, server_config::TlsServer, x509::normalize_sni},
};
use rustls::{
    ProtocolVersion, ServerConfig,
    pki_types::CertificateDer,
    server::{self, Accepted, Acceptor, ClientHello},
    sign::{CertifiedKey, SingleCertAndKey},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::StartHandshake;

/// A connection whose TLS handshake is done.
#[derive(Debug)]
pub struct AcceptedTls<S> {
    /// The stream of plaintext over the connection.
    pub stream: Box<ServerStream<S>>,
    /// The server name (SNI), in lower case and without a trailing dot; `None` if the client sent none.
    pub sni: Option<Box<str>>,
    /// The negotiated version: 1.2 or 1.3.
    pub version: ProtocolVersion,
    /// The CAs that a client certificate is verified against; `None` if client authentication was not requested.
    pub client_ca_set: Option<CaSetId>,
    /// The client's verified certificate; a resumed session keeps it.
    pub certificate: Option<CertificateDer<'static>>,
}

/// The outcome of a successful TLS handshake.
#[derive(Debug)]
pub enum AcceptOutcome<S> {
    /// A client has connected; its requests follow.
    Client(AcceptedTls<S>),
    /// The client has sent a plain HTTP request and received a response; its side of the connection is still open.
    PlainHttp(S),
    /// A CA validated a name by TLS-ALPN-01 (RFC 8737). The challenge is answered and the connection is closed.
    AcmeValidated,
}

/// Performs the TLS handshake on a stream. The caller sets the deadline; only the handshake of an ACME challenge has a
/// time limit here, of 2 s from its ClientHello.
///
/// # Errors
/// Returns a `TlsError` by cause. A client that uses TLS has been sent an alert.
pub async fn accept<S>(tls_server: &TlsServer, stream: S) -> Result<AcceptOutcome<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Boxed, so that its memory is freed after the handshake and not held for the whole life of the connection's
    // task.
    Box::pin(handshake(tls_server, stream)).await
}

async fn handshake<S>(tls_server: &TlsServer, mut stream: S) -> Result<AcceptOutcome<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    let hello = match read_client_hello(&mut stream, &mut bytes).await {
        Err(TlsError::PlainHttp) => {
            // A write error is ignored: the cause to report is the missing TLS.
            let _ = reject_plain_http(&mut stream).await;
            return Ok(AcceptOutcome::PlainHttp(stream));
        }
        hello => hello?,
    };
    let sni = hello.client_hello().server_name().map(normalize_sni);

    if is_challenge(&hello.client_hello()) {
        // Boxed, so that the future of every other handshake stays small.
        return Box::pin(answer_acme_challenge(hello, stream, sni, tls_server)).await;
    }
    let client_auth = tls_server.client_auth(sni.as_deref());
    let config = client_auth.map_or(&tls_server.config, |client_auth| &client_auth.config);
    let config = config.clone();
    // rustls would make the same check later and send `access_denied`, but the RFCs define more precise alerts.
    if config.cert_resolver.resolve(hello.client_hello()).is_none() {
        let (description, error) = match sni {
            Some(name) => (UNRECOGNIZED_NAME, TlsError::NoCertificate(name)),
            None => (MISSING_EXTENSION, TlsError::NoServerName),
        };
        // A write error is ignored: the cause to report is the name.
        let _ = send_alert(stream, description).await;
        return Err(error);
    }
    // Frees rustls' copy of the ClientHello: `bytes` is parsed again below.
    drop(hello);

    let stream = match tls_stream::accept(stream, bytes, config).await {
        Ok(stream) => stream,
        Err(error) => return Err(TlsError::from(error).after_hello(sni)),
    };
    let tls_state = stream.tls_state();
    let version = tls_state.protocol_version();
    let chain = tls_state.peer_certificates().unwrap_or_default();
    Ok(AcceptOutcome::Client(AcceptedTls {
        version: version.ok_or(rustls::Error::HandshakeNotComplete)?,
        client_ca_set: client_auth.map(|client_auth| client_auth.ca_set),
        certificate: chain.first().cloned(),
        stream,
        sni,
    }))
}

/// Reads a ClientHello and appends every byte read to `bytes`. Input that cannot be TLS is rejected first, because
/// rustls would answer it with an alert.
async fn read_client_hello<S>(stream: &mut S, bytes: &mut Vec<u8>) -> Result<Accepted, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = Acceptor::default();
    loop {
        let old_len = bytes.len();
        bytes.reserve(READ_BUF_LEN);
        if stream.read_buf(bytes).await? == 0 {
            return Err(TlsError::Gone);
        }
        if old_len == 0 {
            sniff(bytes)?;
        }
        let mut unparsed = &bytes[old_len..];
        while !unparsed.is_empty() {
            // The acceptor copies the bytes into a buffer of limited size.
            if acceptor.read_tls(&mut unparsed)? == 0 {
                return Err(TlsError::Io(io::ErrorKind::OutOfMemory.into()));
            }
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(hello)) => return Ok(hello),
            Err((error, mut alert)) => {
                let mut alert_bytes = Vec::new();
                // A write error is ignored: the cause to report is the ClientHello.
                let _ = alert.write_all(&mut alert_bytes);
                let _ = stream.write_all(&alert_bytes).await;
                let _ = stream.flush().await;
                return Err(error.into());
            }
        }
    }
}

/// Classifies the first bytes of a stream: TLS, plain HTTP, or neither.
fn sniff(bytes: &[u8]) -> Result<(), TlsError> {
    let bytes = &bytes[..bytes.len().min(METHOD_PREFIX_LEN)];
    match bytes.first() {
        Some(&HANDSHAKE_RECORD) => Ok(()),
        Some(_)
            if METHOD_PREFIXES
                .iter()
                .any(|method| method.starts_with(bytes)) =>
        {
            Err(TlsError::PlainHttp)
        }
        _ => Err(TlsError::NotTls),
    }
}

/// Returns true if the ClientHello offers `acme-tls/1` as its only protocol (RFC 8737 §3).
fn is_challenge(hello: &ClientHello<'_>) -> bool {
    let mut protocols = hello.alpn().into_iter().flatten();
    protocols.next() == Some(ACME_TLS) && protocols.next().is_none()
}

/// Presents the challenge certificate to a CA and closes the connection.
async fn answer_acme_challenge<S>(
    hello: server::Accepted,
    io: S,
    sni: Option<Box<str>>,
    tls_server: &TlsServer,
) -> Result<AcceptOutcome<S>, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = sni.unwrap_or_default();
    let Some(key) = tls_server.issued.challenge(&name, hello.client_hello()) else {
        // A write error is ignored: the cause to report is the name.
        let _ = send_alert(io, UNRECOGNIZED_NAME).await;
        return Err(TlsError::NoChallenge(name));
    };
    let outcome = async {
        let start = StartHandshake::from_parts(hello, io);
        let mut stream = start.into_stream(challenge_config(key)).await?;
        // The CA has received the certificate; an error during shutdown does not matter.
        let _ = stream.shutdown().await;
        Ok(AcceptOutcome::AcmeValidated)
    };
    let outcome = timeout(CHALLENGE_TIMEOUT, outcome).await;
    outcome.unwrap_or(Err(TlsError::SlowChallenge))
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

/// Sends a fatal alert in plaintext, as every alert before the ServerHello (RFC 8446 §6).
async fn send_alert(mut io: impl AsyncWrite + Unpin, description: u8) -> io::Result<()> {
    io.write_all(&[21, 3, 3, 0, 2, 2, description]).await?;
    io.flush().await?;
    io.shutdown().await
}

/// Answers a plain HTTP request with a 400 that names the right URL schemes. The request may contain a secret, so the
/// response does not repeat any of it.
async fn reject_plain_http(io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    io.write_all(PLAIN_HTTP_RESPONSE).await?;
    io.shutdown().await
}

/// The read size. The first flight of most clients is smaller.
const READ_BUF_LEN: usize = 2 * 1024;

/// The content type of a record that carries a ClientHello (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// The length of the prefixes that identify plain HTTP.
const METHOD_PREFIX_LEN: usize = 4;

/// The first bytes of the HTTP methods and of the HTTP/2 preface (RFC 9113 §3.4).
const METHOD_PREFIXES: [&[u8]; 9] = [
    b"GET ", b"POST", b"HEAD", b"PUT ", b"PATC", b"DELE", b"OPTI", b"CONN", b"PRI ",
];

/// The ALPN name of TLS-ALPN-01 (RFC 8737 §6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// The time from a CA's ClientHello to the end of its connection.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(2);

/// The response to a plain HTTP request on a TLS port.
const PLAIN_HTTP_RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
    This port requires TLS: the URL must begin with https:// or wss://\n";

/// The alert for an unknown server name (RFC 6066 §3).
const UNRECOGNIZED_NAME: u8 = 112;

/// The alert for a missing but required server name (RFC 8446 §9.2).
const MISSING_EXTENSION: u8 = 109;

#[cfg(test)]
mod tests;
