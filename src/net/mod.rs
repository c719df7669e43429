//! Sockets and streams.

pub(crate) mod dial;
pub(crate) mod dns;
pub(crate) mod listen;
pub(crate) mod pem;
pub(crate) mod random;
pub(crate) mod resolver;
pub(crate) mod socket;
pub(crate) mod subnet;
pub(crate) mod tls_client;
pub(crate) mod tls_stream;
pub(crate) mod web_client;
