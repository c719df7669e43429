//! Commands to the server: drains and certificate renewals.

use super::{desk::AdminApi, page::AdminResponse};
use crate::lifecycle::{Command, DrainReport, DrainTarget};
use hyper::StatusCode;
use percent_encoding::percent_decode_str;

// === impl AdminApi ===

impl AdminApi {
    /// Drains `route=NAME` or `backend=ADDRESS`, percent-encoded; `&undo` ends the drain.
    pub(super) async fn drain(&self, query: &str) -> AdminResponse {
        let (query, draining) = match query.strip_suffix("&undo") {
            Some(query) => (query, false),
            None => (query, true),
        };
        let decoded = |value| percent_decode_str(value).decode_utf8().ok();
        let target = match query.split_once('=') {
            Some(("route", name)) => decoded(name).map(|it| DrainTarget::Route((*it).into())),
            Some(("backend", name)) => decoded(name).map(|it| DrainTarget::Backend((*it).into())),
            _ => None,
        };
        let Some(target) = target else {
            let text = "a target is missing: ?route=NAME or ?backend=ADDRESS";
            return AdminResponse::line(StatusCode::BAD_REQUEST, text);
        };
        let reply = self
            .command(|sender| Command::Drain(target, draining, sender))
            .await;
        match reply {
            Ok(Ok(_)) if !draining => AdminResponse::line(
                StatusCode::OK,
                "the drain has ended; new sessions are accepted again",
            ),
            Ok(Ok(draining)) => AdminResponse::line(StatusCode::OK, &describe_drain(&draining)),
            Ok(Err(why)) => AdminResponse::line(StatusCode::CONFLICT, &why),
            Err(response) => response,
        }
    }

    /// Renews the certificate of `host=NAME`, percent-encoded.
    pub(super) async fn renew(&self, query: &str) -> AdminResponse {
        let host = query.strip_prefix("host=").map(percent_decode_str);
        let Some(host) = host.and_then(|host| host.decode_utf8().ok()) else {
            return AdminResponse::line(
                StatusCode::BAD_REQUEST,
                "a host is missing: ?host=chat.example.com",
            );
        };
        match self
            .command(|sender| Command::Renew((*host).into(), sender))
            .await
        {
            Ok(Ok(())) => AdminResponse::line(
                StatusCode::ACCEPTED,
                &format!(
                    "a certificate for {host} is ordered; `lockgate cert list` shows the result"
                ),
            ),
            Ok(Err(why)) => AdminResponse::line(StatusCode::CONFLICT, &why),
            Err(response) => response,
        }
    }
}

/// Describes the result of a drain, with a line for each pool that has no backend left.
fn describe_drain(
    DrainReport {
        closing,
        pools_without_backend: exhausted,
    }: &DrainReport,
) -> String {
    let closed = match closing {
        1 => "1 is closed".to_owned(),
        n => format!("{n} are closed"),
    };
    let mut text = format!(
        "draining: no new sessions are accepted; {closed}; `lockgate status` shows the progress"
    );
    for pool in exhausted {
        text += &format!(
            "\nwarning: the pool {pool} has no backend left that accepts new sessions: its clients receive 503; `--undo` ends the drain"
        );
    }
    text
}
