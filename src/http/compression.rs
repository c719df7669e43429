//! Which side negotiates compression with the client: the backend, Lockgate or neither (`session.compression`).

use crate::{
    config::Compression,
    proto::{deflate::DeflateParams, handshake::Offer},
};
use ::http::{HeaderMap, header};

/// Removes the extensions from the handshake with the backend unless `compression` is "pass". Returns the parameters
/// that Lockgate negotiates with the client itself.
pub(super) fn negotiate_compression(
    compression: Compression,
    request_headers: &HeaderMap,
    offer: &mut Offer,
    outbound: &mut HeaderMap,
) -> Option<DeflateParams> {
    if compression == Compression::Pass {
        return None;
    }
    outbound.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    // A backend that accepts an extension which was not offered violates RFC 6455.
    offer.extensions = Vec::new();
    match compression {
        Compression::Offload => DeflateParams::negotiate(request_headers),
        Compression::Pass | Compression::Strip => None,
    }
}
