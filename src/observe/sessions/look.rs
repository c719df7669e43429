//! Somebody who looks at frames as they pass. A session hands him what it sees and never waits for him: what he does not
//! take in time, or has not asked for, is counted and gone.

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

/// A frame as it passed.
#[derive(Debug)]
pub struct TappedFrame {
    /// The session that it passed in.
    pub session: Arc<SessionRecord>,
    /// Its last byte was read then.
    pub at: SystemTime,
    /// Who sent it.
    pub from: Role,
    /// What kind it is; that of its message, where it goes on with one.
    pub kind: Opcode,
    /// Whether it goes on with a message.
    pub continues: bool,
    /// The last one of its message.
    pub fin: bool,
    /// Bytes of payload on the wire.
    pub size: u64,
    /// How its message is compressed.
    pub deflate: InflateStatus,
    /// The beginning of the payload, unmasked, and inflated where that could be done.
    pub head: Vec<u8>,
    /// There is more of it.
    pub cut: bool,
}

/// What became of a frame's compression (RFC 7692).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateStatus {
    /// It has none.
    None,
    /// Inflated to so many bytes. Where something was sent before somebody looked, what refers to that is not known.
    Inflated {
        /// Bytes of this frame.
        size: u64,
        /// Nothing was missed.
        whole: bool,
    },
    /// Not inflated: it was broken, or there was too much to inflate.
    Left,
}

/// What sessions have of somebody who looks.
#[derive(Debug)]
pub struct TapSink {
    pub(super) wanted: SessionFilter,
    /// Bytes of each frame.
    bytes: usize,
    /// Frames that are still shown until the next [`TapSubscription::refill`].
    budget: AtomicU32,
    dropped: AtomicU64,
    over: AtomicBool,
    out: mpsc::Sender<TappedFrame>,
}

/// What he has himself; on drop he looks no more.
#[derive(Debug)]
pub struct TapSubscription {
    look: Arc<TapSink>,
    seen: mpsc::Receiver<TappedFrame>,
    sessions: Arc<SessionRegistry>,
}

// === impl TapSink ===

impl TapSink {
    /// Bytes of each frame that he wants.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether he takes another frame now; if not, it is counted.
    pub fn try_admit(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        let admits = self.budget.fetch_update(Relaxed, Relaxed, less).is_ok();
        self.dropped.fetch_add(u64::from(!admits), Relaxed);
        admits
    }

    /// Hands him a frame, unless he is slow.
    pub fn send(&self, seen: TappedFrame) {
        if self.out.try_send(seen).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Whether he has gone, or must not look any more.
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
        sessions: Arc<SessionRegistry>,
        wanted: SessionFilter,
        bytes: usize,
    ) -> TapSubscription {
        let (out, seen) = mpsc::channel(TAP_QUEUE_LEN);
        let look = TapSink {
            wanted,
            bytes,
            budget: AtomicU32::new(0),
            dropped: AtomicU64::new(0),
            over: AtomicBool::new(false),
            out,
        };
        TapSubscription {
            look: Arc::new(look),
            seen,
            sessions,
        }
    }

    /// What sessions have of it.
    pub(super) fn look(&self) -> &Arc<TapSink> {
        &self.look
    }

    /// Looks at one that was there already, if he wants it and may.
    pub fn attach(&self, session: &SessionRef) -> bool {
        let wants = self.look.wanted.matches(session);
        wants && self.sessions.show(&session.0, &self.look)
    }

    /// So many frames are shown from now on until the next time.
    pub fn refill(&self, frames: u32) {
        self.look.budget.store(frames, Relaxed);
    }

    /// The next frame.
    pub async fn next(&mut self) -> Option<TappedFrame> {
        self.seen.recv().await
    }

    /// How many he did not get since he last asked.
    pub fn lost(&self) -> u64 {
        self.look.dropped.swap(0, Relaxed)
    }

    /// Whether he must not look any more.
    pub fn is_over(&self) -> bool {
        self.look.is_over()
    }
}

impl Drop for TapSubscription {
    fn drop(&mut self) {
        self.sessions.unsubscribe(&self.look);
    }
}

/// Frames that wait to be taken: with some KiB each, less than a MiB.
const TAP_QUEUE_LEN: usize = 256;
