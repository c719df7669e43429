//! Errors of the TLS handshake, by cause.

use rustls::{AlertDescription, Error, PeerIncompatible};
use std::io;

/// An error of the TLS handshake. All but [`TlsError::Internal`] are caused by the client or the network. An operator
/// reads them in the log.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The peer closed the connection, as port scans and TCP health checks do.
    #[error("the client closed the connection during the TLS handshake")]
    Gone,
    /// The client closed the connection after it had received the certificate. Some clients do so instead of sending an
    /// alert.
    #[error(
        "the client closed the connection during the TLS handshake, without an alert; does it trust the certificate?"
    )]
    Left,
    /// The peer sent a plain HTTP request. It receives a plain HTTP 400, because it does not expect TLS.
    #[error("the client sent plain HTTP to a TLS port: its URL must begin with https:// or wss://")]
    PlainHttp,
    /// The peer uses another protocol, or SSL 2.
    #[error("the client's first bytes are not a TLS handshake")]
    NotTls,
    /// The name has no certificate, and there is no `tls.default`.
    #[error("no certificate for the server name {0:?}, and tls.default is not set")]
    NoCertificate(Box<str>),
    /// The client sent no server name, and there is no `tls.default`. Typical of a client that connects to an IP
    /// address.
    #[error("the client sent no server name, and tls.default is not set")]
    NoServerName,
    /// The peer validates a name by TLS-ALPN-01 for which no challenge is pending.
    #[error("the client validates {0:?} by TLS-ALPN-01, but no challenge for it is pending here")]
    NoChallenge(Box<str>),
    /// The handshake of a challenge was not finished in time.
    #[error("the client began to validate a name by TLS-ALPN-01 and did not finish within 2 s")]
    SlowChallenge,
    /// The client and Lockgate have no version, cipher suite, group, signature scheme or ALPN protocol in common.
    #[error("{}", incompatibility(.0))]
    Incompatible(#[source] Error),
    /// The client does not accept the certificate of this server.
    #[error("{} {}", refused_cert(*alert), presented(name.as_deref()))]
    CertificateRefused {
        /// The alert that the client sent.
        alert: AlertDescription,
        /// The server name that the client sent.
        name: Option<Box<str>>,
    },
    /// The client's certificate does not verify: not signed by `tls.client_ca`, expired, or for another use.
    #[error("the client's certificate is not valid here (tls.client_ca)")]
    ClientCertificate(#[source] Error),
    /// The client sent an alert other than those of [`TlsError::CertificateRefused`].
    #[error("the client aborted the TLS handshake with the alert {0:?}")]
    Alert(AlertDescription),
    /// The client violated the TLS protocol.
    #[error("the client violated the TLS protocol")]
    Protocol(#[source] Error),
    /// The network failed.
    #[error("the connection failed during the TLS handshake")]
    Io(#[source] io::Error),
    /// An internal error of Lockgate.
    #[error("the TLS handshake failed because of an internal error")]
    Internal(#[source] Error),
}

impl TlsError {
    /// Returns the metric label of the cause.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            TlsError::Gone | TlsError::Left => "gone",
            TlsError::PlainHttp => "plain_http",
            TlsError::NotTls => "not_tls",
            TlsError::NoCertificate(_) => "no_certificate",
            TlsError::NoServerName => "no_server_name",
            TlsError::NoChallenge(_) => "no_challenge",
            TlsError::SlowChallenge => "slow_challenge",
            TlsError::Incompatible(_) => "incompatible",
            TlsError::CertificateRefused { .. } => "certificate_refused",
            TlsError::ClientCertificate(_) => "client_certificate",
            TlsError::Alert(_) => "alert",
            TlsError::Protocol(_) => "protocol",
            TlsError::Io(_) => "io",
            TlsError::Internal(_) => "internal",
        }
    }
}

impl TlsError {
    /// Adds what is known after the ClientHello with this server name.
    pub(crate) fn after_hello(self, sni: Option<Box<str>>) -> Self {
        match self {
            TlsError::Gone => TlsError::Left,
            TlsError::CertificateRefused { alert, .. } => {
                TlsError::CertificateRefused { alert, name: sni }
            }
            error => error,
        }
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        use rustls::AlertDescription as Alert;
        match error {
            Error::AlertReceived(
                alert @ (Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA),
            ) => TlsError::CertificateRefused { alert, name: None },
            Error::AlertReceived(alert) => TlsError::Alert(alert),
            // On a server this error can only concern a client certificate.
            Error::InvalidCertificate(_) => TlsError::ClientCertificate(error),
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
                TlsError::Incompatible(error)
            }
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InvalidEncryptedClientHello(_)
            | Error::InvalidMessage(_)
            | Error::DecryptError
            | Error::PeerMisbehaved(_)
            | Error::PeerSentOversizedRecord => TlsError::Protocol(error),
            _ => TlsError::Internal(error),
        }
    }
}

/// Unwraps rustls errors, which tokio-rustls returns inside `io::Error`.
impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        use std::io::ErrorKind as Kind;
        match error.kind() {
            Kind::UnexpectedEof
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NotConnected => return TlsError::Gone,
            _ => {}
        }
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(error) => TlsError::Io(error),
        }
    }
}

/// Explains why the client and Lockgate cannot agree.
fn incompatibility(error: &Error) -> &'static str {
    use PeerIncompatible::{
        NoCipherSuitesInCommon, NoKxGroupsInCommon, NoSignatureSchemesInCommon,
        ServerDoesNotSupportTls12Or13, ServerTlsVersionIsDisabledByOurConfig,
        SignatureAlgorithmsExtensionRequired, SupportedVersionsExtensionRequired, Tls12NotOffered,
        Tls12NotOfferedOrEnabled,
    };
    match error {
        Error::PeerIncompatible(
            Tls12NotOffered
            | Tls12NotOfferedOrEnabled
            | SupportedVersionsExtensionRequired
            // TLS 1.2 introduced the extension.
            | SignatureAlgorithmsExtensionRequired
            | ServerDoesNotSupportTls12Or13
            | ServerTlsVersionIsDisabledByOurConfig,
        ) => {
            "no TLS version in common: the client supports only versions below tls.min_version, or none of 1.2 and 1.3"
        }
        Error::PeerIncompatible(NoCipherSuitesInCommon) => {
            "no cipher suite in common: the client offers none of TLS 1.3 and none of TLS 1.2 with ECDHE and AEAD that fits \
             the key of the certificate"
        }
        Error::PeerIncompatible(NoKxGroupsInCommon) => {
            "no key exchange group in common (X25519MLKEM768, X25519, P-256, P-384): the client supports none of them, or no \
             cipher suite with ECDHE"
        }
        Error::PeerIncompatible(NoSignatureSchemesInCommon) => {
            "no signature scheme in common: the client does not support the key type of the certificate"
        }
        Error::NoApplicationProtocol => {
            "no protocol in common: the client offers by ALPN neither h2 nor http/1.1"
        }
        _ => "the client and this server have no TLS parameters in common",
    }
}

/// Explains an alert by which a client rejects a certificate.
fn refused_cert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => {
            "the client does not trust the issuer of the certificate (alert unknown_ca)"
        }
        AlertDescription::CertificateExpired => {
            "for the client the certificate has expired, or is not valid yet (alert certificate_expired)"
        }
        AlertDescription::CertificateRevoked => {
            "for the client the certificate is revoked (alert certificate_revoked)"
        }
        AlertDescription::UnsupportedCertificate => {
            "the client does not support the type of the certificate (alert unsupported_certificate)"
        }
        AlertDescription::CertificateUnknown => {
            "the client does not accept the certificate: wrong name, or untrusted issuer (alert certificate_unknown)"
        }
        _ => {
            "the client does not accept the certificate: wrong name, or untrusted issuer (alert bad_certificate)"
        }
    }
}

fn presented(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("that was presented for {name:?}"),
        None => "that was presented without a server name".into(),
    }
}
