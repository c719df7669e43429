//! All clients of the test.

use super::client::{Ending, Session, Signals};
use crate::harness::Lockgate;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

/// One connection attempt and its result.
pub(super) struct Attempt {
    pub(super) began: Instant,
    /// The process and the end of the session, or the error of the attempt.
    pub(super) session: Result<(u32, Result<Ending, String>), String>,
}

/// The clients and what they share.
pub(super) struct ClientSet {
    lockgate: Arc<Lockgate>,
    /// Pause between two messages of a client.
    pause: Duration,
    signals: Signals,
    /// Permits for concurrent handshakes.
    handshakes: Arc<Semaphore>,
    /// Number of clients started, and of those whose attempt has succeeded or failed.
    spawned: usize,
    settled: watch::Sender<usize>,
    attempts: JoinSet<Attempt>,
}

// === impl Crowd ===

impl ClientSet {
    /// Creates an empty set of clients.
    pub(super) fn new(lockgate: Arc<Lockgate>, pause: Duration, signals: Signals) -> ClientSet {
        ClientSet {
            lockgate,
            pause,
            signals,
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            spawned: 0,
            settled: watch::Sender::new(0),
            attempts: JoinSet::new(),
        }
    }

    /// Number of clients whose attempt has succeeded or failed.
    pub(super) fn settled(&self) -> watch::Receiver<usize> {
        self.settled.subscribe()
    }

    /// Starts a client that reads a stream, or one that echoes.
    pub(super) fn spawn(&mut self, stream: Option<Arc<[u8]>>) {
        self.spawned += 1;
        let (lockgate, signals, pause) = (self.lockgate.clone(), self.signals.clone(), self.pause);
        let (handshakes, settled) = (self.handshakes.clone(), self.settled.clone());
        self.attempts.spawn(async move {
            let permit = handshakes.acquire_owned().await.expect("never closed");
            let began = Instant::now();
            let path = if stream.is_some() { "/stream" } else { "/" };
            // A separate task, so that a panic during the handshake counts as a failed attempt.
            let open = tokio::spawn(async move { Session::open(&lockgate, path).await }).await;
            drop(permit);
            settled.send_modify(|count| *count += 1);
            let session = match open {
                Ok(Ok(session)) => {
                    let process = session.process;
                    let ending = match stream {
                        Some(frame) => session.read_stream(frame, signals).await,
                        None => session.echo(pause, signals).await,
                    };
                    Ok((process, ending))
                }
                Ok(Err(why)) => Err(why),
                Err(panicked) => Err(panicked.to_string()),
            };
            Attempt { began, session }
        });
    }

    /// Waits until every client's attempt has succeeded or failed.
    pub(super) async fn wait_until_settled(&self) {
        let mut settled = self.settled.subscribe();
        let all = settled.wait_for(|count| *count == self.spawned);
        timeout(Duration::from_secs(120), all)
            .await
            .expect("thousands of handshakes in two minutes")
            .expect("we have the sender");
    }

    /// Starts `rate` clients per second until `enough`. Returns all attempts once their sessions have ended.
    pub(super) async fn spawn_at_rate(
        mut self,
        rate: u32,
        mut enough: watch::Receiver<bool>,
    ) -> Vec<Attempt> {
        let mut tick = interval(Duration::from_secs(1) / rate);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while !*enough.borrow_and_update() {
            tick.tick().await;
            self.spawn(None);
        }
        let mut attempts = vec![];
        while let Some(attempt) = self.attempts.join_next().await {
            attempts.push(attempt.expect("nothing dropped, nothing changed on its way"));
        }
        attempts
    }
}

/// The maximum number of concurrent handshakes.
const MAX_HANDSHAKES: usize = 50;
