//! Who speaks of compression with the client: the backend, nobody, or we (`session.compression`).

use crate::{
    config::Compression,
    proto::{deflate::DeflateParams, handshake::Offer},
};
use ::http::{HeaderMap, header};

/// Takes the extensions out of what the backend is asked, unless they pass; what is agreed on with the client instead.
pub(super) fn negotiate_compression(
    compression: Compression,
    asked: &HeaderMap,
    offer: &mut Offer,
    outbound: &mut HeaderMap,
) -> Option<DeflateParams> {
    if compression == Compression::Pass {
        return None;
    }
    outbound.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    // A backend that agrees to one all the same is wrong.
    offer.extensions = Vec::new();
    match compression {
        Compression::Offload => DeflateParams::of(asked),
        Compression::Pass | Compression::Strip => None,
    }
}
