//! `GET /tap`: streams relayed frames, one line of JSON each, until the duration ends or the client disconnects.

mod row;

use super::{Admin, page::AdminResponse, query::Query, sessions::for_each_matching};
use crate::{
    config::DurationValue,
    observe::{SessionFilter, TapSubscription},
};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::{StatusCode, body::Frame};
use row::FrameRow;
use serde::Serialize;
use serde_json::json;
use std::{convert::Infallible, time::Duration};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tracing::info;

/// Returns the answer and its maximum duration.
pub(super) async fn tap(admin: &Admin, query: &str) -> (AdminResponse, Option<Duration>) {
    let tap_query = match parse_query(query) {
        Ok(tap_query) => tap_query,
        Err(why) => return (AdminResponse::bad(&why), None),
    };
    let sessions = &admin.sessions;
    let only = tap_query.filter.id;
    if let Some(id) = only
        && sessions.find(id).is_none()
    {
        let text = format!("there is no such session {id:016x}: it may have ended");
        return (AdminResponse::line(StatusCode::NOT_FOUND, &text), None);
    }
    let subscription = match sessions.subscribe(tap_query.filter.clone(), tap_query.bytes) {
        Ok(subscription) => subscription,
        Err(why) => {
            return (
                AdminResponse::line(StatusCode::FORBIDDEN, &why.to_string()),
                None,
            );
        }
    };
    let mut attached = 0;
    // Offers every session to the tap, which applies its own filter.
    for_each_matching(sessions, &SessionFilter::default(), |session| {
        attached += usize::from(subscription.attach(&session));
    })
    .await;
    info!(filter = %tap_query.filter, sessions = attached, duration = %tap_query.duration, "frame tap attached");
    let duration = tap_query.duration.0;
    let lines = TapLines::new(subscription, tap_query, attached);
    let lines = stream::unfold(lines, async |mut lines| {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(line.into())), lines))
    });
    let page = AdminResponse {
        status: StatusCode::OK,
        kind: "application/jsonl",
        body: StreamBody::new(lines).boxed_unsync(),
    };
    (page, Some(duration))
}

struct TapQuery {
    filter: SessionFilter,
    /// The number of payload bytes to include of each frame.
    bytes: usize,
    /// The maximum number of frames per second.
    rate: u32,
    duration: DurationValue,
}

/// The lines of the response body.
struct TapLines {
    subscription: TapSubscription,
    rate: u32,
    refill_timer: Interval,
    deadline: Instant,
    /// The first line, until it is sent.
    first: Option<String>,
    is_done: bool,
    sent: u64,
    lost: u64,
}

// === impl TapLines ===

impl TapLines {
    fn new(subscription: TapSubscription, tap_query: TapQuery, sessions: usize) -> TapLines {
        let mut refill_timer = interval(Duration::from_secs(1));
        refill_timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        subscription.refill(tap_query.rate);
        TapLines {
            subscription,
            rate: tap_query.rate,
            refill_timer,
            deadline: Instant::now() + tap_query.duration.0,
            first: Some(line(&json!({ "sessions": sessions }))),
            is_done: false,
            sent: 0,
            lost: 0,
        }
    }

    async fn next(&mut self) -> Option<String> {
        if self.is_done {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            tokio::select! {
                Some(frame) = self.subscription.next() => {
                    self.sent += 1;
                    return Some(line(&FrameRow::of(&frame)));
                }
                _ = self.refill_timer.tick() => {
                    self.subscription.refill(self.rate);
                    if self.subscription.is_over() {
                        return Some(self.end("tap = true was removed from these routes"));
                    }
                    let lost = self.subscription.lost();
                    if lost > 0 {
                        self.lost += lost;
                        return Some(line(&json!({ "lost": lost })));
                    }
                }
                () = sleep_until(self.deadline) => return Some(self.end("the duration has elapsed")),
            }
        }
    }

    fn end(&mut self, why: &str) -> String {
        self.is_done = true;
        let lost = self.subscription.lost();
        self.lost += lost;
        line(&json!({ "ended": why, "lost": lost }))
    }
}

impl Drop for TapLines {
    fn drop(&mut self) {
        let lost = self.lost + self.subscription.lost();
        info!(sent = self.sent, lost, "frame tap detached");
    }
}

fn parse_query(query: &str) -> Result<TapQuery, String> {
    let mut query = Query::parse(query)?;
    let filter = query.session_filter()?;
    let bytes = query.number("bytes", 4096)?.unwrap_or(128);
    let rate = query.number("rate", 1000)?.unwrap_or(100);
    let duration: Option<DurationValue> = query.value("lasting")?;
    query.finish()?;
    let duration = duration.unwrap_or(DurationValue(Duration::from_secs(60)));
    if duration.0.is_zero() || duration.0 > MAX_TAP_DURATION {
        return Err("`lasting` must be more than 0s and at most 1h".to_owned());
    }
    Ok(TapQuery {
        filter,
        bytes,
        rate: u32::try_from(rate).unwrap_or(u32::MAX),
        duration,
    })
}

fn line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("strings and numbers");
    line.push('\n');
    line
}

/// The maximum duration: a forgotten tap ends by itself.
const MAX_TAP_DURATION: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_refused() {
        assert!(parse_query("bytes=4096&rate=1000&lasting=1h&route=a").is_ok());
        for bad in [
            "bytes=4097",
            "bytes=0",
            "rate=1001",
            "lasting=61m",
            "lasting=0s",
            "x=1",
        ] {
            assert!(parse_query(bad).is_err(), "{bad}");
        }
    }
}
