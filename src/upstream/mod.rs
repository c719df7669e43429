//! Upstreams: pools of backends, load balancing, health, the admission queue, leases, name resolution, and connecting
//! to a backend.

mod admission;
mod backend;
mod balance;
mod connect;
mod entry;
mod health;
mod members;
mod pool;
mod resolve;
mod sources;
mod state;
mod sticky;
mod terms;
mod tls;

pub use backend::{Backend, Backends};
pub use balance::{BalanceKey, LoadShare};
pub use connect::{ConnAddrs, DialError, DialedStream, dial};
pub use entry::Lease;
pub use health::{Condition, HealthCheck, run_checker};
pub use members::MembershipChange;
pub use pool::{Pool, Unavailable};
pub use resolve::{DnsAnswer, Endpoint, ResolveError, Resolver};
pub use sources::SourceAddrs;
pub use state::BackendState;
pub use sticky::SidCapture;
pub use tls::TlsClient;
