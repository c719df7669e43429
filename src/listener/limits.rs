//! Connection limits: in total, and per client address.

use crate::{
    config,
    guard::subnet_key,
    observe::{ConnectionGauge, Metrics},
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::{
    collections::HashMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Issues permits to connections.
#[derive(Debug)]
pub struct ConnectionLimiter {
    places: Arc<Semaphore>,
    per_address: u32,
    open: Mutex<HashMap<IpAddr, u32>>,
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
    accepts: AtomicU32,
    metrics: Arc<Metrics>,
}

/// A connection permit; it moves with the connection into its session, and is released on drop.
#[derive(Debug)]
pub struct ConnectionPermit {
    _place: OwnedSemaphorePermit,
    _gauge: ConnectionGauge,
}

/// A permit per IP, taken once the address is verified (behind a PROXY header); released on drop.
#[derive(Debug)]
pub struct PerIpPermit(Option<(Arc<ConnectionLimiter>, IpAddr)>);

// === impl ConnectionLimiter ===

impl ConnectionLimiter {
    /// Creates the limits with `places` connections, and the limits per address of `[limits]`.
    pub fn new(places: usize, limits: &config::Limits, metrics: Arc<Metrics>) -> Self {
        let rate = limits.accepts_per_ip.and_then(|rate| {
            let count = NonZeroU32::new(rate.count)?;
            Some(RateLimiter::keyed(
                Quota::with_period(rate.per / count.get())?.allow_burst(count),
            ))
        });
        ConnectionLimiter {
            places: Arc::new(Semaphore::new(places)),
            per_address: limits.connections_per_ip,
            open: Mutex::default(),
            rate,
            accepts: AtomicU32::new(0),
            metrics,
        }
    }

    /// Returns a permit, if one is free.
    pub fn try_acquire(&self) -> Option<ConnectionPermit> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        Some(ConnectionPermit {
            _place: place,
            _gauge: self.metrics.connection(),
        })
    }

    /// Returns a permit for `address`, if it is below its limit. IPv6 is counted by /64, which is what one subscriber gets.
    pub fn per_ip_permit(self: &Arc<Self>, address: IpAddr) -> Option<PerIpPermit> {
        let key = subnet_key(address);
        if let Some(rate) = &self.rate {
            if self.accepts.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
                rate.retain_recent();
            }
            rate.check_key(&key).ok()?;
        }
        if self.per_address == 0 {
            return Some(PerIpPermit(None));
        }
        let mut open = self.open();
        let count = open.entry(key).or_insert(0);
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        drop(open);
        Some(PerIpPermit(Some((self.clone(), key))))
    }

    // A panic elsewhere cannot leave the counts half changed, so a poisoned lock is used.
    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl PerIpPermit ===

impl Drop for PerIpPermit {
    fn drop(&mut self) {
        let Some((admission, key)) = &self.0 else {
            return;
        };
        let mut open = admission.open();
        if let Some(count) = open.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                open.remove(key);
            }
        }
    }
}

/// The number of accepts between two sweeps of idle addresses: it bounds the memory of the rate limit.
const SWEEP: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn admission(
        places: usize,
        per_address: u32,
        accepts: Option<config::Rate>,
    ) -> Arc<ConnectionLimiter> {
        let limits = config::Limits {
            connections_per_ip: per_address,
            accepts_per_ip: accepts,
            ..Default::default()
        };
        Arc::new(ConnectionLimiter::new(
            places,
            &limits,
            Arc::new(Metrics::new()),
        ))
    }

    #[test]
    fn a_place_is_given_back_on_drop() {
        let admission = admission(1, 0, None);
        let place = admission.try_acquire().unwrap();
        assert!(admission.try_acquire().is_none());
        drop(place);
        assert!(admission.try_acquire().is_some());
    }

    #[test]
    fn one_address_has_one_share() {
        let admission = admission(9, 2, None);
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let held = [
            admission.per_ip_permit(one).unwrap(),
            admission
                .per_ip_permit("::ffff:10.0.0.1".parse().unwrap())
                .unwrap(),
        ];
        assert!(admission.per_ip_permit(one).is_none());
        assert!(
            admission
                .per_ip_permit("10.0.0.2".parse().unwrap())
                .is_some()
        );
        drop(held);
        assert!(admission.per_ip_permit(one).is_some());
        assert!(admission.open().len() <= 1);
    }

    #[test]
    fn ipv6_is_counted_by_subscriber() {
        let admission = admission(9, 1, None);
        let _held = admission
            .per_ip_permit("2001:db8::1".parse().unwrap())
            .unwrap();
        assert!(
            admission
                .per_ip_permit("2001:db8::ffff:2".parse().unwrap())
                .is_none()
        );
        assert!(
            admission
                .per_ip_permit("2001:db8:0:1::1".parse().unwrap())
                .is_some()
        );
    }

    #[test]
    fn accepts_are_rated_by_address() {
        let admission = admission(
            9,
            0,
            Some(config::Rate {
                count: 3,
                per: Duration::from_secs(3600),
            }),
        );
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let passed = (0..10)
            .filter(|_| admission.per_ip_permit(one).is_some())
            .count();
        assert_eq!(passed, 3);
        assert!(
            admission
                .per_ip_permit("10.0.0.2".parse().unwrap())
                .is_some()
        );
    }
}
