//! The splice over pipes in memory and in paused time: nothing here sleeps for luck, and a minute costs nothing.

mod chaos;
mod closes;
mod ends;
mod hostile;
mod liveness;
mod memory;
mod orders;
mod pressure;
mod relay;
mod rig;
mod tls;
