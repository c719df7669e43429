//! Frames of one direction for tap subscribers. Without a subscriber no state is held.

use crate::{
    observe::access::record::SessionRecord,
    proto::{
        deflate::TAIL,
        frame::{FrameHeader, Opcode, RSV1},
        frame_tracker::FrameTracker,
    },
    registry::{
        tap_sink::{InflateStatus, TapSink, TappedFrame},
        traffic::LegSide,
    },
};
use flate2::{Decompress, FlushDecompress, Status};
use std::{sync::Arc, time::SystemTime};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Follows the frames of one direction for tap subscribers.
pub(crate) struct FrameTap {
    sinks: Vec<Arc<TapSink>>,
    session: Arc<SessionRecord>,
    from: LegSide,
    /// Remaining bytes of a frame that began before the tap was attached.
    skip: u64,
    frame: Option<PartialFrame>,
    /// The kind of the open message, and whether it is compressed; `None` if it began before the tap was attached.
    message: Option<(Opcode, bool)>,
    inflater: TapInflater,
}

/// A frame that is not completely relayed.
struct PartialFrame {
    header: FrameHeader,
    kind: Opcode,
    compressed: bool,
    /// Payload bytes relayed so far.
    passed: u64,
    /// The requested part of the payload, as on the wire but unmasked.
    raw: Vec<u8>,
}

/// The inflater of one direction (RFC 7692 §7.2.2), with bounds on its memory and output, and on the number of
/// inflaters.
struct TapInflater {
    state: TapInflateState,
    /// Whether each message is compressed independently of the previous ones.
    no_context_takeover: bool,
    /// Whether all messages so far were processed.
    complete: bool,
    /// Inflated bytes of the current message so far.
    message_len: u64,
    /// All inflated bytes that back-references may point to.
    total: u64,
    /// Inflated bytes of the current frame.
    size: u64,
    head: Vec<u8>,
}

/// The inflated part of a message that one frame carries.
struct InflatedFrame {
    size: u64,
    head: Vec<u8>,
    /// Whether all data that it refers to is known.
    complete: bool,
}

enum TapInflateState {
    /// No compressed frame has arrived.
    Idle,
    Working(
        Box<Decompress>,
        #[expect(dead_code, reason = "held")] SemaphorePermit<'static>,
    ),
    /// The data is invalid or exceeds a bound.
    Broken,
}

// === impl FrameTap ===

impl FrameTap {
    /// Creates a tap that begins at the current position of `tracker`.
    pub(crate) fn new(
        sinks: &[Arc<TapSink>],
        from: LegSide,
        session: &Arc<SessionRecord>,
        tracker: &FrameTracker,
    ) -> FrameTap {
        let is_new = tracker.counts().bytes == 0;
        let extensions = session.extensions.as_deref().unwrap_or_default();
        let no_context_takeover = match from {
            LegSide::Client => "client_no_context_takeover",
            LegSide::Backend => "server_no_context_takeover",
        };
        FrameTap {
            sinks: sinks.to_vec(),
            session: session.clone(),
            from,
            skip: tracker.remaining(),
            frame: None,
            message: None,
            inflater: TapInflater::new(extensions.contains(no_context_takeover), is_new),
        }
    }

    /// Replaces the sinks that receive the frames.
    pub(crate) fn set_sinks(&mut self, sinks: &[Arc<TapSink>]) {
        self.sinks = sinks.to_vec();
    }

    /// Processes relayed `bytes`. They continue the previous ones, and end inside a payload or between two frames.
    pub(crate) fn observe(&mut self, mut bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        bytes = bytes.get(skipped as usize..).unwrap_or_default();
        while !bytes.is_empty() {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => match FrameHeader::parse(bytes) {
                    Ok(Some(header)) => {
                        bytes = bytes.get(header.len..).unwrap_or_default();
                        self.begin_frame(header)
                    }
                    // Impossible: the tracker has parsed this header before.
                    Ok(None) | Err(_) => return,
                },
            };
            let left = frame.header.payload_len - frame.passed;
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at(here);
            bytes = rest;
            self.on_payload(&mut frame, payload);
            if frame.passed == frame.header.payload_len {
                self.end_frame(frame);
            } else {
                self.frame = Some(frame);
            }
        }
    }

    fn begin_frame(&mut self, header: FrameHeader) -> PartialFrame {
        let (kind, compressed) = match header.opcode {
            control if control.is_control() => (control, false),
            Opcode::Continuation => self.message.unwrap_or((Opcode::Continuation, false)),
            data => {
                let compressed = header.rsv & RSV1 != 0;
                self.message = Some((data, compressed));
                self.inflater.begin_message();
                (data, compressed)
            }
        };
        PartialFrame {
            header,
            kind,
            compressed,
            passed: 0,
            raw: Vec::new(),
        }
    }

    fn on_payload(&mut self, frame: &mut PartialFrame, payload: &[u8]) {
        let head_len = self.head_len();
        let missing = head_len.saturating_sub(frame.raw.len());
        // A compressed payload is useful only as a whole; of a plain one, the displayed part is enough.
        let useful_len = if frame.compressed && self.inflater.is_working() {
            payload.len()
        } else {
            payload.len().min(missing)
        };
        let key = frame.header.mask.unwrap_or_default();
        let key = key.iter().cycle().skip((frame.passed % 4) as usize);
        let unmasked = payload.iter().zip(key).take(useful_len);
        let plain: Vec<u8> = unmasked.map(|(byte, key)| byte ^ key).collect();
        frame.raw.extend(plain.iter().take(missing));
        if frame.compressed {
            self.inflater.inflate(&plain, head_len);
        }
        frame.passed += payload.len() as u64;
    }

    fn end_frame(&mut self, mut frame: PartialFrame) {
        let FrameHeader {
            opcode,
            fin,
            payload_len,
            ..
        } = frame.header;
        let (mut deflate, mut total_len) = (InflateStatus::None, payload_len);
        if frame.compressed {
            deflate = match self.inflater.end_frame(fin, self.head_len()) {
                Some(inflated) => {
                    total_len = inflated.size;
                    frame.raw = inflated.head;
                    InflateStatus::Inflated {
                        size: inflated.size,
                        whole: inflated.complete,
                    }
                }
                None => InflateStatus::NotInflated,
            };
        }
        if fin && !opcode.is_control() {
            self.message = None;
        }
        self.sinks.retain(|sink| !sink.is_over());
        for sink in &self.sinks {
            if !sink.try_admit() {
                continue;
            }
            let head = frame.raw.get(..sink.bytes()).unwrap_or(&frame.raw);
            sink.send(TappedFrame {
                session: self.session.clone(),
                at: SystemTime::now(),
                from: self.from,
                kind: frame.kind,
                continues: opcode == Opcode::Continuation,
                fin,
                size: payload_len,
                deflate,
                head: head.to_vec(),
                cut: (head.len() as u64) < total_len,
            });
        }
    }

    /// Returns how many payload bytes the subscribers request at most.
    fn head_len(&self) -> usize {
        let bytes = self.sinks.iter().map(|sink| sink.bytes());
        bytes.max().unwrap_or_default()
    }
}

// === impl TapInflater ===

impl TapInflater {
    fn new(no_context_takeover: bool, complete: bool) -> TapInflater {
        TapInflater {
            state: TapInflateState::Idle,
            no_context_takeover,
            complete: complete || no_context_takeover,
            message_len: 0,
            total: 0,
            size: 0,
            head: Vec::new(),
        }
    }

    /// Returns whether further input is inflated.
    fn is_working(&self) -> bool {
        !matches!(self.state, TapInflateState::Broken)
    }

    /// Starts a new message.
    fn begin_message(&mut self) {
        self.message_len = 0;
        self.size = 0;
        self.head.clear();
        self.complete |= self.total >= WINDOW as u64;
        match &mut self.state {
            TapInflateState::Working(decompress, _) if self.no_context_takeover => {
                decompress.reset(false)
            }
            TapInflateState::Broken if self.no_context_takeover => {
                self.state = TapInflateState::Idle
            }
            _ => {}
        }
    }

    /// Inflates part of a message's payload; the first `head_len` bytes of a frame's output are kept.
    fn inflate(&mut self, bytes: &[u8], head_len: usize) {
        if matches!(self.state, TapInflateState::Idle) {
            self.state = self.start();
        }
        let TapInflateState::Working(decompress, _) = &mut self.state else {
            return;
        };
        let mut buf = [0; CHUNK_LEN];
        let mut rest = bytes;
        loop {
            let (consumed, produced) = (decompress.total_in(), decompress.total_out());
            let done = decompress.decompress(rest, &mut buf, FlushDecompress::Sync);
            let consumed = (decompress.total_in() - consumed) as usize;
            let produced = (decompress.total_out() - produced) as usize;
            rest = rest.get(consumed..).unwrap_or_default();
            let output = buf.get(..produced).unwrap_or_default();
            let missing = head_len.saturating_sub(self.head.len()).min(produced);
            self.head
                .extend_from_slice(output.get(..missing).unwrap_or_default());
            self.size += produced as u64;
            self.message_len += produced as u64;
            self.total += produced as u64;
            match done {
                Ok(Status::Ok | Status::BufError) if self.message_len <= MAX_MESSAGE_LEN => {}
                // RFC 7692 §7.2.3.4: a message may end with a final block; the next data starts a new stream.
                Ok(Status::StreamEnd) if self.message_len <= MAX_MESSAGE_LEN => {
                    decompress.reset(false);
                    (self.complete, self.total) = (self.no_context_takeover, 0);
                }
                _ => {
                    self.state = TapInflateState::Broken;
                    return;
                }
            }
            if (rest.is_empty() && produced < CHUNK_LEN) || (consumed == 0 && produced == 0) {
                return;
            }
        }
    }

    /// Ends a frame; returns `None` if its content is unknown.
    fn end_frame(&mut self, fin: bool, head_len: usize) -> Option<InflatedFrame> {
        if fin {
            self.inflate(&TAIL, head_len);
        }
        let inflated = InflatedFrame {
            size: std::mem::take(&mut self.size),
            head: std::mem::take(&mut self.head),
            complete: self.complete,
        };
        self.is_working().then_some(inflated)
    }

    fn start(&self) -> TapInflateState {
        let Ok(permit) = INFLATER_SLOTS.try_acquire() else {
            return TapInflateState::Broken;
        };
        // The largest window also inflates data of smaller windows.
        let mut decompress = Box::new(Decompress::new(false));
        if !self.complete && decompress.set_dictionary(&[b'?'; WINDOW]).is_err() {
            return TapInflateState::Broken;
        }
        TapInflateState::Working(decompress, permit)
    }
}

/// RFC 1951 §2: the maximum distance of a back-reference. Unknown bytes are displayed as question marks.
const WINDOW: usize = 32 * 1024;

/// Maximum inflated length of a message: the compression ratio can reach 1000 to 1.
const MAX_MESSAGE_LEN: u64 = 1024 * 1024;

/// Bytes that are inflated at once.
const CHUNK_LEN: usize = 4096;

/// Maximum number of directions inflated concurrently, each with a window and tables: 4 MiB in all.
static INFLATER_SLOTS: Semaphore = Semaphore::const_new(64);

#[cfg(test)]
mod tests;
