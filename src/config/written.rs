//! The source map of the files: where keys are written, which pools are named, and which values were removed because they
//! are invalid. It distinguishes a missing key from one that is present and invalid.

use super::Location;
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The source map of all files.
#[derive(Debug, Default)]
pub(super) struct SourceMap {
    /// The location of each key, by the location of its table and the key.
    pub(super) keys: HashMap<(Location, String), Location>,
    /// The names of all pools, including those with errors.
    pub(super) pools: HashSet<String>,
    /// A file could not be read or is not TOML: its content is unknown.
    pub(super) unread: bool,
    /// The removed keys.
    removed: Vec<RemovedKey>,
}

/// A key that is present and invalid.
#[derive(Debug)]
struct RemovedKey {
    /// The table; `None` at the top level of a file.
    table: Option<Location>,
    key: String,
    /// The key is unknown, so it may be a misspelling of any key.
    is_unknown: bool,
}

// === impl SourceMap ===

impl SourceMap {
    /// Creates the source map of a file from which nothing was removed yet.
    pub(super) fn of(
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
    pub(super) fn unread() -> Self {
        SourceMap {
            unread: true,
            ..SourceMap::default()
        }
    }

    /// Records a removed key.
    pub(super) fn record_removed(&mut self, table: Option<Location>, key: &str, is_unknown: bool) {
        // The files that it names are unknown.
        self.unread |= table.is_none() && key == "include";
        self.removed.push(RemovedKey {
            table,
            key: key.to_owned(),
            is_unknown,
        });
    }

    /// Adds the source map of another file.
    pub(super) fn extend(&mut self, other: SourceMap) {
        self.keys.extend(other.keys);
        self.pools.extend(other.pools);
        self.removed.extend(other.removed);
        self.unread |= other.unread;
    }

    /// Returns whether one of `keys` may be present although it was not read: removed as invalid or misspelled, in `table`
    /// or, with `None`, at the top level of a file.
    pub(super) fn may_contain(&self, table: Option<Location>, keys: &[&str]) -> bool {
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
