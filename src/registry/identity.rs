//! Identities of sessions: who opened one, and until when it may stay open. The times in tokens are wall-clock times,
//! so the deadlines here are, too.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::Notify, time::timeout};

/// Who opened a session, as its guards have verified it.
#[derive(Debug)]
pub struct SessionIdentity {
    /// The name of the user or client, as the issuer writes it.
    pub subject: Box<str>,
    /// The token that the session was opened with; all zero if there was none.
    pub(crate) origin: TokenOrigin,
    /// When the session is closed, in milliseconds since 1970; [`NEVER`] without a time limit.
    pub(crate) deadline: AtomicU64,
    /// The close code of an expired session.
    pub(crate) close_code: u16,
}

/// What two tokens must have in common so that one can replace the other: the guard that verified them, the issuer,
/// the subject, and the session of the issuer, if the first token names one. Hashes, because it is kept per session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenOrigin {
    key: u64,
    /// The hash of `sid`; 0 if the token has none.
    sid: u64,
}

/// When sessions expire, as far as the loop must know: the earliest time of all.
#[derive(Debug)]
pub(crate) struct ExpiryClock {
    pub(crate) earliest: AtomicU64,
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

    /// Takes from `other` what this identity lacks: a subject, a time limit.
    pub(crate) fn complete(&mut self, other: SessionIdentity) {
        if self.subject.is_empty() {
            self.subject = other.subject;
        }
        if *self.deadline.get_mut() == NEVER {
            self.origin = other.origin;
            self.deadline = other.deadline;
            self.close_code = other.close_code;
        }
    }
}

// === impl TokenOrigin ===

impl TokenOrigin {
    /// Creates the origin of a token that `guard` has verified.
    pub fn new(guard: &str, issuer: &str, subject: &str, sid: Option<&str>) -> TokenOrigin {
        // Random in each process, so that no client can search for two tokens with the same hash.
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
    pub(crate) fn is_continued_by(self, newer: TokenOrigin) -> bool {
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
    pub(crate) async fn due(&self) {
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

/// Returns the milliseconds since 1970.
pub(crate) fn unix_millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(NEVER)
}

/// The deadline of an identity that does not expire.
pub(crate) const NEVER: u64 = u64::MAX;

/// How late a jump of the wall clock is noticed.
const CLOCK_STEP: Duration = Duration::from_millis(500);
