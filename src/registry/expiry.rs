//! The end of sessions whose identity has expired, and its delay by newer tokens.

use crate::registry::{
    CloseOrder, OrderCause, SessionRegistry,
    identity::{NEVER, TokenOrigin, unix_millis},
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};
use tokio::{task::yield_now, time::sleep};

/// Closes sessions as their identities expire, without end.
pub(crate) async fn close_expired(sessions: Arc<SessionRegistry>) {
    loop {
        sessions.expiry.due().await;
        close_expired_at(&sessions, unix_millis(SystemTime::now())).await;
        sleep(SCAN_PAUSE).await;
    }
}

async fn close_expired_at(sessions: &SessionRegistry, now: u64) {
    // Sessions that register from here on lower it again.
    sessions.expiry.earliest.store(NEVER, Relaxed);
    let mut earliest = NEVER;
    for page in sessions.pages() {
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
    sessions.expiry.earliest.fetch_min(earliest, Relaxed);
}

/// Extends the sessions whose token `newer` continues until `at`; a later time that a session has stays. Returns
/// their number.
pub(crate) async fn extend(
    sessions: &SessionRegistry,
    newer: TokenOrigin,
    at: SystemTime,
) -> usize {
    let deadline = unix_millis(at);
    let mut extended = 0;
    for page in sessions.pages() {
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

/// Between two scans of the table, so that thousands of sessions that expire one after the other cost little.
const SCAN_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{SessionTarget, identity::SessionIdentity};
    use std::time::UNIX_EPOCH;

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
        close_expired_at(&sessions, 999).await;
        assert_eq!(sessions.expiry.earliest.load(Relaxed), 1_000);
        assert!(early.close_order().is_none());
        close_expired_at(&sessions, 1_000).await;
        let order = early.close_order().unwrap();
        assert_eq!((order.code, &*order.reason), (3000, "token expired"));
        assert!(late.close_order().is_none());
        assert_eq!(sessions.expiry.earliest.load(Relaxed), 2_000);
        close_expired_at(&sessions, 2_000).await;
        assert!(late.close_order().is_some());
        assert_eq!(sessions.expiry.earliest.load(Relaxed), NEVER);
        assert!(unlimited.close_order().is_none() && without.close_order().is_none());
    }

    #[test]
    fn identities_of_several_guards_keep_the_first_subject_and_the_only_time_limit() {
        let origin = TokenOrigin::new("login", "issuer", "token", None);
        let limited = |subject| {
            let at = UNIX_EPOCH + Duration::from_secs(1);
            SessionIdentity::new(subject).expiring(origin, at, 3000)
        };
        let facts = |identity: &SessionIdentity| {
            let deadline = identity.deadline.load(Relaxed);
            (identity.subject.to_string(), deadline, identity.close_code)
        };
        let mut first = SessionIdentity::new("password");
        first.complete(limited("token"));
        assert_eq!(facts(&first), ("password".to_owned(), 1_000, 3000));
        assert!(first.origin == origin);
        let mut first = limited("");
        first.complete(SessionIdentity::new("password"));
        assert_eq!(facts(&first), ("password".to_owned(), 1_000, 3000));
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
            assert_eq!(extend(&sessions, other, at(9_000)).await, 0);
        }
        assert_eq!(extend(&sessions, of_session, at(500)).await, 1);
        close_expired_at(&sessions, 999).await;
        assert!(session.close_order().is_none());
        assert_eq!(extend(&sessions, of_session, at(3_000)).await, 1);
        close_expired_at(&sessions, 2_999).await;
        assert!(session.close_order().is_none());
        close_expired_at(&sessions, 3_000).await;
        assert!(session.close_order().is_some());
        // Too late.
        assert_eq!(extend(&sessions, of_session, at(9_000)).await, 0);
    }
}
