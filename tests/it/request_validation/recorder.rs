//! A backend that records its requests, parses them strictly, and reports every defect.

use crate::harness::{Frame, Head, switching_protocols};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A request as the backend received it.
#[derive(Debug, Clone)]
pub(crate) struct RecordedRequest {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// Whether it was received completely; also true for a head that breaks off.
    pub(crate) complete: bool,
}

/// All requests so far, in the order in which their reception ended.
pub(crate) type Recording = watch::Receiver<Vec<RecordedRequest>>;

/// A backend that answers everything: a handshake with a 101 and a Close, the rest with an empty 200.
pub(crate) async fn recorder() -> (SocketAddr, Recording) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (sender, record) = watch::channel(vec![]);
    let sender = Arc::new(sender);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = Connection {
                stream,
                buffer: vec![],
            };
            tokio::spawn(connection.answer(sender.clone()));
        }
    });
    (address, record)
}

/// A connection to the backend.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

// === impl Asked ===

impl Connection {
    async fn answer(mut self, record: Arc<watch::Sender<Vec<RecordedRequest>>>) {
        // hyper closes idle pooled connections, so that an end before the first byte is not recorded.
        while let Some(seen) = self.request().await {
            let answer = match (seen.complete, seen.head.get("upgrade")) {
                (true, None) => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(),
                (true, Some(_)) => switching_protocols(&seen.head, ""),
                (false, _) => String::new(),
            };
            let session = answer.starts_with("HTTP/1.1 101");
            record.send_modify(|all| all.push(seen));
            let close = if session {
                Frame::close(1000, "").encode()
            } else {
                vec![]
            };
            let answer = [answer.as_bytes(), &close].concat();
            if answer.is_empty() || self.stream.write_all(&answer).await.is_err() {
                return;
            }
            if session {
                // Frames follow.
                while let Ok(1..) = self.stream.read_buf(&mut self.buffer).await {}
                return;
            }
        }
    }

    /// The next request; `None` at an end without one.
    async fn request(&mut self) -> Option<RecordedRequest> {
        let Some(head) = self.until(b"\r\n\r\n").await else {
            let partial = String::from_utf8_lossy(&self.buffer);
            return (!partial.is_empty()).then(|| RecordedRequest {
                head: Head {
                    start: format!("half a head: {partial:?}"),
                    fields: vec![],
                },
                body: vec![],
                complete: true,
            });
        };
        let head = Head::parse(&head);
        let mut body = vec![];
        let complete = self.body(&head, &mut body).await.is_some();
        Some(RecordedRequest {
            head,
            body,
            complete,
        })
    }

    /// Returns `None` if the body breaks off or its framing is invalid.
    async fn body(&mut self, head: &Head, body: &mut Vec<u8>) -> Option<()> {
        if head.get("transfer-encoding").is_none() {
            let length = head
                .get("content-length")
                .map_or(Some(0), |it| it.parse().ok())?;
            *body = self.exactly(length).await?;
            return Some(());
        }
        loop {
            let size = String::from_utf8(self.until(b"\r\n").await?).ok()?;
            let size = usize::from_str_radix(size.trim_end_matches("\r\n"), 16).ok()?;
            let mut chunk = self.exactly(size + 2).await?;
            if !chunk.ends_with(b"\r\n") {
                return None;
            }
            if size == 0 {
                return Some(());
            }
            chunk.truncate(size);
            body.extend(chunk);
        }
    }

    async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self.buffer.windows(mark.len()).position(|it| it == mark);
            if let Some(at) = found {
                return Some(self.buffer.drain(..at + mark.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        Some(self.buffer.drain(..length).collect())
    }

    async fn more(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(1..) => Some(()),
            _ => None,
        }
    }
}

// === impl Seen ===

impl RecordedRequest {
    /// Defects that a forwarded request must never have, whatever the client sent.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = vec![];
        let mut check = |fine: bool, what: &str| {
            if !fine {
                faults.push(what.to_owned());
            }
        };
        let count = |name: &str| self.head.all(name).len();
        let words: Vec<&str> = self.head.start.split(' ').collect();
        check(
            matches!(words[..], [_, _, "HTTP/1.1"]),
            "the request line is not of three words",
        );
        let path = words.get(1).and_then(|target| target.split('?').next());
        let path = path.unwrap_or_default();
        check(path.starts_with('/'), "the target is no path");
        let dots = |it: &str| matches!(it, "." | "..");
        check(!path.split('/').any(dots), "the path has dot segments");
        let printed = path.bytes().all(|byte| byte.is_ascii_graphic());
        check(
            printed && !path.contains(['\\', '#']),
            "the path has a character that it may not have",
        );
        for name in [
            "host",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-real-ip",
            "forwarded",
        ] {
            check(count(name) == 1, &format!("{} × {name}", count(name)));
        }
        for name in HOP_BY_HOP {
            check(count(name) == 0, &format!("{name} is for one hop"));
        }
        let framings = count("content-length") + count("transfer-encoding");
        check(framings <= 1, &format!("{framings} framings"));
        match self.head.get("upgrade") {
            Some(_) => {
                check(self.head.all("upgrade") == ["websocket"], "upgrade");
                check(self.head.all("connection") == ["Upgrade"], "connection");
                for name in ["sec-websocket-key", "sec-websocket-version"] {
                    check(count(name) == 1, &format!("{} × {name}", count(name)));
                }
                check(framings == 0, "a handshake with a body");
            }
            None => check(count("connection") == 0, "connection is for one hop"),
        }
        for (name, value) in &self.head.fields {
            let token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
            let named = !name.is_empty() && name.bytes().all(token);
            check(named, &format!("{name:?} is no name"));
            // The value is as received: some parsers take a bare `\r` or `\n` for the end of a line.
            let control = |it: char| it.is_ascii_control() && it != '\t';
            check(
                !value.contains(control),
                &format!("{name} has a control character"),
            );
            let twin = name.replace('_', "-").to_ascii_lowercase();
            let twin = name.contains('_')
                && (TWINS.contains(&&*twin) || twin.starts_with("sec-websocket-"));
            check(!twin, &format!("{name} can be taken for another"));
        }
        faults
    }
}

const HOP_BY_HOP: [&str; 8] = [
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "expect",
];

const TWINS: [&str; 6] = [
    "content-length",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];
