//! Both ends of a connection, and pipes that split reads.

use crate::net::tls_stream::{ServerStream, accept, tests::*};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    CipherSuite, ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion, Tls13CipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::PrivateKeyDer,
};
use std::{
    future::poll_fn,
    sync::{Arc, LazyLock},
};
use tokio::io::DuplexStream;
use tokio_rustls::{TlsConnector, client};

pub(crate) const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

static PAIR: LazyLock<CertifiedKey<rcgen::KeyPair>> =
    LazyLock::new(|| generate_simple_self_signed(["localhost".to_owned()]).unwrap());

pub(crate) fn server_config() -> Arc<ServerConfig> {
    config_with(aws_lc_rs::default_provider())
}

/// Returns a configuration with one cipher suite, whose keys must be updated after a few records.
pub(crate) fn with_short_lived_keys() -> Arc<ServerConfig> {
    let mut provider = aws_lc_rs::default_provider();
    let Some(SupportedCipherSuite::Tls13(suite)) = (provider.cipher_suites.iter())
        .find(|it| it.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256)
    else {
        unreachable!("every provider has this suite");
    };
    let short = Tls13CipherSuite {
        common: rustls::crypto::CipherSuiteCommon {
            confidentiality_limit: 7,
            ..suite.common
        },
        ..**suite
    };
    provider.cipher_suites = vec![SupportedCipherSuite::Tls13(Box::leak(Box::new(short)))];
    config_with(provider)
}

fn config_with(provider: CryptoProvider) -> Arc<ServerConfig> {
    let has_12 = provider.cipher_suites.iter().any(|it| it.tls13().is_none());
    let versions = if has_12 { &BOTH[..] } else { &BOTH[1..] };
    let key = PrivateKeyDer::try_from(PAIR.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![PAIR.cert.der().clone()], key);
    Arc::new(config.unwrap())
}

pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    version: &'static SupportedProtocolVersion,
    io: S,
) -> io::Result<client::TlsStream<S>> {
    connect_with(aws_lc_rs::default_provider(), version, io).await
}

pub(crate) async fn connect_with<S: AsyncRead + AsyncWrite + Unpin>(
    provider: CryptoProvider,
    version: &'static SupportedProtocolVersion,
    io: S,
) -> io::Result<client::TlsStream<S>> {
    let config = client_config(provider, version);
    let name = "localhost".try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, io).await
}

pub(crate) fn client_config(
    provider: CryptoProvider,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(PAIR.cert.der().clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A connection after the TLS handshake, over a pipe with the given capacity in bytes.
pub(crate) async fn both(
    version: &'static SupportedProtocolVersion,
    pipe: usize,
) -> (ServerStream<DuplexStream>, client::TlsStream<DuplexStream>) {
    let (near, far) = duplex(pipe);
    let (accepted, connected) = tokio::join!(
        accept(near, Vec::new(), server_config()),
        connect(version, far)
    );
    (*accepted.unwrap(), connected.unwrap())
}

pub(crate) async fn write_flushed(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

pub(crate) async fn read_exact(
    from: &mut (impl AsyncRead + Unpin),
    n: usize,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; n];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Returns the result of a call that must not wait.
pub(crate) async fn now<T>(call: impl Future<Output = T>) -> Option<T> {
    let mut call = std::pin::pin!(call);
    poll_fn(|cx| {
        Poll::Ready(match call.as_mut().poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

pub(crate) fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|at| (at % 251) as u8).collect()
}

/// A stream that is read in pieces of the given length and counts its writes.
pub(crate) struct Pieces<S> {
    inner: S,
    size: usize,
    pub(crate) writes: usize,
}

impl<S> Pieces<S> {
    pub(crate) fn new(inner: S, size: usize) -> Self {
        Pieces {
            inner,
            size,
            writes: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pieces<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = self.size.min(buf.remaining());
        let mut piece = ReadBuf::new(buf.initialize_unfilled_to(size));
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
        let n = piece.filled().len();
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pieces<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes += 1;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
