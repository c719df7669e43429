//! Servers that answer by a function of the request's head, and keep the heads: a backend that accepts everything, and
//! services whose answer decides.

use super::{Head, Wire, eventually, switching_protocols};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::TcpListener;

/// A server on a port of its own.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// What a recorder does with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Sends these bytes, and keeps the connection.
    Send(String),
    /// Sends these bytes, and closes the connection.
    Last(String),
    /// Sends the first part, and then the second one without end.
    Endless(String, &'static [u8]),
    /// Sends nothing.
    Silent,
}

type Respond = Box<dyn Fn(&Head) -> Reply + Send>;

struct Shared {
    respond: Mutex<Respond>,
    heads: Mutex<Vec<Head>>,
    connections: AtomicUsize,
}

// === impl Recorder ===

impl Recorder {
    /// Starts a backend that accepts WebSockets, which it keeps open, and answers other requests with 200.
    pub(crate) async fn backend() -> Recorder {
        Recorder::start(|head| {
            if head.get("upgrade").is_some() {
                Reply::Send(switching_protocols(head, ""))
            } else {
                Reply::Send(response("200 OK", "Content-Type: text/plain\r\n", "ok"))
            }
        })
        .await
    }

    pub(crate) async fn start(respond: impl Fn(&Head) -> Reply + Send + 'static) -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            respond: Mutex::new(Box::new(respond)),
            heads: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(Wire::thin(stream), accepting.clone()));
            }
        });
        Recorder { address, shared }
    }

    /// Replaces the answer to further requests.
    pub(crate) fn set(&self, respond: impl Fn(&Head) -> Reply + Send + 'static) {
        *self.shared.respond.lock().expect("not poisoned") = Box::new(respond);
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<Head> {
        self.shared.heads.lock().expect("not poisoned").clone()
    }

    /// The number of requests so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.heads.lock().expect("not poisoned").len()
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until this number of requests has arrived, and returns the last head.
    pub(crate) async fn last(&self, count: usize) -> Head {
        eventually(format!("{count} requests"), async || {
            let heads = self.heads();
            match heads.last() {
                Some(last) if heads.len() >= count => Ok(last.clone()),
                _ => Err(format!("{} requests", heads.len())),
            }
        })
        .await
    }
}

async fn serve(mut wire: Wire, shared: Arc<Shared>) {
    while wire.has_more().await {
        let head = wire.head().await;
        let reply = shared.respond.lock().expect("not poisoned")(&head);
        let is_session = matches!(&reply, Reply::Send(text) if text.starts_with("HTTP/1.1 101"));
        shared.heads.lock().expect("not poisoned").push(head);
        match reply {
            Reply::Send(text) => wire.send(text).await,
            Reply::Last(text) => return wire.send(text).await,
            Reply::Endless(first, part) => {
                wire.send(first).await;
                while wire.try_send(part).await.is_some() {}
                return;
            }
            Reply::Silent => std::future::pending().await,
        }
        if is_session {
            // Until a Close.
            while let Some(mut frame) = wire.next_frame().await {
                frame.masked = false;
                let last = frame.is_close();
                wire.send_frame(frame).await;
                if last {
                    return;
                }
            }
            return;
        }
    }
}

/// A response with further header lines and a body.
pub(crate) fn response(status: &str, more: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{more}\r\n{body}",
        body.len()
    )
}
