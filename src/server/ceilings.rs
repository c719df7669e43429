//! How many connections and sessions there can be.

use crate::{config, lifecycle::descriptors};
use tracing::warn;

/// What the descriptor limit leaves for connections and sessions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) connections: usize,
    pub(super) sessions: usize,
}

// === impl Capacity ===

impl Capacity {
    /// A session takes two descriptors, one on each leg; whatever else is open takes from what is reserved.
    pub(super) fn from_descriptors(limits: &config::Limits) -> Self {
        let descriptors = descriptors::raise_nofile_limit();
        let room = (descriptors.saturating_sub(RESERVED) / 2).clamp(1, MOST);
        let clamp = |key: &str, wanted: u32| match wanted as usize {
            0 => room,
            wanted if wanted <= room => wanted,
            wanted => {
                warn!(
                    "limits.{key} = {wanted} does not fit into {descriptors} file descriptors: {room} it is; \
                     raise LimitNOFILE (systemd) or ulimit -n"
                );
                room
            }
        };
        Capacity {
            connections: clamp("connections", limits.connections),
            sessions: clamp("sessions", limits.sessions),
        }
    }
}

/// Listeners, the admin surface and its clients, logs, the runtime, pooled connections to backends.
const RESERVED: usize = 48;
/// As many places as tokio's semaphore can count, with room to spare.
const MOST: usize = 1 << 28;
