//! `GET /tap`: streams relayed frames, one line of JSON each, until the duration ends or the client disconnects.

use crate::{
    admin::{
        Admin,
        query::{BadQuery, Query},
        response::AdminResponse,
        sessions::for_each_matching,
    },
    config::DurationValue,
    proto::frame::Opcode,
    registry::{
        filter::SessionFilter,
        tap::TapSubscription,
        tap_sink::{InflateStatus, TappedFrame},
    },
};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::{StatusCode, body::Frame};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, convert::Infallible, fmt::Write, time::Duration};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tracing::info;

/// Returns the answer and its maximum duration.
pub(crate) async fn tap(admin: &Admin, query: &str) -> (AdminResponse, Option<Duration>) {
    let tap_query = match parse_query(query) {
        Ok(tap_query) => tap_query,
        Err(why) => return (AdminResponse::bad(&why.to_string()), None),
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

/// A line of the response. The first variant whose fields are all present is the one that a client reads.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum TapLine {
    Frame(Box<FrameRow>),
    /// The last line.
    Ended {
        ended: Cow<'static, str>,
        lost: u64,
    },
    /// The first line: the number of sessions that match now.
    Started {
        sessions: usize,
    },
    /// Frames that were not sent because of the rate or because the client reads slowly.
    Lost {
        lost: u64,
    },
}

/// A frame as a line of JSON.
#[derive(Serialize, Deserialize)]
pub(crate) struct FrameRow {
    pub(crate) at: String,
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) route: String,
    pub(crate) from: Cow<'static, str>,
    pub(crate) kind: Cow<'static, str>,
    pub(crate) continues: bool,
    pub(crate) fin: bool,
    /// The payload length on the wire, in bytes.
    pub(crate) size: u64,
    pub(crate) compressed: bool,
    /// The inflated payload length in bytes, if the payload was inflated.
    pub(crate) inflated: Option<u64>,
    /// The payload refers to data relayed before the tap was attached; "?" replaces the missing bytes.
    pub(crate) gaps: bool,
    /// The status code of a Close frame.
    pub(crate) code: Option<u16>,
    /// The beginning of the payload if it is text; otherwise it is in `hex`.
    pub(crate) text: Option<String>,
    pub(crate) hex: Option<String>,
    /// The payload is longer than its part in this line.
    pub(crate) cut: bool,
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
            first: Some(line(&TapLine::Started { sessions })),
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
                        return Some(line(&TapLine::Lost { lost }));
                    }
                }
                () = sleep_until(self.deadline) => return Some(self.end("the duration has elapsed")),
            }
        }
    }

    fn end(&mut self, why: &'static str) -> String {
        self.is_done = true;
        let lost = self.subscription.lost();
        self.lost += lost;
        line(&TapLine::Ended {
            ended: why.into(),
            lost,
        })
    }
}

impl Drop for TapLines {
    fn drop(&mut self) {
        let lost = self.lost + self.subscription.lost();
        info!(sent = self.sent, lost, "frame tap detached");
    }
}

// === impl FrameRow ===

impl FrameRow {
    fn of(frame: &TappedFrame) -> FrameRow {
        let (code, head) = match (frame.kind, frame.head.as_slice()) {
            (Opcode::Close, [high, low, reason @ ..]) => {
                (Some(u16::from_be_bytes([*high, *low])), reason)
            }
            (_, head) => (None, head),
        };
        let is_text = matches!(frame.kind, Opcode::Text | Opcode::Close);
        let is_text = is_text && frame.deflate != InflateStatus::NotInflated;
        let (inflated, gaps) = match frame.deflate {
            InflateStatus::Inflated { size, whole } => (Some(size), !whole),
            InflateStatus::None | InflateStatus::NotInflated => (None, false),
        };
        FrameRow {
            at: humantime::format_rfc3339_millis(frame.at).to_string(),
            id: format!("{:016x}", frame.session.id),
            client: frame.session.client.to_string(),
            route: frame.session.route.to_string(),
            from: frame.from.as_str().into(),
            kind: match frame.kind {
                Opcode::Continuation => "continuation",
                Opcode::Text => "text",
                Opcode::Binary => "binary",
                Opcode::Close => "close",
                Opcode::Ping => "ping",
                Opcode::Pong => "pong",
            }
            .into(),
            continues: frame.continues,
            fin: frame.fin,
            size: frame.size,
            compressed: frame.deflate != InflateStatus::None,
            inflated,
            gaps,
            code,
            text: is_text.then(|| text(head)),
            hex: (!is_text).then(|| hex(head)),
            cut: frame.cut,
        }
    }
}

fn parse_query(query: &str) -> Result<TapQuery, BadQuery> {
    let mut query = Query::parse(query)?;
    let filter = query.session_filter()?;
    let bytes = query.number("bytes", 4096)?.unwrap_or(128);
    let rate = query.number("rate", 1000)?.unwrap_or(100);
    let duration: Option<DurationValue> = query.value("lasting")?;
    query.finish()?;
    let duration = duration.unwrap_or(DurationValue(Duration::from_secs(60)));
    if duration.0.is_zero() || duration.0 > MAX_TAP_DURATION {
        return Err(BadQuery::TapDuration);
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

/// Converts the payload to text, without a truncated character at the end.
fn text(head: &[u8]) -> String {
    let valid_len = match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => head.len(),
    };
    String::from_utf8_lossy(head.get(..valid_len).unwrap_or(head)).into_owned()
}

fn hex(head: &[u8]) -> String {
    head.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
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

    #[test]
    fn truncated_character_is_dropped_and_invalid_bytes_are_replaced() {
        assert_eq!(text("aé".as_bytes()), "aé");
        assert_eq!(text(&"aé".as_bytes()[..2]), "a");
        assert_eq!(text(b"a\xFFb"), "a\u{FFFD}b");
        assert_eq!(hex(&[0, 0xAB]), "00ab");
    }
}
