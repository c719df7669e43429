//! Where sessions and requests go: pools of backends, leases on them, the names of backends, and the dial.

mod backend;
mod connect;
mod pool;
mod resolve;

pub use backend::{Backend, Lease};
pub use connect::{DialError, dial};
pub use pool::Pool;
pub use resolve::{ResolveError, Resolver};
