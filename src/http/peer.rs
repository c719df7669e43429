//! The other end of a client's connection.

use crate::{http::bound::BoundConnections, net::dial::ConnAddrs, tls::client_auth::CaSetId};
use ::http::HeaderValue;
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The address, unmapped; behind a PROXY header, the address in that header.
    pub address: IpAddr,
    /// The port at that address.
    pub port: u16,
    /// The local address of the connection.
    pub local: SocketAddr,
    /// The connection is that of a trusted proxy, in clear text (`server.cleartext`).
    pub is_cleartext: bool,
    /// Whether a client certificate was requested.
    pub client_auth_requested: bool,
    /// The certificate that the client presented.
    pub client_cert: Option<ClientCertHeader>,
    /// The backend connections that belong to the connection.
    pub(crate) bound: BoundConnections,
}

/// A client's verified certificate in the form sent to backends. Created once per connection.
#[derive(Debug, Clone)]
pub(crate) struct ClientCertHeader(Arc<VerifiedCert>);

#[derive(Debug)]
struct VerifiedCert {
    value: HeaderValue,
    verified_by: CaSetId,
}

// === impl Peer ===

impl Peer {
    /// Creates the peer of an encrypted connection without a client certificate: its address, and the local one.
    pub(crate) fn new(client: SocketAddr, local: SocketAddr) -> Self {
        Peer {
            address: client.ip(),
            port: client.port(),
            local,
            is_cleartext: false,
            client_auth_requested: false,
            client_cert: None,
            bound: BoundConnections::default(),
        }
    }

    /// Returns the addresses that a PROXY header for a backend carries.
    pub(crate) fn addrs(&self) -> ConnAddrs {
        ConnAddrs {
            client: (self.address, self.port).into(),
            local: self.local,
        }
    }
}

// === impl ClientCertHeader ===

impl ClientCertHeader {
    /// Encodes a DER certificate that was verified against the CAs in `verified_by`.
    pub(crate) fn new(certificate: &[u8], verified_by: CaSetId) -> Self {
        // RFC 9440 §2.1: a byte sequence of structured fields (RFC 8941 §3.3.5).
        let value = format!(":{}:", STANDARD.encode(certificate));
        let value = value.try_into().expect("base64 is visible ASCII");
        ClientCertHeader(Arc::new(VerifiedCert { value, verified_by }))
    }

    /// Returns the value of the `Client-Cert` field.
    pub(crate) fn value(&self) -> &HeaderValue {
        &self.0.value
    }

    /// Returns whether the certificate was verified against these CAs.
    pub(crate) fn is_verified_by(&self, ca_set: CaSetId) -> bool {
        self.0.verified_by == ca_set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;

    /// The first four bytes of a certificate.
    #[test]
    fn certificate_is_encoded_as_byte_sequence() {
        let certificate = ClientCertHeader::new(
            &[0x30, 0x82, 0x01, 0xa8],
            CaSetId::new(&RootCertStore::empty()),
        );
        assert_eq!(certificate.value(), ":MIIBqA==:");
    }
}
