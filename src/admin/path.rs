//! The paths of the admin API.

use crate::admin::{Surface, proof::AUTH};

/// A path of the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminPath {
    Healthz,
    Readyz,
    Metrics,
    Auth,
    Status,
    Certificates,
    Renew,
    Sessions,
    CloseSessions,
    Tap,
    Drain,
    Reload,
    HandOver,
}

// === impl AdminPath ===

impl AdminPath {
    /// Parses the path of a request; `None` if `surface` does not serve it.
    pub(crate) fn parse(path: &str, surface: Surface) -> Option<AdminPath> {
        let path = match path {
            "/healthz" => AdminPath::Healthz,
            "/readyz" => AdminPath::Readyz,
            "/metrics" => AdminPath::Metrics,
            AUTH => AdminPath::Auth,
            "/status" => AdminPath::Status,
            "/certificates" => AdminPath::Certificates,
            "/certificates/renew" => AdminPath::Renew,
            "/sessions" => AdminPath::Sessions,
            "/sessions/close" => AdminPath::CloseSessions,
            "/tap" => AdminPath::Tap,
            "/drain" => AdminPath::Drain,
            "/reload" => AdminPath::Reload,
            "/handover" => AdminPath::HandOver,
            _ => return None,
        };
        path.is_served_on(surface).then_some(path)
    }

    /// Returns whether the path requires no token: a kubelet has none, and the response reveals only the state of the
    /// process; and a client requests the proof before it sends the token.
    pub(crate) fn is_open(self) -> bool {
        matches!(
            self,
            AdminPath::Healthz | AdminPath::Readyz | AdminPath::Auth
        )
    }

    /// Returns whether the path changes state and therefore requires POST.
    pub(crate) fn requires_post(self) -> bool {
        match self {
            AdminPath::Renew
            | AdminPath::CloseSessions
            | AdminPath::Drain
            | AdminPath::Reload
            | AdminPath::HandOver => true,
            AdminPath::Healthz
            | AdminPath::Readyz
            | AdminPath::Metrics
            | AdminPath::Auth
            | AdminPath::Status
            | AdminPath::Certificates
            | AdminPath::Sessions
            | AdminPath::Tap => false,
        }
    }

    fn is_served_on(self, surface: Surface) -> bool {
        match surface {
            Surface::Full => true,
            Surface::Metrics => {
                matches!(
                    self,
                    AdminPath::Healthz | AdminPath::Readyz | AdminPath::Metrics
                )
            }
        }
    }
}
