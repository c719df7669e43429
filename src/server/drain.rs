//! Closes sessions one by one. If all closed at once, all clients would reconnect at once.

use crate::{
    config,
    lifecycle::tasks::Tasks,
    net::random::jitter,
    registry::{SessionRef, SessionTarget},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The running drains. Clones share the count; a clone made before [`Drains::cancel`] is cancelled, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drains {
    /// The number of sessions that still have to be closed.
    pending_closes: Arc<AtomicU64>,
    /// Cancels the running drains.
    cancelled: CancellationToken,
}

/// The timing and the close code of a drain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrainPacing {
    /// The time over which the closes are spread.
    pub(crate) window: Duration,
    /// The minimum time between two closes; it may lengthen the window.
    pub(crate) gap: Duration,
    /// The close code sent to clients.
    pub(crate) code: u16,
}

// === impl DrainPacing ===

impl DrainPacing {
    /// Returns the pacing that `[drain]` configures.
    pub(crate) fn of(drain: &config::Drain) -> Self {
        DrainPacing {
            window: drain.window.0,
            gap: match drain.max_rate {
                0 => Duration::ZERO,
                rate => Duration::from_secs(1) / rate,
            },
            code: drain.code,
        }
    }

    /// Returns the time until the last of `sessions` sessions has its close order.
    pub(crate) fn duration_for(self, sessions: usize) -> Duration {
        slot(sessions, self) * u32::try_from(sessions).unwrap_or(u32::MAX)
    }
}

// === impl Drains ===

impl Drains {
    /// Closes `sessions` in this order, evenly spaced, each at a random moment of its slot. Skips a session for which
    /// `must_close` returns false at that moment.
    pub(crate) fn close(
        &self,
        sessions: Vec<SessionRef>,
        pacing: DrainPacing,
        must_close: impl Fn(&SessionTarget) -> bool + Send + 'static,
        tasks: &Tasks,
    ) {
        if !sessions.is_empty() {
            tasks.spawn(self.closing(sessions, pacing, must_close));
        }
    }

    /// Returns the future that [`Drains::close`] spawns; dropping it cancels the remaining closes.
    pub(crate) fn closing<F: Fn(&SessionTarget) -> bool + Send + 'static>(
        &self,
        sessions: Vec<SessionRef>,
        pacing: DrainPacing,
        must_close: F,
    ) -> impl Future<Output = ()> + Send + use<F> {
        let count = PendingCloses::new(self.pending_closes.clone(), sessions.len());
        let cancelled = self.cancelled.clone();
        async move {
            tokio::select! {
                () = close(sessions, pacing, must_close, count) => {}
                () = cancelled.cancelled() => {}
            }
        }
    }

    /// Cancels running drains because another order follows for all sessions.
    pub(crate) fn cancel(&mut self) {
        self.cancelled.cancel();
        self.cancelled = CancellationToken::new();
    }

    /// Returns the number of sessions that still have to be closed.
    pub(crate) fn pending_closes(&self) -> u64 {
        self.pending_closes.load(Ordering::Relaxed)
    }
}

async fn close(
    sessions: Vec<SessionRef>,
    pacing: DrainPacing,
    must_close: impl Fn(&SessionTarget) -> bool,
    mut count: PendingCloses,
) {
    let slot = slot(sessions.len(), pacing);
    let mut next = Instant::now();
    for session in sessions {
        if !session.is_over() {
            sleep_until(next + jitter(slot)).await;
            next += slot;
            if must_close(session.target()) {
                session.close(pacing.code);
            }
        }
        count.decrement();
    }
}

/// Returns the length of each session's slot. A small drain takes less than the window; see [`SMALL_DRAIN_GAP`].
fn slot(sessions: usize, pacing: DrainPacing) -> Duration {
    let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
    let even = (pacing.window / sessions.max(1)).min(SMALL_DRAIN_GAP);
    even.max(pacing.gap)
}

/// The remaining closes of one drain, as a part of the count of all drains; subtracts them on drop.
struct PendingCloses {
    pending_closes: Arc<AtomicU64>,
    remaining: u64,
}

impl PendingCloses {
    fn new(pending_closes: Arc<AtomicU64>, remaining: usize) -> Self {
        let remaining = remaining as u64;
        pending_closes.fetch_add(remaining, Ordering::Relaxed);
        PendingCloses {
            pending_closes,
            remaining,
        }
    }

    fn decrement(&mut self) {
        self.remaining -= 1;
        self.pending_closes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for PendingCloses {
    fn drop(&mut self) {
        self.pending_closes
            .fetch_sub(self.remaining, Ordering::Relaxed);
    }
}

/// The maximum slot without `drain.max_rate`: 20 reconnecting clients per second do not overload a backend.
const SMALL_DRAIN_GAP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{SessionHandle, SessionRegistry};
    use std::task::Waker;

    fn pacing(window: u64, max_rate: u32) -> DrainPacing {
        DrainPacing::of(&config::Drain {
            window: config::DurationValue(Duration::from_secs(window)),
            max_rate,
            ..config::Drain::default()
        })
    }

    #[test]
    fn slots_fill_the_window_or_keep_the_rate() {
        let slot = |sessions, window, rate| slot(sessions, pacing(window, rate)).as_micros();
        assert_eq!(slot(1000, 20, 0), 20_000);
        assert_eq!(slot(1000, 20, 10), 100_000);
        assert_eq!(slot(1000, 20, 100), 20_000);
        assert_eq!(slot(1, 20, 0), 50_000);
        assert_eq!(slot(0, 20, 0), 50_000);
        assert_eq!(slot(10, 0, 0), 0);
    }

    fn open(sessions: &Arc<SessionRegistry>, count: usize) -> Vec<SessionHandle> {
        let target = SessionTarget {
            route: "r".into(),
            backend: "b".into(),
            pool_entry: "b".into(),
        };
        let open = |_| sessions.open(target.clone());
        (0..count).map(open).collect()
    }

    fn ordered_count(handles: &[SessionHandle]) -> usize {
        let is_ordered = |handle: &&SessionHandle| handle.order(Waker::noop()).is_some();
        handles.iter().filter(is_ordered).count()
    }

    #[tokio::test(start_paused = true)]
    async fn closes_are_spread_evenly() {
        for (count, seconds, pacing) in [
            (1000, 20, pacing(20, 0)),
            (1000, 20, pacing(0, 50)),
            (50, 1000, {
                let gap = Duration::from_secs(20);
                DrainPacing {
                    gap,
                    ..pacing(0, 0)
                }
            }),
        ] {
            let sessions = Arc::new(SessionRegistry::default());
            let handles = open(&sessions, count);
            let drains = Drains::default();
            let all = sessions.matching(|_| true);
            drains.close(all, pacing, |_| true, &Tasks::default());
            assert_eq!(drains.pending_closes(), count as u64);
            let mut before = 0;
            let mut closes = vec![];
            // One second more, because timers are rounded to milliseconds.
            for _ in 0..=seconds {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let now = ordered_count(&handles);
                closes.push(now - before);
                before = now;
                assert_eq!(now as u64 + drains.pending_closes(), count as u64);
            }
            assert_eq!((before, drains.pending_closes()), (count, 0));
            let peak = *closes.iter().max().unwrap();
            assert!(peak <= count / seconds + 2, "{closes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_or_cancelled_drain_is_not_counted() {
        let sessions = Arc::new(SessionRegistry::default());
        let handles = open(&sessions, 100);
        let mut drains = Drains::default();
        let closing =
            |drains: &Drains| drains.closing(sessions.matching(|_| true), pacing(0, 1), |_| true);
        let second = Duration::from_secs(1);
        assert!(
            tokio::time::timeout(second * 10, closing(&drains))
                .await
                .is_err()
        );
        assert_eq!(drains.pending_closes(), 0);
        let closed = ordered_count(&handles);
        assert!((9..=10).contains(&closed), "{closed}");
        let cancelled = closing(&drains);
        assert_eq!(drains.pending_closes(), 100);
        drains.cancel();
        cancelled.await;
        assert_eq!(
            (drains.pending_closes(), ordered_count(&handles)),
            (0, closed)
        );
    }
}
