//! The Markdown reference of all keys (`lockgate schema --markdown`).

use crate::config::{
    keys::{KeyReference, TableReference, tables},
    schema::applies::Applies,
};
use std::fmt::Write;

/// Returns every table with its keys: their facts in a table, then their descriptions.
pub(crate) fn reference() -> String {
    let mut text = String::from(INTRODUCTION);
    for applies in Applies::ALL {
        let _ = writeln!(text, "| {applies} | it {} |", applies.explanation());
    }
    for table in tables() {
        if !table.path.is_empty() {
            let _ = write!(text, "\n## `{}`\n\n{}\n", table.heading, table.description);
        }
        if !table.keys.is_empty() {
            write_keys(&mut text, &table);
        }
    }
    text
}

fn write_keys(text: &mut String, table: &TableReference) {
    text.push_str(
        "\n| key | takes | default | example | a change applies |\n|---|---|---|---|---|\n",
    );
    for key in &table.keys {
        let applies = key.applies.map(|it| it.to_string()).unwrap_or_default();
        let default = match &table.overrides {
            Some(path) => format!("as in `[{path}]`"),
            None => code(&key.default),
        };
        let _ = writeln!(
            text,
            "| `{}` | {} | {default} | {} | {applies} |",
            key.name,
            escape(&key.takes),
            code(&key.example),
        );
    }
    if let Some(path) = &table.overrides {
        let anchor = path.replace('.', "");
        let _ = write!(text, "\n[`[{path}]`](#{anchor}) describes these keys.\n");
        return;
    }
    for key in &table.keys {
        write_key(text, key);
    }
}

fn write_key(text: &mut String, key: &KeyReference) {
    let _ = write!(text, "\n### `{}`\n\n{}\n", key.path, key.description);
    if let Some(limit) = &key.limit {
        let _ = write!(text, "\nAt the limit: {limit}.\n");
    }
}

fn code(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("`{}`", escape(text)),
    }
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}

const INTRODUCTION: &str = "# Configuration reference

Generated from the types by `lockgate schema --markdown`; `lockgate help KEY`, such as `lockgate help session.ping.interval`, prints one
key in the terminal. Durations are written \"30s\", sizes \"16MiB\", rates \"10/s\"; `${NAME}` and `${NAME:-default}` in a string read the
environment, `$$` is a dollar sign. Unknown keys are errors.

| a change applies | meaning |
|---|---|
";
