//! The clients of a backend: their handshakes in progress, and which of them were active recently.
//!
//! Both decide what one client may cause: how many of `admission.handshakes` it holds, and whether its failures alone
//! eject the backend.

use crate::net::subnet::PackedSubnet;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The clients of one backend.
#[derive(Debug, Default)]
pub(crate) struct BackendClients(Mutex<HandshakeClients>);

/// Handshakes in progress per client, and the recent activity.
#[derive(Debug, Default)]
pub(crate) struct HandshakeClients {
    /// The number of handshakes in progress of one client, so that a backend with one client at a time uses no map.
    first: Option<(PackedSubnet, u64)>,
    /// Those of the other clients; no entry is 0, so the size is bounded by the handshakes of the backend.
    handshakes: HashMap<PackedSubnet, u64>,
    /// The client of the last lease, and the time.
    last: Option<(PackedSubnet, Instant)>,
    /// The time of the last lease of any other client.
    other: Option<Instant>,
}

// === impl BackendClients ===

impl BackendClients {
    /// Locks the table. No lock is taken while it is held.
    pub(crate) fn lock(&self) -> MutexGuard<'_, HandshakeClients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl HandshakeClients ===

impl HandshakeClients {
    /// Returns the number of handshakes in progress of `client`.
    pub(crate) fn handshakes(&self, client: PackedSubnet) -> u64 {
        match self.first {
            Some((first, count)) if first == client => count,
            _ => self.handshakes.get(&client).copied().unwrap_or_default(),
        }
    }

    /// Counts a handshake of `client`.
    pub(crate) fn begin(&mut self, client: PackedSubnet, now: Instant) {
        match &mut self.first {
            Some((first, count)) if *first == client => *count += 1,
            first @ None if self.handshakes.is_empty() => *first = Some((client, 1)),
            _ => *self.handshakes.entry(client).or_default() += 1,
        }
        if let Some((last, at)) = self.last
            && last != client
        {
            self.other = Some(at);
        }
        self.last = Some((client, now));
    }

    /// Ends the count of a handshake of `client`.
    pub(crate) fn end(&mut self, client: PackedSubnet) {
        if let Some((first, count)) = &mut self.first
            && *first == client
        {
            *count -= 1;
            if *count == 0 {
                self.first = None;
            }
        } else if let Some(count) = self.handshakes.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.handshakes.remove(&client);
            }
        }
    }

    /// Returns whether another client than `client` has a handshake in progress, or got a lease within `window`.
    pub(crate) fn has_other(&self, client: PackedSubnet, now: Instant, window: Duration) -> bool {
        let other = match self.last {
            Some((last, at)) if last != client => Some(at),
            _ => self.other,
        };
        other.is_some_and(|at| now.saturating_duration_since(at) <= window)
            || self.first.is_some_and(|(first, _)| first != client)
            || self.handshakes.keys().any(|one| *one != client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::subnet::SubnetKey;

    fn client(n: u8) -> PackedSubnet {
        SubnetKey::of([192, 0, 2, n].into()).pack()
    }

    #[test]
    fn handshakes_are_counted_per_client_and_no_entry_remains() {
        let (mut table, now) = (HandshakeClients::default(), Instant::now());
        for n in [1, 1, 2] {
            table.begin(client(n), now);
        }
        assert_eq!(
            (table.handshakes(client(1)), table.handshakes(client(2))),
            (2, 1)
        );
        for n in [1, 2, 1, 3] {
            table.end(client(n));
        }
        assert!(table.handshakes.is_empty());
    }

    #[test]
    fn other_client_counts_within_the_window_and_while_its_handshake_lasts() {
        let (mut table, start) = (HandshakeClients::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        let window = Duration::from_secs(10);
        let mut lease = |n: u8, at| {
            table.begin(client(n), at);
            table.end(client(n));
            let others = |n| table.has_other(client(n), at, window);
            (others(1), others(2))
        };
        assert_eq!(lease(1, second(0)), (false, true));
        assert_eq!(lease(1, second(5)), (false, true));
        assert_eq!(lease(2, second(6)), (true, true));
        assert_eq!(lease(1, second(8)), (true, true));
        assert_eq!(lease(1, second(17)), (false, true));
        table.begin(client(2), second(18));
        assert!(table.has_other(client(1), second(60), window));
        assert!(!table.has_other(client(2), second(60), window));
    }
}
