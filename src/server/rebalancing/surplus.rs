//! The excess sessions of a pool's backends at one moment, and whether the excess still exists.

use crate::{observe::SessionRef, upstream::LoadShare};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The load shares of a pool's backends at one moment.
#[derive(Debug, Clone)]
pub(super) struct ExcessSessions(Arc<HashMap<Arc<str>, LoadShare>>);

// === impl ExcessSessions ===

impl ExcessSessions {
    pub(super) fn new(shares: Vec<LoadShare>) -> Self {
        let named = shares.into_iter().map(|it| (it.backend.clone(), it));
        ExcessSessions(Arc::new(named.collect()))
    }

    /// Returns whether this backend had more sessions than its share.
    pub(super) fn has_excess(&self, backend: &str) -> bool {
        self.0.get(backend).is_some_and(|it| it.surplus() > 0)
    }

    /// Returns the sessions to close: of each backend, the number that exceeds its share.
    pub(super) fn select(&self, mut sessions: Vec<SessionRef>) -> Vec<SessionRef> {
        let mut remaining: HashMap<&str, u64> =
            self.0.iter().map(|(k, it)| (&**k, it.surplus())).collect();
        sessions.retain(
            |session| match remaining.get_mut(&*session.target().backend) {
                Some(remaining @ 1..) => {
                    *remaining -= 1;
                    true
                }
                _ => false,
            },
        );
        sessions
    }

    /// Returns whether each of the backends still accepts sessions. Otherwise the shares are too small by now.
    pub(super) fn is_current(&self, now: &[LoadShare]) -> bool {
        let known = now.iter().filter(|it| self.0.contains_key(&it.backend));
        known.count() == self.0.len()
    }

    /// Returns whether this backend still has more sessions than its share. The larger of the two shares counts: the current
    /// one is too small while closed clients reconnect, the earlier one is too small if sessions have been added.
    pub(super) fn still_has_excess(&self, backend: &str, now: &[LoadShare]) -> bool {
        let then = self.0.get(backend);
        let now = now.iter().find(|it| *it.backend == *backend);
        then.zip(now)
            .is_some_and(|(then, now)| now.leases > then.share.max(now.share))
    }
}

/// Formats the number of sessions per backend as a log field.
pub(super) fn counts_by_backend(sessions: &[SessionRef]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for session in sessions {
        *counts.entry(&session.target().backend).or_default() += 1;
    }
    let entries = counts
        .iter()
        .map(|(backend, count)| format!("{backend}: {count}"));
    entries.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{SessionHandle, SessionRegistry, SessionTarget};

    fn share(backend: &str, leases: u64, share: u64) -> LoadShare {
        LoadShare {
            backend: backend.into(),
            generation: 0,
            leases,
            share,
            warming: false,
        }
    }

    #[test]
    fn select_returns_each_backends_excess() {
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
        // The other leases of "d" are requests.
        let excess = ExcessSessions::new(vec![
            share("a", 100, 47),
            share("b", 50, 47),
            share("c", 0, 47),
            share("d", 60, 47),
        ]);
        assert!(excess.has_excess("a") && !excess.has_excess("b") && !excess.has_excess("e"));
        let selected = excess.select(sessions.matching(|_| true));
        assert_eq!(counts_by_backend(&selected), "a: 53, d: 3");
    }

    #[test]
    fn excess_ends_at_the_share_and_is_not_current_without_a_backend() {
        let excess = ExcessSessions::new(vec![share("a", 100, 50), share("b", 0, 50)]);
        let now = |a: (u64, u64), b: (u64, u64)| [share("a", a.0, a.1), share("b", b.0, b.1)];
        // No closed client has reconnected.
        assert!(excess.still_has_excess("a", &now((51, 26), (0, 26))));
        assert!(!excess.still_has_excess("a", &now((50, 25), (0, 25))));
        // Other clients have connected.
        assert!(!excess.still_has_excess("a", &now((60, 80), (100, 80))));
        assert!(excess.is_current(&now((1, 1), (1, 1))));
        assert!(!excess.is_current(&[share("a", 100, 100), share("c", 1, 1)]));
        assert!(!excess.still_has_excess("b", &[share("a", 100, 100)]));
    }
}
