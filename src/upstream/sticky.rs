//! Affinity: the same backend for the same client as long as it exists, by Lockgate's cookie or by the `sid` that
//! Socket.IO assigns in its first response and expects in every request.

mod cookie;
mod sids;

use crate::config;
use cookie::CookieSigner;
use http::{HeaderMap, HeaderValue};
use sids::SidTable;
use std::sync::Arc;

/// How a pool recognises a client's backend.
#[derive(Debug)]
pub(super) enum StickyStrategy {
    Off,
    Cookie(Arc<CookieSigner>),
    Socketio(Arc<SidTable>),
}

/// The affinity of a request: a backend, by the `id_hash` of its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Affinity {
    pub(super) id_hash: u64,
    /// Whether no other backend can answer the request: it goes to this one even if that is draining.
    pub(super) only: bool,
}

/// Reads the `sid` from the first bytes of a response to Socket.IO's first request.
#[derive(Debug)]
pub struct SidCapture {
    sids: Arc<SidTable>,
    id_hash: u64,
}

// === impl StickyStrategy ===

impl StickyStrategy {
    pub(super) fn new(config: config::Sticky, pool: &str) -> Self {
        match config {
            config::Sticky::Off => StickyStrategy::Off,
            config::Sticky::Cookie => StickyStrategy::Cookie(Arc::new(CookieSigner::new(pool))),
            config::Sticky::Socketio => StickyStrategy::Socketio(Arc::default()),
        }
    }

    /// Takes over the state of `before` if it is of the same kind.
    pub(super) fn after(self, before: &StickyStrategy) -> Self {
        match (self, before) {
            (StickyStrategy::Cookie(_), StickyStrategy::Cookie(signer)) => {
                StickyStrategy::Cookie(signer.clone())
            }
            (StickyStrategy::Socketio(_), StickyStrategy::Socketio(sids)) => {
                StickyStrategy::Socketio(sids.clone())
            }
            (fresh, _) => fresh,
        }
    }

    /// Returns the backend that a request is bound to.
    pub(super) fn bound(&self, headers: &HeaderMap, query: Option<&str>) -> Option<Affinity> {
        match self {
            StickyStrategy::Off => None,
            StickyStrategy::Cookie(signer) => signer.read(headers).map(|id_hash| Affinity {
                id_hash,
                only: false,
            }),
            StickyStrategy::Socketio(sids) => {
                let sid = parameter(query?, "sid")?;
                sids.backend(sid).map(|id_hash| Affinity {
                    id_hash,
                    only: true,
                })
            }
        }
    }

    /// Returns the `Set-Cookie` that binds a client to the backend with this `id_hash`.
    pub(super) fn cookie(&self, id_hash: u64) -> Option<HeaderValue> {
        match self {
            StickyStrategy::Cookie(signer) => Some(signer.write(id_hash)),
            StickyStrategy::Off | StickyStrategy::Socketio(_) => None,
        }
    }

    /// Returns a capture if the response to a request with this query, from the backend with this `id_hash`, contains a
    /// `sid`.
    pub(super) fn sid_capture(&self, query: Option<&str>, id_hash: u64) -> Option<SidCapture> {
        let StickyStrategy::Socketio(sids) = self else {
            return None;
        };
        let query = query?;
        let is_first =
            parameter(query, "transport") == Some("polling") && parameter(query, "sid").is_none();
        is_first.then(|| SidCapture {
            sids: sids.clone(),
            id_hash,
        })
    }
}

// === impl SidCapture ===

impl SidCapture {
    /// Takes the first bytes of the response.
    pub fn capture(self, first: &[u8]) {
        if let Some(sid) = sids::parse_sid(first) {
            self.sids.bind(sid, self.id_hash);
        }
    }
}

/// Returns a query parameter without decoding: no parameter of Engine.IO needs an escape.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}
