//! Parses the text of one file to its values and collects every diagnostic. serde stops at the first error, so the
//! wrong value is removed from the document and the rest is read again.

use crate::config::{
    diagnostic::{Diagnostic, Location, in_source},
    duplicates::{DUPLICATE, Duplicates},
    foreign_syntax::correct_line,
    messages::{self, ShapeErrors, shape_errors},
    reference::of_the_file,
    schema::File,
    values::{self, BadValue},
};
use serde::Deserialize;
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

/// The function that returns the value of an environment variable.
pub(crate) type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The source map of all files: where keys are written, which pools are named, and which values were removed because
/// they are invalid. It distinguishes a missing key from one that is present and invalid.
#[derive(Debug, Default)]
pub(crate) struct SourceMap {
    /// The location of each key, by the location of its table and the key.
    pub(crate) keys: HashMap<(Location, String), Location>,
    /// The location of each value, by that of its key.
    spans: HashMap<Location, Location>,
    /// The names of all pools, including those with errors.
    pub(crate) pools: HashSet<String>,
    /// A file could not be read or is not TOML: its content is unknown.
    pub(crate) unread: bool,
    /// Keys that are present but were not read.
    removed: Vec<RemovedKey>,
}

/// A key that is present and invalid.
#[derive(Debug)]
struct RemovedKey {
    /// The location of the key, if it is written.
    at: Option<Location>,
    /// The table; `None` at the top level of a file.
    table: Option<Location>,
    key: String,
    /// The key is unknown, so it may be a misspelling of any key.
    is_unknown: bool,
}

/// Returns the values in `text`, their source map and the diagnostics. After a syntax error nothing else is read.
pub(crate) fn deserialize(
    source: usize,
    text: &str,
    environment: EnvLookup<'_>,
) -> (File, SourceMap, Vec<Diagnostic>) {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    let place = |span: Range<usize>| Location {
        source,
        start: span.start,
        end: span.end,
    };
    if !errors.is_empty() {
        let span = |error: &toml::de::Error| error.span().unwrap_or(0..0);
        let repeated = errors.iter().filter(|error| error.message() == DUPLICATE);
        let duplicates = Duplicates::new(text, repeated.map(span));
        let diagnostic = |error: &toml::de::Error| {
            let span = span(error);
            let (message, hint) = match error.message() {
                DUPLICATE => {
                    let name = text.get(span.clone()).unwrap_or_default();
                    let message = duplicates.message(name, &span)?;
                    (message, messages::DUPLICATE.to_owned())
                }
                message => {
                    let line = correct_line(text, &span);
                    let hint = line.map_or(messages::SYNTAX.to_owned(), |line| {
                        messages::with_line(messages::SYNTAX, &line)
                    });
                    (message.to_owned(), hint)
                }
            };
            Some(Diagnostic {
                at: Some(place(span)),
                message,
                hint: Some(hint),
            })
        };
        let diagnostics = errors.iter().filter_map(diagnostic).take(MAX_PASSES);
        return (File::default(), SourceMap::unread(), diagnostics.collect());
    }
    let whole = document.span();
    let mut source_map = SourceMap::of(&document, &place);
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    // Removed keys with their tables: these keys must not be reported as missing.
    let mut removed = Vec::new();
    let mut unexpanded = Vec::new();
    expand_env(document.get_mut(), environment, &mut |span, bad| {
        unexpanded.push(span.clone());
        diagnostics.push(Diagnostic {
            at: Some(place(span)),
            message: bad.message,
            hint: Some(bad.hint),
        });
    });
    // The value is unknown, so nothing else is reported about it.
    for span in unexpanded {
        if remove(&whole, document.get_mut(), &|at| *at == span, &mut removed)
            && let Some((table, key)) = removed.last()
        {
            let place = place(table.clone());
            source_map.record_removed_in(place, *table != whole, key, false);
        }
    }
    let ShapeErrors { found, corrections } = shape_errors(&document, text, &of_the_file());
    for (span, bad) in found.into_iter().take(MAX_PASSES) {
        if remove(&whole, document.get_mut(), &|at| *at == span, &mut removed)
            && let Some((table, key)) = removed.last()
        {
            let place = place(table.clone());
            source_map.record_removed_in(place, *table != whole, key, false);
        }
        diagnostics.push(Diagnostic {
            at: Some(place(span)),
            message: bad.message,
            hint: Some(bad.hint),
        });
    }
    while diagnostics.len() < MAX_PASSES {
        let read = in_source(source, || {
            File::deserialize(Deserializer::from(document.clone()))
        });
        let error = match read {
            Ok(file) => return (file, source_map, diagnostics),
            Err(error) => error,
        };
        let Some(span) = error.span() else {
            diagnostics.push(diagnostic(None, error.message()));
            break;
        };
        let at = Some(place(span.clone()));
        let is_reported = diagnostics.iter().any(|diagnostic| diagnostic.at == at)
            || messages::missing(error.message()).is_some_and(|key| {
                removed.iter().any(|(table, removed)| {
                    *table == span && (removed == key || messages::is_similar(removed, key))
                })
            });
        if !is_reported {
            let mut diagnostic = diagnostic(at, error.message());
            if let (Some(line), Some(hint)) = (corrections.get(&span), &mut diagnostic.hint) {
                *hint = messages::with_line(hint, line);
            }
            diagnostics.push(diagnostic);
        }
        let missing = messages::missing(error.message()).filter(|key| LISTS.contains(key));
        let is_removed = missing
            .is_some_and(|key| add_list(&whole, document.get_mut(), &span, key, &mut removed))
            || remove(&whole, document.get_mut(), &|at| *at == span, &mut removed)
            || remove(
                &whole,
                document.get_mut(),
                &|at| at.start <= span.start && span.end <= at.end,
                &mut removed,
            );
        let Some((table, key)) = removed.last().filter(|_| is_removed) else {
            break;
        };
        let is_unknown = error.message().starts_with("unknown field");
        source_map.record_removed_in(place(table.clone()), *table != whole, key, is_unknown);
    }
    source_map.unread = true;
    (File::default(), source_map, diagnostics)
}

fn diagnostic(at: Option<Location>, error: &str) -> Diagnostic {
    let values::BadValue { message, hint } = messages::explain(error);
    Diagnostic {
        at,
        message,
        hint: Some(hint),
    }
}

/// Replaces environment references in strings; one that cannot be replaced is reported and left unchanged.
fn expand_env(
    table: &mut DeTable<'_>,
    environment: EnvLookup<'_>,
    bad: &mut dyn FnMut(Range<usize>, values::BadValue),
) {
    for (_, value) in table.iter_mut() {
        expand_value(value, environment, bad);
    }
}

fn expand_value(
    value: &mut Spanned<DeValue<'_>>,
    environment: EnvLookup<'_>,
    bad: &mut dyn FnMut(Range<usize>, values::BadValue),
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => match expand(text, environment) {
            Ok(Some(expanded)) => *text = expanded.into(),
            Ok(None) => {}
            Err(why) => bad(span, why),
        },
        DeValue::Array(values) => values
            .iter_mut()
            .for_each(|value| expand_value(value, environment, bad)),
        DeValue::Table(table) => expand_env(table, environment, bad),
        _ => {}
    }
}

/// Removes the deepest key or value whose span satisfies `is_it`. Records its key, or the key of the list around it, in
/// `removed`, with the span of the table.
fn remove(
    span: &Range<usize>,
    table: &mut DeTable<'_>,
    is_it: &dyn Fn(&Range<usize>) -> bool,
    removed: &mut Vec<(Range<usize>, String)>,
) -> bool {
    for (key, value) in table.iter_mut() {
        let count = removed.len();
        if remove_inside(value, is_it, removed) {
            if removed.len() == count {
                removed.push((span.clone(), key.get_ref().to_string()));
            }
            return true;
        }
    }
    let found = table
        .iter()
        .find(|(key, value)| is_it(&key.span()) || is_it(&value.span()));
    let Some(key) = found.map(|(key, _)| key.clone()) else {
        return false;
    };
    removed.push((span.clone(), key.get_ref().to_string()));
    table.remove(&key).is_some()
}

/// Adds an empty list to the table at `at` for the one that is missing, so that the rest of the table is read. Records
/// the key as [`remove`] does.
fn add_list(
    span: &Range<usize>,
    table: &mut DeTable<'_>,
    at: &Range<usize>,
    key: &str,
    removed: &mut Vec<(Range<usize>, String)>,
) -> bool {
    if span == at {
        let list = DeValue::Array(std::iter::empty().collect());
        let name = Spanned::new(at.clone(), key.to_owned().into());
        removed.push((at.clone(), key.to_owned()));
        return table.insert(name, Spanned::new(at.clone(), list)).is_none();
    }
    let mut add_inside = |value: &mut Spanned<DeValue<'_>>| {
        let span = value.span();
        match value.get_mut() {
            DeValue::Table(table) => add_list(&span, table, at, key, removed),
            _ => false,
        }
    };
    table.iter_mut().any(|(_, value)| match value.get_mut() {
        DeValue::Array(values) => values.iter_mut().any(&mut add_inside),
        _ => add_inside(value),
    })
}

fn remove_inside(
    value: &mut Spanned<DeValue<'_>>,
    is_it: &dyn Fn(&Range<usize>) -> bool,
    removed: &mut Vec<(Range<usize>, String)>,
) -> bool {
    let span = value.span();
    match value.get_mut() {
        DeValue::Table(table) => remove(&span, table, is_it, removed),
        DeValue::Array(values) => {
            if values
                .iter_mut()
                .any(|value| remove_inside(value, is_it, removed))
            {
                return true;
            }
            let Some(index) = values.iter().position(|value| is_it(&value.span())) else {
                return false;
            };
            let kept = values.iter().enumerate().filter(|(at, _)| *at != index);
            *values = kept.map(|(_, value)| value.clone()).collect();
            true
        }
        _ => false,
    }
}

// === impl SourceMap ===

impl SourceMap {
    /// Creates the source map of a file from which nothing was removed yet.
    pub(crate) fn of(
        document: &Spanned<DeTable<'_>>,
        place: &impl Fn(Range<usize>) -> Location,
    ) -> Self {
        let mut source_map = SourceMap::default();
        record_keys(document.span(), document.get_ref(), place, &mut source_map);
        if let Some(DeValue::Table(pools)) = document.get_ref().get("pools").map(Spanned::get_ref) {
            let names = pools.keys().map(|name| name.get_ref().to_string());
            source_map.pools.extend(names);
        }
        source_map
    }

    /// Creates the source map of a file whose content is unknown.
    pub(crate) fn unread() -> Self {
        SourceMap {
            unread: true,
            ..SourceMap::default()
        }
    }

    /// Records a removed key.
    pub(crate) fn record_removed(&mut self, table: Option<Location>, key: &str, is_unknown: bool) {
        // The files that it names are unknown.
        self.unread |= table.is_none() && key == "include";
        self.removed.push(RemovedKey {
            at: None,
            table,
            key: key.to_owned(),
            is_unknown,
        });
    }

    /// Records a removed key of the table at `table`, or at the top level of a file.
    fn record_removed_in(&mut self, table: Location, is_inner: bool, key: &str, is_unknown: bool) {
        let at = self.keys.get(&(table, key.to_owned())).copied();
        self.record_removed(is_inner.then_some(table), key, is_unknown);
        if let Some(removed) = self.removed.last_mut() {
            removed.at = at;
        }
    }

    /// Returns whether a contradiction of the key at `at` may follow from an invalid value: the key or something within
    /// its value was removed.
    pub(crate) fn is_consequence(&self, at: Location) -> bool {
        let within = self.spans.get(&at);
        let is_within = |removed: Location| {
            removed == at
                || within.is_some_and(|span| {
                    span.source == removed.source
                        && span.start <= removed.start
                        && removed.end <= span.end
                })
        };
        let mut removed = self.removed.iter().filter_map(|removed| removed.at);
        removed.any(is_within)
    }

    /// Adds the source map of another file.
    pub(crate) fn extend(&mut self, other: SourceMap) {
        self.keys.extend(other.keys);
        self.spans.extend(other.spans);
        self.pools.extend(other.pools);
        self.removed.extend(other.removed);
        self.unread |= other.unread;
    }

    /// Returns whether one of `keys` may be present although it was not read: removed as invalid or misspelled, in
    /// `table` or, with `None`, at the top level of a file.
    pub(crate) fn may_contain(&self, table: Option<Location>, keys: &[&str]) -> bool {
        self.unread
            || self.removed.iter().any(|removed| {
                removed.table == table
                    && (removed.is_unknown || keys.contains(&removed.key.as_str()))
            })
    }
}

/// Records the locations of all keys in `table`, which is at `span`, and in the tables inside it.
fn record_keys(
    span: Range<usize>,
    table: &DeTable<'_>,
    place: &impl Fn(Range<usize>) -> Location,
    source_map: &mut SourceMap,
) {
    for (key, value) in table {
        let at = (place(span.clone()), key.get_ref().to_string());
        source_map.keys.insert(at, place(key.span()));
        let spans = &mut source_map.spans;
        spans.insert(place(key.span()), place(value.span()));
        record_value_keys(value, place, source_map);
    }
}

fn record_value_keys(
    value: &Spanned<DeValue<'_>>,
    place: &impl Fn(Range<usize>) -> Location,
    source_map: &mut SourceMap,
) {
    match value.get_ref() {
        DeValue::Table(table) => record_keys(value.span(), table, place, source_map),
        DeValue::Array(values) => {
            for value in values.iter() {
                record_value_keys(value, place, source_map);
            }
        }
        _ => {}
    }
}

/// Expands `${NAME}` and `${NAME:-default}` in `text`, and `$$` to a dollar sign; returns `None` if it has none.
fn expand(text: &str, environment: EnvLookup<'_>) -> Result<Option<String>, BadValue> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(literal) = behind.strip_prefix('$') {
            expanded.push('$');
            rest = literal;
        } else if let Some(open) = behind.strip_prefix('{') {
            let (inside, after) = open.split_once('}').ok_or_else(|| {
                BadValue::new(
                    "a `${` without its `}`",
                    "write ${NAME}, ${NAME:-default}, or $$ for a dollar sign",
                )
            })?;
            expanded.push_str(&lookup(inside, environment)?);
            rest = after;
        } else {
            // A single dollar sign, as at the end of a regular expression.
            expanded.push('$');
            rest = behind;
        }
    }
    expanded.push_str(rest);
    Ok(Some(expanded))
}

fn lookup(inside: &str, environment: EnvLookup<'_>) -> Result<String, BadValue> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(BadValue::new(
            format!("`${{{inside}}}` names no environment variable"),
            "write ${NAME}, ${NAME:-default}, or $$ for a dollar sign",
        ));
    }
    // As in a shell, `:-` also replaces an empty value. Without it an empty value is an error: an empty token would
    // disable the protection that it configures.
    let value = environment(name).filter(|value| !value.is_empty());
    value.or(default.map(str::to_owned)).ok_or_else(|| {
        BadValue::new(
            format!("the environment variable {name} is not set, or is empty"),
            format!("set it, or write ${{{name}:-default}}; ${{{name}:-}} may be empty"),
        )
    })
}

/// The required lists: without them the rest of the table can still be checked.
const LISTS: [&str; 2] = ["hosts", "backends"];

/// The limit of diagnostics per file: more than a reader works through.
const MAX_PASSES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, BadValue> {
        let environment = |name: &str| match name {
            "HOST" => Some("a.test".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(text, &environment).map(|expanded| expanded.unwrap_or_else(|| text.to_owned()))
    }

    #[test]
    fn variables_are_expanded() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${HOST}", "a.test"),
            ("x.${HOST}:${PORT:-80}", "x.a.test:80"),
            ("${EMPTY:-}|${EMPTY:-e}", "|e"),
            ("${NONE:-}", ""),
            ("$$HOST $$${HOST}", "$HOST $a.test"),
            ("~ ^/room/[0-9]+$", "~ ^/room/[0-9]+$"),
            ("$HOST", "$HOST"),
        ] {
            assert_eq!(expanded(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn invalid_or_unset_variable_is_an_error() {
        for (text, why) in [
            ("${NONE}", "NONE is not set"),
            ("${EMPTY}", "EMPTY is not set, or is empty"),
            ("${HOST", "without its"),
            ("${}", "names no"),
            ("${a b}", "names no"),
        ] {
            assert!(expanded(text).unwrap_err().message.contains(why), "{text}");
        }
    }
}
