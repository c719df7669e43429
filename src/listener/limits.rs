//! Connection limits: in total, and per client address.

use crate::{
    config,
    http::client_table::{ClientLimit, ClientLimits, ClientPermit, ClientTable, ClientUse},
    listener::accept_rate::AcceptRate,
    net::descriptors::{DescriptorBudget, DescriptorPermit, DescriptorUse},
    observe::metrics::{ConnectionGauge, Metrics},
};
use std::{net::IpAddr, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Issues permits to connections.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    permits: Arc<Semaphore>,
    descriptors: Arc<DescriptorBudget>,
    clients: Arc<ClientTable>,
    rate: Option<AcceptRate>,
    metrics: Arc<Metrics>,
}

/// A connection permit; it moves with the connection into its session, and is released on drop.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    _descriptor: DescriptorPermit,
    _gauge: ConnectionGauge,
}

/// The resource without which a new connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// No free permit (`limits.connections`).
    Permits,
    /// No descriptor or memory is left.
    Descriptors,
}

// === impl ConnectionLimiter ===

impl ConnectionLimiter {
    /// Creates a limiter for `max_connections` in total, with the accept rate per address of `limits`.
    pub(crate) fn new(
        max_connections: usize,
        descriptors: Arc<DescriptorBudget>,
        clients: Arc<ClientTable>,
        limits: &config::Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        ConnectionLimiter {
            permits: Arc::new(Semaphore::new(max_connections)),
            descriptors,
            clients,
            rate: limits.accepts_per_ip.and_then(AcceptRate::new),
            metrics,
        }
    }

    /// Returns a permit, if a connection and a descriptor are left.
    pub(crate) fn try_acquire(&self) -> Result<ConnectionPermit, Exhausted> {
        let permit = self.permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Exhausted::Permits)?;
        let descriptor = self.descriptors.acquire(DescriptorUse::Client);
        Ok(ConnectionPermit {
            _permit: permit,
            _descriptor: descriptor.ok_or(Exhausted::Descriptors)?,
            _gauge: self.metrics.connection_gauge(),
        })
    }

    /// Returns a permit for a connection of `address`. Taken once the address is verified (behind a PROXY header). IPv6
    /// is counted by /64, which is what one subscriber gets.
    pub(crate) fn per_ip_permit(
        &self,
        address: IpAddr,
        limits: ClientLimits,
    ) -> Result<ClientPermit, ClientLimit> {
        if self.rate.as_ref().is_some_and(|rate| !rate.allow(address)) {
            return Err(ClientLimit::PerIp);
        }
        self.clients.acquire(address, ClientUse::Connection, limits)
    }
}

// === impl Exhausted ===

impl Exhausted {
    /// Returns a word of a closed set for metric labels.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Exhausted::Permits => "limit",
            Exhausted::Descriptors => "descriptors",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::memory::MemoryMonitor;
    use std::time::Duration;

    fn limiter(
        max_connections: usize,
        descriptors: u64,
        accepts: Option<config::values::units::Rate>,
    ) -> ConnectionLimiter {
        let limits = config::Limits {
            accepts_per_ip: accepts,
            ..Default::default()
        };
        let budget = DescriptorBudget::new(descriptors);
        let metrics = Arc::new(Metrics::of(budget.clone()));
        let memory = MemoryMonitor::new(0);
        let clients = Arc::new(ClientTable::new(budget.clone(), memory, metrics.clone()));
        ConnectionLimiter::new(max_connections, budget, clients, &limits, metrics)
    }

    fn limits(max: u32) -> ClientLimits {
        ClientLimits {
            max,
            ..Default::default()
        }
    }

    #[test]
    fn permit_is_released_on_drop() {
        for (max_connections, descriptors, exhausted) in
            [(1, 9, Exhausted::Permits), (9, 1, Exhausted::Descriptors)]
        {
            let limiter = limiter(max_connections, descriptors, None);
            let permit = limiter.try_acquire().unwrap();
            assert_eq!(limiter.try_acquire().unwrap_err(), exhausted);
            drop(permit);
            assert!(limiter.try_acquire().is_ok());
        }
    }

    #[test]
    fn address_at_its_limit_gets_no_permit() {
        let limiter = limiter(9, 9, None);
        let acquire = |address: &str| limiter.per_ip_permit(address.parse().unwrap(), limits(2));
        let held = [
            acquire("10.0.0.1").unwrap(),
            acquire("::ffff:10.0.0.1").unwrap(),
        ];
        assert_eq!(acquire("10.0.0.1").unwrap_err(), ClientLimit::PerIp);
        assert!(acquire("10.0.0.2").is_ok());
        drop(held);
        assert!(acquire("10.0.0.1").is_ok());
    }

    #[test]
    fn accept_rate_is_limited_per_address() {
        let limiter = limiter(
            9,
            9,
            Some(config::values::units::Rate {
                count: 3,
                per: Duration::from_secs(3600),
            }),
        );
        let acquire = |address: &str| limiter.per_ip_permit(address.parse().unwrap(), limits(0));
        let permitted = (0..10).filter(|_| acquire("10.0.0.1").is_ok()).count();
        assert_eq!(permitted, 3);
        assert!(acquire("10.0.0.2").is_ok());
    }
}
