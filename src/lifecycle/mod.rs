//! Tasks, the two-stage stop, signals, and the commands that `admin` sends to `server`.

mod command;
pub mod descriptors;
mod signals;
mod tasks;

pub use command::{BackendStatus, Command, ListenerStatus, RouteStatus, State, Status};
pub use signals::StopSignals;
pub use tasks::Tasks;
