//! `[session]`, and what a route may change of it.

use super::{
    super::{Period, Size},
    server::default,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[session]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// Until a backend's 101: dial, request and answer.
    pub handshake_timeout: Period,
    /// Liveness: a silent peer is asked, and given up when it does not answer.
    pub ping: Ping,
    /// Payload of one message, as it is on the wire.
    pub max_message: Size,
    /// Payload of one frame.
    pub max_frame: Size,
    /// How long a session may last, less up to a tenth of it by chance; then it is closed with `drain.code`. "0s": for ever.
    pub max_age: Period,
    /// From the first Close to the end, whatever the peers do.
    pub close_timeout: Period,
    /// What a client is told when its backend died. Several clients refuse 1014.
    pub backend_gone_code: u16,
    /// permessage-deflate: "pass", as client and backend agree; "strip", never; "offload": spoken with the client, while the backend has plain messages.
    pub compression: Compression,
}

/// `session.ping`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ping {
    /// Silence before a Ping.
    pub interval: Period,
    /// Silence after it, before the peer is given up.
    pub timeout: Period,
    /// Which peers are asked: "client", "backend", "both" or "off".
    pub legs: Legs,
}

/// `session.ping.legs`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Legs {
    /// Clients are asked.
    Client,
    /// Backends are asked.
    Backend,
    /// Both are asked.
    Both,
    /// Nobody is asked.
    Off,
}

/// `session.compression`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// What they agree on passes.
    #[default]
    Pass,
    /// No extension is offered to the backend.
    Strip,
    /// Spoken by Lockgate.
    Offload,
}

/// A route's `session`: only what it changes.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionOverrides {
    /// As in `[session]`.
    pub handshake_timeout: Option<Period>,
    /// As in `[session]`, key by key.
    pub ping: PingOverrides,
    /// As in `[session]`.
    pub max_message: Option<Size>,
    /// As in `[session]`.
    pub max_frame: Option<Size>,
    /// As in `[session]`.
    pub max_age: Option<Period>,
    /// As in `[session]`.
    pub close_timeout: Option<Period>,
    /// As in `[session]`.
    pub backend_gone_code: Option<u16>,
    /// As in `[session]`.
    pub compression: Option<Compression>,
}

/// A route's `session.ping`: only what it changes.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PingOverrides {
    /// As in `[session]`.
    pub interval: Option<Period>,
    /// As in `[session]`.
    pub timeout: Option<Period>,
    /// As in `[session]`.
    pub legs: Option<Legs>,
}

// === impl Session ===

impl Session {
    /// These defaults with a route's changes on top.
    pub fn with(&self, changes: &SessionOverrides) -> Session {
        let ping = &changes.ping;
        Session {
            handshake_timeout: changes.handshake_timeout.unwrap_or(self.handshake_timeout),
            ping: Ping {
                interval: ping.interval.unwrap_or(self.ping.interval),
                timeout: ping.timeout.unwrap_or(self.ping.timeout),
                legs: ping.legs.unwrap_or(self.ping.legs),
            },
            max_message: changes.max_message.unwrap_or(self.max_message),
            max_frame: changes.max_frame.unwrap_or(self.max_frame),
            max_age: changes.max_age.unwrap_or(self.max_age),
            close_timeout: changes.close_timeout.unwrap_or(self.close_timeout),
            backend_gone_code: changes.backend_gone_code.unwrap_or(self.backend_gone_code),
            compression: changes.compression.unwrap_or(self.compression),
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        Session {
            handshake_timeout: default("10s"),
            ping: Ping::default(),
            max_message: default("64MiB"),
            max_frame: default("64MiB"),
            max_age: default("0s"),
            close_timeout: default("5s"),
            backend_gone_code: 1011,
            compression: Compression::default(),
        }
    }
}

impl Default for Ping {
    fn default() -> Self {
        Ping {
            interval: default("30s"),
            timeout: default("20s"),
            legs: Legs::Client,
        }
    }
}
