//! Health checks cause no errors in real Python servers.

use super::*;
use crate::harness::Program;

/// Checks the server by handshake and by GET; every handshake must close with 1000 and the server must log no error.
async fn check_logs_no_error(script: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("stderr");
    let (server, address) = Program::server_with_log(script, &log).await;
    let config = |id: usize| {
        let websocket = format!(
            "health = {{ check = \"websocket\", path = \"/?id={id}\", interval = \"100ms\", timeout = \"10s\" }}"
        );
        let http = "health = { check = \"http\", path = \"/http\", interval = \"100ms\", timeout = \"10s\" }";
        // Another host name makes it another backend with its own checks.
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
    // Stopped before Lockgate, which would abort a running check.
    server.kill().await;
    drop(lockgate);
    let log = std::fs::read_to_string(&log).expect("UTF-8");
    for bad in ["Traceback", "ERROR", "Error"] {
        assert!(!log.contains(bad), "{script}:\n{log}");
    }
}

#[tokio::test]
async fn checks_cause_no_error_in_websockets() {
    check_logs_no_error("websockets_echo.py").await;
}

#[tokio::test]
async fn checks_cause_no_error_in_uvicorn() {
    check_logs_no_error("fastapi_echo.py").await;
}

#[tokio::test]
async fn checks_cause_no_error_in_tornado() {
    check_logs_no_error("tornado_echo.py").await;
}

#[tokio::test]
async fn checks_cause_no_error_in_aiohttp() {
    check_logs_no_error("aiohttp_echo.py").await;
}

#[tokio::test]
async fn checks_cause_no_error_in_autobahn() {
    check_logs_no_error("autobahn_echo.py").await;
}

#[tokio::test]
async fn checks_cause_no_error_in_flask() {
    check_logs_no_error("flask_sock_echo.py").await;
}

#[tokio::test]
async fn checks_cause_no_error_in_daphne() {
    check_logs_no_error("channels_echo.py").await;
}
