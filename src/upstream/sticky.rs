//! The same backend for the same client, as long as it is there: by a cookie of ours, or by the `sid` that Socket.IO gives
//! in its first answer and wants back with every request.

mod cookie;
mod sids;

use crate::config;
use cookie::CookieSigner;
use http::{HeaderMap, HeaderValue};
use sids::SidTable;
use std::sync::Arc;

/// How a pool finds a client's backend again.
#[derive(Debug)]
pub(super) enum StickyStrategy {
    Off,
    Cookie(Arc<CookieSigner>),
    Socketio(Arc<SidTable>),
}

/// The backend that a request belongs to, by the seed of its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Affinity {
    pub(super) seed: u64,
    /// No other can answer it: it goes there even if that is being taken out of service.
    pub(super) only: bool,
}

/// Whoever sees the first bytes of an answer to Socket.IO's first request.
#[derive(Debug)]
pub struct SidCapture {
    sids: Arc<SidTable>,
    seed: u64,
}

// === impl StickyStrategy ===

impl StickyStrategy {
    pub(super) fn new(written: config::Sticky, pool: &str) -> Self {
        match written {
            config::Sticky::Off => StickyStrategy::Off,
            config::Sticky::Cookie => StickyStrategy::Cookie(Arc::new(CookieSigner::new(pool))),
            config::Sticky::Socketio => StickyStrategy::Socketio(Arc::default()),
        }
    }

    /// What `before` knows is still known, if it is of the same kind.
    pub(super) fn after(self, before: &StickyStrategy) -> Self {
        match (self, before) {
            (StickyStrategy::Cookie(_), StickyStrategy::Cookie(seal)) => {
                StickyStrategy::Cookie(seal.clone())
            }
            (StickyStrategy::Socketio(_), StickyStrategy::Socketio(sids)) => {
                StickyStrategy::Socketio(sids.clone())
            }
            (fresh, _) => fresh,
        }
    }

    /// The backend that a request says it belongs to.
    pub(super) fn bound(&self, headers: &HeaderMap, query: Option<&str>) -> Option<Affinity> {
        match self {
            StickyStrategy::Off => None,
            StickyStrategy::Cookie(seal) => seal
                .read(headers)
                .map(|seed| Affinity { seed, only: false }),
            StickyStrategy::Socketio(sids) => {
                let sid = parameter(query?, "sid")?;
                sids.backend(sid).map(|seed| Affinity { seed, only: true })
            }
        }
    }

    /// The `Set-Cookie` with which a client comes back to the backend of this seed.
    pub(super) fn cookie(&self, seed: u64) -> Option<HeaderValue> {
        match self {
            StickyStrategy::Cookie(seal) => Some(seal.write(seed)),
            StickyStrategy::Off | StickyStrategy::Socketio(_) => None,
        }
    }

    /// Of a request with this query, answered by the backend of this seed: whether its answer gives a `sid`.
    pub(super) fn learner(&self, query: Option<&str>, seed: u64) -> Option<SidCapture> {
        let StickyStrategy::Socketio(sids) = self else {
            return None;
        };
        let query = query?;
        let is_first =
            parameter(query, "transport") == Some("polling") && parameter(query, "sid").is_none();
        is_first.then(|| SidCapture {
            sids: sids.clone(),
            seed,
        })
    }
}

// === impl SidCapture ===

impl SidCapture {
    /// Takes the first bytes of the answer.
    pub fn capture(self, first: &[u8]) {
        if let Some(sid) = sids::parse_sid(first) {
            self.sids.bind(sid, self.seed);
        }
    }
}

/// As it is written: no parameter of Engine.IO has anything to escape.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}
