//! What rustls says, state by state.

use super::{engine::ReadState, rest::PendingBytes};
use rustls::{
    Error,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError},
};
use tokio::io::ReadBuf;

/// What one state of rustls came to.
pub(super) enum StepOutcome {
    /// It has more to say.
    Again,
    /// It wants more bytes.
    Idle,
    ReadEnded(ReadState),
}

/// Handles a state; says how many bytes are to be discarded besides.
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
        // Sent by whoever empties `outgoing`.
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
        // Early data is never allowed, and of other states nothing is known.
        Ok(_) => StepOutcome::ReadEnded(ReadState::Failed(Box::new(Error::General(
            "an unknown state of TLS".into(),
        )))),
        Err(error) => StepOutcome::ReadEnded(ReadState::Failed(Box::new(error))),
    };
    (discard, step)
}

pub(super) fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut PendingBytes) {
    // It tells its size to whoever has no room.
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        data.encode(&mut [])
    {
        outgoing.append_with(required_size, |room| {
            let encoded = data.encode(room);
            debug_assert!(encoded.is_ok_and(|size| size == required_size));
        });
    }
}
