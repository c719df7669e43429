//! Why a handshake failed, by cause.

use std::io;

use rustls::{AlertDescription, Error};

/// Why a client got no TLS. All but [`TlsError::Internal`] are the client's or the network's doing: debug level.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The peer went away: a port scan, a probe, an impatient user.
    #[error("the client closed the connection during the TLS handshake")]
    Gone,
    /// An HTTP request in clear text. It is told so in a 400, as the peer expects no TLS.
    #[error(
        "the client spoke plain HTTP to a TLS port: its URL must begin with https:// or wss://"
    )]
    PlainHttp,
    /// Some other protocol, or SSL 2.
    #[error("the client's first bytes are not a TLS handshake")]
    NotTls,
    /// The name has no certificate, and there is no `tls.default`.
    #[error("no certificate for the server name {0:?}, and tls.default is not set")]
    NoCertificate(Box<str>),
    /// As above, without a name: typical of a client that dials an address.
    #[error("the client sent no server name, and tls.default is not set")]
    NoServerName,
    /// A CA, or somebody who plays one, asks about a name for which no challenge is under way.
    #[error("the client validates {0:?} by TLS-ALPN-01, but no challenge for it is under way here")]
    NoChallenge(Box<str>),
    /// The handshake of a challenge was not finished in time.
    #[error("the client began to validate a name by TLS-ALPN-01 and did not finish within 2 s")]
    SlowChallenge,
    /// No version, cipher suite, group, signature scheme or ALPN protocol in common.
    #[error("the client and this server have no TLS parameters in common")]
    Incompatible(#[source] Error),
    /// The client does not believe our certificate.
    #[error("the client refused our certificate with the alert {0:?}")]
    CertificateRefused(AlertDescription),
    /// The client's own certificate does not verify: not of `tls.client_ca`, expired, or for another use.
    #[error("the client's certificate is not valid here (tls.client_ca)")]
    ClientCertificate(#[source] Error),
    /// Any other alert.
    #[error("the client ended the TLS handshake with the alert {0:?}")]
    Alert(AlertDescription),
    /// The client broke the protocol.
    #[error("the client broke the TLS protocol")]
    Protocol(#[source] Error),
    /// The network.
    #[error("the connection failed during the TLS handshake")]
    Io(#[source] io::Error),
    /// Our own fault.
    #[error("the TLS handshake failed on our side")]
    Internal(#[source] Error),
}

impl TlsError {
    /// A word of a closed set, for a metric's label.
    pub fn as_str(&self) -> &'static str {
        match self {
            TlsError::Gone => "gone",
            TlsError::PlainHttp => "plain_http",
            TlsError::NotTls => "not_tls",
            TlsError::NoCertificate(_) => "no_certificate",
            TlsError::NoServerName => "no_server_name",
            TlsError::NoChallenge(_) => "no_challenge",
            TlsError::SlowChallenge => "slow_challenge",
            TlsError::Incompatible(_) => "incompatible",
            TlsError::CertificateRefused(_) => "certificate_refused",
            TlsError::ClientCertificate(_) => "client_certificate",
            TlsError::Alert(_) => "alert",
            TlsError::Protocol(_) => "protocol",
            TlsError::Io(_) => "io",
            TlsError::Internal(_) => "internal",
        }
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        use AlertDescription as Alert;
        match error {
            Error::AlertReceived(
                alert @ (Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA),
            ) => TlsError::CertificateRefused(alert),
            Error::AlertReceived(alert) => TlsError::Alert(alert),
            // Of a server's errors these can only be about a client's.
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

/// rustls' errors travel inside `io::Error` through tokio-rustls.
impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
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
