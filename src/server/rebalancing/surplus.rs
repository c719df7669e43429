//! What backends had above their shares at one moment, and whether that still holds.

use crate::{observe::SessionRef, upstream::LoadShare};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// How the backends of a pool stood.
#[derive(Debug, Clone)]
pub(super) struct ExcessSessions(Arc<HashMap<Arc<str>, LoadShare>>);

// === impl ExcessSessions ===

impl ExcessSessions {
    pub(super) fn of(standings: Vec<LoadShare>) -> Self {
        let named = standings.into_iter().map(|it| (it.backend.clone(), it));
        ExcessSessions(Arc::new(named.collect()))
    }

    /// Whether this backend had one.
    pub(super) fn is_on(&self, backend: &str) -> bool {
        self.0.get(backend).is_some_and(|it| it.surplus() > 0)
    }

    /// Of these sessions, which come in no order, as many of each backend as it had too many.
    pub(super) fn taken_from(&self, mut sessions: Vec<SessionRef>) -> Vec<SessionRef> {
        let mut left: HashMap<&str, u64> =
            self.0.iter().map(|(k, it)| (&**k, it.surplus())).collect();
        sessions.retain(|session| match left.get_mut(&*session.target().backend) {
            Some(left @ 1..) => {
                *left -= 1;
                true
            }
            _ => false,
        });
        sessions
    }

    /// Whether each of them can still take sessions: otherwise there may be no room where there was some.
    pub(super) fn holds(&self, now: &[LoadShare]) -> bool {
        let still = now.iter().filter(|it| self.0.contains_key(&it.backend));
        still.count() == self.0.len()
    }

    /// Whether this backend has too many even so: more than its share was, which clients who are under way make look
    /// smaller now, and more than it is, if there are more sessions by now.
    pub(super) fn is_still_on(&self, backend: &str, now: &[LoadShare]) -> bool {
        let then = self.0.get(backend);
        let now = now.iter().find(|it| *it.backend == *backend);
        then.zip(now)
            .is_some_and(|(then, now)| now.leases > then.share.max(now.share))
    }
}

/// From where they are, for the log.
pub(super) fn in_words(sessions: &[SessionRef]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for session in sessions {
        *counts.entry(&session.target().backend).or_default() += 1;
    }
    let words = counts
        .iter()
        .map(|(backend, count)| format!("{backend}: {count}"));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{SessionHandle, SessionRegistry, SessionTarget};

    fn standing(backend: &str, leases: u64, share: u64) -> LoadShare {
        LoadShare {
            backend: backend.into(),
            came: 0,
            leases,
            share,
            warming: false,
        }
    }

    #[test]
    fn as_many_of_each_are_taken_as_are_too_many() {
        let sessions = Arc::new(SessionRegistry::default());
        let open = |backend: &str| {
            sessions.open(SessionTarget {
                route: "r".into(),
                backend: backend.into(),
                pool_entry: backend.into(),
            })
        };
        let _open: Vec<SessionHandle> = [("a", 100), ("b", 80), ("c", 5), ("d", 3)]
            .into_iter()
            .flat_map(|(backend, count)| (0..count).map(move |_| backend))
            .map(open)
            .collect();
        // What else "d" has are requests.
        let surplus = ExcessSessions::of(vec![
            standing("a", 100, 47),
            standing("b", 50, 47),
            standing("c", 0, 47),
            standing("d", 60, 47),
        ]);
        assert!(surplus.is_on("a") && !surplus.is_on("b") && !surplus.is_on("e"));
        let taken = surplus.taken_from(sessions.matching(|_| true));
        assert_eq!(in_words(&taken), "a: 53, d: 3");
    }

    #[test]
    fn it_is_over_when_shares_are_reached_or_a_backend_is_gone() {
        let surplus = ExcessSessions::of(vec![standing("a", 100, 50), standing("b", 0, 50)]);
        let now = |a: (u64, u64), b: (u64, u64)| [standing("a", a.0, a.1), standing("b", b.0, b.1)];
        // Nobody is back yet.
        assert!(surplus.is_still_on("a", &now((51, 26), (0, 26))));
        assert!(!surplus.is_still_on("a", &now((50, 25), (0, 25))));
        // Others came.
        assert!(!surplus.is_still_on("a", &now((60, 80), (100, 80))));
        assert!(surplus.holds(&now((1, 1), (1, 1))));
        assert!(!surplus.holds(&[standing("a", 100, 100), standing("c", 1, 1)]));
        assert!(!surplus.is_still_on("b", &[standing("a", 100, 100)]));
    }
}
