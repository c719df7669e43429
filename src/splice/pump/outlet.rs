//! The writing half of a pump: writes to `dst` and keeps the bytes that `dst` does not accept.

use super::Pump;
use crate::splice::leg::{Leg, Transport};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

// === impl Pump ===

impl Pump {
    /// Returns whether bytes are pending for `dst`; reading from `src` is paused then.
    pub(in crate::splice) fn is_blocked(&self) -> bool {
        self.sent < self.unsent.len() || self.unflushed > 0
    }

    /// Returns how many bytes are pending for `dst` here; the kernel has accepted `bytes_accepted` bytes so far.
    pub(in crate::splice) fn blocked_bytes(&self, bytes_accepted: u64) -> usize {
        let flushed = usize::try_from(bytes_accepted.saturating_sub(self.accepted_at_flush))
            .unwrap_or(usize::MAX);
        self.unsent.len() - self.sent + self.unflushed.saturating_sub(flushed)
    }

    /// Writes `bytes` to `dst` and keeps what is not accepted immediately.
    pub(super) fn write<D: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        dst: &mut Leg<D>,
    ) {
        self.write_with(cx, bytes, dst, |io, cx, bytes| {
            Pin::new(io).poll_write(cx, bytes)
        });
    }

    /// Writes the last bytes to `dst`, after which it is closed.
    pub(super) fn write_last<D: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        dst: &mut Leg<D>,
    ) {
        self.write_with(cx, bytes, dst, D::poll_write_last);
    }

    fn write_with<D: Transport>(
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
    pub(super) fn poll_write_unsent<D: Transport>(
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
            self.data_relayed = true;
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

    fn abandon_dst<D: Transport>(&mut self, dst: &mut Leg<D>) {
        dst.broken = true;
        self.unsent = Vec::new();
        self.sent = 0;
        self.unflushed = 0;
        self.close = None;
    }
}
