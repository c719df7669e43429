//! Client libraries that are idle while Lockgate sends Pings to them.

use super::run;
use crate::harness::{Lockgate, Program, eventually, free_port};
use futures_util::{SinkExt, StreamExt, future::join_all};
use std::{net::SocketAddr, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{client_async, tungstenite::Message};

/// The time between two messages of a client, and the interval of the Pings.
const IDLE: Duration = Duration::from_secs(12);
const INTERVAL: Duration = Duration::from_secs(2);

const PYTHON: [&str; 10] = [
    "websockets",
    "websockets-sync",
    "websocket-client",
    "websocket-client-app",
    "aiohttp",
    "httpx-ws",
    "wsproto",
    "tornado",
    "autobahn",
    "simple-websocket",
];

const NODE: [&str; 4] = ["ws", "undici", "faye-websocket", "websocket"];

/// Starts a Lockgate that pings idle clients, and closes the session of one that does not answer within 8 s.
async fn lockgate(server: SocketAddr) -> (Lockgate, String) {
    let setup =
        Lockgate::to(server).with("session = { ping = { interval = \"2s\", timeout = \"8s\" } }");
    let lockgate = setup.start().await;
    let url = format!("wss://localhost:{}", lockgate.https.port());
    (lockgate, url)
}

/// Starts Mosquitto with a listener for MQTT over WebSocket.
async fn mosquitto() -> (Child, TempDir, SocketAddr) {
    let folder = TempDir::new().expect("a folder");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let file = folder.path().join("mosquitto.conf");
    // Without a listener of another kind it does not start.
    let text = format!(
        "user root\nlistener 0 {}\nlistener {} 127.0.0.1\nprotocol websockets\nallow_anonymous true\n",
        folder.path().join("mqtt.sock").display(),
        address.port()
    );
    std::fs::write(&file, text).expect("writable");
    let child = Command::new("mosquitto")
        .arg("-c")
        .arg(&file)
        .env(
            "PATH",
            format!("/usr/sbin:{}", std::env::var("PATH").unwrap_or_default()),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("mosquitto is missing: tests/run installs it");
    eventually("a listening broker", async || {
        TcpStream::connect(address).await.is_ok()
    })
    .await;
    (child, folder, address)
}

/// Runs a client script to its end; returns what it printed, or the failure.
async fn client(script: &str, arguments: &[&str]) -> Result<String, String> {
    let output = run(script, arguments).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && text.starts_with("ok ") {
        Ok(text)
    } else {
        Err(format!(
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

async fn tungstenite(lockgate: &Lockgate) -> Result<String, String> {
    let stream = lockgate.tls("localhost").await;
    let url = format!("wss://localhost:{}/", lockgate.https.port());
    let opened = client_async(url, stream).await;
    let (mut socket, _) = opened.map_err(|error| error.to_string())?;
    let end = Instant::now() + IDLE;
    for text in ["first", "last"] {
        socket
            .send(Message::text(text))
            .await
            .map_err(|error| error.to_string())?;
        loop {
            match socket.next().await {
                Some(Ok(Message::Text(received))) if received == text => break,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return Err(format!("tokio-tungstenite: {other:?}")),
            }
        }
        // The library answers Pings while it is polled.
        while let Ok(received) = timeout_at(end, socket.next()).await {
            match received {
                Some(Ok(Message::Ping(_))) => {}
                other => return Err(format!("tokio-tungstenite: {other:?} while idle")),
            }
        }
    }
    socket
        .close(None)
        .await
        .map_err(|error| error.to_string())?;
    Ok("ok tokio-tungstenite\n".to_owned())
}

#[tokio::test]
async fn client_libraries_stay_connected_through_pings() {
    let (_echo, echo) = Program::server("websockets_echo.py").await;
    let (_socketio, socketio) = Program::server("socketio_echo.py").await;
    let (_broker, _folder, broker) = mosquitto().await;
    let (echo, echo_url) = lockgate(echo).await;
    let (socketio, socketio_url) = lockgate(socketio).await;
    let (broker, broker_url) = lockgate(broker).await;
    let (python, node) = ("idle_client.py", "../node/idle_client.js");
    let mut clients = vec![];
    clients.extend(PYTHON.map(|name| (python, name, &echo, &echo_url)));
    clients.extend(NODE.map(|name| (node, name, &echo, &echo_url)));
    clients.push((python, "python-socketio", &socketio, &socketio_url));
    clients.push((node, "socket.io-client", &socketio, &socketio_url));
    clients.push((python, "paho-mqtt", &broker, &broker_url));
    clients.push((node, "mqtt", &broker, &broker_url));
    let seconds = IDLE.as_secs().to_string();
    let scripts = clients.iter().map(async |(script, name, lockgate, url)| {
        let ca = lockgate.ca().display().to_string();
        client(script, &[name, url, &ca, &seconds]).await
    });
    let page = [&*seconds, &*echo_url];
    let page = client("../node/idle_page.js", &page);
    let (scripts, page, tungstenite) = tokio::join!(join_all(scripts), page, tungstenite(&echo));
    let results: Vec<_> = scripts.into_iter().chain([page, tungstenite]).collect();
    let failed: Vec<&String> = results
        .iter()
        .filter_map(|one| one.as_ref().err())
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:#?}",
        failed.len(),
        results.len()
    );
    println!("{} clients stayed connected", results.len());
    for (lockgate, sessions) in [(&echo, 16), (&socketio, 2), (&broker, 2)] {
        let pongs = lockgate
            .metric("lockgate_ping_rtt_seconds_count{leg=\"client\"}")
            .await;
        // Half of the Pings that fit, because a client may be late on a loaded machine.
        let expected = IDLE.as_secs() / INTERVAL.as_secs() / 2 * sessions;
        assert!(
            pongs >= expected as f64,
            "{pongs} Pongs of {sessions} sessions"
        );
        let all_closed = || {
            let records = lockgate.records();
            let closed = records
                .into_iter()
                .filter(|record| record["event"] == "close");
            closed.collect::<Vec<_>>()
        };
        eventually("the end of every session", async || {
            all_closed().len() as u64 >= sessions
        })
        .await;
        for record in all_closed() {
            let why = record["why"].as_str().unwrap_or_default();
            assert!(["closed", "gone"].contains(&why), "{record}");
        }
    }
}
