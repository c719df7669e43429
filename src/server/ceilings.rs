//! The maximum numbers of connections and sessions.

use crate::{config, lifecycle::descriptors};
use tracing::warn;

/// The limits of connections and sessions: as configured, but within the file descriptor limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) connections: usize,
    pub(super) sessions: usize,
}

// === impl Capacity ===

impl Capacity {
    /// Raises the descriptor limit and computes the capacity. A session needs two descriptors, one for each leg;
    /// [`RESERVED_DESCRIPTORS`] are for everything else.
    pub(super) fn from_descriptors(limits: &config::Limits) -> Self {
        let descriptors = descriptors::raise_nofile_limit();
        let available =
            (descriptors.saturating_sub(RESERVED_DESCRIPTORS) / 2).clamp(1, MAX_PERMITS);
        let clamp = |key: &'static str, configured: u32| match configured as usize {
            0 => available,
            configured if configured <= available => configured,
            configured => {
                warn!(
                    key,
                    configured,
                    available,
                    descriptors,
                    "limit exceeds the file descriptors; raise LimitNOFILE (systemd) or ulimit -n"
                );
                available
            }
        };
        Capacity {
            connections: clamp("limits.connections", limits.connections),
            sessions: clamp("limits.sessions", limits.sessions),
        }
    }
}

/// Descriptors for listeners, the admin API and its clients, logs, the runtime and pooled connections to backends.
const RESERVED_DESCRIPTORS: usize = 48;
/// The maximum number of permits of one kind, below the limit of tokio's semaphore.
const MAX_PERMITS: usize = 1 << 28;
