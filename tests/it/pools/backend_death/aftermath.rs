//! What became of all visits.

use super::{client::Ending, many_clients::Visit};
use std::time::Duration;
use tokio::time::Instant;

pub(super) struct Aftermath {
    visits: Vec<Visit>,
    /// Of the killed process: how long after the kill a client was told 1011, from the soonest on.
    pub(super) told: Vec<Duration>,
    /// The same, cut in mid-frame.
    pub(super) cut: Vec<Duration>,
    /// Of all others: how many they are, and what they have got back.
    pub(super) stayed: usize,
    pub(super) echoes: u64,
}

// === impl Aftermath ===

impl Aftermath {
    /// Evaluates `visits`, after the process `killed` was killed at `kill`; a visit with an unexpected error fails the test.
    pub(super) fn of(visits: Vec<Visit>, killed: u32, kill: Instant) -> Aftermath {
        let (mut told, mut cut, mut stayed, mut echoes) = (vec![], vec![], 0, 0);
        for visit in &visits {
            let Ok((process, ending)) = &visit.session else {
                continue;
            };
            assert!(*process != killed || visit.began < kill, "it is dead");
            match ending {
                Ok(Ending::Told(at)) if *process == killed => told.push(*at - kill),
                Ok(Ending::Cut(at)) if *process == killed => cut.push(*at - kill),
                Ok(Ending::Left(count)) if *process != killed => {
                    (stayed, echoes) = (stayed + 1, echoes + count);
                }
                ending => panic!("a session of {process}, and {killed} was killed: {ending:?}"),
            }
        }
        told.sort_unstable();
        cut.sort_unstable();
        Aftermath {
            visits,
            told,
            cut,
            stayed,
            echoes,
        }
    }

    pub(super) fn visits(&self) -> usize {
        self.visits.len()
    }

    /// Why those who got no session did not.
    pub(super) fn refused(&self) -> Vec<&String> {
        let sessions = self.visits.iter().map(|visit| visit.session.as_ref());
        sessions.filter_map(Result::err).collect()
    }

    /// So many percent of those who were told were told within this.
    pub(super) fn told_within(&self, percent: usize) -> Duration {
        self.told[(self.told.len() * percent).div_ceil(100) - 1]
    }

    /// Which part of the visits that began in each quarter of `time`, from `since` on, came to `process`.
    pub(super) fn shares(&self, since: Instant, time: Duration, process: u32) -> [f64; 4] {
        [0, 1, 2, 3].map(|quarter| {
            let from = since + time * quarter / 4;
            let when = from..from + time / 4;
            let then = self.visits.iter().filter(|it| when.contains(&it.began));
            let is_there = |it: &&Visit| matches!(it.session, Ok((its, _)) if its == process);
            let there = then.clone().filter(is_there).count();
            there as f64 / then.count().max(1) as f64
        })
    }
}
