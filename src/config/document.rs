//! Parses the text of one file to its values and collects every diagnostic. serde stops at the first error, so the
//! wrong value is removed from the document and the rest is read again.

use super::{
    Diagnostic, Location,
    environment::{EnvLookup, expand},
    form::shape_errors,
    problem::in_source,
    reference::of_the_file,
    schema::File,
    words,
    written::SourceMap,
};
use serde::Deserialize;
use std::ops::Range;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

/// Returns the values in `text`, their source map and the diagnostics. After a syntax error nothing else is read.
pub(super) fn deserialize(
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
        let diagnostic = |error: &toml::de::Error| Diagnostic {
            at: Some(place(error.span().unwrap_or(0..0))),
            message: error.message().to_owned(),
            hint: Some(words::SYNTAX.to_owned()),
        };
        return (
            File::default(),
            SourceMap::unread(),
            errors.iter().take(MAX_PASSES).map(diagnostic).collect(),
        );
    }
    let whole = document.span();
    let mut source_map = SourceMap::of(&document, &place);
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    // Removed keys with their tables: these keys must not be reported as missing.
    let mut removed = Vec::new();
    expand_env(document.get_mut(), environment, &mut |span, bad| {
        diagnostics.push(Diagnostic {
            at: Some(place(span)),
            message: bad.message,
            hint: Some(bad.hint),
        });
    });
    let errors = shape_errors(&document, text, &of_the_file());
    for (span, bad) in errors.into_iter().take(MAX_PASSES) {
        if remove(&whole, document.get_mut(), &|at| *at == span, &mut removed)
            && let Some((table, key)) = removed.last()
        {
            let table = (*table != whole).then(|| place(table.clone()));
            source_map.record_removed(table, key, false);
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
            || words::missing(error.message()).is_some_and(|key| {
                removed
                    .iter()
                    .any(|(table, removed)| *table == span && removed == key)
            });
        if !is_reported {
            diagnostics.push(diagnostic(at, error.message()));
        }
        let missing = words::missing(error.message()).filter(|key| LISTS.contains(key));
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
        let table = (*table != whole).then(|| place(table.clone()));
        source_map.record_removed(table, key, error.message().starts_with("unknown field"));
    }
    source_map.unread = true;
    (File::default(), source_map, diagnostics)
}

fn diagnostic(at: Option<Location>, error: &str) -> Diagnostic {
    let (message, hint) = words::explain(error);
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
    bad: &mut dyn FnMut(Range<usize>, super::BadValue),
) {
    for (_, value) in table.iter_mut() {
        expand_value(value, environment, bad);
    }
}

fn expand_value(
    value: &mut Spanned<DeValue<'_>>,
    environment: EnvLookup<'_>,
    bad: &mut dyn FnMut(Range<usize>, super::BadValue),
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

/// Adds an empty list to the table at `at` for the one that is missing, so that the rest of the table is read. Records the
/// key as [`remove`] does.
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

/// The required lists: without them the rest of the table can still be checked.
const LISTS: [&str; 2] = ["hosts", "backends"];
/// The limit of diagnostics per file: more than a reader works through.
const MAX_PASSES: usize = 100;
