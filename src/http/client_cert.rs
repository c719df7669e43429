//! The `Client-Cert` header, which contains the client's certificate for the backend (RFC 9440).

use crate::{config::ClientCert, gateway::route::Route, http::request::RequestContext};
use ::http::{HeaderMap, HeaderName};

/// Sets `Client-Cert` to the certificate that the client has presented, and removes such headers that the client sent.
/// Does nothing if the route does not use client certificates.
pub(crate) fn set_client_cert_header(
    headers: &mut HeaderMap,
    rc: &RequestContext<'_>,
    route: &Route,
) {
    if route.client_cert == ClientCert::Off {
        return;
    }
    headers.remove(CLIENT_CERT);
    headers.remove(CLIENT_CERT_CHAIN);
    if let Some(certificate) = &rc.peer.client_cert {
        headers.insert(CLIENT_CERT, certificate.value().clone());
    }
}

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
