//! `[session]`, and what a route may change of it.

use super::{
    super::{ByteRate, DurationValue, Size},
    server::default,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[session]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// Until a backend's 101: dial, request and answer.
    pub handshake_timeout: DurationValue,
    /// Liveness: a silent peer is asked, and given up when it does not answer.
    pub ping: Ping,
    /// Payload of one message, as it is on the wire; with compression = "offload" what it inflates to.
    pub max_message: Size,
    /// Payload of one frame.
    pub max_frame: Size,
    /// Frames of one message: more is closed with 1008. 0: no limit.
    pub max_fragments: u32,
    /// Messages that a client may send in a second, and as many at once after a quiet second; Pings count too. 0: no limit.
    pub messages_per_second: u32,
    /// Bytes that a client may send in a second, frame headers included, and as many at once after a quiet second. 0: no limit. With `compression = "offload"` a message counts as it comes out of the compression, for that is what the backend has to bear, or as it came in where that is more, so that nobody sends beyond the limit what inflates to nothing.
    pub bytes_per_second: ByteRate,
    /// "pause": a client that sends more is not read until it may go on; "close": it is closed with 1008.
    pub over_rate: OverRate,
    /// How long a session may be without a data frame in either direction; then it is closed with 1001. "0s": for ever.
    pub max_idle: DurationValue,
    /// How long a session may last, less up to a tenth of it by chance; then it is closed with `drain.code`. "0s": for ever.
    pub max_age: DurationValue,
    /// From the first Close to the end, whatever the peers do.
    pub close_timeout: DurationValue,
    /// What a client is told when its backend died. Several clients refuse 1014.
    pub backend_gone_code: u16,
    /// permessage-deflate: "pass", as client and backend agree; "strip", never; "offload": spoken with the client, while the backend has plain messages.
    pub compression: Compression,
    /// A peer that takes nothing though data waits for it.
    pub slow_reader: SlowReader,
    /// "when-client-live": a backend's Ping is answered here if its client gave a sign of life within ping.interval + ping.timeout.
    pub answer_backend_ping: AnswerBackendPing,
}

/// `session.over_rate`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverRate {
    /// The client waits.
    #[default]
    Pause,
    /// Its session is closed.
    Close,
}

/// `session.answer_backend_ping`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerBackendPing {
    /// Every Ping goes to the client.
    #[default]
    Never,
    /// Only those of a client that may be gone.
    WhenClientLive,
}

/// `session.slow_reader`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SlowReader {
    /// For how long; it begins anew whenever the peer takes something. "0s": never slow.
    pub after: DurationValue,
    /// "pause": its sender waits, and it is counted; "close": it is closed with 1008.
    #[serde(rename = "do")]
    pub then: OverRate,
}

/// `session.ping`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ping {
    /// Silence before a Ping.
    pub interval: DurationValue,
    /// Silence after it, before the peer is given up.
    pub timeout: DurationValue,
    /// Which peers are asked: "client", "backend", "both" or "off".
    pub legs: PingLegs,
}

/// `session.ping.legs`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PingLegs {
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
    pub handshake_timeout: Option<DurationValue>,
    /// As in `[session]`, key by key.
    pub ping: PingOverrides,
    /// As in `[session]`.
    pub max_message: Option<Size>,
    /// As in `[session]`.
    pub max_frame: Option<Size>,
    /// As in `[session]`.
    pub max_fragments: Option<u32>,
    /// As in `[session]`.
    pub messages_per_second: Option<u32>,
    /// As in `[session]`.
    pub bytes_per_second: Option<ByteRate>,
    /// As in `[session]`.
    pub over_rate: Option<OverRate>,
    /// As in `[session]`.
    pub max_idle: Option<DurationValue>,
    /// As in `[session]`.
    pub max_age: Option<DurationValue>,
    /// As in `[session]`.
    pub close_timeout: Option<DurationValue>,
    /// As in `[session]`.
    pub backend_gone_code: Option<u16>,
    /// As in `[session]`.
    pub compression: Option<Compression>,
    /// As in `[session]`, key by key.
    pub slow_reader: SlowReaderOverrides,
    /// As in `[session]`.
    pub answer_backend_ping: Option<AnswerBackendPing>,
}

/// A route's `session.slow_reader`: only what it changes.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SlowReaderOverrides {
    /// As in `[session]`.
    pub after: Option<DurationValue>,
    /// As in `[session]`.
    #[serde(rename = "do")]
    pub then: Option<OverRate>,
}

/// A route's `session.ping`: only what it changes.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PingOverrides {
    /// As in `[session]`.
    pub interval: Option<DurationValue>,
    /// As in `[session]`.
    pub timeout: Option<DurationValue>,
    /// As in `[session]`.
    pub legs: Option<PingLegs>,
}

// === impl Session ===

impl Session {
    /// These defaults with a route's changes on top.
    pub fn with(&self, changes: &SessionOverrides) -> Session {
        let (ping, slow) = (&changes.ping, &changes.slow_reader);
        Session {
            handshake_timeout: changes.handshake_timeout.unwrap_or(self.handshake_timeout),
            ping: Ping {
                interval: ping.interval.unwrap_or(self.ping.interval),
                timeout: ping.timeout.unwrap_or(self.ping.timeout),
                legs: ping.legs.unwrap_or(self.ping.legs),
            },
            max_message: changes.max_message.unwrap_or(self.max_message),
            max_frame: changes.max_frame.unwrap_or(self.max_frame),
            max_fragments: changes.max_fragments.unwrap_or(self.max_fragments),
            messages_per_second: changes
                .messages_per_second
                .unwrap_or(self.messages_per_second),
            bytes_per_second: changes.bytes_per_second.unwrap_or(self.bytes_per_second),
            over_rate: changes.over_rate.unwrap_or(self.over_rate),
            max_idle: changes.max_idle.unwrap_or(self.max_idle),
            max_age: changes.max_age.unwrap_or(self.max_age),
            close_timeout: changes.close_timeout.unwrap_or(self.close_timeout),
            backend_gone_code: changes.backend_gone_code.unwrap_or(self.backend_gone_code),
            compression: changes.compression.unwrap_or(self.compression),
            slow_reader: SlowReader {
                after: slow.after.unwrap_or(self.slow_reader.after),
                then: slow.then.unwrap_or(self.slow_reader.then),
            },
            answer_backend_ping: changes
                .answer_backend_ping
                .unwrap_or(self.answer_backend_ping),
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
            max_fragments: 0,
            messages_per_second: 0,
            bytes_per_second: ByteRate(0),
            over_rate: OverRate::default(),
            max_idle: default("0s"),
            max_age: default("0s"),
            close_timeout: default("5s"),
            backend_gone_code: 1011,
            compression: Compression::default(),
            slow_reader: SlowReader::default(),
            answer_backend_ping: AnswerBackendPing::default(),
        }
    }
}

impl Default for SlowReader {
    fn default() -> Self {
        SlowReader {
            after: default("30s"),
            then: OverRate::Pause,
        }
    }
}

impl Default for Ping {
    fn default() -> Self {
        Ping {
            interval: default("30s"),
            timeout: default("20s"),
            legs: PingLegs::Client,
        }
    }
}
