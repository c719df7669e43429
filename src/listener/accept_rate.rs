//! The rate of accepts per client address (`limits.accepts_per_ip`).
//!
//! A flood from more addresses than the table holds makes it forget those that connected least recently. They get a
//! full bucket again, because a bucket that they share would refuse every new client during the flood.

use crate::{
    config::values::units::Rate,
    net::subnet::{PackedSubnet, SubnetKey},
};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A token bucket per address, IPv6 by /64.
#[derive(Debug)]
pub(crate) struct AcceptRate {
    table: Mutex<BucketTable>,
    /// The time in which a bucket gains one accept.
    interval: Duration,
    /// The time in which an empty bucket becomes full.
    refill: Duration,
}

/// The time at which the bucket of each address is full again, in two generations: no entry is ever searched for, and
/// a generation is dropped as a whole.
#[derive(Debug)]
struct BucketTable {
    /// The addresses that have connected since `began`, at most [`MAX_GENERATION_LEN`].
    current: HashMap<PackedSubnet, Instant>,
    /// The addresses of the generation before.
    previous: HashMap<PackedSubnet, Instant>,
    began: Instant,
}

// === impl AcceptRate ===

impl AcceptRate {
    /// Creates the limiter; `None` if `rate` permits nothing that it could count.
    pub(crate) fn new(rate: Rate) -> Option<Self> {
        let interval = rate.per.checked_div(rate.count)?;
        Some(AcceptRate {
            table: Mutex::new(BucketTable {
                current: HashMap::new(),
                previous: HashMap::new(),
                began: Instant::now(),
            }),
            interval,
            refill: interval * rate.count,
        })
    }

    /// Takes one accept out of the bucket of `address`; returns false if it is empty.
    pub(crate) fn allow(&self, address: IpAddr) -> bool {
        let (client, now) = (SubnetKey::of(address).pack(), Instant::now());
        let mut table = self.lock();
        if now - table.began >= self.refill {
            // Since then, every bucket of the previous generation has become full.
            table.begin_generation(now);
        }
        let full = table.full_time(client).map_or(now, |full| full.max(now));
        let next = full + self.interval;
        let is_allowed = next - now <= self.refill;
        // A refused address stays in the current generation, too.
        table.set_full_time(client, if is_allowed { next } else { full }, now);
        is_allowed
    }

    fn lock(&self) -> MutexGuard<'_, BucketTable> {
        // A panic cannot leave an entry half written, so a poisoned state is consistent.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl BucketTable ===

impl BucketTable {
    fn full_time(&self, client: PackedSubnet) -> Option<Instant> {
        let full = self.current.get(&client);
        full.or_else(|| self.previous.get(&client)).copied()
    }

    fn set_full_time(&mut self, client: PackedSubnet, full: Instant, now: Instant) {
        if self.current.len() >= MAX_GENERATION_LEN && !self.current.contains_key(&client) {
            self.begin_generation(now);
        }
        self.current.insert(client, full);
    }

    fn begin_generation(&mut self, now: Instant) {
        self.previous = std::mem::take(&mut self.current);
        self.began = now;
    }
}

/// Two generations of about 50 bytes for each address are 3 MiB.
const MAX_GENERATION_LEN: usize = 32_768;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::time::advance;

    fn rate(count: u32, seconds: u64) -> AcceptRate {
        let per = Duration::from_secs(seconds);
        AcceptRate::new(Rate { count, per }).unwrap()
    }

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn allowed(rate: &AcceptRate, client: IpAddr) -> usize {
        (0..100).filter(|_| rate.allow(client)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn bucket_of_an_address_refills_over_the_period() {
        let rate = rate(10, 60);
        assert_eq!(allowed(&rate, address(1)), 10);
        assert_eq!(allowed(&rate, address(2)), 10);
        for (seconds, expected) in [(5, 0), (1, 1), (30, 5), (60, 10), (600, 10)] {
            advance(Duration::from_secs(seconds)).await;
            assert_eq!(allowed(&rate, address(1)), expected, "after {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_ipv6_network_share_a_bucket() {
        let rate = rate(10, 60);
        let of = |host: u16| format!("2001:db8:0:1::{host:x}").parse().unwrap();
        assert_eq!((0..100).filter(|n| rate.allow(of(*n))).count(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn flood_of_addresses_forgets_only_the_least_recent_ones() {
        let rate = rate(10, 3600);
        assert_eq!(allowed(&rate, address(0)), 10);
        for number in 1..100_000 {
            assert!(rate.allow(address(number)));
            if number % 1000 == 0 {
                assert!(!rate.allow(address(0)), "after {number}");
            }
            let table = rate.lock();
            assert!(table.current.len() + table.previous.len() <= 2 * MAX_GENERATION_LEN);
        }
        // The time alone empties the table, at the next accepts.
        for _ in 0..2 {
            advance(Duration::from_secs(3600)).await;
            assert!(rate.allow(address(0)));
        }
        let table = rate.lock();
        assert_eq!((table.current.len(), table.previous.len()), (1, 1));
    }
}
