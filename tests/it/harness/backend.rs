//! A backend that is controlled by the test.

use super::{Frame, Head, Wire, within};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::watch};

/// A listening socket: the test accepts connections, and reads and writes every byte itself.
pub(crate) struct Backend {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

// === impl Backend ===

impl Backend {
    pub(crate) async fn listen() -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        Backend { listener, address }
    }

    /// A backend that answers every handshake and sends every data frame and Ping back (as a Pong), until a Close.
    pub(crate) async fn echo() -> SocketAddr {
        let backend = Backend::listen().await;
        let address = backend.address;
        tokio::spawn(Self::echo_on(backend.listener));
        address
    }

    /// Serves echo sessions on this listener; sessions stay open when it is dropped.
    pub(crate) async fn echo_on(listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            // One descriptor per session, and no timeout.
            tokio::spawn(echo(Wire::thin(stream)));
        }
    }

    /// A backend that answers every handshake, and then sends and reads nothing.
    pub(crate) async fn quiet() -> SocketAddr {
        Self::scripted(|wire| async move {
            let _held = wire;
            std::future::pending::<()>().await;
        })
        .await
    }

    /// A backend that answers every handshake and then sends without end; also returns the number of bytes written.
    pub(crate) async fn flooding() -> (SocketAddr, watch::Receiver<u64>) {
        let (count, taken) = watch::channel(0_u64);
        let count = Arc::new(count);
        let frame: Arc<[u8]> = Frame::binary(&vec![0x55; 1 << 20]).encode().into();
        let address = Self::scripted(move |mut wire| {
            let (count, frame) = (count.clone(), frame.clone());
            async move {
                let mut sent = 0;
                while let Some(n) = wire.try_send(&frame[sent..]).await {
                    sent = (sent + n) % frame.len();
                    count.send_modify(|total| *total += n as u64);
                }
            }
        });
        (address.await, taken)
    }

    /// A backend that answers every handshake and then runs `script`.
    async fn scripted<F: Future<Output = ()> + Send + 'static>(
        script: impl Fn(Wire) -> F + Clone + Send + 'static,
    ) -> SocketAddr {
        let backend = Backend::listen().await;
        let address = backend.address;
        tokio::spawn(async move {
            while let Ok((stream, _)) = backend.listener.accept().await {
                let script = script.clone();
                tokio::spawn(async move {
                    let mut wire = Wire::thin(stream);
                    let request = wire.head().await;
                    wire.send(switching_protocols(&request, "")).await;
                    script(wire).await;
                });
            }
        });
        address
    }

    /// The next connection from Lockgate.
    #[track_caller]
    pub(crate) fn accept(&self) -> impl Future<Output = Wire> {
        within("a connection to the backend", async {
            let (stream, _) = self.listener.accept().await.expect("the listener lives");
            Wire::plain(stream)
        })
    }

    /// Accepts the next connection and answers its handshake; also returns the request.
    pub(crate) async fn accept_session(&self) -> (Wire, Head) {
        let mut wire = self.accept().await;
        let request = wire.head().await;
        wire.send(switching_protocols(&request, "")).await;
        (wire, request)
    }

    /// Returns whether no client has connected. `true` is reliable only once the response to a possible request has
    /// arrived.
    pub(crate) fn untouched(self) -> bool {
        let listener = self.listener.into_std().expect("still registered");
        matches!(listener.accept(), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

/// The valid 101 for a request (RFC 6455 §4.2.2); `more` are further header lines.
pub(crate) fn switching_protocols(request: &Head, more: &str) -> String {
    let key = request
        .get("sec-websocket-key")
        .expect("a handshake has a key");
    let accept = STANDARD.encode(Sha1::digest(format!(
        "{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    )));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
}

async fn echo(mut wire: Wire) {
    let request = wire.head().await;
    let offered = request
        .get("sec-websocket-protocol")
        .and_then(|list| list.split(',').next());
    let more = offered.map_or(String::new(), |first| {
        format!("Sec-WebSocket-Protocol: {}\r\n", first.trim())
    });
    wire.send(switching_protocols(&request, &more)).await;
    while let Some(mut frame) = wire.next_frame().await {
        frame.masked = false;
        let last = frame.is_close();
        if frame.opcode == 0x9 {
            frame = Frame::pong(&frame.payload);
        }
        wire.send_frame(frame).await;
        if last {
            return;
        }
    }
}
