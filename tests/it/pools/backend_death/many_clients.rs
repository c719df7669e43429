//! All clients of the test, those that are there and those that keep coming.

use super::client::{Ending, News, Session};
use crate::harness::Lockgate;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// One connect and what became of it.
pub(super) struct Visit {
    pub(super) began: Instant,
    /// The process, and how it ended; or why there was no session.
    pub(super) session: Result<(u32, Result<Ending, String>), String>,
}

/// All that come, and what they share.
pub(super) struct Crowd {
    lockgate: Arc<Lockgate>,
    /// Between two messages of one.
    pause: Duration,
    news: News,
    /// Permits for concurrent handshakes.
    turns: Arc<Semaphore>,
    /// How many have come, and how many of them have got a session or were refused.
    come: usize,
    settled: watch::Sender<usize>,
    visits: JoinSet<Visit>,
}

// === impl Crowd ===

impl Crowd {
    /// Creates a crowd without clients.
    pub(super) fn new(lockgate: Arc<Lockgate>, pause: Duration, news: News) -> Crowd {
        Crowd {
            lockgate,
            pause,
            news,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            come: 0,
            settled: watch::Sender::new(0),
            visits: JoinSet::new(),
        }
    }

    /// How many have got a session or were refused.
    pub(super) fn settled(&self) -> watch::Receiver<usize> {
        self.settled.subscribe()
    }

    /// Another client: one that takes a stream, or one that echoes.
    pub(super) fn comes(&mut self, stream: Option<Arc<[u8]>>) {
        self.come += 1;
        let (lockgate, news, pause) = (self.lockgate.clone(), self.news.clone(), self.pause);
        let (turns, settled) = (self.turns.clone(), self.settled.clone());
        self.visits.spawn(async move {
            let turn = turns.acquire_owned().await.expect("never closed");
            let began = Instant::now();
            let path = if stream.is_some() { "/stream" } else { "/" };
            // A task of its own: what panics here has got no session, what panics later has lost one.
            let open = tokio::spawn(async move { Session::open(&lockgate, path).await }).await;
            drop(turn);
            settled.send_modify(|count| *count += 1);
            let session = match open {
                Ok(Ok(session)) => {
                    let process = session.process;
                    let ending = match stream {
                        Some(large) => session.take(large, news).await,
                        None => session.echo(pause, news).await,
                    };
                    Ok((process, ending))
                }
                Ok(Err(why)) => Err(why),
                Err(panicked) => Err(panicked.to_string()),
            };
            Visit { began, session }
        });
    }

    /// All that have come so far have what they came for.
    pub(super) async fn are_in(&self) {
        let mut settled = self.settled.subscribe();
        let all = settled.wait_for(|count| *count == self.come);
        timeout(Duration::from_secs(120), all)
            .await
            .expect("thousands of handshakes in two minutes")
            .expect("we have the sender");
    }

    /// From now on so many come every second, until `enough`. All of these visits, to their end.
    pub(super) async fn keep_coming(
        mut self,
        rate: u32,
        mut enough: watch::Receiver<bool>,
    ) -> Vec<Visit> {
        let mut tick = interval(Duration::from_secs(1) / rate);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while !*enough.borrow_and_update() {
            tick.tick().await;
            self.comes(None);
        }
        let mut visits = vec![];
        while let Some(visit) = self.visits.join_next().await {
            visits.push(visit.expect("nothing dropped, nothing changed on its way"));
        }
        visits
    }
}

/// The maximum number of concurrent handshakes.
const AT_ONCE: usize = 50;
