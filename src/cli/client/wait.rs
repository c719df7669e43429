//! `--wait` of `lockgate drain` and `lockgate cert renew`: waits until the ordered work has ended, with its progress.

use crate::{
    admin::sessions::SessionPage,
    cli::{
        args::AdminArgs, client::request::send_request, client::sessions::UNEXPECTED_REPLY,
        output::print, progress::ProgressDisplay,
    },
    config::DurationValue,
};
use anyhow::{Context, bail};
use hyper::Method;
use serde_json::Value;
use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

/// Waits until no session matches `condition`, such as "route=chat". Prints nothing if there was none.
///
/// # Errors
/// If sessions are open after `limit`.
pub(crate) fn until_drained(
    admin: &AdminArgs,
    condition: &str,
    limit: DurationValue,
) -> anyhow::Result<ExitCode> {
    let path = format!("/sessions?{condition}&limit=1");
    let end = Instant::now() + limit.0;
    let progress = ProgressDisplay::start("closing sessions");
    let mut had_sessions = false;
    loop {
        let text = send_request(admin, Method::GET, &path)?;
        let page: SessionPage<Value> = serde_json::from_str(&text).context(UNEXPECTED_REPLY)?;
        let open = page.total;
        if open == 0 {
            drop(progress);
            if had_sessions {
                print("every session has ended");
            }
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() >= end {
            bail!("sessions that are still open after {limit}: {open}; the drain continues");
        }
        had_sessions = true;
        progress.step(format!("closing sessions, {open} open"));
        thread::sleep(POLL_INTERVAL);
    }
}

/// Waits for another certificate of `host` than `before`, a row of [`certificate`].
///
/// # Errors
/// If the order fails, or has no result after `limit`.
pub(crate) fn until_renewed(
    admin: &AdminArgs,
    host: &str,
    before: &Value,
    limit: DurationValue,
) -> anyhow::Result<ExitCode> {
    let end = Instant::now() + limit.0;
    let progress = ProgressDisplay::start(format!("ordering a certificate for {host}"));
    let mut was_ordering = false;
    loop {
        let row = certificate(admin, host)?;
        let is_ordering = row["ordering"] == true;
        let is_new = ["not_before", "not_after"]
            .iter()
            .any(|key| row[key].is_string() && row[key] != before[key]);
        if is_new && !is_ordering {
            drop(progress);
            let until = row["not_after"].as_str().unwrap_or_default();
            print(format_args!("{host} has a certificate until {until}"));
            return Ok(ExitCode::SUCCESS);
        }
        if was_ordering && !is_ordering {
            let error = row["error"].as_str().unwrap_or("no certificate was issued");
            bail!("{host}: {error}");
        }
        if Instant::now() >= end {
            bail!("no certificate after {limit}; `lockgate cert list` shows the next attempt");
        }
        was_ordering |= is_ordering;
        thread::sleep(POLL_INTERVAL);
    }
}

/// Returns the row of `host` in the list of certificates; `null` if there is none.
pub(crate) fn certificate(admin: &AdminArgs, host: &str) -> anyhow::Result<Value> {
    let text = send_request(admin, Method::GET, "/certificates")?;
    let rows: Vec<Value> = serde_json::from_str(&text).context(UNEXPECTED_REPLY)?;
    let row = rows.into_iter().find(|row| row["host"] == host);
    Ok(row.unwrap_or_default())
}

const POLL_INTERVAL: Duration = Duration::from_millis(200);
