//! What was found so far, and where a key stands.

use super::super::{Config, Location, Problem, document::Keys};

/// The problems found, and what they are found in.
pub(super) struct Found<'a> {
    pub(super) config: &'a Config,
    pub(super) keys: &'a Keys,
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

    /// Where `key` stands in the table at `table`; that table's own place if it is not written there.
    pub(super) fn in_table(&self, table: Option<Location>, key: &str) -> Option<Location> {
        let table = table?;
        Some(*self.keys.get(&(table, key.to_owned())).unwrap_or(&table))
    }
}
