//! The life cycle of the process: tasks and two-stage shutdown, signals, notifications to systemd, takeover by another
//! process, and the commands that `admin` sends to `server`.

mod again;
mod command;
pub mod descriptors;
pub mod handover;
mod inherited;
mod signals;
pub mod systemd;
mod tasks;

pub use again::reexec;
pub use command::{
    BackendStatus, CertificateStatus, Command, ConfigStatus, DrainReport, DrainTarget,
    ListenerStatus, NameStatus, PoolStatus, RouteStatus, ServerState, Status,
};
pub use inherited::Inherited;
pub use signals::{Signal, Signals};
pub use tasks::Tasks;
