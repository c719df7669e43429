//! Client certificates: refuses misdirected requests and clients without a required certificate, and sets the
//! `Client-Cert` header for the backend (RFC 9440).

use crate::{
    config::ClientCert,
    http::{
        refusal::{Refusal, RefusalReason},
        request::RequestContext,
        validate::ValidatedRequest,
    },
};
use ::http::{HeaderMap, HeaderName, StatusCode};

/// Refuses a request as misdirected (RFC 9110 §15.5.20) if its host requires client authentication and the connection
/// was opened without it, or the other way round: the client has coalesced connections, or attempts a bypass.
pub(crate) fn check_misdirected(
    rc: &RequestContext<'_>,
    validated: &ValidatedRequest<'_>,
) -> Result<(), Refusal> {
    let text = match (
        rc.gateway
            .tls
            .requires_client_auth(Some(&validated.authority.host)),
        rc.peer.client_auth_requested,
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
    Err(Refusal::new(status, RefusalReason::Misdirected, text))
}

/// Refuses a client without a certificate if the route requires one.
pub(crate) fn check(rc: &RequestContext<'_>) -> Result<(), Refusal> {
    match (rc.route().client_cert, &rc.peer.client_cert) {
        (ClientCert::Require, None) => Err(Refusal::new(
            StatusCode::FORBIDDEN,
            RefusalReason::ClientCert,
            "this route requires a client certificate, and the client has presented none (client_cert = \"require\")",
        )),
        _ => Ok(()),
    }
}

/// Sets `Client-Cert` to the certificate that the client has presented, and removes such headers that the client sent.
/// Does nothing if the route does not use client certificates.
pub(crate) fn set_client_cert_header(headers: &mut HeaderMap, rc: &RequestContext<'_>) {
    if rc.route().client_cert == ClientCert::Off {
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
