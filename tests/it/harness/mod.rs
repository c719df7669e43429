//! The test harness: `Lockgate` is the process, `Backend` a listening socket behind it, `Wire` one connection of either
//! side, `Frame` a WebSocket frame, `H2` an HTTP/2 client and `RawH2` one that can send invalid frames, `Program` a program
//! in Python or Node, `Pebble` a real ACME server and `Front` a proxy that simulates its faults.

mod backend;
mod frame;
mod front;
mod h2;
mod pebble;
mod process;
pub(crate) mod program;
pub(crate) mod raw_h2;
mod raw_http1;
pub(crate) mod web;

pub(crate) use backend::{Backend, switching_protocols};
pub(crate) use frame::Frame;
pub(crate) use front::{Answer, Fault, Front};
pub(crate) use h2::{H2, request};
pub(crate) use pebble::{Pebble, PebbleSetup};
pub(crate) use process::{Lockgate, Setup, handshake, listener, raise_descriptor_limit};
pub(crate) use program::Program;
pub(crate) use raw_h2::RawH2;
pub(crate) use raw_http1::{End, EndKind, Head, Wire};

use std::{panic::Location, time::Duration};

/// Long enough for a loaded machine: an event that has not happened by this deadline will not happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Awaits an event; on failure it reports the event and the place of the call.
#[track_caller]
pub(crate) fn within<T>(what: &str, event: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        match tokio::time::timeout(DEADLINE, event).await {
            Ok(value) => value,
            Err(_) => panic!("{what}: nothing within {DEADLINE:?}, awaited at {caller}"),
        }
    }
}
