//! A fixed rate: who is to send when, whatever became of the messages before. A thread of its own keeps the time, for
//! tokio's timers go by milliseconds, which is longer than an echo takes.

use rustix::thread::set_current_timer_slack;
use std::{
    num::NonZeroU64,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The moments at which one session is to send. They wait in line while it waits for an answer, so that a time measured
/// from them counts that wait too. Not more of them than the rate times the seconds until the end.
pub(crate) type Turns = UnboundedReceiver<Instant>;

/// Messages a second, in turn by so many sessions, until the end.
pub(crate) fn pace(rate: u32, sessions: usize, end: Instant) -> Vec<Turns> {
    let (callers, turns) = (0..sessions).map(|_| unbounded_channel()).unzip();
    thread::spawn(move || call(callers, Duration::from_secs(1) / rate, end));
    turns
}

fn call(sessions: Vec<UnboundedSender<Instant>>, interval: Duration, end: Instant) {
    // How late the kernel may be in nanoseconds: 50 µs unless it is told, which is as long as an echo takes.
    let _ = set_current_timer_slack(NonZeroU64::new(1_000));
    let mut due = Instant::now();
    for session in sessions.iter().cycle() {
        due += interval;
        if due >= end {
            return;
        }
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        // One that failed takes no further turns.
        let _ = session.send(due);
    }
}
