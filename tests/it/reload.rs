//! Reloads while sessions are open: only sessions whose route or backend has gone are closed.

mod drain;
mod many;

use crate::harness::{
    Backend, Frame, Lockgate, Wire, eventually, free_port, observe, switching_protocols,
};
use serde_json::Value;
use std::{fs, time::Duration};
use tokio::time::{Instant, sleep};

/// Waits until `lockgate status` meets the condition.
async fn until(lockgate: &Lockgate, condition: impl Fn(&Value) -> bool) -> Value {
    eventually("another status", async || {
        observe(lockgate.status().await, &condition)
    })
    .await
}

fn route(name: &str, host: &str, backend: impl std::fmt::Display, more: &str) -> String {
    format!(
        "[[routes]]\nname = \"{name}\"\nhosts = [\"{host}\"]\nto = \"ws://{backend}\"\norigins = [\"*\"]\n{more}\n"
    )
}

const HEAD: &str = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[drain]\nwindow = \"2s\"\n";

async fn session(lockgate: &Lockgate, host: &'static str) -> Wire {
    let mut wire = lockgate.connect_as(host).await;
    let request =
        crate::harness::handshake("/", "").replace("Host: a.test", &format!("Host: {host}"));
    wire.send(request).await;
    assert_eq!(wire.head().await.status(), 101);
    wire
}

#[tokio::test]
async fn changed_file_is_applied_without_a_command() {
    let backend = Backend::echo().await;
    let lockgate = Lockgate::with_file(&format!("{HEAD}{}", route("a", "a.test", backend, "")))
        .start()
        .await;
    let mut before = session(&lockgate, "a.test").await;
    let both = route("a", "a.test", backend, "") + &route("b", "b.test", backend, "");
    lockgate.write_config(&format!("{HEAD}{both}"));
    until(&lockgate, |status| {
        status["routes"].as_array().is_some_and(|it| it.len() == 2)
    })
    .await;
    let mut new = session(&lockgate, "b.test").await;
    new.echoes().await;
    before.echoes().await;
    let applied = "lockgate_config_reloads_total{outcome=\"applied\"}";
    lockgate.until_metric(applied, 1.0).await;
    // Both routes share one backend, which keeps its counters.
    let status = lockgate.status().await;
    let leases: Vec<_> = status["backends"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|it| it["leases"].as_u64())
        .collect();
    assert_eq!(leases, [2, 2], "{status:#}");
}

#[tokio::test]
async fn invalid_reload_keeps_config_and_logs_error() {
    let backend = Backend::echo().await;
    let right = format!("{HEAD}{}", route("a", "a.test", backend, ""));
    let lockgate = Lockgate::with_file(&right).start().await;
    let mut open = session(&lockgate, "a.test").await;
    lockgate.write_config(&right.replace("hosts", "hots"));
    let status = until(&lockgate, |status| status["config"]["error"].is_string()).await;
    let error = status["config"]["error"].as_str().expect("text");
    assert!(
        error.contains("did you mean `hosts`?") && error.contains("config.toml:"),
        "{error}"
    );
    open.echoes().await;
    session(&lockgate, "a.test").await.echoes().await;
    let (ok, output) = lockgate.command(&["reload"]).await;
    assert!(!ok && output.contains("did you mean `hosts`?"), "{output}");
    let (_, output) = lockgate.command(&["status"]).await;
    assert!(output.contains("the last reload was rejected"), "{output}");

    lockgate.write_config(&right);
    until(&lockgate, |status| status["config"]["error"].is_null()).await;
    let (ok, output) = lockgate.command(&["reload"]).await;
    assert!(ok && output.contains("nothing has changed"), "{output}");
    open.echoes().await;
}

#[tokio::test]
async fn sighup_and_reload_command_reread_the_file() {
    let backend = Backend::echo().await;
    let text = |limit: &str| {
        format!(
            "{HEAD}[limits]\nidle = \"{limit}\"\n{}",
            route("a", "a.test", backend, "")
        )
    };
    let lockgate = Lockgate::with_file(&text("10s")).start().await;
    lockgate.signal(rustix::process::Signal::HUP);
    let unchanged = "lockgate_config_reloads_total{outcome=\"unchanged\"}";
    eventually("an unchanged configuration", async || {
        lockgate.metric_or_zero(unchanged).await >= 1.0
    })
    .await;
    lockgate.write_config(&text("11s"));
    let (ok, output) = lockgate.command(&["reload"]).await;
    assert!(ok, "{output}");
    until(&lockgate, |_| true).await;
}

#[tokio::test]
async fn removed_route_closes_its_sessions_with_1012() {
    let backend = Backend::echo().await;
    let both = route("a", "a.test", backend, "") + &route("b", "b.test", backend, "");
    let lockgate = Lockgate::with_file(&format!("{HEAD}{both}")).start().await;
    let mut stays = session(&lockgate, "a.test").await;
    let mut goes = session(&lockgate, "b.test").await;
    lockgate.write_config(&format!("{HEAD}{}", route("a", "a.test", backend, "")));
    assert_eq!(goes.frame().await.closes_with().0, 1012);
    stays.echoes().await;
}

#[tokio::test]
async fn removed_backend_closes_its_sessions_with_1012() {
    let (one, other) = (Backend::echo().await, Backend::echo().await);
    let lockgate = Lockgate::with_file(&format!("{HEAD}{}", route("a", "a.test", one, "")))
        .start()
        .await;
    let mut goes = session(&lockgate, "a.test").await;
    lockgate.write_config(&format!("{HEAD}{}", route("a", "a.test", other, "")));
    assert_eq!(goes.frame().await.closes_with().0, 1012);
    session(&lockgate, "a.test").await.echoes().await;
}

#[tokio::test]
async fn backend_readded_while_sessions_close_keeps_its_leases() {
    let (one, other) = (Backend::echo().await, Backend::echo().await);
    let waits = "session = { close_timeout = \"1m\" }";
    let to = |backend| format!("{HEAD}{}", route("a", "a.test", backend, waits));
    let lockgate = Lockgate::with_file(&to(one)).start().await;
    let mut goes = session(&lockgate, "a.test").await;
    lockgate.write_config(&to(other));
    let close = goes.frame().await;
    assert_eq!(close.closes_with().0, 1012);
    // The session ends only after its client has answered the Close.
    lockgate.write_config(&to(one));
    let back = format!("ws://{one}");
    let status = until(&lockgate, |it| it["backends"][0]["address"] == *back).await;
    assert_eq!(status["backends"][0]["leases"], 1, "{status:#}");
    goes.send_frame(close).await;
    until(&lockgate, |it| it["backends"][0]["leases"] == 0).await;
}

#[tokio::test]
async fn changed_limit_applies_to_the_next_frame_of_an_open_session() {
    let backend = Backend::echo().await;
    let with = |limit: &str| {
        format!(
            "{HEAD}{}",
            route("a", "a.test", backend, &format!("session = {{ {limit} }}"))
        )
    };
    let lockgate = Lockgate::with_file(&with("max_message = \"1MiB\""))
        .start()
        .await;
    let mut open = session(&lockgate, "a.test").await;
    let large = Frame::binary(&[7; 4096]);
    open.send_frame(large.clone()).await;
    assert_eq!(open.frame().await, large);
    lockgate.write_config(&with("max_message = \"1KiB\""));
    until(&lockgate, |status| {
        status["config"]["loaded"].is_string() && status["closing"] == 0
    })
    .await;
    let (ok, output) = lockgate.command(&["reload"]).await;
    assert!(ok, "{output}");
    open.send_frame(large).await;
    assert_eq!(open.frame().await.closes_with().0, 1009);
}

#[tokio::test]
async fn changed_ping_interval_applies_to_an_idle_session() {
    let backend = Backend::quiet().await;
    let with = |interval: &str| {
        let ping = format!(
            "session = {{ ping = {{ interval = \"{interval}\", timeout = \"1h\", legs = \"client\" }} }}"
        );
        format!("{HEAD}{}", route("a", "a.test", backend, &ping))
    };
    let lockgate = Lockgate::with_file(&with("1h")).start().await;
    let mut open = session(&lockgate, "a.test").await;
    lockgate.write_config(&with("100ms"));
    assert_eq!(open.frame().await.opcode, 9);
}

#[tokio::test]
async fn changed_listeners_keep_accepted_connections() {
    let backend = Backend::echo().await;
    let listening = |addresses: &str| {
        format!("{HEAD}{}", route("a", "a.test", backend, "")).replace(
            "https = [\"127.0.0.1:0\"]",
            &format!("https = [{addresses}]"),
        )
    };
    let other = free_port();
    let lockgate = Lockgate::with_file(&listening("\"127.0.0.1:0\""))
        .start()
        .await;
    let mut open = session(&lockgate, "a.test").await;
    lockgate.write_config(&listening(&format!("\"127.0.0.1:{other}\"")));
    let new = format!("127.0.0.1:{other}");
    until(&lockgate, |status| {
        let listeners = status["listeners"].as_array().expect("a list");
        let https: Vec<_> = listeners
            .iter()
            .filter(|it| it["kind"] == "https")
            .collect();
        https.len() == 1 && https[0]["address"] == new.as_str()
    })
    .await;
    open.echoes().await;
    eventually("the end of the old listener", async || {
        tokio::net::TcpStream::connect(lockgate.https)
            .await
            .is_err()
    })
    .await;
    tokio::net::TcpStream::connect(&new)
        .await
        .expect("the new one listens");

    // A reload with an address that cannot be bound is rejected.
    lockgate.write_config(&listening("\"192.0.2.1:443\""));
    let status = until(&lockgate, |status| status["config"]["error"].is_string()).await;
    assert!(
        status["config"]["error"]
            .as_str()
            .is_some_and(|it| it.contains("no such address")),
        "{status:#}"
    );
    tokio::net::TcpStream::connect(&new)
        .await
        .expect("it still listens");
    open.echoes().await;
}

#[tokio::test]
async fn key_that_requires_a_restart_is_reported() {
    let backend = Backend::echo().await;
    let text = format!("{HEAD}{}", route("a", "a.test", backend, ""));
    let lockgate = Lockgate::with_file(&text).start().await;
    lockgate.write_config(&text.replace("[tls]", "[limits]\nsessions = 7\n[tls]"));
    let status = until(&lockgate, |status| {
        status["config"]["needs_restart"][0].is_string()
    })
    .await;
    assert_eq!(
        status["config"]["needs_restart"],
        serde_json::json!(["limits.sessions"])
    );
}

#[tokio::test]
async fn included_directory_is_watched_for_writes_renames_and_removals() {
    let backend = Backend::echo().await;
    let lockgate = Lockgate::with_file(&format!(
        "include = [\"conf.d/*.toml\"]\n{HEAD}{}",
        route("a", "a.test", backend, "")
    ))
    .start()
    .await;
    let folder = lockgate.folder().join("conf.d");
    let routes = |n: usize| {
        move |status: &Value| status["routes"].as_array().is_some_and(|it| it.len() == n)
    };
    fs::create_dir(&folder).expect("writable");
    fs::write(folder.join("b.toml"), route("b", "b.test", backend, "")).expect("writable");
    until(&lockgate, routes(2)).await;
    // Editors and configuration tools replace a file by a rename.
    fs::write(folder.join("c.new"), route("c", "c.test", backend, "")).expect("writable");
    fs::rename(folder.join("c.new"), folder.join("c.toml")).expect("ours");
    until(&lockgate, routes(3)).await;
    fs::remove_file(folder.join("b.toml")).expect("ours");
    until(&lockgate, routes(2)).await;
}

#[tokio::test]
async fn drained_backend_gets_sessions_again_after_undo() {
    let (one, other) = (Backend::echo().await, Backend::echo().await);
    let pool = format!("[pools.both]\nbackends = [\"ws://{one}\", \"ws://{other}\"]\n");
    let routes =
        "[[routes]]\nname = \"a\"\nhosts = [\"a.test\"]\npool = \"both\"\norigins = [\"*\"]\n";
    let lockgate = Lockgate::with_file(&format!("{HEAD}{pool}{routes}"))
        .start()
        .await;
    let mut open = vec![
        session(&lockgate, "a.test").await,
        session(&lockgate, "a.test").await,
    ];
    for wire in &mut open {
        // A client receives its 101 before its session is registered.
        wire.echoes().await;
    }
    let address = format!("ws://{one}");
    let (ok, output) = lockgate.command(&["drain", "--backend", &address]).await;
    assert!(ok && output.contains("1 is closed"), "{output}");
    assert!(!output.contains("warning"), "{output}");
    let (_, output) = lockgate.command(&["status"]).await;
    assert!(output.contains(", draining"), "{output}");
    // At most one session was on the drained backend; new clients get the other backend.
    let mut closed = 0;
    for mut wire in std::mem::take(&mut open) {
        let answer = async {
            wire.send_frame(Frame::text("?")).await;
            wire.frame().await
        };
        match answer.await {
            frame if frame.is_close() => {
                assert_eq!(frame.closes_with().0, 1012);
                closed += 1;
            }
            _ => open.push(wire),
        }
    }
    assert!(closed <= 1);
    for _ in 0..4 {
        open.push(session(&lockgate, "a.test").await);
    }
    let busy = |status: &Value, n: u64| {
        let backends = status["backends"].as_array().expect("a list");
        backends
            .iter()
            .any(|it| it["address"] == address.as_str() && it["leases"] == n)
    };
    until(&lockgate, |status| busy(status, 0)).await;
    let (ok, _) = lockgate
        .command(&["drain", "--backend", &address, "--undo"])
        .await;
    assert!(ok);
    open.push(session(&lockgate, "a.test").await);
    assert!(busy(&lockgate.status().await, 1));

    let (ok, _) = lockgate.command(&["drain", "--route", "a"]).await;
    assert!(ok);
    let refused = lockgate.upgrade("/", "").await.head().await;
    assert_eq!(refused.status(), 503);
    let (ok, output) = lockgate.command(&["drain", "--route", "b"]).await;
    assert!(
        !ok && output.contains("there is no route b; the routes are: a"),
        "{output}"
    );
}

#[tokio::test]
async fn drain_ordered_during_a_handshake_closes_its_session_or_refuses_it() {
    let backend = Backend::listen().await;
    let address = format!("ws://{}", backend.address);
    let pool = format!(
        "[pools.p]\nbackends = [\"{address}\"]\nadmission = {{ handshakes = 1, queue = 10 }}\n"
    );
    let routes =
        "[[routes]]\nname = \"a\"\nhosts = [\"a.test\"]\npool = \"p\"\norigins = [\"*\"]\n";
    let lockgate = Lockgate::with_file(&format!("{HEAD}{pool}{routes}"))
        .start()
        .await;
    for drained in [["--route", "a"], ["--backend", &address]] {
        let mut client = lockgate.upgrade("/", "").await;
        let mut server = backend.accept().await;
        let request = server.head().await;
        let mut waiting = lockgate.upgrade("/", "").await;
        until(&lockgate, |status| status["pools"][0]["waiting"] == 1).await;
        let command = ["drain", drained[0], drained[1]];
        assert!(lockgate.command(&command).await.0);
        server.send(switching_protocols(&request, "")).await;
        assert_eq!(client.head().await.status(), 101);
        for (leg, code) in [(&mut client, 1012), (&mut server, 1001)] {
            assert_eq!(leg.frame().await.closes_with().0, code);
            leg.send_frame(Frame::close(code, "")).await;
        }
        assert_eq!(waiting.head().await.status(), 503, "{drained:?}");
        until(&lockgate, |status| status["sessions"] == 0).await;
        assert!(
            lockgate
                .command(&[&command[..], &["--undo"]].concat())
                .await
                .0
        );
    }
}

#[tokio::test]
async fn draining_the_last_backend_of_a_pool_warns() {
    let (one, other) = (Backend::echo().await, Backend::echo().await);
    let pools = format!(
        "[pools.both]\nbackends = [\"ws://{one}\", \"ws://{other}\"]\n[pools.one]\nbackends = [\"ws://{one}\"]\n"
    );
    let lockgate = Lockgate::with_file(&format!(
        "{HEAD}{pools}[[routes]]\nhosts = [\"a.test\"]\npool = \"both\"\norigins = [\"*\"]\n"
    ))
    .start()
    .await;
    let without = |pool: &str| format!("the pool {pool} has no backend left");
    let (ok, output) = lockgate
        .command(&["drain", "--backend", &format!("ws://{one}")])
        .await;
    assert!(ok && output.contains(&without("one")), "{output}");
    assert!(!output.contains(&without("both")), "{output}");
    assert_eq!(
        lockgate.upgrade("/", "").await.head().await.status(),
        101,
        "the other one is there"
    );
    let (ok, output) = lockgate
        .command(&["drain", "--backend", &format!("ws://{other}")])
        .await;
    assert!(ok && output.contains(&without("both")), "{output}");
    assert!(!output.contains(&without("one")), "{output}");
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 503);
    eventually("a warning for each pool", async || {
        let log = lockgate.log("WARN");
        let pools = log.iter().filter_map(|line| line["pool"].as_str());
        pools.eq(["one", "both"])
    })
    .await;
}

#[tokio::test]
async fn invalid_new_file_is_reread_once_it_is_corrected() {
    let backend = Backend::echo().await;
    let text = format!(
        "include = [\"conf.d/*.toml\"]\n{HEAD}{}",
        route("a", "a.test", backend, "")
    );
    let lockgate = Lockgate::with_file(&text).start().await;
    let folder = lockgate.folder().join("conf.d");
    fs::create_dir(&folder).expect("writable");
    let right = route("b", "b.test", backend, "");
    fs::write(folder.join("b.toml"), right.replace("hosts", "hots")).expect("writable");
    until(&lockgate, |status| status["config"]["error"].is_string()).await;
    fs::write(folder.join("b.toml"), right).expect("writable");
    let status = until(&lockgate, |status| status["config"]["error"].is_null()).await;
    assert_eq!(status["routes"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn restored_route_keeps_its_remaining_sessions() {
    let backend = Backend::echo().await;
    let head = HEAD
        .replace("2s", "1h")
        .replace("[drain]", "[drain]\nmax_rate = 1");
    let (stays, goes) = (
        route("a", "a.test", backend, ""),
        route("b", "b.test", backend, ""),
    );
    let lockgate = Lockgate::with_file(&format!("{head}{stays}{goes}"))
        .start()
        .await;
    let mut open = vec![];
    for _ in 0..10 {
        open.push(session(&lockgate, "b.test").await);
    }
    lockgate.write_config(&format!("{head}{stays}"));
    until(&lockgate, |status| {
        status["closing"].as_u64().is_some_and(|n| n > 0)
    })
    .await;
    lockgate.write_config(&format!("{head}{stays}{goes}"));
    until(&lockgate, |status| {
        status["routes"].as_array().is_some_and(|it| it.len() == 2)
    })
    .await;
    let mut left = 0;
    for mut wire in open {
        wire.send_frame(Frame::text("?")).await;
        left += usize::from(!wire.frame().await.is_close());
    }
    // Until the second reload, one session per second was closed.
    assert!(left >= 5, "{left} of 10");
}

#[tokio::test]
async fn reload_that_leaves_a_host_without_certificate_is_rejected() {
    let backend = Backend::echo().await;
    let text = format!("{HEAD}{}", route("a", "a.test", backend, ""));
    let lockgate = Lockgate::with_file(&text).start().await;
    lockgate.write_config(
        &text
            .replace("dev_ca = true", "dev_ca = false")
            .replace("[drain]", "[acme]\n[drain]"),
    );
    let status = until(&lockgate, |status| status["config"]["error"].is_string()).await;
    assert!(
        status["config"]["error"]
            .as_str()
            .is_some_and(|it| it.contains("has no certificate")),
        "{status:#}"
    );
    session(&lockgate, "a.test").await.echoes().await;
}

/// The time of the last close, and the maximum number of closes within one second.
fn spread(mut times: Vec<Duration>) -> (Duration, usize) {
    times.sort_unstable();
    let second = Duration::from_secs(1);
    let peak = times.iter().enumerate().map(|(n, from)| {
        times[n..]
            .iter()
            .take_while(|at| **at < *from + second)
            .count()
    });
    (times[times.len() - 1], peak.max().unwrap_or(0))
}

#[tokio::test]
async fn shutdown_spreads_closes_over_the_drain_window() {
    let backend = Backend::echo().await;
    let text = format!("{HEAD}{}", route("a", "a.test", backend, "")).replace("2s", "6s");
    let text = text.replace("[drain]", "[session]\nclose_timeout = \"1s\"\n[drain]");
    let mut lockgate = Lockgate::with_file(&text).start().await;
    let mut open = vec![];
    for _ in 0..140 {
        open.push(session(&lockgate, "a.test").await);
    }
    let started = Instant::now();
    lockgate.terminate();
    let mut closing = tokio::task::JoinSet::new();
    for mut wire in open {
        closing.spawn(async move {
            // Every message is echoed until the Close.
            loop {
                wire.send_frame(Frame::text("busy")).await;
                let frame = wire.frame().await;
                if frame.is_close() {
                    assert_eq!(frame.closes_with().0, 1001);
                    break;
                }
                assert_eq!(frame, Frame::text("busy"));
                // The pace of the session, not a wait.
                sleep(Duration::from_millis(100)).await;
            }
            let at = started.elapsed();
            wire.send_frame(Frame::close(1001, "")).await;
            at
        });
    }
    eventually("the end of the listener", async || {
        tokio::net::TcpStream::connect(lockgate.https)
            .await
            .is_err()
    })
    .await;
    let refused = started.elapsed();
    let mut times = vec![];
    while let Some(at) = closing.join_next().await {
        times.push(at.expect("1001"));
    }
    let (last, peak) = spread(times);
    println!(
        "140 sessions: the last close after {last:.1?}, {peak} in the busiest second, connections refused after {refused:.0?}"
    );
    // A loaded machine receives some Closes late. The unit tests of `server::drain` check the spacing without a clock.
    assert!(
        last > Duration::from_secs(2) && last < Duration::from_secs(12),
        "{last:?}"
    );
    assert!(peak <= 104, "{peak} in one second");
    assert_eq!(lockgate.exit().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(20));
}
