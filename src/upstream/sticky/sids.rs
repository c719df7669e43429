//! The backend of each `sid` (the Engine.IO protocol, "Handshake").

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A bounded table in two generations: when one is full, the older one is discarded, with all entries not used
/// recently.
#[derive(Debug, Default)]
pub(in crate::upstream) struct SidTable(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Box<str>, u64>,
    old: HashMap<Box<str>, u64>,
}

// === impl SidTable ===

impl SidTable {
    pub(super) fn bind(&self, sid: &str, id_hash: u64) {
        self.lock().insert(sid.into(), id_hash);
    }

    pub(super) fn backend(&self, sid: &str) -> Option<u64> {
        let mut generations = self.lock();
        if let Some(id_hash) = generations.young.get(sid) {
            return Some(*id_hash);
        }
        let (sid, id_hash) = generations.old.remove_entry(sid)?;
        generations.insert(sid, id_hash);
        Some(id_hash)
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Generations ===

impl Generations {
    fn insert(&mut self, sid: Box<str>, id_hash: u64) {
        if self.young.len() >= GENERATION_LEN {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(sid, id_hash);
    }
}

/// Parses the `sid` of an open packet: `0{"sid":"…"`; before version 4 its length precedes it.
pub(super) fn parse_sid(first: &[u8]) -> Option<&str> {
    let first = &first[..first.len().min(SCAN_LEN)];
    let key = first
        .windows(SID_KEY.len())
        .position(|window| window == SID_KEY)?;
    let rest = &first[key + SID_KEY.len()..];
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let sid = &rest[..end];
    let fits = (1..=MAX_SID_LEN).contains(&sid.len()) && sid.iter().all(is_plain);
    fits.then(|| std::str::from_utf8(sid).ok())?
}

const SID_KEY: &[u8] = b"\"sid\":\"";
/// Twenty letters in practice.
const MAX_SID_LEN: usize = 64;
/// The `sid` is at the beginning.
const SCAN_LEN: usize = 256;
/// Some 8 MiB for both generations.
const GENERATION_LEN: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sid_is_parsed_from_open_packets_of_both_versions_only() {
        for (first, sid) in [
            (
                r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"]}"#,
                Some("lv_VI97HAXpY6yYWAAAC"),
            ),
            (r#"97:0{"sid":"a-1","pingInterval":25000}2:40"#, Some("a-1")),
            (r#"0{"sid":""}"#, None),
            (r#"0{"sid":"a b"}"#, None),
            (r#"0{"sid":"cut"#, None),
            ("4hello", None),
            ("", None),
        ] {
            assert_eq!(parse_sid(first.as_bytes()), sid, "{first}");
        }
        let long = format!(r#"0{{"sid":"{}"}}"#, "a".repeat(65));
        assert_eq!(parse_sid(long.as_bytes()), None);
    }

    #[test]
    fn table_is_bounded_and_discards_unused_sids() {
        let sids = SidTable::default();
        sids.bind("used", 1);
        sids.bind("unused", 2);
        for n in 0..4 * GENERATION_LEN {
            sids.bind(&n.to_string(), 3);
            if n % 1000 == 0 {
                assert_eq!(sids.backend("used"), Some(1));
            }
        }
        assert_eq!(sids.backend("unused"), None);
        let generations = sids.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION_LEN);
    }
}
