//! `handshake HOW TIMES`: runs sessions of one message each, one after another; `handshake.sh` counts their
//! instructions. HOW is `full`, or `resumed` with tickets of earlier sessions.
//!
//! This process is the server as `lockgate run` starts it, with its defaults, the access log, and a single-threaded
//! runtime. Client and backend run in a child process.

mod client;

use client::CA;
use lockgate::internals::{
    AccessLog, CertIssuers, Config, ConfigSource, DevCa, Gateway, Inherited, Server, Signal,
    install_provider,
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

/// The same allocator as in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["peers", ca, port, backend, how, times] => {
            let backend = TcpListener::bind(("127.0.0.1", number(backend))).expect("the port");
            thread::spawn(move || echo(&backend));
            run_sessions(Path::new(ca), number(port), how == "resumed", number(times));
        }
        [how, times] => {
            let mut runtime = runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            serve(&runtime, how, times);
        }
        // `cargo bench` passes flags only: inherited to measure.
        _ => {}
    }
}

fn number(text: &str) -> u16 {
    text.parse().expect("a number")
}

/// Serves until the child process has ended.
fn serve(runtime: &Runtime, how: &str, times: &str) {
    install_provider();
    let dir = tempfile::tempdir().expect("a temporary dir");
    let dir = dir.path();
    // Finds a free port and releases it, because the child process runs the backend.
    let backend = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let backend = backend.expect("a port").port().to_string();
    let file = dir.join("lockgate.toml");
    let access = dir.join("access.log");
    let config = CONFIG.replace("ACCESS", &access.display().to_string());
    fs::write(&file, config.replace("PORT", &backend)).expect("a file");
    let config = Config::load(&file).expect("a config");
    let dev = DevCa::open(dir).expect("a CA");
    fs::copy(dev.certificate_path(), dir.join(CA)).expect("a certificate");
    let issuers = CertIssuers {
        dev: Some(&dev),
        ..CertIssuers::default()
    };
    let gateway = Gateway::build(&config, None, &issuers).expect("a gateway");
    let log = &config.server;
    let (access, _access) = AccessLog::open(&log.access, log.log.format).expect("a log");
    counted(runtime, async {
        let source = ConfigSource {
            load: None,
            dev: Some(dev),
            ..ConfigSource::default()
        };
        let inherited = &mut Inherited::default();
        let server = Server::bind(config, gateway, access, source, inherited).expect("ports");
        let https = server.listeners().remove(0).address;
        let port = https.rsplit_once(':').expect("a port").1;
        let peers = tokio::process::Command::new(std::env::current_exe().expect("a program"))
            .args(["peers".as_ref(), dir.join(CA).as_os_str()])
            .args([port, &backend, how, times])
            .spawn();
        let mut peers = Some(peers.expect("a child process"));
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

/// The function whose instructions `handshake.sh` counts, by name.
#[inline(never)]
fn counted(runtime: &Runtime, serving: impl Future<Output = ()>) {
    runtime.block_on(serving);
}

/// Opens sessions, each with one message of 64 bytes, its echo and a Close.
fn run_sessions(ca: &Path, port: u16, resumed: bool, times: u16) {
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
        let expected = if resumed && n > 0 {
            rustls::HandshakeKind::Resumed
        } else {
            rustls::HandshakeKind::Full
        };
        assert_eq!(kind, Some(expected));
        let message = Message::binary(vec![n as u8; 64]);
        session.send(message.clone()).expect("sent");
        assert_eq!(session.read().expect("its echo"), message);
        session.close(None).expect("sent");
        while session.read().is_ok() {}
    }
}

fn echo(listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        let _ = stream.set_nodelay(true);
        let Ok(session) = tungstenite::accept(stream) else {
            continue;
        };
        echo_messages(session);
    }
}

fn echo_messages(mut session: WebSocket<TcpStream>) {
    while let Ok(message) = session.read() {
        if message.is_binary() && session.send(message).is_err() {
            break;
        }
    }
}

const CONFIG: &str = r#"
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
