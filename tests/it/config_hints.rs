//! The first hint of an error in a configuration or a flag: it shows the line that was probably meant, and that line is
//! valid. An error that only follows from another one is not reported.

use crate::harness::Lockgate;
use serde_json::Value;
use std::{fs, path::Path};
use tempfile::TempDir;

/// Each line is wrong in one of the tables that [`complete`] makes; the second is in the hint, and valid.
#[tokio::test]
async fn hint_shows_the_line_that_was_meant() {
    let (mut faults, cases) = (vec![], MISTAKES.iter());
    assert!(MISTAKES.len() >= 40);
    for (table, wrong, right) in cases {
        let found = problems(&complete(table, wrong)).await;
        let is_hinted = found
            .first()
            .and_then(|problem| problem["hint"].as_str())
            .is_some_and(|hint| hint.contains(right));
        let has_line = found.first().is_some_and(|problem| problem["line"] == 2);
        if found.len() != 1 || !is_hinted || !has_line {
            faults.push(format!("[{table}] {wrong}: no `{right}` in {found:#?}"));
        }
        let rest = problems(&complete(table, right)).await;
        let errors = rest.iter().filter(|problem| problem["severity"] == "error");
        // Files that are named only here do not exist.
        let errors =
            errors.filter(|problem| !problem["message"].to_string().contains("there is no file"));
        if errors.count() > 0 {
            faults.push(format!("[{table}] `{right}` is not valid: {rest:#?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

/// Files in another format, or with a slip in TOML: the first hint has the line as it would be here.
#[tokio::test]
async fn file_in_another_format_is_answered_with_the_line_in_toml() {
    let mut faults = vec![];
    for (text, right) in [
        ("server:\n  https: [\"[::]:443\"]\n", "[server]"),
        (
            "routes:\n- hosts: [a.test]\n  to: ws://127.0.0.1:1\n",
            "[[routes]]",
        ),
        ("- hosts: [a.test]\n", "hosts = [\"a.test\"]"),
        ("{ \"server\": {} }\n", "[server]"),
        ("{\n  \"server\": {}\n}\n", "[server]"),
        ("server {\n  listen 443 ssl;\n}\n", "[[routes]]"),
        ("listen 443 ssl;\n", "https = [\"[::]:443\"]"),
        ("location /ws/ {\n", "path = \"/ws/*\""),
        (
            "proxy_pass http://127.0.0.1:8765;\n",
            "to = \"http://127.0.0.1:8765\"",
        ),
        (
            "[[routes]]\nto = ws://127.0.0.1:1\n",
            "to = \"ws://127.0.0.1:1\"",
        ),
        ("[[routes]]\nhosts = a.test\n", "hosts = [\"a.test\"]"),
        (
            "[[routes]]\nhosts = [a.test, b.test]\n",
            "hosts = [\"a.test\", \"b.test\"]",
        ),
        (
            "[[routes]]\nto = \"ws://127.0.0.1:1\n",
            "to = \"ws://127.0.0.1:1\"",
        ),
        (
            "[[routes]]\nto = “ws://127.0.0.1:1”\n",
            "to = \"ws://127.0.0.1:1\"",
        ),
        ("[tls]\ndev_ca = True\n", "dev_ca = true"),
        ("[tls]\ndev_ca: true\n", "dev_ca = true"),
        ("[limits]\nidle = 30s\n", "idle = \"30s\""),
        ("[server]\nhttps = [::]:443\n", "https = [\"[::]:443\"]"),
        ("[server\nhttps = []\n", "[server]"),
        ("[[routes]\n", "[[routes]]"),
    ] {
        let found = problems(text).await;
        let hint = found.first().and_then(|problem| problem["hint"].as_str());
        if !hint
            .is_some_and(|hint| hint.contains(&format!("write {right};")) && hint.contains("TOML"))
        {
            faults.push(format!("{text}: no `{right}` in {found:#?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

#[tokio::test]
async fn wrong_flag_is_answered_with_the_value_that_was_meant() {
    let mut faults = vec![];
    for (arguments, right) in [
        (&["run", "--to", "8765"][..], "\"ws://127.0.0.1:8765\""),
        (&["run", "--to", ":8765"], "\"ws://127.0.0.1:8765\""),
        (
            &["run", "--to", "localhost:8765"],
            "\"ws://localhost:8765\"",
        ),
        (&["run", "--to", "/run/app.sock"], "\"unix:/run/app.sock\""),
        (
            &["run", "--to", "ws://127.0.0.1:8765/ws"],
            "\"ws://127.0.0.1:8765\"",
        ),
        (
            &["run", "--to", "ws://127.0.0.1:8765", "--listen", "8443"],
            "\"[::]:8443\"",
        ),
        (
            &[
                "run",
                "--to",
                "ws://127.0.0.1:8765",
                "--listen",
                "localhost:8443",
            ],
            "\"127.0.0.1:8443\"",
        ),
        (
            &[
                "run",
                "--to",
                "ws://127.0.0.1:8765",
                "--host",
                "https://a.test/ws",
            ],
            "\"a.test\"",
        ),
        (
            &["run", "--to", "ws://127.0.0.1:8765", "--admin", "9180"],
            "\"127.0.0.1:9180\"",
        ),
    ] {
        let output = Lockgate::run(Path::new("/"), arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || !stderr.contains(right) {
            faults.push(format!("{arguments:?}: no {right} in {stderr}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

/// An invalid value counts as present: no second error follows from it.
#[tokio::test]
async fn error_that_follows_from_an_earlier_one_is_not_reported() {
    let mut faults = vec![];
    let route = "[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://127.0.0.1:1\"\n";
    let tls = "[tls]\ndev_ca = true\n";
    let with = |lines: &str| format!("{tls}{route}{lines}\n");
    let server = |lines: &str| format!("[server]\n{lines}\n{tls}{route}");
    let acme = |lines: &str| format!("[acme]\n{lines}\n{route}");
    for (text, count) in [
        (server("admin_token = \"${NOT_SET}\""), 1),
        (server("admin_token = \"${NOT_SET}\"\nadmin = \"off\""), 1),
        (
            format!("server.admin_token = \"${{NOT_SET}}\"\n{tls}{route}"),
            1,
        ),
        (
            format!("server = {{ admin_token = \"${{NOT_SET}}\" }}\n{tls}{route}"),
            1,
        ),
        (with("allow = [\"a\", \"b\", \"c\"]"), 3),
        (with("allow = [\"${NOT_SET}\"]"), 1),
        (with("allow = 3"), 1),
        (with("origins = [\"https://a/b\", \"${NOT_SET}\"]"), 2),
        (
            with("token = { from = [\"header:b\"], to = \"x-token\" }"),
            1,
        ),
        (
            with("client_cert = \"require\"")
                .replace("dev_ca = true", "dev_ca = true\nclient_ca = 3"),
            1,
        ),
        (
            with("pool = 3").replace("to = \"ws://127.0.0.1:1\"\n", ""),
            1,
        ),
        (with("").replace("\"a.test\"", "\"a:1\", \"b:1\""), 2),
        (
            format!(
                "{tls}{route}name = 3\n{}name = \"b\"\n",
                route.replace("a.test", "b.test")
            ),
            1,
        ),
        (server("https = [\"localhost:1\"]\nhttp = []"), 1),
        (server("https = 8443\nhttp = [\"[::]:443\"]"), 1),
        (
            server("cleartext = [\"127.0.0.1:8080\"]\ntrusted_proxies = [\"a\", \"b\", \"c\"]"),
            3,
        ),
        (
            server("proxy_protocol = \"require\"\ntrusted_proxies = [\"${NOT_SET}\"]"),
            1,
        ),
        (
            server("proxy_protocol = \"require\"\ntrusted_proxies = \"10.0.0.0/8\""),
            1,
        ),
        (acme("eab = { kid = \"a\", hmac = \"${NOT_SET}\" }"), 1),
        (acme("directory = \"zerossl\"\neab = 3"), 1),
        (acme("challenge = \"dns-01\"\ndns = \"/bin/true\""), 1),
        (
            format!(
                "[server]\nhttp = [\"80\"]\n{}",
                acme("challenge = \"http-01\"")
            ),
            1,
        ),
        (
            format!(
                "[server]\nhttps = [\"443\"]\n{}",
                acme("challenge = \"tls-alpn-01\"")
            ),
            1,
        ),
        (
            format!(
                "{tls}[pools.a]\nbackends = [{{ address = \"wss://a\", tls = {{ cert = 3, key = \"a.key\" }} }}]\n{}",
                route.replace("to = \"ws://127.0.0.1:1\"", "pool = \"a\"")
            ),
            1,
        ),
        (
            format!(
                "{tls}[pools.a]\nbackends = [\"a\", \"b\"]\n{}",
                route.replace("to = \"ws://127.0.0.1:1\"", "pool = \"a\"")
            ),
            2,
        ),
    ] {
        let found = problems(&text).await;
        if found.len() != count {
            faults.push(format!("{text}\nnot {count}: {found:#?}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

/// A configuration whose second line is `line`, in `table`, and that is valid without it.
fn complete(table: &str, line: &str) -> String {
    let required = [
        ("dev_ca", "tls", "dev_ca = true"),
        ("hosts", "[routes]", "hosts = [\"a.test\"]"),
        ("to =", "[routes]", "to = \"ws://127.0.0.1:1\""),
        (
            "backends",
            "pools.spare",
            "backends = [\"ws://127.0.0.1:1\"]",
        ),
    ];
    let mut text = format!("[{table}]\n{line}\n");
    for (key, of, value) in required {
        let is_written = line.starts_with(key) || key == "to =" && line.starts_with("pool");
        if of == table && !is_written {
            text += &format!("{value}\n");
        }
    }
    for (of, rest) in [
        ("tls", "[tls]\ndev_ca = true\n"),
        (
            "[routes]",
            "[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://127.0.0.1:1\"\n",
        ),
    ] {
        if of != table {
            text += rest;
        }
    }
    text
}

/// Returns what `lockgate check --json` reports.
async fn problems(config: &str) -> Vec<Value> {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("lockgate.toml"), config).expect("writable");
    let check = ["check", "--json", "--config", "lockgate.toml"];
    let output = Lockgate::run(folder.path(), &check).await;
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The table, the wrong line, and the line that the hint shows.
const MISTAKES: &[(&str, &str, &str)] = &[
    // Listeners and addresses.
    ("server", "http = \"off\"", "http = []"),
    ("server", "http = false", "http = []"),
    ("server", "https = 8443", "https = [\"[::]:8443\"]"),
    ("server", "https = \"8443\"", "https = [\"[::]:8443\"]"),
    ("server", "https = \":8443\"", "https = [\":8443\"]"),
    ("server", "https = [8443]", "https = [\"[::]:8443\"]"),
    ("server", "https = [\"8443\"]", "https = [\"[::]:8443\"]"),
    (
        "server",
        "https = [\"127.0.0.1:9443\", \"localhost:8443\"]",
        "https = [\"127.0.0.1:9443\", \"127.0.0.1:8443\"]",
    ),
    (
        "server",
        "https = [\"0.0.0.0\"]",
        "https = [\"0.0.0.0:443\"]",
    ),
    ("server", "https = [\"443 ssl\"]", "https = [\"[::]:443\"]"),
    (
        "server",
        "https = [\"https://0.0.0.0:443/\"]",
        "https = [\"0.0.0.0:443\"]",
    ),
    ("server", "https = true", "https = [\"[::]:443\"]"),
    ("server", "admin = 9180", "admin = \"127.0.0.1:9180\""),
    ("server", "admin = false", "admin = \"off\""),
    (
        "server",
        "admin = \"localhost:9180\"",
        "admin = \"127.0.0.1:9180\"",
    ),
    (
        "server",
        "admin = \"/run/lockgate.sock\"",
        "admin = \"unix:/run/lockgate.sock\"",
    ),
    ("server", "metrics = 9181", "metrics = \"[::]:9181\""),
    ("server", "metrics = true", "metrics = \"127.0.0.1:9181\""),
    ("server", "access = false", "access = \"off\""),
    (
        "server",
        "trusted_proxies = \"10.0.0.1\"",
        "trusted_proxies = [\"10.0.0.1\"]",
    ),
    (
        "server",
        "trusted_proxies = [\"10.0.0.0/255.0.0.0\"]",
        "trusted_proxies = [\"10.0.0.0/8\"]",
    ),
    (
        "server",
        "trusted_proxies = [\"10.0.*\"]",
        "trusted_proxies = [\"10.0.0.0/16\"]",
    ),
    ("server", "h2_websocket = \"off\"", "h2_websocket = false"),
    ("server", "h2_websocket = 1", "h2_websocket = true"),
    ("server", "log = \"debug\"", "log = { level = \"debug\" }"),
    // Numbers, durations, sizes, rates.
    ("limits", "connections = \"100\"", "connections = 100"),
    ("limits", "connections = 1e3", "connections = 1000"),
    ("limits", "connections = -1", "connections = 0"),
    ("limits", "connections = \"unlimited\"", "connections = 0"),
    ("limits", "idle = 30", "idle = \"30s\""),
    ("limits", "idle = \"30\"", "idle = \"30s\""),
    ("limits", "idle = \"30 seconds\"", "idle = \"30s\""),
    ("limits", "idle = \"1m30s\"", "idle = \"90s\""),
    ("limits", "idle = 1.5", "idle = \"1500ms\""),
    ("limits", "idle = true", "idle = \"60s\""),
    ("limits", "head_size = 16384", "head_size = \"16KiB\""),
    ("limits", "head_size = \"16k\"", "head_size = \"16KiB\""),
    ("limits", "accepts_per_ip = 10", "accepts_per_ip = \"10/s\""),
    (
        "limits",
        "accepts_per_ip = \"10r/s\"",
        "accepts_per_ip = \"10/s\"",
    ),
    ("tls", "dev_ca = \"yes\"", "dev_ca = true"),
    ("tls", "min_version = 1.2", "min_version = \"1.2\""),
    // Pools.
    (
        "pools.spare",
        "backends = \"127.0.0.1:1\"",
        "backends = [\"ws://127.0.0.1:1\"]",
    ),
    (
        "pools.spare",
        "backends = 8765",
        "backends = [\"ws://127.0.0.1:8765\"]",
    ),
    (
        "pools.spare",
        "backends = [8765, \"ws://a\"]",
        "backends = [\"ws://127.0.0.1:8765\", \"ws://a\"]",
    ),
    (
        "pools.spare",
        "backends = [\"ws://a:1/ws\"]",
        "backends = [\"ws://a:1\"]",
    ),
    (
        "pools.spare",
        "backends = [\"tcp://a:1\"]",
        "backends = [\"ws://a:1\"]",
    ),
    (
        "pools.spare",
        "backends = [\"unix:run/a.sock\"]",
        "backends = [\"unix:/run/a.sock\"]",
    ),
    (
        "pools.spare",
        "connect_timeout = 2",
        "connect_timeout = \"2s\"",
    ),
    ("pools.spare", "rebalance = false", "rebalance = \"off\""),
    ("pools.spare", "rebalance = 50", "rebalance = \"50/s\""),
    ("pools.spare", "sticky = true", "sticky = \"cookie\""),
    // Routes.
    (
        "[routes]",
        "hosts = \"a.test, b.test\"",
        "hosts = [\"a.test\", \"b.test\"]",
    ),
    (
        "[routes]",
        "hosts = [\"https://a.test/ws\"]",
        "hosts = [\"a.test\"]",
    ),
    (
        "[routes]",
        "hosts = [\"a.test:443\"]",
        "hosts = [\"a.test\"]",
    ),
    (
        "[routes]",
        "hosts = [\".a.test\"]",
        "hosts = [\"*.a.test\"]",
    ),
    ("[routes]", "hosts = [\"\"]", "hosts = [\"*\"]"),
    ("[routes]", "to = 8765", "to = \"ws://127.0.0.1:8765\""),
    (
        "[routes]",
        "to = \"localhost:8765\"",
        "to = \"ws://localhost:8765\"",
    ),
    ("[routes]", "to = [\"ws://a:1\"]", "to = \"ws://a:1\""),
    ("[routes]", "to = \"ws://a:1/ws\"", "to = \"ws://a:1\""),
    ("[routes]", "path = [\"/ws\"]", "path = \"/ws\""),
    ("[routes]", "path = 3", "path = \"/3\""),
    ("[routes]", "name = 1", "name = \"1\""),
    ("[routes]", "origins = \"*\"", "origins = [\"*\"]"),
    (
        "[routes]",
        "origins = [\"https://a.test/x\"]",
        "origins = [\"https://a.test\"]",
    ),
    (
        "[routes]",
        "allow = [\"10.0.*\"]",
        "allow = [\"10.0.0.0/16\"]",
    ),
    ("[routes]", "deny = \"none\"", "deny = []"),
    ("[routes]", "tap = \"true\"", "tap = true"),
    ("[routes]", "only = true", "only = \"any\""),
    (
        "[routes]",
        "token = \"query:token\"",
        "token = { from = [\"query:token\"] }",
    ),
    (
        "[routes]",
        "subprotocols = \"chat\"",
        "subprotocols = [\"chat\"]",
    ),
];
