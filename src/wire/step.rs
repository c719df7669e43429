//! Handling of the states of rustls' unbuffered API.

use super::{engine::ReadState, rest::PendingBytes};
use rustls::{
    Error,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError},
};
use tokio::io::ReadBuf;

/// Result of handling one state of rustls.
pub(super) enum StepOutcome {
    /// Another state is ready.
    Again,
    /// rustls needs more input.
    Idle,
    /// No further input will be processed.
    ReadEnded(ReadState),
}

/// Handles a state; returns how many further bytes must be discarded.
pub(super) fn step<Data>(
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

pub(super) fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut PendingBytes) {
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
