//! Renders the status and the list of certificates as text.

use serde_json::Value;
use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

/// Renders a compact table. Values that a lockgate of another version does not report are shown as "?".
pub(crate) fn render_status(status: &Value) -> String {
    let uptime = status["uptime_seconds"].as_u64().map_or_else(
        || UNKNOWN.to_owned(),
        |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    );
    let mut page = format!(
        "lockgate {}, {}, process {}, up {uptime}\n",
        word(&status["version"]),
        word(&status["state"]),
        word(&status["process"])
    );
    for (name, open, max) in [
        (
            "connections",
            &status["connections"],
            &status["connections_max"],
        ),
        ("sessions", &status["sessions"], &status["sessions_max"]),
    ] {
        line(
            &mut page,
            &format!("{name:<11}  {} of {}", word(open), word(max)),
        );
    }
    if status["requests"].is_u64() {
        let word = |name: &str| word(&status[name]);
        for (name, value) in [
            ("requests", word("requests")),
            (
                "to backends",
                format!(
                    "{}, {} of them idle",
                    word("backend_connections"),
                    word("backend_connections_idle")
                ),
            ),
            (
                "descriptors",
                format!("{} of {}", word("descriptors"), word("descriptors_max")),
            ),
        ] {
            line(&mut page, &format!("{name:<11}  {value}"));
        }
    }
    match status["closing"].as_u64() {
        None | Some(0) => {}
        Some(1) => line(&mut page, "closing      1 session still to be closed"),
        Some(n) => line(
            &mut page,
            &format!("closing      {n} sessions still to be closed"),
        ),
    }
    for pool in status["pools"].as_array().into_iter().flatten() {
        if let Some(waiting @ 1..) = pool["waiting"].as_u64() {
            let pool = word(&pool["name"]);
            line(
                &mut page,
                &format!("waiting      {waiting} in the queue of pool {pool}"),
            );
        }
    }
    for name in status["names"].as_array().into_iter().flatten() {
        if let Some(error) = name["error"].as_str() {
            let name = word(&name["name"]);
            line(&mut page, &format!("DNS          {name}: {error}"));
        }
    }
    configuration(&mut page, &status["config"]);
    for (title, list, columns) in [
        ("listeners", &status["listeners"], ["kind", "address", ""]),
        ("routes", &status["routes"], ["name", "rule", "pool"]),
        (
            "backends (leases: sessions, requests and pending handshakes)",
            &status["backends"],
            ["pool", "address", "leases"],
        ),
    ] {
        section(&mut page, title, list, columns);
    }
    page
}

/// Renders the source of the configuration, and whether its latest version is active.
fn configuration(page: &mut String, config: &Value) {
    if let Some(file) = config["file"].as_str() {
        let since = word(&config["loaded"]);
        line(page, &format!("config       {file}, active since {since}"));
    }
    if let Some(error) = config["error"].as_str() {
        line(page, "             the last reload was rejected:");
        for text in error.lines() {
            line(page, &format!("  {text}"));
        }
    }
    let keys = config["needs_restart"].as_array().into_iter().flatten();
    let keys: Vec<String> = keys.map(word).collect();
    if !keys.is_empty() {
        line(
            page,
            &format!("restart      required for: {}", keys.join(", ")),
        );
    }
}

/// Renders one paragraph per host. A table would be too wide, because the CA's last error may be long.
pub(crate) fn render_certificates(list: &Value) -> String {
    let mut page = String::new();
    let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        line(&mut page, "no certificates");
    }
    for row in rows {
        line(&mut page, &word(&row["host"]));
        let names = row["names"].as_array().into_iter().flatten();
        let names: Vec<String> = names.map(word).collect();
        let from = format!("{} {}", word(&row["source"]), word(&row["from"]));
        let state = match (&row["issuer"], &row["not_after"]) {
            (Value::Null, _) => "none yet".to_owned(),
            (issuer, until) => {
                let dates = dates_note(row, SystemTime::now());
                format!("until {}{dates}, by {}", word(until), word(issuer))
            }
        };
        line(&mut page, &format!("  certificate   {state}"));
        if names.len() > 1 {
            line(&mut page, &format!("  names         {}", names.join(", ")));
        }
        line(&mut page, &format!("  from          {from}"));
        if row["ordering"] == Value::Bool(true) {
            line(&mut page, "  next attempt  now");
        } else if let Some(next) = row["next_attempt"].as_str() {
            line(&mut page, &format!("  next attempt  {next}"));
        }
        if let Some(error) = row["error"].as_str() {
            line(&mut page, &format!("  last error    {error}"));
        }
        if let Some(warning) = row["warning"].as_str() {
            line(&mut page, &format!("  warning       {warning}"));
        }
    }
    page
}

/// Returns a note if a certificate is not valid at `now` according to its dates, otherwise "".
fn dates_note(row: &Value, now: SystemTime) -> String {
    let time = |key: &str| humantime::parse_rfc3339(row[key].as_str()?).ok();
    if time("not_after").is_some_and(|until| until < now) {
        return " (expired)".to_owned();
    }
    match time("not_before") {
        Some(from) if from > now => {
            format!(" (not valid before {})", word(&row["not_before"]))
        }
        _ => String::new(),
    }
}

/// Renders a row per element of `list`, with columns as wide as their widest cell; "" is an empty column.
fn section(page: &mut String, title: &str, list: &Value, columns: [&str; 3]) {
    let rows: Vec<[String; 3]> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| columns.map(|column| cell(row, column)))
        .collect();
    line(page, "");
    line(page, title);
    let widest = |at: fn(&[String; 3]) -> &String| {
        let lengths = rows.iter().map(|row| at(row).chars().count());
        lengths.max().unwrap_or(0)
    };
    let (first, second) = (widest(|[cell, ..]| cell), widest(|[_, cell, _]| cell));
    for [one, two, three] in &rows {
        line(page, &format!("  {one:<first$}  {two:<second$}  {three}"));
    }
}

/// Renders a table with columns as wide as their widest cell.
pub(crate) fn table<R: AsRef<[String]>>(rows: &[R]) -> String {
    let columns = rows.first().map_or(0, |row| row.as_ref().len());
    let mut widths = vec![0; columns];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut page = String::new();
    for row in rows {
        let cells = row.as_ref().iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        line(&mut page, &cells.join("  "));
    }
    page
}

fn cell(row: &Value, column: &str) -> String {
    match (column, &row[column]) {
        ("", _) => String::new(),
        ("pool", pool) if !row["rule"].is_null() => {
            format!("pool {}{}", word(pool), draining(row))
        }
        ("leases", leases) if leases.as_u64() == Some(1) => format!("1 lease{}", state(row)),
        ("leases", leases) => format!("{} leases{}", word(leases), state(row)),
        (_, value) => word(value),
    }
}

/// Returns the state of a backend; "" if it is up without failures. Another version may report only whether it is
/// draining.
fn state(row: &Value) -> String {
    let state = match (row["state"].as_str(), row["ejected_seconds"].as_u64()) {
        (Some("ejected"), Some(seconds)) => Some(format!("ejected for {} s", seconds + 1)),
        (state, _) => state.map(str::to_owned),
    };
    match (state.as_deref(), row["why"].as_str()) {
        (None, _) => draining(row).to_owned(),
        (Some("up"), None) => String::new(),
        (Some(state), None) => format!(", {state}"),
        (Some(state), Some(why)) if row["state"] == "down" || row["state"] == "ejected" => {
            format!(", {state}: {why}")
        }
        (Some(state), Some(why)) => format!(", {state}, last failure: {why}"),
    }
}

fn draining(row: &Value) -> &'static str {
    match row["draining"] {
        Value::Bool(true) => ", draining",
        _ => "",
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(word) => word.clone(),
        Value::Number(number) => number.to_string(),
        _ => UNKNOWN.to_owned(),
    }
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{}", text.trim_end()).expect("writing to a String cannot fail");
}

const UNKNOWN: &str = "?";
