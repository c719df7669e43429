//! Clients that come back to the backend that they had: by our cookie, and by Socket.IO's `sid`.
//!
//! `LOCKGATE_SESSIONS` sets how many sessions of Socket.IO there are (40, to be quick). The figures are printed.

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

/// Asks for a WebSocket with these cookies: the cookie that comes with it, and the backend that it went to.
async fn ask(lockgate: &Lockgate, cookie: Option<&str>) -> (Option<String>, String) {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let path = format!("/{}", ASKED.fetch_add(1, Ordering::Relaxed));
    let cookie = cookie.map_or_else(String::new, |it| format!("Cookie: theme=dark; {it}\r\n"));
    let mut wire = lockgate.request(handshake(&path, &cookie)).await;
    let head = wire.head().await;
    assert_eq!(head.status(), 101);
    let set = head.all("set-cookie");
    assert!(set.len() <= 1, "{set:?}");
    let pair = |line: &&str| line.split(';').next().expect("a pair").to_owned();
    let is_it = |record: &Record| record["event"] == "open" && record["path"] == *path;
    let record = lockgate.record(is_it).await;
    let backend = record["backend"].as_str().expect("text").to_owned();
    (set.first().map(pair), backend)
}

#[tokio::test]
async fn a_cookie_leads_back_until_its_backend_is_drained() {
    let mut backends = vec![];
    for _ in 0..3 {
        backends.push(Backend::echo().await);
    }
    let lockgate = Lockgate::with_file(&config(&backends, "cookie"))
        .start()
        .await;
    let (cookie, first) = ask(&lockgate, None).await;
    let cookie = cookie.expect("a first answer brings one");
    for _ in 0..6 {
        assert_eq!(ask(&lockgate, Some(&cookie)).await, (None, first.clone()));
    }
    // A cookie with the signature of another backend is treated as absent.
    let forged = format!("{}A", &cookie[..cookie.len() - 1]);
    if forged != cookie {
        assert!(ask(&lockgate, Some(&forged)).await.0.is_some());
    }
    // A reload keeps the key.
    lockgate.write_config(&(config(&backends, "cookie") + "# other\n"));
    assert!(lockgate.tell(&["reload"]).await.0);
    assert_eq!(ask(&lockgate, Some(&cookie)).await, (None, first.clone()));
    let (well, said) = lockgate.tell(&["drain", "--backend", &first]).await;
    assert!(well, "{said}");
    let (other, second) = ask(&lockgate, Some(&cookie)).await;
    assert_ne!(second, first);
    let other = other.expect("it has moved");
    assert_eq!(ask(&lockgate, Some(&other)).await, (None, second));
}

/// How many of so many sessions came through, and why the others did not.
async fn visits(sticky: &str, sessions: usize) -> (usize, String) {
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
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = String::from_utf8_lossy(&output.stderr);
    let (well, why) = said
        .split_once('\n')
        .unwrap_or_else(|| panic!("{said}{failed}"));
    (well.parse().expect("a number"), why.to_owned())
}

#[tokio::test]
async fn socketio_finds_its_process_again_and_without_that_it_does_not() {
    let sessions = std::env::var("LOCKGATE_SESSIONS").ok();
    let sessions = sessions.map_or(40, |it| it.parse().expect("a number"));
    let (well, why) = visits("socketio", sessions).await;
    let (without, reasons) = visits("off", 40).await;
    println!(
        "four processes: {well} of {sessions} sessions with sticky = \"socketio\"; {without} of 40 without:\n{reasons}"
    );
    assert_eq!(well, sessions, "{why}");
    assert!(without < 40, "one process would have been enough");
}
