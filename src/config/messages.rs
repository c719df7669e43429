//! Rewrites error messages of serde and toml into messages and hints for the author of the file, and finds values of
//! the wrong shape: `ping = "off"`, `sticky = true`, `origins = "*"`. The schema defines the shape of a
//! key; the hint is derived from the value that was written.

use crate::config::{
    reference::{SchemaIndex, inline, words},
    schema_types::{definition, has_type, is_number, maximum, text_for, type_name},
    values::{self, BadValue, correction, path_notation::quoted},
};
use serde_json::Value;
use std::{collections::HashMap, ops::Range};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The values of the wrong shape, and the corrections of the others.
pub(crate) struct ShapeErrors {
    /// An error with its span for each value of the wrong shape. serde alone would accept a list for a table and assign
    /// its values to the keys in order.
    pub(crate) found: Vec<(Range<usize>, BadValue)>,
    /// The lines that were probably meant, by the span of a text that its own parser will refuse.
    pub(crate) corrections: HashMap<Range<usize>, String>,
}

/// Compares the values of a document with the schema.
pub(crate) fn shape_errors(
    document: &Spanned<DeTable<'_>>,
    text: &str,
    schema: &Value,
) -> ShapeErrors {
    let mut checker = ShapeChecker {
        index: &SchemaIndex::of(schema),
        text,
        errors: ShapeErrors {
            found: Vec::new(),
            corrections: HashMap::new(),
        },
        list: None,
    };
    checker.table(&mut Vec::new(), document.get_ref(), schema);
    checker.errors
}

struct ShapeChecker<'a> {
    index: &'a SchemaIndex<'a>,
    text: &'a str,
    errors: ShapeErrors,
    /// The spans of the values of the list that is being checked, and the index of the current one.
    list: Option<(Vec<Range<usize>>, usize)>,
}

/// The shape of value that a key accepts.
enum ValueShape<'a> {
    Table,
    List(&'a Value),
    Words(Vec<&'a str>),
    /// Text, a number or a boolean: the value's own parser reports errors.
    Plain,
}

// === impl ShapeChecker ===

impl<'a> ShapeChecker<'a> {
    /// Checks the table at `path`. Its keys are those of `schema`, or arbitrary names with values of one schema.
    fn table(&mut self, path: &mut Vec<String>, table: &DeTable<'_>, schema: &'a Value) {
        for (key, value) in table {
            let key = key.get_ref();
            let known = schema.get("properties").and_then(|keys| keys.get(&**key));
            let Some(property) = known.or_else(|| schema.get("additionalProperties")) else {
                continue;
            };
            path.push(key.to_string());
            self.value(path, value, property);
            path.pop();
        }
    }

    fn value(&mut self, path: &mut Vec<String>, value: &Spanned<DeValue<'_>>, property: &'a Value) {
        let mut schema = self.index.resolve(property);
        if matches!(value.get_ref(), DeValue::Table(_)) {
            schema = self.index.text_or_table(property).unwrap_or(schema);
        }
        match (value.get_ref(), shape(schema)) {
            (_, ValueShape::Plain) => self.plain(path, value, property),
            (DeValue::String(_), ValueShape::Words(_)) => {}
            (DeValue::Table(table), ValueShape::Table) => {
                let list = self.list.take();
                self.table(path, table, schema);
                self.list = list;
            }
            (DeValue::Array(values), ValueShape::List(each)) => {
                let spans: Vec<_> = values.iter().map(Spanned::span).collect();
                for (index, value) in values.iter().enumerate() {
                    self.list = Some((spans.clone(), index));
                    self.value(path, value, each);
                }
                self.list = None;
            }
            (written, shape) => {
                let hint = match shape {
                    ValueShape::Words(words) => self.word(path, value, &words),
                    ValueShape::List(each) => self.list(path, value, property, each),
                    _ => self.keys(path, value, property, schema),
                };
                let message = format!(
                    "{} is not allowed here",
                    self.describe(written, value.span())
                );
                self.errors
                    .found
                    .push((value.span(), BadValue::new(message, hint)));
            }
        }
    }

    /// Checks a text, a number or a boolean: reports a value of another type, and notes the correction of a text.
    fn plain(&mut self, path: &[String], value: &Spanned<DeValue<'_>>, property: &'a Value) {
        let schema = self.index.resolve(property);
        let accepts = |kind| has_type(schema, kind);
        // A value of the environment may be secret.
        if self.written(value.span()).contains("${") {
            return;
        }
        let kind = type_name(path, property);
        let hint = match value.get_ref() {
            DeValue::String(text) if accepts("string") => {
                if !correction::is_valid(kind, text)
                    && let Some(fix) = correction::correct(kind, text)
                {
                    let line = self.line(path, &quoted(&fix));
                    self.errors.corrections.insert(value.span(), line);
                }
                return;
            }
            // Its own parser knows the range.
            DeValue::Integer(_) if accepts("integer") && accepts("string") => return,
            DeValue::Integer(number) if accepts("integer") => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                if number.is_ok_and(|number| (0..=maximum(schema)).contains(&number)) {
                    return;
                }
                self.number(path, value, property, schema)
            }
            DeValue::Boolean(_) if accepts("boolean") => return,
            DeValue::Table(_) => return,
            _ if accepts("integer") && !accepts("string") => {
                self.number(path, value, property, schema)
            }
            _ if accepts("boolean") => {
                let written = self.written(value.span());
                let word = written.trim_matches(['"', '\'']);
                let is_on = ["true", "yes", "on", "1", "enabled"];
                let is_on = is_on.iter().any(|on| word.eq_ignore_ascii_case(on));
                let line = self.line(path, if is_on { "true" } else { "false" });
                format!("write {line}: the values are true or false, without quotes")
            }
            DeValue::Array(values) if accepts("string") => {
                // `host` has an error of its own.
                let Some(first) = values.iter().find_map(|value| value.get_ref().as_str()) else {
                    return;
                };
                if last(path) == "host" {
                    return;
                }
                self.one_of_several(path, first, values.len(), &self.written(value.span()))
            }
            DeValue::Array(_) => return,
            scalar if accepts("string") => {
                let text = self.written(value.span());
                let is_on = match scalar {
                    DeValue::Boolean(is_on) => Some(*is_on),
                    _ => None,
                };
                let fix = text_for(kind, &text, is_on, property, schema);
                format!("write {}", self.line(path, &quoted(&fix)))
            }
            _ => return,
        };
        let message = format!(
            "{} is not allowed here",
            self.describe(value.get_ref(), value.span())
        );
        self.errors
            .found
            .push((value.span(), BadValue::new(message, hint)));
    }

    /// Returns the hint for a number: the one that is written in another form, or the default.
    fn number(
        &self,
        path: &[String],
        value: &Spanned<DeValue<'_>>,
        property: &Value,
        schema: &Value,
    ) -> String {
        let written = self.written(value.span()).replace('_', "");
        let written = written.trim_matches(['"', '\'', ' ']);
        let whole = written.parse::<i64>().ok();
        let rounded = || {
            written
                .parse::<f64>()
                .ok()
                .map(|number| number.round() as i64)
        };
        let is_allowed = |number: &i64| (0..=maximum(schema)).contains(number);
        let number = whole.or_else(rounded).filter(is_allowed);
        let number = number.or_else(|| property.get("default")?.as_i64());
        let line = self.line(path, &number.unwrap_or(1).to_string());
        format!("write {line}, a whole number from 0 to {}", maximum(schema))
    }

    /// Returns the hint for a list in the place of one text.
    fn one_of_several(&self, path: &[String], first: &str, count: usize, all: &str) -> String {
        let line = self.line(path, &quoted(first));
        match (count, last(path)) {
            (1, _) => format!("write {line}"),
            (_, "to") => {
                format!("write pool = \"chat\" here, and below: [pools.chat] with backends = {all}")
            }
            (_, "path") => format!("write {line}, and one of [[routes]] for each further path"),
            _ => format!("write {line}: one text, not a list"),
        }
    }

    /// Returns the line with `literal` in the place of the current value: within its list, if it is in one.
    fn line(&self, path: &[String], literal: &str) -> String {
        let key = last(path);
        let Some((spans, current)) = &self.list else {
            return format!("{key} = {literal}");
        };
        let values = spans.iter().enumerate().map(|(index, span)| {
            let is_current = index == *current;
            if is_current {
                literal.to_owned()
            } else {
                self.written(span.clone())
            }
        });
        let values = values.collect::<Vec<_>>().join(", ");
        if values.len() <= MAX_LINE_LEN && !values.contains('…') {
            format!("{key} = [{values}]")
        } else {
            format!("{key} = [{literal}]")
        }
    }

    /// Returns the hint for a choice of words: the word that was probably meant, or all of them.
    fn word(&self, path: &[String], value: &Spanned<DeValue<'_>>, words: &[&str]) -> String {
        let written = self.written(value.span());
        let is_meant = |word: &str| match value.get_ref() {
            DeValue::Boolean(on) => *on != (word == "off"),
            _ => word == written,
        };
        let is_any_meant = words.iter().any(|word| is_meant(word));
        let words = words.iter().filter(|word| !is_any_meant || is_meant(word));
        let words: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
        format!("write {} = {}", last(path), words.join(", or "))
    }

    /// Returns the hint for a list: with the value that is written alone, corrected.
    fn list(
        &self,
        path: &[String],
        value: &Spanned<DeValue<'_>>,
        property: &Value,
        each: &Value,
    ) -> String {
        let key = last(path);
        let written = self.written(value.span());
        if self.has_header(value) {
            return format!("write [[{}]], in double brackets", path.join("."));
        }
        let kind = definition(each).unwrap_or_default();
        let default = property.get("default").filter(|default| {
            let values = default.as_array();
            values.is_some_and(|values| !values.is_empty())
        });
        let is_required = ["hosts", "origins", "allow", "backends"].contains(&key);
        let texts: Vec<String> = match value.get_ref() {
            DeValue::Boolean(true) if default.is_some() => {
                return format!("write {key} = {}", default.unwrap_or(&Value::Null));
            }
            DeValue::Boolean(_) if !is_required => return format!("write {key} = []"),
            DeValue::String(text) if correction::is_off(text) && !is_required => {
                return format!("write {key} = []");
            }
            DeValue::String(text) if kind == "ListenAddress" => vec![text.to_string()],
            DeValue::String(_) if written.contains("${") => {
                return format!("write {key} = [{written}]");
            }
            DeValue::String(text) => {
                let texts = text.split([',', ' ']).filter(|text| !text.is_empty());
                texts.map(str::to_owned).collect()
            }
            DeValue::Integer(_) | DeValue::Float(_) => vec![written.clone()],
            _ => return format!("write {key} = [{written}]"),
        };
        let corrected = texts.iter().map(|text| {
            let fix = correction::correct(kind, text).unwrap_or_else(|| text.clone());
            quoted(&fix)
        });
        format!(
            "write {key} = [{}]",
            corrected.collect::<Vec<_>>().join(", ")
        )
    }

    /// Returns whether the value is written as `[a.b]` or `[[a.b]]` and not after `b =`.
    fn has_header(&self, value: &Spanned<DeValue<'_>>) -> bool {
        match value.get_ref() {
            DeValue::Table(_) => !self.written(value.span()).starts_with('{'),
            DeValue::Array(values) => values.first().is_some_and(|value| self.has_header(value)),
            _ => false,
        }
    }

    /// Returns the hint for a table: with the key to which the value belongs, or with its default content.
    fn keys(
        &self,
        path: &[String],
        value: &Spanned<DeValue<'_>>,
        property: &Value,
        schema: &Value,
    ) -> String {
        let key = last(path);
        if path.len() == 1 || self.has_header(value) {
            return format!("write a section: [{}], and its keys below", path.join("."));
        }
        if let Some(inner) = self.key_for(value, schema) {
            return format!("write {key} = {{ {inner} }}");
        }
        match property.get("default").and_then(Value::as_object) {
            Some(default)
                if default
                    .values()
                    .any(|value| !value.is_null() && !value.is_object()) =>
            {
                format!("write a table, such as {key} = {}", inline(default))
            }
            _ => {
                let keys = schema.get("properties").and_then(Value::as_object);
                let keys = keys.into_iter().flat_map(|keys| keys.keys());
                let keys: Vec<_> = keys.map(|key| format!("`{key}`")).collect();
                if keys.is_empty() {
                    format!("write a table, such as {key} = {{ name = \"value\" }}")
                } else {
                    format!("write a table with some of {}", keys.join(", "))
                }
            }
        }
    }

    /// Returns the only key of a table that could accept `value`, as an assignment.
    fn key_for(&self, value: &Spanned<DeValue<'_>>, table: &Value) -> Option<String> {
        let keys = table.get("properties")?.as_object()?;
        let mut keys = keys.iter().filter_map(|(key, property)| {
            let schema = self.index.resolve(property);
            let written = self.written(value.span());
            let value = match (value.get_ref(), shape(schema)) {
                (DeValue::Boolean(on), ValueShape::Words(words)) if words.contains(&"off") => {
                    let word = words.iter().find(|word| *on != (**word == "off"))?;
                    format!("\"{word}\"")
                }
                (DeValue::String(word), ValueShape::Words(words)) if words.contains(&&**word) => {
                    written
                }
                (DeValue::String(_), ValueShape::List(_)) => format!("[{written}]"),
                (DeValue::Array(all), ValueShape::List(_))
                    if all.iter().all(|one| one.get_ref().is_str()) =>
                {
                    written
                }
                (DeValue::Integer(_), ValueShape::Plain) if is_number(schema) => written,
                _ => return None,
            };
            Some(format!("{key} = {value}"))
        });
        keys.next().filter(|_| keys.next().is_none())
    }

    fn describe(&self, value: &DeValue<'_>, span: Range<usize>) -> String {
        let kind = match value {
            DeValue::Table(_) => return "a table".to_owned(),
            DeValue::Array(_) => return "a list".to_owned(),
            DeValue::String(_) => return format!("string {}", self.written(span)),
            DeValue::Integer(_) => "integer",
            DeValue::Float(_) => "float",
            DeValue::Boolean(_) => "boolean",
            DeValue::Datetime(_) => "date",
        };
        format!("{kind} `{}`", self.written(span))
    }

    /// Returns the value as it is written in the file, so that the expansion of `${NAME}` stays secret. A value of
    /// several lines is left out.
    fn written(&self, span: Range<usize>) -> String {
        let written = self.text.get(span).unwrap_or_default();
        if written.contains(['\n', '\r']) {
            "…".to_owned()
        } else {
            written.to_owned()
        }
    }
}

fn shape(schema: &Value) -> ValueShape<'_> {
    if let Some(words) = words(schema) {
        return ValueShape::Words(words);
    }
    match (schema.get("items"), schema.get("properties")) {
        (Some(each), _) => ValueShape::List(each),
        (None, Some(_)) => ValueShape::Table,
        _ if schema.get("additionalProperties").is_some() => ValueShape::Table,
        _ => ValueShape::Plain,
    }
}

/// Returns the hint with the line that was probably meant before it.
pub(crate) fn with_line(hint: &str, line: &str) -> String {
    if hint.contains(line) {
        hint.to_owned()
    } else {
        format!("write {line}; {hint}")
    }
}

fn last(path: &[String]) -> &str {
    path.last().map_or("", String::as_str)
}

/// Returns the message and the hint for an error of the deserializer.
pub(crate) fn explain(error: &str) -> BadValue {
    // The message of a `BadValue`.
    if let Some((message, hint)) = error.split_once(values::SEPARATOR) {
        return BadValue::new(message, hint);
    }
    let named: Vec<&str> = error.split('`').skip(1).step_by(2).collect();
    match (error, named.as_slice()) {
        (_, [key, known @ ..]) if error.starts_with("unknown field") => {
            BadValue::new(format!("unknown key `{key}`"), suggest(key, known, "keys"))
        }
        (_, [word, known @ ..]) if error.starts_with("unknown variant") => BadValue::new(
            format!("`{word}` is not one of the allowed words"),
            suggest(word, known, "words"),
        ),
        (_, [key, ..]) if error.starts_with("missing field") => BadValue::new(
            format!("`{key}` is missing"),
            format!("add it: {}", example(key)),
        ),
        _ if error.starts_with("invalid type") || error.starts_with("invalid value") => {
            let (found, expected) = error
                .split_once(", expected ")
                .unwrap_or((error, "something else"));
            let found = match found.split_once(": ").map_or(found, |(_, found)| found) {
                // toml passes a date as a map.
                "map" => "a table or a date",
                "sequence" => "a list",
                found => found,
            };
            BadValue::new(
                format!("{found} is not allowed here"),
                format!("write {}", kind(expected)),
            )
        }
        _ => BadValue::new(
            error,
            "`lockgate schema --markdown` lists every key and its values",
        ),
    }
}

/// Returns the missing key if `error` reports one.
pub(crate) fn missing(error: &str) -> Option<&str> {
    error.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Returns "did you mean …", or a list of all known words.
pub(crate) fn suggest(word: &str, known: &[&str], what: &str) -> String {
    // A word may be empty, as the value of a key that is not set.
    let known: Vec<&str> = known.iter().copied().filter(|it| !it.is_empty()).collect();
    let distance = |known: &&&str| strsim::damerau_levenshtein(word, known);
    match known.iter().min_by_key(distance) {
        Some(known) if is_similar(word, known) => format!("did you mean `{known}`?"),
        None => "remove it".to_owned(),
        _ => format!(
            "the {what} here are {}",
            known
                .iter()
                .map(|known| format!("`{known}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// Returns whether `word` is probably a misspelling of `known`.
pub(crate) fn is_similar(word: &str, known: &str) -> bool {
    strsim::damerau_levenshtein(word, known) <= (word.len() / 3).max(1)
}

fn example(key: &str) -> &'static str {
    match key {
        "hosts" => "hosts = [\"chat.example.com\"], or [\"*\"] for any",
        "address" => "address = \"ws://127.0.0.1:8765\"",
        "backends" => "backends = [\"ws://127.0.0.1:8765\"]",
        "cert" => "cert = \"chat.pem\", the file with the certificate chain",
        "key" => "key = \"chat.key\", the file with the private key",
        _ => "`lockgate schema --markdown` shows its values",
    }
}

/// Returns the name of a Rust type for users of TOML.
fn kind(expected: &str) -> String {
    match expected {
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" => "text in quotes".to_owned(),
        "a sequence" => "a list in [ ]".to_owned(),
        "a map" => "a table".to_owned(),
        // A struct, by its Rust name.
        name if name.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}

/// The maximum length of a list in a hint.
const MAX_LINE_LEN: usize = 200;

/// The hint for a table or key that is repeated.
pub(crate) const DUPLICATE: &str = "keep one of the two";

/// The hint for a TOML syntax error.
pub(crate) const SYNTAX: &str =
    "the file is TOML: strings in quotes, lists in [ ], tables under a [name]; see https://toml.io";
