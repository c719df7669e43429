//! Lingering close of a leg: close_notify, FIN, then discarding input, because a reset would destroy the Close.

use super::{
    leg::{Leg, Transport},
    pump::{LegEnd, MAX_DISCARDED},
};
use std::{
    future::poll_fn,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{io::ReadBuf, time::timeout};

/// Sends close_notify and FIN, then discards input until EOF or [`LINGER`]. A peer that is dead or still accepts no
/// bytes receives a reset, because a FIN would wait for it without limit.
pub(super) async fn lingering_close<S: Transport>(
    mut leg: Leg<S>,
    blocked: bool,
    end: Option<LegEnd>,
) {
    if blocked || end == Some(LegEnd::PingTimeout) {
        return leg.io.reset();
    }
    let _ = timeout(LINGER, async {
        leg.io.cork();
        let shut = poll_fn(|cx| Pin::new(&mut leg.io).poll_shutdown(cx)).await;
        if shut.is_ok() && end != Some(LegEnd::Gone) {
            let mut limit = MAX_DISCARDED;
            poll_fn(|cx| poll_discard(&mut leg.io, &mut limit, cx)).await;
        }
    })
    .await;
}

/// Reads and discards input until EOF or an error, at most [`MAX_DISCARDED`] bytes.
fn poll_discard<S: Transport>(io: &mut S, limit: &mut usize, cx: &mut Context<'_>) -> Poll<()> {
    let mut scratch = [MaybeUninit::uninit(); 4096];
    while *limit > 0 {
        let mut buf = ReadBuf::uninit(&mut scratch);
        let read = ready!(Pin::new(&mut *io).poll_read(cx, &mut buf));
        if read.is_err() || buf.filled().is_empty() {
            return Poll::Ready(());
        }
        *limit = limit.saturating_sub(buf.filled().len());
    }
    Poll::Ready(())
}

/// Maximum duration of the lingering close; the socket is dropped afterwards.
const LINGER: Duration = Duration::from_secs(1);
