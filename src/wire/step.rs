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
    let step = match state {
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    let fits = match plain.is_empty() {
                        true => record.payload.len().min(out.remaining()),
                        false => 0,
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
        // The code that drains `outgoing` sends it.
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
            "an unknown state of TLS".into(),
        )))),
        Err(error) => StepOutcome::ReadEnded(ReadState::Failed(Box::new(error))),
    };
    (discard, step)
}

pub(super) fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut PendingBytes) {
    // If the buffer is too small, the encoder returns the required size.
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        data.encode(&mut [])
    {
        outgoing.append_with(required_size, |room| {
            let encoded = data.encode(room);
            debug_assert!(encoded.is_ok_and(|size| size == required_size));
        });
    }
}
