//! Which live sessions somebody means.

use super::{super::access::SessionRecord, SessionRef};
use crate::config::Cidr;
use std::{fmt, time::Duration};

/// All conditions must hold; without any, every session is meant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionFilter {
    /// This one.
    pub id: Option<u64>,
    /// Those of this route.
    pub route: Option<Box<str>>,
    /// Those on this backend.
    pub backend: Option<Box<str>>,
    /// Those of these clients.
    pub client: Option<Cidr>,
    /// Those that have lasted longer.
    pub longer_than: Option<Duration>,
}

// === impl SessionFilter ===

impl SessionFilter {
    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        *self == SessionFilter::default()
    }

    /// Whether all conditions hold for it now.
    pub fn matches(&self, session: &SessionRef) -> bool {
        self.longer_than.is_none_or(|age| session.age() > age)
            && self.matches_record(session.record())
    }

    /// Whether all conditions hold that do not change while a session lasts.
    pub fn matches_record(&self, session: &SessionRecord) -> bool {
        let same =
            |wanted: &Option<Box<str>>, is: &str| wanted.as_deref().is_none_or(|it| it == is);
        self.id.is_none_or(|id| id == session.id)
            && same(&self.route, &session.route)
            && same(&self.backend, &session.backend)
            && self
                .client
                .is_none_or(|network| network.contains(session.client))
    }
}

impl fmt::Display for SessionFilter {
    /// As the command line has it, in one line whatever the names are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id.map(|id| format!("{id:016x}"));
        let route = self.route.as_ref().map(|name| format!("--route {name:?}"));
        let backend = self.backend.as_ref();
        let backend = backend.map(|address| format!("--backend {address:?}"));
        let client = self.client.as_ref();
        let client = client.map(|network| format!("--client {network}"));
        let age = self.longer_than.map(|age| format!("--longer-than {age:?}"));
        let said: Vec<String> = [id, route, backend, client, age]
            .into_iter()
            .flatten()
            .collect();
        match &said[..] {
            [] => f.write_str("--all"),
            said => f.write_str(&said.join(" ")),
        }
    }
}
