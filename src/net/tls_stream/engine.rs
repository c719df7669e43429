//! The rustls connection without its socket: the states of the unbuffered API, and the bytes that must be kept between
//! two calls.

use crate::net::tls_stream::buffers::PendingBytes;
use rustls::{
    CommonState, Error, InvalidMessage,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
        UnbufferedStatus, WriteTraffic,
    },
};
use std::io;
use tokio::io::ReadBuf;

/// One TLS connection without its socket.
pub(crate) struct TlsEngine {
    connection: UnbufferedServerConnection,
    /// The received part of an incomplete record or handshake message. During the handshake it may also contain early
    /// data that is skipped.
    pub(crate) incoming: Vec<u8>,
    /// Decrypted bytes that were not read yet: those of one receive at most.
    pub(crate) plain: PendingBytes,
    /// Records that the socket has not accepted yet.
    pub(crate) outgoing: PendingBytes,
    pub(crate) read_state: ReadState,
    /// Whether close_notify was sent or is in `outgoing`: nothing follows it (RFC 8446 §6.1), not even output of
    /// rustls.
    pub(crate) closed: bool,
}

/// State of the receiving direction.
#[derive(Debug)]
pub(crate) enum ReadState {
    /// All received bytes were processed; more may follow.
    Open,
    /// close_notify was received; nothing will follow.
    Closed,
    /// EOF without close_notify.
    Truncated,
    /// The client violated the protocol. rustls processes no further input.
    Failed(Box<Error>),
}

/// Result of handling one state of rustls.
enum StepOutcome {
    /// Another state is ready.
    Again,
    /// rustls needs more input.
    Idle,
    /// No further input will be processed.
    ReadEnded(ReadState),
}

// === impl TlsEngine ===

impl TlsEngine {
    pub(crate) fn new(connection: UnbufferedServerConnection) -> Self {
        TlsEngine {
            connection,
            incoming: Vec::new(),
            plain: PendingBytes::default(),
            outgoing: PendingBytes::default(),
            read_state: ReadState::Open,
            closed: false,
        }
    }

    pub(crate) fn tls_state(&self) -> &CommonState {
        &self.connection
    }

    /// Returns the capacity of all buffers, in bytes.
    pub(crate) fn buffered(&self) -> usize {
        self.incoming.capacity() + self.plain.capacity() + self.outgoing.capacity()
    }

    /// Records an EOF of the socket.
    pub(crate) fn on_eof(&mut self) {
        // `incoming` is kept: rustls has recorded its position in it.
        self.read_state = ReadState::Truncated;
    }

    /// Processes all records in `bytes`, which begin with `incoming`. Plaintext that does not fit into `out` is kept.
    pub(crate) fn process_records(&mut self, bytes: &mut [u8], out: &mut ReadBuf<'_>) {
        let dropped_output = &mut PendingBytes::default();
        let outgoing = if self.closed {
            dropped_output
        } else {
            &mut self.outgoing
        };
        let mut processed = 0;
        let ended = loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut bytes[processed..]);
            let (extra, outcome) = step(state, &mut self.plain, out, outgoing);
            processed = (processed + discard + extra).min(bytes.len());
            match outcome {
                StepOutcome::Again => {}
                StepOutcome::Idle => break ReadState::Open,
                StepOutcome::ReadEnded(read_state) => break read_state,
            }
        };
        let rest = match ended {
            ReadState::Open => &bytes[processed..],
            // Bytes after close_notify are ignored (RFC 8446 §6.1).
            _ => &[],
        };
        // An exact copy, which is empty for an idle connection.
        self.incoming = rest.to_vec();
        if let ReadState::Failed(_) = ended {
            self.encode_all();
        } else if self.incoming.len() >= MAX_INCOMING {
            // The same bound as that of rustls' own buffer.
            return self.fail(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        self.read_state = ended;
    }

    /// Encrypts `plain` into `scratch`; returns how many bytes of `plain` were encrypted.
    pub(crate) fn encrypt(&mut self, plain: &[u8], scratch: &mut Vec<u8>) -> io::Result<usize> {
        let result = self.when_writable(|mut traffic| {
            loop {
                match traffic.encrypt(plain, scratch) {
                    Err(EncryptError::InsufficientSize(size)) => {
                        scratch.resize(size.required_size, 0);
                    }
                    result => break result,
                }
            }
        })?;
        result.map_err(|error| {
            // The keys are exhausted and TLS 1.2 has no key update: rustls sends close_notify.
            let error = Error::General(error.to_string());
            let io_error = protocol_error(&error);
            self.fail(error);
            io_error
        })
    }

    /// Queues close_notify as the last record, unless an alert was queued before.
    pub(crate) fn close(&mut self) {
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
            if let ReadState::Failed(error) = &self.read_state {
                return Err(protocol_error(error));
            }
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.incoming);
            let (extra, outcome) = match state {
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
            self.discard(discard + extra);
            match outcome {
                StepOutcome::Again => {}
                // No traffic keys exist yet.
                StepOutcome::Idle => return Err(io::ErrorKind::NotConnected.into()),
                StepOutcome::ReadEnded(ReadState::Failed(error)) => self.fail(*error),
                StepOutcome::ReadEnded(read_state) => self.read_state = read_state,
            }
        }
    }

    fn discard(&mut self, n: usize) {
        self.incoming.drain(..n.min(self.incoming.len()));
    }

    fn fail(&mut self, error: Error) {
        self.encode_all();
        self.incoming = Vec::new();
        self.read_state = ReadState::Failed(Box::new(error));
    }

    /// Appends the pending output of rustls to `outgoing`; rustls returns it before it processes input.
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

/// Handles a state; returns how many further bytes must be discarded.
fn step<Data>(
    state: Result<ConnectionState<'_, '_, Data>, Error>,
    plain: &mut PendingBytes,
    out: &mut ReadBuf<'_>,
    outgoing: &mut PendingBytes,
) -> (usize, StepOutcome) {
    let mut discard = 0;
    let outcome = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    let fits = if plain.is_empty() {
                        record.payload.len().min(out.remaining())
                    } else {
                        0
                    };
                    out.put_slice(&record.payload[..fits]);
                    plain.append(&record.payload[fits..]);
                }
                Some(Err(error)) => {
                    break StepOutcome::ReadEnded(ReadState::Failed(Box::new(error)));
                }
                None => break StepOutcome::Again,
            }
        },
        Ok(ConnectionState::EncodeTlsData(data)) => {
            encode(data, outgoing);
            StepOutcome::Again
        }
        // The bytes are in `outgoing`, which the stream sends.
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            StepOutcome::Again
        }
        Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
            StepOutcome::Idle
        }
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
            StepOutcome::ReadEnded(ReadState::Closed)
        }
        // Early data is never enabled, and other states are unknown.
        Ok(_) => StepOutcome::ReadEnded(ReadState::Failed(Box::new(Error::General(
            "rustls returned an unknown connection state".into(),
        )))),
        Err(error) => StepOutcome::ReadEnded(ReadState::Failed(Box::new(error))),
    };
    (discard, outcome)
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut PendingBytes) {
    // The first call, with an empty buffer, returns the required size.
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        data.encode(&mut [])
    {
        outgoing.append_with(required_size, |buf| {
            let encoded = data.encode(buf);
            debug_assert!(encoded.is_ok_and(|size| size == required_size));
        });
    }
}

/// Returns the error of the stream for an error of rustls.
pub(crate) fn protocol_error(error: &Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}

/// Maximum length of the kept input; a record is far smaller.
const MAX_INCOMING: usize = 64 * 1024;
