//! Affinity in responses: the cookie that binds a client to a backend, and the capture of a Socket.IO `sid`.

use super::Body;
use crate::upstream::{BalanceKey, Lease, Pool, SidCapture};
use ::http::{HeaderMap, header};
use http_body_util::BodyExt;

/// Adds the affinity cookie to a response, if the pool uses one and the request has none for this backend.
pub(super) fn set_cookie(pool: &Pool, key: BalanceKey, lease: &Lease, headers: &mut HeaderMap) {
    if let Some(cookie) = pool.cookie(key, lease) {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Passes the first data frame of a body to `sid_capture`.
pub(super) fn capture_sid(body: Body, sid_capture: Option<SidCapture>) -> Body {
    let Some(sid_capture) = sid_capture else {
        return body;
    };
    let mut sid_capture = Some(sid_capture);
    body.map_frame(move |frame| {
        if let Some(sid_capture) = sid_capture.take_if(|_| frame.is_data()) {
            sid_capture.capture(frame.data_ref().map_or(&[], |data| data));
        }
        frame
    })
    .boxed_unsync()
}
