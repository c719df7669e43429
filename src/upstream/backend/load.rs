//! Load of a backend and its limits per pool: leases, and those of them in the handshake phase.

use std::sync::atomic::{AtomicU64, Ordering};

/// Both counts in one number, so that one exchange acquires both: leases in the low half, handshakes in the high half.
#[derive(Debug, Default)]
pub(super) struct LoadCounters {
    counts: AtomicU64,
}

/// The limits of both counts, in the same halves.
#[derive(Debug, Clone, Copy)]
pub(in crate::upstream) struct LoadLimits(u64);

// === impl LoadCounters ===

impl LoadCounters {
    pub(super) fn leases(&self) -> u64 {
        self.counts.load(Ordering::Relaxed) & LEASE_MASK
    }

    pub(super) fn handshakes(&self) -> u64 {
        self.counts.load(Ordering::Relaxed) >> HANDSHAKE_SHIFT
    }

    pub(super) fn has_capacity(&self, limits: LoadLimits) -> bool {
        fits(self.counts.load(Ordering::Relaxed), limits.0)
    }

    /// Increments both counts unless a limit is reached; each pool has its own limits.
    pub(super) fn try_acquire(&self, limits: LoadLimits) -> bool {
        let more = |counts| fits(counts, limits.0).then_some(counts + ONE_OF_BOTH);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.counts.fetch_update(set, fetch, more).is_ok()
    }

    // Sequentially consistent, because a release reads the queue afterwards: see `AdmissionQueue::enter`.

    pub(super) fn settle(&self) {
        self.counts.fetch_sub(ONE_HANDSHAKE, Ordering::SeqCst);
    }

    pub(super) fn release(&self, handshaking: bool) {
        let released = if handshaking { ONE_OF_BOTH } else { ONE_LEASE };
        self.counts.fetch_sub(released, Ordering::SeqCst);
    }
}

// === impl LoadLimits ===

impl LoadLimits {
    /// Creates the limits; 0 means no limit.
    pub(in crate::upstream) fn new(leases: u32, handshakes: u32) -> Self {
        // One less than the half can hold, so that no count overflows into the other half.
        let max = |configured: u32| u64::from(configured.wrapping_sub(1).min(u32::MAX - 2) + 1);
        LoadLimits(max(handshakes) << HANDSHAKE_SHIFT | max(leases))
    }

    /// Returns the maximum number of leases.
    pub(in crate::upstream) fn leases(self) -> u64 {
        self.0 & LEASE_MASK
    }
}

fn fits(counts: u64, limits: u64) -> bool {
    counts & LEASE_MASK < limits & LEASE_MASK
        && counts >> HANDSHAKE_SHIFT < limits >> HANDSHAKE_SHIFT
}

const HANDSHAKE_SHIFT: u32 = 32;
const LEASE_MASK: u64 = (1 << HANDSHAKE_SHIFT) - 1;
const ONE_LEASE: u64 = 1;
const ONE_HANDSHAKE: u64 = 1 << HANDSHAKE_SHIFT;
const ONE_OF_BOTH: u64 = ONE_LEASE + ONE_HANDSHAKE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_hold_and_zero_means_no_limit() {
        let load = LoadCounters::default();
        let limits = LoadLimits::new(3, 2);
        assert!(load.try_acquire(limits) && load.try_acquire(limits) && !load.try_acquire(limits));
        load.settle();
        assert!(load.try_acquire(limits) && !load.has_capacity(limits));
        assert_eq!((load.leases(), load.handshakes()), (3, 2));
        load.release(true);
        assert!(load.has_capacity(limits));
        load.release(false);
        load.release(true);
        assert_eq!((load.leases(), load.handshakes()), (0, 0));
        let all = LoadLimits::new(0, 0);
        assert!((0..1000).all(|_| load.try_acquire(all)));
        assert!(load.try_acquire(LoadLimits::new(u32::MAX, u32::MAX)) && !load.try_acquire(limits));
    }
}
