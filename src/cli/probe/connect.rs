//! TLS as a client, and the WebSocket handshake over HTTP/1.1 or HTTP/2.

use crate::{
    cli::{
        args::{ProbeArgs, parse_header},
        cert,
        files::read_files,
        probe::report::{Certificate, HttpAnswer, TlsReport},
    },
    lifecycle::tasks,
    net::{pem, tls_client},
};
use ::http::{HeaderMap, Method, Request, Response, header as field};
use anyhow::{Context, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{client::conn::http2, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use std::{path::Path, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest, protocol::Role},
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A connection, encrypted or not.
pub(crate) type Stream = Box<dyn Io>;

/// The I/O traits of a connection.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The outcome of the handshake.
pub(crate) enum ProbeOutcome {
    /// The server accepted the WebSocket.
    Open(Box<WebSocketStream<Stream>>, HttpAnswer),
    /// The server refused with an HTTP response.
    Refused(HttpAnswer),
}

/// Returns the certificates of `ca`, otherwise the public CAs and the development CA in `data`.
fn roots(ca: Option<&Path>, data: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let mut add = |file: &Path| {
        for certificate in pem::read_certificates(file)? {
            roots.add(certificate)?;
        }
        anyhow::Ok(())
    };
    match ca {
        Some(file) => {
            add(file).with_context(|| format!("cannot trust {}", file.display()))?;
        }
        None => {
            // A missing development CA is ignored, and not created.
            if let Ok(dev) = cert::peek(data) {
                let _ = add(dev.certificate_path());
            }
            roots.extend(pem::public_roots().roots.iter().cloned());
        }
    }
    Ok(roots)
}

/// Builds a connector that trusts the certificates of `--ca`, otherwise the public CAs and this user's development CA.
pub(crate) fn connector(arguments: &ProbeArgs) -> anyhow::Result<TlsConnector> {
    let (ca, data) = (arguments.ca.clone(), arguments.data.data.clone());
    let roots = read_files(move || roots(ca.as_deref(), data.as_deref()))??;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = if arguments.h2 {
        vec![b"h2".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Performs the TLS handshake, and returns the stream with the negotiated parameters.
pub(crate) async fn connect(
    connector: &TlsConnector,
    host: &str,
    tcp: TcpStream,
) -> anyhow::Result<(TlsStream<TcpStream>, TlsReport)> {
    let name = ServerName::try_from(host.to_owned())
        .with_context(|| format!("TLS: `{host}` is not a name that a certificate can have"))?;
    let stream = connector
        .connect(name, tcp)
        .await
        .map_err(|error| anyhow!("TLS: {}", explain(error)))?;
    let report = tls_report(stream.get_ref().1)?;
    Ok((stream, report))
}

fn tls_report(connection: &ClientConnection) -> anyhow::Result<TlsReport> {
    let shown = |value: Option<String>| value.unwrap_or_default();
    let leaf = connection.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.context("TLS: the server presented no certificate")?;
    Ok(TlsReport {
        ms: 0.0,
        version: shown(connection.protocol_version().map(|it| format!("{it:?}"))),
        cipher: shown(
            connection
                .negotiated_cipher_suite()
                .map(|it| format!("{:?}", it.suite())),
        ),
        group: shown(
            connection
                .negotiated_key_exchange_group()
                .map(|it| format!("{:?}", it.name())),
        ),
        alpn: connection
            .alpn_protocol()
            .map(|it| String::from_utf8_lossy(it).into_owned()),
        certificate: parse_certificate(leaf)?,
    })
}

fn parse_certificate(leaf: &CertificateDer<'_>) -> anyhow::Result<Certificate> {
    let (_, leaf) = X509Certificate::from_der(leaf).context("TLS: the certificate is malformed")?;
    let names = match leaf.subject_alternative_name() {
        Ok(Some(names)) => names
            .value
            .general_names
            .iter()
            .filter_map(name_text)
            .collect(),
        _ => Vec::new(),
    };
    let validity = leaf.validity();
    Ok(Certificate {
        names,
        issuer: leaf.issuer().to_string(),
        not_before: validity.not_before.to_string(),
        not_after: validity.not_after.to_string(),
        days_left: validity
            .time_to_expiration()
            .map_or(0, |left| left.whole_days()),
    })
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress([a, b, c, d]) => Some(format!("{a}.{b}.{c}.{d}")),
        GeneralName::IPAddress(bytes) => {
            let bytes: [u8; 16] = (*bytes).try_into().ok()?;
            Some(std::net::Ipv6Addr::from(bytes).to_string())
        }
        _ => None,
    }
}

/// Returns the message for a TLS error, with a remedy where there is one.
fn explain(error: std::io::Error) -> String {
    let message = error.to_string();
    let Ok(error) = error.downcast::<Error>() else {
        return format!("{message}; is that port a TLS port?");
    };
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the certificate is not signed by a trusted CA; name its CA with --ca FILE \
             (`lockgate cert ca` prints the path of the development CA)"
                .to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => format!("the certificate has expired ({message}); is the clock right?"),
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => format!("the certificate is not valid yet ({message}); is the clock right?"),
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("the certificate is not valid for this name ({message})"),
        error if tls_client::is_ca_as_leaf(&error) => tls_client::CA_AS_LEAF.to_owned(),
        Error::InvalidCertificate(error) => format!("the certificate cannot be used: {error}"),
        Error::NoApplicationProtocol => {
            "the server does not support the requested HTTP version".to_owned()
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server has no certificate for that name".to_owned()
        }
        // An address is not sent as SNI (RFC 6066 §3).
        Error::AlertReceived(AlertDescription::MissingExtension) => {
            "the server requires a name, and a client that connects to an IP address sends none; use a host name in \
             the URL, or set tls.default if the server is a lockgate"
                .to_owned()
        }
        Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::NoCertificate,
        ) => "the server requires a client certificate, which this command cannot present".to_owned(),
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server supports neither TLS 1.3 nor TLS 1.2".to_owned()
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the server accepts none of the offered TLS parameters, or has no certificate for that name".to_owned()
        }
        _ => message,
    }
}

/// Sends the handshake and reads the answer.
pub(crate) async fn open_websocket(
    arguments: &ProbeArgs,
    stream: Stream,
    tls: bool,
) -> anyhow::Result<ProbeOutcome> {
    match arguments.h2 {
        true if tls => over_http2(arguments, stream).await,
        true => Err(anyhow!("handshake: --h2 requires wss://")),
        false => over_http1(arguments, stream).await,
    }
}

async fn over_http1(arguments: &ProbeArgs, stream: Stream) -> anyhow::Result<ProbeOutcome> {
    let request = arguments.url.as_str().into_client_request();
    let mut request = request.map_err(|error| anyhow!("handshake: {error}"))?;
    add_headers(arguments, request.headers_mut())?;
    match client_async(request, stream).await {
        Ok((socket, response)) => {
            let (parts, _) = response.into_parts();
            Ok(ProbeOutcome::Open(
                Box::new(socket),
                http_answer(parts.status.as_u16(), "1.1", &parts.headers),
            ))
        }
        Err(tungstenite::Error::Http(response)) => {
            let (parts, body) = response.into_parts();
            let body = body.unwrap_or_default();
            Ok(ProbeOutcome::Refused(refusal(
                parts.status.as_u16(),
                "1.1",
                &parts.headers,
                &body,
            )))
        }
        Err(error) => Err(anyhow!("handshake: {error}")),
    }
}

async fn over_http2(arguments: &ProbeArgs, stream: Stream) -> anyhow::Result<ProbeOutcome> {
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .context("handshake: no HTTP/2")?;
    // The connection task ends when the sender and the upgraded stream are dropped.
    tasks::Tasks::default().spawn(async {
        let _ = connection.await;
    });
    let uri = arguments.url.replacen("wss", "https", 1);
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(uri)
        .header(field::SEC_WEBSOCKET_VERSION, "13")
        .extension(Protocol::from_static("websocket"))
        .body(Empty::<Bytes>::new())
        .context("handshake: the URL cannot be requested over HTTP/2")?;
    add_headers(arguments, request.headers_mut())?;
    sender.ready().await.context("handshake: no HTTP/2")?;
    let mut response = sender.send_request(request).await.context(
        "handshake: no answer over HTTP/2; does the server support WebSockets over HTTP/2 (RFC 8441)?",
    )?;
    if !response.status().is_success() {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY_LEN).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        return Ok(ProbeOutcome::Refused(refusal(
            parts.status.as_u16(),
            "2",
            &parts.headers,
            &body,
        )));
    }
    let upgraded = hyper::upgrade::on(&mut response)
        .await
        .context("handshake")?;
    let io: Stream = Box::new(TokioIo::new(upgraded));
    let socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    let parts: Response<()> = response.map(|_| ());
    Ok(ProbeOutcome::Open(
        Box::new(socket),
        http_answer(parts.status().as_u16(), "2", parts.headers()),
    ))
}

fn add_headers(arguments: &ProbeArgs, headers: &mut HeaderMap) -> anyhow::Result<()> {
    if !arguments.protocol.is_empty() {
        let offered = arguments.protocol.join(", ");
        let offered = offered.parse().context("--protocol")?;
        headers.insert(field::SEC_WEBSOCKET_PROTOCOL, offered);
    }
    for line in &arguments.header {
        let (name, value) = parse_header(line)?;
        headers.append(name, value);
    }
    Ok(())
}

fn http_answer(status: u16, http: &'static str, headers: &HeaderMap) -> HttpAnswer {
    let text = |name| {
        let value: &::http::HeaderValue = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    HttpAnswer {
        status,
        http,
        subprotocol: text(field::SEC_WEBSOCKET_PROTOCOL),
        extensions: text(field::SEC_WEBSOCKET_EXTENSIONS),
        headers: Vec::new(),
        body: None,
    }
}

fn refusal(status: u16, http: &'static str, headers: &HeaderMap, body: &[u8]) -> HttpAnswer {
    let text = String::from_utf8_lossy(body);
    HttpAnswer {
        headers: headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect(),
        body: text
            .lines()
            .next()
            .map(|line| line.chars().take(MAX_SHOWN_CHARS).collect()),
        ..http_answer(status, http, headers)
    }
}

/// The maximum number of bytes read from a refusal's body.
const MAX_BODY_LEN: usize = 64 * 1024;

/// The maximum number of characters shown of a refusal's body.
const MAX_SHOWN_CHARS: usize = 200;
