//! Back-pressure of the legs: the bytes pending for a leg that does not read, and since when. Gauges are updated only
//! on a change.

use super::SlowReaderPolicy;
use crate::observe::SessionMetrics;
use std::sync::Arc;
use tokio::time::Instant;

/// Back-pressure of both legs of a session; on drop it subtracts its share from the gauges.
pub(super) struct Backpressure {
    flow: Arc<SessionMetrics>,
    /// Towards the client.
    pub(super) client: LegBackpressure,
    /// Towards the backend.
    pub(super) backend: LegBackpressure,
    paused: bool,
}

/// Back-pressure of one leg.
#[derive(Default)]
pub(super) struct LegBackpressure {
    /// Since when bytes are pending and the kernel has accepted none.
    since: Option<Instant>,
    /// Number of bytes that the kernel had accepted at that time.
    taken: u64,
    bytes: usize,
    slow: bool,
}

/// The pending output of a leg: whether bytes are pending, how many are held here, and how many the kernel has
/// accepted.
#[derive(Clone, Copy)]
pub(super) struct PendingOutput {
    pub(super) stuck: bool,
    pub(super) bytes: usize,
    pub(super) taken: u64,
}

// === impl Backpressure ===

impl Backpressure {
    pub(super) fn new(flow: Arc<SessionMetrics>) -> Self {
        Backpressure {
            flow,
            client: LegBackpressure::default(),
            backend: LegBackpressure::default(),
            paused: false,
        }
    }

    /// Returns the counters.
    pub(super) fn flow(&self) -> &SessionMetrics {
        &self.flow
    }

    /// Records the pending output of both legs, and whether the client is paused by its rate limit.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        client: PendingOutput,
        backend: PendingOutput,
        paused: bool,
    ) {
        for (strain, pipe, gauges) in [
            (&mut self.client, client, &self.flow.client),
            (&mut self.backend, backend, &self.flow.backend),
        ] {
            let (bytes, slow) = (strain.bytes, strain.slow);
            strain.observe(now, pipe);
            if strain.bytes != bytes {
                gauges.stuck(strain.bytes as i64 - bytes as i64);
            }
            if strain.slow != slow {
                gauges.slow(strain.slow);
            }
        }
        if paused != self.paused {
            self.paused = paused;
            self.flow.paused(paused);
        }
    }

    /// Counts the peer as a slow reader from now on.
    pub(super) fn mark_slow(&mut self, client: bool) {
        let (strain, gauges) = match client {
            true => (&mut self.client, &self.flow.client),
            false => (&mut self.backend, &self.flow.backend),
        };
        // After a reload the same peer may be found a second time and closed.
        if !strain.slow {
            strain.slow = true;
            gauges.slow(true);
        }
    }
}

impl Drop for Backpressure {
    fn drop(&mut self) {
        let nothing = PendingOutput {
            stuck: false,
            bytes: 0,
            taken: 0,
        };
        self.observe(Instant::now(), nothing, nothing, false);
    }
}

// === impl LegBackpressure ===

impl LegBackpressure {
    fn observe(&mut self, now: Instant, pipe: PendingOutput) {
        self.bytes = pipe.bytes;
        if !pipe.stuck {
            self.since = None;
            self.slow = false;
        } else if self.since.is_none() || self.taken != pipe.taken {
            // The peer reads, even if slowly.
            self.since = Some(now);
            self.taken = pipe.taken;
            self.slow = false;
        }
    }

    /// Returns when the peer will have accepted nothing for `after`; `None` if it is known to be slow and is only
    /// counted.
    pub(super) fn deadline(&self, policy: SlowReaderPolicy) -> Option<Instant> {
        let matters = policy.close || !self.slow;
        self.since
            .filter(|_| matters)
            .map(|since| since + policy.after)
    }
}
