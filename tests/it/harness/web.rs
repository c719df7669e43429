//! HTTP/1.1 requests of the harness itself, and TLS client configurations.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::HOST};
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use std::{error::Error, mem, net::Ipv4Addr, path::Path, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// The reason why a request has no response.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Sends a request to the port of its URL on 127.0.0.1, on a new connection. For `https` URLs the server's certificate
/// must be issued by this CA.
pub(crate) async fn fetch<B>(request: Request<B>, ca: &Path) -> Result<Response<Bytes>, Failure>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Failure>,
{
    let (mut parts, body) = request.into_parts();
    let url = mem::take(&mut parts.uri);
    let authority = url.authority().ok_or("a URL without a host")?;
    parts.uri = url.path().parse()?;
    let host = HeaderValue::from_str(authority.as_str())?;
    parts.headers.entry(HOST).or_insert(host);
    let request = Request::from_parts(parts, body);

    let port = authority.port_u16().ok_or("a URL without a port")?;
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    if url.scheme_str() == Some("http") {
        return exchange(stream, request).await;
    }
    let name = ServerName::try_from(authority.host().to_owned())?;
    exchange(trusting(ca).connect(name, stream).await?, request).await
}

/// A client that trusts the CA in this file and nothing else.
pub(crate) fn trusting(ca: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).expect("PEM"))
        .expect("a CA's certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A client that accepts any certificate.
pub(crate) fn unverified() -> TlsConnector {
    #[derive(Debug)]
    struct AcceptAny(Arc<CryptoProvider>);

    impl ServerCertVerifier for AcceptAny {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.0.signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

async fn exchange<I, B>(io: I, request: Request<B>) -> Result<Response<Bytes>, Failure>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Failure>,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    // The task ends with the sender, which also returns its errors.
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(
        parts,
        body.collect().await?.to_bytes(),
    ))
}
