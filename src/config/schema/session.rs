//! `[session]`, and the overrides of a route.

use crate::config::{
    schema::{applies::Applies, server::default},
    values::units::{ByteRate, DurationValue, Size},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[session]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    /// The time limit until the backend's 101: dial, request and response.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "5s"))]
    #[schemars(extend("x-limit" = "the client gets 504 (`handshake-timeout`)"))]
    pub handshake_timeout: DurationValue,
    /// Keepalive: a silent peer gets a Ping, and the session ends if it does not answer.
    pub ping: Ping,
    /// The maximum payload of one message as it is on the wire; with compression = "offload" the inflated length counts. More is closed with 1009.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "1MiB"))]
    #[schemars(extend("x-limit" = "the session is closed with 1009 (`message-too-big`)"))]
    pub max_message: Size,
    /// The maximum payload of one frame; more is closed with 1009.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "256KiB"))]
    #[schemars(extend("x-limit" = "the session is closed with 1009 (`frame-too-big`)"))]
    pub max_frame: Size,
    /// The maximum number of frames per message; more is closed with 1008. 0: no limit.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = 64))]
    #[schemars(extend("x-limit" = "the session is closed with 1008 (`too-many-fragments`)"))]
    pub max_fragments: u32,
    /// Messages per second that a client may send; after one idle second it may send that number at once. Pings count too. 0: no limit.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = 20))]
    #[schemars(extend("x-limit" = "the client is paused, or the session is closed with 1008 (`over_rate`)"))]
    pub messages_per_second: u32,
    /// Frames per second that a client may send, with continuation frames, Pings and Pongs; after one idle second it may send that number at once. 0: ten times `messages_per_second`; no limit if that is 0.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = 200))]
    #[schemars(extend("x-limit" = "the client is paused, or the session is closed with 1008 (`over_rate`)"))]
    pub frames_per_second: u32,
    /// Bytes per second that a client may send, including frame headers; after one idle second it may send that number at once. 0: no limit. With `compression = "offload"` the inflated length of a message counts, because the backend receives it in that form, or the compressed length if that is larger, so that data that inflates to nothing is limited too.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "1MiB/s"))]
    #[schemars(extend("x-limit" = "the client is paused, or the session is closed with 1008 (`over_rate`)"))]
    pub bytes_per_second: ByteRate,
    /// What happens to a client over its rate: "pause": Lockgate stops reading until the rate allows more; "close": the session is closed with 1008.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "close"))]
    pub over_rate: OverRate,
    /// The longest time without a data frame in either direction; then the session is closed with 1001. "0s": no limit.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "10m"))]
    #[schemars(extend("x-limit" = "the session is closed with 1001 (`max-idle`)"))]
    pub max_idle: DurationValue,
    /// The longest duration of a session, reduced at random by up to a tenth; then it is closed with `drain.code`. "0s": no limit.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "24h"))]
    #[schemars(extend("x-limit" = "the session is closed with `drain.code` (`max-age`)"))]
    pub max_age: DurationValue,
    /// The time from the first Close to the end of the session; then the connections are closed in any case.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "10s"))]
    #[schemars(extend("x-limit" = "the connections are closed"))]
    pub close_timeout: DurationValue,
    /// The close code for a client whose backend failed. Several clients reject 1014.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = 1012))]
    pub backend_gone_code: u16,
    /// permessage-deflate: "pass": client and backend negotiate it; "strip": it is never used; "offload": Lockgate compresses towards the client and exchanges plain messages with the backend.
    #[schemars(extend("x-applies" = Applies::NewSessions, "x-example" = "offload"))]
    pub compression: Compression,
    /// A peer that accepts no byte although data is pending for it.
    pub slow_reader: SlowReader,
    /// "when-client-live": Lockgate answers a backend's Ping itself if bytes of the client arrived within ping.interval + ping.timeout.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "when-client-live"))]
    pub answer_backend_ping: AnswerBackendPing,
}

/// `session.over_rate`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverRate {
    /// Lockgate stops reading from the client until its rate allows more.
    #[default]
    Pause,
    /// The session is closed.
    Close,
}

/// `session.answer_backend_ping`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerBackendPing {
    /// Every Ping is relayed to the client.
    #[default]
    Never,
    /// A Ping is relayed only if the client may be gone.
    WhenClientLive,
}

/// `session.slow_reader`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SlowReader {
    /// How long the peer must accept no byte to count as slow; the time restarts with every byte that it accepts. "0s": no peer counts as slow.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "10s"))]
    #[schemars(extend("x-limit" = "the sender is paused and the slow reader is counted, or the session is closed with 1008 (`slow_reader.do`)"))]
    pub after: DurationValue,
    /// "pause": the sender is paused and the slow reader is counted in the metrics; "close": the session is closed with 1008.
    #[serde(rename = "do")]
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "close"))]
    pub then: OverRate,
}

/// `session.ping`
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ping {
    /// How long a peer is silent before it gets a Ping.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "20s"))]
    #[schemars(extend("x-limit" = "the peer gets a Ping"))]
    pub interval: DurationValue,
    /// How long a peer may stay silent after a Ping; then the session ends.
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "10s"))]
    #[schemars(extend("x-limit" = "the session is closed (`ping-timeout`): with 1001 if the client is silent, with 1011 if the backend is"))]
    pub timeout: DurationValue,
    /// Which peers get Pings: "client", "backend", "both" or "off".
    #[schemars(extend("x-applies" = Applies::AtOnce, "x-example" = "both"))]
    pub legs: PingLegs,
}

/// `session.ping.legs`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PingLegs {
    /// Clients get Pings.
    Client,
    /// Backends get Pings.
    Backend,
    /// Both get Pings.
    Both,
    /// No Pings are sent.
    Off,
}

/// `session.compression`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Client and backend negotiate it; frames are relayed as they are.
    #[default]
    Pass,
    /// No extension is offered to the backend.
    Strip,
    /// Lockgate compresses and inflates for the client; the backend gets plain messages.
    Offload,
}

/// A route's `session`: only the keys that it changes.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-as" = "session"))]
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
    pub frames_per_second: Option<u32>,
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

/// A route's `session.slow_reader`: only the keys that it changes.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-as" = "session.slow_reader"))]
pub struct SlowReaderOverrides {
    /// As in `[session]`.
    pub after: Option<DurationValue>,
    /// As in `[session]`.
    #[serde(rename = "do")]
    pub then: Option<OverRate>,
}

/// A route's `session.ping`: only the keys that it changes.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("x-as" = "session.ping"))]
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
    /// Returns these defaults with the overrides of a route applied.
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
            frames_per_second: changes.frames_per_second.unwrap_or(self.frames_per_second),
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
            frames_per_second: 0,
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
