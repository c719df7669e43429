//! Read-only observation: the log, the access log and metrics. Control of live sessions is in `registry`.

pub(crate) mod access;
pub(crate) mod async_writer;
pub(crate) mod log_throttle;
pub(crate) mod logging;
pub(crate) mod metrics;
#[cfg(test)]
pub(crate) mod testing;
