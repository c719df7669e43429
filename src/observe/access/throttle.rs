//! Limits the access lines of refused requests per client address. A refusal costs a client a few bytes (HTTP/2 with
//! HPACK: 13) and no backend, so that its lines could fill a disk. Lines that are left out are counted, and a summary
//! line per address reports them.

use crate::{net::subnet::SubnetKey, observe::access::record::OmittedRecord};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// The throttle of all addresses.
#[derive(Debug)]
pub(crate) struct RefusalThrottle {
    table: Mutex<ThrottleTable>,
    /// Notified when a line is left out after a time without.
    omitted: Notify,
}

#[derive(Debug)]
struct ThrottleTable {
    /// At most [`MAX_ADDRESSES`].
    budgets: HashMap<SubnetKey, LineBudget>,
    /// Shared by all addresses that find the table full.
    shared: LineBudget,
    purged: Instant,
}

/// The lines that one address may cause now, as a token bucket.
#[derive(Debug)]
struct LineBudget {
    lines: f64,
    refilled: Instant,
    /// The number of lines left out since the last summary.
    omitted: u64,
    /// The first of them.
    since: Instant,
    /// The address that caused the last of them.
    client: Option<IpAddr>,
}

// === impl RefusalThrottle ===

impl RefusalThrottle {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        RefusalThrottle {
            table: Mutex::new(ThrottleTable {
                budgets: HashMap::new(),
                shared: LineBudget::full(now),
                purged: now,
            }),
            omitted: Notify::new(),
        }
    }

    /// Returns whether a line for `client` may be written now; otherwise it is counted.
    pub(crate) fn allow(&self, client: IpAddr) -> bool {
        let now = Instant::now();
        let mut table = self.lock();
        let budget = table.budget(SubnetKey::of(client), now);
        budget.refill(now);
        if budget.lines >= 1.0 {
            budget.lines -= 1.0;
            return true;
        }
        if budget.omitted == 0 {
            budget.since = now;
            self.omitted.notify_one();
        }
        budget.omitted += 1;
        budget.client = Some(client);
        false
    }

    /// Completes [`SUMMARY_INTERVAL`] after lines have been left out.
    pub(crate) async fn summary_due(&self) {
        self.omitted.notified().await;
        sleep(SUMMARY_INTERVAL).await;
    }

    /// Returns a summary for each address whose lines were left out since the last call.
    pub(crate) fn take_omitted(&self) -> Vec<OmittedRecord> {
        let now = Instant::now();
        let mut table = self.lock();
        let ThrottleTable {
            budgets, shared, ..
        } = &mut *table;
        let own = budgets
            .values_mut()
            .filter_map(|budget| budget.take_omitted(now));
        let mut list: Vec<_> = own.collect();
        list.extend(shared.take_omitted(now).map(|summary| OmittedRecord {
            client: None,
            ..summary
        }));
        list
    }

    fn lock(&self) -> MutexGuard<'_, ThrottleTable> {
        // The lock is held for plain assignments only, so a poisoned state is consistent.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl ThrottleTable ===

impl ThrottleTable {
    fn budget(&mut self, key: SubnetKey, now: Instant) -> &mut LineBudget {
        if self.budgets.len() >= MAX_ADDRESSES && !self.budgets.contains_key(&key) {
            // At most once per second, because it reads the whole table.
            if now - self.purged >= PURGE_INTERVAL {
                self.purged = now;
                self.budgets.retain(|_, budget| !budget.is_unused(now));
            }
            if self.budgets.len() >= MAX_ADDRESSES {
                return &mut self.shared;
            }
        }
        self.budgets
            .entry(key)
            .or_insert_with(|| LineBudget::full(now))
    }
}

// === impl LineBudget ===

impl LineBudget {
    fn full(now: Instant) -> Self {
        LineBudget {
            lines: MAX_BURST,
            refilled: now,
            omitted: 0,
            since: now,
            client: None,
        }
    }

    fn refill(&mut self, now: Instant) {
        let added = (now - self.refilled).as_secs_f64() * LINES_PER_SECOND;
        self.lines = (self.lines + added).min(MAX_BURST);
        self.refilled = now;
    }

    /// Returns whether the budget is as full as a new one, and reports nothing.
    fn is_unused(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.omitted == 0 && self.lines >= MAX_BURST
    }

    fn take_omitted(&mut self, now: Instant) -> Option<OmittedRecord> {
        let requests = std::mem::take(&mut self.omitted);
        (requests > 0).then(|| OmittedRecord {
            client: self.client,
            requests,
            duration: now - self.since,
        })
    }
}

/// Lines of refused requests per address and second, in the mean.
const LINES_PER_SECOND: f64 = 10.0;

/// Lines that an address may cause at once: a page with many resources that are missing has fewer.
const MAX_BURST: f64 = 100.0;

/// The time between two summaries of one address.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(5);

/// About 100 bytes each.
const MAX_ADDRESSES: usize = 4096;

const PURGE_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[tokio::test(start_paused = true)]
    async fn flood_of_one_address_is_counted_and_others_are_logged() {
        let throttle = RefusalThrottle::new();
        let client = address(1);
        let mut written = (0..1000).filter(|_| throttle.allow(client)).count();
        assert_eq!(written, 100);
        assert!(throttle.allow(address(2)));
        tokio::time::advance(Duration::from_secs(3)).await;
        written += (0..1000).filter(|_| throttle.allow(client)).count();
        assert_eq!(written, 130);
        let omitted = throttle.take_omitted();
        assert_eq!(omitted.len(), 1);
        assert_eq!(
            (omitted[0].client, omitted[0].requests),
            (Some(client), 1870)
        );
        assert_eq!(omitted[0].duration, Duration::from_secs(3));
        assert!(throttle.take_omitted().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_ipv6_network_share_a_budget() {
        let throttle = RefusalThrottle::new();
        let of = |host: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host));
        assert_eq!((0..1000).filter(|n| throttle.allow(of(*n))).count(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn table_is_bounded_and_forgets_addresses_without_refusals() {
        let throttle = RefusalThrottle::new();
        let addresses = 2 * MAX_ADDRESSES as u32;
        let written = (0..addresses)
            .filter(|n| throttle.allow(address(*n)))
            .count();
        assert_eq!(written, MAX_ADDRESSES + 100);
        assert_eq!(throttle.lock().budgets.len(), MAX_ADDRESSES);
        let omitted = throttle.take_omitted();
        assert_eq!(omitted.len(), 1);
        assert_eq!(
            (omitted[0].client, omitted[0].requests),
            (None, MAX_ADDRESSES as u64 - 100)
        );
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(throttle.allow(address(addresses)));
        assert_eq!(throttle.lock().budgets.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn summary_is_due_only_after_lines_were_left_out() {
        let throttle = RefusalThrottle::new();
        let due = throttle.summary_due();
        let waited = tokio::time::timeout(Duration::from_secs(60), due).await;
        assert!(waited.is_err());
        while throttle.allow(address(1)) {}
        let started = Instant::now();
        throttle.summary_due().await;
        assert_eq!(started.elapsed(), SUMMARY_INTERVAL);
    }
}
