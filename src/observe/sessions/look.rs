//! Frame taps: subscriptions to the relayed frames of live sessions. A session never waits for a tap. Frames beyond the
//! rate of the tap, or that its queue has no space for, are counted and dropped.

use super::{super::access::SessionRecord, SessionFilter, SessionRef, SessionRegistry};
use crate::proto::{frame::Opcode, track::Role};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};
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
    pub(super) filter: SessionFilter,
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

    pub(super) fn end(&self) {
        self.over.store(true, Relaxed);
    }
}

// === impl TapSubscription ===

impl TapSubscription {
    pub(super) fn new(
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
    pub(super) fn sink(&self) -> &Arc<TapSink> {
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
