//! Affinity of clients to their backend by Lockgate's cookie and by Socket.IO's `sid`.
//!
//! `LOCKGATE_SESSIONS` sets the number of Socket.IO sessions (40). The figures are printed.

use crate::harness::{Backend, Lockgate, Program, handshake};
use serde_json::Value as Record;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::time::timeout;

fn config(backends: &[SocketAddr], sticky: &str) -> String {
    let backends: Vec<_> = backends.iter().map(|it| format!("ws://{it}")).collect();
    format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
         [pools.a]\nbackends = {backends:?}\nsticky = \"{sticky}\"\n\
         [[routes]]\nhosts = [\"a.test\", \"localhost\"]\npool = \"a\"\norigins = [\"*\"]\nframework = \"socketio\"\n"
    )
}

/// Opens a session with this cookie; returns the cookie that is set, and the backend.
async fn open(lockgate: &Lockgate, cookie: Option<&str>) -> (Option<String>, String) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let path = format!("/{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let cookie = cookie.map_or_else(String::new, |it| format!("Cookie: theme=dark; {it}\r\n"));
    let mut wire = lockgate.request(handshake(&path, &cookie)).await;
    let head = wire.head().await;
    assert_eq!(head.status(), 101);
    let set = head.all("set-cookie");
    assert!(set.len() <= 1, "{set:?}");
    let pair = |line: &&str| line.split(';').next().expect("a pair").to_owned();
    let is_opened = |record: &Record| record["event"] == "open" && record["path"] == *path;
    let record = lockgate.record(is_opened).await;
    let backend = record["backend"].as_str().expect("text").to_owned();
    (set.first().map(pair), backend)
}

#[tokio::test]
async fn cookie_selects_its_backend_until_it_is_drained() {
    let mut backends = vec![];
    for _ in 0..3 {
        backends.push(Backend::echo().await);
    }
    let lockgate = Lockgate::with_file(&config(&backends, "cookie"))
        .start()
        .await;
    let (cookie, first) = open(&lockgate, None).await;
    let cookie = cookie.expect("a first answer brings one");
    for _ in 0..6 {
        assert_eq!(open(&lockgate, Some(&cookie)).await, (None, first.clone()));
    }
    // A cookie with the signature of another backend is treated as absent.
    let forged = format!("{}A", &cookie[..cookie.len() - 1]);
    if forged != cookie {
        assert!(open(&lockgate, Some(&forged)).await.0.is_some());
    }
    // A reload keeps the key.
    lockgate.write_config(&(config(&backends, "cookie") + "# other\n"));
    assert!(lockgate.command(&["reload"]).await.0);
    assert_eq!(open(&lockgate, Some(&cookie)).await, (None, first.clone()));
    let (ok, output) = lockgate.command(&["drain", "--backend", &first]).await;
    assert!(ok, "{output}");
    let (other, second) = open(&lockgate, Some(&cookie)).await;
    assert_ne!(second, first);
    let other = other.expect("it has moved");
    assert_eq!(open(&lockgate, Some(&other)).await, (None, second));
}

/// Runs Socket.IO sessions; returns how many succeeded, and the errors of the others.
async fn run_sessions(sticky: &str, sessions: usize) -> (usize, String) {
    let (mut servers, mut addresses) = (vec![], vec![]);
    for _ in 0..4 {
        let (server, address) = Program::server("socketio_echo.py").await;
        servers.push(server);
        addresses.push(address);
    }
    let lockgate = Lockgate::with_file(&config(&addresses, sticky))
        .start()
        .await;
    let url = format!("https://localhost:{}", lockgate.https.port());
    let ca = lockgate.ca().display().to_string();
    let sessions = sessions.to_string();
    let arguments = [&*url, &ca, &sessions];
    let run = Program::run("socketio_many.py", &arguments);
    let output = timeout(Duration::from_secs(400), run)
        .await
        .expect("an end");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let (succeeded, why) = stdout
        .split_once('\n')
        .unwrap_or_else(|| panic!("{stdout}{stderr}"));
    (succeeded.parse().expect("a number"), why.to_owned())
}

#[tokio::test]
async fn socketio_sessions_need_affinity_to_their_process() {
    let sessions = std::env::var("LOCKGATE_SESSIONS").ok();
    let sessions = sessions.map_or(40, |it| it.parse().expect("a number"));
    let (succeeded, why) = run_sessions("socketio", sessions).await;
    let (without, reasons) = run_sessions("off", 40).await;
    println!(
        "four processes: {succeeded} of {sessions} sessions with sticky = \"socketio\"; {without} of 40 without:\n{reasons}"
    );
    assert_eq!(succeeded, sessions, "{why}");
    assert!(without < 40, "one process would have been enough");
}
