//! Where sessions and requests go: pools of backends, leases on them, and the dial.

mod backend;
mod connect;
mod pool;

pub use backend::{Backend, Lease};
pub use connect::{DialError, dial};
pub use pool::Pool;
