//! Real servers × real clients, each pair through Lockgate. The checks themselves are in `tests/python/interop.py` for
//! libraries in Python, in `tests/node` for Node's ws and for a page in Chromium.

mod pings;

use crate::harness::{Lockgate, Program, Setup};
use std::{net::SocketAddr, process::Output, time::Duration};

/// A server of `tests/python/servers`, and the checks that it does not support; the first lines of the script give the
/// reasons.
struct Server(&'static str, &'static [&'static str]);

const SERVERS: [Server; 10] = [
    Server("websockets_echo.py", &[]),
    Server("fastapi_echo.py", &[]),
    Server("tornado_echo.py", &[]),
    Server("aiohttp_echo.py", &[]),
    Server("flask_sock_echo.py", &[]),
    Server("autobahn_echo.py", &[]),
    Server("node_echo.js", &[]),
    Server(
        "channels_echo.py",
        &["empty", "compression", "reasons", "refusal"],
    ),
    Server(
        "gevent_legacy_echo.py",
        &[
            "compression",
            "subprotocol",
            "closes",
            "server_closes",
            "client_closes",
        ],
    ),
    Server(
        "websocket_server_echo.py",
        &[
            "binary",
            "ping",
            "subprotocol",
            "compression",
            "closes",
            "server_closes",
            "client_closes",
            "headers",
            "refused",
            "http",
            "plain_http",
        ],
    ),
];

/// Three servers that support compression themselves.
const OFFLOADED: [&str; 3] = ["websockets_echo.py", "fastapi_echo.py", "tornado_echo.py"];

const OFFLOAD: &str = "session = { compression = \"offload\" }";

const CLIENTS: [&str; 5] = [
    "websockets",
    "websocket-client",
    "aiohttp",
    "tornado",
    "autobahn",
];

#[tokio::test]
async fn python_libraries_pass_all_checks() {
    for server in &SERVERS {
        let (_server, lockgate, url) = server.started().await;
        let ca = lockgate.ca().display().to_string();
        for client in CLIENTS {
            let arguments = [&[client, &*url, &*ca], server.1].concat();
            let output = run("interop.py", &arguments).await;
            assert_all_ok(&output, &format!("{client} against {}", server.0));
        }
        if !server.1.contains(&"compression") {
            lockgate.record(is_compressed).await;
        }
    }
}

/// Clients negotiate compression although the servers receive no offer (checked in `tests/it/compression.rs`).
#[tokio::test]
async fn python_libraries_pass_all_checks_with_offload() {
    for name in OFFLOADED {
        let server = SERVERS.iter().find(|server| server.0 == name);
        let server = server.expect("one of them");
        let (_server, lockgate, url) = server.offloaded().await;
        let ca = lockgate.ca().display().to_string();
        let unsupported = server.1.iter().filter(|check| **check != "compression");
        let unsupported: Vec<&str> = unsupported.copied().collect();
        for client in CLIENTS {
            let arguments = [&[client, &*url, &*ca], &unsupported[..]].concat();
            let output = run("interop.py", &arguments).await;
            assert_all_ok(&output, &format!("{client} against {name}, offloaded"));
        }
        lockgate.record(is_compressed).await;
    }
}

#[tokio::test]
async fn node_ws_passes_all_checks() {
    for server in &SERVERS {
        let (_server, lockgate, url) = server.started().await;
        let ca = lockgate.ca().display().to_string();
        let arguments = [&[&*url, &*ca], server.1].concat();
        let output = run("../node/client.js", &arguments).await;
        assert_all_ok(&output, &format!("ws against {}", server.0));
    }
}

#[tokio::test]
async fn chromium_passes_all_checks_over_http1() {
    run_in_chromium("1.1").await;
}

#[tokio::test]
async fn chromium_passes_all_checks_over_http2() {
    run_in_chromium("2").await;
}

#[tokio::test]
async fn chromium_passes_all_checks_with_offload() {
    for version in ["1.1", "2"] {
        let servers = SERVERS
            .iter()
            .filter(|server| OFFLOADED.contains(&server.0));
        let mut running = Vec::new();
        for server in servers {
            running.push((server, server.offloaded().await));
        }
        in_chromium(version, running).await;
    }
}

async fn run_in_chromium(version: &str) {
    let mut setups = Vec::new();
    for server in &SERVERS {
        setups.push((server, server.started().await));
    }
    in_chromium(version, setups).await;
}

async fn in_chromium(version: &str, setups: Vec<(&Server, (Program, Lockgate, String))>) {
    let (mut running, mut targets) = (Vec::new(), vec![version.to_owned()]);
    for (server, (program, lockgate, url)) in setups {
        let target = [&[&*url], server.1].concat().join(",");
        targets.push(target);
        running.push((program, lockgate));
    }
    let targets: Vec<&str> = targets.iter().map(|target| &**target).collect();
    let output = run("../node/browser.js", &targets).await;
    assert_all_ok(&output, "chromium");
    for (_, lockgate) in &running {
        lockgate.record(|record| record["event"] == "open").await;
        let opened = lockgate.records().into_iter();
        let opened: Vec<_> = opened.filter(|record| record["event"] == "open").collect();
        for record in opened {
            assert_eq!(record["http"], version, "{record}");
        }
    }
}

/// Socket.IO has its own protocol above the WebSocket, and therefore its own checks.
#[tokio::test]
async fn python_socketio_passes_by_polling_and_by_websocket() {
    let server = Server("socketio_echo.py", &[]);
    let (_server, lockgate, url) = server.started().await;
    let ca = lockgate.ca().display().to_string();
    let output = run("socketio_client.py", &[&url.replace("wss", "https"), &ca]).await;
    assert_all_ok(&output, "python-socketio");
}

impl Server {
    async fn started(&self) -> (Program, Lockgate, String) {
        self.start(|lockgate| lockgate).await
    }

    /// Starts the server behind a Lockgate that offloads compression.
    async fn offloaded(&self) -> (Program, Lockgate, String) {
        self.start(|lockgate| lockgate.with(OFFLOAD)).await
    }

    async fn start(&self, set_up: impl FnOnce(Setup) -> Setup) -> (Program, Lockgate, String) {
        let (program, address) = Program::server(self.0).await;
        let tokens = "token = { from = [\"subprotocol:bearer\", \"query:token\"] }";
        let setup = Lockgate::to(address).with(tokens);
        let lockgate = set_up(setup).start().await;
        let url = format!("wss://localhost:{}", lockgate.https.port());
        (program, lockgate, url)
    }
}

/// Runs a script. Each check has its own deadline; this one is for the interpreter.
async fn run(script: &str, arguments: &[&str]) -> Output {
    tokio::time::timeout(Duration::from_secs(420), Program::run(script, arguments))
        .await
        .unwrap_or_else(|_| panic!("{script} {arguments:?} hangs"))
}

fn assert_all_ok(output: &Output, context: &str) {
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let ok = stdout
        .lines()
        .filter(|line| line.starts_with("ok "))
        .count();
    assert!(
        output.status.success() && ok > 0,
        "{context}:\n{stdout}\n{stderr}"
    );
    println!("{stdout}");
}

/// Returns whether a session negotiated compression, which the checks cannot observe.
fn is_compressed(record: &serde_json::Value) -> bool {
    let extensions = record["extensions"].as_str();
    record["event"] == "open" && extensions.is_some_and(|list| list.contains("permessage-deflate"))
}

/// `LOCKGATE_AUTOBAHN="*"` runs all 517, which takes half an hour; nextest would end them earlier:
/// `LOCKGATE_AUTOBAHN="*" cargo test --test it -- --nocapture autobahn_results`.
#[tokio::test]
async fn autobahn_results_are_no_worse_than_direct() {
    let (_server, address) = Program::server("plain_echo.py").await;
    run_autobahn_cases(address, Lockgate::to(address)).await;
}

/// The same cases with compression by Lockgate.
#[tokio::test]
async fn autobahn_results_are_no_worse_with_offload() {
    let (_server, address) = Program::server("plain_echo.py").await;
    run_autobahn_cases(address, Lockgate::to(address).with(OFFLOAD)).await;
}

async fn run_autobahn_cases(address: SocketAddr, setup: Setup) {
    let lockgate = setup.start().await;
    let direct = format!("ws://{address}/");
    let through = format!("wss://localhost:{}/", lockgate.https.port());
    let ca = lockgate.ca().display().to_string();
    let mut arguments = vec![&*direct, &through, &ca];
    let cases = std::env::var("LOCKGATE_AUTOBAHN").unwrap_or_default();
    arguments.extend(cases.split_whitespace());
    // The script has a deadline of its own.
    let output = if cases.is_empty() {
        run("autobahn_cases.py", &arguments).await
    } else {
        Program::run("autobahn_cases.py", &arguments).await
    };
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{output:?}");
    println!("{stdout}");
}
