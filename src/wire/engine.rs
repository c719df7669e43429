//! The rustls connection, and the bytes that must be kept between two calls.

use super::{
    protocol_error,
    rest::PendingBytes,
    step::{StepOutcome, encode, step},
};
use rustls::{
    CommonState, Error, InvalidMessage,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncryptError, UnbufferedStatus, WriteTraffic},
};
use std::io;
use tokio::io::ReadBuf;

/// One TLS connection without its socket.
pub(super) struct TlsEngine {
    connection: UnbufferedServerConnection,
    /// Received part of an incomplete record, or of handshake messages whose last one is incomplete; until the first of
    /// these arrives, also early data that is skipped.
    pub(super) incoming: Vec<u8>,
    /// Decrypted bytes that were not read yet: those of one receive at most.
    pub(super) plain: PendingBytes,
    /// Records that the socket has not accepted yet.
    pub(super) outgoing: PendingBytes,
    pub(super) heard: ReadState,
    /// Whether close_notify was sent or is in `outgoing`: nothing follows it (RFC 8446 §6.1), not even output of
    /// rustls.
    pub(super) closed: bool,
}

/// State of the receiving direction.
#[derive(Debug)]
pub(super) enum ReadState {
    /// All received bytes were processed; more may follow.
    Open,
    /// close_notify was received; nothing will follow.
    Closed,
    /// EOF without close_notify.
    Truncated,
    /// The client violated the protocol. rustls processes no further input.
    Failed(Box<Error>),
}

// === impl TlsEngine ===

impl TlsEngine {
    pub(super) fn new(connection: UnbufferedServerConnection) -> Self {
        TlsEngine {
            connection,
            incoming: Vec::new(),
            plain: PendingBytes::default(),
            outgoing: PendingBytes::default(),
            heard: ReadState::Open,
            closed: false,
        }
    }

    pub(super) fn tls_state(&self) -> &CommonState {
        &self.connection
    }

    pub(super) fn buffered(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    /// Records an EOF of the socket.
    pub(super) fn on_eof(&mut self) {
        // The rest of `incoming` stays: rustls has recorded its position in it.
        self.heard = ReadState::Truncated;
    }

    /// Processes all records in `bytes`, which begin with `incoming`. Plaintext that does not fit into `out` is kept.
    pub(super) fn process_records(&mut self, bytes: &mut [u8], out: &mut ReadBuf<'_>) {
        let unsaid = &mut PendingBytes::default();
        let outgoing = if self.closed {
            unsaid
        } else {
            &mut self.outgoing
        };
        let mut done = 0;
        let ended = loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut bytes[done..]);
            let (more, step) = step(state, &mut self.plain, out, outgoing);
            done = (done + discard + more).min(bytes.len());
            match step {
                StepOutcome::Again => {}
                StepOutcome::Idle => break ReadState::Open,
                StepOutcome::ReadEnded(heard) => break heard,
            }
        };
        let rest = match ended {
            ReadState::Open => &bytes[done..],
            // Bytes after close_notify are ignored (RFC 8446 §6.1).
            _ => &[],
        };
        // A copy of exactly this size; an idle connection has none.
        self.incoming = rest.to_vec();
        if let ReadState::Failed(_) = ended {
            self.encode_all();
        } else if self.incoming.len() >= MAX_INCOMING {
            // The same bound as that of rustls' own buffer.
            return self.fail(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        self.heard = ended;
    }

    /// Encrypts `plain` into `room`; returns how many bytes of `plain` were encrypted.
    pub(super) fn encrypt(&mut self, plain: &[u8], room: &mut Vec<u8>) -> io::Result<usize> {
        let sealed = self.when_writable(|mut traffic| {
            loop {
                match traffic.encrypt(plain, room) {
                    Err(EncryptError::InsufficientSize(size)) => {
                        room.resize(size.required_size, 0);
                    }
                    sealed => break sealed,
                }
            }
        })?;
        sealed.map_err(|error| {
            // TLS 1.2 has no key update, so rustls sends close_notify.
            let error = Error::General(error.to_string());
            let told = protocol_error(&error);
            self.fail(error);
            told
        })
    }

    /// Queues close_notify as the last record, unless an alert was queued before.
    pub(super) fn close(&mut self) {
        // If the buffer is too small, the alert stays in rustls, which encodes it like its other output.
        let _ = self.when_writable(|mut traffic| traffic.queue_close_notify(&mut []));
        self.encode_all();
        self.closed = true;
    }

    /// Calls `write` once rustls has emitted the output that must precede it.
    fn when_writable<T>(
        &mut self,
        write: impl FnOnce(WriteTraffic<'_, ServerConnectionData>) -> T,
    ) -> io::Result<T> {
        loop {
            if let ReadState::Failed(error) = &self.heard {
                return Err(protocol_error(error));
            }
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.incoming);
            let (more, step) = match state {
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    let written = write(traffic);
                    self.discard(discard);
                    return Ok(written);
                }
                // close_notify was sent and received.
                Ok(ConnectionState::Closed) => return Err(io::ErrorKind::BrokenPipe.into()),
                state => {
                    let none = &mut ReadBuf::new(&mut []);
                    step(state, &mut self.plain, none, &mut self.outgoing)
                }
            };
            self.discard(discard + more);
            match step {
                StepOutcome::Again => {}
                // No traffic keys exist yet.
                StepOutcome::Idle => return Err(io::ErrorKind::NotConnected.into()),
                StepOutcome::ReadEnded(ReadState::Failed(error)) => self.fail(*error),
                StepOutcome::ReadEnded(heard) => self.heard = heard,
            }
        }
    }

    fn discard(&mut self, n: usize) {
        self.incoming.drain(..n.min(self.incoming.len()));
    }

    fn fail(&mut self, error: Error) {
        self.encode_all();
        self.incoming = Vec::new();
        self.heard = ReadState::Failed(Box::new(error));
    }

    /// Fetches the pending output of rustls, which comes before any input is read.
    fn encode_all(&mut self) {
        while !self.closed && self.connection.wants_write() {
            let status = self.connection.process_tls_records(&mut self.incoming);
            let Ok(ConnectionState::EncodeTlsData(data)) = status.state else {
                return;
            };
            encode(data, &mut self.outgoing);
        }
    }
}

/// Maximum length of the kept input; a record is far smaller.
const MAX_INCOMING: usize = 64 * 1024;
