//! Evaluation of all connection attempts.

use super::{client::Ending, many_clients::Attempt};
use std::time::Duration;
use tokio::time::Instant;

pub(super) struct Summary {
    attempts: Vec<Attempt>,
    /// Times from the kill until clients of the killed process received 1011, sorted.
    pub(super) closed: Vec<Duration>,
    /// Times from the kill until streams of the killed process were truncated, sorted.
    pub(super) truncated: Vec<Duration>,
    /// Number of all other sessions, and their echoes.
    pub(super) unaffected: usize,
    pub(super) echoes: u64,
}

// === impl Aftermath ===

impl Summary {
    /// Evaluates `attempts`; the process `killed` was killed at `kill`. An unexpected error fails the test.
    pub(super) fn new(attempts: Vec<Attempt>, killed: u32, kill: Instant) -> Summary {
        let (mut closed, mut truncated, mut unaffected, mut echoes) = (vec![], vec![], 0, 0);
        for attempt in &attempts {
            let Ok((process, ending)) = &attempt.session else {
                continue;
            };
            assert!(*process != killed || attempt.began < kill, "it is dead");
            match ending {
                Ok(Ending::Closed(at)) if *process == killed => closed.push(*at - kill),
                Ok(Ending::Truncated(at)) if *process == killed => truncated.push(*at - kill),
                Ok(Ending::Stopped(count)) if *process != killed => {
                    (unaffected, echoes) = (unaffected + 1, echoes + count);
                }
                ending => panic!("a session of {process}, and {killed} was killed: {ending:?}"),
            }
        }
        closed.sort_unstable();
        truncated.sort_unstable();
        Summary {
            attempts,
            closed,
            truncated,
            unaffected,
            echoes,
        }
    }

    pub(super) fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// The errors of the attempts that opened no session.
    pub(super) fn failures(&self) -> Vec<&String> {
        let sessions = self.attempts.iter().map(|attempt| attempt.session.as_ref());
        sessions.filter_map(Result::err).collect()
    }

    /// The percentile of the times until 1011.
    pub(super) fn closed_within(&self, percent: usize) -> Duration {
        self.closed[(self.closed.len() * percent).div_ceil(100) - 1]
    }

    /// The share of `process` in the attempts that began in each quarter of `time` from `since` on.
    pub(super) fn shares(&self, since: Instant, time: Duration, process: u32) -> [f64; 4] {
        [0, 1, 2, 3].map(|quarter| {
            let from = since + time * quarter / 4;
            let when = from..from + time / 4;
            let started = self.attempts.iter().filter(|it| when.contains(&it.began));
            let to_process = |it: &&Attempt| matches!(it.session, Ok((its, _)) if its == process);
            let count = started.clone().filter(to_process).count();
            count as f64 / started.count().max(1) as f64
        })
    }
}
