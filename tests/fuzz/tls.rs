//! A TLS session in memory: our stream, and a client of rustls whose bytes may come in pieces, late or spoilt.

use crate::wire::{self, ServerStream};
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

/// What lies between the two.
#[derive(Clone, Default)]
struct Between(Rc<RefCell<Both>>);

#[derive(Default)]
struct Both {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// How many bytes the server may still read, and write.
    may: [usize; 2],
}

/// Plays `script` after a handshake. What arrives is what was said; behind garbage, nothing. Memory is bounded, and
/// nothing panics.
pub fn play(script: &[u8]) {
    let [terms, script @ ..] = script else { return };
    let (mut server, mut client, between) = shake(usize::from(terms & 1));
    // How many bytes were said and heard, by the client and by the server; each byte tells its place.
    let (mut said, mut heard) = ([0, 0], [0, 0]);
    let (mut renewed, mut spoilt, mut closed) = (0, false, false);
    let mut room = vec![0; 1 << 16];
    for step in script.chunks_exact(3) {
        let [what, a, b] = [step[0], step[1], step[2]];
        let n = usize::from(u16::from_be_bytes([a, b]));
        match what % 8 {
            0 if !closed => said[0] += client.writer().write(&text(said[0], n)).unwrap_or(0),
            // Without data in between, more than 32 are too many.
            1 if renewed < 30 && client.refresh_traffic_keys().is_ok() => renewed += 1,
            2 if n < 256 => {
                client.send_close_notify();
                closed = true;
            }
            3 => {
                spoilt = true;
                let garbage = [what, a, b].repeat(1 + usize::from(a) % 40);
                between.both().to_server.extend(garbage);
            }
            4 => {
                if let Some(byte) = between.both().to_server.get_mut(n) {
                    spoilt = true;
                    *byte ^= what | 1;
                }
            }
            5 => {
                let text = text(said[1], n);
                if let Poll::Ready(Ok(n)) = now(|cx| Pin::new(&mut server).poll_write(cx, &text)) {
                    said[1] += n;
                }
            }
            6 => between.both().may = [usize::from(a) * 80, usize::from(b) * 300],
            _ => between.both().may = [usize::MAX; 2],
        }
        while client.wants_write() && client.write_tls(&mut between.clone()).is_ok() {}
        let mut buf = ReadBuf::new(&mut room[..=n]);
        let _ = now(|cx| Pin::new(&mut server).poll_read(cx, &mut buf));
        assert!(buf.filled() == text(heard[0], buf.filled().len()));
        heard[0] += buf.filled().len();
        let _ = now(|cx| Pin::new(&mut server).poll_flush(cx));
        while let Ok(1..) = client.read_tls(&mut between.clone()) {
            // An alert is for those who had it coming.
            let fine = client.process_new_packets().is_ok();
            assert!(fine || spoilt);
            let mut got = Vec::new();
            let _ = client.reader().read_to_end(&mut got);
            assert!(got == text(heard[1], got.len()));
            heard[1] += got.len();
            if !fine {
                return;
            }
        }
        assert!(heard[0] <= said[0] && heard[1] <= said[1]);
        let held = server.held();
        assert!(held <= 256 * 1024, "{held} bytes are held");
    }
}

/// `n` bytes, from the place `at` of what one side says.
fn text(at: usize, n: usize) -> Vec<u8> {
    (at..at + n).map(|at| (at % 251) as u8).collect()
}

fn shake(version: usize) -> (Box<ServerStream<Between>>, ClientConnection, Between) {
    let (server, clients) = &*CONFIGS;
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(clients[version].clone(), name).unwrap();
    let between = Between::default();
    between.both().may = [usize::MAX; 2];
    let mut accepting = pin!(wire::accept(between.clone(), Vec::new(), server.clone()));
    loop {
        while client.wants_write() {
            client.write_tls(&mut between.clone()).unwrap();
        }
        let accepted = now(|cx| accepting.as_mut().poll(cx));
        while let Ok(1..) = client.read_tls(&mut between.clone()) {
            client.process_new_packets().unwrap();
        }
        if let Poll::Ready(stream) = accepted {
            return (stream.unwrap(), client, between);
        }
    }
}

fn now<T>(call: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
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

// === impl Between ===

impl Between {
    fn both(&self) -> RefMut<'_, Both> {
        self.0.borrow_mut()
    }
}

/// The client's side.
impl Read for Between {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.both().to_client.read(buf)? {
            // No EOF either.
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Between {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.both().to_server.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The server's side. There is no EOF.
impl AsyncRead for Between {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut both = self.both();
        let n = buf.remaining().min(both.to_server.len()).min(both.may[0]);
        if n == 0 {
            return Poll::Pending;
        }
        both.may[0] -= n;
        let piece: Vec<u8> = both.to_server.drain(..n).collect();
        buf.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Between {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut both = self.both();
        let n = buf.len().min(both.may[1]);
        if n == 0 {
            return Poll::Pending;
        }
        both.may[1] -= n;
        both.to_client.extend(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
