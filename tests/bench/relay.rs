//! `relay HOW SIZE TIMES`: relays TIMES messages of SIZE bytes in each direction, one at a time; `relay.sh` counts the
//! instructions.
//!
//! This process is only the proxy, with the two streams of a session. Client and backend run in a child process. `bare`
//! copies bytes; `defaults` and `limits` relay frames as the gateway does, with those limits.

mod client;
mod peers;

use client::{CA, NAME};
use lockgate::{
    internals::{
        AcceptOutcome, BackendStream, CertIssuers, Config, DevCa, Gateway, Metrics, ServerStream,
        SessionRecord, SessionRegistry, SessionTarget, Socket, SpliceLegs, accept as accept_tls,
        install_provider, run,
    },
    proto::frame_tracker::RsvBits,
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
        // `cargo bench` passes flags only: nothing to measure.
        _ => {}
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn relay(runtime: &Runtime, how: &str, size: &str, times: &str) {
    install_provider();
    let dir = tempfile::tempdir().expect("a temporary dir");
    let gateway = gateway(dir.path(), how);
    let listener = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let (clients, backends) = (listener(), listener());
    let port = |of: &TcpListener| of.local_addr().expect("it is bound").port().to_string();
    let mut peers = std::process::Command::new(std::env::current_exe().expect("a program"))
        .args(["peers".as_ref(), dir.path().join(CA).as_os_str()])
        .args([&port(&clients), &port(&backends), size, times])
        .spawn()
        .expect("a child process");
    let accepted = runtime.block_on(async {
        let (client, backend) = (accept(&clients), Socket::new(accept(&backends)));
        let accepted = accept_tls(&gateway.tls, Socket::new(client)).await;
        (accepted, BackendStream::Tcp(backend))
    });
    let (Ok(AcceptOutcome::Client(client)), backend) = accepted else {
        panic!("no handshake: {accepted:?}")
    };
    let messages = counted(runtime, async {
        // As in production, another task waits for a timer, and each session is a separate task.
        tokio::spawn(tokio::time::sleep(Duration::from_secs(3600)));
        let relayed = match how {
            "bare" => tokio::spawn(bare(client.stream, backend)),
            _ => tokio::spawn(session(&gateway, client.stream, backend)),
        };
        relayed.await.expect("no panic")
    });
    assert!(messages.is_none_or(|counts| counts == [number(times) as u64; 2]));
    assert!(peers.wait().expect("a child").success(), "the peers failed");
}

/// The function whose instructions `relay.sh` counts, by name. The TLS handshake is outside, because its cost varies.
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

/// Copies until the peers disconnect. Counts no messages.
async fn bare(
    mut client: Box<ServerStream<Socket>>,
    mut backend: BackendStream,
) -> Option<[u64; 2]> {
    // Fails at the end, because the client disconnects without close_notify.
    let _ =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut backend, BUF_LEN, BUF_LEN).await;
    None
}

/// Runs a session as `http/session.rs` does. Returns the number of messages from each leg.
fn session(
    gateway: &Gateway,
    client: Box<ServerStream<Socket>>,
    backend: BackendStream,
) -> impl Future<Output = Option<[u64; 2]>> + use<> {
    let (_, route) = gateway.router.rules().next().expect("a route");
    let target = SessionTarget {
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
        backend: target.backend.clone(),
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
    let handle = Arc::<SessionRegistry>::default().register(target, record, None);
    let flow = Metrics::new().live_sessions().clone();
    let spliced = Box::pin(run(legs, route.limits.subscribe(), handle, flow, |_| {}));
    async move {
        let outcome = spliced.await;
        Some([outcome.from_client.messages, outcome.from_backend.messages])
    }
}

/// Builds a gateway from a minimal configuration; for `limits`, with every limit that a session can have.
fn gateway(dir: &Path, how: &str) -> Gateway {
    let session = if how == "limits" { LIMITS } else { "" };
    let file = dir.join("lockgate.toml");
    fs::write(&file, format!("{CONFIG}{session}")).expect("a file");
    let config = Config::load(&file).expect("a config");
    let dev = DevCa::open(dir).expect("a CA");
    let ca = dev.certificate_path();
    fs::copy(ca, dir.join(CA)).expect("a certificate");
    let issuers = CertIssuers {
        dev: Some(&dev),
        ..CertIssuers::default()
    };
    Gateway::build(&config, None, &issuers).expect("a gateway")
}

/// The length of a session's read buffer.
const BUF_LEN: usize = 64 * 1024;

const CONFIG: &str = r#"
[tls]
dev_ca = true
[[routes]]
hosts = ["localhost"]
to = "ws://127.0.0.1:9"
"#;

/// Limits that are never reached.
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
