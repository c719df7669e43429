//! Connection limits: in total, and per client address.

use crate::{
    config,
    net::subnet::SubnetKey,
    observe::metrics::{ConnectionGauge, Metrics},
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
pub(crate) struct ConnectionLimiter {
    permits: Arc<Semaphore>,
    per_address: u32,
    open: Mutex<HashMap<SubnetKey, u32>>,
    rate: Option<DefaultKeyedRateLimiter<SubnetKey>>,
    accepts: AtomicU32,
    metrics: Arc<Metrics>,
}

/// A connection permit; it moves with the connection into its session, and is released on drop.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    _gauge: ConnectionGauge,
}

/// A permit per IP, taken once the address is verified (behind a PROXY header); released on drop.
#[derive(Debug)]
pub(crate) struct PerIpPermit(Option<(Arc<ConnectionLimiter>, SubnetKey)>);

// === impl ConnectionLimiter ===

impl ConnectionLimiter {
    /// Creates a limiter for `max_connections` in total, with the limits per address of `[limits]`.
    pub(crate) fn new(
        max_connections: usize,
        limits: &config::Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let rate = limits.accepts_per_ip.and_then(|rate| {
            let count = NonZeroU32::new(rate.count)?;
            Some(RateLimiter::keyed(
                Quota::with_period(rate.per / count.get())?.allow_burst(count),
            ))
        });
        ConnectionLimiter {
            permits: Arc::new(Semaphore::new(max_connections)),
            per_address: limits.connections_per_ip,
            open: Mutex::default(),
            rate,
            accepts: AtomicU32::new(0),
            metrics,
        }
    }

    /// Returns a permit, if one is free.
    pub(crate) fn try_acquire(&self) -> Option<ConnectionPermit> {
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        Some(ConnectionPermit {
            _permit: permit,
            _gauge: self.metrics.connection_gauge(),
        })
    }

    /// Returns a permit for `address`, if it is below its limit. IPv6 is counted by /64, which is what one subscriber
    /// gets.
    pub(crate) fn per_ip_permit(self: &Arc<Self>, address: IpAddr) -> Option<PerIpPermit> {
        let key = SubnetKey::of(address);
        if let Some(rate) = &self.rate {
            if self.accepts.fetch_add(1, Ordering::Relaxed) % SWEEP_INTERVAL == SWEEP_INTERVAL - 1 {
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
    fn open(&self) -> MutexGuard<'_, HashMap<SubnetKey, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl PerIpPermit ===

impl Drop for PerIpPermit {
    fn drop(&mut self) {
        let Some((limiter, key)) = &self.0 else {
            return;
        };
        let mut open = limiter.open();
        if let Some(count) = open.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                open.remove(key);
            }
        }
    }
}

/// The number of accepts between two sweeps of idle addresses, which bound the memory of the rate limit.
const SWEEP_INTERVAL: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn limiter(
        max_connections: usize,
        per_address: u32,
        accepts: Option<config::values::units::Rate>,
    ) -> Arc<ConnectionLimiter> {
        let limits = config::Limits {
            connections_per_ip: per_address,
            accepts_per_ip: accepts,
            ..Default::default()
        };
        Arc::new(ConnectionLimiter::new(
            max_connections,
            &limits,
            Arc::new(Metrics::new()),
        ))
    }

    #[test]
    fn permit_is_released_on_drop() {
        let limiter = limiter(1, 0, None);
        let permit = limiter.try_acquire().unwrap();
        assert!(limiter.try_acquire().is_none());
        drop(permit);
        assert!(limiter.try_acquire().is_some());
    }

    #[test]
    fn address_at_its_limit_gets_no_permit() {
        let limiter = limiter(9, 2, None);
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let held = [
            limiter.per_ip_permit(one).unwrap(),
            limiter
                .per_ip_permit("::ffff:10.0.0.1".parse().unwrap())
                .unwrap(),
        ];
        assert!(limiter.per_ip_permit(one).is_none());
        assert!(limiter.per_ip_permit("10.0.0.2".parse().unwrap()).is_some());
        drop(held);
        assert!(limiter.per_ip_permit(one).is_some());
        assert!(limiter.open().len() <= 1);
    }

    #[test]
    fn ipv6_is_counted_by_prefix() {
        let limiter = limiter(9, 1, None);
        let _held = limiter
            .per_ip_permit("2001:db8::1".parse().unwrap())
            .unwrap();
        assert!(
            limiter
                .per_ip_permit("2001:db8::ffff:2".parse().unwrap())
                .is_none()
        );
        assert!(
            limiter
                .per_ip_permit("2001:db8:0:1::1".parse().unwrap())
                .is_some()
        );
    }

    #[test]
    fn accept_rate_is_limited_per_address() {
        let limiter = limiter(
            9,
            0,
            Some(config::values::units::Rate {
                count: 3,
                per: Duration::from_secs(3600),
            }),
        );
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let permitted = (0..10)
            .filter(|_| limiter.per_ip_permit(one).is_some())
            .count();
        assert_eq!(permitted, 3);
        assert!(limiter.per_ip_permit("10.0.0.2".parse().unwrap()).is_some());
    }
}
