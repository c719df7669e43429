//! The admin API: paths, status codes, content types and JSON fields; and the commands that print JSON.

use super::{Lines, admin_request, json_output, key_paths, snapshot};
use crate::harness::{Backend, Frame, Lockgate, Wire, eventually};
use serde_json::Value;
use std::fs;

/// A process with a live session, a health-checked pool, a name in DNS, and a tap.
async fn process() -> (Lockgate, Wire) {
    let backend = Backend::echo().await;
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nmetrics = \"127.0.0.1:0\"\n[tls]\ndev_ca = true\n\
         [pools.chat]\nbackends = [\"ws://{backend}\", \"ws://127.0.0.1:1\"]\nhealth = {{ check = \"tcp\" }}\n\
         [pools.named]\nbackends = [\"dns://localhost:1\"]\n\
         [[routes]]\nname = \"chat\"\nhosts = [\"a.test\", \"localhost\"]\npool = \"chat\"\norigins = [\"*\"]\ntap = true\n\
         [[routes]]\nname = \"named\"\nhosts = [\"b.test\"]\npool = \"named\"\n"
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    (lockgate, client)
}

#[tokio::test]
async fn admin_paths_and_json_fields_are_unchanged() {
    let (lockgate, _client) = process().await;
    let opened = lockgate.record(|record| record["event"] == "open").await;
    let id = opened["id"].as_str().expect("an id");
    let backend = opened["backend"].as_str().expect("a backend");
    let up = "lockgate_backend_up{pool=\"chat\",backend=\"ws://127.0.0.1:1\"}";
    eventually("a failed health check", async || {
        lockgate.metric(up).await == 0.0
    })
    .await;
    let mut lines = Lines::new();
    for request in [
        "GET /healthz",
        "HEAD /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /status",
        "GET /certificates",
        "GET /sessions",
        "GET /sessions?route=chat&client=127.0.0.1&longer_than=0s&limit=1",
        "GET /sessions?backend=BACKEND",
        "GET /sessions?id=ID",
        "GET /sessions?after=ID",
        "GET /sessions?unknown=1",
        "GET /tap?bytes=0",
        "GET /tap?route=named",
        "GET /auth",
        "GET /auth?nonce=0123456789abcdef0123456789abcdef",
        "GET /unknown",
        "POST /status",
        "GET /reload",
        "POST /reload",
        "POST /drain",
        "POST /drain?route=unknown",
        "POST /drain?route=named",
        "POST /drain?route=named&undo",
        "POST /drain?backend=BACKEND&undo",
        "POST /certificates/renew",
        "POST /certificates/renew?host=a.test",
        "POST /handover",
        "POST /sessions/close",
        "POST /sessions/close?all&code=1006",
        "POST /sessions/close?id=0000000000000000",
        "POST /sessions/close?route=named&code=4000&reason=bye",
        "POST /sessions/close?id=ID",
    ] {
        let target = request.replace("BACKEND", backend).replace("ID", id);
        let mut wire = admin_request(&lockgate, &target).await;
        let head = wire.head().await;
        let kind = head.get("content-type").expect("a content type");
        lines.insert(format!("{request}: {} {kind}", head.status()));
        if let Some(allow) = head.get("allow") {
            lines.insert(format!("{request}: Allow: {allow}"));
        }
        // Conditions select sessions; the fields stay the same.
        if kind == "application/json" && !request.starts_with("GET /sessions?") {
            let body = wire.body(&head).await;
            let value: Value = serde_json::from_slice(&body).expect("JSON");
            key_paths(&format!("{request} "), &value, &mut lines);
            words(request, &value, &mut lines);
        }
    }
    snapshot("admin", &lines);
}

/// Adds the values of fields that have one of a few words.
fn words(at: &str, value: &Value, lines: &mut Lines) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if value.is_string() && ["kind", "source", "state"].contains(&key.as_str()) {
                    lines.insert(format!("{at} {key} = {value}"));
                }
                words(at, value, lines);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| words(at, item, lines)),
        _ => {}
    }
}

#[tokio::test]
async fn tap_lines_are_unchanged() {
    let (lockgate, mut client) = process().await;
    let target = "GET /tap?route=chat&bytes=4&rate=1&lasting=3s";
    let mut tap = admin_request(&lockgate, target).await;
    let head = tap.head().await;
    let kind = head.get("content-type").expect("a content type");
    let mut lines = Lines::from([format!("{target}: {} {kind}", head.status())]);
    tap.chunk().await;
    // All but the first exceed the rate: they are counted as lost.
    for _ in 0..3 {
        client.send_frame(Frame::text("hello")).await;
    }
    let rest = tap.body(&head).await;
    for line in String::from_utf8(rest).expect("UTF-8").lines() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let event = ["kind", "lost", "ended"]
            .into_iter()
            .find(|key| value.get(key).is_some());
        key_paths(
            &format!("{} line ", event.expect("a known line")),
            &value,
            &mut lines,
        );
    }
    snapshot("tap", &lines);
}

#[tokio::test]
async fn json_output_of_commands_is_unchanged() {
    let (lockgate, _client) = process().await;
    let folder = lockgate.folder();
    fs::write(folder.join("bad.toml"), "nonsense = 1\n").expect("the folder is writable");
    let (url, ca) = (
        format!("wss://localhost:{}/", lockgate.https.port()),
        lockgate.ca(),
    );
    let admin = format!("unix:{}", folder.join("admin.sock").display());
    let mut lines = Lines::new();
    for command in [
        &["status", "--json", "--admin", &admin][..],
        &["sessions", "--json", "--admin", &admin],
        &["cert", "list", "--json", "--admin", &admin],
        &[
            "explain",
            "--json",
            "--config",
            "config.toml",
            "wss://a.test/",
        ],
        &[
            "explain",
            "--json",
            "--config",
            "config.toml",
            "wss://c.test/",
        ],
        &["check", "--json", "--config", "bad.toml"],
        &["doctor", "--json", "--config", "config.toml"],
        &["probe", "--json", "--ca", ca.to_str().expect("UTF-8"), &url],
    ] {
        let value = json_output(folder, command).await;
        let mut words = command.iter().filter(|word| !word.starts_with('-'));
        let name = match command[0] {
            "explain" => format!("explain {}", words.next_back().expect("a URL")),
            name => name.to_owned(),
        };
        key_paths(&format!("{name} "), &value, &mut lines);
    }
    snapshot("json_output", &lines);
}
