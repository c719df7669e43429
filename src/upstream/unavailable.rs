//! Why a pool has no lease for a request.

/// Why no lease is available. The text for the client is in `http/refusal.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// All members have been tried.
    NoBackend,
    /// Every member has reached a limit on sessions, requests or handshakes (`max_sessions`, `admission.handshakes`).
    Full,
    /// DNS returns no backend.
    Unresolved,
    /// All members are down or ejected (`all_down = "refuse"`).
    Down,
    /// All members are draining.
    Draining,
    /// The members are full, and the queue is too (`admission.queue`).
    QueueFull,
    /// The members are full, and this client is at its limit in the queue.
    QueueShare,
    /// No capacity became free in time (`admission.wait`).
    QueueWait,
}

// === impl Unavailable ===

impl Unavailable {
    /// Returns the word of a closed set, for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Unavailable::NoBackend => "no-backend",
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
        match self {
            Unavailable::Full
            | Unavailable::QueueFull
            | Unavailable::QueueShare
            | Unavailable::QueueWait => true,
            Unavailable::NoBackend
            | Unavailable::Unresolved
            | Unavailable::Down
            | Unavailable::Draining => false,
        }
    }
}
