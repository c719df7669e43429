//! Filters that select live sessions.

use crate::{config::Cidr, observe::access::record::SessionRecord};
use std::{fmt, time::Duration};

/// A filter for sessions. All conditions must hold; without conditions it matches every session.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionFilter {
    /// The session's id.
    pub id: Option<u64>,
    /// The route's name.
    pub route: Option<Box<str>>,
    /// The backend's address.
    pub backend: Option<Box<str>>,
    /// The network of the client.
    pub client: Option<Cidr>,
    /// The name of the user or client.
    pub subject: Option<Box<str>>,
    /// The age that a session must exceed.
    pub longer_than: Option<Duration>,
}

// === impl SessionFilter ===

impl SessionFilter {
    /// Returns true if the filter has no condition.
    pub fn is_empty(&self) -> bool {
        *self == SessionFilter::default()
    }

    /// Returns true if all conditions hold for a session of this age.
    pub fn matches(&self, session: &SessionRecord, subject: Option<&str>, age: Duration) -> bool {
        let equals = |expected: &Option<Box<str>>, actual: &str| {
            expected
                .as_deref()
                .is_none_or(|expected| expected == actual)
        };
        self.longer_than.is_none_or(|limit| age > limit)
            && self.id.is_none_or(|id| id == session.id)
            && equals(&self.route, &session.route)
            && equals(&self.backend, &session.backend)
            && self
                .subject
                .as_deref()
                .is_none_or(|expected| subject == Some(expected))
            && self
                .client
                .is_none_or(|network| network.contains(session.client))
    }
}

impl fmt::Display for SessionFilter {
    /// Writes the filter in the syntax of the command line, in one line: names are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.map(|id| format!("{id:016x}"));
        let route = self.route.as_ref().map(|name| format!("--route {name:?}"));
        let backend = self.backend.as_ref();
        let backend = backend.map(|address| format!("--backend {address:?}"));
        let client = self.client.as_ref();
        let client = client.map(|network| format!("--client {network}"));
        let subject = self.subject.as_ref();
        let subject = subject.map(|name| format!("--subject {name:?}"));
        let age = self.longer_than.map(|age| format!("--longer-than {age:?}"));
        let flags: Vec<String> = [id, route, backend, client, subject, age]
            .into_iter()
            .flatten()
            .collect();
        match &flags[..] {
            [] => f.write_str("--all"),
            flags => f.write_str(&flags.join(" ")),
        }
    }
}
