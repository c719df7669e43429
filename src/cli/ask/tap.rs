//! `lockgate tap`: prints relayed frames.

use super::{
    DEADLINE, build_runtime, check_response, exchange::AdminRequest, names, place, print,
    sessions::conditions,
};
use crate::cli::args::{FilterArgs, TapArgs};
use anyhow::Context;
use hyper::Method;
use serde_json::Value;
use std::{fmt::Write, process::ExitCode};
use tokio::time::timeout;

/// Prints frames line by line until the duration ends.
pub(in crate::cli) fn tap(arguments: &TapArgs) -> anyhow::Result<ExitCode> {
    let FilterArgs { route, backend, .. } = &arguments.filter;
    names::known(&arguments.admin, route, backend)?;
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
    let token = place::token(&arguments.admin);
    let address = &place::address(&arguments.admin)?;
    let path = format!("/tap?{query}");
    let request = AdminRequest {
        address,
        token: token.as_deref(),
        method: Method::GET,
        path: &path,
    };
    let print = |line: &str| match serde_json::from_str(line) {
        Ok(value) if !arguments.json => print(render_line(&value)),
        _ => print(line),
    };
    let deadline = lasting.0 + DEADLINE;
    let followed = async { timeout(deadline, request.follow(print)).await };
    let followed = build_runtime()?.block_on(followed);
    let (status, text) = followed.context("the answer did not end in time")??;
    check_response(address, &path, token.is_some(), status, text)?;
    Ok(ExitCode::SUCCESS)
}

fn render_line(line: &Value) -> String {
    if let Some(sessions) = line["sessions"].as_u64() {
        return match sessions {
            1 => "tapping 1 session, and new ones".to_owned(),
            n => format!("tapping {n} sessions, and new ones"),
        };
    }
    let lost = line["lost"].as_u64().unwrap_or_default();
    if let Some(why) = line["ended"].as_str() {
        return match lost {
            0 => format!("ended: {why}"),
            n => format!("{n} frames not shown; ended: {why}"),
        };
    }
    if lost > 0 {
        return format!("{lost} frames not shown");
    }
    let word = |key: &str| line[key].as_str().unwrap_or("?").to_owned();
    let is = |key: &str| line[key].as_bool().unwrap_or_default();
    // The date is left out: it is usually today's.
    let at = word("at");
    let at = at.split_once('T').map_or(&*at, |(_, time)| time);
    let mut text = format!("{at} {} {:<7} {}", word("id"), word("from"), word("kind"));
    if is("continues") {
        text.push_str(" continuation");
    }
    if !is("fin") {
        text.push_str(" …");
    }
    write!(text, " {}B", line["size"]).expect("writing to a String cannot fail");
    match (line["inflated"].as_u64(), is("compressed")) {
        (Some(size), _) => {
            write!(text, " inflated to {size}B").expect("writing to a String cannot fail")
        }
        (None, true) => text.push_str(" compressed"),
        (None, false) => {}
    }
    if is("gaps") {
        text.push_str(" with gaps");
    }
    if let Some(code) = line["code"].as_u64() {
        write!(text, " {code}").expect("writing to a String cannot fail");
    }
    match (line["text"].as_str(), line["hex"].as_str()) {
        // Debug escapes the characters that could control a terminal.
        (Some(shown), _) if !shown.is_empty() => {
            write!(text, " {shown:?}").expect("writing to a String cannot fail")
        }
        (None, Some(shown)) if !shown.is_empty() => {
            write!(text, " 0x{shown}").expect("writing to a String cannot fail")
        }
        _ => {}
    }
    if is("cut") {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn frame_is_rendered_as_one_line() {
        let frame = json!({
            "at": "2026-11-21T12:00:00.123Z", "id": "00000000000000ff", "from": "client", "kind": "text",
            "continues": false, "fin": true, "size": 7, "compressed": true, "inflated": 12, "gaps": false,
            "code": null, "text": "hello \u{1b}[2J", "hex": null, "cut": true,
        });
        assert_eq!(
            render_line(&frame),
            "12:00:00.123Z 00000000000000ff client  text 7B inflated to 12B \"hello \\u{1b}[2J\"…"
        );
        let close = json!({
            "at": "?", "id": "1", "from": "backend", "kind": "close", "fin": true, "size": 2, "code": 1000, "text": "",
        });
        assert_eq!(render_line(&close), "? 1 backend close 2B 1000");
        assert_eq!(render_line(&json!({ "lost": 7 })), "7 frames not shown");
    }
}
