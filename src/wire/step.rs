//! What rustls says, state by state.

use super::{engine::Heard, rest::Rest};
use rustls::{
    Error,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError},
};
use tokio::io::ReadBuf;

/// What one state of rustls came to.
pub(super) enum Step {
    /// It has more to say.
    Again,
    /// It wants more bytes.
    Idle,
    Ended(Heard),
}

/// Handles a state; says how many bytes are to be discarded besides.
pub(super) fn step<Data>(
    state: Result<ConnectionState<'_, '_, Data>, Error>,
    plain: &mut Rest,
    out: &mut ReadBuf<'_>,
    outgoing: &mut Rest,
) -> (usize, Step) {
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
                    plain.put(&record.payload[fits..]);
                }
                Some(Err(error)) => break Step::Ended(Heard::Broken(Box::new(error))),
                None => break Step::Again,
            }
        },
        Ok(ConnectionState::EncodeTlsData(data)) => {
            encode(data, outgoing);
            Step::Again
        }
        // Sent by whoever empties `outgoing`.
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Step::Again
        }
        Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => Step::Idle,
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Step::Ended(Heard::Closed),
        // Early data is never allowed, and of other states nothing is known.
        Ok(_) => Step::Ended(Heard::Broken(Box::new(Error::General(
            "an unknown state of TLS".into(),
        )))),
        Err(error) => Step::Ended(Heard::Broken(Box::new(error))),
    };
    (discard, step)
}

pub(super) fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut Rest) {
    // It tells its size to whoever has no room.
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        data.encode(&mut [])
    {
        outgoing.put_with(required_size, |room| {
            let encoded = data.encode(room);
            debug_assert!(encoded.is_ok_and(|size| size == required_size));
        });
    }
}
