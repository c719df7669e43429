//! The record of requests that hyper or h2 refuses before the service sees them.

use crate::{
    http::refusal::RefusalReason,
    observe::{
        access::{AccessLog, record::RequestRecord},
        metrics::Metrics,
    },
};
use std::{net::IpAddr, time::Duration};

/// Counts and logs a request that hyper has refused with `status`. Nothing of the request is known.
pub(crate) fn record(
    (metrics, access): (&Metrics, &AccessLog),
    client: IpAddr,
    http: &'static str,
    status: u16,
    why: RefusalReason,
) {
    let why = why.as_str();
    metrics.count_refusal(status, why);
    access.request(&RequestRecord {
        client,
        http,
        method: "",
        host: "",
        path: "",
        route: None,
        backend: None,
        subject: None,
        status,
        duration: Duration::ZERO,
        why: Some(why),
    });
}

/// Returns the reason for a status of hyper.
pub(crate) fn reason(status: u16) -> RefusalReason {
    match status {
        431 => RefusalReason::HeadSize,
        414 => RefusalReason::TargetSize,
        _ => RefusalReason::Malformed,
    }
}
