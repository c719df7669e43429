//! How a test speaks: `Lockgate` is the process, `Backend` a listening socket behind it, `Wire` one connection of either
//! side, `Frame` what travels on it, `H2` a client of HTTP/2 and `RawH2` one without manners, `Program` the real programs
//! in Python and Node, `Pebble` a real ACME server and `Front` its bad days.

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
pub(crate) use raw_http1::{End, Head, How, Wire};

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
