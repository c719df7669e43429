//! Lists and closes live sessions. Both iterate over the session registry in steps and format outside of its lock, so
//! that no session is blocked.

use crate::{
    admin::{
        query::{BadQuery, Query},
        response::AdminResponse,
    },
    observe::access::record::SessionRecord,
    registry::{CloseOrder, SessionRef, SessionRegistry, filter::SessionFilter, traffic::Traffic},
};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, time::Duration};
use tokio::task::yield_now;
use tracing::info;

/// Answers `GET /sessions`.
pub(crate) async fn list(sessions: &SessionRegistry, query: &str) -> AdminResponse {
    match parse_list_query(query) {
        Ok((filter, after, limit)) => {
            AdminResponse::json(&listing(sessions, &filter, after, limit).await)
        }
        Err(why) => AdminResponse::bad(&why.to_string()),
    }
}

/// Answers `POST /sessions/close`.
pub(crate) async fn close(sessions: &SessionRegistry, query: &str) -> AdminResponse {
    let (filter, order) = match parse_close_query(query) {
        Ok(parsed) => parsed,
        Err(why) => return AdminResponse::bad(&why.to_string()),
    };
    let mut closing = 0;
    let mut orders = |session: &SessionRef| closing += usize::from(session.order(order.clone()));
    match filter.id {
        Some(id) => match sessions.find(id).filter(|session| session.matches(&filter)) {
            Some(session) => orders(&session),
            None => {
                let text = format!("there is no such session {id:016x}: it may have ended");
                return AdminResponse::line(StatusCode::NOT_FOUND, &text);
            }
        },
        None => for_each_matching(sessions, &filter, |session| orders(&session)).await,
    }
    let CloseOrder { code, reason, .. } = &order;
    info!(
        %filter,
        code,
        ?reason,
        closing,
        "closing sessions by order of the operator"
    );
    AdminResponse::json(&CloseReport { closing })
}

/// The response to `POST /sessions/close`.
#[derive(Serialize, Deserialize)]
pub(crate) struct CloseReport {
    /// The number of sessions that receive the close order; sessions that were already closing do not count.
    pub(crate) closing: usize,
}

/// The response to `GET /sessions`.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionPage<R = SessionRow> {
    /// The number of matching sessions, on this page or not.
    pub(crate) total: usize,
    pub(crate) sessions: Vec<R>,
    /// The value of `after` that returns the next page; `null` on the last one.
    pub(crate) next: Option<String>,
}

/// A live session: its access-log fields, and the traffic relayed so far.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) http: Cow<'static, str>,
    pub(crate) host: Box<str>,
    pub(crate) path: Box<str>,
    pub(crate) route: String,
    pub(crate) backend: String,
    pub(crate) subprotocol: Option<Box<str>>,
    pub(crate) extensions: Option<Box<str>>,
    /// The name of the user or client, if guards have verified one.
    #[serde(default)]
    pub(crate) subject: Option<Box<str>>,
    pub(crate) age_seconds: f64,
    pub(crate) from_client: TrafficRow,
    pub(crate) from_backend: TrafficRow,
    /// The seconds from a Ping to its Pong, if measured.
    pub(crate) round_trip: RttRow,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct TrafficRow {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// The average since the session opened.
    pub(crate) messages_per_second: f64,
    pub(crate) bytes_per_second: f64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RttRow {
    pub(crate) client: Option<f64>,
    pub(crate) backend: Option<f64>,
}

// === impl SessionRow ===

impl SessionRow {
    fn of(session: &SessionRef) -> SessionRow {
        let age = session.age();
        let (from_client, from_backend) = session.traffic();
        let trips = session.round_trips();
        let SessionRecord {
            id,
            client,
            http,
            host,
            path,
            route,
            backend,
            subprotocol,
            extensions,
        } = session.record().clone();
        SessionRow {
            id: format!("{id:016x}"),
            client: client.to_string(),
            http: http.into(),
            host,
            path,
            route: route.to_string(),
            backend: backend.to_string(),
            subprotocol,
            extensions,
            subject: session.identity().map(|identity| identity.subject.clone()),
            age_seconds: round(age.as_secs_f64()),
            from_client: TrafficRow::of(from_client, age),
            from_backend: TrafficRow::of(from_backend, age),
            round_trip: RttRow {
                client: trips.client.last().map(|rtt| rtt.as_secs_f64()),
                backend: trips.backend.last().map(|rtt| rtt.as_secs_f64()),
            },
        }
    }
}

// === impl TrafficRow ===

impl TrafficRow {
    fn of(traffic: Traffic, age: Duration) -> TrafficRow {
        // A lower bound on the age keeps the rates of a new session from being inflated.
        let seconds = age.as_secs_f64().max(1.0);
        TrafficRow {
            messages: traffic.messages,
            bytes: traffic.bytes,
            messages_per_second: round(traffic.messages as f64 / seconds),
            bytes_per_second: round(traffic.bytes as f64 / seconds),
        }
    }
}

fn parse_list_query(query: &str) -> Result<(SessionFilter, Option<u64>, usize), BadQuery> {
    let mut query = Query::parse(query)?;
    let filter = query.session_filter()?;
    let after = query.id("after")?;
    let limit = query.number("limit", PAGE_LEN)?.unwrap_or(PAGE_LEN);
    query.finish()?;
    Ok((filter, after, limit))
}

fn parse_close_query(query: &str) -> Result<(SessionFilter, CloseOrder), BadQuery> {
    let mut query = Query::parse(query)?;
    let filter = query.session_filter()?;
    let all = query.has("all");
    let code = query.take("code").unwrap_or_else(|| "1008".to_owned());
    let code = code.parse().map_err(|_| BadQuery::CloseCode(code))?;
    let reason = query.take("reason").unwrap_or_default();
    query.finish()?;
    if filter.is_empty() != all {
        return Err(if all {
            BadQuery::AllAndSelectors
        } else {
            BadQuery::NoSelection
        });
    }
    let order = CloseOrder::from_operator(code, &reason)?;
    Ok((filter, order))
}

async fn listing(
    sessions: &SessionRegistry,
    filter: &SessionFilter,
    after: Option<u64>,
    limit: usize,
) -> SessionPage {
    let mut list = SessionPage {
        total: 0,
        sessions: Vec::new(),
        next: None,
    };
    let mut is_full = false;
    let mut row = |session: SessionRef| {
        list.total += 1;
        if after.is_none_or(|after| session.id() > after) {
            if list.sessions.len() < limit {
                list.sessions.push(SessionRow::of(&session))
            } else {
                is_full = true
            }
        }
    };
    match filter.id {
        Some(id) => {
            let found = sessions.find(id).filter(|session| session.matches(filter));
            found.into_iter().for_each(&mut row);
        }
        None => for_each_matching(sessions, filter, &mut row).await,
    }
    if is_full {
        list.next = list.sessions.last().map(|row| row.id.clone());
    }
    list
}

/// Visits every matching session in the order of the ids, and yields to other tasks between two steps.
pub(crate) async fn for_each_matching(
    sessions: &SessionRegistry,
    filter: &SessionFilter,
    mut visit: impl FnMut(SessionRef),
) {
    let mut after = None;
    loop {
        let page = sessions.page(after);
        let Some(last) = page.last() else { return };
        after = Some(last.id());
        let matching = page.into_iter().filter(|session| session.matches(filter));
        matching.for_each(&mut visit);
        yield_now().await;
    }
}

/// Rounds to the millisecond, or to a thousandth of a byte: finer digits are noise.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The maximum number of sessions on one page: about 500 KiB.
const PAGE_LEN: usize = 1000;
