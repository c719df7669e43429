//! Clients that detect every error: a wrong echo, an excess byte, an unexpected Close.

use crate::harness::{EndKind, Frame, Lockgate, Wire, handshake, within};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// The signals that all clients receive.
#[derive(Clone)]
pub(super) struct Signals {
    /// All sessions must end.
    pub(super) stop: watch::Receiver<bool>,
    /// The process that was killed.
    pub(super) killed: watch::Receiver<Option<u32>>,
}

/// An open session and the backend process that serves it.
pub(super) struct Session {
    wire: Wire,
    pub(super) process: u32,
}

/// The permitted ways in which a session ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    /// It ended on the stop signal, after this many echoes or chunks.
    Stopped(u64),
    /// It received 1011, between two frames, and TCP ended.
    Closed(Instant),
    /// TCP ended in the middle of a frame, without a further byte.
    Truncated(Instant),
}

/// One frame of a stream, as it is on the wire.
pub(super) fn large_frame() -> Arc<[u8]> {
    let payload: Vec<u8> = (0..=255).cycle().take(8 << 20).collect();
    Frame::binary(&payload).encode().into()
}

// === impl Session ===

impl Session {
    /// Connects and performs the handshake; returns the reason if that fails.
    pub(super) async fn open(lockgate: &Lockgate, path: &str) -> Result<Session, String> {
        let tls = timeout(TLS_TIMEOUT, lockgate.try_tls("a.test")).await;
        let tls = tls.map_err(|_| "TLS: too slow")?;
        // The bare stream uses a single descriptor.
        let mut wire = Wire::stream(tls.map_err(|error| format!("TLS: {error}"))?);
        wire.send(handshake(path, "")).await;
        let head = wire.head().await;
        let process = head.get("x-process").and_then(|it| it.parse().ok());
        match (head.status(), process) {
            (101, Some(process)) => Ok(Session { wire, process }),
            (status, _) => Err(format!("status {status}")),
        }
    }

    /// Sends messages and checks their echoes until the stop signal or a Close.
    pub(super) async fn echo(
        mut self,
        pause: Duration,
        mut signals: Signals,
    ) -> Result<Ending, String> {
        let mut echoes = 0;
        while !*signals.stop.borrow_and_update() {
            let message = Frame::text(&format!("message {echoes} of a client of {}", self.process));
            self.wire.send_frame(message.clone()).await;
            let received = within("an echo", self.wire.next_frame()).await;
            if received.as_ref() != Some(&message) {
                return self.expect_1011(received).await;
            }
            echoes += 1;
            tokio::select! {
                received = self.wire.next_frame() => return self.expect_1011(received).await,
                _ = signals.stop.changed() => {}
                // The pace of the session, not a wait.
                () = sleep(pause) => {}
            }
        }
        let close = Frame::close(1000, "");
        self.wire.send_frame(close.clone()).await;
        let received = within("a Close", self.wire.next_frame()).await;
        if received == Some(close) {
            Ok(Ending::Stopped(echoes))
        } else {
            Err(format!("{received:?} where a Close was due"))
        }
    }

    async fn expect_1011(mut self, received: Option<Frame>) -> Result<Ending, String> {
        let at = Instant::now();
        let close = Frame::close(1011, "");
        if received.as_ref() != Some(&close) {
            return Err(format!("{received:?} of process {}", self.process));
        }
        self.wire.send_frame(close).await;
        let end = self.wire.end().await;
        if end.bytes.is_empty() && end.kind == EndKind::Fin {
            Ok(Ending::Closed(at))
        } else {
            Err(format!("behind a Close: {end:?}"))
        }
    }

    /// Reads a stream of large frames more slowly than it is sent, so that the backend is always in the middle of a
    /// frame.
    pub(super) async fn read_stream(
        mut self,
        large_frame: Arc<[u8]>,
        mut signals: Signals,
    ) -> Result<Ending, String> {
        let (mut at, mut chunks) = (0, 0);
        while !*signals.stop.borrow_and_update() {
            if *signals.killed.borrow_and_update() == Some(self.process) {
                let end = self.wire.end().await;
                let ended = Instant::now();
                at = follow(&large_frame, at, &end.bytes)?;
                return match (end.kind, at) {
                    (EndKind::Fin, 1..) => Ok(Ending::Truncated(ended)),
                    (kind, at) => Err(format!("a stream ended at byte {at}, {kind:?}")),
                };
            }
            at = follow(&large_frame, at, &self.wire.exactly(CHUNK_LEN).await)?;
            chunks += 1;
            tokio::select! {
                _ = signals.stop.changed() => {}
                _ = signals.killed.changed() => {}
                () = sleep(READ_INTERVAL) => {}
            }
        }
        Ok(Ending::Stopped(chunks))
    }
}

/// Checks that `bytes` continue a stream of large frames at byte `at` of a frame. Returns the position behind them.
fn follow(large_frame: &[u8], mut at: usize, mut bytes: &[u8]) -> Result<usize, String> {
    while !bytes.is_empty() {
        let (now, rest) = bytes.split_at(bytes.len().min(large_frame.len() - at));
        if now != &large_frame[at..at + now.len()] {
            return Err(format!("wrong data after byte {at} of a frame"));
        }
        at = (at + now.len()) % large_frame.len();
        bytes = rest;
    }
    Ok(at)
}

/// Bytes that a client with a stream reads per interval: 1 MiB/s.
const CHUNK_LEN: usize = 256 << 10;
const READ_INTERVAL: Duration = Duration::from_millis(250);
/// Timeout of the TLS handshake.
const TLS_TIMEOUT: Duration = Duration::from_secs(30);
