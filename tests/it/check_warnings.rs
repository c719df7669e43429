//! The warnings of `lockgate check`: valid settings that probably do not do what was meant.

use crate::harness::Lockgate;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use std::{fs, path::PathBuf};
use tempfile::TempDir;

#[tokio::test]
async fn every_warning_has_its_line_and_a_hint() {
    let mut faults = vec![];
    for (text, line, word) in warned() {
        let (code, warnings, stderr) = check(&text).await;
        let is_found = warnings.iter().any(|warning| {
            warning["line"] == line
                && warning["severity"] == "warning"
                && warning["hint"].is_string()
                && warning["message"]
                    .as_str()
                    .is_some_and(|message| message.contains(word))
        });
        if code != Some(0) || warnings.len() != 1 || !is_found {
            faults.push(format!("{text}\n{word}: {code:?} {warnings:#?}\n{stderr}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

#[tokio::test]
async fn similar_settings_have_no_warning() {
    let mut faults = vec![];
    for text in silent() {
        let (code, warnings, stderr) = check(&text).await;
        if code != Some(0) || !warnings.is_empty() {
            faults.push(format!("{text}\n{code:?} {warnings:#?}\n{stderr}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

#[tokio::test]
async fn shipped_configurations_have_no_warning() {
    let examples = fs::read_dir("examples").expect("there").flatten();
    let examples = examples.map(|entry| entry.path().join("lockgate.toml"));
    let shipped = ["config/minimal.toml", "config/lockgate.toml"].map(PathBuf::from);
    for file in examples.filter(|file| file.exists()).chain(shipped) {
        let text = fs::read_to_string(&file).expect("readable");
        let (code, found, stderr) = check(&text).await;
        // `config/lockgate.toml` names files that exist only on a server.
        let warnings = found
            .iter()
            .filter(|diagnostic| diagnostic["severity"] == "warning");
        assert_eq!(warnings.count(), 0, "{}: {found:#?}", file.display());
        let is_complete = !file.ends_with("config/lockgate.toml");
        assert!(
            !is_complete || code == Some(0),
            "{}: {stderr}",
            file.display()
        );
    }
}

#[tokio::test]
async fn patterns_that_match_no_request_and_long_socket_paths_are_errors() {
    for pattern in ["/admin//*", "/a%2fb/*", "/a%5Cb", "/a%00", "/a/../b"] {
        let (code, found, stderr) = check(&route(&format!("path = \"{pattern}\"\n"))).await;
        assert_eq!(code, Some(64), "{pattern}: {stderr}");
        let at_path =
            |diagnostic: &Value| diagnostic["line"] == 5 && diagnostic["severity"] == "error";
        assert!(found.iter().any(at_path), "{pattern}: {found:#?}");
    }
    let long = format!("unix:/run/{}", "x".repeat(103));
    let (code, found, stderr) = check(&route("").replace("ws://127.0.0.1:1", &long)).await;
    assert_eq!(code, Some(64), "{stderr}");
    assert_eq!(found[0]["line"], 6, "{found:#?}");
}

#[tokio::test]
async fn warnings_are_printed_on_stderr_and_the_configuration_is_valid() {
    let folder = folder("");
    fs::write(
        folder.path().join("lockgate.toml"),
        route("path = \"~ /room\"\n"),
    )
    .expect("writable");
    let output = Lockgate::run(folder.path(), &["check", "--config", "lockgate.toml"]).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("warning: ") && stderr.contains("lockgate.toml:5"),
        "{stderr}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("is valid"));
}

/// Configurations, each with the line of its only warning and a word of its message.
fn warned() -> Vec<(String, u64, &'static str)> {
    let long = "x".repeat(101);
    vec![
        (
            server("admin_token = \"0123456789abcde\""),
            2,
            "admin_token",
        ),
        (
            server("trusted_proxies = [\"0.0.0.0/0\"]"),
            2,
            "trusted_proxies",
        ),
        (
            server("trusted_proxies = [\"10.0.0.0/8\", \"::/0\"]"),
            2,
            "::/0",
        ),
        (
            server("trusted_proxies = [\"128.0.0.0/1\"]"),
            2,
            "trusted_proxies",
        ),
        (
            server("trusted_proxies = [\"2000::/3\"]"),
            2,
            "trusted_proxies",
        ),
        (server(&format!("admin = \"unix:/run/{long}/a\"")), 2, "107"),
        (route("path = \"~ /room\"\n"), 5, "^"),
        (route("path = \"~ ^/a|/b\"\n"), 5, "^"),
        (route("path = \"~ ^/caf%C3%A9\"\n"), 5, "%C3"),
        (route("deny = [\"0.0.0.0/0\"]\n"), 5, "deny"),
        (route("deny = [\"::/0\"]\n"), 5, "deny"),
        (
            routes("path = \"/admin\"\ndeny = [\"192.0.2.0/24\"]\n", "", ""),
            6,
            "/admin/",
        ),
        (
            routes("path = \"/admin\"\nallow = [\"192.0.2.0/24\"]\n", "", ""),
            6,
            "/admin/",
        ),
        (
            routes(
                "path = \"/a/b\"\ndeny = [\"192.0.2.1\"]\n",
                "path = \"/a/*\"\n",
                "",
            ),
            6,
            "/a/b/",
        ),
        (
            routes(
                "path = \"/admin\"\ndeny = [\"192.0.2.1\"]\n",
                "path = \"~ ^/admin/$\"\n",
                "",
            ),
            6,
            "/admin/",
        ),
        (with_certificate("hosts = [\"*\"]\n"), 5, "same-host"),
        (
            route("origins = [\"same-host\", \"http://a.test\"]\n"),
            5,
            "http://a.test",
        ),
        (
            route("origins = [\"http://x.a.test\"]\n").replace("\"a.test\"", "\"*.a.test\""),
            5,
            "http://x.a.test",
        ),
    ]
}

/// Configurations without a warning, similar to those above.
fn silent() -> Vec<String> {
    let short = "x".repeat(100);
    vec![
        route(""),
        server("admin_token = \"0123456789abcdef\""),
        server("trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::/32\"]"),
        server("access = \"access.log\""),
        // Its lines wait for a reader, and the start does not.
        server("access = \"fifo\""),
        server("access = \"stdout\""),
        server(&format!("admin = \"unix:/run/{short}/a\"")),
        route("path = \"~ ^/room\"\n"),
        route("path = \"~ ^(/a|/b)$\"\n"),
        route("path = \"~ ^/100%\"\n"),
        route("path = \"/caf%C3%A9\"\n"),
        route("deny = [\"0.0.0.0/0\", \"::/0\"]\n"),
        route("deny = [\"0.0.0.0/0\"]\nallow = [\"10.0.0.0/8\"]\n"),
        route("deny = [\"10.0.0.0/8\"]\n"),
        route("path = \"/admin\"\ndeny = [\"192.0.2.1\"]\n"),
        routes("path = \"/admin\"\n", "", ""),
        routes("path = \"/admin/*\"\ndeny = [\"192.0.2.1\"]\n", "", ""),
        routes(
            "path = \"/admin\"\ndeny = [\"192.0.2.1\"]\n",
            "deny = [\"192.0.2.1\"]\n",
            "",
        ),
        routes(
            "path = \"/admin\"\ndeny = [\"192.0.2.1\"]\n",
            "path = \"/b/*\"\n",
            "",
        ),
        routes(
            "path = \"/admin\"\ndeny = [\"192.0.2.1\"]\n",
            "hosts = [\"b.test\"]\n",
            "",
        ),
        routes(
            "path = \"/admin\"\ndeny = [\"192.0.2.1\"]\n",
            "",
            "path = \"/admin/*\"\ndeny = [\"192.0.2.1\"]\n",
        ),
        with_certificate("hosts = [\"*\"]\norigins = [\"https://a.test\"]\n"),
        with_certificate("hosts = [\"*\"]\nonly = \"http\"\n"),
        route("").replace("\"a.test\"", "\"*\""),
        route("origins = [\"https://a.test\"]\n"),
        route("origins = [\"http://b.test\"]\n"),
        route("origins = [\"http://localhost:3000\"]\n").replace("\"a.test\"", "\"localhost\""),
    ]
}

/// A route with further lines, which begin at line 5.
fn route(lines: &str) -> String {
    format!(
        "[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\n{lines}to = \"ws://127.0.0.1:1\"\n"
    )
    .replace(
        "hosts = [\"a.test\"]\nto",
        "hosts = [\"a.test\"]\nname = \"only\"\nto",
    )
}

/// `[server]` with a line, which is the second.
fn server(line: &str) -> String {
    format!("[server]\n{line}\n{}", route(""))
}

/// A route with `first` from line 6 on, and others of the same host, unless they name another.
fn routes(first: &str, second: &str, third: &str) -> String {
    let hosts = |lines: &str| {
        if lines.contains("hosts") {
            ""
        } else {
            "hosts = [\"a.test\"]\n"
        }
    };
    let mut text = "[tls]\ndev_ca = true\n".to_owned();
    for (name, lines) in [("first", first), ("second", second), ("third", third)] {
        if name != "third" || !lines.is_empty() {
            text += &format!(
                "[[routes]]\nname = \"{name}\"\n{}{lines}to = \"ws://127.0.0.1:1\"\n",
                hosts(lines)
            );
        }
    }
    text
}

/// A route without the development CA; its lines begin at line 5.
fn with_certificate(lines: &str) -> String {
    format!(
        "[tls]\ncertificates = [{{ cert = \"a.pem\", key = \"a.key\" }}]\n[[routes]]\nto = \"ws://127.0.0.1:1\"\n{lines}"
    )
}

/// A folder with this configuration, a certificate and a FIFO.
fn folder(config: &str) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let pair = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
    for (file, text) in [
        ("lockgate.toml", config.to_owned()),
        ("a.pem", pair.cert.pem()),
        ("a.key", pair.signing_key.serialize_pem()),
    ] {
        fs::write(folder.path().join(file), text).expect("writable");
    }
    let fifo = folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
    folder
}

/// Returns the exit code, the warnings and stderr of `lockgate check`.
async fn check(config: &str) -> (Option<i32>, Vec<Value>, String) {
    let folder = folder(config);
    let arguments = ["check", "--json", "--config", "lockgate.toml"];
    let output = Lockgate::run(folder.path(), &arguments).await;
    (
        output.status.code(),
        serde_json::from_slice(&output.stdout).unwrap_or_default(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
