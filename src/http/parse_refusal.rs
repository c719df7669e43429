//! The response to a request that hyper cannot parse. hyper answers it without a body and without a call of the
//! service, so the response is replaced below hyper, and its status is recorded there.

use std::{
    io,
    pin::Pin,
    task::{self, Poll, ready},
};
use tokio::io::AsyncWrite;

/// A response that explains hyper's refusal; the connection closes after it.
#[derive(Debug)]
pub(crate) struct ParseRefusal {
    status: u16,
    response: Vec<u8>,
    sent: usize,
}

// === impl ParseRefusal ===

impl ParseRefusal {
    /// Creates the response with the status of hyper's own, which begins with `head`.
    pub(crate) fn new(head: &[u8]) -> Self {
        let status = head.get(STATUS_LINE.len()..STATUS_LINE.len() + 3);
        let status = status.and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
        let (status, phrase, text) = match status {
            Some(431) => (431, "Request Header Fields Too Large", TOO_LARGE),
            Some(414) => (414, "URI Too Long", TARGET_TOO_LONG),
            _ => (400, "Bad Request", MALFORMED),
        };
        let response = format!(
            "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
            text.len() + 1
        );
        ParseRefusal {
            status,
            response: response.into(),
            sent: 0,
        }
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Writes what is left of the response.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut task::Context<'_>,
        io: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while let rest @ [_, ..] = &self.response[self.sent..] {
            match ready!(Pin::new(&mut *io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The status line up to the status.
const STATUS_LINE: &[u8] = b"HTTP/1.1 ";

const MALFORMED: &str = "the request line or a header field is malformed; characters such as \" < > { } must be \
    percent-encoded in a URL (RFC 3986 section 2.1)";

const TOO_LARGE: &str =
    "the head of the request is larger than limits.head_size, or has more than 128 header fields";

const TARGET_TOO_LONG: &str = "the request target is longer than 65,534 bytes";
