//! Identities of sessions: who opened one, and until when it may stay open. One loop closes the sessions whose identity
//! has expired, by the wall clock, because the times in tokens are wall-clock times.

use crate::registry::{CloseOrder, OrderCause, SessionRegistry};
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::Notify,
    task::yield_now,
    time::{sleep, timeout},
};

/// Who opened a session, as its guards have verified it.
#[derive(Debug)]
pub struct SessionIdentity {
    /// The name of the user or client, as the issuer writes it.
    pub subject: Box<str>,
    /// The token that the session was opened with; all zero if there was none.
    origin: TokenOrigin,
    /// When the session is closed, in milliseconds since 1970; [`NEVER`] without a time limit.
    deadline: AtomicU64,
    /// The close code of an expired session.
    close_code: u16,
}

/// What two tokens must have in common so that one can replace the other: the guard that verified them, the issuer, the
/// subject, and the session of the issuer, if the first token names one. Kept as hashes, because it is kept per session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenOrigin {
    key: u64,
    /// The hash of `sid`; 0 if the token has none.
    sid: u64,
}

/// When sessions expire, as far as the loop must know: the earliest time of all.
#[derive(Debug)]
pub(crate) struct ExpiryClock {
    earliest: AtomicU64,
    changed: Notify,
}

// === impl SessionIdentity ===

impl SessionIdentity {
    /// Creates an identity that does not expire.
    pub fn new(subject: &str) -> SessionIdentity {
        SessionIdentity {
            subject: subject.into(),
            origin: TokenOrigin::default(),
            deadline: AtomicU64::new(NEVER),
            close_code: 0,
        }
    }

    /// Sets the token's origin, and the time at which the session is closed with `close_code`.
    pub fn expiring(self, origin: TokenOrigin, at: SystemTime, close_code: u16) -> SessionIdentity {
        SessionIdentity {
            origin,
            deadline: AtomicU64::new(unix_millis(at)),
            close_code,
            ..self
        }
    }
}

// === impl TokenOrigin ===

impl TokenOrigin {
    /// Creates the origin of a token that `guard` has verified.
    pub fn new(guard: &str, issuer: &str, subject: &str, sid: Option<&str>) -> TokenOrigin {
        // Of this process alone, so that nobody can look for two tokens with the same hash.
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        TokenOrigin {
            key: HASHER.hash_one((guard, issuer, subject)),
            sid: sid.map_or(0, |sid| HASHER.hash_one(sid).max(1)),
        }
    }

    /// Returns whether nothing can continue a session of this token, because it has no subject.
    pub(crate) fn is_empty(self) -> bool {
        self.key == 0
    }

    /// Returns whether `newer` may extend a session of this token.
    fn is_continued_by(self, newer: TokenOrigin) -> bool {
        !self.is_empty() && self.key == newer.key && (self.sid == 0 || self.sid == newer.sid)
    }
}

// === impl ExpiryClock ===

impl Default for ExpiryClock {
    fn default() -> Self {
        ExpiryClock {
            earliest: AtomicU64::new(NEVER),
            changed: Notify::new(),
        }
    }
}

impl ExpiryClock {
    /// Notes that a session with this identity is in the table.
    pub(crate) fn note(&self, identity: &SessionIdentity) {
        let deadline = identity.deadline.load(Relaxed);
        if deadline < self.earliest.fetch_min(deadline, Relaxed) {
            self.changed.notify_one();
        }
    }

    /// Completes when a session may have expired.
    async fn due(&self) {
        loop {
            let earliest = self.earliest.load(Relaxed);
            let now = unix_millis(SystemTime::now());
            if earliest <= now {
                return;
            }
            if earliest == NEVER {
                self.changed.notified().await;
                continue;
            }
            // In steps, because the wall clock may jump.
            let step = Duration::from_millis(earliest - now).min(CLOCK_STEP);
            let _ = timeout(step, self.changed.notified()).await;
        }
    }
}

// === impl SessionRegistry ===

impl SessionRegistry {
    /// Closes sessions as their identities expire, without end.
    pub(crate) async fn close_expired(self: Arc<Self>) {
        loop {
            self.expiry.due().await;
            self.close_expired_at(unix_millis(SystemTime::now())).await;
            sleep(SCAN_PAUSE).await;
        }
    }

    async fn close_expired_at(&self, now: u64) {
        // Sessions that register from here on lower it again.
        self.expiry.earliest.store(NEVER, Relaxed);
        let mut earliest = NEVER;
        for page in self.pages() {
            for session in page {
                let Some(identity) = session.identity() else {
                    continue;
                };
                let deadline = identity.deadline.load(Relaxed);
                if deadline > now {
                    earliest = earliest.min(deadline);
                } else if session.has_order() {
                    continue;
                } else {
                    session.order(CloseOrder {
                        code: identity.close_code,
                        reason: "token expired".into(),
                        cause: OrderCause::Expired,
                    });
                }
            }
            yield_now().await;
        }
        self.expiry.earliest.fetch_min(earliest, Relaxed);
    }

    /// Extends the sessions whose token `newer` continues until `at`; a later time that a session has stays. Returns
    /// their number.
    pub(crate) async fn extend(&self, newer: TokenOrigin, at: SystemTime) -> usize {
        let deadline = unix_millis(at);
        let mut extended = 0;
        for page in self.pages() {
            for session in page {
                if let Some(identity) = session.identity()
                    && identity.origin.is_continued_by(newer)
                    && !session.has_order()
                {
                    identity.deadline.fetch_max(deadline, Relaxed);
                    extended += 1;
                }
            }
            yield_now().await;
        }
        extended
    }
}

fn unix_millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(NEVER)
}

const NEVER: u64 = u64::MAX;

/// How late a jump of the wall clock is noticed.
const CLOCK_STEP: Duration = Duration::from_millis(500);

/// Between two scans of the table, so that thousands of sessions that expire one after the other cost little.
const SCAN_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::SessionTarget;

    fn identity(origin: TokenOrigin, millis: u64) -> Box<SessionIdentity> {
        let at = UNIX_EPOCH + Duration::from_millis(millis);
        Box::new(SessionIdentity::new("user").expiring(origin, at, 3000))
    }

    fn target() -> SessionTarget {
        SessionTarget {
            route: "r".into(),
            backend: "b".into(),
            pool_entry: "b".into(),
        }
    }

    #[tokio::test]
    async fn sessions_are_closed_when_they_expire_and_not_before() {
        let sessions = Arc::new(SessionRegistry::default());
        let origin = TokenOrigin::new("login", "issuer", "user", None);
        let early = sessions.open_as(target(), Some(identity(origin, 1_000)));
        let late = sessions.open_as(target(), Some(identity(origin, 2_000)));
        let unlimited = sessions.open_as(target(), Some(Box::new(SessionIdentity::new("user"))));
        let without = sessions.open_as(target(), None);
        sessions.close_expired_at(999).await;
        assert_eq!(sessions.expiry.earliest.load(Relaxed), 1_000);
        assert!(early.close_order().is_none());
        sessions.close_expired_at(1_000).await;
        let order = early.close_order().unwrap();
        assert_eq!((order.code, &*order.reason), (3000, "token expired"));
        assert!(late.close_order().is_none());
        assert_eq!(sessions.expiry.earliest.load(Relaxed), 2_000);
        sessions.close_expired_at(2_000).await;
        assert!(late.close_order().is_some());
        assert_eq!(sessions.expiry.earliest.load(Relaxed), NEVER);
        assert!(unlimited.close_order().is_none() && without.close_order().is_none());
    }

    #[tokio::test]
    async fn only_a_token_of_the_same_origin_extends_a_session_and_none_shortens_it() {
        let sessions = Arc::new(SessionRegistry::default());
        let origin = |guard, issuer, subject, sid| TokenOrigin::new(guard, issuer, subject, sid);
        let of_session = origin("login", "issuer", "user", Some("s1"));
        let session = sessions.open_as(target(), Some(identity(of_session, 1_000)));
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        for other in [
            origin("other", "issuer", "user", Some("s1")),
            origin("login", "other", "user", Some("s1")),
            origin("login", "issuer", "other", Some("s1")),
            origin("login", "issuer", "user", Some("s2")),
            origin("login", "issuer", "user", None),
            TokenOrigin::default(),
        ] {
            assert_eq!(sessions.extend(other, at(9_000)).await, 0);
        }
        assert_eq!(sessions.extend(of_session, at(500)).await, 1);
        sessions.close_expired_at(999).await;
        assert!(session.close_order().is_none());
        assert_eq!(sessions.extend(of_session, at(3_000)).await, 1);
        sessions.close_expired_at(2_999).await;
        assert!(session.close_order().is_none());
        sessions.close_expired_at(3_000).await;
        assert!(session.close_order().is_some());
        // Too late.
        assert_eq!(sessions.extend(of_session, at(9_000)).await, 0);
    }
}
