//! Sessions that must close, closed one by one: all at once they would all be back at once.

use crate::{
    config,
    lifecycle::Tasks,
    observe::{SessionRef, SessionTarget},
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

/// Everything that is being closed; clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Drains {
    /// The number of sessions that still have to be closed.
    waiting: Arc<AtomicU64>,
    /// Ends what is under way.
    over: CancellationToken,
}

/// How closes are spread.
#[derive(Debug, Clone, Copy)]
pub(super) struct DrainPacing {
    /// Over how long.
    pub(super) window: Duration,
    /// At least from one to the next, which lengthens the window.
    pub(super) gap: Duration,
    /// The close code sent to clients.
    pub(super) code: u16,
}

// === impl DrainPacing ===

impl DrainPacing {
    /// As `[drain]` says.
    pub(super) fn of(drain: &config::Drain) -> Self {
        DrainPacing {
            window: drain.window.0,
            gap: match drain.max_rate {
                0 => Duration::ZERO,
                rate => Duration::from_secs(1) / rate,
            },
            code: drain.code,
        }
    }

    /// How long it takes until each of so many sessions is told.
    pub(super) fn duration_for(self, sessions: usize) -> Duration {
        slot(sessions, self) * u32::try_from(sessions).unwrap_or(u32::MAX)
    }
}

// === impl Drains ===

impl Drains {
    /// Closes `sessions`, which come in no order, evenly spaced, each at some moment of its slot, unless it must not go any
    /// more by then.
    pub(super) fn close(
        &self,
        sessions: Vec<SessionRef>,
        spread: DrainPacing,
        must_go: impl Fn(&SessionTarget) -> bool + Send + 'static,
        tasks: &Tasks,
    ) {
        if !sessions.is_empty() {
            tasks.spawn(self.closing(sessions, spread, must_go));
        }
    }

    /// The same for a task that waits until it is done, and gives up the rest when it is dropped.
    pub(super) fn closing<F: Fn(&SessionTarget) -> bool + Send + 'static>(
        &self,
        sessions: Vec<SessionRef>,
        spread: DrainPacing,
        must_go: F,
    ) -> impl Future<Output = ()> + Send + use<F> {
        let count = PendingCloses::new(self.waiting.clone(), sessions.len());
        let over = self.over.clone();
        async move {
            tokio::select! {
                () = close(sessions, spread, must_go, count) => {}
                () = over.cancelled() => {}
            }
        }
    }

    /// Cancels running drains because another order follows for all sessions.
    pub(super) fn cancel(&mut self) {
        self.over.cancel();
        self.over = CancellationToken::new();
    }

    /// Returns the number of sessions that still have to be closed.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}

async fn close(
    sessions: Vec<SessionRef>,
    spread: DrainPacing,
    must_go: impl Fn(&SessionTarget) -> bool,
    mut count: PendingCloses,
) {
    let slot = slot(sessions.len(), spread);
    let mut next = Instant::now();
    for session in sessions {
        if !session.is_over() {
            sleep_until(next + slot.mul_f64(jitter())).await;
            next += slot;
            if must_go(session.target()) {
                session.close(spread.code);
            }
        }
        count.down();
    }
}

/// What each session has of the window. Few are not kept waiting: twenty a second frighten no backend.
fn slot(sessions: usize, spread: DrainPacing) -> Duration {
    let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
    let even = (spread.window / sessions.max(1)).min(SMALL_DRAIN_GAP);
    even.max(spread.gap)
}

/// From 0 to 1.
fn jitter() -> f64 {
    // Without chance they would be spread evenly all the same.
    f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)
}

/// Counts what is left, also if the task is dropped.
struct PendingCloses {
    waiting: Arc<AtomicU64>,
    left: u64,
}

impl PendingCloses {
    fn new(waiting: Arc<AtomicU64>, left: usize) -> Self {
        let left = left as u64;
        waiting.fetch_add(left, Ordering::Relaxed);
        PendingCloses { waiting, left }
    }

    fn down(&mut self) {
        self.left -= 1;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for PendingCloses {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.left, Ordering::Relaxed);
    }
}

const SMALL_DRAIN_GAP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{SessionHandle, SessionRegistry};
    use std::task::Waker;

    fn spread(window: u64, max_rate: u32) -> DrainPacing {
        DrainPacing::of(&config::Drain {
            window: config::DurationValue(Duration::from_secs(window)),
            max_rate,
            ..config::Drain::default()
        })
    }

    #[test]
    fn slots_fill_the_window_or_keep_the_rate() {
        let slot = |sessions, window, rate| slot(sessions, spread(window, rate)).as_micros();
        assert_eq!(slot(1000, 20, 0), 20_000);
        assert_eq!(slot(1000, 20, 10), 100_000);
        assert_eq!(slot(1000, 20, 100), 20_000);
        assert_eq!(slot(1, 20, 0), 50_000);
        assert_eq!(slot(0, 20, 0), 50_000);
        assert_eq!(slot(10, 0, 0), 0);
    }

    fn open(sessions: &Arc<SessionRegistry>, count: usize) -> Vec<SessionHandle> {
        let belonging = SessionTarget {
            route: "r".into(),
            backend: "b".into(),
            pool_entry: "b".into(),
        };
        let open = |_| sessions.open(belonging.clone());
        (0..count).map(open).collect()
    }

    fn told(handles: &[SessionHandle]) -> usize {
        let told = |handle: &&SessionHandle| handle.order(Waker::noop()).is_some();
        handles.iter().filter(told).count()
    }

    #[tokio::test(start_paused = true)]
    async fn closes_are_spread_evenly() {
        for (count, lasts, spread) in [
            (1000, 20, spread(20, 0)),
            (1000, 20, spread(0, 50)),
            (50, 1000, {
                let gap = Duration::from_secs(20);
                DrainPacing {
                    gap,
                    ..spread(0, 0)
                }
            }),
        ] {
            let sessions = Arc::new(SessionRegistry::default());
            let handles = open(&sessions, count);
            let drains = Drains::default();
            let all = sessions.matching(|_| true);
            drains.close(all, spread, |_| true, &Tasks::default());
            assert_eq!(drains.waiting(), count as u64);
            let mut before = 0;
            let mut seconds = vec![];
            // One more, for timers are rounded to milliseconds.
            for _ in 0..=lasts {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let now = told(&handles);
                seconds.push(now - before);
                before = now;
                assert_eq!(now as u64 + drains.waiting(), count as u64);
            }
            assert_eq!((before, drains.waiting()), (count, 0));
            let peak = *seconds.iter().max().unwrap();
            assert!(peak <= count / lasts + 2, "{seconds:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_dropped_or_given_up_is_counted_no_more() {
        let sessions = Arc::new(SessionRegistry::default());
        let handles = open(&sessions, 100);
        let mut drains = Drains::default();
        let closing =
            |drains: &Drains| drains.closing(sessions.matching(|_| true), spread(0, 1), |_| true);
        let second = Duration::from_secs(1);
        assert!(
            tokio::time::timeout(second * 10, closing(&drains))
                .await
                .is_err()
        );
        assert_eq!(drains.waiting(), 0);
        let begun = told(&handles);
        assert!((9..=10).contains(&begun), "{begun}");
        let given_up = closing(&drains);
        assert_eq!(drains.waiting(), 100);
        drains.cancel();
        given_up.await;
        assert_eq!((drains.waiting(), told(&handles)), (0, begun));
    }
}
