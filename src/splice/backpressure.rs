//! Back-pressure of the legs: how many bytes are pending for a leg, and since when it accepts none. Gauges are updated
//! only on a change.

use crate::{observe::metrics::families::SessionMetrics, registry::traffic::LegSide};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Handling of a peer that accepts no bytes although bytes are pending for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowReaderPolicy {
    /// Time without progress; it restarts whenever the kernel accepts bytes for the peer.
    pub after: Duration,
    /// Whether the session is closed; otherwise the peer is only counted.
    pub close: bool,
}

/// Back-pressure of both legs of a session; on drop it subtracts its share from the gauges.
pub(crate) struct Backpressure {
    metrics: Arc<SessionMetrics>,
    /// Towards the client.
    pub(crate) client: LegBackpressure,
    /// Towards the backend.
    pub(crate) backend: LegBackpressure,
    paused: bool,
}

/// Back-pressure of one leg.
#[derive(Default)]
pub(crate) struct LegBackpressure {
    /// Since when bytes are pending and the kernel has accepted none.
    since: Option<Instant>,
    /// Number of bytes that the kernel had accepted at that time.
    bytes_accepted: u64,
    bytes: usize,
    slow: bool,
}

/// The pending output of a leg: whether bytes are pending, how many are held here, and how many the kernel has
/// accepted.
#[derive(Clone, Copy)]
pub(crate) struct PendingOutput {
    pub(crate) blocked: bool,
    pub(crate) bytes: usize,
    pub(crate) bytes_accepted: u64,
}

// === impl Backpressure ===

impl Backpressure {
    pub(crate) fn new(metrics: Arc<SessionMetrics>) -> Self {
        Backpressure {
            metrics,
            client: LegBackpressure::default(),
            backend: LegBackpressure::default(),
            paused: false,
        }
    }

    /// Returns the metrics of sessions.
    pub(crate) fn metrics(&self) -> &SessionMetrics {
        &self.metrics
    }

    /// Records the pending output of both legs, and whether the client is paused by its rate limit.
    pub(crate) fn observe(
        &mut self,
        now: Instant,
        client: PendingOutput,
        backend: PendingOutput,
        paused: bool,
    ) {
        for (leg, output, gauges) in [
            (&mut self.client, client, &self.metrics.client),
            (&mut self.backend, backend, &self.metrics.backend),
        ] {
            let (bytes, slow) = (leg.bytes, leg.slow);
            leg.observe(now, output);
            if leg.bytes != bytes {
                gauges.add_stuck_bytes(leg.bytes as i64 - bytes as i64);
            }
            if leg.slow != slow {
                gauges.track_slow(leg.slow);
            }
        }
        if paused != self.paused {
            self.paused = paused;
            self.metrics.track_paused(paused);
        }
    }

    /// Counts the peer as a slow reader from now on.
    pub(crate) fn mark_slow(&mut self, leg: LegSide) {
        let (leg, gauges) = match leg {
            LegSide::Client => (&mut self.client, &self.metrics.client),
            LegSide::Backend => (&mut self.backend, &self.metrics.backend),
        };
        // A reload may turn on closing: a peer that is counted already is then found again.
        if !leg.slow {
            leg.slow = true;
            gauges.track_slow(true);
        }
    }
}

impl Drop for Backpressure {
    fn drop(&mut self) {
        let none = PendingOutput {
            blocked: false,
            bytes: 0,
            bytes_accepted: 0,
        };
        self.observe(Instant::now(), none, none, false);
    }
}

// === impl LegBackpressure ===

impl LegBackpressure {
    fn observe(&mut self, now: Instant, output: PendingOutput) {
        self.bytes = output.bytes;
        if !output.blocked {
            self.since = None;
            self.slow = false;
        } else if self.since.is_none() || self.bytes_accepted != output.bytes_accepted {
            // The peer reads, even if slowly.
            self.since = Some(now);
            self.bytes_accepted = output.bytes_accepted;
            self.slow = false;
        }
    }

    /// Returns since when bytes are pending and the peer has accepted none.
    pub(crate) fn blocked_since(&self) -> Option<Instant> {
        self.since
    }

    /// Returns when the peer will have accepted nothing for `after`; `None` if it is known to be slow and is only
    /// counted.
    pub(crate) fn deadline(&self, policy: SlowReaderPolicy) -> Option<Instant> {
        let must_check = policy.close || !self.slow;
        self.since
            .filter(|_| must_check)
            .map(|since| since + policy.after)
    }
}
