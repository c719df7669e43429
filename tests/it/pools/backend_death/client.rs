//! Clients that detect every error: a wrong echo, an excess byte, an unexpected Close.

use crate::harness::{Frame, How, Lockgate, Wire, handshake, within};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// The signals that all clients receive.
#[derive(Clone)]
pub(super) struct News {
    /// They are to leave.
    pub(super) stop: watch::Receiver<bool>,
    /// The process that was killed.
    pub(super) killed: watch::Receiver<Option<u32>>,
}

/// An open session, and the process that it came to.
pub(super) struct Session {
    wire: Wire,
    pub(super) process: u32,
}

/// How a session ended, of the ways in which it may.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ending {
    /// It was asked to leave, after so many echoes.
    Left(u64),
    /// It received 1011, between two frames, and TCP ended.
    Told(Instant),
    /// TCP ended in the middle of a frame, and not one byte of another came behind it.
    Cut(Instant),
}

/// One frame of a stream, as it is on the wire.
pub(super) fn large() -> Arc<[u8]> {
    let payload: Vec<u8> = (0..=255).cycle().take(8 << 20).collect();
    Frame::binary(&payload).encode().into()
}

// === impl Session ===

impl Session {
    /// Connects and performs the handshake; returns the reason if that fails.
    pub(super) async fn open(lockgate: &Lockgate, path: &str) -> Result<Session, String> {
        let tls = timeout(PATIENCE, lockgate.try_tls("a.test")).await;
        let tls = tls.map_err(|_| "TLS: too slow")?;
        // A single descriptor.
        let mut wire = Wire::stream(tls.map_err(|error| format!("TLS: {error}"))?);
        wire.send(handshake(path, "")).await;
        let head = wire.head().await;
        let process = head.get("x-process").and_then(|it| it.parse().ok());
        match (head.status(), process) {
            (101, Some(process)) => Ok(Session { wire, process }),
            (status, _) => Err(format!("status {status}")),
        }
    }

    /// Sends and checks echoes until it is to leave, or must.
    pub(super) async fn echo(mut self, pause: Duration, mut news: News) -> Result<Ending, String> {
        let mut echoes = 0;
        while !*news.stop.borrow_and_update() {
            let message = Frame::text(&format!("message {echoes} of a client of {}", self.process));
            self.wire.send_frame(message.clone()).await;
            let came = within("an echo", self.wire.next_frame()).await;
            if came.as_ref() != Some(&message) {
                return self.told(came).await;
            }
            echoes += 1;
            tokio::select! {
                came = self.wire.next_frame() => return self.told(came).await,
                _ = news.stop.changed() => {}
                () = sleep(pause) => {}
            }
        }
        let close = Frame::close(1000, "");
        self.wire.send_frame(close.clone()).await;
        let came = within("a Close", self.wire.next_frame()).await;
        match came == Some(close) {
            true => Ok(Ending::Left(echoes)),
            false => Err(format!("{came:?} where a Close was due")),
        }
    }

    async fn told(mut self, came: Option<Frame>) -> Result<Ending, String> {
        let at = Instant::now();
        let close = Frame::close(1011, "");
        if came.as_ref() != Some(&close) {
            return Err(format!("{came:?} of process {}", self.process));
        }
        self.wire.send_frame(close).await;
        let end = self.wire.end().await;
        match end.bytes.is_empty() && end.how == How::Fin {
            true => Ok(Ending::Told(at)),
            false => Err(format!("behind a Close: {end:?}")),
        }
    }

    /// Takes a stream of `large` frames, more slowly than it is sent: its backend is always in the middle of one.
    pub(super) async fn take(mut self, large: Arc<[u8]>, mut news: News) -> Result<Ending, String> {
        let (mut at, mut pieces) = (0, 0);
        while !*news.stop.borrow_and_update() {
            if *news.killed.borrow_and_update() == Some(self.process) {
                let end = self.wire.end().await;
                let ended = Instant::now();
                at = follow(&large, at, &end.bytes)?;
                return match (end.how, at) {
                    (How::Fin, 1..) => Ok(Ending::Cut(ended)),
                    (how, at) => Err(format!("a stream ended at byte {at}, {how:?}")),
                };
            }
            at = follow(&large, at, &self.wire.exactly(PIECE).await)?;
            pieces += 1;
            tokio::select! {
                _ = news.stop.changed() => {}
                _ = news.killed.changed() => {}
                () = sleep(PACE) => {}
            }
        }
        Ok(Ending::Left(pieces))
    }
}

/// Checks that `bytes` continue a stream of `large` frames at byte `at` of one; where they end.
fn follow(large: &[u8], mut at: usize, mut bytes: &[u8]) -> Result<usize, String> {
    while !bytes.is_empty() {
        let (now, rest) = bytes.split_at(bytes.len().min(large.len() - at));
        if now != &large[at..at + now.len()] {
            return Err(format!("another byte behind byte {at} of a frame"));
        }
        at = (at + now.len()) % large.len();
        bytes = rest;
    }
    Ok(at)
}

/// Of a client with a stream: 1 MiB/s.
const PIECE: usize = 256 << 10;
const PACE: Duration = Duration::from_millis(250);
/// Timeout of the TLS handshake.
const PATIENCE: Duration = Duration::from_secs(10);
