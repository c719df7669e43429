//! Refusals: the response to a request that does not reach a backend, and which side caused it.

use crate::{
    gateway::route::Route,
    http::Body,
    observe::{log_throttle::LogThrottle, logging::ErrorChain},
    upstream::{lease::Lease, unavailable::Unavailable},
};
use ::http::{HeaderValue, Response, StatusCode, Version, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use std::{borrow::Cow, error::Error};
use tracing::warn;

/// A request that Lockgate answers itself.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Below 500: caused by the client. 502 to 504: by the backend. 500: by Lockgate.
    pub(crate) status: StatusCode,
    /// A word of a closed set: the reason in the access log and the metrics.
    pub(crate) why: &'static str,
    /// The message for the client, one line.
    pub(crate) text: Cow<'static, str>,
    header: Option<(header::HeaderName, HeaderValue)>,
}

// === impl Refusal ===

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        why: &'static str,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Refusal {
            status,
            why,
            text: text.into(),
            header: None,
        }
    }

    /// 400.
    pub(crate) fn bad(why: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, why, text)
    }

    /// 426 (RFC 9110 §15.5.22): the response names the protocol that the route requires.
    pub(crate) fn upgrade_required(why: &'static str, text: &'static str) -> Self {
        Refusal::new(StatusCode::UPGRADE_REQUIRED, why, text).with(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        )
    }

    /// 503 with the time after which a retry is useful.
    pub(crate) fn unavailable(why: &'static str, text: &'static str) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why, text)
            .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    pub(crate) fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    /// Builds the response for a client that speaks `version`.
    pub(crate) fn response(&self, version: Version) -> Response<Body> {
        let mut response = Response::new(text(format!("{}\n", self.text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if self.status == StatusCode::UPGRADE_REQUIRED && version != Version::HTTP_2 {
            // RFC 9110 §7.8: a sender of Upgrade names it in Connection. HTTP/2 has neither.
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        if let Some((name, value)) = &self.header {
            headers.insert(name.clone(), value.clone());
        }
        response
    }
}

impl From<Unavailable> for Refusal {
    fn from(unavailable: Unavailable) -> Self {
        let text = match unavailable {
            Unavailable::None => "no backend is available",
            Unavailable::Unresolved => "no backend is known, try again later",
            Unavailable::Down => "all backends are down, try again later",
            Unavailable::Full | Unavailable::QueueFull | Unavailable::QueueWait => {
                "all backends are full, try again later"
            }
            Unavailable::QueueShare => {
                "too many queued requests from this address, try again later"
            }
            Unavailable::Draining => "all backends are draining, try again later",
        };
        Refusal::unavailable(unavailable.as_str(), text)
    }
}

/// Logs that a backend failed, at a limited rate: a backend that is down fails once per client.
pub(crate) fn warn_backend_failure(
    route: &Route,
    lease: &Lease,
    error: &(dyn Error + 'static),
    what: &str,
) {
    static THROTTLE: LogThrottle = LogThrottle::new();
    if let Some(suppressed) = THROTTLE.allow() {
        let error = ErrorChain(error);
        warn!(route = %route.name, backend = %lease.backend().name(), %error, suppressed, "{what}");
    }
}

/// Returns an empty body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body of one chunk.
pub(crate) fn text(text: String) -> Body {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync()
}
