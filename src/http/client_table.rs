//! What each client holds: connections, sessions and plain requests, counted by address, IPv6 by /64.
//!
//! An address has an entry only while it holds something, so the memory is bounded by the number of connections,
//! sessions and requests.

use crate::{
    gateway::Gateway,
    net::{descriptors::DescriptorBudget, memory::MemoryMonitor, subnet::SubnetKey},
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

/// Issues permits to clients: below the limits per address, and, while descriptors or memory are scarce, only to
/// addresses that hold little of them.
#[derive(Debug)]
pub(crate) struct ClientTable {
    /// By the hash of the key, so that requests of different clients rarely wait for the same lock.
    shards: [Mutex<HashMap<SubnetKey, ClientCounts>>; SHARDS],
    hasher: RandomState,
    /// The number of permits of all addresses.
    claimed: AtomicU64,
    descriptors: Arc<DescriptorBudget>,
    memory: MemoryMonitor,
    metrics: Arc<Metrics>,
}

/// The limits that apply to one client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClientLimits {
    /// The maximum number of permits for the same use; 0: no limit.
    pub(crate) max: u32,
    /// The bytes of memory that the process may use (`limits.memory`); 0: the number that the system allows.
    pub(crate) memory: u64,
    /// Whether it is a trusted proxy, whose connections carry the requests of many clients: it is exempt from the
    /// shares of descriptors and memory.
    pub(crate) is_trusted: bool,
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
    /// The plain requests of the address could use three quarters of the memory; or these are used, and the address may
    /// use more than a tenth.
    Memory,
}

/// A counted use of one address, released on drop.
#[derive(Debug)]
pub(crate) struct ClientPermit {
    table: Arc<ClientTable>,
    client: SubnetKey,
    used_for: ClientUse,
    _gauge: Option<RequestGauge>,
}

// === impl ClientLimits ===

impl ClientLimits {
    /// Returns the limits of `address` in this configuration, with `max` for the use.
    pub(crate) fn new(gateway: &Gateway, address: IpAddr, max: u32) -> Self {
        ClientLimits {
            max,
            memory: gateway.limits.memory.0,
            is_trusted: gateway.trusts(address),
        }
    }
}

// === impl ClientTable ===

impl ClientTable {
    pub(crate) fn new(
        descriptors: Arc<DescriptorBudget>,
        memory: MemoryMonitor,
        metrics: Arc<Metrics>,
    ) -> Self {
        ClientTable {
            shards: Default::default(),
            hasher: RandomState::new(),
            claimed: AtomicU64::new(0),
            descriptors,
            memory,
            metrics,
        }
    }

    /// Returns a permit for this use, which must be within `limits`.
    pub(crate) fn acquire(
        self: &Arc<Self>,
        address: IpAddr,
        used_for: ClientUse,
        limits: ClientLimits,
    ) -> Result<ClientPermit, ClientLimit> {
        let client = SubnetKey::of(address);
        let claimed = self.claimed.load(Ordering::Relaxed);
        let is_limited = !limits.is_trusted && self.descriptors.is_scarce(claimed);
        let memory = self.memory.max(limits.memory);
        let has_memory_limit = !limits.is_trusted && memory > 0;
        let is_memory_limited = has_memory_limit && self.memory.is_scarce(memory);
        let mut shard = self.shard(&client);
        let held = shard.get(&client).copied().unwrap_or_default();
        if limits.max > 0 && held.used_for(used_for) >= limits.max {
            return Err(ClientLimit::PerIp);
        }
        if is_limited && held.total() > self.descriptors.max() / SHARE_DIVISOR {
            return Err(ClientLimit::Descriptors);
        }
        let is_above_share = is_memory_limited && held.max_bytes() > memory / SHARE_DIVISOR;
        let is_above_max = has_memory_limit
            && used_for == ClientUse::Request
            && held.max_bytes_of(ClientUse::Request) > memory / 4 * 3;
        if is_above_share || is_above_max {
            return Err(ClientLimit::Memory);
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

    /// Returns the bytes of memory that what the address holds can use at most.
    fn max_bytes(self) -> u64 {
        let uses = [
            ClientUse::Connection,
            ClientUse::Session,
            ClientUse::Request,
        ];
        uses.map(|one| self.max_bytes_of(one)).iter().sum()
    }

    fn max_bytes_of(self, used_for: ClientUse) -> u64 {
        u64::from(self.used_for(used_for)) * MAX_BYTES[used_for as usize]
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

/// The bytes of memory that one connection, session and request can use at most, as docs/resources.md derives them.
const MAX_BYTES: [u64; 3] = [32 << 10, 64 << 10, 256 << 10];

/// An address may hold a tenth of the descriptors or the memory while they are scarce.
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
        let memory = MemoryMonitor::new(0);
        Arc::new(ClientTable::new(budget, memory, Arc::new(metrics)))
    }

    fn limits(max: u32) -> ClientLimits {
        ClientLimits {
            max,
            ..Default::default()
        }
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
        let acquire = |used_for, at: &str| table.acquire(address(at), used_for, limits(2));
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
        let acquire = |at: &str| table.acquire(address(at), ClientUse::Request, limits(1));
        let _held = acquire("2001:db8::1").unwrap();
        assert!(acquire("2001:db8::ffff:2").is_err());
        assert!(acquire("2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn scarce_descriptors_are_refused_to_an_address_above_its_share() {
        let table = table(40);
        let acquire = |at: &str, is_trusted| {
            let limits = ClientLimits {
                is_trusted,
                ..Default::default()
            };
            table.acquire(address(at), ClientUse::Request, limits)
        };
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
    fn scarce_memory_is_refused_to_an_address_above_its_share() {
        // The test itself uses more than three quarters of this.
        let memory = 1 << 20;
        let table = table(1_000_000);
        let acquire = |at: &str, is_trusted| {
            let limits = ClientLimits {
                memory,
                is_trusted,
                ..Default::default()
            };
            table.acquire(address(at), ClientUse::Session, limits)
        };
        let _held = [
            acquire("10.0.0.1", false).unwrap(),
            acquire("10.0.0.1", false).unwrap(),
        ];
        let refused = acquire("10.0.0.1", false);
        assert_eq!(refused.unwrap_err(), ClientLimit::Memory);
        assert!(acquire("10.0.0.1", true).is_ok(), "a trusted proxy");
        assert!(acquire("10.0.0.2", false).is_ok(), "another client");
    }

    #[test]
    fn requests_that_wait_for_a_backend_count() {
        let table = table(40);
        let acquire = || table.acquire(address("10.0.0.1"), ClientUse::Request, limits(0));
        let permits: Vec<_> = (0..100).map_while(|_| acquire().ok()).collect();
        assert_eq!(permits.len(), 30);
    }

    #[test]
    fn memory_of_past_addresses_is_freed() {
        let table = table(1_000_000);
        let permits: Vec<_> = (0..50_000_u32)
            .map(|n| {
                let at = IpAddr::from(n.to_be_bytes());
                table.acquire(at, ClientUse::Connection, limits(0)).unwrap()
            })
            .collect();
        drop(permits);
        let shards = table.shards.iter();
        let capacity: usize = shards.map(|shard| shard.lock().unwrap().capacity()).sum();
        assert!(capacity <= SHARDS * MIN_CAPACITY * 2, "{capacity}");
    }
}
