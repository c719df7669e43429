//! One request on a connection, in a spelling that an attacker might try, and its result.

use super::client::Client;
use crate::harness::{
    Head, RawH2,
    raw_h2::{END_HEADERS, END_STREAM, HEADERS, HELLO, RST_STREAM, frame, hpack},
    within,
};
use rustls::{AlertDescription, ClientConfig};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Status(u16),
    /// A stream of HTTP/2 was reset.
    Reset,
    /// The handshake failed.
    Alert(AlertDescription),
    /// The connection ended without a response or an alert.
    Over,
}

/// The parts of a request, with unusual spellings.
#[derive(Debug, Clone)]
pub(super) struct Spelling {
    pub(super) name: String,
    /// The target of HTTP/1.1, the `:path` of HTTP/2.
    pub(super) target: &'static str,
    /// `:authority`; HTTP/1.1 has it in its target.
    pub(super) authority: Option<&'static str>,
    pub(super) hosts: Vec<&'static str>,
    pub(super) more: Vec<(&'static str, String)>,
}

impl Spelling {
    /// A request for this host in the usual form of the HTTP version.
    pub(super) fn of(host: &'static str, h2: bool) -> Spelling {
        Spelling {
            name: host.to_owned(),
            target: "/",
            authority: h2.then_some(host),
            hosts: if h2 { vec![] } else { vec![host] },
            more: vec![],
        }
    }

    pub(super) fn named(mut self, name: &str) -> Spelling {
        self.name = format!("{} {name}", self.name);
        self
    }

    pub(super) fn target(mut self, target: &'static str) -> Spelling {
        self.target = target;
        self.named(target)
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Spelling {
        self.more.push((name, value.into()));
        self
    }

    /// The bytes of a request, or of a WebSocket handshake.
    fn bytes(&self, h2: bool, websocket: bool) -> Vec<u8> {
        if h2 {
            self.frames(websocket)
        } else {
            self.text(websocket).into_bytes()
        }
    }

    fn text(&self, websocket: bool) -> String {
        let mut text = format!("GET {} HTTP/1.1\r\n", self.target);
        let hosts = self.hosts.iter().map(|host| ("Host", *host));
        let more = self.more.iter().map(|(name, value)| (*name, &**value));
        let upgrade: &[_] = if websocket {
            &[
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Version", "13"),
            ]
        } else {
            &[]
        };
        for (name, value) in hosts.chain(more).chain(upgrade.iter().copied()) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text + "\r\n"
    }

    fn frames(&self, websocket: bool) -> Vec<u8> {
        let mut list = if websocket {
            vec![(":method", "CONNECT"), (":protocol", "websocket")]
        } else {
            vec![(":method", "GET")]
        };
        list.push((":scheme", "https"));
        list.extend(self.authority.map(|it| (":authority", it)));
        list.push((":path", self.target));
        list.extend(self.hosts.iter().map(|it| ("host", *it)));
        list.extend(self.more.iter().map(|(name, value)| (*name, &**value)));
        let flags = if websocket { 0 } else { END_STREAM };
        let request = frame(HEADERS, END_HEADERS | flags, 1, &hpack(&list));
        [HELLO, &request].concat()
    }
}

/// Opens a connection and sends a request; also returns the kind of the TLS handshake.
pub(super) async fn send(
    client: Client,
    config: &Arc<ClientConfig>,
    to: SocketAddr,
    spelling: &Spelling,
    websocket: bool,
) -> (End, Option<rustls::HandshakeKind>) {
    let stream = match client.connect(config, to).await {
        Ok(stream) => stream,
        Err(error) => return (failed(&error), None),
    };
    let kind = stream.get_ref().1.handshake_kind();
    let bytes = spelling.bytes(client.h2, websocket);
    let end = if client.h2 {
        h2(stream, &bytes).await
    } else {
        h1(stream, &bytes).await
    };
    (end, kind)
}

/// Opens a connection and waits for an alert. Under TLS 1.3 a client learns only after its handshake that its
/// certificate was refused.
pub(super) async fn connect_and_wait(
    client: Client,
    config: &Arc<ClientConfig>,
    to: SocketAddr,
) -> End {
    match client.connect(config, to).await {
        Err(error) => failed(&error),
        Ok(mut stream) => match within("an alert", stream.read_u8()).await {
            Err(error) => failed(&error),
            Ok(_) => End::Over,
        },
    }
}

async fn h1(mut stream: TlsStream<TcpStream>, bytes: &[u8]) -> End {
    let answered = within("an answer", async {
        stream.write_all(bytes).await?;
        stream.flush().await?;
        let mut answer = vec![];
        loop {
            if let Some(end) = answer.windows(4).position(|it| it == b"\r\n\r\n") {
                return Ok(End::Status(Head::parse(&answer[..end + 4]).status()));
            }
            if stream.read_buf(&mut answer).await? == 0 {
                return Ok(End::Over);
            }
        }
    });
    answered.await.unwrap_or_else(|error| failed(&error))
}

async fn h2(stream: TlsStream<TcpStream>, bytes: &[u8]) -> End {
    let mut raw = RawH2::over(stream, bytes).await;
    while let Some(frame) = raw.frame().await {
        match frame.kind {
            HEADERS => return End::Status(frame.status()),
            RST_STREAM => return End::Reset,
            _ => {}
        }
    }
    End::Over
}

fn failed(error: &io::Error) -> End {
    let inner = error.get_ref().and_then(|it| it.downcast_ref());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => End::Alert(*alert),
        _ => End::Over,
    }
}
