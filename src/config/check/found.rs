//! What was found so far, and where a key stands.

use super::super::{Config, Location, Problem};

/// The problems found, and what they are found in.
pub(super) struct Found<'a> {
    pub(super) config: &'a Config,
    /// Parts of the files could not be read.
    pub(super) broken: bool,
    pub(super) problems: Vec<Problem>,
}

// === impl Found ===

impl Found<'_> {
    pub(super) fn add(
        &mut self,
        at: Option<Location>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems.push(Problem {
            at,
            message: message.into(),
            hint: Some(hint.into()),
        });
    }

    /// Something is not there; which is no wonder where parts could not be read.
    pub(super) fn missing(
        &mut self,
        at: Option<Location>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if !self.broken {
            self.add(at, message, hint);
        }
    }

    /// Where `key` stands in a section such as `[limits]`.
    pub(super) fn in_section(&self, section: &str, key: &str) -> Option<Location> {
        self.in_table(self.config.sections.get(section).copied(), key)
    }

    /// The line of `key` in the table that begins at `table`, or else that table's own.
    pub(super) fn in_table(&self, table: Option<Location>, key: &str) -> Option<Location> {
        let table = table?;
        let text = self
            .config
            .sources
            .get(table.source)?
            .text
            .get(table.start..)?;
        let mut start = table.start;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let entry = line.trim_start();
            if entry
                .strip_prefix(key)
                .is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
            {
                let start = start + line.len() - entry.len();
                return Some(Location {
                    source: table.source,
                    start,
                    end: start + entry.trim_end().len(),
                });
            }
            // The next table begins.
            if index > 0 && entry.starts_with('[') {
                break;
            }
            start += line.len();
        }
        Some(table)
    }
}
