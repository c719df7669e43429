//! The files as text, beside their values: where keys stand, which pools are named, and what was taken out because it could
//! not be read. With it a key that is missing is told from one that is there and wrong.

use super::Location;
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Of all files together.
#[derive(Debug, Default)]
pub(super) struct SourceMap {
    /// Where the keys of each table stand: by the table's place and the key.
    pub(super) keys: HashMap<(Location, String), Location>,
    /// Pools by name, those with mistakes too.
    pub(super) pools: HashSet<String>,
    /// Of some file nothing is known: it cannot be read, or is not TOML.
    pub(super) unread: bool,
    /// What was taken out.
    lost: Vec<RemovedKey>,
}

/// Something that is there and could not be read.
#[derive(Debug)]
struct RemovedKey {
    /// In which table; `None`: in none, at the top of a file.
    table: Option<Location>,
    key: String,
    /// Nobody knows what it was meant to be.
    is_unknown: bool,
}

// === impl SourceMap ===

impl SourceMap {
    /// Of a file, nothing of which is out yet.
    pub(super) fn of(
        document: &Spanned<DeTable<'_>>,
        place: &impl Fn(Range<usize>) -> Location,
    ) -> Self {
        let mut written = SourceMap::default();
        note_keys(document.span(), document.get_ref(), place, &mut written);
        if let Some(DeValue::Table(pools)) = document.get_ref().get("pools").map(Spanned::get_ref) {
            let names = pools.keys().map(|name| name.get_ref().to_string());
            written.pools.extend(names);
        }
        written
    }

    /// Of a file of which nothing is known.
    pub(super) fn unread() -> Self {
        SourceMap {
            unread: true,
            ..SourceMap::default()
        }
    }

    /// Notes what was taken out.
    pub(super) fn lose(&mut self, table: Option<Location>, key: &str, is_unknown: bool) {
        // What it names is not known.
        self.unread |= table.is_none() && key == "include";
        self.lost.push(RemovedKey {
            table,
            key: key.to_owned(),
            is_unknown,
        });
    }

    /// What another file says, too.
    pub(super) fn extend(&mut self, other: SourceMap) {
        self.keys.extend(other.keys);
        self.pools.extend(other.pools);
        self.lost.extend(other.lost);
        self.unread |= other.unread;
    }

    /// Whether one of `keys` may be there for all that is known: itself or under a wrong name, in `table` or, with `None`,
    /// at the top of a file.
    pub(super) fn may_contain(&self, table: Option<Location>, keys: &[&str]) -> bool {
        self.unread
            || self.lost.iter().any(|lost| {
                lost.table == table && (lost.is_unknown || keys.contains(&lost.key.as_str()))
            })
    }
}

/// Notes where the keys of `table`, which stands at `span`, and of all tables in it stand.
fn note_keys(
    span: Range<usize>,
    table: &DeTable<'_>,
    place: &impl Fn(Range<usize>) -> Location,
    written: &mut SourceMap,
) {
    for (key, value) in table {
        let at = (place(span.clone()), key.get_ref().to_string());
        written.keys.insert(at, place(key.span()));
        note_keys_of(value, place, written);
    }
}

fn note_keys_of(
    value: &Spanned<DeValue<'_>>,
    place: &impl Fn(Range<usize>) -> Location,
    written: &mut SourceMap,
) {
    match value.get_ref() {
        DeValue::Table(table) => note_keys(value.span(), table, place, written),
        DeValue::Array(values) => {
            for value in values.iter() {
                note_keys_of(value, place, written);
            }
        }
        _ => {}
    }
}
