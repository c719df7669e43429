//! What a route does with the requests it matched.

use crate::{
    config::{
        self, AnswerBackendPing, ClientCert, Compression, Config, DurationValue, PingLegs, Token,
    },
    guard::{AddressGuard, OriginGuard},
    proto::track::Bounds,
    router::{FrameworkPreset, preset},
    splice::{OverRateAction, PingPolicy, RateLimit, SessionLimits, SlowReaderPolicy},
    upstream::Pool,
};
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::watch;

/// All that its requests and sessions need to know.
#[derive(Debug)]
pub struct Route {
    /// Its identity.
    pub name: Arc<str>,
    /// Where its backends are.
    pub pool: Arc<Pool>,
    /// What its sessions obey; one for all gateways that have a route of this name.
    pub limits: watch::Sender<SessionLimits>,
    /// What they obey from the commit on.
    pub(super) pending_limits: SessionLimits,
    /// It takes no new sessions and requests, by an operator's order; one for all gateways, as above.
    pub draining: Arc<AtomicBool>,
    /// Dial, request and 101.
    pub handshake_timeout: Duration,
    /// Who compresses what its sessions say.
    pub compression: Compression,
    /// Which clients may pass.
    pub addresses: AddressGuard,
    /// Whether clients show a certificate, and whether they must.
    pub client_cert: ClientCert,
    /// Which pages may open WebSockets.
    pub origins: OriginGuard,
    /// Whether frames of its sessions may be looked at.
    pub tap: bool,
    /// Taken off the path before forwarding.
    pub strip_prefix: Option<String>,
    /// Where clients' tokens are, and where its backends get them, if they are moved.
    pub token: Option<Token>,
    /// What its backends want to be told.
    pub expectations: FrameworkPreset,
}

// === impl Route ===

impl Route {
    /// `before` is the route of this name in the gateway that this one is built over.
    pub(super) fn new(
        route: &config::Route,
        config: &Config,
        pool: Arc<Pool>,
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
            tap: route.tap,
            strip_prefix: route.strip_prefix.clone(),
            token: (!route.token.from.is_empty()).then(|| route.token.clone()),
            expectations: preset(route.framework),
        }
    }
}

/// The splice knows no config: plain values.
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
                most => most,
            },
        },
        rate: RateLimit {
            messages: session.messages_per_second,
            bytes: session.bytes_per_second.0,
            over: match session.over_rate {
                config::OverRate::Pause => OverRateAction::Pause,
                config::OverRate::Close => OverRateAction::Close,
            },
        },
        close_timeout: session.close_timeout.0,
        client_ping: matches!(legs, PingLegs::Client | PingLegs::Both).then_some(policy),
        backend_ping: matches!(legs, PingLegs::Backend | PingLegs::Both).then_some(policy),
        max_age: some(session.max_age).map(|age| (age, drain.code)),
        max_idle: some(session.max_idle),
        slow_reader: some(session.slow_reader.after).map(|after| SlowReaderPolicy {
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

/// In the file, "0s" is never.
fn some(period: DurationValue) -> Option<Duration> {
    (!period.0.is_zero()).then_some(period.0)
}
