//! Errors of tables and keys that a file has twice: where the first one is. The TOML parser reports only the second
//! one, and reports a repeated table again for each of its keys.

use std::ops::Range;

/// The message of the TOML parser for a repeated table or key.
pub(crate) const DUPLICATE: &str = "duplicate key";

/// The lines of a file, for finding the first of two tables or keys.
pub(crate) struct Duplicates<'a> {
    lines: Vec<Line<'a>>,
    /// The headers that are repeated, by the index of their line.
    repeated: Vec<usize>,
}

struct Line<'a> {
    start: usize,
    text: &'a str,
    /// The index of the header line of its table; that of itself for a header; `None` above the first header.
    header: Option<usize>,
}

// === impl Duplicates ===

impl<'a> Duplicates<'a> {
    /// Indexes `text`, in which the parser found duplicates at `spans`.
    pub(crate) fn new(text: &'a str, spans: impl Iterator<Item = Range<usize>>) -> Self {
        let (mut lines, mut start, mut header) = (Vec::new(), 0, None);
        for line in text.split_inclusive('\n') {
            let text = line.trim();
            if text.starts_with('[') {
                header = Some(lines.len());
            }
            lines.push(Line {
                start,
                text,
                header,
            });
            start += line.len();
        }
        let mut duplicates = Duplicates {
            lines,
            repeated: Vec::new(),
        };
        let repeated: Vec<usize> = spans
            .filter_map(|span| duplicates.line(span.start))
            .filter(|index| duplicates.is_header(*index))
            .collect();
        duplicates.repeated = repeated;
        duplicates
    }

    /// Returns the message for the duplicate `name` at `span`; `None` if the table around it is reported as repeated.
    pub(crate) fn message(&self, name: &str, span: &Range<usize>) -> Option<String> {
        let Some(index) = self.line(span.start) else {
            return Some(format!("`{name}` is written twice"));
        };
        let line = &self.lines[index];
        if !self.is_header(index) && line.header.is_some_and(|at| self.repeated.contains(&at)) {
            return None;
        }
        let (name, first) = if self.is_header(index) {
            let header = header(line.text);
            let mut before = self.lines[..index].iter();
            let first = before.position(|other| self::header(other.text) == header);
            (header, first)
        } else {
            let mut before = self.lines[..index].iter();
            let is_first =
                |other: &Line<'_>| other.header == line.header && key(other.text) == name;
            (name.to_owned(), before.position(is_first))
        };
        Some(match first {
            Some(first) => format!("`{name}` is already at line {}", first + 1),
            None => format!("`{name}` is defined twice"),
        })
    }

    fn line(&self, at: usize) -> Option<usize> {
        let behind = self.lines.partition_point(|line| line.start <= at);
        behind.checked_sub(1)
    }

    fn is_header(&self, index: usize) -> bool {
        self.lines[index].header == Some(index)
    }
}

/// Returns the header of a table without blanks and comment; "" for any other line.
fn header(line: &str) -> String {
    let end = line.rfind(']').map_or(0, |end| end + 1);
    let is_header = line.starts_with('[');
    let header = line[..end]
        .chars()
        .filter(|c| is_header && !c.is_whitespace());
    header.collect()
}

/// Returns the key of an assignment; "" for any other line.
fn key(line: &str) -> &str {
    line.split_once('=').map_or("", |(key, _)| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_table_is_reported_once_with_the_first_line() {
        let text = "[server]\nhttp = []\n\n[ server ] # again\nhttp = []\n[limits]\nidle = \"1s\"\nidle = \"2s\"\n";
        let spans = [22..28, 39..43, 70..74];
        let names = spans.clone().map(|span| &text[span]);
        assert_eq!(names, ["server", "http", "idle"]);
        let duplicates = Duplicates::new(text, spans.clone().into_iter());
        let messages = spans.map(|span| duplicates.message(&text[span.clone()], &span));
        let expected = [
            Some("`[server]` is already at line 1".to_owned()),
            None,
            Some("`idle` is already at line 7".to_owned()),
        ];
        assert_eq!(messages, expected);
    }
}
