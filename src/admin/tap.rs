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
    let asked = match asked(query) {
        Ok(asked) => asked,
        Err(why) => return (AdminResponse::bad(&why), None),
    };
    let sessions = &admin.sessions;
    let only = asked.wanted.id;
    if let Some(id) = only
        && sessions.find(id).is_none()
    {
        let text = format!("there is no such session {id:016x}: it may have ended");
        return (AdminResponse::line(StatusCode::NOT_FOUND, &text), None);
    }
    let looking = match sessions.subscribe(asked.wanted.clone(), asked.bytes) {
        Ok(looking) => looking,
        Err(why) => {
            return (
                AdminResponse::line(StatusCode::FORBIDDEN, &why.to_string()),
                None,
            );
        }
    };
    let mut there = 0;
    // Offers every session to the tap, which applies its own filter.
    for_each_matching(sessions, &SessionFilter::default(), |session| {
        there += usize::from(looking.attach(&session));
    })
    .await;
    info!(wanted = %asked.wanted, sessions = there, lasting = %asked.lasting, "somebody looks at frames");
    let lasting = asked.lasting.0;
    let lines = TapLines::new(looking, asked, there);
    let lines = stream::unfold(lines, async |mut lines| {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(line.into())), lines))
    });
    let page = AdminResponse {
        status: StatusCode::OK,
        kind: "application/jsonl",
        body: StreamBody::new(lines).boxed_unsync(),
    };
    (page, Some(lasting))
}

struct TapQuery {
    wanted: SessionFilter,
    /// The number of payload bytes to include of each frame.
    bytes: usize,
    /// The maximum number of frames per second.
    rate: u32,
    lasting: DurationValue,
}

/// The rest of the response body.
struct TapLines {
    looking: TapSubscription,
    rate: u32,
    second: Interval,
    until: Instant,
    /// The first line.
    first: Option<String>,
    ended: bool,
    shown: u64,
    lost: u64,
}

// === impl TapLines ===

impl TapLines {
    fn new(looking: TapSubscription, asked: TapQuery, sessions: usize) -> TapLines {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looking.refill(asked.rate);
        TapLines {
            looking,
            rate: asked.rate,
            second,
            until: Instant::now() + asked.lasting.0,
            first: Some(line(&json!({ "sessions": sessions }))),
            ended: false,
            shown: 0,
            lost: 0,
        }
    }

    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            tokio::select! {
                Some(seen) = self.looking.next() => {
                    self.shown += 1;
                    return Some(line(&FrameRow::of(&seen)));
                }
                _ = self.second.tick() => {
                    self.looking.refill(self.rate);
                    if self.looking.is_over() {
                        return Some(self.end("these routes have no tap = true any more"));
                    }
                    let lost = self.looking.lost();
                    if lost > 0 {
                        self.lost += lost;
                        return Some(line(&json!({ "lost": lost })));
                    }
                }
                () = sleep_until(self.until) => return Some(self.end("the time is up")),
            }
        }
    }

    fn end(&mut self, why: &str) -> String {
        self.ended = true;
        let lost = self.looking.lost();
        self.lost += lost;
        line(&json!({ "ended": why, "lost": lost }))
    }
}

impl Drop for TapLines {
    fn drop(&mut self) {
        let lost = self.lost + self.looking.lost();
        info!(
            shown = self.shown,
            lost, "nobody looks at these frames any more"
        );
    }
}

fn asked(query: &str) -> Result<TapQuery, String> {
    let mut query = Query::parse(query)?;
    let wanted = query.wanted()?;
    let bytes = query.number("bytes", 4096)?.unwrap_or(128);
    let rate = query.number("rate", 1000)?.unwrap_or(100);
    let lasting: Option<DurationValue> = query.value("lasting")?;
    query.finish()?;
    let lasting = lasting.unwrap_or(DurationValue(Duration::from_secs(60)));
    if lasting.0.is_zero() || lasting.0 > MAX_TAP_DURATION {
        return Err("`lasting` is more than nothing and at most an hour".to_owned());
    }
    Ok(TapQuery {
        wanted,
        bytes,
        rate: u32::try_from(rate).unwrap_or(u32::MAX),
        lasting,
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
    fn bounds_are_kept() {
        assert!(asked("bytes=4096&rate=1000&lasting=1h&route=a").is_ok());
        for bad in [
            "bytes=4097",
            "bytes=0",
            "rate=1001",
            "lasting=61m",
            "lasting=0s",
            "x=1",
        ] {
            assert!(asked(bad).is_err(), "{bad}");
        }
    }
}
