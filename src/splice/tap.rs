//! Frames of one direction for tap subscribers. Without a subscriber no state is held.

mod inflate;

use super::{
    SessionLimits,
    leg::{Leg, Transport},
    pump::Pump,
};
use crate::{
    observe::{InflateStatus, SessionRecord, TapSink, TappedFrame},
    proto::{
        frame::{FrameHeader, Opcode, RSV1},
        track::{FrameTracker, Role},
    },
};
use inflate::TapInflater;
use std::{sync::Arc, task::Context, time::SystemTime};
use tokio::time::Instant;

/// Follows the frames of one direction for tap subscribers.
pub(super) struct FrameTap {
    sinks: Vec<Arc<TapSink>>,
    session: Arc<SessionRecord>,
    from: Role,
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

// === impl Pump ===

impl Pump {
    /// Calls [`Pump::relay_frames`] and passes the frames to the tap.
    pub(super) fn relay<S: Transport, D: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        src: &mut Leg<S>,
        dst: &mut Leg<D>,
        limits: &SessionLimits,
        now: Instant,
    ) {
        if self.tap.is_none() {
            return self.relay_frames(cx, bytes, src, dst, limits, now);
        }
        let before = self.tracker.counts().bytes;
        self.relay_frames(cx, bytes, src, dst, limits, now);
        if let Some(tap) = &mut self.tap {
            let valid_len = self.tracker.counts().bytes - before;
            let valid_len = usize::try_from(valid_len).unwrap_or(usize::MAX);
            tap.observe(bytes.get(..valid_len).unwrap_or(bytes));
        }
    }

    /// Replaces the set of subscribers, which may be empty.
    pub(super) fn set_taps(
        &mut self,
        sinks: &[Arc<TapSink>],
        from: Role,
        session: &Arc<SessionRecord>,
    ) {
        self.tap = match self.tap.take() {
            _ if sinks.is_empty() => None,
            Some(mut tap) => {
                tap.sinks = sinks.to_vec();
                Some(tap)
            }
            None => Some(Box::new(FrameTap::new(sinks, from, session, &self.tracker))),
        };
    }
}

// === impl FrameTap ===

impl FrameTap {
    fn new(
        sinks: &[Arc<TapSink>],
        from: Role,
        session: &Arc<SessionRecord>,
        tracker: &FrameTracker,
    ) -> FrameTap {
        let is_new = tracker.counts().bytes == 0;
        let extensions = session.extensions.as_deref().unwrap_or_default();
        let no_context_takeover = match from {
            Role::Client => "client_no_context_takeover",
            Role::Server => "server_no_context_takeover",
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

    /// Processes relayed `bytes`. They continue the previous ones, and end inside a payload or between two frames.
    fn observe(&mut self, mut bytes: &[u8]) {
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

#[cfg(test)]
mod tests;
