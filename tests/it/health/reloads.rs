//! Reloads keep health checks running and their results.

use super::*;
use crate::harness::Backend;

fn config(backend: &Backend, path: &str, n: usize) -> String {
    let health = format!(
        "health = {{ check = \"http\", path = \"{path}\", interval = \"200ms\", timeout = \"60s\", rise = 2, fall = 1 }}"
    );
    format!("{HEAD}{}# {n}\n", pool("a", &[&backend.address], &health))
}

async fn reload(lockgate: &Lockgate, config: &str) {
    let applied = "lockgate_config_reloads_total{outcome=\"applied\"}";
    let before = lockgate.metric_or_zero(applied).await;
    lockgate.write_config(config);
    until(lockgate, applied, before + 1.0).await;
}

async fn check(backend: &Backend, path: &str) -> Wire {
    let mut wire = backend.accept().await;
    let start = wire.head().await.start;
    assert_eq!(start, format!("GET {path} HTTP/1.1"));
    wire
}

async fn answer(mut wire: Wire, status: u16) {
    wire.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))
        .await;
}

#[tokio::test]
async fn reload_keeps_running_checks_and_their_results() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::with_file(&config(&backend, "/a", 0))
        .start()
        .await;
    let up = up("a", backend.address);
    answer(check(&backend, "/a").await, 200).await;
    // The check begins before the reloads and is answered after them.
    let pending = check(&backend, "/a").await;
    for n in 1..=3 {
        reload(&lockgate, &config(&backend, "/a", n)).await;
    }
    assert_eq!(lockgate.metric(&up).await, 1.0);
    answer(pending, 500).await;
    until(&lockgate, &up, 0.0).await;
    // The backend stays down, and successful checks from before a reload count towards `rise`.
    let pending = check(&backend, "/a").await;
    reload(&lockgate, &config(&backend, "/a", 4)).await;
    answer(pending, 200).await;
    let pending = check(&backend, "/a").await;
    reload(&lockgate, &config(&backend, "/b", 5)).await;
    assert_eq!(state(&lockgate, "a").await.0, "down");
    answer(pending, 200).await;
    until(&lockgate, &up, 1.0).await;
    // The new path is used.
    answer(check(&backend, "/b").await, 200).await;
}

#[tokio::test]
async fn repeated_reloads_do_not_delay_checks() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::with_file(&config(&backend, "/a", 0))
        .start()
        .await;
    let started = tokio::time::Instant::now();
    for _ in 0..10 {
        answer(check(&backend, "/a").await, 200).await;
    }
    // The interval is 200 ms, and more on a slow machine.
    let interval = started.elapsed() / 10;
    let mut checks = 0;
    let reloads = async {
        for n in 1..=10 {
            reload(&lockgate, &config(&backend, "/a", n)).await;
        }
    };
    let answers = async {
        loop {
            answer(check(&backend, "/a").await, 200).await;
            checks += 1;
        }
    };
    let started = tokio::time::Instant::now();
    tokio::select! {
        () = reloads => {}
        () = answers => {}
    }
    let took = started.elapsed();
    println!("{checks} checks in {took:.1?} with 10 reloads, one in {interval:.0?} without");
    let expected = took.as_secs_f64() / interval.as_secs_f64();
    assert!(
        checks as f64 >= expected / 2.0 - 1.0,
        "{checks} in {took:?} instead of {expected:.0}"
    );
}

#[tokio::test]
async fn removed_backend_is_not_health_checked() {
    let (removed, other) = (Backend::listen().await, Backend::listen().await);
    let lockgate = Lockgate::with_file(&config(&removed, "/a", 0))
        .start()
        .await;
    let pending = check(&removed, "/a").await;
    reload(&lockgate, &config(&other, "/a", 1)).await;
    // Its result no longer matters, but the check is not aborted.
    answer(pending, 200).await;
    let series = up("a", removed.address);
    assert_eq!(lockgate.metric_or_zero(&series).await, 0.0);
    for _ in 0..3 {
        answer(check(&other, "/a").await, 200).await;
    }
    assert!(removed.untouched());
}

#[tokio::test]
async fn down_backend_stays_down_in_another_pool() {
    let removed = Switch::off().await;
    let named = |pools: &[&str]| {
        let health = "health = { check = \"tcp\", interval = \"100ms\" }";
        let pools = pools
            .iter()
            .map(|name| pool(name, &[&removed.address], health));
        format!("{HEAD}{}", pools.collect::<String>())
    };
    let lockgate = Lockgate::with_file(&named(&["b"])).start().await;
    until(&lockgate, &up("b", removed.address), 0.0).await;
    for (pools, name) in [(&["a", "b"][..], "a"), (&["c"], "c")] {
        reload(&lockgate, &named(pools)).await;
        // The metric has one series, labelled with the first pool of the backend.
        assert_eq!(lockgate.metric(&up(name, removed.address)).await, 0.0);
        let page = lockgate.metrics().await;
        assert_eq!(page.matches("lockgate_backend_up{").count(), 1, "{page}");
        assert_eq!(state(&lockgate, name).await.0, "down");
    }
}
