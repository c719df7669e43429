//! `lockgate help` for configuration keys, tables and commands.

use crate::harness::Lockgate;
use serde_json::Value;
use std::path::Path;

#[tokio::test]
async fn help_of_every_key_shows_its_facts() {
    let schema = Lockgate::run(Path::new("."), &["schema"]).await;
    let schema: Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    let mut keys = vec![];
    collect(&schema, &schema, "", &mut keys);
    assert!(keys.len() >= 140, "only {} keys", keys.len());
    let mut faults = vec![];
    for key in keys {
        let output = Lockgate::run(Path::new("."), &["help", &key.path]).await;
        let text = String::from_utf8_lossy(&output.stdout);
        let facts: &[&str] = if key.is_table {
            &["lockgate help "]
        } else {
            &["\n  takes ", "\n  example ", "\n  a change "]
        };
        let shown = text.contains(&format!("{}\n", key.path)) || key.is_table;
        let has_facts = facts.iter().all(|fact| text.contains(fact));
        // The help of the command of that name comes first.
        let is_command = key.path == "drain";
        let is_narrow = is_command || text.lines().all(|line| line.chars().count() <= 120);
        if output.status.code() != Some(0) || !shown || !has_facts || !is_narrow {
            faults.push(format!("{}: {:?}\n{text}", key.path, output.status));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

#[tokio::test]
async fn help_finds_a_key_however_it_is_written() {
    for (topic, heading) in [
        (&["session.ping.interval"][..], "session.ping.interval\n"),
        (&["session.ping"], "[session.ping]\n"),
        (&["session", "ping"], "[session.ping]\n"),
        (&["[session.ping]"], "[session.ping]\n"),
        (&["routes"], "[[routes]]\n"),
        (&["[[routes]]"], "[[routes]]\n"),
        (&["routes.path"], "routes.path\n"),
        (&["pools.balance"], "pools.NAME.balance\n"),
        (&["pools.NAME.balance"], "pools.NAME.balance\n"),
        (
            &["pools.chat.health.interval"],
            "pools.NAME.health.interval\n",
        ),
        (&["health.interval"], "pools.NAME.health.interval\n"),
        (&["max_message"], "session.max_message\n"),
        (&["idle = \"60s\""], "limits.idle\n"),
        (&["include"], "include\n"),
    ] {
        let arguments = [&["help"][..], topic].concat();
        let output = Lockgate::run(Path::new("."), &arguments).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with(heading), "{topic:?}: {output:?}");
        assert_eq!(output.status.code(), Some(0), "{topic:?}");
    }
}

#[tokio::test]
async fn help_of_an_unknown_topic_suggests_others() {
    for (topic, suggestion) in [
        (
            "session.ping.intervall",
            "lockgate help session.ping.interval",
        ),
        ("limits.conections", "lockgate help limits.connections"),
        ("max_mesage", "lockgate help session.max_message"),
        ("stauts", "lockgate help status"),
        ("qqqq", "lockgate --help"),
    ] {
        let output = Lockgate::run(Path::new("."), &["help", topic]).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{topic}: {text}");
        assert!(text.contains(suggestion), "{topic}: {text}");
        assert!(output.stdout.is_empty(), "{topic}: {output:?}");
    }
}

#[tokio::test]
async fn help_of_a_command_is_that_of_its_flag() {
    for command in [&["run"][..], &["status"], &["cert"], &["cert", "list"]] {
        let flag = Lockgate::run(Path::new("."), &[command, &["--help"]].concat()).await;
        let word = Lockgate::run(Path::new("."), &[&["help"][..], command].concat()).await;
        assert_eq!(word.status.code(), Some(0), "{command:?}");
        assert_eq!(flag.stdout, word.stdout, "{command:?}");
    }
    // A command with the name of a table: both.
    let flag = Lockgate::run(Path::new("."), &["drain", "--help"]).await;
    let word = Lockgate::run(Path::new("."), &["help", "drain"]).await;
    assert!(word.stdout.starts_with(&flag.stdout), "{word:?}");
    let text = String::from_utf8_lossy(&word.stdout);
    assert!(text.contains("\n[drain]\n"), "{text}");
}

struct Key {
    path: String,
    is_table: bool,
}

/// Adds every key below `node`, in the way in which a user names it: without indices and names.
fn collect(schema: &Value, node: &Value, at: &str, keys: &mut Vec<Key>) {
    let node = resolve(schema, node);
    for (key, property) in node["properties"].as_object().into_iter().flatten() {
        let path = match at {
            "" => key.clone(),
            at => format!("{at}.{key}"),
        };
        let value = resolve(schema, property);
        let mut inner = vec![value];
        if let Some(each) = value.get("additionalProperties") {
            inner.push(resolve(schema, each));
        }
        if let Some(items) = value.get("items") {
            inner.push(resolve(schema, items));
            let forms = items["anyOf"].as_array().into_iter().flatten();
            inner.extend(forms.map(|form| resolve(schema, form)));
        }
        let tables: Vec<&Value> = inner
            .into_iter()
            .filter(|it| it.get("properties").is_some())
            .collect();
        let path_of_key = ["pools.", "guards."]
            .iter()
            .fold(path.clone(), |path, named| match path.strip_prefix(named) {
                Some(rest) => format!("{named}NAME.{rest}"),
                None => path,
            });
        keys.push(Key {
            path: path_of_key,
            is_table: !tables.is_empty(),
        });
        for table in tables {
            collect(schema, table, &path, keys);
        }
    }
}

/// Follows a reference, and the alternative of an optional value that is not `null`.
fn resolve<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    if let Some(pointer) = node["$ref"].as_str() {
        let target = schema.pointer(pointer.trim_start_matches('#'));
        return target.expect("a definition");
    }
    let forms = node["anyOf"].as_array().into_iter().flatten();
    let mut forms = forms.filter(|form| form["type"] != "null");
    match (forms.next(), forms.next()) {
        (Some(form), None) => resolve(schema, form),
        _ => node,
    }
}
