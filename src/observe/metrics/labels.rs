//! The labels. Each value is of a set that the program closes, whatever comes from the wire.

use prometheus_client::encoding::EncodeLabelSet;

/// Why a connection failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WhyLabels {
    pub(super) why: &'static str,
}

/// A host of the config, never one that a client made up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HostLabels {
    pub(super) host: String,
}

/// A backend of the config.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BackendLabels {
    pub(super) pool: String,
    pub(super) backend: String,
}

/// A backend that has become up, down or ejected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TransitionLabels {
    pub(super) pool: String,
    pub(super) backend: String,
    pub(super) to: &'static str,
}

/// A backend of the config and a state that it may be in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BackendStateLabels {
    pub(super) pool: String,
    pub(super) backend: String,
    pub(super) state: &'static str,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) outcome: &'static str,
}

/// Which leg it came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LegLabels {
    pub(super) from: &'static str,
}

/// A status of ours, so of a closed set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusalLabels {
    pub(super) status: u16,
    pub(super) why: &'static str,
}

/// A pool of the config.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PoolLabels {
    pool: String,
}

/// Why a pool's backends had no place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct QueueRefusalLabels {
    pub(super) pool: String,
    pub(super) reason: &'static str,
}

/// A backend's status: only its class, or else it could make a thousand series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StatusClassLabels {
    status: &'static str,
}

/// How a session closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CloseLabels {
    code: &'static str,
    by: &'static str,
}

// === impl PoolLabels ===

impl PoolLabels {
    pub(super) fn of(name: &str) -> Self {
        PoolLabels { pool: name.into() }
    }
}

// === impl StatusClassLabels ===

impl StatusClassLabels {
    pub(super) fn class(status: u16) -> Self {
        let status = match status {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500..600 => "5xx",
            _ => "other",
        };
        StatusClassLabels { status }
    }
}

// === impl CloseLabels ===

impl CloseLabels {
    /// Peers may choose among 2,000 codes (RFC 6455 §7.4.2): those two ranges count as one each.
    pub(super) fn new(code: Option<u16>, by: &'static str) -> Self {
        let code = match code {
            None => "none",
            Some(3000..4000) => "3xxx",
            Some(4000..5000) => "4xxx",
            Some(code) => DEFINED
                .into_iter()
                .find(|(defined, _)| *defined == code)
                .map_or("other", |(_, word)| word),
        };
        CloseLabels { code, by }
    }
}

/// The codes that have a meaning of their own (RFC 6455 §7.4.1 and the IANA registry).
const DEFINED: [(u16, &str); 16] = [
    (1000, "1000"),
    (1001, "1001"),
    (1002, "1002"),
    (1003, "1003"),
    (1004, "1004"),
    (1005, "1005"),
    (1006, "1006"),
    (1007, "1007"),
    (1008, "1008"),
    (1009, "1009"),
    (1010, "1010"),
    (1011, "1011"),
    (1012, "1012"),
    (1013, "1013"),
    (1014, "1014"),
    (1015, "1015"),
];
