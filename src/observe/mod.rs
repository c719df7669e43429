//! Observability: the log, the access log, metrics, and the registry of live sessions.

pub(crate) mod access;
pub(crate) mod async_writer;
pub(crate) mod logging;
pub(crate) mod metrics;
#[cfg(test)]
pub(crate) mod testing;
