//! Tests of the splice over in-memory pipes with paused time.

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
