//! Client certificates: whether one was requested on the connection as the request's host requires, the refusal of
//! clients without one, and the header that passes the certificate to a backend (RFC 9440).

use super::{Peer, gate::ValidatedRequest, reject::Refusal};
use crate::{
    config::ClientCert,
    gateway::{Gateway, Route},
};
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::sync::Arc;

/// A client's verified certificate in the form sent to backends. Created once per connection.
#[derive(Debug, Clone)]
pub struct ClientCertHeader(Arc<HeaderValue>);

// === impl ClientCertHeader ===

impl ClientCertHeader {
    /// Encodes a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        // RFC 9440 §2.1: a byte sequence of structured fields (RFC 8941 §3.3.5).
        let value = format!(":{}:", STANDARD.encode(certificate));
        ClientCertHeader(Arc::new(value.try_into().expect("base64 is visible ASCII")))
    }
}

/// Refuses a request whose host differs from the connection's server name in whether a client certificate is requested:
/// the connection is misdirected (RFC 9110 §15.5.20), either coalesced or an attempt at a bypass.
pub(super) fn check_misdirected(
    gateway: &Gateway,
    peer: &Peer,
    vetted: &ValidatedRequest<'_>,
) -> Result<(), Refusal> {
    let text = match (
        gateway
            .tls
            .requires_client_auth(Some(&vetted.authority.host)),
        peer.asked,
    ) {
        (true, false) => {
            "this host asks clients for a certificate (client_cert), and this connection was not asked: it was opened \
             with another server name, or with none"
        }
        (false, true) => {
            "this host asks for no certificate (client_cert), and this connection was asked: it was opened with \
             another server name, or with none"
        }
        _ => return Ok(()),
    };
    let status = StatusCode::MISDIRECTED_REQUEST;
    Err(Refusal::new(status, "misdirected", text))
}

/// Checks whether the route accepts this client.
pub(super) fn check(route: &Route, peer: &Peer) -> Result<(), Refusal> {
    match (route.client_cert, &peer.identity) {
        (ClientCert::Require, None) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "client-cert",
            "the client shows no certificate, and nobody passes here without one (client_cert = \"require\")",
        )),
        _ => Ok(()),
    }
}

/// Passes the client's identity to the route's backend; where certificates are requested, the client's header is removed.
pub(super) fn set_client_cert_header(headers: &mut HeaderMap, route: &Route, peer: &Peer) {
    if route.client_cert == ClientCert::Off {
        return;
    }
    headers.remove(CLIENT_CERT);
    headers.remove(CLIENT_CERT_CHAIN);
    if let Some(ClientCertHeader(value)) = &peer.identity {
        headers.insert(CLIENT_CERT, HeaderValue::clone(value));
    }
}

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

#[cfg(test)]
mod tests {
    use super::*;

    /// The certificate of RFC 9440's appendix A begins and ends like this.
    #[test]
    fn a_certificate_is_a_byte_sequence() {
        let ClientCertHeader(value) = ClientCertHeader::of(&[0x30, 0x82, 0x01, 0xa8]);
        assert_eq!(*value, ":MIIBqA==:");
    }
}
