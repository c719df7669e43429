//! `lockgate sessions`, `lockgate kick`, `lockgate tap`. Names of routes and backends are checked against the running
//! lockgate.

use crate::{
    admin::{
        sessions::{CloseReport, SessionPage, SessionRow, TrafficRow},
        tap::{FrameRow, TapLine},
    },
    cli::{
        args::{AdminArgs, FilterArgs, KickArgs, SessionsArgs, TapArgs},
        client::{
            render::table,
            request::{self, AdminRequest, DEADLINE, build_runtime, check_response, send_request},
        },
        output::print,
    },
    config::BackendAddress,
};
use anyhow::{Context, bail};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::{fmt::Write, process::ExitCode, time::Duration};
use tokio::time::timeout;

/// Fetches sessions page by page, up to the requested number.
pub(crate) fn sessions(arguments: &SessionsArgs) -> anyhow::Result<ExitCode> {
    let limit = match arguments.limit {
        0 => usize::MAX,
        limit => limit,
    };
    let (mut total, mut rows, mut after) = (None, Vec::new(), None);
    loop {
        let mut query = conditions(&arguments.filter)?;
        push(
            &mut query,
            "limit",
            (limit - rows.len()).clamp(1, PAGE_LIMIT),
        );
        if let Some(after) = &after {
            push(&mut query, "after", after);
        }
        let text = send_request(&arguments.admin, Method::GET, &format!("/sessions?{query}"))?;
        // As values: `--json` also prints fields that this version does not know.
        let page: SessionPage<Value> = serde_json::from_str(&text).context(UNEXPECTED_REPLY)?;
        total.get_or_insert(page.total);
        rows.extend(page.sessions);
        match page.next {
            Some(next) if rows.len() < limit => after = Some(next),
            _ => break,
        }
    }
    let total = total.unwrap_or(rows.len());
    if total == 0 {
        let FilterArgs { route, backend, .. } = &arguments.filter;
        require_known(&arguments.admin, route, backend)?;
    }
    if arguments.json {
        print(json!({ "total": total, "sessions": rows }));
    } else {
        let rows = rows.into_iter().map(serde_json::from_value);
        let rows: Result<Vec<SessionRow>, _> = rows.collect();
        print(render_table(total, &rows.context(UNEXPECTED_REPLY)?).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

/// Closes sessions, and prints their number.
pub(crate) fn kick(arguments: &KickArgs) -> anyhow::Result<ExitCode> {
    let mut query = conditions(&arguments.filter)?;
    match (query.is_empty() && arguments.id.is_none(), arguments.all) {
        (true, false) => bail!(
            "name the sessions: by an id, by --route, --backend, --client or --longer-than, or --all for every session"
        ),
        (false, true) => bail!("--all closes every session: leave out --all, or the conditions"),
        _ => {}
    }
    if let Some(id) = &arguments.id {
        push(&mut query, "id", id);
    }
    if arguments.all {
        query.push_str("&all");
    }
    push(&mut query, "code", arguments.code);
    push(&mut query, "reason", &arguments.reason);
    let text = send_request(
        &arguments.admin,
        Method::POST,
        &format!("/sessions/close?{query}"),
    )?;
    let report: CloseReport = serde_json::from_str(&text).context(UNEXPECTED_REPLY)?;
    match report.closing {
        0 => {
            let FilterArgs { route, backend, .. } = &arguments.filter;
            require_known(&arguments.admin, route, backend)?;
            print("no session is closed: none matches");
        }
        1 => print("1 session is closed"),
        n => print(format!("{n} sessions are closed")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints frames line by line until the duration ends.
pub(crate) fn tap(arguments: &TapArgs) -> anyhow::Result<ExitCode> {
    let FilterArgs { route, backend, .. } = &arguments.filter;
    require_known(&arguments.admin, route, backend)?;
    let mut query = conditions(&arguments.filter)?;
    if let Some(id) = &arguments.id {
        write!(query, "&id={id}")?;
    }
    let TapArgs {
        bytes,
        rate,
        lasting,
        ..
    } = arguments;
    write!(query, "&bytes={bytes}&rate={rate}&lasting={lasting}")?;
    let token = request::token(&arguments.admin);
    let address = &request::address(&arguments.admin)?;
    let path = format!("/tap?{query}");
    let request = AdminRequest {
        address,
        token: token.as_deref(),
        method: Method::GET,
        path: &path,
    };
    let print = |line: &str| match serde_json::from_str(line) {
        _ if arguments.json => print(line),
        Ok(line) => print(render_line(&line)),
        Err(_) => print(visible(line)),
    };
    let deadline = lasting.0 + DEADLINE;
    let followed = async { timeout(deadline, request.follow(print)).await };
    let followed = build_runtime()?.block_on(followed);
    let (status, text) = followed.context("the answer did not end in time")??;
    check_response(address, &path, token.is_some(), status, text)?;
    Ok(ExitCode::SUCCESS)
}

fn conditions(filter: &FilterArgs) -> anyhow::Result<String> {
    let mut query = String::new();
    let FilterArgs {
        route,
        backend,
        client,
        subject,
        longer_than,
    } = filter;
    let backend = backend.as_deref().map(backend_address).transpose()?;
    for (name, value) in [
        ("route", route.clone()),
        ("backend", backend),
        ("client", client.map(|it| it.to_string())),
        ("subject", subject.clone()),
        ("longer_than", longer_than.map(|it| it.to_string())),
    ] {
        if let Some(value) = value {
            push(&mut query, name, value);
        }
    }
    Ok(query)
}

fn push(query: &mut String, name: &str, value: impl ToString) {
    let value = value.to_string();
    let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
    write!(query, "&{name}={value}").expect("writing to a String cannot fail");
}

/// Renders a table with the traffic from and to the client.
fn render_table(total: usize, rows: &[SessionRow]) -> String {
    let head = [
        "id", "client", "subject", "route", "backend", "age", "in", "out", "rtt", "with", "host",
        "path",
    ];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    cells.extend(rows.iter().map(|row| cells_of(row).to_vec()));
    if rows.iter().all(|row| row.subject.is_none()) {
        cells
            .iter_mut()
            .for_each(|row| drop(row.remove(SUBJECT_COLUMN)));
    }
    let mut page = table(&cells);
    let shown = rows.len();
    match (total, shown == total) {
        (0, _) => page = "no sessions".to_owned(),
        (1, true) => page.push_str("1 session"),
        (_, true) => write!(page, "{total} sessions").expect("a String"),
        (_, false) => {
            write!(page, "{shown} of {total} sessions; --limit 0 shows all").expect("a String")
        }
    }
    page
}

fn cells_of(row: &SessionRow) -> [String; 12] {
    let with = [&row.subprotocol, &row.extensions];
    let with: Vec<&str> = with.into_iter().flatten().map(|text| &**text).collect();
    let round_trip =
        |seconds: Option<f64>| seconds.map_or("-".to_owned(), |it| format!("{:.0}ms", it * 1e3));
    [
        visible(&row.id),
        visible(&row.client),
        visible(row.subject.as_deref().unwrap_or("-")),
        visible(&row.route),
        visible(&row.backend),
        humantime::format_duration(Duration::from_secs(row.age_seconds as u64)).to_string(),
        traffic(&row.from_client),
        traffic(&row.from_backend),
        format!(
            "{}/{}",
            round_trip(row.round_trip.client),
            round_trip(row.round_trip.backend)
        ),
        visible(&with.join(" ")),
        visible(&row.host),
        shortened(&visible(&row.path)),
    ]
}

/// The column that is left out if no session has a subject.
const SUBJECT_COLUMN: usize = 2;

/// Renders traffic as "12m 3.4KiB (0.2m/s 51B/s)"; "m" stands for messages.
fn traffic(row: &TrafficRow) -> String {
    format!(
        "{}m {} ({:.1}m/s {}/s)",
        row.messages,
        size(row.bytes as f64),
        row.messages_per_second,
        size(row.bytes_per_second)
    )
}

/// Returns the text with at most [`MAX_PATH_LEN`] characters; `--json` has the whole.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_PATH_LEN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn size(bytes: f64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes;
    let mut unit = "B";
    for next in units {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    match unit {
        "B" => format!("{size:.0}B"),
        unit => format!("{size:.1}{unit}"),
    }
}

/// Escapes client-supplied text, so that it cannot control the terminal.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                vec![c]
            } else {
                c.escape_default().collect()
            }
        })
        .collect()
}

/// Returns a backend address in the spelling of `lockgate status`.
///
/// # Errors
/// If it is a `dns://` or `srv://` name, which stands for several backends.
pub(crate) fn backend_address(written: &str) -> anyhow::Result<String> {
    if written.starts_with("dns://") || written.starts_with("srv://") {
        bail!(
            "{written} is a name in DNS, and not one backend: use one of its addresses, as shown by `lockgate status`"
        );
    }
    // Text that is not an address is passed on: the server knows all backends, and reports an unknown one.
    let address = written.parse::<BackendAddress>();
    Ok(address.map_or_else(|_| written.to_owned(), |it| it.to_string()))
}

/// Fails if the server has no such route or backend. `sessions` and `kick` call it only if no session matches, because
/// sessions of a removed route may still be live; `tap` and `drain` call it first.
pub(crate) fn require_known(
    admin: &AdminArgs,
    route: &Option<String>,
    address: &Option<String>,
) -> anyhow::Result<()> {
    if route.is_none() && address.is_none() {
        return Ok(());
    }
    let text = send_request(admin, Method::GET, "/status")?;
    let status: Value = serde_json::from_str(&text).context("the answer is not JSON")?;
    if let Some(route) = route {
        require("route", route, &status["routes"], "name")?;
    }
    if let Some(address) = address {
        require(
            "backend",
            &backend_address(address)?,
            &status["backends"],
            "address",
        )?;
    }
    Ok(())
}

fn require(what: &str, name: &str, list: &Value, key: &str) -> anyhow::Result<()> {
    let rows = list.as_array().into_iter().flatten();
    let mut names: Vec<&str> = rows.filter_map(|row| row[key].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.contains(&name) {
        return Ok(());
    }
    match names.len() {
        0 => bail!("there is no {what} {name}: there are no {what}s"),
        1..=MAX_LISTED => bail!(
            "there is no {what} {name}; the {what}s are: {}",
            names.join(", ")
        ),
        _ => bail!("there is no {what} {name}: `lockgate status` lists the {what}s"),
    }
}

fn render_line(line: &TapLine) -> String {
    match line {
        TapLine::Frame(frame) => render_frame(frame),
        TapLine::Started { sessions: 0 } => "tapping new sessions; none is open".to_owned(),
        TapLine::Started { sessions: 1 } => "tapping 1 session, and new ones".to_owned(),
        TapLine::Started { sessions } => format!("tapping {sessions} sessions, and new ones"),
        TapLine::Ended { ended, lost: 0 } => format!("ended: {}", visible(ended)),
        TapLine::Ended { ended, lost } => {
            format!("{lost} frames not shown; ended: {}", visible(ended))
        }
        TapLine::Lost { lost } => format!("{lost} frames not shown"),
    }
}

fn render_frame(frame: &FrameRow) -> String {
    // The date is left out: it is usually today's.
    let at = frame
        .at
        .split_once('T')
        .map_or(&*frame.at, |(_, time)| time);
    let (id, from, kind) = (&frame.id, &frame.from, &frame.kind);
    let mut text = visible(&format!("{at} {id} {from:<7} {kind}"));
    if frame.continues {
        text.push_str(" continuation");
    }
    if !frame.fin {
        text.push_str(" …");
    }
    write!(text, " {}B", frame.size).expect("writing to a String cannot fail");
    match frame.inflated {
        Some(size) => {
            write!(text, " inflated to {size}B").expect("writing to a String cannot fail")
        }
        None if frame.compressed => text.push_str(" compressed"),
        None => {}
    }
    if frame.gaps {
        text.push_str(" with gaps");
    }
    if let Some(code) = frame.code {
        write!(text, " {code}").expect("writing to a String cannot fail");
    }
    match (frame.text.as_deref(), frame.hex.as_deref()) {
        // Debug escapes the characters that could control a terminal.
        (Some(shown), _) if !shown.is_empty() => {
            write!(text, " {shown:?}").expect("writing to a String cannot fail")
        }
        (None, Some(shown)) if !shown.is_empty() => {
            write!(text, " 0x{}", visible(shown)).expect("writing to a String cannot fail")
        }
        _ => {}
    }
    if frame.cut {
        text.push('…');
    }
    text
}

/// The context of a reply that lacks a field.
pub(crate) const UNEXPECTED_REPLY: &str =
    "the answer does not have the expected fields: is the running lockgate of the same version?";

/// The maximum number of sessions in one answer.
const PAGE_LIMIT: usize = 1000;

/// The maximum number of characters of a path in the table.
const MAX_PATH_LEN: usize = 80;

/// The maximum number of names listed in an error.
const MAX_LISTED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_rendered_as_a_table() {
        let row = json!({
            "http": "1.1", "host": "chat.test", "path": "/room/\u{1b}[2J",
            "id": "00000000000000ff", "client": "192.0.2.1", "route": "chat", "backend": "ws://10.0.0.1:1",
            "subprotocol": "chat\u{1b}[2J", "extensions": null, "age_seconds": 61.5,
            "from_client": { "messages": 3, "bytes": 2048, "messages_per_second": 0.05, "bytes_per_second": 33.3 },
            "from_backend": { "messages": 1, "bytes": 10, "messages_per_second": 0.0, "bytes_per_second": 0.2 },
            "round_trip": { "client": 0.0123, "backend": null },
        });
        let rows = [serde_json::from_value(row).unwrap()];
        let expected = "\
id                client     route  backend          age    in                        out                   rtt     with           host       path
00000000000000ff  192.0.2.1  chat   ws://10.0.0.1:1  1m 1s  3m 2.0KiB (0.1m/s 33B/s)  1m 10B (0.0m/s 0B/s)  12ms/-  chat\\u{1b}[2J  chat.test  /room/\\u{1b}[2J
1 session";
        assert_eq!(render_table(1, &rows), expected);
        assert_eq!(render_table(0, &[]), "no sessions");
        assert!(render_table(7, &rows).ends_with("1 of 7 sessions; --limit 0 shows all"));
        assert_eq!(shortened(&"é".repeat(81)).chars().count(), 81);
        assert_eq!(shortened(&"é".repeat(80)).chars().count(), 80);
    }

    #[test]
    fn backend_address_is_normalised() {
        assert_eq!(
            backend_address("WS://LocalHost:8765").unwrap(),
            "ws://localhost:8765"
        );
        assert_eq!(backend_address("chat").unwrap(), "chat");
        assert!(backend_address("dns://chat:8765").is_err());
    }

    #[test]
    fn unknown_name_error_lists_known_names() {
        let list = json!([{ "name": "b" }, { "name": "a" }, { "name": "b" }]);
        assert!(require("route", "a", &list, "name").is_ok());
        let error = require("route", "c", &list, "name")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "there is no route c; the routes are: a, b");
        assert!(require("route", "c", &json!([]), "name").is_err());
    }

    #[test]
    fn frame_is_rendered_as_one_line() {
        let frame = json!({
            "at": "2026-11-21T12:00:00.123Z", "id": "00000000000000ff", "client": "192.0.2.1", "route": "chat",
            "from": "client", "kind": "text", "continues": false, "fin": true, "size": 7, "compressed": true,
            "inflated": 12, "gaps": false, "code": null, "text": "hello \u{1b}[2J", "hex": null, "cut": true,
        });
        let render = |line: Value| render_line(&serde_json::from_value(line).unwrap());
        assert_eq!(
            render(frame.clone()),
            "12:00:00.123Z 00000000000000ff client  text 7B inflated to 12B \"hello \\u{1b}[2J\"…"
        );
        let mut close = frame.clone();
        for (key, value) in [
            ("at", json!("?")),
            ("id", json!("1")),
            ("from", json!("backend")),
            ("kind", json!("close")),
            ("size", json!(2)),
            ("compressed", json!(false)),
            ("inflated", Value::Null),
            ("code", json!(1000)),
            ("text", json!("")),
            ("cut", json!(false)),
        ] {
            close[key] = value;
        }
        assert_eq!(render(close), "? 1 backend close 2B 1000");
        assert_eq!(render(json!({ "lost": 7 })), "7 frames not shown");
        assert_eq!(
            render(json!({ "ended": "x", "lost": 7 })),
            "7 frames not shown; ended: x"
        );
        assert_eq!(
            render(json!({ "sessions": 1 })),
            "tapping 1 session, and new ones"
        );
    }

    #[test]
    fn reply_without_an_expected_field_is_an_error() {
        let frame = json!({ "at": "?", "id": "1", "from": "backend", "kind": "close" });
        assert!(serde_json::from_value::<TapLine>(frame).is_err());
        assert!(serde_json::from_value::<CloseReport>(json!({ "closed": 1 })).is_err());
        assert!(serde_json::from_value::<SessionRow>(json!({ "id": "1" })).is_err());
    }
}
