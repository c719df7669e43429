//! The framing of a body on the wire.

use ::http::{HeaderMap, header};

/// Returns whether a body is plain or chunked: another coding could only be forwarded without its name (RFC 9112 §6.1).
pub(super) fn has_single_transfer_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}
