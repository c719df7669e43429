//! rustls, and what it needs to be kept between two calls.

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

/// One connection, without its socket.
pub(super) struct TlsEngine {
    connection: UnbufferedServerConnection,
    /// What has come of a record, or of handshake messages of which the last is not whole; and, until there is one, what was
    /// said early and is passed over.
    pub(super) incoming: Vec<u8>,
    /// What was decrypted and not asked for yet: of one receive at most.
    pub(super) plain: PendingBytes,
    /// Records that the socket did not take yet.
    pub(super) outgoing: PendingBytes,
    pub(super) heard: ReadState,
    /// close_notify is said, or in `outgoing`: nothing follows it (RFC 8446 §6.1), not even what rustls says.
    pub(super) closed: bool,
}

/// What the client has said.
#[derive(Debug)]
pub(super) enum ReadState {
    /// All that has come: more may follow.
    Open,
    /// close_notify: nothing will follow.
    Closed,
    /// EOF, without.
    Truncated,
    /// What may not be said. rustls is not asked to read any more.
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

    /// The socket says EOF.
    pub(super) fn on_eof(&mut self) {
        // What is left of `incoming` stays: rustls knows how far it has come in it.
        self.heard = ReadState::Truncated;
    }

    /// Takes all records in `bytes`, which begin with `incoming`. What does not fit into `out` is kept.
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
            // What follows is of no interest (RFC 8446 §6.1).
            _ => &[],
        };
        // A copy of its size: an idle connection has none.
        self.incoming = rest.to_vec();
        if let ReadState::Failed(_) = ended {
            self.encode_all();
        } else if self.incoming.len() >= MAX_INCOMING {
            // As rustls bounds its own buffer.
            return self.fail(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        self.heard = ended;
    }

    /// Encrypts `plain` into `room`; says how much of that it takes.
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
            // In 1.2 there are no new keys; rustls says close_notify.
            let error = Error::General(error.to_string());
            let told = protocol_error(&error);
            self.fail(error);
            told
        })
    }

    /// Says close_notify, unless there was an alert before. It is the last.
    pub(super) fn close(&mut self) {
        // For lack of room it stays with rustls, which has it encoded like all that is its own.
        let _ = self.when_writable(|mut traffic| traffic.queue_close_notify(&mut []));
        self.encode_all();
        self.closed = true;
    }

    /// Calls `write` once rustls has said what comes before.
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
                // close_notify has gone both ways.
                Ok(ConnectionState::Closed) => return Err(io::ErrorKind::BrokenPipe.into()),
                state => {
                    let none = &mut ReadBuf::new(&mut []);
                    step(state, &mut self.plain, none, &mut self.outgoing)
                }
            };
            self.discard(discard + more);
            match step {
                StepOutcome::Again => {}
                // There are no keys yet.
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

    /// Fetches what rustls has to say. It reads nothing: what it has to say comes first.
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

/// The most that is kept of what has come; a record is far smaller.
const MAX_INCOMING: usize = 64 * 1024;
