//! A fixed rate: a schedule of sends that does not depend on earlier echoes. A separate thread keeps the time, because
//! tokio's timers have a resolution of 1 ms, which is longer than an echo takes.

use rustix::thread::set_current_timer_slack;
use std::{
    num::NonZeroU64,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The intended send times of one session. They queue while the session waits for an echo, so a latency measured from
/// them includes that wait. The queue holds at most the rate times the duration.
pub(crate) type Turns = UnboundedReceiver<Instant>;

/// Schedules `rate` messages per second, round-robin over `sessions` sessions, until `end`.
pub(crate) fn pace(rate: u32, sessions: usize, end: Instant) -> Vec<Turns> {
    let (senders, turns) = (0..sessions).map(|_| unbounded_channel()).unzip();
    thread::spawn(move || run_schedule(senders, Duration::from_secs(1) / rate, end));
    turns
}

fn run_schedule(sessions: Vec<UnboundedSender<Instant>>, interval: Duration, end: Instant) {
    // The timer slack in nanoseconds. The default of 50 µs is as long as an echo takes.
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
        // A session that failed has dropped its receiver.
        let _ = session.send(due);
    }
}
