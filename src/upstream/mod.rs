//! Where sessions and requests go: pools of backends, which of them is next and which is well, who waits for
//! one, leases on them, their names, and the dial.

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
pub use balance::{Key, Standing};
pub use connect::{DialedStream, DialError, ConnAddrs, dial};
pub use entry::Lease;
pub use health::{Condition, Probe, watch};
pub use members::Followed;
pub use pool::{Pool, Unavailable};
pub use resolve::{DnsAnswer, Endpoint, ResolveError, Resolver};
pub use sources::SourceAddrs;
pub use state::State;
pub use sticky::Learner;
pub use tls::TlsClient;
