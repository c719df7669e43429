//! The clients of a backend: their handshakes in progress, and which of them were active recently.
//!
//! Both decide what one client may cause: how many of `admission.handshakes` it holds, and whether its failures alone
//! eject the backend.

use crate::net::{coarse_clock::CoarseInstant, random::random_bytes, subnet::PackedSubnet};
use std::{
    array,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// The clients of one backend. Without a lock: every pick counts its client.
#[derive(Debug)]
pub(crate) struct BackendClients {
    handshakes: HandshakeSketch,
    activity: ClientActivity,
}

/// The handshakes in progress per client, in a count-min sketch: a hash with a secret key selects one counter of a
/// client in each row, and the smaller of the two is its count. A count is never too small. It is too large if another
/// client has the same counters, which is one client in 4,096.
#[derive(Debug)]
struct HandshakeSketch {
    rows: [[AtomicU32; COUNTERS]; 2],
    key: u64,
}

/// The client of the last lease, and when a lease of any other client began. Simultaneous leases of several clients may
/// be recorded as one of them; each of the times is that of a real lease.
#[derive(Debug, Default)]
struct ClientActivity {
    /// The bits of the client of the last lease; 0: there was none.
    last: AtomicU64,
    /// The time of the last lease.
    last_at: AtomicU64,
    /// The time of the last lease of any client but `last`; 0: there was none.
    other_at: AtomicU64,
}

// === impl BackendClients ===

impl BackendClients {
    pub(crate) fn new() -> Self {
        BackendClients {
            handshakes: HandshakeSketch::new(),
            activity: ClientActivity::default(),
        }
    }

    /// Returns the number of handshakes in progress of `client`, which is in rare cases too large.
    pub(crate) fn handshakes(&self, client: PackedSubnet) -> u64 {
        self.handshakes.count(client)
    }

    /// Counts a handshake of `client`, unless it has `max` already; returns whether it was counted.
    pub(crate) fn begin(&self, client: PackedSubnet, max: u64) -> bool {
        let is_counted = self.handshakes.add(client) < max;
        if !is_counted {
            self.handshakes.subtract(client);
        }
        is_counted
    }

    /// Records that `client` got a lease at `now`.
    pub(crate) fn record_lease(&self, client: PackedSubnet, now: CoarseInstant) {
        self.activity.record(client, now);
    }

    /// Ends the count of a handshake of `client`.
    pub(crate) fn end(&self, client: PackedSubnet) {
        self.handshakes.subtract(client);
    }

    /// Returns whether another client than `client` has one of the `handshakes` in progress, or got a lease within
    /// `window`.
    pub(crate) fn has_other(
        &self,
        client: PackedSubnet,
        handshakes: u64,
        now: CoarseInstant,
        window: Duration,
    ) -> bool {
        self.activity.has_other(client, now, window) || self.handshakes(client) < handshakes
    }
}

// === impl HandshakeSketch ===

impl HandshakeSketch {
    fn new() -> Self {
        HandshakeSketch {
            rows: array::from_fn(|_| array::from_fn(|_| AtomicU32::new(0))),
            key: u64::from_ne_bytes(random_bytes()),
        }
    }

    fn counters(&self, client: PackedSubnet) -> [&AtomicU32; 2] {
        let product = u128::from(client.bits() ^ self.key) * u128::from(HASH_FACTOR);
        let hash = (product >> 64) as usize ^ product as usize;
        let [first, second] = &self.rows;
        [&first[hash % COUNTERS], &second[hash / COUNTERS % COUNTERS]]
    }

    fn count(&self, client: PackedSubnet) -> u64 {
        let [one, other] = self.counters(client).map(|one| one.load(Ordering::SeqCst));
        one.min(other).into()
    }

    /// Adds 1 and returns the count before.
    fn add(&self, client: PackedSubnet) -> u64 {
        let add = |one: &AtomicU32| one.fetch_add(1, Ordering::SeqCst);
        let [one, other] = self.counters(client).map(add);
        one.min(other).into()
    }

    fn subtract(&self, client: PackedSubnet) {
        for one in self.counters(client) {
            one.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

// === impl ClientActivity ===

impl ClientActivity {
    fn record(&self, client: PackedSubnet, now: CoarseInstant) {
        let last = self.last.load(Ordering::Relaxed);
        if last != client.bits() {
            if last != 0 {
                let last_at = self.last_at.load(Ordering::Relaxed);
                self.other_at.store(last_at, Ordering::Relaxed);
            }
            self.last.store(client.bits(), Ordering::Relaxed);
        }
        self.last_at.store(now.0, Ordering::Relaxed);
    }

    fn has_other(&self, client: PackedSubnet, now: CoarseInstant, window: Duration) -> bool {
        let other_at = match self.last.load(Ordering::Relaxed) {
            0 => 0,
            last if last != client.bits() => self.last_at.load(Ordering::Relaxed),
            _ => self.other_at.load(Ordering::Relaxed),
        };
        other_at != 0 && now.since(CoarseInstant(other_at)) <= window
    }
}

/// The counters of one row.
const COUNTERS: usize = 64;

/// 2^64 divided by the golden ratio: its bits have no pattern.
const HASH_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::subnet::SubnetKey;

    fn client(n: u32) -> PackedSubnet {
        SubnetKey::of(n.to_be_bytes().into()).pack()
    }

    #[test]
    fn client_has_at_most_the_given_number_of_handshakes() {
        let clients = BackendClients::new();
        assert!(clients.begin(client(1), 2) && clients.begin(client(1), 2));
        assert!(!clients.begin(client(1), 2));
        clients.end(client(1));
        assert_eq!(clients.handshakes(client(1)), 1);
        assert!(clients.begin(client(1), 2));
    }

    #[test]
    fn count_is_never_too_small_and_rarely_too_large() {
        let clients = BackendClients::new();
        for _ in 0..48 {
            clients.begin(client(1), u64::MAX);
        }
        let others = 2..4098;
        let same = others.filter(|n| clients.handshakes(client(*n)) > 0);
        assert!(same.count() <= 32);
        for n in 2..66 {
            clients.begin(client(n), u64::MAX);
        }
        assert!(clients.handshakes(client(1)) >= 48);
        assert!((2..66).all(|n| clients.handshakes(client(n)) >= 1));
        for n in 2..66 {
            clients.end(client(n));
        }
        assert_eq!(clients.handshakes(client(1)), 48);
    }

    #[test]
    fn other_client_counts_within_the_window_and_while_its_handshake_lasts() {
        let clients = BackendClients::new();
        let second = |n: u64| CoarseInstant(n * 1000 + 1);
        let window = Duration::from_secs(10);
        let lease = |n: u32, at| {
            clients.record_lease(client(n), at);
            let others = |n| clients.has_other(client(n), 0, at, window);
            (others(1), others(2))
        };
        assert_eq!(lease(1, second(0)), (false, true));
        assert_eq!(lease(1, second(5)), (false, true));
        assert_eq!(lease(2, second(6)), (true, true));
        assert_eq!(lease(1, second(8)), (true, true));
        assert_eq!(lease(1, second(17)), (false, true));
        clients.record_lease(client(2), second(18));
        clients.begin(client(2), u64::MAX);
        assert!(clients.has_other(client(1), 1, second(60), window));
        assert!(!clients.has_other(client(2), 1, second(60), window));
    }
}
