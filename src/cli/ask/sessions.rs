//! `lockgate sessions`, `lockgate kick`.

use super::{names, print, render::table, send_request};
use crate::cli::args::{AdminArgs, FilterArgs, KickArgs, SessionsArgs};
use anyhow::{Context, anyhow};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::{fmt::Write, process::ExitCode, time::Duration};

/// Fetches sessions page by page, up to the requested number.
pub(in crate::cli) fn sessions(arguments: &SessionsArgs) -> anyhow::Result<ExitCode> {
    let limit = match arguments.limit {
        0 => usize::MAX,
        limit => limit,
    };
    let (mut total, mut rows, mut after) = (Value::Null, Vec::new(), None);
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
        let mut page: Value = serde_json::from_str(&text).context("the answer is not JSON")?;
        total = match total {
            Value::Null => page["total"].take(),
            total => total,
        };
        if let Value::Array(sessions) = page["sessions"].take() {
            rows.extend(sessions);
        }
        match page["next"].take() {
            Value::String(next) if rows.len() < limit => after = Some(next),
            _ => break,
        }
    }
    if total == 0 {
        require_known(&arguments.admin, &arguments.filter)?;
    }
    match arguments.json {
        true => print(json!({ "total": total, "sessions": rows })),
        false => print(render_table(&total, &rows).trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Closes sessions, and prints their number.
pub(in crate::cli) fn kick(arguments: &KickArgs) -> anyhow::Result<ExitCode> {
    let mut query = conditions(&arguments.filter)?;
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
    let answer: Value = serde_json::from_str(&text).context("the answer is not JSON")?;
    let closing = answer["closing"].as_u64();
    match closing.ok_or_else(|| anyhow!("the answer has no number of sessions: {text}"))? {
        0 => {
            require_known(&arguments.admin, &arguments.filter)?;
            print("no session is closed: none matches");
        }
        1 => print("1 session is closed"),
        n => print(format!("{n} sessions are closed")),
    }
    Ok(ExitCode::SUCCESS)
}

fn require_known(admin: &AdminArgs, filter: &FilterArgs) -> anyhow::Result<()> {
    names::known(admin, &filter.route, &filter.backend)
}

pub(super) fn conditions(filter: &FilterArgs) -> anyhow::Result<String> {
    let mut query = String::new();
    let FilterArgs {
        route,
        backend,
        client,
        longer_than,
    } = filter;
    let backend = backend.as_deref().map(names::backend).transpose()?;
    for (name, value) in [
        ("route", route.clone()),
        ("backend", backend),
        ("client", client.map(|it| it.to_string())),
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
fn render_table(total: &Value, rows: &[Value]) -> String {
    let head = [
        "id", "client", "route", "backend", "age", "in", "out", "rtt", "with",
    ];
    let mut cells = vec![head.map(str::to_owned)];
    cells.extend(rows.iter().map(cells_of));
    let mut page = table(&cells);
    let shown = rows.len();
    let total = total.as_u64().unwrap_or(shown as u64);
    match (total, shown as u64 == total) {
        (0, _) => page = "no sessions".to_owned(),
        (1, true) => page.push_str("1 session"),
        (_, true) => write!(page, "{total} sessions").expect("a String"),
        (_, false) => {
            write!(page, "{shown} of {total} sessions; --limit 0 shows all").expect("a String")
        }
    }
    page
}

fn cells_of(row: &Value) -> [String; 9] {
    let age = row["age_seconds"].as_f64().unwrap_or_default() as u64;
    let with = [&row["subprotocol"], &row["extensions"]];
    let with: Vec<&str> = with.into_iter().filter_map(Value::as_str).collect();
    let round_trip = |leg: &str| {
        let seconds = row["round_trip"][leg].as_f64();
        seconds.map_or("-".to_owned(), |it| format!("{:.0}ms", it * 1e3))
    };
    [
        plain(&row["id"]),
        plain(&row["client"]),
        plain(&row["route"]),
        plain(&row["backend"]),
        humantime::format_duration(Duration::from_secs(age)).to_string(),
        traffic(&row["from_client"]),
        traffic(&row["from_backend"]),
        format!("{}/{}", round_trip("client"), round_trip("backend")),
        visible(&with.join(" ")),
    ]
}

/// Renders traffic as "12m 3.4KiB (0.2m/s 51B/s)"; "m" stands for messages.
fn traffic(value: &Value) -> String {
    let number = |key: &str| value[key].as_f64().unwrap_or_default();
    format!(
        "{}m {} ({:.1}m/s {}/s)",
        number("messages"),
        size(number("bytes")),
        number("messages_per_second"),
        size(number("bytes_per_second"))
    )
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

fn plain(value: &Value) -> String {
    visible(value.as_str().unwrap_or("?"))
}

/// Escapes client-supplied text, so that it cannot control the terminal.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c.is_ascii_graphic() || c == ' ' {
            true => vec![c],
            false => c.escape_default().collect(),
        })
        .collect()
}

/// The maximum number of sessions in one answer.
const PAGE_LIMIT: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_rendered_as_a_table() {
        let rows = [json!({
            "id": "00000000000000ff", "client": "192.0.2.1", "route": "chat", "backend": "ws://10.0.0.1:1",
            "subprotocol": "chat\u{1b}[2J", "extensions": null, "age_seconds": 61.5,
            "from_client": { "messages": 3, "bytes": 2048, "messages_per_second": 0.05, "bytes_per_second": 33.3 },
            "from_backend": { "messages": 1, "bytes": 10, "messages_per_second": 0.0, "bytes_per_second": 0.2 },
            "round_trip": { "client": 0.0123, "backend": null },
        })];
        let expected = "\
id                client     route  backend          age    in                        out                   rtt     with
00000000000000ff  192.0.2.1  chat   ws://10.0.0.1:1  1m 1s  3m 2.0KiB (0.1m/s 33B/s)  1m 10B (0.0m/s 0B/s)  12ms/-  chat\\u{1b}[2J
1 session";
        assert_eq!(render_table(&json!(1), &rows), expected);
        assert_eq!(render_table(&json!(0), &[]), "no sessions");
        assert!(render_table(&json!(7), &rows).ends_with("1 of 7 sessions; --limit 0 shows all"));
    }
}
