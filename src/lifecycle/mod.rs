//! Tasks, the two-stage stop, signals, what systemd is told, and the commands that `admin` sends to `server`.

mod command;
pub mod descriptors;
mod signals;
pub mod systemd;
mod tasks;

pub use command::{
    BackendStatus, CertificateStatus, Command, ConfigStatus, DrainTarget, ListenerStatus,
    RouteStatus, State, Status,
};
pub use signals::{Signal, Signals};
pub use tasks::Tasks;
