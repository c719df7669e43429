//! The runtime form of a route: the settings for the requests that match it, and for their sessions.

use crate::{
    config::{
        self, AnswerBackendPing, ClientCert, Compression, Config, DurationValue, PingLegs, Token,
    },
    guard::{address::AddressGuard, identity::IdentityGuard, origin::OriginGuard},
    proto::frame_tracker::Bounds,
    router::framework::{FrameworkPreset, preset},
    splice::{
        backpressure::SlowReaderPolicy,
        keepalive::PingPolicy,
        limits::SessionLimits,
        rate_limit::{OverRateAction, RateLimit},
    },
    upstream::{member::host_value, pool::Pool},
};
use ::http::HeaderValue;
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::watch;

/// The settings of a route for its requests and sessions.
#[derive(Debug)]
pub struct Route {
    /// Its name, which identifies the route in logs and across reloads.
    pub name: Arc<str>,
    /// The pool to which its requests go.
    pub pool: Arc<Pool>,
    /// The limits of its sessions; shared by all gateways that have a route of this name.
    pub limits: watch::Sender<SessionLimits>,
    /// The limits that apply from [`crate::gateway::Gateway::commit`] on.
    pub(crate) pending_limits: SessionLimits,
    /// Whether it accepts no new sessions and requests, by an operator's order; shared like `limits`.
    pub draining: Arc<AtomicBool>,
    /// The timeout for connecting to a backend, the handshake request and the 101 response.
    pub handshake_timeout: Duration,
    /// How messages of its sessions are compressed.
    pub compression: Compression,
    /// The admitted client addresses.
    pub addresses: AddressGuard,
    /// Whether a client certificate is requested or required.
    pub client_cert: ClientCert,
    /// The origins of pages that may open WebSockets.
    pub origins: OriginGuard,
    /// The guards that each request must pass, in this order.
    pub(crate) guards: Box<[Arc<IdentityGuard>]>,
    /// The `Host` for backends that have none of their own; `None`: that of the client.
    pub host: Option<HeaderValue>,
    /// Whether the path is forwarded as the client sent it.
    pub keeps_path: bool,
    /// Whether a handshake without `Connection: Upgrade` is accepted.
    pub accepts_lenient: bool,
    /// Whether taps may read the frames of its sessions.
    pub tap: bool,
    /// The prefix that is removed from the path before forwarding.
    pub strip_prefix: Option<String>,
    /// Where requests carry tokens and where backends expect them; `None`: tokens are not moved.
    pub token: Option<Token>,
    /// The headers that the framework of its backends expects.
    pub expectations: FrameworkPreset,
}

// === impl Route ===

impl Route {
    /// Creates the route. `before` is the route of this name in the previous gateway.
    pub(crate) fn new(
        route: &config::Route,
        config: &Config,
        pool: Arc<Pool>,
        guards: Box<[Arc<IdentityGuard>]>,
        before: Option<&Route>,
    ) -> Self {
        let session = config.session.with(&route.session);
        let pending_limits = limits(&session, &config.drain);
        Route {
            name: route.name.as_str().into(),
            pool,
            limits: match before {
                Some(before) => before.limits.clone(),
                None => watch::Sender::new(pending_limits),
            },
            draining: before.map_or_else(Arc::default, |before| before.draining.clone()),
            pending_limits,
            handshake_timeout: session.handshake_timeout.0,
            compression: session.compression,
            addresses: AddressGuard::new(&route.allow, &route.deny),
            client_cert: route.client_cert,
            origins: OriginGuard::new(&route.origins),
            guards,
            host: route.host.as_ref().and_then(host_value),
            keeps_path: route.path_encoding == config::PathEncoding::AsIs,
            accepts_lenient: route.handshake == config::HandshakeRules::Lenient,
            tap: route.tap,
            strip_prefix: route.strip_prefix.clone(),
            token: (!route.token.from.is_empty()).then(|| route.token.clone()),
            expectations: preset(route.framework),
        }
    }
}

/// Converts the configuration into the values that the splice uses; `splice` does not depend on `config`.
fn limits(session: &config::Session, drain: &config::Drain) -> SessionLimits {
    let policy = PingPolicy {
        interval: session.ping.interval.0,
        timeout: session.ping.timeout.0,
    };
    let legs = session.ping.legs;
    SessionLimits {
        bounds: Bounds {
            max_frame: session.max_frame.0,
            max_message: session.max_message.0,
            max_fragments: match session.max_fragments {
                0 => u32::MAX,
                limit => limit,
            },
        },
        rate: RateLimit {
            messages: session.messages_per_second,
            frames: match session.frames_per_second {
                0 => session
                    .messages_per_second
                    .saturating_mul(FRAMES_PER_MESSAGE),
                limit => limit,
            },
            bytes: session.bytes_per_second.0,
            over: match session.over_rate {
                config::OverRate::Pause => OverRateAction::Pause,
                config::OverRate::Close => OverRateAction::Close,
            },
        },
        close_timeout: session.close_timeout.0,
        client_ping: matches!(legs, PingLegs::Client | PingLegs::Both).then_some(policy),
        backend_ping: matches!(legs, PingLegs::Backend | PingLegs::Both).then_some(policy),
        max_age: non_zero(session.max_age).map(|age| (age, drain.code)),
        max_idle: non_zero(session.max_idle),
        slow_reader: non_zero(session.slow_reader.after).map(|after| SlowReaderPolicy {
            after,
            close: session.slow_reader.then == config::OverRate::Close,
        }),
        answer_backend_ping: match session.answer_backend_ping {
            AnswerBackendPing::Never => None,
            AnswerBackendPing::WhenClientLive => Some(policy.interval + policy.timeout),
        },
        backend_gone_code: session.backend_gone_code,
    }
}

/// The default of `session.frames_per_second`, as a multiple of `messages_per_second`.
const FRAMES_PER_MESSAGE: u32 = 10;

/// Returns the duration; `None` for "0s", which disables the limit.
fn non_zero(period: DurationValue) -> Option<Duration> {
    (!period.0.is_zero()).then_some(period.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{key_examples::examples, schema::applies::Applies};

    /// Open sessions receive changed limits over a channel; everything else of a route applies to new sessions.
    #[test]
    fn session_key_applies_at_once_exactly_if_it_changes_the_limits_of_open_sessions() {
        let mut count = 0;
        for (key, configs) in examples() {
            if !key.path.starts_with("session.") {
                continue;
            }
            let [before, after] =
                [&configs.before, &configs.after].map(|it| limits(&it.session, &it.drain));
            let expected = if before == after {
                Applies::NewSessions
            } else {
                Applies::AtOnce
            };
            assert_eq!(key.applies, Some(expected), "{}", key.path);
            count += 1;
        }
        assert!(count >= 15, "only {count} keys");
    }
}
