//! The TLS handshake, from the ClientHello to a [`ServerStream`].

use super::{
    ServerStream,
    engine::{ReadState, TlsEngine},
    protocol_error, unexpected_eof,
};
use rustls::{ProtocolVersion, ServerConfig, server::UnbufferedServerConnection};
use std::{future::poll_fn, io, pin::Pin, sync::Arc, task::ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Performs the TLS handshake with a client whose first bytes are `hello`: all that was read from `io` so far. It waits
/// for the client without a time limit.
///
/// # Errors
/// Returns a [`rustls::Error`] inside an error of kind `InvalidData` once the alert was sent or sending it failed;
/// `UnexpectedEof`; or the error of `io`.
pub async fn accept<S>(
    io: S,
    mut hello: Vec<u8>,
    config: Arc<ServerConfig>,
) -> io::Result<Box<ServerStream<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
    // Boxed: every future that holds it would otherwise be as large.
    let mut stream = Box::new(ServerStream {
        io,
        engine: TlsEngine::new(connection),
        unsent: false,
    });
    stream
        .engine
        .process_records(&mut hello, &mut ReadBuf::new(&mut []));
    drop(hello);
    loop {
        if stream.has_early_application_data() {
            return Ok(stream);
        }
        let sent = poll_fn(|cx| {
            ready!(stream.poll_write_outgoing(cx))?;
            Pin::new(&mut stream.io).poll_flush(cx)
        });
        let sent = sent.await;
        match &stream.engine.read_state {
            // The cause is returned, not a failure to send the alert.
            ReadState::Failed(error) => return Err(protocol_error(error)),
            ReadState::Truncated => return Err(unexpected_eof()),
            ReadState::Open | ReadState::Closed => sent?,
        }
        if !stream.tls_state().is_handshaking() {
            return Ok(stream);
        }
        poll_fn(|cx| stream.poll_receive(cx, &mut ReadBuf::new(&mut []))).await?;
    }
}

impl<S> ServerStream<S> {
    /// Returns whether the client has sent application data already: tickets (RFC 8446 §4.6.1) are then sent with the
    /// response. Otherwise they are sent immediately and acknowledge its Finished: under Nagle's algorithm a client
    /// holds back its request until then, and a kernel that has nothing to send delays the acknowledgement by 40 ms.
    fn has_early_application_data(&self) -> bool {
        let tls_state = self.tls_state();
        matches!(self.engine.read_state, ReadState::Open)
            && !self.engine.plain.is_empty()
            && !tls_state.is_handshaking()
            && tls_state.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }
}
