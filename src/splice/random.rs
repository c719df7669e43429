//! Random numbers for masking keys and for the tags of our Pings.

/// Returns unpredictable bytes, which a masking key requires (RFC 6455 §5.3).
pub(super) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel's random source works once the system is up");
    bytes
}
