//! Tests of the splice over in-memory pipes with paused time.

mod backpressure;
mod chaos;
mod close_orders;
mod closes;
mod harness;
mod keepalive;
mod leg_ends;
mod limits;
mod liveness;
mod memory;
mod relay;
mod slow_readers;
mod timer;
mod tls;
mod violations;
