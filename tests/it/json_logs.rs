//! JSON lines have each key once. The harness checks every line of every test; the tests here write the lines that
//! other tests may not, and check the fields in the source.

use crate::harness::{Backend, Lockgate, strict_json};
use rustix::process::Signal;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

#[test]
fn strict_parser_refuses_a_key_that_occurs_twice() {
    for (text, is_accepted) in [
        (r#"{"a":1,"b":{"a":[1,null,true,-1,0.5,"x"]}}"#, true),
        (r#"{"a":1,"a":1}"#, false),
        (r#"[{"b":{"a":1,"c":2,"a":1}}]"#, false),
        (r#"{"a":1} {"#, false),
        (r#"{"a":"#, false),
    ] {
        assert_eq!(strict_json::check(text).is_ok(), is_accepted, "{text}");
    }
    assert_eq!(
        strict_json::problems("{\"a\":1}\ntext\n{\"a\":1,\"a\":2}\n{\"cut").len(),
        1
    );
}

#[tokio::test]
async fn drain_and_other_orders_write_each_key_once() {
    let backend = Backend::echo().await;
    let mut lockgate = Lockgate::to(backend)
        .with("name = \"chat\"\ntap = true")
        .start()
        .await;
    let address = format!("ws://{backend}");
    let _first = lockgate.echo_session().await;
    for command in [
        &["tap", "--for", "100ms"][..],
        &["kick", "--all"],
        &["drain", "--backend", &address],
        &["drain", "--backend", &address, "--undo"],
        &["drain", "--route", "chat"],
        &["drain", "--route", "chat", "--undo"],
        &["reload"],
    ] {
        let (succeeded, text) = lockgate.command(command).await;
        assert!(succeeded, "{command:?}: {text}");
    }
    lockgate.write_config("nonsense = 1\n");
    let (succeeded, _) = lockgate.command(&["reload"]).await;
    assert!(!succeeded);
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));
    let log = lockgate.stderr();
    assert!(
        log.lines().filter(|line| line.contains("drain")).count() >= 4,
        "{log}"
    );
    let problems = strict_json::problems(&log);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    for line in log.lines().filter(|line| line.contains("drained by order")) {
        assert_eq!(line.matches("\"target\":").count(), 1, "{line}");
    }
}

/// The dependencies have fields and spans of their own.
#[tokio::test]
async fn lines_of_dependencies_have_each_key_once() {
    let backend = Backend::echo().await;
    let to = format!("ws://{backend}");
    let flags = ["--to", &to, "--host", "a.test"];
    let setup = Lockgate::with_flags(&flags).env("RUST_LOG", "trace");
    let mut lockgate = setup.start().await;
    let mut client = lockgate.echo_session().await;
    client.echoes().await;
    let h2 = lockgate.h2().await;
    drop(h2);
    lockgate.signal(Signal::HUP);
    lockgate.until_logged("\"target\":\"h2::").await;
    lockgate.terminate();
    lockgate.exit().await;
    let log = lockgate.stderr();
    let problems = strict_json::problems(&log);
    assert!(
        problems.is_empty(),
        "{} lines, the first: {}",
        problems.len(),
        problems[0]
    );
}

/// The keys that tracing-subscriber writes in addition to the fields of an event.
const RESERVED: [&str; 11] = [
    "timestamp",
    "level",
    "target",
    "message",
    "fields",
    "span",
    "spans",
    "filename",
    "line_number",
    "threadName",
    "threadId",
];

const MACROS: [&str; 6] = ["trace!", "debug!", "info!", "warn!", "error!", "event!"];

#[test]
fn no_event_in_the_source_has_a_reserved_field_or_one_twice() {
    let mut files = Vec::new();
    rust_files(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    let (mut problems, mut events) = (Vec::new(), 0);
    for file in files {
        let source = fs::read_to_string(&file).expect("readable");
        for event in events_in(&source) {
            events += 1;
            let fields = fields_of(event);
            let mut seen = BTreeSet::new();
            for field in fields {
                if RESERVED.contains(&&*field) {
                    problems.push(format!(
                        "{}: the field {field} is reserved: {event}",
                        file.display()
                    ));
                }
                if !seen.insert(field.clone()) {
                    problems.push(format!(
                        "{}: the field {field} occurs twice: {event}",
                        file.display()
                    ));
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(events > 80, "only {events} events are found");
}

#[test]
fn fields_of_an_event_are_recognised() {
    let cases = [
        (r#"info!("a {} line", x)"#, &[][..]),
        (
            r#"info!(target: "x", a = 1, %b, ?c, d, e.f = %g(1, "x, y = z"), "text")"#,
            &["a", "b", "c", "d", "e.f"],
        ),
        (
            r#"warn!(%target, closing, "drained")"#,
            &["target", "closing"],
        ),
        (
            "error!(\n  process = id(),\n  r#type = 1,\n  \"a\"\n)",
            &["process", "type"],
        ),
        (r#"info!(?error.kind, "a")"#, &["error.kind"]),
    ];
    for (text, expected) in cases {
        let events: Vec<_> = events_in(text).collect();
        assert_eq!(events.len(), 1, "{text}");
        assert_eq!(fields_of(events[0]), expected, "{text}");
    }
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Returns the arguments of each call of a macro that writes a log line.
fn events_in(source: &str) -> impl Iterator<Item = &str> {
    let calls = source.match_indices("!(").filter_map(move |(at, _)| {
        let before = &source[..=at];
        let is_event = MACROS.iter().any(|name| {
            before
                .strip_suffix(name)
                .is_some_and(|rest| !rest.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        });
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        is_event
            .then_some(at + 2)
            .filter(|_| !before[line_start..].trim_start().starts_with("//"))
    });
    calls.map(move |start| &source[start..start + group_len(&source[start..])])
}

/// Returns the length of the text before the parenthesis that closes it.
fn group_len(text: &str) -> usize {
    split_at_commas(text).1
}

/// Splits arguments at the commas between them; returns them and the position of the closing parenthesis.
fn split_at_commas(text: &str) -> (Vec<&str>, usize) {
    let (mut parts, mut start, mut depth, mut in_string, mut escaped) =
        (vec![], 0, 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                parts.push(&text[start..at]);
                return (parts, at);
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (parts, text.len())
}

/// Returns the names of the fields, which come before the message.
fn fields_of(event: &str) -> Vec<String> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_alphanumeric() || c == '_' || c == '.')
    };
    let (parts, _) = split_at_commas(event);
    let mut fields = Vec::new();
    for part in parts {
        let part = part.trim();
        if part.starts_with('"') {
            break;
        }
        let name = part.split('=').next().unwrap_or_default().trim();
        let name = name.trim_start_matches(['%', '?']).trim_start_matches("r#");
        // `target: "…"` is no field.
        if is_name(name) && !name.starts_with(|c: char| c.is_numeric()) {
            fields.push(name.to_owned());
        }
    }
    fields
}
