//! `lockgate help KEY`: the reference of a configuration key or table in the terminal. clap answers `lockgate help` for
//! commands.

use crate::{
    cli::{
        manual,
        output::{EX_USAGE, print},
        wrapped::write_wrapped,
    },
    config::{
        Applies,
        keys::{self, KeyReference, TableReference},
    },
};
use std::{env, fmt::Write, process::ExitCode};

/// A topic of `lockgate help` that clap does not describe, or not completely.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HelpTopic {
    /// A configuration key or table, or a word that is neither a command nor a key.
    Key(String),
    /// A command that has the name of a table.
    CommandAndTable(String),
}

// === impl HelpTopic ===

impl HelpTopic {
    /// Returns the topic of the command line; `None` if clap answers alone.
    pub(crate) fn read() -> Option<HelpTopic> {
        let words: Vec<String> = env::args_os()
            .skip(1)
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        HelpTopic::of(&words)
    }

    fn of(words: &[String]) -> Option<HelpTopic> {
        let (help, topic) = words.split_first()?;
        let first = topic.first().filter(|word| !word.starts_with('-'))?;
        if help != "help" {
            return None;
        }
        let joined = normalize(&topic.join("."));
        let mut command = manual::command();
        command.build();
        if command.find_subcommand(first).is_none() {
            return Some(HelpTopic::Key(joined));
        }
        let is_table = keys::tables().iter().any(|table| table.path == joined);
        is_table.then_some(HelpTopic::CommandAndTable(joined))
    }

    /// Prints the reference of the topic. For a command that is also a table, clap has printed the command before.
    pub(crate) fn print(&self) -> ExitCode {
        let (HelpTopic::Key(topic) | HelpTopic::CommandAndTable(topic)) = self;
        match find(topic) {
            Ok(text) => {
                if let HelpTopic::CommandAndTable(_) = self {
                    print("");
                }
                print(text.trim_end());
                ExitCode::SUCCESS
            }
            Err(similar) => {
                eprintln!("{}", unknown(topic, &similar));
                ExitCode::from(EX_USAGE)
            }
        }
    }
}

/// Returns the text for a topic; otherwise the paths and commands that resemble it, the best first.
fn find(topic: &str) -> Result<String, Vec<String>> {
    let tables = keys::tables();
    let topic = canonical(topic, &tables);
    let table = tables
        .iter()
        .find(|table| !table.path.is_empty() && short(&table.path) == topic);
    let mut keys = tables.iter().flat_map(|table| &table.keys);
    let key = keys.find(|key| short(&key.path) == topic);
    if key.is_none() && table.is_none() {
        return Err(similar(&topic, &tables));
    }
    let mut text = key.map(key_text).unwrap_or_default();
    if let Some(table) = table {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&table_text(table, &tables));
    }
    Ok(text)
}

/// Returns the path that is meant by `topic`, in the form of [`short`]. The name of a pool may stand for `NAME`, and
/// the beginning of a path may be absent if the rest is unique.
fn canonical(topic: &str, tables: &[TableReference]) -> String {
    let paths = paths(tables);
    let topic = short(topic);
    if paths.contains(&topic) {
        return topic;
    }
    if let Some(("pools", rest)) = topic.split_once('.')
        && let Some((_, rest)) = rest.split_once('.')
        && paths.contains(&format!("pools.{rest}"))
    {
        return format!("pools.{rest}");
    }
    // The overrides of a route have the names of the keys that they override.
    let mut ends = paths.iter().filter(|path| {
        let start = path.strip_suffix(&*topic);
        start.is_some_and(|start| start.ends_with('.')) && !path.starts_with("routes.session.")
    });
    match (ends.next(), ends.next()) {
        (Some(path), None) => path.clone(),
        _ => topic,
    }
}

/// Returns the paths of all keys and tables in the form of [`short`].
fn paths(tables: &[TableReference]) -> Vec<String> {
    let keys = tables.iter().flat_map(|table| &table.keys);
    let keys = keys.map(|key| short(&key.path));
    let tables = tables.iter().map(|table| short(&table.path));
    keys.chain(tables.filter(|path| !path.is_empty())).collect()
}

/// Returns a path without the placeholder for a name: `pools.balance` for `pools.NAME.balance`.
fn short(path: &str) -> String {
    let parts: Vec<&str> = path.split('.').filter(|part| *part != keys::NAME).collect();
    parts.join(".")
}

/// Removes brackets, as in `[[routes]]`, and a value, as in `idle = "60s"`.
fn normalize(topic: &str) -> String {
    let path = topic.split('=').next().unwrap_or_default();
    let path = path.replace(['[', ']', '"', '\'', ' '], "");
    path.trim_matches('.').to_owned()
}

fn key_text(key: &KeyReference) -> String {
    let mut text = format!("{}\n\n", key.path);
    write_wrapped(&mut text, "", &key.description);
    text.push('\n');
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            write_wrapped(&mut text, &format!("  {name:<14}"), value);
        }
    };
    fact("takes", &key.takes);
    fact("default", &key.default);
    fact("example", &format!("{} = {}", key.name, key.example));
    let applies = key.applies.map(Applies::explanation);
    fact("a change", applies.unwrap_or_default());
    fact("at the limit", key.limit.as_deref().unwrap_or_default());
    text
}

fn table_text(table: &TableReference, tables: &[TableReference]) -> String {
    let mut text = format!("{}\n\n", table.heading);
    write_wrapped(&mut text, "", &table.description);
    let start = format!("{}.", table.path);
    let inner = tables.iter().filter_map(|inner| {
        let rest = inner.path.strip_prefix(&start)?;
        let is_direct = !rest.contains('.') && !table.keys.iter().any(|key| key.name == rest);
        is_direct.then(|| (rest, format!("{{ … }}  {}", inner.description)))
    });
    let keys = table.keys.iter().map(|key| {
        let default = match &*key.default {
            "" => String::new(),
            default => format!("{default}  "),
        };
        (
            &*key.name,
            format!("{default}{}", first_sentence(&key.description)),
        )
    });
    let rows: Vec<(&str, String)> = keys.chain(inner).collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    if !rows.is_empty() {
        text.push('\n');
    }
    for (name, row) in &rows {
        write_wrapped(&mut text, &format!("  {name:<width$}  "), row);
    }
    if let Some((name, _)) = rows.first() {
        let path = short(&table.path);
        let _ = write!(text, "\nOne key: lockgate help {path}.{name}\n");
    }
    text
}

/// Returns the text to the end of its first sentence.
fn first_sentence(text: &str) -> &str {
    match text.split_once(". ") {
        Some((sentence, _)) => sentence,
        None => text.trim_end_matches('.'),
    }
}

/// Returns the paths and commands that resemble `topic`, the best first.
fn similar(topic: &str, tables: &[TableReference]) -> Vec<String> {
    let mut command = manual::command();
    command.build();
    let commands = command.get_subcommands().map(|it| it.get_name().to_owned());
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |path: &str| {
        let whole = strsim::jaro_winkler(path, topic);
        let end = strsim::jaro_winkler(&last(path), &last(topic)) - SHORTER;
        whole.max(end)
    };
    let overrides = |path: &String| path.starts_with("routes.session.");
    let paths = paths(tables).into_iter().filter(|path| !overrides(path));
    let mut scored: Vec<(f64, String)> = commands
        .chain(paths)
        .map(|path| (likeness(&path), path))
        .filter(|(score, _)| *score >= MIN_LIKENESS)
        .collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0));
    scored.dedup_by(|one, other| one.1 == other.1);
    scored.into_iter().take(3).map(|(_, path)| path).collect()
}

fn unknown(topic: &str, similar: &[String]) -> String {
    let mut text = format!("error: `{topic}` is neither a command nor a configuration key");
    for path in similar {
        let _ = write!(text, "\n  did you mean: lockgate help {path}");
    }
    text.push_str(
        "\n\n`lockgate --help` lists the commands, `lockgate help server` the keys of a table, and \
         `lockgate schema --markdown` all keys.",
    );
    text
}

/// The least likeness of a suggestion, from 0 to 1.
const MIN_LIKENESS: f64 = 0.8;

/// By how much the likeness of the last part of a path counts less than that of the whole path.
const SHORTER: f64 = 0.05;
