//! The test harness: `Lockgate` is the process, `Backend` a listening socket behind it, `Dropping` one that ignores
//! connections, `Refusing` an address that refuses them, `Wire` one connection of either side, `Frame` a WebSocket
//! frame, `H2` an HTTP/2 client and `RawH2` one that can send invalid frames, `Program` a program in Python or Node,
//! `Issuer` one of tokens, `Pebble` a real ACME server and `Front` a proxy that simulates its faults.

mod backend;
mod dropping;
mod frame;
mod front;
mod h2;
pub(crate) mod issuer;
mod pebble;
mod process;
pub(crate) mod program;
pub(crate) mod raw_h2;
mod raw_http1;
pub(crate) mod recorder;
pub(crate) mod strict_json;
pub(crate) mod web;

pub(crate) use backend::{Backend, switching_protocols};
pub(crate) use dropping::{Answering, Dropping, Refusing};
pub(crate) use frame::Frame;
pub(crate) use front::{Answer, Fault, Front};
pub(crate) use h2::{H2, request};
pub(crate) use issuer::Issuer;
pub(crate) use pebble::{Pebble, PebbleSetup};
pub(crate) use process::{Lockgate, Setup, handshake, listener, raise_descriptor_limit};
pub(crate) use program::Program;
pub(crate) use raw_h2::RawH2;
pub(crate) use raw_http1::{End, EndKind, Head, Wire};

use std::{
    fmt::Display,
    net::{Ipv4Addr, TcpListener},
    panic::Location,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Returns a port that can be bound later. It is below the range that the kernel uses for outgoing connections and for
/// port 0, so that no connection takes it in the meantime; tests of other processes begin elsewhere in this range.
pub(crate) fn free_port() -> u16 {
    const RANGE: u32 = 22_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        let offset = std::process::id()
            .wrapping_mul(37)
            .wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_000 + offset % RANGE).expect("below 32,000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Long enough for a loaded machine: an event that has not happened by this deadline will not happen. It is no measure
/// of time: a test of a time has a bound of its own.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Awaits an event; on failure it reports the event and the place of the call.
#[track_caller]
pub(crate) fn within<T>(what: &str, event: impl Future<Output = T>) -> impl Future<Output = T> {
    within_from(Location::caller(), what, event)
}

/// Awaits one step of a longer event that `caller` awaits. Each step has the whole deadline, so that a large transfer
/// may take longer than one deadline.
async fn within_from<T>(
    caller: &'static Location<'static>,
    what: &str,
    event: impl Future<Output = T>,
) -> T {
    match tokio::time::timeout(DEADLINE, event).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing within {DEADLINE:?}, awaited at {caller}"),
    }
}

/// The pause between two checks of [`eventually`].
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Repeats a check of a state that sends no event until it holds, and returns its value. At the deadline it panics with
/// what was expected, the last observation and the place of the call.
#[track_caller]
pub(crate) fn eventually<C: Check>(
    expected: impl Display,
    check: impl AsyncFnMut() -> C,
) -> impl Future<Output = C::Value> {
    eventually_within(DEADLINE, expected, check)
}

/// Does the same with another deadline: some events take longer by design.
#[track_caller]
pub(crate) fn eventually_within<C: Check>(
    deadline: Duration,
    expected: impl Display,
    mut check: impl AsyncFnMut() -> C,
) -> impl Future<Output = C::Value> {
    let caller = Location::caller();
    async move {
        let mut last = None;
        let polling = async {
            loop {
                match check().await.outcome() {
                    Ok(value) => return value,
                    Err(observation) => last = observation,
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        match tokio::time::timeout(deadline, polling).await {
            Ok(value) => value,
            Err(_) => panic!(
                "expected within {deadline:?}: {expected}; last observation: {}; awaited at {caller}",
                last.as_deref().unwrap_or("none")
            ),
        }
    }
}

/// The result of one check: `bool`, `Option`, or a `Result` whose error is the observation.
pub(crate) trait Check {
    type Value;

    /// Returns the value if the check holds, otherwise the observation if there is one.
    fn outcome(self) -> Result<Self::Value, Option<String>>;
}

impl Check for bool {
    type Value = ();

    fn outcome(self) -> Result<(), Option<String>> {
        if self { Ok(()) } else { Err(None) }
    }
}

impl<T> Check for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, Option<String>> {
        self.ok_or(None)
    }
}

impl<T, O: Display> Check for Result<T, O> {
    type Value = T;

    fn outcome(self) -> Result<T, Option<String>> {
        self.map_err(|observation| Some(format!("{observation:#}")))
    }
}

/// Turns an observation into a [`Check`] that holds if `accepts` does.
pub(crate) fn observe<V>(observation: V, accepts: impl FnOnce(&V) -> bool) -> Result<V, V> {
    if accepts(&observation) {
        Ok(observation)
    } else {
        Err(observation)
    }
}
