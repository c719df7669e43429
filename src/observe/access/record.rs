//! What the access log records: sessions that open and close, requests that did not become a session, and the number of
//! refused requests without a line of their own.

use crate::proto::frame_tracker::FrameCounts;
use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

/// The facts known when a session opens. Kept as long as the session, so it is small.
#[derive(Debug, Clone)]
pub struct SessionRecord {
    /// The session's id: unique in this process, and almost certainly across processes. Written as 16 hex digits.
    pub id: u64,
    /// The client's address; an IPv4-mapped IPv6 address is written as IPv4.
    pub client: IpAddr,
    /// The HTTP version: "1.1" or "2".
    pub http: &'static str,
    /// The host as the client sent it.
    pub host: Box<str>,
    /// The path without the query.
    pub path: Box<str>,
    /// The route's name.
    pub route: Arc<str>,
    /// The backend's address.
    pub backend: Arc<str>,
    /// The subprotocol of the 101; `None`: none was negotiated.
    pub subprotocol: Option<Box<str>>,
    /// The negotiated extensions.
    pub extensions: Option<Box<str>>,
}

/// A session, and who opened it.
#[derive(Debug, Clone, Copy)]
pub struct SessionFacts<'a> {
    /// The facts known when it opened.
    pub record: &'a SessionRecord,
    /// The name of the user or client, if guards have verified one.
    pub subject: Option<&'a str>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy)]
pub struct SessionEnd {
    /// The time since the session opened.
    pub duration: Duration,
    /// Frames relayed from the client to the backend.
    pub from_client: FrameCounts,
    /// Frames relayed from the backend to the client.
    pub from_backend: FrameCounts,
    /// The close code that ended the session, if there was one.
    pub code: Option<u16>,
    /// The initiator: "client", "backend", "lockgate" or "operator".
    pub by: &'static str,
    /// The reason, from a closed set of words.
    pub why: &'static str,
    /// How the configuration decides about this end, as prose.
    pub hint: Option<&'static str>,
}

/// A request that did not become a session.
#[derive(Debug, Clone, Copy)]
pub struct RequestRecord<'a> {
    /// The client's address; an IPv4-mapped IPv6 address is written as IPv4.
    pub client: IpAddr,
    /// The HTTP version: "1.1" or "2".
    pub http: &'static str,
    /// The method as the client sent it.
    pub method: &'a str,
    /// The host as the client sent it; "" if there was none.
    pub host: &'a str,
    /// The path without the query.
    pub path: &'a str,
    /// The route's name, if one matched.
    pub route: Option<&'a str>,
    /// The backend's address, if one was chosen.
    pub backend: Option<&'a str>,
    /// The name of the user or client, if guards have verified one.
    pub subject: Option<&'a str>,
    /// The status code of the response to the client.
    pub status: u16,
    /// The time until the head of the response.
    pub duration: Duration,
    /// The reason of a refusal, from a closed set of words.
    pub why: Option<&'static str>,
}

/// Refused requests of one address that have no line of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OmittedRecord {
    /// The client's address, of IPv6 the last of its /64; `None`: many addresses together.
    pub(crate) client: Option<IpAddr>,
    /// Their number.
    pub(crate) requests: u64,
    /// The time since the first of them.
    pub(crate) duration: Duration,
}

/// An event that has a line in the access log.
#[derive(Clone, Copy)]
pub(crate) enum AccessEvent<'a> {
    Open(SessionFacts<'a>),
    Close(SessionFacts<'a>, &'a SessionEnd),
    Request(&'a RequestRecord<'a>),
    Omitted(&'a OmittedRecord),
}

// === impl AccessEvent ===

impl AccessEvent<'_> {
    /// Returns the word that begins the line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            AccessEvent::Open(_) => "open",
            AccessEvent::Close(..) => "close",
            AccessEvent::Request(_) => "request",
            AccessEvent::Omitted(_) => "omitted",
        }
    }
}

/// Truncates a string from the wire to [`MAX_FIELD_CHARS`], with "…" appended.
pub(crate) fn truncate(value: &str) -> Cow<'_, str> {
    if value.len() <= MAX_FIELD_CHARS {
        return Cow::Borrowed(value);
    }
    match value.char_indices().nth(MAX_FIELD_CHARS) {
        None => Cow::Borrowed(value),
        Some((end, _)) => Cow::Owned(format!("{}…", value.split_at(end).0)),
    }
}

/// Truncates a string of a request without a session to [`MAX_REQUEST_FIELD_LEN`] in a line, with "…" appended. A
/// client can repeat a long path with a few bytes (HPACK).
pub(crate) fn truncate_short(value: &str) -> Cow<'_, str> {
    let mut left = MAX_REQUEST_FIELD_LEN;
    let end = value.char_indices().find_map(|(at, char)| {
        let cost = match char {
            '"' | '\\' => 2,
            char if char.is_ascii_graphic() || char == ' ' => 1,
            // As escaped in JSON; a surrogate pair outside the Basic Multilingual Plane.
            char => 6 * char.len_utf16(),
        };
        match left.checked_sub(cost) {
            Some(rest) => {
                left = rest;
                None
            }
            None => Some(at),
        }
    });
    match end {
        None => Cow::Borrowed(value),
        Some(end) => Cow::Owned(format!("{}…", value.split_at(end).0)),
    }
}

/// In bytes of a line. Paths that people read are shorter.
pub(crate) const MAX_REQUEST_FIELD_LEN: usize = 256;

/// In characters. A request head may have 16 KiB, which is too long for a queued line.
pub(crate) const MAX_FIELD_CHARS: usize = 1024;
