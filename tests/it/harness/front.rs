//! A proxy in front of Pebble that simulates faults of a CA's API and of the network.

mod answer;

use super::{
    Pebble,
    web::{Failure, fetch},
};
pub(crate) use answer::Answer;
use bytes::Bytes;
use http::{Request, Response, Uri, header::TRANSFER_ENCODING};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use socket2::SockRef;
use std::{
    future::pending,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// A port in front of Pebble's API. Pebble builds its URLs from the request's Host, so that clients keep using this
/// port.
pub(crate) struct Front {
    port: u16,
    fault: watch::Sender<Fault>,
    inner: Arc<Inner>,
    accepting: JoinHandle<()>,
}

/// The fault that applies to a connection.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// No fault: bytes are relayed to Pebble.
    Pass,
    /// The connection is reset at once.
    Refuse,
    /// No response; the connection stays open.
    Silent,
    /// The same response to every request.
    Answer(Answer),
    /// The response to requests whose path contains this text; others are forwarded to Pebble.
    Late(&'static str, Answer),
}

struct Inner {
    /// Port of Pebble's API.
    port: u16,
    ca: PathBuf,
    /// Presents the certificate of the API.
    acceptor: TlsAcceptor,
    connections: AtomicUsize,
    answered: AtomicUsize,
}

// === impl Front ===

impl Front {
    /// Starts a front without a fault.
    pub(crate) async fn before(pebble: &Pebble) -> Front {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port is free");
        let port = listener.local_addr().expect("bound").port();
        let inner = Arc::new(Inner {
            port: pebble.port(),
            ca: pebble.ca(),
            acceptor: acceptor(pebble.folder()),
            connections: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
        });
        let (fault, faults) = watch::channel(Fault::Pass);
        let accepting = tokio::spawn(accept(listener, inner.clone(), faults));
        Front {
            port,
            fault,
            inner,
            accepting,
        }
    }

    /// The URL of the directory through this front.
    pub(crate) fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// Closes open connections and applies `fault` to new ones.
    pub(crate) fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.inner.connections.load(SeqCst)
    }

    /// Number of requests that received an [`Answer`] so far.
    pub(crate) fn answered(&self) -> usize {
        self.inner.answered.load(SeqCst)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

// === impl Inner ===

impl Inner {
    async fn serve(&self, mut stream: TcpStream, fault: Fault) {
        let (late, answer) = match fault {
            Fault::Pass => {
                if let Ok(mut api) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await {
                    let _ = copy_bidirectional(&mut stream, &mut api).await;
                }
                return;
            }
            Fault::Refuse => {
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                return;
            }
            Fault::Silent => pending().await,
            Fault::Answer(answer) => ("", answer),
            Fault::Late(part, answer) => (part, answer),
        };
        let Ok(tls) = self.acceptor.accept(stream).await else {
            return;
        };
        let service = service_fn(|request| self.answer(request, late, &answer));
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(tls), service)
            .await;
    }

    async fn answer(
        &self,
        mut request: Request<Incoming>,
        late: &str,
        answer: &Answer,
    ) -> Result<Response<Full<Bytes>>, Failure> {
        if request.uri().path().contains(late) {
            self.answered.fetch_add(1, SeqCst);
            return answer.response();
        }
        // The Host header is unchanged.
        let api = format!("https://localhost:{}{}", self.port, request.uri().path());
        *request.uri_mut() = Uri::try_from(api)?;
        let mut response = fetch(request, &self.ca).await?.map(Full::new);
        // The body has been read completely.
        response.headers_mut().remove(TRANSFER_ENCODING);
        Ok(response)
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>, faults: watch::Receiver<Fault>) {
    let mut open = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("descriptors are left");
        inner.connections.fetch_add(1, SeqCst);
        let (inner, mut faults) = (inner.clone(), faults.clone());
        let fault = faults.borrow_and_update().clone();
        open.spawn(async move {
            tokio::select! {
                () = inner.serve(stream, fault) => {}
                _ = faults.changed() => {}
            }
        });
        while open.try_join_next().is_some() {}
    }
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(folder.join("api.pem")).expect("PEM");
    let key = PrivateKeyDer::from_pem_file(folder.join("api.key")).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}
