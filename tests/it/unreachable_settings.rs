//! Settings that can never take effect: paths in the notation of other software, routes that never win, pools and other
//! named things that nothing uses.

use crate::harness::{Backend, Lockgate};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

#[tokio::test]
async fn path_in_a_foreign_notation_is_reported_with_the_pattern_that_was_meant() {
    let mut faults = vec![];
    for (path, severity, fix) in [
        ("/ws/{room}", "error", "path = \"/ws/*\""),
        ("/ws/{room}", "error", "path = \"~ ^/ws/[^/]+$\""),
        ("/ws/{rest:path}", "error", "path = \"/ws/*\""),
        ("/{tenant}/ws", "error", "path = \"~ ^/[^/]+/ws$\""),
        ("/ws/<room>", "error", "path = \"~ ^/ws/[^/]+$\""),
        ("/ws/<int:room>", "error", "path = \"~ ^/ws/[0-9]+$\""),
        ("ws/<str:room>/", "error", "path = \"~ ^/ws/[^/]+/$\""),
        ("^ws/[a-z]+/$", "error", "path = \"~ ^/ws/[a-z]+/$\""),
        ("/ws/:room", "warning", "path = \"~ ^/ws/[^/]+$\""),
        ("/ws/*rest", "error", "path = \"/ws/*\""),
        ("/ws/**", "error", "path = \"/ws/*\""),
        ("/ws*", "error", "path = \"/ws/*\""),
        ("/ws/*/chat", "error", "path = \"~ ^/ws/[^/]*/chat$\""),
        ("/ws/.*", "error", "path = \"/ws/*\""),
        ("/ws/.+", "warning", "path = \"/ws/*\""),
        ("/ws/[0-9]+", "error", "path = \"~ ^/ws/[0-9]+$\""),
        ("/ws$", "warning", "path = \"~ ^/ws$\""),
        ("^~ /ws/", "error", "path = \"/ws/*\""),
        ("= /ws", "error", "path = \"/ws\""),
        ("~* ^/ws", "error", "path = \"~ (?i)^/ws\""),
        ("~^/ws", "error", "path = \"~ ^/ws\""),
        ("PathPrefix(`/ws`)", "error", "path = \"/ws/*\""),
        ("wss://a.test/ws", "error", "path = \"/ws\""),
        ("/ws?token=1", "error", "path = \"/ws\""),
        ("ws", "error", "path = \"/ws\""),
        ("", "error", "path = \"/*\""),
        ("*", "error", "path = \"/*\""),
        ("/ws/", "warning", "path = \"/ws/*\""),
        ("/ws/", "warning", "path = \"~ ^/ws/$\""),
        ("/", "warning", "path = \"/*\""),
    ] {
        let text = format!("{TLS}[[routes]]\nhosts = [\"a.test\"]\npath = \"{path}\"\n{TO}");
        let (code, found, stderr) = check(&text).await;
        let is_reported =
            found.len() == 1 && found[0]["line"] == 5 && found[0]["severity"] == severity;
        let has_fix = found.iter().any(|one| contains(&one["hint"], fix));
        let is_valid = code == Some(if severity == "error" { 64 } else { 0 });
        if !is_reported || !has_fix || !is_valid {
            faults.push(format!("{path} {fix}: {code:?} {found:#?}\n{stderr}"));
        }
        // What the hint shows passes.
        let fixed = text.replace(&format!("path = \"{path}\""), fix);
        let (code, found, _) = check(&fixed).await;
        if code != Some(0) || !found.is_empty() {
            faults.push(format!("{path} {fix} is not valid: {found:#?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

#[tokio::test]
async fn route_that_is_never_chosen_is_a_warning() {
    let mut faults = vec![];
    for (first, second, line, words) in [
        // Identical.
        (
            "path = \"/ws\"",
            "path = \"/ws\"",
            11,
            "`first` (lockgate.toml:3)",
        ),
        ("", "", 8, "`first`"),
        ("path = \"/@me\"", "path = \"/%40me\"", 11, "`first`"),
        ("path = \"~ ^/a$\"", "path = \"~ ^/a$\"", 11, "`first`"),
        // The earlier one takes more.
        (
            "path = \"/ws/*\"",
            "path = \"/ws/*\"\nonly = \"websocket\"",
            11,
            "`first`",
        ),
        (
            "path = \"/ws\"\nsubprotocols = [\"a\", \"b\"]",
            "path = \"/ws\"\nsubprotocols = [\"a\"]",
            12,
            "`first`",
        ),
        // A regular expression precedes prefixes, wherever it is written.
        ("path = \"~ ^/\"", "path = \"/ws/*\"", 11, "`first`"),
        ("path = \"/ws/*\"", "path = \"~ ^/.*$\"", 6, "`second`"),
        ("path = \"/ws/a/*\"", "path = \"~ ^/ws\"", 6, "`second`"),
        (
            "path = \"~ ^/ws\"",
            "path = \"~ ^/ws/[0-9]+$\"",
            11,
            "`first`",
        ),
        (
            "path = \"~ ^/\"",
            "path = \"/ws/*\"\nsubprotocols = [\"a\"]",
            11,
            "`first`",
        ),
        // The later one has more conditions, so it takes all that the earlier one could.
        (
            "path = \"/a\"\nonly = \"http\"\nsubprotocols = [\"a\"]",
            "path = \"/b\"",
            7,
            "subprotocols",
        ),
    ] {
        let (code, found, stderr) = check(&two(first, second)).await;
        let is_reported = found.len() == 1
            && found[0]["line"] == line
            && contains(&found[0]["message"], "is never chosen")
            && contains(&found[0]["message"], words)
            && found[0]["hint"].is_string();
        if code != Some(0) || !is_reported {
            faults.push(format!("{first} | {second}: {code:?} {found:#?}\n{stderr}"));
        }
    }
    for (first, second) in [
        ("path = \"/ws\"", "path = \"/ws/*\""),
        ("path = \"/*\"", "path = \"/ws/*\""),
        ("path = \"/ws\"\nonly = \"websocket\"", "path = \"/ws\""),
        (
            "path = \"/ws\"\nonly = \"websocket\"",
            "path = \"/ws\"\nonly = \"http\"",
        ),
        (
            "path = \"/ws\"",
            "path = \"/ws\"\nheaders = { x-a = \"1\" }",
        ),
        ("path = \"/ws\"", "path = \"/ws\"\nsubprotocols = [\"a\"]"),
        (
            "path = \"/ws\"\nsubprotocols = [\"a\"]",
            "path = \"/ws\"\nsubprotocols = [\"a\", \"b\"]",
        ),
        ("path = \"~ ^/ws/[0-9]+$\"", "path = \"/ws/*\""),
        ("path = \"~ ^/wsx\"", "path = \"/ws/*\""),
        ("path = \"~ ^/$\"", "path = \"/*\""),
        ("path = \"~ ^/ws\"\nonly = \"http\"", "path = \"/ws/*\""),
        (
            "path = \"~ ^/\"\nheaders = { x-a = \"1\" }",
            "path = \"/ws/*\"",
        ),
        ("path = \"~ ^/\"", "path = \"/ws\""),
        ("path = \"~ ^/a\"", "path = \"~ ^/b\""),
    ] {
        let (code, found, stderr) = check(&two(first, second)).await;
        if code != Some(0) || !found.is_empty() {
            faults.push(format!(
                "silent: {first} | {second}: {code:?} {found:#?}\n{stderr}"
            ));
        }
    }
    // One of two hosts.
    let text =
        two("path = \"/ws\"", "path = \"/ws\"").replacen("\"a.test\"", "\"a.test\", \"b.test\"", 2);
    let text = text.replacen("\"a.test\", \"b.test\"", "\"a.test\"", 1);
    let (_, found, _) = check(&text).await;
    if found.len() != 1 || !contains(&found[0]["message"], "for the host `a.test`") {
        faults.push(format!("one host: {found:#?}"));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

#[tokio::test]
async fn thing_that_nothing_uses_is_a_warning() {
    let route = format!("[[routes]]\nhosts = [\"a.test\"]\n{TO}");
    let mut faults = vec![];
    for (text, line, words) in [
        (
            format!("{TLS}[pools.chat]\nbackends = [\"ws://127.0.0.1:1\"]\n{route}"),
            3,
            "no route uses the pool `chat`",
        ),
        (
            format!("{TLS}client_ca = \"a.pem\"\n{route}"),
            3,
            "tls.client_ca is not used",
        ),
        (
            format!("[server]\nadmin = \"off\"\nadmin_token = \"0123456789abcdef\"\n{TLS}{route}"),
            3,
            "admin_token is not used",
        ),
        (
            format!(
                "[acme]\ndns = {{ present = \"/bin/true\", cleanup = \"/bin/true\" }}\n{route}"
            ),
            2,
            "acme.dns is not used",
        ),
        (
            format!("{TLS}{}", route.replace("a.test", "_")),
            4,
            "`_` matches only",
        ),
        (
            format!("{TLS}{}", route.replace("a.test", "0.0.0.0")),
            4,
            "`0.0.0.0` matches only",
        ),
        (
            format!(
                "{TLS}[pools.p]\nbackends = [\"ws://127.0.0.1:1\"]\nhealth = {{ check = \"http\", path = \"/a/{{id}}\" }}\n{}",
                route.replace(TO, "pool = \"p\"\n")
            ),
            5,
            "is requested literally",
        ),
    ] {
        let (code, found, stderr) = check(&text).await;
        let is_reported = found.len() == 1
            && found[0]["line"] == line
            && found[0]["severity"] == "warning"
            && contains(&found[0]["message"], words)
            && found[0]["hint"].is_string();
        if code != Some(0) || !is_reported {
            faults.push(format!("{text}\n{words}: {code:?} {found:#?}\n{stderr}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

/// `check`, `run` and a reload report the same warnings, with their place, the line and the hint.
#[tokio::test]
async fn start_and_reload_log_the_warnings_of_check() {
    let backend = Backend::echo().await;
    let setup = Lockgate::to(backend).with("path = \"/ws/\"");
    let lockgate = setup.start().await;
    lockgate
        .until_logged("the configuration has warnings")
        .await;
    let expected = [
        "`/ws/` matches only exactly /ws/",
        "path = \\\"/ws/*\\\"",
        "config.toml:",
    ];
    for text in expected {
        lockgate.until_logged(text).await;
    }
    let config = fs::read_to_string(lockgate.folder().join("config.toml")).expect("readable");
    let unused = "\n[pools.spare]\nbackends = [\"ws://127.0.0.1:1\"]\n";
    lockgate.write_config(&format!("{config}{unused}"));
    let (applied, output) = lockgate.command(&["reload"]).await;
    assert!(applied, "{output}");
    lockgate
        .until_logged("no route uses the pool `spare`")
        .await;
    let logged = lockgate.log("WARN");
    let last = logged.last().expect("a warning");
    assert_eq!(
        last["fields"]["count"].as_u64().or(last["count"].as_u64()),
        Some(2),
        "{last}"
    );
}

fn contains(value: &Value, text: &str) -> bool {
    value.as_str().is_some_and(|value| value.contains(text))
}

/// Two routes of one host; the lines of `first` begin at line 6, those of `second` at 11 if `first` has one line.
fn two(first: &str, second: &str) -> String {
    format!(
        "{TLS}[[routes]]\nname = \"first\"\nhosts = [\"a.test\"]\n{first}\n{TO}[[routes]]\nname = \"second\"\nhosts = [\"a.test\"]\n{second}\n{TO}"
    )
}

/// Returns the exit code, the diagnostics and stderr of `lockgate check`.
async fn check(config: &str) -> (Option<i32>, Vec<Value>, String) {
    let folder = TempDir::new().expect("a temporary folder");
    let mut params = rcgen::CertificateParams::new([]).expect("valid");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("a certificate");
    for (file, text) in [("lockgate.toml", config), ("a.pem", &ca.pem())] {
        fs::write(folder.path().join(file), text).expect("writable");
    }
    let arguments = ["check", "--json", "--config", "lockgate.toml"];
    let output = Lockgate::run(folder.path(), &arguments).await;
    (
        output.status.code(),
        serde_json::from_slice(&output.stdout).unwrap_or_default(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

const TLS: &str = "[tls]\ndev_ca = true\n";

const TO: &str = "to = \"ws://127.0.0.1:1\"\n";
