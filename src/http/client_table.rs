//! What each client holds: connections, sessions and plain requests, counted by address, IPv6 by /64.
//!
//! An address has an entry only while it holds something, so the memory is bounded by the number of connections,
//! sessions and requests.

use crate::{
    net::{descriptors::DescriptorBudget, subnet::SubnetKey},
    observe::metrics::{Metrics, RequestGauge},
};
use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Issues permits to clients: below the limits per address, and, while descriptors are scarce, only to addresses that
/// hold few of them.
#[derive(Debug)]
pub(crate) struct ClientTable {
    /// By the hash of the key, so that requests of different clients rarely wait for the same lock.
    shards: [Mutex<HashMap<SubnetKey, ClientCounts>>; SHARDS],
    hasher: RandomState,
    /// The number of permits of all addresses.
    claimed: AtomicU64,
    descriptors: Arc<DescriptorBudget>,
    metrics: Arc<Metrics>,
}

/// What one address holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct ClientCounts([u32; 3]);

/// What a permit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientUse {
    Connection,
    /// A session, from its handshake on.
    Session,
    /// A plain request, until its response is complete.
    Request,
}

/// Why a client gets no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientLimit {
    /// The address has reached its limit.
    PerIp,
    /// Three quarters of the descriptors are used, and the address holds more than a tenth of them.
    Descriptors,
}

/// A counted use of one address, released on drop.
#[derive(Debug)]
pub(crate) struct ClientPermit {
    table: Arc<ClientTable>,
    client: SubnetKey,
    used_for: ClientUse,
    _gauge: Option<RequestGauge>,
}

// === impl ClientTable ===

impl ClientTable {
    pub(crate) fn new(descriptors: Arc<DescriptorBudget>, metrics: Arc<Metrics>) -> Self {
        ClientTable {
            shards: Default::default(),
            hasher: RandomState::new(),
            claimed: AtomicU64::new(0),
            descriptors,
            metrics,
        }
    }

    /// Returns a permit for a client with this limit on this use; 0: no limit. Trusted proxies are exempt from the
    /// share of descriptors, because their connections carry the requests of many clients.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        address: IpAddr,
        used_for: ClientUse,
        limit: u32,
        is_trusted: bool,
    ) -> Result<ClientPermit, ClientLimit> {
        let client = SubnetKey::of(address);
        let claimed = self.claimed.load(Ordering::Relaxed);
        let is_limited = !is_trusted && self.descriptors.is_scarce(claimed);
        let mut shard = self.shard(&client);
        let held = shard.get(&client).copied().unwrap_or_default();
        if limit > 0 && held.used_for(used_for) >= limit {
            return Err(ClientLimit::PerIp);
        }
        if is_limited && held.total() > self.descriptors.max() / SHARE_DIVISOR {
            return Err(ClientLimit::Descriptors);
        }
        shard.entry(client).or_default().0[used_for as usize] += 1;
        drop(shard);
        self.claimed.fetch_add(1, Ordering::Relaxed);
        Ok(ClientPermit {
            table: self.clone(),
            client,
            used_for,
            _gauge: (used_for == ClientUse::Request).then(|| self.metrics.request_in_flight()),
        })
    }

    // A panic elsewhere cannot leave the counts half changed, so a poisoned lock is used.
    fn shard(&self, client: &SubnetKey) -> MutexGuard<'_, HashMap<SubnetKey, ClientCounts>> {
        let index = self.hasher.hash_one(client) as usize % SHARDS;
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl ClientCounts ===

impl ClientCounts {
    fn used_for(self, used_for: ClientUse) -> u32 {
        self.0[used_for as usize]
    }

    /// Returns the number of descriptors that the address holds: one for each connection, and one to a backend for
    /// each session and request.
    fn total(self) -> u64 {
        self.0.into_iter().map(u64::from).sum()
    }
}

// === impl ClientPermit ===

impl Drop for ClientPermit {
    fn drop(&mut self) {
        self.table.claimed.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.table.shard(&self.client);
        let Some(counts) = shard.get_mut(&self.client) else {
            return;
        };
        counts.0[self.used_for as usize] -= 1;
        if counts.total() > 0 {
            return;
        }
        shard.remove(&self.client);
        // Many addresses may have come and gone at a time.
        if shard.capacity() > MIN_CAPACITY && shard.len() < shard.capacity() / 8 {
            shard.shrink_to(MIN_CAPACITY);
        }
    }
}

const SHARDS: usize = 16;

/// An address may hold a tenth of the descriptors while they are scarce.
const SHARE_DIVISOR: u64 = 10;

/// Entries of a shard whose memory is kept.
const MIN_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::descriptors::DescriptorUse;

    fn table(descriptors: u64) -> Arc<ClientTable> {
        let budget = DescriptorBudget::new(descriptors);
        let metrics = Metrics::of(budget.clone());
        Arc::new(ClientTable::new(budget, Arc::new(metrics)))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_empty(table: &ClientTable) -> bool {
        let mut shards = table.shards.iter();
        shards.all(|shard| shard.lock().unwrap().is_empty())
    }

    #[test]
    fn each_use_has_its_own_limit_and_is_released_on_drop() {
        let table = table(100);
        let acquire = |used_for, at: &str| table.acquire(address(at), used_for, 2, false);
        let held = [
            acquire(ClientUse::Session, "10.0.0.1").unwrap(),
            acquire(ClientUse::Session, "::ffff:10.0.0.1").unwrap(),
        ];
        let refused = acquire(ClientUse::Session, "10.0.0.1");
        assert_eq!(refused.unwrap_err(), ClientLimit::PerIp);
        assert!(acquire(ClientUse::Request, "10.0.0.1").is_ok());
        assert!(acquire(ClientUse::Session, "10.0.0.2").is_ok());
        drop(held);
        assert!(acquire(ClientUse::Session, "10.0.0.1").is_ok());
        assert!(is_empty(&table));
    }

    #[test]
    fn ipv6_is_counted_by_prefix() {
        let table = table(100);
        let acquire = |at: &str| table.acquire(address(at), ClientUse::Request, 1, false);
        let _held = acquire("2001:db8::1").unwrap();
        assert!(acquire("2001:db8::ffff:2").is_err());
        assert!(acquire("2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn scarce_descriptors_are_refused_to_an_address_above_its_share() {
        let table = table(40);
        let acquire =
            |at: &str, trusted| table.acquire(address(at), ClientUse::Request, 0, trusted);
        let budget = table.descriptors.clone();
        let _requests: Vec<_> = (0..5)
            .map(|_| acquire("10.0.0.1", false).unwrap())
            .collect();
        let descriptors: Vec<_> = (0..29)
            .map(|_| budget.acquire(DescriptorUse::Request).unwrap())
            .collect();
        assert!(acquire("10.0.0.1", false).is_ok(), "not scarce yet");
        let last = budget.acquire(DescriptorUse::Request);
        let refused = acquire("10.0.0.1", false);
        assert_eq!(refused.unwrap_err(), ClientLimit::Descriptors);
        assert!(acquire("10.0.0.1", true).is_ok(), "a trusted proxy");
        assert!(acquire("10.0.0.2", false).is_ok(), "another client");
        drop((descriptors, last));
        assert!(acquire("10.0.0.1", false).is_ok());
    }

    #[test]
    fn requests_that_wait_for_a_backend_count() {
        let table = table(40);
        let acquire = || table.acquire(address("10.0.0.1"), ClientUse::Request, 0, false);
        let permits: Vec<_> = (0..100).map_while(|_| acquire().ok()).collect();
        assert_eq!(permits.len(), 30);
    }

    #[test]
    fn memory_of_past_addresses_is_freed() {
        let table = table(1_000_000);
        let permits: Vec<_> = (0..50_000_u32)
            .map(|n| {
                let at = IpAddr::from(n.to_be_bytes());
                table.acquire(at, ClientUse::Connection, 0, false).unwrap()
            })
            .collect();
        drop(permits);
        let shards = table.shards.iter();
        let capacity: usize = shards.map(|shard| shard.lock().unwrap().capacity()).sum();
        assert!(capacity <= SHARDS * MIN_CAPACITY * 2, "{capacity}");
    }
}
