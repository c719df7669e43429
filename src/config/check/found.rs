//! The diagnostics found so far, and the locations of keys.

use super::super::{Config, Diagnostic, Location, written::SourceMap};

/// The diagnostics found, and the configuration that is checked.
pub(super) struct CheckContext<'a> {
    pub(super) config: &'a Config,
    pub(super) source_map: &'a SourceMap,
    pub(super) diagnostics: Vec<Diagnostic>,
}

// === impl CheckContext ===

impl CheckContext<'_> {
    pub(super) fn add(
        &mut self,
        at: Option<Location>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.diagnostics.push(Diagnostic {
            at,
            message: message.into(),
            hint: Some(hint.into()),
        });
    }

    /// Returns the location of `key` in a section such as `[limits]`.
    pub(super) fn in_section(&self, section: &str, key: &str) -> Option<Location> {
        self.in_table(self.config.sections.get(section).copied(), key)
    }

    /// Returns the location of `key` in the table at `table`, or that of the table if the key is not written there.
    pub(super) fn in_table(&self, table: Option<Location>, key: &str) -> Option<Location> {
        self.written_in(table, key).or(table)
    }

    /// Returns the location of `key` in the table at `table`, if it is written there.
    pub(super) fn written_in(&self, table: Option<Location>, key: &str) -> Option<Location> {
        self.source_map.keys.get(&(table?, key.to_owned())).copied()
    }
}
