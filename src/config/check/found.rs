//! What was found so far, and where a key stands.

use super::super::{Config, Diagnostic, Location, written::SourceMap};

/// The problems found, and what they are found in.
pub(super) struct CheckContext<'a> {
    pub(super) config: &'a Config,
    pub(super) written: &'a SourceMap,
    pub(super) problems: Vec<Diagnostic>,
}

// === impl CheckContext ===

impl CheckContext<'_> {
    pub(super) fn add(
        &mut self,
        at: Option<Location>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems.push(Diagnostic {
            at,
            message: message.into(),
            hint: Some(hint.into()),
        });
    }

    /// Where `key` stands in a section such as `[limits]`.
    pub(super) fn in_section(&self, section: &str, key: &str) -> Option<Location> {
        self.in_table(self.config.sections.get(section).copied(), key)
    }

    /// Where `key` stands in the table at `table`; that table's own place if it is not written there.
    pub(super) fn in_table(&self, table: Option<Location>, key: &str) -> Option<Location> {
        self.written_in(table, key).or(table)
    }

    /// Where `key` stands in the table at `table`, if it is written there.
    pub(super) fn written_in(&self, table: Option<Location>, key: &str) -> Option<Location> {
        self.written.keys.get(&(table?, key.to_owned())).copied()
    }
}
