//! Weighted round robin by stride scheduling.
//!
//! Every member has the virtual time of its next slot, and a slot takes longer for a smaller weight. Over any interval
//! the numbers of slots are proportional to the weights, to within one.

use crate::upstream::entry::Member;
use std::sync::atomic::{AtomicU64, Ordering};

/// The current virtual time: the latest start of a slot.
#[derive(Debug, Default)]
pub(in crate::upstream) struct StrideScheduler(AtomicU64);

// === impl StrideScheduler ===

impl StrideScheduler {
    /// Returns the time of the member's next slot. A member that was draining or full does not make up for missed
    /// slots.
    pub(super) fn next_slot(&self, member: &Member) -> u64 {
        let slot = member.next_slot.load(Ordering::Relaxed);
        slot.max(self.0.load(Ordering::Relaxed))
    }

    /// Records that the member has used its slot. If two callers see the same slot free, both count.
    pub(super) fn advance(&self, member: &Member) {
        let now = self.0.load(Ordering::Relaxed);
        let before = member.next_slot.fetch_max(now, Ordering::Relaxed);
        let stride = (STRIDE_UNIT / member.weight).max(1);
        member.next_slot.fetch_add(stride, Ordering::Relaxed);
        self.0.fetch_max(before, Ordering::Relaxed);
    }
}

/// Length of a slot of weight 1: divisible by every weight up to 16, and by larger ones to within 0.2 %. At a million
/// slots per second the time lasts for more than half a year.
const STRIDE_UNIT: u64 = 720_720;
