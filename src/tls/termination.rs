//! What a gateway keeps for handshakes.

use std::sync::Arc;

use rustls::ServerConfig;

use super::Shelf;

/// How TLS is ended.
#[derive(Debug)]
pub struct Termination {
    /// For clients.
    pub config: Arc<ServerConfig>,
    /// Where the answers for CAs are.
    pub shelf: Arc<Shelf>,
}
