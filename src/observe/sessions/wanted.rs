//! Which live sessions somebody means.

use super::{super::access::SessionRecord, Summons};
use crate::config::Cidr;
use std::time::Duration;

/// All conditions must hold; without any, every session is meant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
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

// === impl Wanted ===

impl Wanted {
    /// Whether there is no condition.
    pub fn is_everybody(&self) -> bool {
        *self == Wanted::default()
    }

    /// Whether all conditions hold for it now.
    pub fn fits(&self, session: &Summons) -> bool {
        self.longer_than.is_none_or(|age| session.age() > age) && self.names(session.record())
    }

    /// Whether all conditions hold that do not change while a session lasts.
    pub fn names(&self, session: &SessionRecord) -> bool {
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
