//! Random numbers for masking keys and for the tags of our Pings.

use crate::upstream::{balance::Eligible, balance_key::mix, member::Member};
use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Returns unpredictable bytes, which a masking key requires (RFC 6455 §5.3).
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel's random source works once the system is up");
    bytes
}

// Two candidates at random, of which the less loaded one: close to the best choice, and independent processes do not
// all select the same backend.

/// A fast random number generator: uniform, not secret.
#[derive(Debug)]
pub(crate) struct Rng(AtomicU64);

/// Returns one of two candidates, each drawn by weight.
pub(crate) fn choose<'a>(candidates: Eligible<'a>, rng: &Rng) -> Option<&'a Arc<Member>> {
    let weights: u64 = candidates.iter().map(|member| member.weight).sum();
    let one = draw(candidates.iter(), rng.below(weights))?;
    let others = candidates.iter().filter(|other| !Arc::ptr_eq(one, other));
    let Some(other) = draw(others, rng.below(weights.saturating_sub(one.weight))) else {
        return Some(one);
    };
    match one.leases() * other.weight <= other.leases() * one.weight {
        true => Some(one),
        false => Some(other),
    }
}

/// Returns the candidate whose range of the summed weights contains `at`; the last one if the sum has shrunk.
fn draw<'a>(
    members: impl Iterator<Item = &'a Arc<Member>>,
    mut at: u64,
) -> Option<&'a Arc<Member>> {
    let mut last = None;
    for member in members {
        if at < member.weight {
            return Some(member);
        }
        at -= member.weight;
        last = Some(member);
    }
    last
}

// === impl Rng ===

impl Rng {
    pub(crate) fn new() -> Self {
        // The standard library's own source of random numbers.
        Rng(AtomicU64::new(RandomState::new().hash_one(0)))
    }

    /// Returns a number below `end`; 0 for 0.
    pub(crate) fn below(&self, end: u64) -> u64 {
        let number = mix(self.0.fetch_add(GOLDEN_GAMMA, Ordering::Relaxed));
        ((u128::from(number) * u128::from(end)) >> 64) as u64
    }
}

/// 2⁶⁴ divided by the golden ratio: the increment of SplitMix64 (Steele, Lea, Flood 2014), which reaches every state.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
