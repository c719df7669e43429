//! How a body is framed on the wire.

use ::http::{HeaderMap, header};

/// Whether a body comes as it is, or in chunks: another coding could only be passed on without its name (RFC 9112 §6.1).
pub(super) fn has_single_transfer_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}
