//! `relay HOW SIZE TIMES`: so many messages of so many bytes there and back, one at a time, for `relay.sh` to count the
//! instructions of.
//!
//! This process is the proxy and nothing else, with the two streams that a session has; client and backend are a child.
//! `bare` copies their bytes; `defaults` and `limits` splice them as the gateway does, under those limits.

mod client;
mod peers;

use client::{CA, NAME};
use lockgate::{
    config::Config,
    gateway::Gateway,
    observe::{Metrics, SessionRecord, SessionRegistry, SessionTarget},
    proto::track::RsvBits,
    splice::{self, BackendStream, Socket, SpliceLegs},
    tls::{self, AcceptOutcome, CertIssuers, DevCa},
    wire::ServerStream,
};
use std::{fs, net::TcpListener, path::Path, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    runtime::{self, Runtime},
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["peers", ca, client, backend, size, times] => {
            let ports = (number(client) as u16, number(backend) as u16);
            peers::play(Path::new(ca), ports, number(size), number(times));
        }
        [how, size, times] => {
            let mut runtime = runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            relay(&runtime, how, size, times);
        }
        // `cargo bench` itself passes flags, and nothing to count.
        _ => {}
    }
}

fn number(written: &str) -> usize {
    written.parse().expect("a number")
}

fn relay(runtime: &Runtime, how: &str, size: &str, times: &str) {
    tls::install_provider();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gateway = gateway(folder.path(), how);
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let (clients, backends) = (listener(), listener());
    let port = |of: &TcpListener| of.local_addr().expect("it is bound").port().to_string();
    let mut peers = std::process::Command::new(std::env::current_exe().expect("a program"))
        .args(["peers".as_ref(), folder.path().join(CA).as_os_str()])
        .args([&port(&clients), &port(&backends), size, times])
        .spawn()
        .expect("it runs once more");
    let entered = runtime.block_on(async {
        let (client, backend) = (accept(&clients), Socket::new(accept(&backends)));
        let entered = tls::accept(&gateway.tls, Socket::new(client)).await;
        (entered, BackendStream::Tcp(backend))
    });
    let (Ok(AcceptOutcome::Client(client)), backend) = entered else {
        panic!("no handshake: {entered:?}")
    };
    let messages = counted(runtime, async {
        // As in production: another task in the process waits for a timer, and each session is a task of its own.
        tokio::spawn(tokio::time::sleep(Duration::from_secs(3600)));
        let relayed = match how {
            "bare" => tokio::spawn(bare(client.stream, backend)),
            _ => tokio::spawn(session(&gateway, client.stream, backend)),
        };
        relayed.await.expect("no panic")
    });
    assert!(messages.is_none_or(|both| both == [number(times) as u64; 2]));
    assert!(peers.wait().expect("a child").success(), "the peers failed");
}

/// What `relay.sh` has counted, by its name. A handshake takes now more and now less.
#[inline(never)]
fn counted<T>(runtime: &Runtime, relayed: impl Future<Output = T>) -> T {
    runtime.block_on(relayed)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream.set_nonblocking(true).expect("an option");
    TcpStream::from_std(stream).expect("a socket")
}

/// Until the peers leave; nothing is counted.
async fn bare(
    mut client: Box<ServerStream<Socket>>,
    mut backend: BackendStream,
) -> Option<[u64; 2]> {
    // It fails at the end, for a client that leaves without a word.
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, ROOM, ROOM).await;
    None
}

/// As `http/session.rs` runs it. How many messages came from each side.
fn session(
    gateway: &Gateway,
    client: Box<ServerStream<Socket>>,
    backend: BackendStream,
) -> impl Future<Output = Option<[u64; 2]>> + use<> {
    let (_, route) = gateway.router.rules().next().expect("a route");
    let belonging = SessionTarget {
        route: route.name.clone(),
        backend: "ws://127.0.0.1:9".into(),
        pool_entry: "ws://127.0.0.1:9".into(),
    };
    let record = SessionRecord {
        id: 0,
        client: [127, 0, 0, 1].into(),
        http: "1.1",
        host: NAME.into(),
        path: "/".into(),
        route: route.name.clone(),
        backend: belonging.backend.clone(),
        subprotocol: None,
        extensions: None,
    };
    let legs = SpliceLegs {
        client,
        client_early: bytes::Bytes::new(),
        backend,
        backend_early: bytes::Bytes::new(),
        reserved: RsvBits::None,
    };
    let handle = Arc::<SessionRegistry>::default().register(belonging, record);
    let flow = Metrics::new().live_sessions().clone();
    let spliced = Box::pin(splice::run(legs, route.limits.subscribe(), handle, flow));
    async move {
        let outcome = spliced.await;
        Some([outcome.from_client.messages, outcome.from_backend.messages])
    }
}

/// What a file makes that says no more than it must; under `limits`, one with every limit that a session can have.
fn gateway(folder: &Path, how: &str) -> Gateway {
    let session = if how == "limits" { LIMITS } else { "" };
    let file = folder.join("lockgate.toml");
    fs::write(&file, format!("{WRITTEN}{session}")).expect("a file");
    let config = Config::load(&file).expect("a config");
    let dev = DevCa::open(folder).expect("a CA");
    let ca = dev.certificate_path();
    fs::copy(ca, folder.join(CA)).expect("a certificate");
    let issuers = CertIssuers {
        dev: Some(&dev),
        ..CertIssuers::default()
    };
    Gateway::build(&config, None, &issuers).expect("a gateway")
}

/// As much as a session reads at a time.
const ROOM: usize = 64 * 1024;

const WRITTEN: &str = r#"
[tls]
dev_ca = true
[[routes]]
hosts = ["localhost"]
to = "ws://127.0.0.1:9"
"#;

/// None of them is ever reached.
const LIMITS: &str = r#"
[session]
max_frame = "16MiB"
max_message = "16MiB"
max_fragments = 1000
max_age = "1h"
max_idle = "30m"
messages_per_second = 1000000
bytes_per_second = 10000000000
answer_backend_ping = "when-client-live"
ping = { legs = "both", interval = "10m", timeout = "20s" }
slow_reader = { after = "10m", do = "close" }
"#;
