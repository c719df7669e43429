//! TLS as a client: trust roots, negotiated parameters, and explanations of certificate errors.

use super::{
    super::{args::ProbeArgs, cert},
    report::{Certificate, TlsReport},
};
use anyhow::{Context, anyhow};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Builds a connector that trusts the certificates of `--ca`, otherwise the public CAs and this user's development CA.
pub(super) fn connector(arguments: &ProbeArgs) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let mut add = |file: &std::path::Path| {
        for certificate in CertificateDer::pem_file_iter(file)? {
            roots.add(certificate?)?;
        }
        anyhow::Ok(())
    };
    match &arguments.ca {
        Some(file) => {
            add(file).with_context(|| format!("cannot trust {}", file.display()))?;
        }
        None => {
            // A missing development CA is ignored, and not created.
            if let Ok(dev) = cert::peek(arguments.data.data.as_deref()) {
                let _ = add(dev.certificate_path());
            }
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
    }
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = match arguments.h2 {
        true => vec![b"h2".to_vec()],
        false => vec![b"http/1.1".to_vec()],
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Performs the TLS handshake, and returns the stream with the negotiated parameters.
pub(super) async fn connect(
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
        Error::NoApplicationProtocol => {
            "the server does not support the requested HTTP version".to_owned()
        }
        Error::AlertReceived(rustls::AlertDescription::UnrecognisedName) => {
            "the server has no certificate for that name".to_owned()
        }
        _ => message,
    }
}
