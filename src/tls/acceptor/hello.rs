//! Reads the first bytes of a connection, up to the end of the ClientHello.

use std::io;

use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::tls::TlsError;

/// Reads a ClientHello and appends every byte read to `bytes`. Input that cannot be TLS is rejected first, because
/// rustls would answer it with an alert.
pub(super) async fn read<S>(stream: &mut S, bytes: &mut Vec<u8>) -> Result<Accepted, TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = Acceptor::default();
    loop {
        let old_len = bytes.len();
        bytes.reserve(READ_BUF_LEN);
        if stream.read_buf(bytes).await? == 0 {
            return Err(TlsError::Gone);
        }
        if old_len == 0 {
            sniff(bytes)?;
        }
        let mut unparsed = &bytes[old_len..];
        while !unparsed.is_empty() {
            // The acceptor copies the bytes into a buffer of limited size.
            if acceptor.read_tls(&mut unparsed)? == 0 {
                return Err(TlsError::Io(io::ErrorKind::OutOfMemory.into()));
            }
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(hello)) => return Ok(hello),
            Err((error, mut alert)) => {
                let mut alert_bytes = Vec::new();
                // A write error is ignored: the cause to report is the ClientHello.
                let _ = alert.write_all(&mut alert_bytes);
                let _ = stream.write_all(&alert_bytes).await;
                let _ = stream.flush().await;
                return Err(error.into());
            }
        }
    }
}

/// Classifies the first bytes of a stream: TLS, plain HTTP, or neither.
fn sniff(bytes: &[u8]) -> Result<(), TlsError> {
    let bytes = &bytes[..bytes.len().min(METHOD_PREFIX_LEN)];
    match bytes.first() {
        Some(&HANDSHAKE_RECORD) => Ok(()),
        Some(_)
            if METHOD_PREFIXES
                .iter()
                .any(|method| method.starts_with(bytes)) =>
        {
            Err(TlsError::PlainHttp)
        }
        _ => Err(TlsError::NotTls),
    }
}

/// The read size. The first flight of most clients is smaller.
const READ_BUF_LEN: usize = 2 * 1024;

/// The content type of a record that carries a ClientHello (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 22;

/// The length of the prefixes that identify plain HTTP.
const METHOD_PREFIX_LEN: usize = 4;

/// The first bytes of the HTTP methods and of the HTTP/2 preface (RFC 9113 §3.4).
const METHOD_PREFIXES: [&[u8]; 9] = [
    b"GET ", b"POST", b"HEAD", b"PUT ", b"PATC", b"DELE", b"OPTI", b"CONN", b"PRI ",
];
