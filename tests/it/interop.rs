//! Real servers × real clients, each pair through Lockgate. The checks themselves are in `tests/python/interop.py` for
//! libraries in Python, in `tests/node` for Node's ws and for a page in Chromium.

use crate::harness::{Lockgate, Program, Setup};
use std::{net::SocketAddr, process::Output, time::Duration};

/// A server of `tests/python/servers`, and what it cannot do: its own first lines say why.
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

/// Three that would compress themselves.
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
async fn libraries_in_python() {
    for server in &SERVERS {
        let (_server, lockgate, url) = server.behind_lockgate().await;
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

/// The servers see no extension (`tests/it/compression.rs` looks), and clients have it all the same.
#[tokio::test]
async fn libraries_in_python_while_compression_is_offloaded() {
    for name in OFFLOADED {
        let server = SERVERS.iter().find(|server| server.0 == name);
        let server = server.expect("one of them");
        let (_server, lockgate, url) = server.offloaded().await;
        let ca = lockgate.ca().display().to_string();
        let lacking = server.1.iter().filter(|check| **check != "compression");
        let lacking: Vec<&str> = lacking.copied().collect();
        for client in CLIENTS {
            let arguments = [&[client, &*url, &*ca], &lacking[..]].concat();
            let output = run("interop.py", &arguments).await;
            assert_all_ok(&output, &format!("{client} against {name}, offloaded"));
        }
        lockgate.record(is_compressed).await;
    }
}

#[tokio::test]
async fn ws_on_node() {
    for server in &SERVERS {
        let (_server, lockgate, url) = server.behind_lockgate().await;
        let ca = lockgate.ca().display().to_string();
        let arguments = [&[&*url, &*ca], server.1].concat();
        let output = run("../node/client.js", &arguments).await;
        assert_all_ok(&output, &format!("ws against {}", server.0));
    }
}

#[tokio::test]
async fn a_page_in_chromium_over_http_1() {
    a_page_in_chromium("1.1").await;
}

#[tokio::test]
async fn a_page_in_chromium_over_http_2() {
    a_page_in_chromium("2").await;
}

#[tokio::test]
async fn a_page_in_chromium_while_compression_is_offloaded() {
    for version in ["1.1", "2"] {
        let wanted = SERVERS
            .iter()
            .filter(|server| OFFLOADED.contains(&server.0));
        let mut running = Vec::new();
        for server in wanted {
            running.push((server, server.offloaded().await));
        }
        in_chromium(version, running).await;
    }
}

async fn a_page_in_chromium(version: &str) {
    let mut behind = Vec::new();
    for server in &SERVERS {
        behind.push((server, server.behind_lockgate().await));
    }
    in_chromium(version, behind).await;
}

async fn in_chromium(version: &str, behind: Vec<(&Server, (Program, Lockgate, String))>) {
    let (mut running, mut targets) = (Vec::new(), vec![version.to_owned()]);
    for (server, (program, lockgate, url)) in behind {
        let target = [&[&*url], server.1].concat().join(",");
        targets.push(target);
        running.push((program, lockgate));
    }
    let targets: Vec<&str> = targets.iter().map(|target| &**target).collect();
    let output = run("../node/browser.js", &targets).await;
    assert_all_ok(&output, "chromium");
    for (_, lockgate) in &running {
        let opened: Vec<_> = lockgate
            .records()
            .into_iter()
            .filter(|record| record["event"] == "open")
            .collect();
        assert!(!opened.is_empty());
        for record in opened {
            assert_eq!(record["http"], version, "{record}");
        }
    }
}

/// Socket.IO has a protocol of its own above the WebSocket, and so checks of its own.
#[tokio::test]
async fn python_socketio_by_polling_and_by_websocket() {
    let server = Server("socketio_echo.py", &[]);
    let (_server, lockgate, url) = server.behind_lockgate().await;
    let ca = lockgate.ca().display().to_string();
    let output = run("socketio_client.py", &[&url.replace("wss", "https"), &ca]).await;
    assert_all_ok(&output, "python-socketio");
}

impl Server {
    async fn behind_lockgate(&self) -> (Program, Lockgate, String) {
        self.behind(|lockgate| lockgate).await
    }

    /// Behind one that speaks of compression itself.
    async fn offloaded(&self) -> (Program, Lockgate, String) {
        self.behind(|lockgate| lockgate.with(OFFLOAD)).await
    }

    async fn behind(&self, set_up: impl FnOnce(Setup) -> Setup) -> (Program, Lockgate, String) {
        let (program, address) = Program::server(self.0).await;
        let tokens = "token = { from = [\"subprotocol:bearer\", \"query:token\"] }";
        let setup = Lockgate::to(address).with(tokens);
        let lockgate = set_up(setup).start().await;
        let url = format!("wss://localhost:{}", lockgate.https.port());
        (program, lockgate, url)
    }
}

/// Each check has a deadline of its own; this one is for the interpreter.
async fn run(script: &str, arguments: &[&str]) -> Output {
    tokio::time::timeout(Duration::from_secs(240), Program::run(script, arguments))
        .await
        .unwrap_or_else(|_| panic!("{script} {arguments:?} hangs"))
}

fn assert_all_ok(output: &Output, what: &str) {
    let (said, failed) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let ok = said.lines().filter(|line| line.starts_with("ok ")).count();
    assert!(
        output.status.success() && ok > 0,
        "{what}:\n{said}\n{failed}"
    );
    println!("{said}");
}

/// The checks cannot tell whether compression was end to end or ended here; the record can.
fn is_compressed(record: &serde_json::Value) -> bool {
    let extensions = record["extensions"].as_str();
    record["event"] == "open" && extensions.is_some_and(|list| list.contains("permessage-deflate"))
}

/// `LOCKGATE_AUTOBAHN="*"` runs all of them, which takes some minutes.
#[tokio::test]
async fn the_cases_of_autobahn_say_no_worse_through_lockgate() {
    let (_server, address) = Program::server("plain_echo.py").await;
    no_worse(address, Lockgate::to(address)).await;
}

/// Those of compression, where Lockgate is who compresses.
#[tokio::test]
async fn the_cases_of_autobahn_say_no_worse_while_compression_is_offloaded() {
    let (_server, address) = Program::server("plain_echo.py").await;
    no_worse(address, Lockgate::to(address).with(OFFLOAD)).await;
}

async fn no_worse(address: SocketAddr, setup: Setup) {
    let lockgate = setup.start().await;
    let direct = format!("ws://{address}/");
    let through = format!("wss://localhost:{}/", lockgate.https.port());
    let ca = lockgate.ca().display().to_string();
    let mut arguments = vec![&*direct, &through, &ca];
    let cases = std::env::var("LOCKGATE_AUTOBAHN").unwrap_or_default();
    arguments.extend(cases.split_whitespace());
    let output = run("autobahn_cases.py", &arguments).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{output:?}");
    println!("{said}");
}
