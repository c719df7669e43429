//! The only timer of a session, set to the earliest of its deadlines or before it.
//!
//! Relayed traffic postpones deadlines and would reset the timer repeatedly. Instead the timer stays as it is and fires
//! once too early.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

/// A timer that is moved lazily.
pub(super) struct LazyTimer {
    sleep: Pin<Box<Sleep>>,
    /// Whether no deadline is earlier than the timer; only a call of `disarm` announces an earlier one.
    armed: bool,
    /// Waker registered with the timer.
    waker: Option<Waker>,
}

// === impl LazyTimer ===

impl LazyTimer {
    /// Creates a timer that has already fired.
    pub(super) fn new(now: Instant) -> Self {
        LazyTimer {
            sleep: Box::pin(sleep_until(now)),
            armed: false,
            waker: None,
        }
    }

    /// Returns whether no deadline can have passed yet.
    pub(super) fn is_early(&self, now: Instant) -> bool {
        self.armed && now < self.sleep.deadline()
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Records that an earlier deadline may exist.
    pub(super) fn disarm(&mut self) {
        self.armed = false;
    }

    /// Sets the timer to fire at `deadline` or earlier. `calm`: from now on deadlines are only postponed.
    pub(super) fn arm(&mut self, deadline: Instant, calm: bool, now: Instant) {
        let before = self.sleep.deadline();
        if deadline < before || before <= now {
            self.sleep.as_mut().reset(deadline);
        }
        self.armed = calm;
        self.waker = None;
    }

    /// Returns `Ready` if the timer has fired.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Usually the same waker is registered already, and registering it again costs ten times as much as this check.
        let knows = |waker: &Waker| waker.will_wake(cx.waker());
        if self.waker.as_ref().is_some_and(knows) && !self.sleep.is_elapsed() {
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
        let mut alarm = LazyTimer::new(now);
        alarm.arm(now + SPAN, true, now);
        alarm
    }

    #[tokio::test(start_paused = true)]
    async fn latest_waker_is_woken() {
        let mut alarm = armed();
        let (first, last) = (Arc::<Count>::default(), Arc::<Count>::default());
        for who in [&first, &first, &last, &last] {
            let waker = who.clone().into();
            assert!(alarm.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        advance(SPAN + Duration::from_millis(1)).await;
        assert_eq!((first.0.load(SeqCst), last.0.load(SeqCst)), (0, 1));
        let waker = last.into();
        assert!(alarm.poll(&mut Context::from_waker(&waker)).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_set_anew_is_told_anew() {
        let mut alarm = armed();
        let count = Arc::<Count>::default();
        let waker = count.clone().into();
        let cx = &mut Context::from_waker(&waker);
        for times in 1..=3 {
            assert!(alarm.poll(cx).is_pending());
            advance(SPAN + Duration::from_millis(1)).await;
            assert!(!alarm.is_early(Instant::now()));
            assert_eq!(count.0.load(SeqCst), times);
            let now = Instant::now();
            alarm.arm(now + SPAN, true, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waker_missed_for_lack_of_budget_is_registered_later() {
        let mut alarm = armed();
        poll_fn(|cx| {
            while coop::has_budget_remaining() {
                let _ = pin!(coop::consume_budget()).poll(cx);
            }
            assert!(alarm.poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
        let before = Instant::now();
        poll_fn(|cx| alarm.poll(cx)).await;
        assert!(before.elapsed() >= SPAN);
    }
}
