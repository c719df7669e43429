//! Addresses that ignore connections, as behind a firewall that drops them, or refuse them.

use super::{Wire, switching_protocols};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

/// Connections that wait for [`Answering`] to accept them.
const BACKLOG: u16 = 1024;

/// A listening socket whose accept queue is full: the kernel ignores every SYN.
pub(crate) struct Dropping {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
    _queued: TcpStream,
}

/// An address that refuses connections: its socket is bound, so that no other process takes the port, and does not
/// listen.
pub(crate) struct Refusing {
    pub(crate) address: SocketAddr,
    _bound: TcpSocket,
}

/// A server that answers handshakes and plain requests.
pub(crate) struct Answering {
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

// === impl Dropping ===

impl Dropping {
    pub(crate) async fn new() -> Dropping {
        Dropping::at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Dropping {
        let listener = bind(address).listen(0).expect("it listens");
        let address = listener.local_addr().expect("bound");
        let queued = TcpStream::connect(address).await.expect("it is queued");
        Dropping {
            address,
            listener,
            _queued: queued,
        }
    }

    /// Accepts and answers connections from now on.
    pub(crate) fn answer(self) -> Answering {
        // With a queue of one, a connection that arrives before the last one was accepted would be ignored too.
        rustix::net::listen(&self.listener, BACKLOG.into()).expect("it listens already");
        Answering::on(self.listener)
    }
}

// === impl Refusing ===

impl Refusing {
    pub(crate) fn new() -> Refusing {
        let bound = bind((Ipv4Addr::LOCALHOST, 0).into());
        Refusing {
            address: bound.local_addr().expect("bound"),
            _bound: bound,
        }
    }
}

// === impl Answering ===

impl Answering {
    pub(crate) fn new() -> Answering {
        Answering::at((Ipv4Addr::LOCALHOST, 0).into())
    }

    pub(crate) fn at(address: SocketAddr) -> Answering {
        Answering::on(bind(address).listen(BACKLOG.into()).expect("it listens"))
    }

    fn on(listener: TcpListener) -> Answering {
        let address = listener.local_addr().expect("bound");
        let serving = async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(Wire::plain(stream)));
            }
        };
        Answering {
            address,
            accepting: tokio::spawn(serving),
        }
    }

    /// Stops listening, so that connections are refused, until [`Answering::at`] with the same address.
    pub(crate) async fn refuse(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    /// Stops listening; further connections are ignored.
    pub(crate) async fn drop_connections(mut self) -> Dropping {
        self.refuse().await;
        Dropping::at(self.address).await
    }
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.expect("a socket");
    socket.set_reuseaddr(true).expect("before it is bound");
    socket.bind(address).expect("a free port");
    socket
}

async fn answer(mut wire: Wire) {
    let request = wire.head().await;
    if request.get("sec-websocket-key").is_some() {
        wire.send(switching_protocols(&request, "")).await;
    } else {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            .await;
    }
    wire.end().await;
}
