//! What waits for a leg that does not read, and for how long: told to the gauges only when it changes.

use super::SlowReaderPolicy;
use crate::observe::SessionMetrics;
use std::sync::Arc;
use tokio::time::Instant;

/// Both legs of a session; on drop the gauges are given back what they were told.
pub(super) struct Backpressure {
    flow: Arc<SessionMetrics>,
    /// Towards the client.
    pub(super) client: LegBackpressure,
    /// Towards the backend.
    pub(super) backend: LegBackpressure,
    paused: bool,
}

/// What waits for one leg.
#[derive(Default)]
pub(super) struct LegBackpressure {
    /// Since when bytes wait and the kernel has taken none.
    since: Option<Instant>,
    /// What the kernel had taken then.
    taken: u64,
    bytes: usize,
    slow: bool,
}

/// What is seen of a leg: whether bytes wait for it, how many of them here, and how many the kernel has taken.
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

    /// Where the counters are.
    pub(super) fn flow(&self) -> &SessionMetrics {
        &self.flow
    }

    /// Takes note of both pipes, and of whether the client is kept waiting for its rate.
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

    /// The peer has been waited for long enough: from now on it counts as slow.
    pub(super) fn mark_slow(&mut self, client: bool) {
        let (strain, gauges) = match client {
            true => (&mut self.client, &self.flow.client),
            false => (&mut self.backend, &self.flow.backend),
        };
        // A reload may have it found a second time, to be closed.
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
            // It reads, if slowly.
            self.since = Some(now);
            self.taken = pipe.taken;
            self.slow = false;
        }
    }

    /// When the peer will have taken nothing for `after`; `None` where that is known already and nothing follows from it.
    pub(super) fn deadline(&self, policy: SlowReaderPolicy) -> Option<Instant> {
        let matters = policy.close || !self.slow;
        self.since
            .filter(|_| matters)
            .map(|since| since + policy.after)
    }
}
