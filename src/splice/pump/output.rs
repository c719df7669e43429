//! The writing half of a pump: writes to `dst`, keeps the bytes that `dst` does not accept, and inserts control frames:
//! a Close, a Pong on behalf of the client, a Ping.

use crate::{
    net::random::random_bytes,
    proto::frame::ControlFrame,
    splice::{
        leg::{Leg, LegIo},
        pump::Pump,
    },
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

// === impl Pump ===

impl Pump {
    /// Returns whether bytes are pending for `dst`; reading from `src` is paused then.
    pub(crate) fn is_blocked(&self) -> bool {
        self.sent < self.unsent.len() || self.unflushed > 0
    }

    /// Returns how many bytes are pending for `dst` here; the kernel has accepted `bytes_accepted` bytes so far.
    pub(crate) fn blocked_bytes(&self, bytes_accepted: u64) -> usize {
        let flushed = usize::try_from(bytes_accepted.saturating_sub(self.accepted_at_flush))
            .unwrap_or(usize::MAX);
        self.unsent.len() - self.sent + self.unflushed.saturating_sub(flushed)
    }

    /// Writes `bytes` to `dst` and keeps what is not accepted immediately.
    pub(super) fn write<D: LegIo>(&mut self, cx: &mut Context<'_>, bytes: &[u8], dst: &mut Leg<D>) {
        self.write_with(cx, bytes, dst, |io, cx, bytes| {
            Pin::new(io).poll_write(cx, bytes)
        });
    }

    /// Writes the last bytes to `dst`, after which it is closed.
    pub(super) fn write_last<D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        dst: &mut Leg<D>,
    ) {
        self.write_with(cx, bytes, dst, D::poll_write_and_close);
    }

    fn write_with<D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        mut bytes: &[u8],
        dst: &mut Leg<D>,
        write: impl Fn(&mut D, &mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) {
        if self.close_sent || dst.broken {
            return;
        }
        while self.sent == self.unsent.len() && !bytes.is_empty() {
            match write(&mut dst.io, cx, bytes) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.unflushed += n;
                    bytes = &bytes[n..];
                }
                Poll::Ready(_) => return self.abandon_dst(dst),
                Poll::Pending => break,
            }
        }
        self.unsent.extend_from_slice(bytes);
    }

    /// Writes the kept bytes and flushes.
    pub(super) fn poll_write_unsent<D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        dst: &mut Leg<D>,
    ) -> Poll<()> {
        if dst.broken {
            self.abandon_dst(dst);
        }
        while self.sent < self.unsent.len() {
            match ready!(Pin::new(&mut dst.io).poll_write(cx, &self.unsent[self.sent..])) {
                Ok(n) if n > 0 => {
                    self.unflushed += n;
                    self.sent += n;
                }
                _ => self.abandon_dst(dst),
            }
        }
        if !self.unsent.is_empty() {
            // Replaced instead of cleared, so that an idle session holds no buffer.
            self.unsent = Vec::new();
            self.sent = 0;
            self.data_relayed |= std::mem::take(&mut self.unsent_data);
        }
        if self.unflushed > 0 {
            if ready!(Pin::new(&mut dst.io).poll_flush(cx)).is_err() {
                self.abandon_dst(dst);
            }
            self.unflushed = 0;
            self.accepted_at_flush = dst.io.bytes_accepted();
        }
        Poll::Ready(())
    }

    fn abandon_dst<D: LegIo>(&mut self, dst: &mut Leg<D>) {
        dst.broken = true;
        self.unsent = Vec::new();
        self.sent = 0;
        self.unflushed = 0;
        self.close = None;
    }

    #[inline]
    pub(super) fn injection_is_due<D: LegIo>(&self, dst: &Leg<D>, now: Instant) -> bool {
        !self.close_sent
            && (self.close_is_due(now) || dst.pending_pong.is_some() || dst.keepalive.ping_is_due())
    }

    fn close_is_due(&self, now: Instant) -> bool {
        self.close.as_ref().is_some_and(|close| {
            let is_between_messages = close.between_messages && !self.tracker.in_message();
            let is_due = self.ended.is_some() || is_between_messages || now >= close.not_before;
            // Bytes that were read earlier are relayed first.
            is_due && !self.stalled
        })
    }

    /// Inserts the control frames that are due if the relayed bytes end at a frame boundary (RFC 6455 §5.4: control
    /// frames may stand between the fragments of a message, never inside a frame). Returns true if a frame was
    /// inserted.
    #[inline]
    pub(super) fn inject<D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        dst: &mut Leg<D>,
        now: Instant,
    ) -> bool {
        let may_inject = self.injection_is_due(dst, now) && self.tracker.at_boundary();
        may_inject && self.inject_due(cx, dst, now)
    }

    /// Not inlined: it runs rarely, while its condition is checked on every poll of the pump.
    #[cold]
    fn inject_due<D: LegIo>(
        &mut self,
        cx: &mut Context<'_>,
        dst: &mut Leg<D>,
        now: Instant,
    ) -> bool {
        let mask = self.from_client.then(random_bytes);
        if self.close_is_due(now)
            && let Some(close) = self.close.take()
        {
            let frame = ControlFrame::close(close.code, &close.reason, mask);
            self.write(cx, frame.as_bytes(), dst);
            self.close_sent = true;
            return true;
        }
        if let Some(ping) = dst.pending_pong.take() {
            let frame = ControlFrame::pong(ping.payload(), mask);
            self.write(cx, frame.as_bytes(), dst);
            return true;
        }
        if dst.keepalive.ping_is_due() {
            let frame = dst.keepalive.build_ping(now, mask);
            self.write(cx, frame.as_bytes(), dst);
            return true;
        }
        false
    }
}
