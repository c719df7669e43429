//! One file's text to its values, with every problem found: serde stops at the first, so what is wrong is taken out of
//! the document and the rest is read again.

use super::{
    Location, Problem,
    environment::{Environment, expand},
    problem::in_source,
    schema::File,
    words,
};
use serde::Deserialize;
use std::ops::Range;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

/// What `text` says, and what is wrong with it. With a fault in the syntax nothing is known of the rest.
pub(super) fn deserialize(
    source: usize,
    text: &str,
    environment: Environment<'_>,
) -> (File, Vec<Problem>) {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    let place = |span: Range<usize>| Location {
        source,
        start: span.start,
        end: span.end,
    };
    if !errors.is_empty() {
        let problem = |error: &toml::de::Error| Problem {
            at: Some(place(error.span().unwrap_or(0..0))),
            message: error.message().to_owned(),
            hint: Some(words::SYNTAX.to_owned()),
        };
        return (
            File::default(),
            errors.iter().take(MOST).map(problem).collect(),
        );
    }
    let mut problems = Vec::new();
    fill_in(document.get_mut(), environment, &mut |span, bad| {
        problems.push(Problem {
            at: Some(place(span)),
            message: bad.message,
            hint: Some(bad.hint),
        });
    });
    while problems.len() < MOST {
        let read = in_source(source, || {
            File::deserialize(Deserializer::from(document.clone()))
        });
        let error = match read {
            Ok(file) => return (file, problems),
            Err(error) => error,
        };
        let (message, hint) = words::explain(error.message());
        problems.push(Problem {
            at: error.span().map(place),
            message,
            hint: Some(hint),
        });
        let removed = error.span().is_some_and(|span| {
            remove(document.get_mut(), &|at| *at == span)
                || remove(document.get_mut(), &|at| {
                    at.start <= span.start && span.end <= at.end
                })
        });
        if !removed {
            break;
        }
    }
    (File::default(), problems)
}

/// Replaces what strings take from the environment; what cannot be is told, and left as it is.
fn fill_in(
    table: &mut DeTable<'_>,
    environment: Environment<'_>,
    bad: &mut dyn FnMut(Range<usize>, super::BadValue),
) {
    for (_, value) in table.iter_mut() {
        fill_in_value(value, environment, bad);
    }
}

fn fill_in_value(
    value: &mut Spanned<DeValue<'_>>,
    environment: Environment<'_>,
    bad: &mut dyn FnMut(Range<usize>, super::BadValue),
) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => match expand(text, environment) {
            Ok(Some(filled)) => *text = filled.into(),
            Ok(None) => {}
            Err(why) => bad(span, why),
        },
        DeValue::Array(values) => values
            .iter_mut()
            .for_each(|value| fill_in_value(value, environment, bad)),
        DeValue::Table(table) => fill_in(table, environment, bad),
        _ => {}
    }
}

/// Takes out the deepest key or value whose place satisfies `is_it`.
fn remove(table: &mut DeTable<'_>, is_it: &dyn Fn(&Range<usize>) -> bool) -> bool {
    for (_, value) in table.iter_mut() {
        if remove_inside(value.get_mut(), is_it) {
            return true;
        }
    }
    let found = table
        .iter()
        .find(|(key, value)| is_it(&key.span()) || is_it(&value.span()));
    let Some(key) = found.map(|(key, _)| key.clone()) else {
        return false;
    };
    table.remove(&key).is_some()
}

fn remove_inside(value: &mut DeValue<'_>, is_it: &dyn Fn(&Range<usize>) -> bool) -> bool {
    match value {
        DeValue::Table(table) => remove(table, is_it),
        DeValue::Array(values) => {
            if values
                .iter_mut()
                .any(|value| remove_inside(value.get_mut(), is_it))
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

/// More problems than that are not read by anybody.
const MOST: usize = 100;
