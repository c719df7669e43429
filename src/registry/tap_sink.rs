//! The sending half of frame taps: what sessions hold. A session never waits for a tap. Frames beyond the rate of the
//! tap, or that its queue has no space for, are counted and dropped.

use crate::{
    observe::access::record::SessionRecord,
    proto::frame::Opcode,
    registry::{filter::SessionFilter, traffic::LegSide},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};
use thiserror::Error;
use tokio::sync::mpsc;

/// A relayed frame, as a tap receives it.
#[derive(Debug)]
pub struct TappedFrame {
    /// The session that relayed the frame.
    pub session: Arc<SessionRecord>,
    /// The time at which its last byte was read.
    pub at: SystemTime,
    /// The leg that sent the frame.
    pub from: LegSide,
    /// The opcode; for a continuation frame, that of its message if known.
    pub kind: Opcode,
    /// True for a continuation frame.
    pub continues: bool,
    /// True for the last frame of a message.
    pub fin: bool,
    /// The payload length on the wire, in bytes.
    pub size: u64,
    /// The compression of its message.
    pub deflate: InflateStatus,
    /// The beginning of the payload, unmasked, and inflated if possible.
    pub head: Vec<u8>,
    /// True if the payload is longer than `head`.
    pub cut: bool,
}

/// The compression of a frame (RFC 7692), and whether the tap could inflate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateStatus {
    /// The message is not compressed.
    None,
    /// Inflated. References to data relayed before the tap was attached cannot be resolved.
    Inflated {
        /// The inflated length of this frame, in bytes.
        size: u64,
        /// True if all references could be resolved.
        whole: bool,
    },
    /// Compressed, but not inflated: the data is invalid, or there is too much of it.
    NotInflated,
}

/// The sending half of a tap, held by sessions.
#[derive(Debug)]
pub struct TapSink {
    pub(crate) filter: SessionFilter,
    /// Payload bytes to send of each frame.
    bytes: usize,
    /// Frames that may still be sent before the next [`TapSink::refill`].
    budget: AtomicU32,
    dropped: AtomicU64,
    over: AtomicBool,
    out: mpsc::Sender<TappedFrame>,
}

/// All taps, and the routes that may be tapped: those with `tap = true`.
#[derive(Debug, Default)]
pub(crate) struct TapRegistry {
    allowed_routes: BTreeSet<Arc<str>>,
    sinks: Vec<Arc<TapSink>>,
}

/// The taps attached to one session.
#[derive(Debug, Default)]
pub(crate) struct SessionTaps {
    /// True if the taps have changed since the last snapshot. Read on every poll of every session, also without taps.
    changed: AtomicBool,
    sinks: Mutex<Vec<Arc<TapSink>>>,
}

/// An error that prevents a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TapError {
    /// The route may not be tapped.
    #[error("only routes with tap = true in the configuration can be tapped")]
    Forbidden,
    /// The limit is reached.
    #[error("too many frame taps (limit {limit}): stop one with Ctrl-C, then try again", limit = MAX_TAPS)]
    TooMany,
}

// === impl TapSink ===

impl TapSink {
    fn new(filter: SessionFilter, bytes: usize) -> (Arc<TapSink>, mpsc::Receiver<TappedFrame>) {
        let (out, frames) = mpsc::channel(TAP_QUEUE_LEN);
        let sink = TapSink {
            filter,
            bytes,
            budget: AtomicU32::new(0),
            dropped: AtomicU64::new(0),
            over: AtomicBool::new(false),
            out,
        };
        (Arc::new(sink), frames)
    }

    /// Returns the number of payload bytes to send of each frame.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes one frame from the budget. Returns false, and counts the frame as dropped, if the budget is used up.
    pub fn try_admit(&self) -> bool {
        let decrement = |left: u32| left.checked_sub(1);
        let is_admitted = self
            .budget
            .fetch_update(Relaxed, Relaxed, decrement)
            .is_ok();
        self.dropped.fetch_add(u64::from(!is_admitted), Relaxed);
        is_admitted
    }

    /// Queues a frame; if the queue is full, counts it as dropped.
    pub fn send(&self, frame: TappedFrame) {
        if self.out.try_send(frame).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Sets the number of frames that may be sent before the next refill.
    pub(crate) fn refill(&self, frames: u32) {
        self.budget.store(frames, Relaxed);
    }

    /// Returns the number of frames dropped since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Relaxed)
    }

    /// Returns true if the tap was closed, or is no longer allowed.
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Ends the tap; sessions then detach it.
    pub(crate) fn end(&self) {
        self.over.store(true, Relaxed);
    }
}

// === impl TapRegistry ===

impl TapRegistry {
    /// Returns true if sessions of this route may be tapped.
    pub(crate) fn allows(&self, route: &str) -> bool {
        self.allowed_routes.contains(route)
    }

    /// Attaches all matching taps to a new session of `route`, if that may be tapped.
    pub(crate) fn attach_all(
        &self,
        route: &str,
        session: &SessionRecord,
        subject: Option<&str>,
        age: Duration,
        taps: &SessionTaps,
    ) {
        if !self.allows(route) {
            return;
        }
        for sink in &self.sinks {
            if sink.filter.matches(session, subject, age) {
                taps.add(sink);
            }
        }
    }

    /// Sets the routes that may be tapped. If a route is no longer allowed, all existing taps end.
    pub(crate) fn set_allowed_routes(&mut self, routes: BTreeSet<Arc<str>>) {
        if !self.allowed_routes.is_subset(&routes) {
            self.sinks.drain(..).for_each(|sink| sink.end());
        }
        self.allowed_routes = routes;
    }

    /// Creates a tap of new sessions. `route` is the only route that can match `filter`, if there is one.
    ///
    /// # Errors
    /// If the route may not be tapped, or if there are too many taps.
    pub(crate) fn add(
        &mut self,
        route: Option<&str>,
        filter: SessionFilter,
        bytes: usize,
    ) -> Result<(Arc<TapSink>, mpsc::Receiver<TappedFrame>), TapError> {
        if self.allowed_routes.is_empty() || route.is_some_and(|route| !self.allows(route)) {
            return Err(TapError::Forbidden);
        }
        if self.sinks.len() >= MAX_TAPS {
            return Err(TapError::TooMany);
        }
        let (sink, frames) = TapSink::new(filter, bytes);
        self.sinks.push(sink.clone());
        Ok((sink, frames))
    }

    /// Removes a tap from the registry; sessions keep it until it is detached from them.
    pub(crate) fn remove(&mut self, removed: &Arc<TapSink>) {
        self.sinks.retain(|sink| !Arc::ptr_eq(sink, removed));
    }
}

// === impl SessionTaps ===

impl SessionTaps {
    /// Returns true if the taps have changed since the last [`SessionTaps::snapshot`].
    pub(crate) fn have_changed(&self) -> bool {
        self.changed.load(Relaxed)
    }

    /// Returns the attached taps.
    pub(crate) fn snapshot(&self) -> Vec<Arc<TapSink>> {
        // The flag is cleared under the lock, so that no change falls between the two.
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        self.changed.store(false, Relaxed);
        sinks.clone()
    }

    /// Attaches a tap, unless it is attached already.
    pub(crate) fn add(&self, sink: &Arc<TapSink>) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if !sinks.iter().any(|other| Arc::ptr_eq(other, sink)) {
            sinks.push(sink.clone());
            self.changed.store(true, Relaxed);
        }
    }

    /// Detaches a tap.
    pub(crate) fn remove(&self, removed: &Arc<TapSink>) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sinks.len();
        sinks.retain(|sink| !Arc::ptr_eq(sink, removed));
        if sinks.len() < before {
            self.changed.store(true, Relaxed);
            sinks.shrink_to_fit();
        }
    }
}

/// Simultaneous taps. One is enough for an operator; the others allow for taps that were left running.
const MAX_TAPS: usize = 4;

/// Queued frames per tap: with up to 4 KiB each, about 1 MiB.
const TAP_QUEUE_LEN: usize = 256;
