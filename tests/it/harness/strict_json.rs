//! Parses JSON strictly: a key that occurs twice in an object is an error. serde_json keeps the last one, and other
//! parsers keep the first one or fail.

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use std::{collections::BTreeSet, fmt};

/// Fails if `text` is not one JSON value, or has a key twice.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let parsed = serde_json::from_str::<Strict>(text);
    parsed
        .map(|_| ())
        .map_err(|error| format!("{error}: {text}"))
}

/// Returns the problems of a log: each complete line that begins with `{` must be one strict JSON value. The last line
/// of a process that was killed may be incomplete.
pub(crate) fn problems(log: &str) -> Vec<String> {
    let complete = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let objects = complete.lines().filter(|line| line.starts_with('{'));
    objects.filter_map(|line| check(line).err()).collect()
}

/// A value of any kind, which is not kept.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Strict>()?;
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format!("the key {twice:?} occurs twice")));
            }
        }
        Ok(Strict)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strict, A::Error> {
        while seq.next_element::<Strict>()?.is_some() {}
        Ok(Strict)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
        Ok(Strict)
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict)
    }
}
