//! Why a name has no address.

use hickory_proto::op::ResponseCode;
use std::{io, path::PathBuf, time::Duration};

/// Why a name has no address.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ResolveError {
    /// No DNS server is configured, and the one of this machine did not have the name.
    #[error(
        "it is not in {}, and {} names no DNS server, so that of this machine was queried: {reason}",
        .hosts.display(),
        .servers.display()
    )]
    NoServer {
        /// The path of the hosts file.
        hosts: PathBuf,
        /// The file that should name the servers.
        servers: PathBuf,
        /// The error of the DNS query.
        reason: QueryError,
    },
    /// The hosts file does not have the name, and the DNS query failed.
    #[error("it is not in {}; DNS: {reason}", .hosts.display())]
    Unknown {
        /// The path of the hosts file.
        hosts: PathBuf,
        /// The error of the DNS query.
        reason: QueryError,
    },
}

/// Why a DNS query returned no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// The name does not exist (RFC 8020).
    #[error("there is no such name (NXDOMAIN)")]
    NoName {
        /// How long this answer is valid (RFC 2308 §5); `None`: it must not be cached.
        ttl: Option<Duration>,
    },
    /// The name exists, without a record of this type.
    #[error("the name exists, but has no record of the requested type")]
    NoData {
        /// How long this answer is valid (RFC 2308 §5); `None`: it must not be cached.
        ttl: Option<Duration>,
    },
    /// Every server that answered has reported an error, such as SERVFAIL or REFUSED.
    #[error("the server reports an error ({0})")]
    Server(ResponseCode),
    /// The server sent something that is no DNS answer.
    #[error("the server sent an invalid answer")]
    Invalid,
    /// No server has answered in time.
    #[error("no server has answered in time")]
    Timeout,
    /// No server can be reached.
    #[error("no server can be reached ({0})")]
    Unreachable(io::ErrorKind),
    /// The text is not a domain name.
    #[error("it is no domain name: {0}")]
    BadName(String),
    /// The answer has no record that can be used.
    #[error("{0}")]
    Empty(&'static str),
}

// === impl QueryError ===

impl QueryError {
    /// Returns whether a server has reported that there is no record, as opposed to a failed query.
    pub(crate) fn is_negative(&self) -> bool {
        matches!(self, QueryError::NoName { .. } | QueryError::NoData { .. })
    }

    /// Returns how long a negative answer is valid; `None`: it must not be cached.
    pub(crate) fn negative_ttl(&self) -> Option<Duration> {
        match self {
            QueryError::NoName { ttl } | QueryError::NoData { ttl } => *ttl,
            _ => None,
        }
    }
}
