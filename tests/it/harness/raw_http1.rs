//! One connection, read byte by byte.

use super::{Frame, within, within_from};
use socket2::{SockRef, Socket};
use std::{io::ErrorKind, net::Shutdown, panic::Location, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// A connection of a test, towards Lockgate or from it.
pub(crate) struct Wire {
    io: Box<dyn Io>,
    /// A second handle on the socket, which can send a reset or a FIN without close_notify.
    socket: Option<Socket>,
    /// Bytes that have been read, but not returned.
    buffer: Vec<u8>,
    /// Whether this end is a client, which masks its frames (RFC 6455 §5.1).
    masks: bool,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Everything until the end of the stream, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: EndKind,
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum EndKind {
    /// FIN, preceded by close_notify under TLS.
    Fin,
    /// FIN without close_notify.
    WithoutCloseNotify,
    /// A reset (RST).
    Reset,
}

/// The head of a request or a response, as received.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// The request line or the status line.
    pub(crate) start: String,
    /// The fields in order, with unchanged case.
    pub(crate) fields: Vec<(String, String)>,
}

// === impl Wire ===

impl Wire {
    /// The backend's end.
    pub(crate) fn plain(stream: TcpStream) -> Wire {
        let socket = SockRef::from(&stream)
            .try_clone()
            .expect("a descriptor is left");
        Wire {
            io: Box::new(stream),
            socket: Some(socket),
            buffer: vec![],
            masks: false,
        }
    }

    /// The backend's end with a single descriptor, for thousands of connections; it supports no reset.
    pub(crate) fn thin(stream: TcpStream) -> Wire {
        Wire {
            io: Box::new(stream),
            socket: None,
            buffer: vec![],
            masks: false,
        }
    }

    /// The backend's end of a stream other than TCP.
    pub(crate) fn backend(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Wire {
        Wire {
            masks: false,
            ..Wire::stream(io)
        }
    }

    /// The client's end.
    pub(crate) fn tls(stream: TlsStream<TcpStream>) -> Wire {
        let socket = SockRef::from(stream.get_ref().0)
            .try_clone()
            .expect("a descriptor is left");
        Wire {
            io: Box::new(stream),
            socket: Some(socket),
            buffer: vec![],
            masks: true,
        }
    }

    /// The client's end of a stream within another connection.
    pub(crate) fn stream(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Wire {
        Wire {
            io: Box::new(io),
            socket: None,
            buffer: vec![],
            masks: true,
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            let mut rest = bytes.as_ref();
            while !rest.is_empty() {
                let written = within_from(caller, "sending", self.io.write(rest)).await;
                rest = match written.expect("the peer reads") {
                    0 => panic!("the peer accepts no further bytes"),
                    n => &rest[n..],
                };
            }
            let flushed = within_from(caller, "sending", self.io.flush()).await;
            flushed.expect("the peer reads");
        }
    }

    #[track_caller]
    pub(crate) fn send_frame(&mut self, frame: Frame) -> impl Future<Output = ()> {
        let frame = if self.masks { frame.masked() } else { frame };
        self.send(frame.encode())
    }

    /// Sends a message to a server that echoes it, and waits for the echo.
    pub(crate) async fn echoes(&mut self) {
        self.send_frame(Frame::text("still here")).await;
        assert_eq!(self.frame().await, Frame::text("still here"));
    }

    /// The next head, up to and with the empty line.
    #[track_caller]
    pub(crate) fn head(&mut self) -> impl Future<Output = Head> {
        within("a head", async move {
            loop {
                if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                    let head = self.buffer.drain(..end + 4).collect::<Vec<_>>();
                    return Head::parse(&head);
                }
                self.more("a head").await;
            }
        })
    }

    /// Reads the next frame.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> impl Future<Output = Frame> {
        let caller = Location::caller();
        async move {
            loop {
                if let Some((frame, length)) = Frame::decode(&self.buffer) {
                    self.buffer.drain(..length);
                    return frame;
                }
                within_from(caller, "a frame", self.more("a frame")).await;
            }
        }
    }

    /// The next frame, without a deadline; `None` once the stream has ended.
    pub(crate) async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, length)) = Frame::decode(&self.buffer) {
                self.buffer.drain(..length);
                return Some(frame);
            }
            match self.io.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// The next frame, which is a text.
    #[track_caller]
    pub(crate) fn text(&mut self) -> impl Future<Output = String> {
        let frame = self.frame();
        async {
            let frame = frame.await;
            assert_eq!(frame.opcode, 1, "{frame:?}");
            String::from_utf8(frame.payload).expect("UTF-8")
        }
    }

    /// The first text message that contains `part`; earlier ones are skipped.
    #[track_caller]
    pub(crate) fn until(&mut self, part: &str) -> impl Future<Output = String> {
        within("a certain text", async move {
            loop {
                let text = self.text().await;
                if text.contains(part) {
                    break text;
                }
            }
        })
    }

    /// Reads exactly `length` bytes.
    #[track_caller]
    pub(crate) fn exactly(&mut self, length: usize) -> impl Future<Output = Vec<u8>> {
        let caller = Location::caller();
        async move {
            while self.buffer.len() < length {
                within_from(caller, "bytes", self.more("bytes")).await;
            }
            self.buffer.drain(..length).collect()
        }
    }

    /// A response's body by its framing (RFC 9112 §6.3).
    pub(crate) async fn body(&mut self, head: &Head) -> Vec<u8> {
        if head.get("transfer-encoding") == Some("chunked") {
            let mut body = vec![];
            loop {
                match self.chunk().await {
                    chunk if chunk.is_empty() => return body,
                    chunk => body.extend(chunk),
                }
            }
        }
        match head.get("content-length") {
            Some(length) => self.exactly(length.parse().expect("a number")).await,
            None => self.end().await.bytes,
        }
    }

    /// One chunk (RFC 9112 §7.1); empty for the last one.
    pub(crate) async fn chunk(&mut self) -> Vec<u8> {
        let size = self.line().await;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16)
            .expect("a chunk's size");
        let chunk = self.exactly(size).await;
        assert_eq!(self.line().await, "", "what follows a chunk");
        chunk
    }

    /// One line, without its end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> impl Future<Output = String> {
        within("a line", async move {
            loop {
                if let Some(end) = find(&self.buffer, b"\r\n") {
                    let line = self.buffer.drain(..end + 2).take(end).collect();
                    return String::from_utf8(line).expect("ASCII");
                }
                self.more("a line").await;
            }
        })
    }

    /// Reads to the end; returns all bytes and the kind of the end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> impl Future<Output = End> {
        within("the end of the stream", async move {
            let kind = loop {
                match self.io.read_buf(&mut self.buffer).await {
                    Ok(0) => break EndKind::Fin,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                        break EndKind::WithoutCloseNotify;
                    }
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                        break EndKind::Reset;
                    }
                    Err(error) => panic!("neither an end nor a reset: {error}"),
                }
            };
            End {
                bytes: std::mem::take(&mut self.buffer),
                kind,
            }
        })
    }

    /// Waits for further bytes, which stay unread; returns whether there are any before the stream ends.
    pub(crate) async fn has_more(&mut self) -> bool {
        let read = self.io.read_buf(&mut self.buffer).await;
        read.is_ok_and(|n| n > 0)
    }

    /// Writes `bytes` until the peer accepts none for `timeout`; returns the number of bytes written.
    pub(crate) async fn fill(&mut self, bytes: &[u8], timeout: Duration) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match tokio::time::timeout(timeout, self.io.write(&bytes[sent..])).await {
                Ok(written) => sent += written.expect("the peer is there"),
                Err(_) => break,
            }
        }
        sent
    }

    /// Writes some of `bytes`; returns `None` once the peer accepts no further bytes.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> Option<usize> {
        self.io.write(bytes).await.ok().filter(|n| *n > 0)
    }

    /// Flushes the bytes accepted by [`Wire::try_send`], if the peer still reads.
    pub(crate) async fn flush(&mut self) {
        let _ = within("sending", self.io.flush()).await;
    }

    pub(crate) fn is_client(&self) -> bool {
        self.masks
    }

    /// Closes the sending direction in order; this end can still read.
    pub(crate) async fn finish(&mut self) {
        within("finishing", self.io.shutdown())
            .await
            .expect("the peer reads");
    }

    /// A bare FIN: under TLS without close_notify.
    pub(crate) fn fin_without_close_notify(&self) {
        self.socket()
            .shutdown(Shutdown::Write)
            .expect("still connected");
    }

    /// Closes the connection with RST.
    pub(crate) fn reset(self) {
        self.socket()
            .set_linger(Some(Duration::ZERO))
            .expect("a TCP socket");
    }

    fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("not a thin one")
    }

    async fn more(&mut self, expected: &str) {
        let read = self.io.read_buf(&mut self.buffer).await;
        let received = String::from_utf8_lossy(&self.buffer);
        match read {
            Ok(0) => {
                panic!("the stream ended where {expected} was expected; before that: {received:?}")
            }
            Ok(_) => {}
            Err(error) => {
                panic!("{error} where {expected} was expected; before that: {received:?}")
            }
        }
    }
}

// === impl Head ===

impl Head {
    pub(crate) fn parse(bytes: &[u8]) -> Head {
        // Latin-1: header values may carry any byte above 0x7F (RFC 9110 §5.5).
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .map(|line| {
                line.split_once(':')
                    .unwrap_or_else(|| panic!("no field: {line:?}"))
            })
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Head { start, fields }
    }

    /// A response's status.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let word = self.start.split(' ').nth(1);
        word.and_then(|word| word.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {:?}", self.start))
    }

    /// The first value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Every value of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let of_name = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str()).collect()
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
