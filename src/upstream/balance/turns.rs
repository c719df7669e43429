//! Turns by weight: who has waited longest for his share is next.
//!
//! Every entry has the time of its next turn, and a turn takes the longer the less it weighs (stride scheduling). Over
//! any stretch the turns stand to each other as the weights do, to within one.

use crate::upstream::entry::Member;
use std::sync::atomic::{AtomicU64, Ordering};

/// The time that has come: the latest at which a turn has begun.
#[derive(Debug, Default)]
pub(in crate::upstream) struct StrideScheduler(AtomicU64);

// === impl StrideScheduler ===

impl StrideScheduler {
    /// When its turn is. Whoever was away, drained or full, has missed turns and does not get them all at once now.
    pub(super) fn of(&self, entry: &Member) -> u64 {
        let turn = entry.next_slot.load(Ordering::Relaxed);
        turn.max(self.0.load(Ordering::Relaxed))
    }

    /// It has its turn now. Two who see the same turn free both count.
    pub(super) fn take(&self, entry: &Member) {
        let now = self.0.load(Ordering::Relaxed);
        let before = entry.next_slot.fetch_max(now, Ordering::Relaxed);
        let stride = (STRIDE_UNIT / entry.weight).max(1);
        entry.next_slot.fetch_add(stride, Ordering::Relaxed);
        self.0.fetch_max(before, Ordering::Relaxed);
    }
}

/// How long the turn of weight 1 takes: divided without a rest by every weight up to 16, and by larger ones to within
/// 0.2 %. At a million turns a second the time lasts for half a year and more.
const STRIDE_UNIT: u64 = 720_720;
