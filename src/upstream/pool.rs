//! A named set of backends, and the pick among them.

use super::{Backend, Lease};
use crate::config;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A named set of backends; never empty.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    backends: Vec<Arc<Backend>>,
    /// Where the next pick begins to look, so that equals take turns.
    next: AtomicUsize,
}

// === impl Pool ===

impl Pool {
    /// A pool as it was written. Backends that `previous` had stay the same, with their leases; others start without.
    pub fn new(
        name: &str,
        addresses: impl IntoIterator<Item = config::BackendAddress>,
        previous: Option<&Pool>,
    ) -> Self {
        let known = |address: &config::BackendAddress| {
            let mut backends = previous?.backends.iter();
            backends.find(|backend| backend.address() == address)
        };
        let backends = addresses
            .into_iter()
            .map(|address| match known(&address) {
                Some(backend) => backend.clone(),
                None => Arc::new(Backend::new(address)),
            })
            .collect();
        Pool {
            name: name.into(),
            backends,
            next: AtomicUsize::new(0),
        }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its backends, in the order written.
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// A place on the backend with the fewest leases; among equals they take turns. `None` where all are drained.
    pub fn acquire(&self) -> Option<Lease> {
        let start = self.next.fetch_add(1, Ordering::Relaxed) % self.backends.len().max(1);
        let (before, after) = self.backends.split_at(start);
        let least = after
            .iter()
            .chain(before)
            .filter(|backend| !backend.is_draining())
            .min_by_key(|backend| backend.leases())?;
        Some(Lease::new(least.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(backends: usize) -> Pool {
        let address = |n| config::BackendAddress {
            scheme: config::Scheme::Plain,
            host: "127.0.0.1".into(),
            port: 9000 + n as u16,
        };
        Pool::new("test", (0..backends).map(address), None)
    }

    #[test]
    fn who_was_there_before_keeps_his_leases() {
        let old = pool(2);
        let held = [old.acquire().unwrap(), old.acquire().unwrap()];
        let addresses = old.backends()[1..]
            .iter()
            .map(|backend| backend.address().clone());
        let other = config::BackendAddress {
            scheme: config::Scheme::Plain,
            host: "127.0.0.1".into(),
            port: 9999,
        };
        let new = Pool::new("test", addresses.chain([other]), Some(&old));
        let leases: Vec<_> = new
            .backends()
            .iter()
            .map(|backend| backend.leases())
            .collect();
        assert_eq!(leases, [1, 0]);
        drop(held);
        assert_eq!(new.backends()[0].leases(), 0);
    }

    #[test]
    fn equals_take_turns() {
        let pool = pool(3);
        let mut ports: Vec<_> = (0..3)
            .map(|_| pool.acquire().unwrap().backend().address().port)
            .collect();
        ports.sort_unstable();
        assert_eq!(ports, [9000, 9001, 9002]);
    }

    #[test]
    fn the_fewest_leases_win_and_a_drop_gives_back() {
        let pool = pool(2);
        let first = pool.acquire().unwrap();
        let second = pool.acquire().unwrap();
        assert_ne!(first.backend().name(), second.backend().name());
        let freed = first.backend().name().clone();
        drop(first);
        for _ in 0..4 {
            assert_eq!(pool.acquire().unwrap().backend().name(), &freed);
        }
    }

    #[test]
    fn an_empty_pool_has_no_place() {
        assert!(pool(0).acquire().is_none());
    }
}
