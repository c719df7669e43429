//! Affinity: what a client receives so that it returns to the backend that answered it.

use super::Body;
use crate::upstream::{BalanceKey, Lease, Pool, SidCapture};
use ::http::{HeaderMap, header};
use http_body_util::BodyExt;

/// Adds our cookie to a response, if the pool wants one and the client has none for this backend.
pub(super) fn set_cookie(pool: &Pool, key: BalanceKey, lease: &Lease, headers: &mut HeaderMap) {
    if let Some(cookie) = pool.cookie(key, lease) {
        headers.append(header::SET_COOKIE, cookie);
    }
}

/// Passes the first bytes of a body to the affinity that learns from them.
pub(super) fn capture_sid(body: Body, learner: Option<SidCapture>) -> Body {
    let Some(learner) = learner else {
        return body;
    };
    let mut learner = Some(learner);
    body.map_frame(move |frame| {
        if let Some(learner) = learner.take_if(|_| frame.is_data()) {
            learner.capture(frame.data_ref().map_or(&[], |data| data));
        }
        frame
    })
    .boxed_unsync()
}
