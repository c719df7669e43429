//! The control frames that a pump inserts: a Close, a Pong on behalf of the client, a Ping.

use super::Pump;
use crate::{
    proto::frame::ControlFrame,
    splice::{
        leg::{Leg, Transport},
        random::random_bytes,
    },
};
use std::task::Context;
use tokio::time::Instant;

// === impl Pump ===

impl Pump {
    #[inline]
    pub(super) fn injection_is_due<D: Transport>(&self, dst: &Leg<D>, now: Instant) -> bool {
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
    pub(super) fn inject<D: Transport>(
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
    fn inject_due<D: Transport>(
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
