//! A TLS session in memory: Lockgate's stream, and a rustls client whose bytes may be split, delayed or corrupted.

use crate::net::tls_stream::{self, ServerStream};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connection between client and server.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<PipeInner>>);

#[derive(Default)]
struct PipeInner {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// The number of bytes that the server may still read, and write.
    budget: [usize; 2],
}

/// Runs `script` after a handshake. Checks that data arrives as it was sent, that no data arrives after corrupted
/// bytes, and that memory is bounded.
pub fn play(script: &[u8]) {
    let [terms, script @ ..] = script else { return };
    let (mut server, mut client, pipe) = connect(usize::from(terms & 1));
    // Bytes sent by client and server, and received from them. The value of a byte depends on its offset.
    let (mut sent, mut received) = ([0, 0], [0, 0]);
    let (mut key_updates, mut corrupted, mut closed) = (0, false, false);
    let mut scratch = vec![0; 1 << 16];
    for step in script.chunks_exact(3) {
        let [action, a, b] = [step[0], step[1], step[2]];
        let n = usize::from(u16::from_be_bytes([a, b]));
        match action % 8 {
            0 if !closed => sent[0] += client.writer().write(&text(sent[0], n)).unwrap_or(0),
            // rustls rejects more than 32 key updates without data in pipe.
            1 if key_updates < 30 && client.refresh_traffic_keys().is_ok() => key_updates += 1,
            2 if n < 256 => {
                client.send_close_notify();
                closed = true;
            }
            3 => {
                corrupted = true;
                let garbage = [action, a, b].repeat(1 + usize::from(a) % 40);
                pipe.inner().to_server.extend(garbage);
            }
            4 => {
                if let Some(byte) = pipe.inner().to_server.get_mut(n) {
                    corrupted = true;
                    *byte ^= action | 1;
                }
            }
            5 => {
                let text = text(sent[1], n);
                if let Poll::Ready(Ok(n)) = poll_once(|cx| Pin::new(&mut server).poll_write(cx, &text)) {
                    sent[1] += n;
                }
            }
            6 => pipe.inner().budget = [usize::from(a) * 80, usize::from(b) * 300],
            _ => pipe.inner().budget = [usize::MAX; 2],
        }
        while client.wants_write() && client.write_tls(&mut pipe.clone()).is_ok() {}
        let mut buf = ReadBuf::new(&mut scratch[..=n]);
        let _ = poll_once(|cx| Pin::new(&mut server).poll_read(cx, &mut buf));
        assert!(buf.filled() == text(received[0], buf.filled().len()));
        received[0] += buf.filled().len();
        let _ = poll_once(|cx| Pin::new(&mut server).poll_flush(cx));
        while let Ok(1..) = client.read_tls(&mut pipe.clone()) {
            // An alert is allowed only after corrupted bytes.
            let fine = client.process_new_packets().is_ok();
            assert!(fine || corrupted);
            let mut got = Vec::new();
            let _ = client.reader().read_to_end(&mut got);
            assert!(got == text(received[1], got.len()));
            received[1] += got.len();
            if !fine {
                return;
            }
        }
        assert!(received[0] <= sent[0] && received[1] <= sent[1]);
        let held = server.buffered();
        assert!(held <= 256 * 1024, "{held} bytes are held");
    }
}

/// Returns `n` bytes of the data that each side sends, from the offset `at`.
fn text(at: usize, n: usize) -> Vec<u8> {
    (at..at + n).map(|at| (at % 251) as u8).collect()
}

fn connect(version: usize) -> (Box<ServerStream<Pipe>>, ClientConnection, Pipe) {
    let (server, clients) = &*CONFIGS;
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(clients[version].clone(), name).unwrap();
    let pipe = Pipe::default();
    pipe.inner().budget = [usize::MAX; 2];
    let mut accepting = pin!(tls_stream::accept(pipe.clone(), Vec::new(), server.clone()));
    loop {
        while client.wants_write() {
            client.write_tls(&mut pipe.clone()).unwrap();
        }
        let accepted = poll_once(|cx| accepting.as_mut().poll(cx));
        while let Ok(1..) = client.read_tls(&mut pipe.clone()) {
            client.process_new_packets().unwrap();
        }
        if let Poll::Ready(stream) = accepted {
            return (stream.unwrap(), client, pipe);
        }
    }
}

fn poll_once<T>(call: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    call(&mut Context::from_waker(Waker::noop()))
}

type Configs = (Arc<ServerConfig>, [Arc<ClientConfig>; 2]);

static CONFIGS: LazyLock<Configs> = LazyLock::new(|| {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key);
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let clients = [&TLS12, &TLS13].map(|version| {
        let config = ClientConfig::builder_with_protocol_versions(&[version]);
        Arc::new(config.with_root_certificates(roots.clone()).with_no_client_auth())
    });
    (Arc::new(server.unwrap()), clients)
});

// === impl Pipe ===

impl Pipe {
    fn inner(&self) -> RefMut<'_, PipeInner> {
        self.0.borrow_mut()
    }
}

/// The client's end.
impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.inner().to_client.read(buf)? {
            // There is no EOF.
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner().to_server.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The server's end. There is no EOF.
impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.inner();
        let n = buf.remaining().min(inner.to_server.len()).min(inner.budget[0]);
        if n == 0 {
            return Poll::Pending;
        }
        inner.budget[0] -= n;
        let piece: Vec<u8> = inner.to_server.drain(..n).collect();
        buf.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.inner();
        let n = buf.len().min(inner.budget[1]);
        if n == 0 {
            return Poll::Pending;
        }
        inner.budget[1] -= n;
        inner.to_client.extend(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
