//! Frame taps: subscriptions to the relayed frames of live sessions. A session never waits for a tap. Frames beyond the
//! rate of the tap, or that its queue has no space for, are counted and dropped.

use crate::{
    observe::access::SessionRecord,
    proto::{frame::Opcode, frame_tracker::Role},
    registry::{LiveSession, SessionRef, SessionRegistry, SessionTarget, filter::SessionFilter},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};
use thiserror::Error;
use tokio::sync::mpsc;

/// A relayed frame.
#[derive(Debug)]
pub struct TappedFrame {
    /// The session that relayed the frame.
    pub session: Arc<SessionRecord>,
    /// The time at which its last byte was read.
    pub at: SystemTime,
    /// The sender.
    pub from: Role,
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
    /// Not compressed.
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
    /// Frames that may still be sent before the next [`TapSubscription::refill`].
    budget: AtomicU32,
    dropped: AtomicU64,
    over: AtomicBool,
    out: mpsc::Sender<TappedFrame>,
}

/// The receiving half of a tap; ends the tap on drop.
#[derive(Debug)]
pub struct TapSubscription {
    sink: Arc<TapSink>,
    frames: mpsc::Receiver<TappedFrame>,
    registry: Arc<SessionRegistry>,
}

// === impl TapSink ===

impl TapSink {
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

    /// Returns true if the tap was closed, or is no longer allowed.
    pub fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Relaxed);
    }
}

// === impl TapSubscription ===

impl TapSubscription {
    pub(crate) fn new(
        registry: Arc<SessionRegistry>,
        filter: SessionFilter,
        bytes: usize,
    ) -> TapSubscription {
        let (out, frames) = mpsc::channel(TAP_QUEUE_LEN);
        let sink = TapSink {
            filter,
            bytes,
            budget: AtomicU32::new(0),
            dropped: AtomicU64::new(0),
            over: AtomicBool::new(false),
            out,
        };
        TapSubscription {
            sink: Arc::new(sink),
            frames,
            registry,
        }
    }

    /// Returns the sending half.
    pub(crate) fn sink(&self) -> &Arc<TapSink> {
        &self.sink
    }

    /// Attaches the tap to an existing session. Returns false if the filter does not match, or the route may not be tapped.
    pub fn attach(&self, session: &SessionRef) -> bool {
        self.sink.filter.matches(session) && self.registry.attach_tap(&session.0, &self.sink)
    }

    /// Sets the number of frames that may be sent before the next refill.
    pub fn refill(&self, frames: u32) {
        self.sink.budget.store(frames, Relaxed);
    }

    /// Waits for the next frame.
    pub async fn next(&mut self) -> Option<TappedFrame> {
        self.frames.recv().await
    }

    /// Returns the number of frames dropped since the last call.
    pub fn lost(&self) -> u64 {
        self.sink.dropped.swap(0, Relaxed)
    }

    /// Returns true if the tap is no longer allowed.
    pub fn is_over(&self) -> bool {
        self.sink.is_over()
    }
}

impl Drop for TapSubscription {
    fn drop(&mut self) {
        self.registry.unsubscribe(&self.sink);
    }
}

/// Queued frames per tap: with up to 4 KiB each, about 1 MiB.
const TAP_QUEUE_LEN: usize = 256;

// Registry of frame taps. Only sessions of routes with `tap = true` can be tapped.

/// All taps, and the routes that may be tapped.
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

// === impl SessionRegistry ===

impl SessionRegistry {
    /// Sets the routes that may be tapped. If a route is no longer allowed, all existing taps end.
    pub fn set_tappable_routes(&self, routes: impl Iterator<Item = Arc<str>>) {
        let routes = routes.collect();
        let mut table = self.lock();
        let taps = &mut table.taps;
        if !taps.allowed_routes.is_subset(&routes) {
            taps.sinks.drain(..).for_each(|sink| sink.end());
        }
        taps.allowed_routes = routes;
    }

    /// Creates a tap that sends `bytes` payload bytes of each frame of new sessions that match `filter`. Existing sessions
    /// are added with [`TapSubscription::attach`].
    ///
    /// # Errors
    /// If the route may not be tapped, or if there are too many taps.
    pub fn subscribe(
        self: &Arc<Self>,
        filter: SessionFilter,
        bytes: usize,
    ) -> Result<TapSubscription, TapError> {
        let mut table = self.lock();
        let route = match filter.id.map(|id| table.live.get(&id)) {
            Some(Some(session)) => Some(&*session.target.route),
            // The caller reports an unknown id.
            _ => filter.route.as_deref(),
        };
        let allowed = &table.taps.allowed_routes;
        if allowed.is_empty() || route.is_some_and(|route| !allowed.contains(route)) {
            return Err(TapError::Forbidden);
        }
        if table.taps.sinks.len() >= MAX_TAPS {
            return Err(TapError::TooMany);
        }
        let subscription = TapSubscription::new(self.clone(), filter, bytes);
        table.taps.sinks.push(subscription.sink().clone());
        Ok(subscription)
    }

    /// Attaches a tap to `session`. Returns false if the route may not be tapped, or if the tap has ended.
    pub(crate) fn attach_tap(&self, session: &LiveSession, sink: &Arc<TapSink>) -> bool {
        let is_allowed = self.lock().taps.allows(&session.target) && !sink.is_over();
        if is_allowed {
            session.taps.add(sink);
        }
        is_allowed
    }

    /// Ends a tap and detaches it from all sessions.
    pub(crate) fn unsubscribe(&self, removed: &Arc<TapSink>) {
        removed.end();
        self.lock()
            .taps
            .sinks
            .retain(|sink| !Arc::ptr_eq(sink, removed));
        let mut after = None;
        loop {
            let page = self.page(after);
            let Some(last) = page.last() else { return };
            after = Some(last.id());
            for SessionRef(session) in &page {
                session.taps.remove(removed);
            }
        }
    }
}

// === impl TapRegistry ===

impl TapRegistry {
    fn allows(&self, target: &SessionTarget) -> bool {
        self.allowed_routes.contains(&target.route)
    }

    /// Attaches all matching taps to a new session.
    pub(crate) fn attach_all(&self, session: &Arc<LiveSession>) {
        if self.allows(&session.target) {
            let session = SessionRef(session.clone());
            for sink in self
                .sinks
                .iter()
                .filter(|sink| sink.filter.matches(&session))
            {
                session.0.taps.add(sink);
            }
        }
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

    fn add(&self, sink: &Arc<TapSink>) {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        if !sinks.iter().any(|other| Arc::ptr_eq(other, sink)) {
            sinks.push(sink.clone());
            self.changed.store(true, Relaxed);
        }
    }

    fn remove(&self, removed: &Arc<TapSink>) {
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
