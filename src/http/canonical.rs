//! The case of the handshake's header names on the connection to a backend.
//!
//! hyper writes a name as the client wrote it, or in title case: `sec-websocket-key`, `Sec-Websocket-Key`. Some old
//! Python servers compare case-sensitively with RFC 6455's `Sec-WebSocket-Key`, and hyper has no setting for that
//! spelling, so the bytes of the head are rewritten. Only the case of letters changes, so lengths stay the same.

use std::{
    io,
    pin::Pin,
    task::{self, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream whose first write is the head of a handshake.
#[derive(Debug)]
pub(super) struct HeaderCaseWriter<S> {
    io: S,
    head_written: bool,
}

// === impl HeaderCaseWriter ===

impl<S> HeaderCaseWriter<S> {
    pub(super) fn new(io: S) -> Self {
        HeaderCaseWriter {
            io,
            head_written: false,
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeaderCaseWriter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeaderCaseWriter<S> {
    /// Rewrites the head in the first write. hyper passes the whole head at once because this stream supports no
    /// vectored writes, and it is sent in one write because old servers read a head with one `recv`.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.head_written {
            return Pin::new(&mut self.io).poll_write(cx, buf);
        }
        let mut head = buf.to_vec();
        canonicalise(&mut head);
        let written = Pin::new(&mut self.io).poll_write(cx, &head);
        if matches!(written, Poll::Ready(Ok(n)) if n == buf.len()) {
            self.head_written = true;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Rewrites the managed header names of a head in the case of their RFCs.
fn canonicalise(head: &mut [u8]) {
    for line in head.split_mut(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = &mut line[..colon];
        if let Some(canonical) = CANONICAL
            .iter()
            .find(|canonical| canonical.as_bytes().eq_ignore_ascii_case(name))
        {
            name.copy_from_slice(canonical.as_bytes());
        }
    }
}

/// RFC 6455 §11.3, RFC 9110, RFC 7239, RFC 9440, and common practice.
const CANONICAL: [&str; 14] = [
    "Client-Cert",
    "Connection",
    "Forwarded",
    "Host",
    "Origin",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Version",
    "Upgrade",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_names_get_canonical_case_and_other_bytes_stay() {
        let mut head = *b"GET /host: HTTP/1.1\r\nhOST: A.test\r\nsec-websocket-key: x-real-ip: y\r\nx-MINE: Host: z\r\n\r\n";
        canonicalise(&mut head);
        let expected = b"GET /host: HTTP/1.1\r\nHost: A.test\r\nSec-WebSocket-Key: x-real-ip: y\r\nx-MINE: Host: z\r\n\r\n";
        assert_eq!(head, *expected);
    }
}
