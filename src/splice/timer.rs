//! The only timer of a session, set to the earliest of its deadlines or to an earlier time.
//!
//! Relayed traffic postpones deadlines, and resetting the timer each time would be expensive. The timer keeps its time
//! instead, fires early, and is then set to the current deadline.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

/// A timer that is moved lazily.
pub(crate) struct LazyTimer {
    sleep: Pin<Box<Sleep>>,
    /// Whether no deadline is earlier than the timer; a possible earlier deadline is reported with `disarm`.
    armed: bool,
    /// Waker registered with the timer.
    waker: Option<Waker>,
}

// === impl LazyTimer ===

impl LazyTimer {
    /// Creates a timer that has already fired.
    pub(crate) fn new(now: Instant) -> Self {
        LazyTimer {
            sleep: Box::pin(sleep_until(now)),
            armed: false,
            waker: None,
        }
    }

    /// Returns whether no deadline can have passed yet.
    pub(crate) fn is_early(&self, now: Instant) -> bool {
        self.armed && now < self.sleep.deadline()
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Records that an earlier deadline may exist.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }

    /// Sets the timer to fire at `deadline` or earlier. `only_postponed`: until the next `disarm`, deadlines only
    /// move later.
    pub(crate) fn arm(&mut self, deadline: Instant, only_postponed: bool, now: Instant) {
        let current = self.sleep.deadline();
        if deadline < current || current <= now {
            self.sleep.as_mut().reset(deadline);
        }
        self.armed = only_postponed;
        self.waker = None;
    }

    /// Returns `Ready` if the timer has fired.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Usually the same waker is registered already, and registering it again costs ten wakes as much as this check.
        let is_registered = |waker: &Waker| waker.will_wake(cx.waker());
        if self.waker.as_ref().is_some_and(is_registered) && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        self.waker = None;
        let polled = self.sleep.as_mut().poll(cx);
        // If the task's budget is used up, the waker was not registered.
        if polled.is_pending() && self.armed && coop::has_budget_remaining() {
            self.waker = Some(cx.waker().clone());
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::poll_fn,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering::SeqCst},
        },
        task::Wake,
        time::Duration,
    };
    use tokio::time::advance;

    /// Counts the wake-ups.
    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    const SPAN: Duration = Duration::from_secs(30);

    fn armed() -> LazyTimer {
        let now = Instant::now();
        let mut timer = LazyTimer::new(now);
        timer.arm(now + SPAN, true, now);
        timer
    }

    #[tokio::test(start_paused = true)]
    async fn latest_waker_is_woken() {
        let mut timer = armed();
        let (first, last) = (Arc::<Count>::default(), Arc::<Count>::default());
        for counter in [&first, &first, &last, &last] {
            let waker = counter.clone().into();
            assert!(timer.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        advance(SPAN + Duration::from_millis(1)).await;
        assert_eq!((first.0.load(SeqCst), last.0.load(SeqCst)), (0, 1));
        let waker = last.into();
        assert!(timer.poll(&mut Context::from_waker(&waker)).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn rearmed_timer_wakes_the_task_again() {
        let mut timer = armed();
        let count = Arc::<Count>::default();
        let waker = count.clone().into();
        let cx = &mut Context::from_waker(&waker);
        for wakes in 1..=3 {
            assert!(timer.poll(cx).is_pending());
            advance(SPAN + Duration::from_millis(1)).await;
            assert!(!timer.is_early(Instant::now()));
            assert_eq!(count.0.load(SeqCst), wakes);
            let now = Instant::now();
            timer.arm(now + SPAN, true, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waker_missed_for_lack_of_budget_is_registered_later() {
        let mut timer = armed();
        poll_fn(|cx| {
            while coop::has_budget_remaining() {
                let _ = pin!(coop::consume_budget()).poll(cx);
            }
            assert!(timer.poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
        let start = Instant::now();
        poll_fn(|cx| timer.poll(cx)).await;
        assert!(start.elapsed() >= SPAN);
    }
}
