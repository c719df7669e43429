//! Randomness, in two strengths.
//!
//! [`random_bytes`] is unpredictable and reads the kernel's source. Masking keys, handshake keys and file names use it.
//! Everything else is uniform and fast, but predictable: jitter, load balancing and sampling. Each thread has its own
//! generator for that, which needs no lock.

use std::time::Duration;

/// Returns unpredictable bytes, which a masking key requires (RFC 6455 §5.3).
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel's random source works once the system is up");
    bytes
}

/// Returns a predictable duration from zero up to `max`, so that simultaneous events spread over that time.
pub(crate) fn jitter(max: Duration) -> Duration {
    max.mul_f64(fraction())
}

/// Returns a predictable number in `0.0..1.0`.
pub(crate) fn fraction() -> f64 {
    fastrand::f64()
}

/// Returns a predictable number below `end`; 0 for 0.
pub(crate) fn below(end: u64) -> u64 {
    fastrand::u64(..end.max(1))
}
