//! The splice over pipes in memory and in paused time: nothing here sleeps for luck, and a minute costs nothing.

mod alarm;
mod chaos;
mod closes;
mod ends;
mod hostile;
mod keepalive;
mod limits;
mod liveness;
mod memory;
mod orders;
mod pressure;
mod readers;
mod relay;
mod rig;
mod tls;
