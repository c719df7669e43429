//! Why a pool has no lease for a request.

/// Why no lease is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// All members have been tried.
    #[error("no backend is available")]
    None,
    /// Every member has reached a limit on sessions, requests or handshakes (`max_sessions`, `admission.handshakes`).
    #[error("all backends are full")]
    Full,
    /// DNS returns no backend.
    #[error("DNS returns no backend")]
    Unresolved,
    /// All members are down or ejected (`all_down = "refuse"`).
    #[error("all backends are down")]
    Down,
    /// All members are draining.
    #[error("all backends are draining")]
    Draining,
    /// The members are full, and the queue is too (`admission.queue`).
    #[error("all backends are full, and the admission queue is too")]
    QueueFull,
    /// The members are full, and this client is at its limit in the queue.
    #[error("all backends are full, and this client has too many queued requests")]
    QueueShare,
    /// No capacity became free in time (`admission.wait`).
    #[error("all backends were full until the wait ended")]
    QueueWait,
}

// === impl Unavailable ===

impl Unavailable {
    /// Returns the word of a closed set, for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Unavailable::None => "no-backend",
            Unavailable::Full => "backends-full",
            Unavailable::Unresolved => "backends-unresolved",
            Unavailable::Down => "backends-down",
            Unavailable::Draining => "backends-draining",
            Unavailable::QueueFull => "queue-full",
            Unavailable::QueueShare => "queue-share",
            Unavailable::QueueWait => "queue-wait",
        }
    }

    /// Returns whether there were eligible members, but none with free capacity.
    pub fn is_full(self) -> bool {
        use Unavailable::{Down, Draining, None, Unresolved};
        !matches!(self, None | Unresolved | Down | Draining)
    }
}
