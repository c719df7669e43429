//! What real servers think of being checked: nothing.

use super::*;
use crate::harness::Program;

/// Checks by handshake as the server saw each of them close, and by GET.
async fn is_left_in_peace(script: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("stderr");
    let (server, address) = Program::server_with_log(script, &log).await;
    let config = |id: usize| {
        let websocket = format!(
            "health = {{ check = \"websocket\", path = \"/?id={id}\", interval = \"100ms\", timeout = \"10s\" }}"
        );
        let http = "health = { check = \"http\", path = \"/http\", interval = \"100ms\", timeout = \"10s\" }";
        // Under another name it is another backend, with checks of its own.
        let again = format!("localhost:{}", address.port());
        pool("a", &[&address], &websocket) + &pool("b", &[&again], http)
    };
    let lockgate = start(&config(0)).await;
    for id in 0..5 {
        lockgate.write_config(&format!("{HEAD}{}", config(id)));
        let mut wire = lockgate.connect_as("a.test").await;
        wire.send(handshake(&format!("/closes?id={id}"), "")).await;
        assert_eq!(wire.head().await.status(), 101);
        assert_eq!(wire.text().await.replace(' ', ""), "[1000,\"\"]");
    }
    for pool in ["a", "b"] {
        assert_eq!(
            state(&lockgate, pool).await,
            ("up".into(), None),
            "{script}"
        );
    }
    // Before Lockgate, which would break off a check.
    server.kill().await;
    drop(lockgate);
    let log = std::fs::read_to_string(&log).expect("UTF-8");
    for bad in ["Traceback", "ERROR", "Error"] {
        assert!(!log.contains(bad), "{script}:\n{log}");
    }
}

#[tokio::test]
async fn websockets() {
    is_left_in_peace("websockets_echo.py").await;
}

#[tokio::test]
async fn uvicorn() {
    is_left_in_peace("fastapi_echo.py").await;
}

#[tokio::test]
async fn tornado() {
    is_left_in_peace("tornado_echo.py").await;
}

#[tokio::test]
async fn aiohttp() {
    is_left_in_peace("aiohttp_echo.py").await;
}

#[tokio::test]
async fn autobahn() {
    is_left_in_peace("autobahn_echo.py").await;
}

#[tokio::test]
async fn flask() {
    is_left_in_peace("flask_sock_echo.py").await;
}

#[tokio::test]
async fn daphne() {
    is_left_in_peace("channels_echo.py").await;
}
