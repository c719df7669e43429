//! Valid and invalid configurations, as the binary reports them.

use crate::harness::{Lockgate, program::USERS};
use serde_json::Value;
use std::{fs, path::Path};
use tempfile::TempDir;

#[tokio::test]
async fn invalid_configuration_is_reported_with_position_and_hint() {
    assert!(INVALID.len() >= 60, "{} cases", INVALID.len());
    let mut faults = vec![];
    for (text, place, message, hint) in INVALID {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("lockgate.toml");
        fs::write(&file, text).expect("writable");
        let path = file.to_str().expect("UTF-8");

        // `run` reports the error and starts nothing.
        let run = Lockgate::run(folder.path(), &["run", "--config", path]).await;
        let stderr = String::from_utf8_lossy(&run.stderr);
        let has_place = stderr.contains(&format!("{path}:{place}\n"));
        if run.status.code() != Some(64)
            || !has_place
            || stderr.contains("panicked")
            || stderr.contains(" ready ")
        {
            faults.push(format!(
                "{text}\nrun: {:?}, no {place} in\n{stderr}",
                run.status
            ));
        }

        // `check --json` reports the same.
        let check = Lockgate::run(folder.path(), &["check", "--json", "--config", path]).await;
        let problems: Vec<Value> = serde_json::from_slice(&check.stdout).unwrap_or_default();
        let place_of = |problem: &Value| format!("{}:{}", problem["line"], problem["column"]);
        let reported = problems.iter().any(|problem| {
            place_of(problem) == *place
                && problem["message"]
                    .as_str()
                    .is_some_and(|text| text.contains(message))
                && problem["hint"]
                    .as_str()
                    .is_some_and(|text| text.contains(hint))
        });
        let hinted = problems.iter().all(|problem| {
            let hint = problem["hint"].as_str();
            hint.is_some_and(|hint| !hint.contains("``"))
        });
        if check.status.code() != Some(64) || !reported || !hinted {
            faults.push(format!(
                "{text}\ncheck: no {place} {message:?} {hint:?} in {problems:#?}"
            ));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

#[tokio::test]
async fn secret_is_redacted_in_a_reported_line() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("lockgate.toml");
    for line in [
        "eab = { kid = \"a\", hmac = \"c2Vjc+V0\" }",
        "eab = { kid = \"a\", hmac = 'c2Vjc+V0' }",
        "eab = { kid = 3, hmac = \"c2Vjc+V0\" }",
    ] {
        fs::write(&file, format!("[acme]\n{line}\n")).expect("writable");
        let path = file.to_str().expect("UTF-8");
        let check = Lockgate::run(folder.path(), &["check", "--config", path]).await;
        let stderr = String::from_utf8_lossy(&check.stderr);
        assert!(
            !stderr.contains("c2Vjc") && stderr.contains("***"),
            "{stderr}"
        );
    }
}

#[tokio::test]
async fn all_errors_are_reported_at_once() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("lockgate.toml");
    fs::write(&file, "[server]\nhtps = []\n[limits]\nidle = 3\n[[routes]]\nhosts = [\"a:1\", \"b\", \"c/d\"]\nto = \"b\"\n").expect("writable");
    let check = Lockgate::run(
        folder.path(),
        &["check", "--json", "--config", "lockgate.toml"],
    )
    .await;
    let problems: Vec<Value> = serde_json::from_slice(&check.stdout).expect("JSON");
    let lines: Vec<_> = problems
        .iter()
        .map(|problem| problem["line"].as_u64())
        .collect();
    assert_eq!(
        lines,
        [Some(2), Some(4), Some(6), Some(6), Some(7)],
        "{problems:#?}"
    );
}

/// One mistake is one error, without those that follow from it.
#[tokio::test]
async fn one_mistake_is_reported_once() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("lockgate.toml");
    let route = "[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://127.0.0.1:1\"\n";
    for (text, line, message) in [
        (
            "[limits]\nidle = \"1s\"\nbody_idle = \"1s\"\n[limits]\nidle = \"1s\"\nbody_idle = \"1s\"\n".to_owned(),
            4,
            "`[limits]` is already at line 1",
        ),
        (
            format!("[tls]\ndev_ca = true\n[pools.a]\nbackend = [\"ws://127.0.0.1:1\"]\n{route}"),
            4,
            "unknown key `backend`",
        ),
        (
            format!("[server]\nadmin_token = \"${{UNSET}}\"\n[tls]\ndev_ca = true\n{route}"),
            2,
            "UNSET is not set",
        ),
        (
            format!("[tls]\ndev_ca = true\n{}", route.replace("a.test", "${UNSET}")),
            4,
            "UNSET is not set",
        ),
        (
            format!("[tls]\ndev_ca = true\n{}", route.replace("ws://127.0.0.1:1", "${UNSET}")),
            5,
            "UNSET is not set",
        ),
    ] {
        fs::write(&file, &text).expect("writable");
        let check = ["check", "--json", "--config", "lockgate.toml"];
        let check = Lockgate::run(folder.path(), &check).await;
        let problems: Vec<Value> = serde_json::from_slice(&check.stdout).expect("JSON");
        assert_eq!(problems.len(), 1, "{text}\n{problems:#?}");
        assert_eq!(problems[0]["line"], line, "{text}\n{problems:#?}");
        let shown = problems[0]["message"].as_str().expect("a text");
        assert!(shown.contains(message), "{text}\n{shown}");
    }
}

#[tokio::test]
async fn certificate_errors_show_the_file_and_the_names() {
    let folder = TempDir::new().expect("a temporary folder");
    let pair = rcgen::generate_simple_self_signed(["b.test".to_owned()]).expect("a certificate");
    let config = "[tls]\ncertificates = [{ cert = \"b.pem\", key = \"b.key\" }]\n\
         [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://127.0.0.1:1\"\n";
    for (file, text) in [
        ("lockgate.toml", config.to_owned()),
        ("b.pem", pair.cert.pem()),
        ("b.key", pair.signing_key.serialize_pem()),
    ] {
        fs::write(folder.path().join(file), text).expect("writable");
    }
    let check = ["check", "--json", "--config", "lockgate.toml"];
    let report = async || {
        let check = Lockgate::run(folder.path(), &check).await;
        let problems: Vec<Value> = serde_json::from_slice(&check.stdout).expect("JSON");
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems[0].clone()
    };
    let problem = report().await;
    assert!(problem["hint"].to_string().contains("b.test"), "{problem}");
    fs::remove_file(folder.path().join("b.key")).expect("ours");
    let problem = report().await;
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&2.into(), &41.into()),
        "{problem}"
    );
    let path = folder.path().join("b.key").display().to_string();
    assert!(problem["message"].to_string().contains(&path), "{problem}");
}

#[tokio::test]
async fn unreadable_files_are_reported() {
    let folder = TempDir::new().expect("a temporary folder");
    fs::create_dir(folder.path().join("folder")).expect("writable");
    fs::write(folder.path().join("latin1.toml"), b"# caf\xe9\n").expect("writable");
    fs::write(
        folder.path().join("deep.toml"),
        format!("a = {}", "[".repeat(100_000)),
    )
    .expect("writable");
    fs::write(
        folder.path().join("loop.toml"),
        "include = [\"loop.toml\"]\n",
    )
    .expect("writable");
    fs::write(
        folder.path().join("gone.toml"),
        "include = [\"nowhere.toml\"]\n",
    )
    .expect("writable");
    for (file, text) in [
        ("nowhere.toml", "cannot read nowhere.toml"),
        ("folder", "folder is not a file"),
        ("latin1.toml", "latin1.toml:1:6"),
        ("deep.toml", "deep.toml:1:"),
        ("loop.toml", "loop.toml:1:12"),
        ("gone.toml", "gone.toml:1:12"),
    ] {
        let check = Lockgate::run(folder.path(), &["check", "--config", file]).await;
        let stderr = String::from_utf8_lossy(&check.stderr);
        assert_eq!(check.status.code(), Some(64), "{file}: {stderr}");
        assert!(
            stderr.contains(text) && stderr.contains("help: "),
            "{file}: {stderr}"
        );
    }
}

#[tokio::test]
async fn includes_are_read_in_order_and_reject_duplicate_sections() {
    let folder = TempDir::new().expect("a temporary folder");
    fs::create_dir(folder.path().join("conf.d")).expect("writable");
    let write =
        |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("writable");
    write(
        "lockgate.toml",
        "include = [\"conf.d/*.toml\", \"none/*.toml\", \"*.toml\"]\n[tls]\ndev_ca = true\n",
    );
    write(
        "conf.d/a.toml",
        "[[routes]]\nname = \"a\"\nhosts = [\"${HOST_A:-a.test}\"]\npool = \"p\"\n",
    );
    write(
        "conf.d/b.toml",
        "[pools.p]\nbackends = [\"ws://127.0.0.1:1\"]\n[[routes]]\nname = \"b\"\nhosts = [\"b.test\"]\npool = \"p\"\n",
    );
    let check = Lockgate::run(folder.path(), &["check", "--config", "lockgate.toml"]).await;
    let stdout = String::from_utf8_lossy(&check.stdout);
    assert!(
        check.status.success() && stdout.contains("2 routes"),
        "{stdout}{}",
        String::from_utf8_lossy(&check.stderr)
    );

    write(
        "conf.d/c.toml",
        "[tls]\ndev_ca = false\nmin_version = \"1.3\"\n",
    );
    let check = Lockgate::run(folder.path(), &["check", "--config", "lockgate.toml"]).await;
    let stderr = String::from_utf8_lossy(&check.stderr);
    assert!(
        stderr.contains("conf.d/c.toml:1:1") && stderr.contains("lockgate.toml:2"),
        "{stderr}"
    );
}

#[tokio::test]
async fn schema_and_reference_are_up_to_date() {
    for (arguments, file) in [
        (&["schema"][..], "config/schema.json"),
        (&["schema", "--markdown"][..], "config/reference.md"),
    ] {
        let generated = Lockgate::run(Path::new("."), arguments).await;
        let current = fs::read_to_string(file).unwrap_or_default();
        let command = format!("lockgate {} > {file}", arguments.join(" "));
        assert!(
            String::from_utf8_lossy(&generated.stdout) == current,
            "{file} is stale: {command}"
        );
    }
}

#[tokio::test]
async fn check_writes_no_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let config =
        "[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://127.0.0.1:1\"\n";
    std::fs::write(folder.path().join("lockgate.toml"), config).expect("writable");
    let check = ["check", "--config", "lockgate.toml"];
    let check = Lockgate::run(folder.path(), &check).await;
    assert!(check.status.success(), "{check:?}");
    let entries: Vec<_> = std::fs::read_dir(folder.path())
        .expect("readable")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(entries, ["lockgate.toml"]);
}

#[tokio::test]
async fn shipped_configurations_are_valid() {
    let folder = TempDir::new().expect("a temporary folder");
    let mut seen = 0;
    for file in fs::read_dir("config").expect("it is there").flatten() {
        let path = file.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            // With the file of users that it names.
            fs::copy(&path, folder.path().join("shipped.toml")).expect("writable");
            fs::write(folder.path().join("users.htpasswd"), USERS).expect("writable");
            let check = Lockgate::run(folder.path(), &["check", "shipped.toml"]).await;
            assert!(
                check.status.success(),
                "{}: {}",
                path.display(),
                String::from_utf8_lossy(&check.stderr)
            );
            seen += 1;
        }
    }
    assert!(seen >= 2);
}

/// `config/lockgate.toml` has every key; values without the comment "example" are the defaults.
#[test]
fn annotated_configuration_has_every_key_and_default() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string("config/schema.json").expect("there"))
            .expect("JSON");
    let text = fs::read_to_string("config/lockgate.toml").expect("there");
    let shown: Value =
        serde_json::to_value(text.parse::<toml::Table>().expect("TOML")).expect("as JSON");
    let examples: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("# example"))
        .filter_map(|line| line.split([' ', '=']).next())
        .collect();
    // The keys of all backends together; no single backend uses all of them.
    let backends = shown["pools"]["chat"]["backends"]
        .as_array()
        .expect("a list");
    let backends = backends.iter().filter_map(Value::as_object).flatten();
    let backend = backends
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let backend = Value::Object(backend);
    let mut keys = 0;
    for (section, at) in [
        ("Server", &shown["server"]),
        ("Limits", &shown["limits"]),
        ("Drain", &shown["drain"]),
        ("Tls", &shown["tls"]),
        ("Acme", &shown["acme"]),
        ("Session", &shown["session"]),
        ("Pool", &shown["pools"]["chat"]),
        ("Backend", &backend),
        ("BackendTls", &shown["pools"]["chat"]["backends"][3]["tls"]),
        ("Health", &shown["pools"]["chat"]["health"]),
        ("Passive", &shown["pools"]["chat"]["passive"]),
        ("Route", &shown["routes"][0]),
    ] {
        for (key, property) in schema["$defs"][section]["properties"]
            .as_object()
            .expect("keys")
        {
            // The second route has it.
            if key == "to" {
                continue;
            }
            keys += 1;
            let value = at
                .get(key)
                .unwrap_or_else(|| panic!("{section} {key} is not shown"));
            if let Some(default) = property.get("default")
                && !default.is_null()
                && !examples.contains(&key.as_str())
            {
                assert!(
                    same(value, default),
                    "{section} {key}: {value} is shown, {default} is the default"
                );
            }
        }
    }
    assert!(keys > 40, "{keys}");
}

/// Compares two values; keys that are absent or `null` in a table have their default.
fn same(shown: &Value, default: &Value) -> bool {
    match (shown, default) {
        (Value::Object(shown), Value::Object(default)) => shown
            .iter()
            .all(|(key, value)| default.get(key).is_some_and(|default| same(value, default))),
        _ => shown == default,
    }
}

/// The text, line:column, a part of the message, a part of the hint.
const INVALID: &[(&str, &str, &str, &str)] = &[
    // Not TOML.
    ("[server\n", "1:8", "", "TOML"),
    ("a = \n", "1:5", "", "TOML"),
    ("= 1\n", "1:1", "", "TOML"),
    (
        "[limits]\nidle = \"30s\nbody_idle = \"1s\"\n",
        "2:12",
        "",
        "TOML",
    ),
    (
        "[limits]\nidle = \"30s\"\nidle = \"31s\"\n",
        "3:1",
        "`idle` is already at line 2",
        "keep one",
    ),
    (
        "[server]\n[server]\n",
        "2:2",
        "`[server]` is already at line 1",
        "keep one",
    ),
    (
        "[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://b:1\"\nframework = \"zzzzzzzz\"\n",
        "6:13",
        "not one of",
        "`websockets`",
    ),
    // Unknown keys.
    (
        "[sever]\n",
        "1:2",
        "unknown key `sever`",
        "did you mean `server`?",
    ),
    (
        "[acme]\ncontact = \"a@b\"\n",
        "2:11",
        "`a@b` is not a mail address",
        "ops@example.com",
    ),
    (
        "[acme]\ndirectory = \"http://ca.test/dir\"\n",
        "2:13",
        "ACME runs over https only",
        "acme.ca_file",
    ),
    (
        "[acme]\ndirectory = \"zerossl\"\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\n",
        "2:1",
        "takes no account without external binding",
        "EAB_HMAC",
    ),
    (
        "[acme]\neab = { kid = \"a\" }\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\n",
        "2:1",
        "requires both `kid` and `hmac`",
        "not set counts as empty",
    ),
    (
        "[acme]\neab = { kid = \"a\", hmac = \"a b\" }\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\n",
        "2:1",
        "not base64url",
        "letters, digits",
    ),
    (
        "[acme]\nchallenge = \"dns-01\"\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\n",
        "2:1",
        "nothing that could change DNS",
        "present",
    ),
    (
        "[server]\nhttp = []\n[acme]\nchallenge = \"http-01\"\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\n",
        "4:1",
        "no clear-text listener",
        "[::]:80",
    ),
    (
        "[acme]\nretry = \"0s\"\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\n",
        "2:1",
        "is too short",
        "at least",
    ),
    (
        "[acme]\nca_file = \"none.pem\"\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\n",
        "1:1",
        "acme.ca_file",
        "public CAs",
    ),
    (
        "[acme]\ndns = { present = \"none\", cleanup = \"/bin/true\" }\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\n",
        "1:1",
        "acme.dns.present",
        "chmod +x",
    ),
    (
        "[acme]\n[[routes]]\nhosts = [\"*.a.test\"]\nto = \"ws://a\"\n",
        "2:1",
        "has no certificate",
        "wildcards only with acme.dns",
    ),
    (
        "[acme]\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\nacme = false\n",
        "2:1",
        "has no certificate",
        "acme = false",
    ),
    (
        "[drian]\n",
        "1:2",
        "unknown key `drian`",
        "did you mean `drain`?",
    ),
    (
        "[server]\nhtps = []\n",
        "2:1",
        "unknown key `htps`",
        "did you mean `https`?",
    ),
    (
        "[tls]\nclient_auth = \"x\"\n",
        "2:1",
        "unknown key `client_auth`",
        "the keys here are",
    ),
    (
        "[session]\nmax_quiet = \"1s\"\n",
        "2:1",
        "unknown key `max_quiet`",
        "the keys here are",
    ),
    (
        "[session]\nping = { every = \"1s\" }\n",
        "2:10",
        "unknown key `every`",
        "the keys here are",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nbalanc = \"hash\"\n",
        "3:1",
        "unknown key `balanc`",
        "did you mean `balance`?",
    ),
    (
        "[[routes]]\nhost = [\"a\"]\nto = \"ws://a\"\n",
        "2:8",
        "`host` is the Host that backends receive",
        "did you mean `hosts`",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nacmee = true\n",
        "4:1",
        "unknown key `acmee`",
        "did you mean `acme`?",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nsession = { max_mesage = \"1B\" }\n",
        "4:13",
        "unknown key `max_mesage`",
        "did you mean `max_message`?",
    ),
    // Values of the wrong kind.
    (
        "[server]\nhttps = \"[::]:443\"\n",
        "2:9",
        "is not allowed here",
        "write https = [\"[::]:443\"]",
    ),
    (
        "[server]\nlog = \"info\"\n",
        "2:7",
        "is not allowed here",
        "log = { level = \"info\" }",
    ),
    // Right, but in another form.
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a:1\"\ntoken = [\"query:token\"]\n",
        "4:9",
        "a list is not allowed here",
        "write token = { from = [\"query:token\"] }",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a:1\"\ntoken = \"query:token\"\n",
        "4:9",
        "string \"query:token\" is not allowed here",
        "write token = { from = [\"query:token\"] }",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a:1\"\ntoken = { from = \"query:token\" }\n",
        "4:18",
        "is not allowed here",
        "write from = [\"query:token\"]",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a:1\"\nheaders = \"x-version: 2\"\n",
        "4:11",
        "is not allowed here",
        "headers = { name = \"value\" }",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a:1\"]\nsticky = true\n",
        "3:10",
        "boolean `true` is not allowed here",
        "write sticky = \"cookie\", or \"socketio\"",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a:1\"]\nsticky = false\n",
        "3:10",
        "boolean `false` is not allowed here",
        "write sticky = \"off\"",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a:1\"]\nhealth = true\n",
        "3:10",
        "is not allowed here",
        "write health = { check = \"websocket\" }",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a:1\"]\nretry = 3\n",
        "3:9",
        "integer `3` is not allowed here",
        "write retry = { times = 3 }",
    ),
    (
        "[pools]\na = \"ws://a:1\"\n",
        "2:5",
        "is not allowed here",
        "write a = { backends = [\"ws://a:1\"] }",
    ),
    (
        "[[pools.a]]\nbackends = [\"ws://a:1\"]\n",
        "1:1",
        "a list is not allowed here",
        "write a section: [pools.a]",
    ),
    (
        "[session]\nping = \"off\"\n",
        "2:8",
        "string \"off\" is not allowed here",
        "write ping = { legs = \"off\" }",
    ),
    (
        "[session]\nping = false\n",
        "2:8",
        "boolean `false` is not allowed here",
        "write ping = { legs = \"off\" }",
    ),
    (
        "[session]\nping = \"30s\"\n",
        "2:8",
        "is not allowed here",
        "such as ping = { interval = \"30s\", ",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a:1\"\nsession = { ping = \"off\" }\n",
        "4:20",
        "is not allowed here",
        "write ping = { legs = \"off\" }",
    ),
    // The values of a table, without their keys.
    (
        "[server]\nlog = [\"debug\", \"json\"]\n",
        "2:7",
        "a list is not allowed here",
        "log = { format = \"text\", level = \"info\" }",
    ),
    (
        "[routes]\nhosts = [\"a\"]\nto = \"ws://a:1\"\n",
        "1:1",
        "a table is not allowed here",
        "write [[routes]], in double brackets",
    ),
    (
        "[[session]]\nmax_age = \"1h\"\n",
        "1:1",
        "a list is not allowed here",
        "write a section: [session]",
    ),
    (
        "[tls]\nmin_version = 1.3\n",
        "2:15",
        "float `1.3` is not allowed here",
        "write min_version = \"1.3\"",
    ),
    (
        "[server]\nlog = { level = \"loud\" }\n",
        "2:17",
        "`loud`",
        "`debug`",
    ),
    (
        "[server]\nproxy_protocol = \"on\"\n",
        "2:18",
        "`on`",
        "`require`",
    ),
    (
        "[limits]\nconnections = \"1\"\n",
        "2:15",
        "is not allowed here",
        "whole number",
    ),
    (
        "[limits]\nconnections = -1\n",
        "2:15",
        "is not allowed here",
        "whole number",
    ),
    (
        "[limits]\nconnections = 1.5\n",
        "2:15",
        "is not allowed here",
        "whole number",
    ),
    (
        "[limits]\nsessions = 99999999999\n",
        "2:12",
        "is not allowed here",
        "whole number",
    ),
    (
        "[limits]\nidle = 30\n",
        "2:8",
        "integer `30` is not allowed here",
        "idle = \"30s\"",
    ),
    (
        "[limits]\nidle = \"30\"\n",
        "2:8",
        "`30` is not a length of time",
        "\"30s\"",
    ),
    (
        "[limits]\nidle = \"-1s\"\n",
        "2:8",
        "is not a length of time",
        "\"30s\"",
    ),
    ("[limits]\nidle = \"1000d\"\n", "2:8", "is too long", "365d"),
    (
        "[limits]\nidle = \"0s\"\n",
        "2:1",
        "leaves no time",
        "such as \"10s\"",
    ),
    (
        "[limits]\nhead_size = \"16kb\"\n",
        "2:13",
        "is not a number of bytes",
        "64KiB",
    ),
    (
        "[limits]\nhead_size = \"16B\"\n",
        "2:1",
        "out of range",
        "1KiB",
    ),
    (
        "[limits]\naccepts_per_ip = \"10\"\n",
        "2:18",
        "is not a rate",
        "10/s",
    ),
    ("[tls]\nmin_version = \"1.1\"\n", "2:15", "`1.1`", "`1.2`"),
    (
        "[tls]\ndev_ca = \"yes\"\n",
        "2:10",
        "is not allowed here",
        "true or false",
    ),
    (
        "[tls]\ncertificates = [{ cert = \"a.pem\" }]\n",
        "2:17",
        "`key` is missing",
        "private key",
    ),
    (
        "[session]\nping = { legs = \"none\" }\n",
        "2:17",
        "`none`",
        "`off`",
    ),
    (
        "[session]\nping = { interval = \"0s\" }\n",
        "2:1",
        "leaves no time",
        "such as",
    ),
    (
        "[session]\nmax_message = \"0B\"\n",
        "2:1",
        "no message",
        "64MiB",
    ),
    (
        "[session]\nbackend_gone_code = 1006\n",
        "2:1",
        "must not be sent",
        "1011",
    ),
    (
        "[session]\nbackend_gone_code = 70000\n",
        "2:21",
        "is not allowed here",
        "65535",
    ),
    (
        "[session]\nclose_timeout = \"0s\"\n",
        "2:1",
        "leaves no time",
        "such as",
    ),
    // Addresses and patterns.
    (
        "[server]\nhttps = [\"localhost:443\"]\n",
        "2:10",
        "is not an address and a port",
        "names are not resolved",
    ),
    (
        "[server]\nhttps = [\"[::]:443\", \"0.0.0.0:70000\"]\n",
        "2:22",
        "is not an address and a port",
        "[::]:443",
    ),
    (
        "[server]\nadmin = \"0.0.0.0:9180\"\n",
        "2:9",
        "other machines",
        "server.metrics",
    ),
    (
        "[server]\nadmin = \"unix:run/x\"\n",
        "2:9",
        "whole path",
        "unix:/run",
    ),
    (
        "[server]\nmetrics = \"on\"\n",
        "2:11",
        "is not an address",
        "8443",
    ),
    (
        "[server]\ntrusted_proxies = [\"10.0.0.0/33\"]\n",
        "2:20",
        "is not a network",
        "10.0.0.0/8",
    ),
    (
        "[server]\nproxy_protocol = \"require\"\n",
        "2:1",
        "no proxy is trusted",
        "trusted_proxies",
    ),
    (
        "[server]\nhttps = [\"[::]:8443\"]\nhttp = [\"0.0.0.0:8443\"]\n",
        "3:9",
        "is taken by server.https, [::]:8443",
        "address of its own",
    ),
    (
        "[server]\nhttps = [\"127.0.0.1:8443\"]\nhttp = [\"127.0.0.1:8443\"]\n",
        "3:9",
        "is taken by server.https",
        "its own",
    ),
    (
        "[server]\nhttps = []\nhttp = []\n",
        "2:1",
        "no listeners",
        "[::]:443",
    ),
    (
        "[pools.a]\nbackends = [\"127.0.0.1:1\"]\n",
        "2:13",
        "does not begin with ws://",
        "ws://127.0.0.1:1",
    ),
    (
        "[pools.a]\nbackends = [\"ftp://a\"]\n",
        "2:13",
        "`ftp://` is not supported",
        "ws://",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a/path\"]\n",
        "2:13",
        "path",
        "ws://127.0.0.1:8765",
    ),
    (
        "[pools.a]\nbackends = []\n",
        "2:1",
        "has no backends",
        "at least one",
    ),
    (
        "[pools.a]\n",
        "1:1",
        "`backends` is missing",
        "backends = [",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nbalance = \"least-session\"\n",
        "3:11",
        "`least-session`",
        "did you mean `least-sessions`?",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nhash = \"header:\"\n",
        "3:8",
        "not a header name",
        "header:x-user",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nhash = \"body\"\n",
        "3:8",
        "no such part",
        "cookie:sid",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\", { weight = 2 }]\n",
        "2:23",
        "`address` is missing",
        "address = ",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"a:1\" }]\n",
        "2:25",
        "does not begin with ws://",
        "ws://a:1",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"ws://a\", wieght = 2 }]\n",
        "2:35",
        "unknown key `wieght`",
        "did you mean `weight`?",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"ws://a\", weight = 0 }]\n",
        "2:35",
        "weight = 0 is out of range",
        "lockgate drain",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"ws://a\", weight = -1 }]\n",
        "2:44",
        "-1",
        "a whole number",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"ws://a\", max_sessions = \"many\" }]\n",
        "2:50",
        "many",
        "a whole number",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nretry = { times = 101 }\n",
        "3:1",
        "pools.a.retry.times = 101 is out of range",
        "between 0 and 100",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nretry = { within = \"0s\" }\n",
        "3:1",
        "leaves no time at all",
        "\"10s\"",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nadmission = { wait = \"0s\" }\n",
        "3:1",
        "leaves no time at all",
        "queue = 0 disables the queue",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nadmission = { queue = 1_000_001 }\n",
        "3:1",
        "is out of range",
        "between 0 and 1000000",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nadmission = { handshake = 3 }\n",
        "3:15",
        "unknown key `handshake`",
        "did you mean `handshakes`?",
    ),
    (
        "[pools.a]\nbackends = [7]\n",
        "2:13",
        "7",
        "backends = [\"ws://127.0.0.1:7\"]",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\", { address = \"http://A:80\", weight = 2 }]\n",
        "2:23",
        "`ws://a:80` is listed twice in the pool `a`",
        "weight = 2",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"ws://a\", resolve = \"5s\" }]\n",
        "2:35",
        "resolve, but DNS is not asked for `ws://a:80`",
        "dns://",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"dns://a:1\", resolve = \"5ms\" }]\n",
        "2:38",
        "resolve = \"5ms\" is too short",
        "\"1s\"",
    ),
    (
        "[pools.a]\nbackends = [\"dns://10.0.0.1:8765\"]\n",
        "2:13",
        "is an IP address",
        "\"ws://10.0.0.1:8765\"",
    ),
    (
        "[pools.a]\nbackends = [\"srv://chat:8765\"]\n",
        "2:13",
        "DNS returns the ports",
        "srv://_ws._tcp.chat.internal",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"unix:/a\", sources = [\"10.0.0.1\"] }]\n",
        "2:36",
        "`unix:/a` is a socket",
        "leave sources out",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"ws://a\", sources = [\"0.0.0.0\"] }]\n",
        "2:35",
        "0.0.0.0 is not a specific address",
        "10.0.0.5",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"ws://10.0.0.1\", sources = [\"10.0.0.2\", \"::1\"] }]\n",
        "2:42",
        "a connection from ::1 to 10.0.0.1 is impossible",
        "the backend's family",
    ),
    (
        "[pools.a]\nhealth = { check = \"ping\" }\nbackends = [\"ws://a\"]\n",
        "2:20",
        "ping",
        "websocket",
    ),
    (
        "[pools.a]\nhealth = { path = \"health\" }\nbackends = [\"ws://a\"]\n",
        "2:19",
        "begin with",
        "\"/health\"",
    ),
    (
        "[pools.a]\nhealth = { path = \"ws://a/ws\" }\nbackends = [\"ws://a\"]\n",
        "2:19",
        "begin with",
        "\"/ws\"",
    ),
    // Settings without effect.
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nhealth = { path = \"/well\", rise = 3 }\n",
        "3:12",
        "pools.a.health.path has no effect",
        "check = \"websocket\"",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\n[pools.a.health]\non_down = \"drain\"\n",
        "4:1",
        "pools.a.health.on_down has no effect",
        "check = \"websocket\"",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nhealth.interval = \"5s\"\n",
        "3:8",
        "pools.a.health.interval has no effect",
        "check = \"websocket\"",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nhash = \"ip\"\n",
        "3:1",
        "pools.a.hash = \"ip\" has no effect",
        "write balance = \"hash\"",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nbalance = \"round-robin\"\nhash = \"query:room\"\n",
        "4:1",
        "pools.a.hash = \"query:room\" has no effect",
        "write balance = \"hash\"",
    ),
    (
        "[pools.a]\nhealth = { rise = 0 }\nbackends = [\"ws://a\"]\n",
        "2:1",
        "health.rise = 0",
        "leave it out for 2",
    ),
    (
        "[pools.a]\nhealth = { fall = 0 }\nbackends = [\"ws://a\"]\n",
        "2:1",
        "health.fall = 0",
        "leave it out for 3",
    ),
    (
        "[pools.a]\nhealth = { intervall = \"5s\" }\nbackends = [\"ws://a\"]\n",
        "2:12",
        "intervall",
        "interval",
    ),
    (
        "[pools.a]\nhealth = { interval = \"50ms\" }\nbackends = [\"ws://a\"]\n",
        "2:1",
        "too short",
        "\"100ms\"",
    ),
    (
        "[pools.a]\nhealth = { timeout = \"0s\" }\nbackends = [\"ws://a\"]\n",
        "2:1",
        "no time at all",
        "10s",
    ),
    (
        "[pools.a]\nhealth = { on_down = \"close\" }\nbackends = [\"ws://a\"]\n",
        "2:22",
        "close",
        "drain",
    ),
    (
        "[pools.a]\npassive = { fails = 1001 }\nbackends = [\"ws://a\"]\n",
        "2:1",
        "out of range",
        "1000",
    ),
    (
        "[pools.a]\npassive = { eject = \"0s\" }\nbackends = [\"ws://a\"]\n",
        "2:1",
        "no time at all",
        "10s",
    ),
    (
        "[pools.a]\nall_down = \"fail\"\nbackends = [\"ws://a\"]\n",
        "2:12",
        "fail",
        "refuse",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nrebalance = \"on\"\n",
        "3:13",
        "`on` is not a rate",
        "\"50/s\"",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nrebalance = \"0/s\"\n",
        "3:13",
        "`0/s` would never close a session",
        "write \"off\"",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nbalance = \"hash\"\nrebalance = \"50/s\"\n",
        "4:1",
        "pools.a.rebalance would close sessions without effect",
        "balance = \"least-sessions\"",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a\"]\nbalance = \"round-robin\"\nrebalance = \"50/s\"\n",
        "4:1",
        "does not prefer backends with fewer sessions",
        "balance = \"least-sessions\"",
    ),
    (
        "[pools.a]\nrebalance = \"50/s\"\nbackends = [\"ws://a\"]\nsticky = \"cookie\"\n",
        "2:1",
        "with `sticky`, clients return to the same backend",
        "sticky = \"off\"",
    ),
    // Routes.
    ("", "1:1", "no routes", "[[routes]]"),
    (
        "[[routes]]\nto = \"ws://a\"\n",
        "1:1",
        "`hosts` is missing",
        "hosts = [",
    ),
    (
        "[[routes]]\nhosts = []\nto = \"ws://a\"\n",
        "2:1",
        "has no hosts",
        "for any",
    ),
    (
        "[[routes]]\nhosts = [\"https://a\"]\nto = \"ws://a\"\n",
        "2:10",
        "a scheme or a path",
        "the name alone",
    ),
    (
        "[[routes]]\nhosts = [\"a:443\"]\nto = \"ws://a\"\n",
        "2:10",
        "it has a port",
        "server.https",
    ),
    (
        "[[routes]]\nhosts = [\"a.*.b\"]\nto = \"ws://a\"\n",
        "2:10",
        "first label",
        "*.example.com",
    ),
    (
        "[[routes]]\nhosts = [\"bücher.example\"]\nto = \"ws://a\"\n",
        "2:10",
        "not ASCII",
        "xn--",
    ),
    (
        "[[routes]]\nhosts = [\"*\", \"a\"]\nto = \"ws://a\"\n",
        "2:1",
        "and others",
        "alone",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\n",
        "1:1",
        "has no target",
        "add to =",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\npool = \"p\"\n",
        "3:6",
        "both `pool` and `to`",
        "one of them",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\npool = \"p\"\n",
        "3:8",
        "no pool `p`",
        "[pools.p]",
    ),
    (
        "[pools.chat]\nbackends = [\"ws://a\"]\n[[routes]]\nhosts = [\"a\"]\npool = \"chta\"\n",
        "5:8",
        "no pool `chta`",
        "did you mean `chat`?",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\n[[routes]]\nname = \"b\"\nhosts = [\"b\"]\nto = \"ws://a\"\n",
        "1:1",
        "without a name",
        "add name",
    ),
    (
        "[[routes]]\nname = \"b\"\nhosts = [\"a\"]\nto = \"ws://a\"\n[[routes]]\nname = \"b\"\nhosts = [\"b\"]\nto = \"ws://a\"\n",
        "6:8",
        "two routes are named `b`",
        "its own",
    ),
    (
        "[[routes]]\nname = \"b c\"\nhosts = [\"a\"]\nto = \"ws://a\"\n",
        "2:8",
        "is not a route's name",
        "letters",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\npath = \"ws\"\nto = \"ws://a\"\n",
        "3:8",
        "is not a path",
        "begins with",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\npath = \"/a*\"\nto = \"ws://a\"\n",
        "3:8",
        "`*`",
        "path = \"/a/*\"",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\npath = \"~ (\"\nto = \"ws://a\"\n",
        "3:8",
        "not a regular expression",
        "such as",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nonly = \"ws\"\n",
        "4:8",
        "`ws`",
        "`websocket`",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nframework = \"django\"\n",
        "4:13",
        "`django`",
        "`daphne`",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\norigins = [\"https://a/b\"]\n",
        "4:12",
        "is not an origin",
        "https://example.com",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\norigins = []\n",
        "4:1",
        "allows no page",
        "same-host",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nallow = []\n",
        "4:1",
        "allows no client",
        "10.0.0.0/8",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nsubprotocols = [\"a b\"]\n",
        "4:1",
        "is not a subprotocol",
        "token",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nheaders = { \"a b\" = \"c\" }\n",
        "4:1",
        "is not a header",
        "x-version",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\ntoken = { from = [\"query:a\", \"header:b\"] }\n",
        "4:30",
        "`header:b` is not a place for a token",
        "query:token",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\ntoken = { from = [\"query:a\"], to = \"cookie\" }\n",
        "4:36",
        "no token can be moved to `cookie`",
        "x-auth-token",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\ntoken = { from = [\"query:a\", \"query:a\"] }\n",
        "4:1",
        "`query:a` is named twice",
        "one of them",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\ntoken = { to = \"x-token\" }\n",
        "4:1",
        "no source of a token",
        "from = ",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nstrip_prefix = \"ws\"\n",
        "4:1",
        "beginning of a path",
        "/ws",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nsession = { max_frame = \"0B\" }\n",
        "4:1",
        "no message",
        "64MiB",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nstrip_prefix = \"/ws\"\npath = \"/api/*\"\n",
        "4:1",
        "no path that `/api/*` matches",
        "/ws/*",
    ),
    (
        "[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nheaders = { x-a = \"1\", X-A = \"2\" }\n",
        "4:1",
        "named twice",
        "one of them",
    ),
    (
        "[pools.a]\nbackends = [\"ws://a,b:1\"]\n",
        "2:13",
        "the host is wrong",
        "ws://127.0.0.1:8765",
    ),
    (
        "[pools.a]\nbackends = [\"unix:run/a.sock\"]\n",
        "2:13",
        "does not name a socket",
        "unix:/run/chat.sock",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"ws://a\", tls = { ca = \"ca.pem\" } }]\n",
        "2:35",
        "`ws://a:80` does not use TLS",
        "wss://",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"wss://a\", tls = { cert = \"a.pem\" } }]\n",
        "2:36",
        "only one of tls.cert and tls.key",
        "both files",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"wss://a\", tls = { server_name = \"a:1\" } }]\n",
        "2:36",
        "`a:1` is not a name",
        "server_name = ",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"wss://a\", tls = { sni = \"a\" } }]\n",
        "2:44",
        "unknown key `sni`",
        "the keys here are",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"ws://a\", proxy_protocol = \"v3\" }]\n",
        "2:52",
        "`v3`",
        "did you mean `v1`?",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"wss://a\", tls = { ca = \"no.pem\" } }]\n[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\npool = \"a\"\n",
        "2:13",
        "tls.ca: ",
        "PEM",
    ),
    (
        "[pools.a]\nbackends = [{ address = \"wss://a\", tls = { cert = \"lockgate.toml\", key = \"lockgate.toml\" } }]\n[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\npool = \"a\"\n",
        "2:13",
        "tls.cert: ",
        "PEM",
    ),
    // The environment, includes, certificates.
    (
        "[[routes]]\nhosts = [\"${NOT_SET_ANYWHERE}\"]\nto = \"ws://a\"\n",
        "2:10",
        "NOT_SET_ANYWHERE is not set",
        ":-default",
    ),
    (
        "[[routes]]\nhosts = [\"${A\"]\nto = \"ws://a\"\n",
        "2:10",
        "without its `}`",
        "${NAME}",
    ),
    (
        "include = [\"nowhere.toml\"]\n",
        "1:12",
        "cannot read",
        "is the path right",
    ),
    (
        "[tls]\ncertificates = [{ cert = \"no.pem\", key = \"no.key\" }]\n[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\n",
        "2:26",
        "no.pem",
        "",
    ),
    (
        "[tls]\ndefault = \"b.test\"\ndev_ca = true\n[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\n",
        "2:11",
        "b.test",
        "",
    ),
    (
        "[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\n",
        "1:1",
        "a.test",
        "dev_ca",
    ),
    // Client certificates.
    (
        "[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\nclient_cert = \"require\"\n",
        "6:1",
        "no CA is trusted for client certificates",
        "client_ca = ",
    ),
    (
        "[tls]\ndev_ca = true\nclient_ca = \"\"\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\nclient_cert = \"optional\"\n",
        "7:1",
        "no CA is trusted for client certificates",
        "client_ca = ",
    ),
    (
        "[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\nclient_cert = \"required\"\n",
        "4:15",
        "`required`",
        "did you mean `require`?",
    ),
    (
        "[tls]\ndev_ca = true\nclient_ca = \"no.pem\"\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\nclient_cert = \"require\"\n",
        "3:13",
        "tls.client_ca: there is no file ",
        "folder of the configuration file",
    ),
    (
        // The configuration itself: a file that exists, but is not PEM.
        "[tls]\ndev_ca = true\nclient_ca = \"lockgate.toml\"\n[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://a\"\nclient_cert = \"require\"\n",
        "3:13",
        "no usable CA certificate in ",
        "CA:TRUE",
    ),
];
