//! JSON objects with unique names. Parsers differ in which of two members of the same name they use (RFC 8259 §4), so
//! that a proxy and the server behind it could read different values in the same text.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::{collections::HashSet, fmt};

/// Any JSON text whose objects, at every depth, have no two members of the same name.
#[derive(Debug)]
pub(crate) struct UniqueJson;

struct UniqueVisitor;

// === impl UniqueJson ===

impl UniqueJson {
    /// Returns whether `text` is JSON without repeated names.
    pub(crate) fn accepts(text: &[u8]) -> bool {
        serde_json::from_slice::<UniqueJson>(text).is_ok()
    }
}

impl<'de> Deserialize<'de> for UniqueJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor)
    }
}

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = UniqueJson;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueJson, A::Error> {
        let mut names: HashSet<String> = HashSet::new();
        while let Some(name) = map.next_key()? {
            if !names.insert(name) {
                return Err(A::Error::custom("a repeated name"));
            }
            map.next_value::<UniqueJson>()?;
        }
        Ok(UniqueJson)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<UniqueJson, A::Error> {
        while seq.next_element::<UniqueJson>()?.is_some() {}
        Ok(UniqueJson)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<UniqueJson, E> {
        Ok(UniqueJson)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<UniqueJson, E> {
        Ok(UniqueJson)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<UniqueJson, E> {
        Ok(UniqueJson)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<UniqueJson, E> {
        Ok(UniqueJson)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<UniqueJson, E> {
        Ok(UniqueJson)
    }

    fn visit_unit<E: Error>(self) -> Result<UniqueJson, E> {
        Ok(UniqueJson)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_names_are_refused_at_every_depth() {
        for good in [
            "{}",
            "[]",
            "1",
            "null",
            "\"a\"",
            r#"{"a":1,"b":{"a":1},"c":[{"a":-1.5},true]}"#,
        ] {
            assert!(UniqueJson::accepts(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "{",
            "{} {}",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"[{"a":1,"a":2}]"#,
        ] {
            assert!(!UniqueJson::accepts(bad.as_bytes()), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(!UniqueJson::accepts(deep.as_bytes()));
    }
}
