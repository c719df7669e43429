//! Frames of one direction for tap subscribers. Without a subscriber nothing here exists.

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
            let understood = self.tracker.counts().bytes - before;
            let understood = usize::try_from(understood).unwrap_or(usize::MAX);
            tap.observe(bytes.get(..understood).unwrap_or(bytes));
        }
    }

    /// Replaces the set of subscribers, which may be empty.
    pub(super) fn set_taps(
        &mut self,
        looks: &[Arc<TapSink>],
        from: Role,
        session: &Arc<SessionRecord>,
    ) {
        self.tap = match self.tap.take() {
            _ if looks.is_empty() => None,
            Some(mut tap) => {
                tap.sinks = looks.to_vec();
                Some(tap)
            }
            None => Some(Box::new(FrameTap::new(looks, from, session, &self.tracker))),
        };
    }
}

// === impl FrameTap ===

impl FrameTap {
    fn new(
        looks: &[Arc<TapSink>],
        from: Role,
        session: &Arc<SessionRecord>,
        tracker: &FrameTracker,
    ) -> FrameTap {
        let is_new = tracker.counts().bytes == 0;
        let extensions = session.extensions.as_deref().unwrap_or_default();
        let forgets = match from {
            Role::Client => "client_no_context_takeover",
            Role::Server => "server_no_context_takeover",
        };
        FrameTap {
            sinks: looks.to_vec(),
            session: session.clone(),
            from,
            skip: tracker.remaining(),
            frame: None,
            message: None,
            inflater: TapInflater::new(extensions.contains(forgets), is_new),
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
                        self.begin(header)
                    }
                    // The header was parsed once already, so it parses again.
                    Ok(None) | Err(_) => return,
                },
            };
            let left = frame.header.payload_len - frame.passed;
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at(here);
            bytes = rest;
            self.pass(&mut frame, payload);
            match frame.passed == frame.header.payload_len {
                true => self.end(frame),
                false => self.frame = Some(frame),
            }
        }
    }

    fn begin(&mut self, header: FrameHeader) -> PartialFrame {
        let (kind, compressed) = match header.opcode {
            control if control.is_control() => (control, false),
            Opcode::Continuation => self.message.unwrap_or((Opcode::Continuation, false)),
            data => {
                let compressed = header.rsv & RSV1 != 0;
                self.message = Some((data, compressed));
                self.inflater.begin();
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

    fn pass(&mut self, frame: &mut PartialFrame, payload: &[u8]) {
        let wanted = self.wanted();
        let room = wanted.saturating_sub(frame.raw.len());
        // A compressed payload is useful only as a whole; of a plain one, the displayed part is enough.
        let of_use = match frame.compressed && self.inflater.is_working() {
            true => payload.len(),
            false => payload.len().min(room),
        };
        let key = frame.header.mask.unwrap_or_default();
        let key = key.iter().cycle().skip((frame.passed % 4) as usize);
        let some = payload.iter().zip(key).take(of_use);
        let plain: Vec<u8> = some.map(|(byte, key)| byte ^ key).collect();
        frame.raw.extend(plain.iter().take(room));
        if frame.compressed {
            self.inflater.take(&plain, wanted);
        }
        frame.passed += payload.len() as u64;
    }

    fn end(&mut self, mut frame: PartialFrame) {
        let FrameHeader {
            opcode,
            fin,
            payload_len,
            ..
        } = frame.header;
        let (mut deflate, mut of) = (InflateStatus::None, payload_len);
        if frame.compressed {
            deflate = match self.inflater.frame(fin, self.wanted()) {
                Some(inflated) => {
                    of = inflated.size;
                    frame.raw = inflated.head;
                    InflateStatus::Inflated {
                        size: inflated.size,
                        whole: inflated.whole,
                    }
                }
                None => InflateStatus::NotInflated,
            };
        }
        if fin && !opcode.is_control() {
            self.message = None;
        }
        self.sinks.retain(|look| !look.is_over());
        for look in &self.sinks {
            if !look.try_admit() {
                continue;
            }
            let head = frame.raw.get(..look.bytes()).unwrap_or(&frame.raw);
            look.send(TappedFrame {
                session: self.session.clone(),
                at: SystemTime::now(),
                from: self.from,
                kind: frame.kind,
                continues: opcode == Opcode::Continuation,
                fin,
                size: payload_len,
                deflate,
                head: head.to_vec(),
                cut: (head.len() as u64) < of,
            });
        }
    }

    fn wanted(&self) -> usize {
        let bytes = self.sinks.iter().map(|look| look.bytes());
        bytes.max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
