//! Sessions whose authority is asked again.

use super::{guard, send};
use crate::harness::{
    Lockgate, Wire, eventually,
    recorder::{Recorder, Reply, response},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, sleep};

const SECRET: &str = "session=very-secret";

/// A guard that asks again every second.
async fn rechecking(backend: &Recorder, authority: &Recorder, more: &str) -> Lockgate {
    let url = format!("http://{}/", authority.address);
    let more = format!("copy = [\"Remote-User\"]\nrecheck = \"1s\"\n{more}");
    guard(backend, &url, &more).start().await
}

fn admit() -> Reply {
    Reply::Send(response("200 OK", "Remote-User: anna\r\n", ""))
}

async fn open(lockgate: &Lockgate) -> Wire {
    let more =
        format!("Cookie: {SECRET}\r\nAuthorization: Bearer very-secret\r\nUser-Agent: test\r\n");
    let mut client = lockgate.upgrade("/ws?q=1", &more).await;
    assert_eq!(client.head().await.status(), 101);
    client
}

#[tokio::test]
async fn revoked_user_is_disconnected_within_recheck_and_one_second() {
    for (status, more) in [
        ("401 Unauthorized", ""),
        ("403 Forbidden", ""),
        ("302 Found", "Location: /login\r\n"),
    ] {
        let backend = Recorder::backend().await;
        let authority = Recorder::start(|_| admit()).await;
        let lockgate = rechecking(&backend, &authority, "close_code = 3456").await;
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(open(&lockgate).await);
        }
        // Asked twice each, and still open.
        authority.last(60).await;
        for head in authority.heads() {
            assert_eq!(head.all("cookie"), [SECRET]);
            assert_eq!(head.all("authorization"), ["Bearer very-secret"]);
            assert_eq!(head.all("x-forwarded-uri"), ["/ws?q=1"]);
            assert_eq!(head.all("x-forwarded-upgrade"), ["websocket"]);
        }
        authority.set(move |_| Reply::Send(response(status, more, "")));
        let revoked = Instant::now();
        for client in &mut clients {
            let close = client.frame().await;
            assert!(close.is_close());
            assert_eq!(
                close.payload,
                [&3456_u16.to_be_bytes()[..], b"access revoked"].concat()
            );
            let late = revoked.elapsed();
            assert!(late < Duration::from_secs(2), "{late:?}");
        }
        let end = lockgate.closed().await;
        assert_eq!(end["why"], "revoked");
        assert_eq!(end["subject"], "anna");
        let shown = format!("{:?}{}", lockgate.records(), lockgate.stderr());
        assert!(!shown.contains("very-secret"));
        let count = authority.count();
        sleep(Duration::from_millis(2500)).await;
        assert_eq!(
            authority.count(),
            count,
            "nothing is asked about closed sessions"
        );
    }
}

#[tokio::test]
async fn checks_end_with_their_session_and_a_slow_answer_does_not_close_it() {
    let backend = Recorder::backend().await;
    let authority = Recorder::start(|_| admit()).await;
    let lockgate = rechecking(&backend, &authority, "").await;
    let client = open(&lockgate).await;
    let other = open(&lockgate).await;
    authority.last(4).await;
    drop(client);
    drop(other);
    eventually("no session", async || {
        lockgate.metric_or_zero("lockgate_sessions").await == 0.0
    })
    .await;
    let count = authority.count();
    sleep(Duration::from_millis(2500)).await;
    assert!(
        authority.count() <= count + 1,
        "{} after {count}",
        authority.count()
    );
    // Plain requests are asked about once each.
    let mut wire = lockgate.connect().await;
    let before = authority.count();
    send(&mut wire, "GET", "/", "").await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(authority.count(), before + 1);
}

#[tokio::test]
async fn silent_authority_closes_sessions_after_grace_and_a_short_silence_does_not() {
    let backend = Recorder::backend().await;
    let authority = Recorder::start(|_| admit()).await;
    let lockgate = rechecking(&backend, &authority, "timeout = \"300ms\"\ngrace = \"3s\"").await;
    let mut client = open(&lockgate).await;
    authority.last(2).await;
    authority.set(|_| Reply::Send(response("500 Internal Server Error", "", "")));
    sleep(Duration::from_millis(1800)).await;
    authority.set(|_| admit());
    let count = authority.count();
    authority.last(count + 3).await;
    assert_eq!(lockgate.metric("lockgate_sessions").await, 1.0);
    authority.set(|_| Reply::Silent);
    let begun = Instant::now();
    let close = client.frame().await;
    assert_eq!(
        close.payload,
        [&1013_u16.to_be_bytes()[..], b"authority unavailable"].concat()
    );
    let after = begun.elapsed();
    assert!(
        after > Duration::from_millis(2900) && after < Duration::from_millis(5500),
        "{after:?}"
    );
    let end = lockgate.closed().await;
    assert_eq!(end["why"], "authority");
}

#[tokio::test]
async fn at_most_32_rechecks_run_at_once() {
    let backend = Recorder::backend().await;
    let authority = Recorder::start(|_| admit()).await;
    let lockgate = rechecking(&backend, &authority, "timeout = \"2s\"\ngrace = \"1m\"").await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(open(&lockgate).await);
    }
    let silent = Arc::new(AtomicUsize::new(0));
    let count = silent.clone();
    authority.set(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Reply::Silent
    });
    eventually("32 requests", async || silent.load(Ordering::SeqCst) >= 32).await;
    sleep(Duration::from_millis(700)).await;
    assert_eq!(silent.load(Ordering::SeqCst), 32);
}

#[tokio::test]
async fn credentials_that_are_too_large_to_keep_are_refused() {
    let backend = Recorder::backend().await;
    let authority = Recorder::start(|_| admit()).await;
    let url = format!("http://{}/", authority.address);
    let lockgate = guard(
        &backend,
        &url,
        "recheck = \"1s\"\n[limits]\nhead_size = \"64KiB\"",
    )
    .start()
    .await;
    let large = format!("Cookie: a={}\r\n", "a".repeat(16 * 1024));
    let mut client = lockgate.upgrade("/ws", &large).await;
    assert_eq!(client.head().await.status(), 431);
    let mut wire = lockgate.connect().await;
    assert_eq!(send(&mut wire, "GET", "/", &large).await.0.status(), 200);
    assert_eq!(authority.count(), 1);
}

#[tokio::test]
async fn session_keeps_the_guard_that_it_was_opened_with_after_a_reload() {
    let backend = Recorder::backend().await;
    let (authority, other) = (
        Recorder::start(|_| admit()).await,
        Recorder::start(|_| admit()).await,
    );
    let lockgate = rechecking(&backend, &authority, "").await;
    let mut client = open(&lockgate).await;
    let config = std::fs::read_to_string(lockgate.folder().join("config.toml")).expect("written");
    let address = |it: &Recorder| it.address.to_string();
    lockgate.write_config(&config.replace(&address(&authority), &address(&other)));
    eventually("the new guard", async || {
        let mut wire = lockgate.connect().await;
        send(&mut wire, "GET", "/", "").await;
        other.count() > 0
    })
    .await;
    let (count, other_count) = (authority.count(), other.count());
    authority.last(count + 2).await;
    assert_eq!(other.count(), other_count);
    authority.set(|_| Reply::Send(response("401 Unauthorized", "", "")));
    assert!(client.frame().await.is_close());
}

#[tokio::test]
async fn shutdown_does_not_wait_for_checks() {
    let backend = Recorder::backend().await;
    let authority = Recorder::start(|_| admit()).await;
    let url = format!("http://{}/", authority.address);
    let more = "recheck = \"1h\"\n[drain]\nwindow = \"2s\"\naccept_grace = \"0s\"";
    let mut lockgate = guard(&backend, &url, more).start().await;
    let mut client = open(&lockgate).await;
    let begun = Instant::now();
    lockgate.terminate();
    assert!(client.frame().await.is_close());
    client
        .send_frame(crate::harness::Frame::close(1001, ""))
        .await;
    assert_eq!(lockgate.exit().await, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}
