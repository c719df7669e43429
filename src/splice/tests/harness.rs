//! Test harness: a session between two pipes, whose far ends are held by the test.

use crate::{
    net::socket::Transport,
    observe::metrics::Metrics,
    proto::{
        frame::{FrameHeader, apply_mask},
        frame_tracker::{Bounds, RsvBits},
    },
    registry::{SessionRef, SessionRegistry, SessionTarget},
    splice::{
        keepalive::PingPolicy,
        leg::LegIo,
        limits::SessionLimits,
        outcome::Outcome,
        rate_limit::{OverRateAction, RateLimit},
        run,
        session::SpliceLegs,
    },
};
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// A running session and the handles to control it.
pub(crate) struct Rig {
    pub(crate) client: TestPeer,
    pub(crate) backend: TestPeer,
    pub(crate) limits: watch::Sender<SessionLimits>,
    pub(crate) sessions: Arc<SessionRegistry>,
    metrics: Arc<Metrics>,
    pub(crate) started: Instant,
    /// Number of polls of the session, to detect busy loops.
    pub(crate) polls: Arc<AtomicU64>,
    session: JoinSet<Outcome>,
}

/// The parameters of a session; by default without Pings and limits.
pub(crate) struct Builder {
    pub(crate) client_pipe: usize,
    pub(crate) backend_pipe: usize,
    pub(crate) client_early: Vec<u8>,
    pub(crate) backend_early: Vec<u8>,
    pub(crate) reserved: RsvBits,
    pub(crate) limits: SessionLimits,
    pub(crate) sessions: Arc<SessionRegistry>,
}

/// The far end of a leg: a client or a backend.
pub(crate) struct TestPeer {
    pub(crate) pipe: DuplexStream,
    pub(crate) wire: Arc<WireState>,
    masks: bool,
    got: Vec<u8>,
}

/// A received frame with its payload unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) masked: bool,
    pub(crate) raw: Vec<u8>,
}

/// The near end of a leg, given to the session.
pub(crate) struct Wire {
    pipe: DuplexStream,
    bytes_accepted: u64,
    state: Arc<WireState>,
}

/// Observations of a wire, and faults injected by the test.
#[derive(Default)]
pub(crate) struct WireState {
    /// Number of bytes that the session has read from this leg.
    pub(crate) received: AtomicU64,
    was_reset: AtomicBool,
    reads_fail: AtomicBool,
    writes_fail: AtomicBool,
    hung_up: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

// === impl Builder ===

impl Default for Builder {
    fn default() -> Self {
        Builder {
            client_pipe: 64 * 1024,
            backend_pipe: 64 * 1024,
            client_early: Vec::new(),
            backend_early: Vec::new(),
            reserved: RsvBits::None,
            limits: SessionLimits {
                bounds: Bounds {
                    max_frame: u64::MAX,
                    max_message: u64::MAX,
                    max_fragments: u32::MAX,
                },
                rate: RateLimit {
                    messages: 0,
                    frames: 0,
                    bytes: 0,
                    over: OverRateAction::Pause,
                },
                close_timeout: CLOSE_TIMEOUT,
                client_ping: None,
                backend_ping: None,
                max_age: None,
                max_idle: None,
                slow_reader: None,
                answer_backend_ping: None,
                backend_gone_code: 1011,
            },
            sessions: Arc::default(),
        }
    }
}

impl Builder {
    /// Sets the capacity of both pipes in each direction.
    pub(crate) fn pipes(mut self, bytes: usize) -> Self {
        (self.client_pipe, self.backend_pipe) = (bytes, bytes);
        self
    }

    pub(crate) fn limits(mut self, change: impl FnOnce(&mut SessionLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    /// Enables keepalive Pings on the client leg.
    pub(crate) fn ping_client(self) -> Self {
        self.limits(|limits| limits.client_ping = Some(PING))
    }

    pub(crate) fn start(self) -> Rig {
        let (client, client_wire) = TestPeer::new(self.client_pipe, true);
        let (backend, backend_wire) = TestPeer::new(self.backend_pipe, false);
        self.start_over(client, client_wire, backend, backend_wire)
    }

    /// Starts the session over the given streams.
    pub(crate) fn start_over<C, B>(self, client: TestPeer, c: C, backend: TestPeer, b: B) -> Rig
    where
        C: LegIo + Send + 'static,
        B: LegIo + Send + 'static,
    {
        let legs = SpliceLegs {
            client: c,
            client_early: Bytes::from(self.client_early),
            backend: b,
            backend_early: Bytes::from(self.backend_early),
            reserved: self.reserved,
        };
        let (limits, limits_source) = watch::channel(self.limits);
        let metrics = Arc::new(Metrics::new());
        let (handle, flow) = (
            self.sessions.open(session_target()),
            metrics.live_sessions().clone(),
        );
        let mut future = Box::pin(run(legs, limits_source, handle, flow, |_| {}));
        let polls = Arc::new(AtomicU64::new(0));
        let count = polls.clone();
        let mut session = JoinSet::new();
        session.spawn(poll_fn(move |cx| {
            count.fetch_add(1, SeqCst);
            future.as_mut().poll(cx)
        }));
        Rig {
            client,
            backend,
            limits,
            sessions: self.sessions,
            metrics,
            started: Instant::now(),
            polls,
            session,
        }
    }
}

// === impl Rig ===

impl Rig {
    /// Starts a session with the default parameters.
    pub(crate) fn start() -> Rig {
        Builder::default().start()
    }

    /// Returns the time since the session began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the value of the sample with this name and labels on the metrics page.
    pub(crate) fn metric(&self, sample: &str) -> String {
        let page = self.metrics.encode();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in\n{page}"))
            .to_owned()
    }

    /// Returns the session's entry in the registry.
    pub(crate) fn entry(&self) -> SessionRef {
        self.sessions.matching(|_| true).remove(0)
    }

    /// Waits for the session task to finish and returns the outcome.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        timeout(STALLED, self.session.join_next())
            .await
            .expect("the session never ends")
            .expect("the outcome was requested twice")
            .expect("the session panicked")
    }

    /// Returns the outcome as words: initiator, reason, close code.
    pub(crate) async fn end(&mut self) -> (&'static str, &'static str, Option<u16>) {
        let outcome = self.outcome().await;
        (outcome.by.as_str(), outcome.why.as_str(), outcome.code)
    }

    /// Returns whether the session task is still running.
    pub(crate) fn is_running(&mut self) -> bool {
        self.session.try_join_next().is_none()
    }
}

// === impl TestPeer ===

impl TestPeer {
    pub(crate) fn new(pipe: usize, masks: bool) -> (TestPeer, Wire) {
        let (far, near) = duplex(pipe);
        let state = Arc::new(WireState::default());
        let wire = Wire {
            pipe: near,
            bytes_accepted: 0,
            state: state.clone(),
        };
        let far = TestPeer {
            pipe: far,
            wire: state,
            masks,
            got: Vec::new(),
        };
        (far, wire)
    }

    /// Returns a frame, masked as this side must.
    pub(crate) fn frame(&self, first: u8, payload: &[u8]) -> Vec<u8> {
        frame(first, payload, self.masks)
    }

    pub(crate) fn close(&self, code: u16, reason: &str) -> Vec<u8> {
        self.frame(CLOSE, &close_payload(code, reason))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        timeout(STALLED, self.pipe.write_all(bytes))
            .await
            .expect("the session does not read the bytes")
            .expect("the session has dropped this leg");
    }

    /// Sends a frame and returns its bytes.
    pub(crate) async fn send_frame(&mut self, first: u8, payload: &[u8]) -> Vec<u8> {
        let frame = self.frame(first, payload);
        self.send(&frame).await;
        frame
    }

    /// Sends byte by byte; each byte is read before the next is sent.
    pub(crate) async fn send_bytewise(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(&[*byte]).await;
            settle().await;
        }
    }

    /// Reads exactly these bytes.
    pub(crate) async fn expect(&mut self, bytes: &[u8]) {
        while self.got.len() < bytes.len() {
            assert!(self.fill().await, "EOF after {:02x?}", self.got);
        }
        let rest = self.got.split_off(bytes.len());
        assert!(
            self.got == bytes,
            "got {:02x?}…, expected {:02x?}…",
            &self.got[..bytes.len().min(64)],
            &bytes[..bytes.len().min(64)]
        );
        self.got = rest;
    }

    /// Reads the next frame.
    pub(crate) async fn next(&mut self) -> Frame {
        loop {
            let parsed = FrameHeader::parse(&self.got).expect("a frame of RFC 6455");
            if let Some(header) = parsed
                && self.got.len() >= header.len + header.payload_len as usize
            {
                let end = header.len + header.payload_len as usize;
                let rest = self.got.split_off(end);
                let raw = std::mem::replace(&mut self.got, rest);
                let mut payload = raw[header.len..].to_vec();
                if let Some(key) = header.mask {
                    apply_mask(&mut payload, key);
                }
                return Frame {
                    first: raw[0],
                    payload,
                    masked: header.mask.is_some(),
                    raw,
                };
            }
            assert!(self.fill().await, "EOF after {:02x?}", self.got);
        }
    }

    /// Reads a Close with this code and no reason, masked as its sender must.
    pub(crate) async fn expect_close(&mut self, code: u16) {
        let frame = self.next().await;
        assert_eq!(
            (frame.first, frame.payload.as_slice(), frame.masked),
            (CLOSE, code.to_be_bytes().as_slice(), !self.masks)
        );
    }

    /// Reads a Ping and returns its payload.
    pub(crate) async fn expect_ping(&mut self) -> Vec<u8> {
        let frame = self.next().await;
        assert_eq!((frame.first, frame.masked), (PING_FRAME, !self.masks));
        frame.payload
    }

    /// Reads EOF, with no byte before it.
    pub(crate) async fn expect_eof(&mut self) {
        let more = self.fill().await;
        assert!(!more && self.got.is_empty(), "got {:02x?}", self.got);
    }

    /// Checks that nothing arrives within `span`, not even EOF.
    pub(crate) async fn expect_nothing(&mut self, span: Duration) {
        assert!(self.got.is_empty(), "got {:02x?}", self.got);
        let read = timeout(span, self.pipe.read_buf(&mut self.got)).await;
        assert!(read.is_err(), "got {:02x?} ({read:?})", self.got);
    }

    /// Sends a FIN: the peer sends nothing further but still reads.
    pub(crate) async fn half_close(&mut self) {
        self.pipe.shutdown().await.expect("a pipe can be shut");
    }

    /// Reads once into the buffer. Returns false at EOF.
    async fn fill(&mut self) -> bool {
        timeout(STALLED, self.pipe.read_buf(&mut self.got))
            .await
            .unwrap_or_else(|_| panic!("stalled after {:02x?}", self.got))
            .expect("a pipe does not fail")
            > 0
    }
}

// === impl WireState ===

impl WireState {
    pub(crate) fn was_reset(&self) -> bool {
        self.was_reset.load(SeqCst)
    }

    /// Makes the session's reads fail, as after a reset.
    pub(crate) fn fail_reads(&self) {
        self.reads_fail.store(true, SeqCst);
        self.reader.wake();
    }

    /// Reports a disconnect that is visible although earlier input is unread; it wakes no task.
    pub(crate) fn hang_up(&self) {
        self.hung_up.store(true, SeqCst);
    }

    /// Makes the session's writes fail; its reads stay pending.
    pub(crate) fn fail_writes(&self) {
        self.writes_fail.store(true, SeqCst);
        self.writer.wake();
    }
}

// === impl Wire ===

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.state.reader.register(cx.waker());
        if self.state.reads_fail.load(SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.pipe).poll_read(cx, buf);
        let more = buf.filled().len() - before;
        self.state.received.fetch_add(more as u64, SeqCst);
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.state.writer.register(cx.waker());
        if self.state.writes_fail.load(SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = Pin::new(&mut self.pipe).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = written {
            self.bytes_accepted += n as u64;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

impl Transport for Wire {
    fn bytes_accepted(&self) -> u64 {
        self.bytes_accepted
    }

    fn reset(&self) {
        self.state.was_reset.store(true, SeqCst);
    }

    fn poll_hang_up(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.state.hung_up.load(SeqCst) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl LegIo for Wire {}

/// Returns a frame with the shortest encoding of its length.
pub(crate) fn frame(first: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut bytes = head(first, payload.len() as u64, masked);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    if masked {
        apply_mask(&mut bytes[start..], KEY);
    }
    bytes
}

/// Returns only the header of a frame with `len` bytes of payload.
pub(crate) fn head(first: u8, len: u64, masked: bool) -> Vec<u8> {
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(len as u8 | mask_bit),
        126..=0xFFFF => {
            bytes.push(126 | mask_bit);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(127 | mask_bit);
            bytes.extend_from_slice(&len.to_be_bytes());
        }
    }
    if masked {
        bytes.extend_from_slice(&KEY);
    }
    bytes
}

pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// Lets the session do all pending work: paused time advances only when every task is idle.
pub(crate) async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

/// Checks that `span` is `expected`, up to a few ticks of the timer more.
#[track_caller]
pub(crate) fn assert_span(span: Duration, expected: Duration) {
    assert!(
        span >= expected && span <= expected + Duration::from_millis(3),
        "{span:?}, expected {expected:?}"
    );
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const TEXT: u8 = 0x81;

pub(crate) const BINARY: u8 = 0x82;

pub(crate) const CLOSE: u8 = 0x88;

pub(crate) const PING_FRAME: u8 = 0x89;

pub(crate) const PONG: u8 = 0x8A;

pub(crate) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const CLOSE_TIMEOUT: Duration = secs(5);

pub(crate) const PING: PingPolicy = PingPolicy {
    interval: secs(30),
    timeout: secs(20),
};

/// Deadline in paused time, after which a test fails.
const STALLED: Duration = secs(86_400);

/// Target of the session in the registry.
fn session_target() -> SessionTarget {
    SessionTarget {
        route: "chat".into(),
        backend: "ws://127.0.0.1:1".into(),
        pool_entry: "ws://127.0.0.1:1".into(),
    }
}
