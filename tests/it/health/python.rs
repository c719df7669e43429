//! Health checks cause no errors in real Python servers, and one client cannot occupy such a server.

use super::*;
use crate::harness::Program;
use std::net::{IpAddr, Ipv4Addr};
use tokio::time::Instant;

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

/// uvicorn leaves a handshake unanswered if one of its header lines is longer than 8,192 bytes. Measures the time of
/// other handshakes.
#[tokio::test]
async fn unanswered_handshakes_of_one_client_delay_no_other_handshake() {
    let (_server, address) = Program::server("fastapi_echo.py").await;
    let lockgate = start(&pool("a", &[&address], "all_down = \"refuse\"")).await;
    let long = format!("X-Long: {}\r\n", "x".repeat(9 * 1024));
    let mut unanswered = vec![];
    for _ in 0..64 {
        unanswered.push(lockgate.upgrade("/", &long).await);
    }
    eventually("the handshakes of one client", async || {
        let status = lockgate.status().await;
        let held = status["backends"][0]["handshakes"].as_u64();
        observe(held.unwrap_or(0), |held| *held >= 48)
    })
    .await;
    let mut slowest = Duration::ZERO;
    for n in 0..10 {
        let client = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + n));
        let mut wire = lockgate.connect_from(client).await;
        let started = Instant::now();
        wire.send(handshake("/", "")).await;
        assert_eq!(wire.head().await.status(), 101);
        slowest = slowest.max(started.elapsed());
        wire.echoes().await;
    }
    println!("at most {slowest:.2?} for a handshake during 64 unanswered ones");
    // Less than `session.handshake_timeout`, after which the unanswered ones end.
    assert!(slowest < Duration::from_secs(8), "{slowest:?}");
    for mut wire in unanswered {
        assert!([504, 503].contains(&wire.head().await.status()));
    }
    let ejected = transitions("a", address, "ejected");
    assert_eq!(lockgate.metric_or_zero(&ejected).await, 0.0);
}

#[tokio::test]
async fn header_line_that_a_preset_excludes_is_refused_with_431() {
    for (script, framework) in [
        ("fastapi_echo.py", "uvicorn"),
        ("websockets_echo.py", "websockets"),
    ] {
        let (_server, address) = Program::server(script).await;
        let config = pool("a", &[&address], "") + &format!("framework = \"{framework}\"\n");
        let lockgate = start(&config).await;
        // With the name, a colon, a blank and CR LF the line has 8,192 bytes, or one more.
        let fitting = 8192 - "x-long: \r\n".len();
        for (value, query, expected) in [
            (fitting, 0, 101),
            (fitting + 1, 0, 431),
            (0, 8192 - "GET /?= HTTP/1.1\r\n".len(), 101),
            (0, 8192, 431),
        ] {
            let long = format!("X-Long: {}\r\n", "x".repeat(value));
            let path = match query {
                0 => "/".to_owned(),
                length => format!("/?{}=", "q".repeat(length)),
            };
            let mut wire = lockgate.upgrade(&path, &long).await;
            let head = wire.head().await;
            assert_eq!(head.status(), expected, "{framework} {value} {query}");
            if expected == 431 {
                let text = String::from_utf8(wire.body(&head).await).expect("UTF-8");
                assert!(text.contains("8192"), "{text}");
                assert!(text.contains(framework), "{text}");
            }
        }
        lockgate.record(|it| it["why"] == "header-line").await;
        let header = format!("X-Long: {}", "x".repeat(9000));
        let arguments = [
            "explain",
            "--config",
            "config.toml",
            "wss://a.test/",
            "--header",
            &header,
        ];
        let explained = Lockgate::run(lockgate.folder(), &arguments).await;
        let explained = String::from_utf8(explained.stdout).expect("UTF-8");
        assert!(explained.contains("431 (header-line)"), "{explained}");
        assert!(explained.contains("8192"), "{explained}");
    }
}
