//! Label sets. Every value comes from a closed set, whatever arrives from the wire.

use prometheus_client::encoding::EncodeLabelSet;

/// The reason of a failed connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WhyLabels {
    pub(super) why: &'static str,
}

/// A configured host, never one that a client has chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HostLabels {
    pub(super) host: String,
}

/// A configured backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BackendLabels {
    pub(super) pool: String,
    pub(super) backend: String,
}

/// A configured backend and the state that it has changed to: up, down or ejected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TransitionLabels {
    pub(super) pool: String,
    pub(super) backend: String,
    pub(super) to: &'static str,
}

/// A configured backend and one of its possible states.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BackendStateLabels {
    pub(super) pool: String,
    pub(super) backend: String,
    pub(super) state: &'static str,
}

/// The outcome of a certificate order, a reload or a DNS lookup.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) outcome: &'static str,
}

/// The leg that sent the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LegLabels {
    pub(super) from: &'static str,
}

/// The status and reason of a refusal. Lockgate chooses both, so the set is closed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RefusalLabels {
    pub(super) status: u16,
    pub(super) why: &'static str,
}

/// A configured pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PoolLabels {
    pool: String,
}

/// A configured pool and the reason why its admission queue refused a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct QueueRefusalLabels {
    pub(super) pool: String,
    pub(super) reason: &'static str,
}

/// The class of a backend's status. With the status itself, a backend could create a thousand series.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StatusClassLabels {
    status: &'static str,
}

/// The close code and the initiator of a session's end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CloseLabels {
    code: &'static str,
    by: &'static str,
}

// === impl PoolLabels ===

impl PoolLabels {
    pub(super) fn new(name: &str) -> Self {
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
    /// Creates the labels. Peers may choose among 2,000 codes from 3000 to 4999 (RFC 6455 §7.4.2), so each thousand counts as
    /// one value.
    pub(super) fn new(code: Option<u16>, by: &'static str) -> Self {
        let code = match code {
            None => "none",
            Some(3000..4000) => "3xxx",
            Some(4000..5000) => "4xxx",
            Some(code) => REGISTERED_CODES
                .into_iter()
                .find(|(registered, _)| *registered == code)
                .map_or("other", |(_, word)| word),
        };
        CloseLabels { code, by }
    }
}

/// The registered close codes (RFC 6455 §7.4.1 and the IANA registry).
const REGISTERED_CODES: [(u16, &str); 16] = [
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
