//! The life cycle of the process: tasks and two-stage shutdown, signals, notifications to systemd, takeover by another
//! process, and the commands that `admin` sends to `server`.

pub(crate) mod command;
pub(crate) mod handover;
pub(crate) mod inherited;
pub(crate) mod process;
pub(crate) mod systemd;
pub(crate) mod tasks;
