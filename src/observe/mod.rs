//! Observability: the log, the access log, metrics, and the registry of live sessions.

mod access;
mod causes;
mod logging;
mod metrics;
mod queue;
mod round_trips;
mod seldom;
mod sessions;
#[cfg(test)]
mod testing;

pub use access::{AccessLog, RequestRecord, SessionEnd, SessionRecord};
pub use causes::ErrorChain;
pub use logging::{InitError, init};
pub use metrics::{
    ConnectionGauge, LegMetrics, Metrics, SessionGauge, SessionMetrics, WaitingGauge,
};
pub use queue::LogGuard;
pub use round_trips::LegRtts;
pub use seldom::LogThrottle;
pub use sessions::{
    BadCloseOrder, CloseOrder, InflateStatus, SessionFilter, SessionHandle, SessionRef,
    SessionRegistry, SessionTarget, TapError, TapSink, TapSubscription, TappedFrame, Traffic,
};
