//! Client certificates: refuses misdirected requests and clients without a required certificate, and sets the
//! `Client-Cert` header for the backend (RFC 9440).

use crate::{
    config::ClientCert,
    gateway::{Gateway, route::Route},
    http::{Peer, refusal::Refusal, validate::ValidatedRequest},
};
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::sync::Arc;

/// A client's verified certificate in the form sent to backends. Created once per connection.
#[derive(Debug, Clone)]
pub(crate) struct ClientCertHeader(Arc<HeaderValue>);

// === impl ClientCertHeader ===

impl ClientCertHeader {
    /// Encodes a DER certificate.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        // RFC 9440 §2.1: a byte sequence of structured fields (RFC 8941 §3.3.5).
        let value = format!(":{}:", STANDARD.encode(certificate));
        ClientCertHeader(Arc::new(value.try_into().expect("base64 is visible ASCII")))
    }
}

/// Refuses a request as misdirected (RFC 9110 §15.5.20) if its host requires client authentication and the connection
/// was opened without it, or the other way round: the client has coalesced connections, or attempts a bypass.
pub(crate) fn check_misdirected(
    gateway: &Gateway,
    peer: &Peer,
    validated: &ValidatedRequest<'_>,
) -> Result<(), Refusal> {
    let text = match (
        gateway
            .tls
            .requires_client_auth(Some(&validated.authority.host)),
        peer.client_auth_requested,
    ) {
        (true, false) => {
            "this host requests client certificates (client_cert), but this connection was opened without such a \
             request: with another server name, or with none"
        }
        (false, true) => {
            "this host requests no client certificates (client_cert), but one was requested on this connection: it was \
             opened with another server name, or with none"
        }
        _ => return Ok(()),
    };
    let status = StatusCode::MISDIRECTED_REQUEST;
    Err(Refusal::new(status, "misdirected", text))
}

/// Refuses a client without a certificate if the route requires one.
pub(crate) fn check(route: &Route, peer: &Peer) -> Result<(), Refusal> {
    match (route.client_cert, &peer.client_cert) {
        (ClientCert::Require, None) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "client-cert",
            "this route requires a client certificate, and the client has presented none (client_cert = \"require\")",
        )),
        _ => Ok(()),
    }
}

/// Sets `Client-Cert` to the certificate that the client has presented, and removes such headers that the client sent.
/// Does nothing if the route does not use client certificates.
pub(crate) fn set_client_cert_header(headers: &mut HeaderMap, route: &Route, peer: &Peer) {
    if route.client_cert == ClientCert::Off {
        return;
    }
    headers.remove(CLIENT_CERT);
    headers.remove(CLIENT_CERT_CHAIN);
    if let Some(ClientCertHeader(value)) = &peer.client_cert {
        headers.insert(CLIENT_CERT, HeaderValue::clone(value));
    }
}

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

#[cfg(test)]
mod tests {
    use super::*;

    /// The first four bytes of a certificate.
    #[test]
    fn certificate_is_encoded_as_byte_sequence() {
        let ClientCertHeader(value) = ClientCertHeader::of(&[0x30, 0x82, 0x01, 0xa8]);
        assert_eq!(*value, ":MIIBqA==:");
    }
}
