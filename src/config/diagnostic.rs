//! Configuration errors with their locations: with the source line for people, and as JSON for programs.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use std::{
    borrow::Cow,
    cell::Cell,
    fmt,
    ops::{Deref, Range},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as it was named.
    pub path: PathBuf,
    /// The text of the file.
    pub text: String,
}

/// The bytes `start..end` of the file with the index `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// Index into the sources.
    pub source: usize,
    /// Offset of the first byte.
    pub start: usize,
    /// Offset of the byte after the last one.
    pub end: usize,
}

/// A value and its location; it has none if it came from a flag or a default.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The parsed value.
    pub value: T,
    /// The location of its text, if it comes from a file.
    pub at: Option<Location>,
}

/// One error in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The location, if there is one.
    pub at: Option<Location>,
    /// What is wrong, without file and line.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
}

/// Whether diagnostics make a configuration invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It is invalid.
    Error,
    /// It is valid, but probably does not do what was meant.
    Warning,
}

/// All errors, or all warnings, with the texts of the files to quote from.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// The severity of each.
    pub severity: Severity,
    /// The files that `Location::source` refers to.
    pub sources: Arc<[Source]>,
    /// In the order of the files and of their lines. A list of errors is not empty.
    pub list: Vec<Diagnostic>,
}

// === impl Located ===

impl<T> Located<T> {
    /// Creates a value without a location.
    pub fn nowhere(value: T) -> Self {
        Located { value, at: None }
    }
}

impl<T: Default> Default for Located<T> {
    fn default() -> Self {
        Located::nowhere(T::default())
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl AsRef<Path> for Located<PathBuf> {
    fn as_ref(&self) -> &Path {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        let span = spanned.span();
        let at = Location {
            source: SOURCE.get(),
            start: span.start,
            end: span.end,
        };
        Ok(Located {
            value: spanned.into_inner(),
            at: Some(at),
        })
    }
}

impl<T: Serialize> Serialize for Located<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Located<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// Sets the current file while `read` deserializes it: serde passes no context down to the values.
pub(crate) fn in_source<T>(source: usize, read: impl FnOnce() -> T) -> T {
    SOURCE.set(source);
    read()
}

thread_local! {
    static SOURCE: Cell<usize> = const { Cell::new(0) };
}

// === impl Diagnostic ===

impl Diagnostic {
    /// Replaces the secrets on its line by stars in the message and the hint.
    fn redact(&mut self, sources: &[Source]) {
        let text = self
            .at
            .and_then(|at| Some((&*sources.get(at.source)?.text, at)));
        let Some((text, at)) = text else { return };
        let (_, line, _) = line(text, at);
        for range in secrets(line) {
            let value = line[range].trim_end();
            // A hint may show a part of a list without its brackets and quotes.
            let parts = value.split(['[', ']', '"', '\'', ',', ' ']);
            for secret in [value]
                .into_iter()
                .chain(parts.filter(|part| part.len() > 2))
            {
                self.message = self.message.replace(secret, "***");
                let hint = self.hint.take();
                self.hint = hint.map(|hint| hint.replace(secret, "***"));
            }
        }
    }
}

// === impl Diagnostics ===

impl Diagnostics {
    /// Returns the files that were read, including those with errors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|source| &*source.path)
    }

    /// Sorts the errors in reading order of the files. An error without a location concerns the whole configuration and
    /// is located at its beginning.
    pub fn new(sources: Arc<[Source]>, mut list: Vec<Diagnostic>) -> Self {
        let whole = sources.first().map(|_| Location {
            source: 0,
            start: 0,
            end: 0,
        });
        for diagnostic in &mut list {
            diagnostic.at = diagnostic.at.or(whole);
        }
        list.sort_by_key(|diagnostic| diagnostic.at.map(|at| (at.source, at.start)));
        if list.len() > MAX_DIAGNOSTICS {
            let more = list.len() - MAX_DIAGNOSTICS;
            list.truncate(MAX_DIAGNOSTICS);
            list.push(Diagnostic {
                at: list.last().and_then(|last| last.at),
                message: match more {
                    1 => "and 1 more problem".to_owned(),
                    more => format!("and {more} more problems"),
                },
                hint: Some("fix these first".to_owned()),
            });
        }
        for diagnostic in &mut list {
            diagnostic.message = one_line(&diagnostic.message);
            diagnostic.hint = diagnostic.hint.as_deref().map(one_line);
        }
        for diagnostic in &mut list {
            diagnostic.redact(&sources);
        }
        Diagnostics {
            severity: Severity::Error,
            sources,
            list,
        }
    }

    /// Returns an empty list.
    pub(crate) fn none(severity: Severity) -> Self {
        Diagnostics {
            severity,
            sources: [].into(),
            list: Vec::new(),
        }
    }

    /// Returns the same diagnostics with another severity.
    pub(crate) fn with_severity(self, severity: Severity) -> Self {
        Diagnostics { severity, ..self }
    }

    /// Returns a JSON array of `{file, line, column, message, hint, severity}`; file, line and column are `null`
    /// without a location. Lines and columns (in characters) begin with 1.
    pub fn json(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let diagnostic = |diagnostic: &Diagnostic| {
            let place = diagnostic.at.and_then(|at| self.place(at));
            let (file, line, column) = match place {
                Some((source, line, column)) => (
                    Some(source.path.display().to_string()),
                    Some(line),
                    Some(column),
                ),
                None => (None, None, None),
            };
            json!({ "file": file, "line": line, "column": column, "message": diagnostic.message, "hint": diagnostic.hint, "severity": severity })
        };
        let list: Vec<_> = self.list.iter().map(diagnostic).collect();
        format!("{:#}", serde_json::Value::Array(list))
    }

    /// Returns the line and column of a location, counted from 1.
    fn place(&self, at: Location) -> Option<(&Source, usize, usize)> {
        let source = self.sources.get(at.source)?;
        let before = source.text.get(..at.start)?;
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        Some((source, line, column))
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let level = match self.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let title = level.primary_title(&diagnostic.message);
            let hint = diagnostic
                .hint
                .as_ref()
                .map(|hint| Level::HELP.message(hint));
            let place = diagnostic.at.and_then(|at| Some((at, self.place(at)?.0)));
            let mut group = match place {
                Some((at, source)) => {
                    let path = source.path.display().to_string();
                    let (number, line, marked) = line(&source.text, at);
                    let snippet = Snippet::source(redact_line(line))
                        .line_start(number)
                        .path(path);
                    title.element(snippet.annotation(AnnotationKind::Primary.span(marked)))
                }
                None => Group::with_title(title),
            };
            if let Some(hint) = hint {
                group = group.element(hint);
            }
            writeln!(f, "{}", Renderer::plain().render(&[group]))?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Returns the number and text of the line where `at` begins, and the range to mark in it. Only this line is passed to
/// the renderer, which would otherwise scan the whole file for each error.
fn line(text: &str, at: Location) -> (usize, &str, Range<usize>) {
    let (before, behind) = text.split_at_checked(at.start).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let length = behind.find(['\n', '\r']).unwrap_or(behind.len());
    let line = text.get(start..before.len() + length).unwrap_or_default();
    let from = before.len() - start;
    let to = from + at.end.saturating_sub(at.start).min(length);
    (before.matches('\n').count() + 1, line, from..to)
}

/// Returns the line with its secrets replaced by stars of the same length: it is shown on terminals and in logs.
fn redact_line(line: &str) -> Cow<'_, str> {
    let mut redacted = Cow::Borrowed(line);
    // Ranges may overlap, but stars do not change the length.
    for range in secrets(line) {
        let stars = "*".repeat(range.len());
        redacted.to_mut().replace_range(range, &stars);
    }
    redacted
}

/// Returns the ranges of the secrets in a line: each value that follows the name of a secret key and `=`. The name may
/// also occur in another value or in a comment, so every occurrence is examined.
fn secrets(line: &str) -> Vec<Range<usize>> {
    let names = SECRETS
        .iter()
        .flat_map(|key| line.match_indices(key).map(|(at, key)| at + key.len()));
    names.filter_map(|end| secret_behind(line, end)).collect()
}

/// Returns the range of the value of the key whose name ends at `key_end`. The value may be in quotes or, by mistake,
/// not. A reference `${NAME}` is no secret. The keys in an inline table are examined by themselves.
fn secret_behind(line: &str, key_end: usize) -> Option<Range<usize>> {
    let behind = line
        .get(key_end..)?
        .trim_start_matches(['"', '\'', ' ', '\t']);
    let value = behind.strip_prefix('=')?.trim_start();
    // A multi-line string begins with three quotes.
    let open = value.trim_start_matches(['"', '\'']);
    let len = match value.chars().next()? {
        '{' => return None,
        '[' => open.rfind(']').map_or(open.len(), |end| end + 1),
        '"' => basic_string_len(open),
        '\'' => open.find('\'').unwrap_or(open.len()),
        _ => open.find([',', '}', ']', '#']).unwrap_or(open.len()),
    };
    let from = line.len() - open.len();
    let is_shown = open.starts_with("${") || len == 0;
    (!is_shown).then_some(from..from + len)
}

/// Returns the length of a string up to its first quote that no backslash escapes.
fn basic_string_len(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    end.unwrap_or(text.len())
}

/// The keys whose values are secret.
const SECRETS: [&str; 3] = ["admin_token", "hmac", "eab"];

/// Returns text from a file for quotation in a message: on one line and truncated.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for (index, c) in text.chars().enumerate() {
        match c {
            _ if index == MAX_MESSAGE_LEN => {
                line.push('…');
                break;
            }
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// 100 errors are more than a reader works through.
const MAX_DIAGNOSTICS: usize = 100;

/// The limit of a message in characters: ten lines of 80.
const MAX_MESSAGE_LEN: usize = 800;
