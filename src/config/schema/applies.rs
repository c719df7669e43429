//! When a change of a key applies. The schema states it for each key as `x-applies`, next to an example of a value
//! (`x-example`) and what happens when a limit is reached (`x-limit`). A table with `x-as` has the keys of another one.

use serde::{Deserialize, Serialize};
use std::fmt;

/// When a changed key applies after a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Applies {
    /// With the reload, also to what is open: sessions, connections, health checks, listeners.
    AtOnce,
    /// To connections that are accepted after the reload.
    NewConnections,
    /// To handshakes and plain requests after the reload, also on open connections.
    NewSessions,
    /// Not before the process is replaced.
    Restart,
}

// === impl Applies ===

impl Applies {
    /// All of them, the quickest first.
    pub(crate) const ALL: [Applies; 4] = [
        Applies::AtOnce,
        Applies::NewSessions,
        Applies::NewConnections,
        Applies::Restart,
    ];

    /// Returns the rest of a sentence that begins with "a change".
    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Applies::AtOnce => {
                "applies at once, also to open sessions and connections, health checks and listeners"
            }
            Applies::NewConnections => "applies to connections that are accepted after the reload",
            Applies::NewSessions => {
                "applies to handshakes and plain requests after the reload, also on open connections"
            }
            Applies::Restart => "requires a restart or a takeover; `lockgate status` names the key",
        }
    }
}

impl fmt::Display for Applies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Applies::AtOnce => "at once",
            Applies::NewConnections => "new connections",
            Applies::NewSessions => "new sessions and requests",
            Applies::Restart => "restart",
        })
    }
}
