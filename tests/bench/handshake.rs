//! `handshake HOW TIMES`: so many sessions of one message, one after the other, for `handshake.sh` to count the instructions
//! of; `full`, or `resumed` with the tickets of those before.
//!
//! This process is the server as `lockgate run` starts it, with its defaults, its access log on, and a runtime of one
//! thread. Client and backend are a child.

mod client;

use client::CA;
use lockgate::{
    config::Config,
    gateway::Gateway,
    lifecycle::{Inherited, Signal},
    observe::AccessLog,
    server::{ConfigSource, Server},
    tls::{self, CertIssuers, DevCa},
};
use std::{
    fs,
    future::pending,
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
};
use tokio::runtime::{self, Runtime};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket, client::IntoClientRequest as _};

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["peers", ca, port, backend, how, times] => {
            let backend = TcpListener::bind(("127.0.0.1", number(backend))).expect("the port");
            thread::spawn(move || echo(&backend));
            visit(Path::new(ca), number(port), how == "resumed", number(times));
        }
        [how, times] => {
            let mut runtime = runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            serve(&runtime, how, times);
        }
        // `cargo bench` itself passes flags, and nothing to count.
        _ => {}
    }
}

fn number(written: &str) -> u16 {
    written.parse().expect("a number")
}

/// Until the child has ended.
fn serve(runtime: &Runtime, how: &str, times: &str) {
    tls::install_provider();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    // Taken and given back: the backend is the child's.
    let backend = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let backend = backend.expect("a port").port().to_string();
    let file = folder.join("lockgate.toml");
    let access = folder.join("access.log");
    let written = WRITTEN.replace("ACCESS", &access.display().to_string());
    fs::write(&file, written.replace("PORT", &backend)).expect("a file");
    let config = Config::load(&file).expect("a config");
    let dev = DevCa::open(folder).expect("a CA");
    fs::copy(dev.certificate_path(), folder.join(CA)).expect("a certificate");
    let issuers = CertIssuers {
        dev: Some(&dev),
        ..CertIssuers::default()
    };
    let gateway = Gateway::build(&config, None, &issuers).expect("a gateway");
    let log = &config.server;
    let (access, _access) = AccessLog::open(&log.access, log.log.format).expect("a log");
    counted(runtime, async {
        let blueprint = ConfigSource {
            load: None,
            dev: Some(dev),
        };
        let nothing = &mut Inherited::default();
        let server = Server::bind(config, gateway, access, blueprint, nothing).expect("ports");
        let https = server.listeners().remove(0).address;
        let port = https.rsplit_once(':').expect("a port").1;
        let peers = tokio::process::Command::new(std::env::current_exe().expect("a program"))
            .args(["peers".as_ref(), folder.join(CA).as_os_str()])
            .args([port, &backend, how, times])
            .spawn();
        let mut peers = Some(peers.expect("it runs once more"));
        let drained = server.run(None, async || {
            let Some(mut peers) = peers.take() else {
                return pending().await;
            };
            let ended = peers.wait().await.expect("a child");
            assert!(ended.success(), "the peers failed");
            Signal::Stop
        });
        assert!(drained.await.clean);
    });
}

/// What `handshake.sh` has counted, by its name.
#[inline(never)]
fn counted(runtime: &Runtime, serving: impl Future<Output = ()>) {
    runtime.block_on(serving);
}

/// Sessions, each with one message of 64 bytes there and back and a Close.
fn visit(ca: &Path, port: u16, resumed: bool, times: u16) {
    let shared = client::config(ca);
    for n in 0..times {
        let config = if resumed {
            shared.clone()
        } else {
            client::config(ca)
        };
        let stream = client::secure(&config, client::connect(port));
        let request = format!("wss://{}/", client::NAME).into_client_request();
        let (mut session, _) =
            tungstenite::client(request.expect("a URL"), stream).expect("a session");
        let kind = session.get_ref().conn.handshake_kind();
        let expected = match resumed && n > 0 {
            true => rustls::HandshakeKind::Resumed,
            false => rustls::HandshakeKind::Full,
        };
        assert_eq!(kind, Some(expected));
        let message = Message::binary(vec![n as u8; 64]);
        session.send(message.clone()).expect("it is taken");
        assert_eq!(session.read().expect("its echo"), message);
        session.close(None).expect("it is taken");
        while session.read().is_ok() {}
    }
}

fn echo(listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        let _ = stream.set_nodelay(true);
        let Ok(session) = tungstenite::accept(stream) else {
            continue;
        };
        return_all(session);
    }
}

fn return_all(mut session: WebSocket<TcpStream>) {
    while let Ok(message) = session.read() {
        if message.is_binary() && session.send(message).is_err() {
            break;
        }
    }
}

const WRITTEN: &str = r#"
[server]
https = ["127.0.0.1:0"]
http = []
admin = "off"
access = "ACCESS"
[tls]
dev_ca = true
[[routes]]
hosts = ["localhost"]
to = "ws://127.0.0.1:PORT"
"#;
