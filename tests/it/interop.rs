//! Seven real servers × four real client libraries; the checks themselves are in `tests/python/interop.py`.

use crate::harness::{Lockgate, Program};
use std::time::Duration;

#[tokio::test]
async fn the_server_on_websockets() {
    meets_every_client("websockets_echo.py").await;
}

#[tokio::test]
async fn the_server_on_fastapi_and_uvicorn() {
    meets_every_client("fastapi_echo.py").await;
}

#[tokio::test]
async fn the_server_on_tornado() {
    meets_every_client("tornado_echo.py").await;
}

#[tokio::test]
async fn the_server_on_aiohttp() {
    meets_every_client("aiohttp_echo.py").await;
}

#[tokio::test]
async fn the_server_on_flask_sock() {
    meets_every_client("flask_sock_echo.py").await;
}

#[tokio::test]
async fn the_server_on_autobahn() {
    meets_every_client("autobahn_echo.py").await;
}

#[tokio::test]
async fn the_server_on_node() {
    meets_every_client("node_echo.js").await;
}

/// `LOCKGATE_AUTOBAHN="*"` runs all of them, which takes some minutes.
#[tokio::test]
async fn the_cases_of_autobahn_say_no_worse_through_lockgate() {
    let (_server, address) = Program::server("plain_echo.py").await;
    let lockgate = Lockgate::to(address).start().await;
    let direct = format!("ws://{address}/");
    let through = format!("wss://localhost:{}/", lockgate.https.port());
    let ca = lockgate.ca().display().to_string();
    let mut arguments = vec![&*direct, &through, &ca];
    let cases = std::env::var("LOCKGATE_AUTOBAHN").unwrap_or_default();
    arguments.extend(cases.split_whitespace());
    let output = Program::run("autobahn_cases.py", &arguments).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{output:?}");
    println!("{said}");
}

async fn meets_every_client(server: &str) {
    let (_server, address) = Program::server(server).await;
    let lockgate = Lockgate::to(address).start().await;
    let url = format!("wss://localhost:{}", lockgate.https.port());
    let ca = lockgate.ca().display().to_string();
    for client in ["websockets", "websocket-client", "aiohttp", "tornado"] {
        // Each check has a deadline of its own; this one is for the interpreter.
        let arguments = [client, &url, &ca];
        let run = tokio::time::timeout(
            Duration::from_secs(120),
            Program::run("interop.py", &arguments),
        );
        let output = run
            .await
            .unwrap_or_else(|_| panic!("{client} against {server} hangs"));
        let (said, failed) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "{client} against {server}:\n{said}\n{failed}"
        );
        println!("{said}");
    }
    // The checks cannot tell whether compression was end to end or ended here; the record can.
    let compressed = |record: &serde_json::Value| {
        record["event"] == "open"
            && record["extensions"]
                .as_str()
                .is_some_and(|list| list.contains("permessage-deflate"))
    };
    lockgate.record(compressed).await;
}
