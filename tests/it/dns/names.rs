//! Names of single backends: which server answers, how long an answer is used, and what happens while it is renewed.

use super::*;
use crate::harness::within;

/// DNS servers with faults, in the order of `resolv.conf`, and the files that name them.
struct FaultyDns {
    servers: Vec<Program>,
    folder: TempDir,
}

// === impl FaultyDns ===

impl FaultyDns {
    async fn start(zones: &[Value]) -> FaultyDns {
        FaultyDns::with_timeout(1, zones).await
    }

    /// Starts servers that have this number of seconds for an answer.
    async fn with_timeout(seconds: u32, zones: &[Value]) -> FaultyDns {
        let folder = TempDir::new().expect("a temporary folder");
        let mut dns = FaultyDns {
            servers: Vec::new(),
            folder,
        };
        let mut resolv = format!("options timeout:{seconds} attempts:2\n");
        for (index, zone) in zones.iter().enumerate() {
            let address = at(53 + index as u8).to_string();
            dns.set(index, zone);
            let file = dns.file(&format!("{index}.json")).display().to_string();
            let mut server = Program::start("faulty_dns.py", &[&address, &file]);
            assert_eq!(server.line().await, "ready");
            dns.servers.push(server);
            resolv += &format!("nameserver {address}\n");
        }
        fs::write(dns.file("resolv.conf"), resolv).expect("writable");
        dns
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn set(&self, server: usize, zone: &Value) {
        let file = self.file(&format!("{server}.json"));
        let new = file.with_extension("new");
        fs::write(&new, zone.to_string()).expect("writable");
        fs::rename(new, file).expect("writable");
    }

    /// The number of queries for A that the server has received.
    fn queries(&self, server: usize) -> usize {
        let log = fs::read_to_string(self.file(&format!("{server}.json.log"))).expect("a log");
        log.lines().filter(|line| line.starts_with("A ")).count()
    }

    /// A Lockgate with one backend, `ws://app.test:PORT`, which retries nothing.
    async fn lockgate(&self, port: u16) -> Lockgate {
        let config = pool(
            "a",
            &format!("\"ws://app.test:{port}\""),
            "retry = { times = 0 }\npassive = { fails = 0 }",
        );
        Lockgate::with_file(&format!("{HEAD}{config}"))
            .resolving_by(&self.file("resolv.conf"))
            .start()
            .await
    }
}

/// A zone in which `app.test` has the address `at(last)`.
fn zone(last: u8, ttl: u32, faults: Value) -> Value {
    json!({ "ttl": ttl, "records": { "app.test": { "A": [at(last).to_string()] } }, "faults": faults })
}

async fn timed_session(lockgate: &Lockgate) -> Duration {
    let started = Instant::now();
    session(lockgate, "a.test").await.echoes().await;
    started.elapsed()
}

#[tokio::test]
async fn handshake_does_not_wait_for_the_resolver_while_a_server_ignores_aaaa() {
    let port = 8780;
    echo_on(port, [1]).await;
    let dns = FaultyDns::start(&[zone(1, 5, json!({ "AAAA": "silent" }))]).await;
    let lockgate = dns.lockgate(port).await;
    for _ in 0..3 {
        let took = timed_session(&lockgate).await;
        assert!(took < RESOLVER_TIMEOUT, "{took:?}");
    }
    // The pool of a name that is resolved by `dns://` does not wait for the silent family either.
    let name = pool("a", &format!("\"dns://app.test:{port}\""), "");
    let lockgate = Lockgate::with_file(&format!("{HEAD}{name}"))
        .resolving_by(&dns.file("resolv.conf"))
        .start()
        .await;
    let took = timed_session(&lockgate).await;
    assert!(took < RESOLVER_TIMEOUT, "{took:?}");
}

/// The time of both attempts, without which a name with a silent server is not resolved, and a margin.
const RESOLVER_TIMEOUT: Duration = Duration::from_millis(1900);

#[tokio::test]
async fn servers_are_queried_in_the_order_of_the_file() {
    let port = 8781;
    echo_on(port, [1]).await;
    let missing = json!({ "records": { "other.test": {} } });
    let zones = [zone(1, 0, json!({})), missing.clone()];
    let dns = FaultyDns::with_timeout(10, &zones).await;
    let lockgate = dns.lockgate(port).await;
    for _ in 0..16 {
        timed_session(&lockgate).await;
    }
    assert!(dns.queries(0) >= 8, "{}", dns.queries(0));
    // The second server receives a query only when the first one fails.
    let log = dns.file("1.json.log");
    assert_eq!(fs::read_to_string(&log).expect("a log"), "");
    dns.set(0, &zone(1, 0, json!({ "*": "SERVFAIL" })));
    dns.set(1, &zone(1, 0, json!({})));
    for _ in 0..4 {
        timed_session(&lockgate).await;
    }
    assert!(dns.queries(1) > 0);
}

#[tokio::test]
async fn name_in_use_is_queried_once_per_ttl_and_a_name_without_use_is_not_queried() {
    let port = 8782;
    echo_on(port, [1]).await;
    let dns = FaultyDns::start(&[zone(1, 4, json!({}))]).await;
    let lockgate = dns.lockgate(port).await;
    // The health task of the backend may have used the name already.
    let (started, before) = (Instant::now(), dns.queries(0));
    while started.elapsed() < Duration::from_secs(9) {
        timed_session(&lockgate).await;
    }
    // A query every 3.6 s: before the TTL ends.
    let queries = dns.queries(0) - before;
    assert!((2..=4).contains(&queries), "{queries} queries in 9 s");
    // At most one more query follows the last use.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let before = dns.queries(0);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(dns.queries(0), before);
    timed_session(&lockgate).await;
}

#[tokio::test]
async fn expired_answer_is_used_while_the_servers_are_silent_and_a_negative_one_replaces_it() {
    let port = 8783;
    echo_on(port, [1]).await;
    let dns = FaultyDns::start(&[zone(1, 1, json!({}))]).await;
    let lockgate = dns.lockgate(port).await;
    timed_session(&lockgate).await;
    for fault in ["silent", "SERVFAIL"] {
        dns.set(0, &zone(1, 1, json!({ "*": fault })));
        tokio::time::sleep(Duration::from_secs(3)).await;
        for _ in 0..3 {
            let took = timed_session(&lockgate).await;
            assert!(took < RESOLVER_TIMEOUT, "{fault}: {took:?}");
        }
    }
    dns.set(0, &json!({ "records": {}, "soa": 1 }));
    eventually("a refusal after NXDOMAIN", async || {
        try_session(&lockgate, "a.test").await.1 == 502
    })
    .await;
    dns.set(0, &zone(1, 1, json!({})));
    eventually("a session after the return of the name", async || {
        try_session(&lockgate, "a.test").await.1 == 101
    })
    .await;
}

#[tokio::test]
async fn refused_connect_ends_the_validity_of_an_answer_with_a_long_ttl() {
    let port = 8784;
    echo_on(port, [2]).await;
    let dns = FaultyDns::start(&[zone(1, 600, json!({}))]).await;
    let lockgate = dns.lockgate(port).await;
    assert_eq!(try_session(&lockgate, "a.test").await.1, 502);
    dns.set(0, &zone(2, 600, json!({})));
    let started = Instant::now();
    eventually("a session at the new address", async || {
        try_session(&lockgate, "a.test").await.1 == 101
    })
    .await;
    // The TTL is ten minutes.
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn malformed_lines_are_skipped_with_one_warning_per_file_and_changes_apply_at_once() {
    let port = 8785;
    echo_on(port, 1..=2).await;
    let dns = FaultyDns::start(&[zone(1, 1, json!({}))]).await;
    let resolv = fs::read_to_string(dns.file("resolv.conf")).expect("a file");
    let bad = "nameserver 10.0.0.256\nnonsense\n";
    fs::write(dns.file("resolv.conf"), format!("{bad}{resolv}")).expect("writable");
    fs::write(
        dns.file("hosts"),
        "10.0.0.256 app.test\n127.0.0.1 localhost\nx\n",
    )
    .expect("writable");
    let lockgate = dns.lockgate(port).await;
    timed_session(&lockgate).await;
    timed_session(&lockgate).await;
    let warnings = |lockgate: &Lockgate| {
        let log = lockgate.log("WARN");
        let mut warnings: Vec<(String, String)> = log
            .iter()
            .filter(|line| line["lines"].is_string())
            .map(|line| (line["file"].to_string(), line["lines"].to_string()))
            .collect();
        warnings.sort();
        warnings
    };
    let expected = [("/etc/hosts", "1, 3"), ("/etc/resolv.conf", "1, 2")];
    let expected = expected.map(|(file, lines)| (format!("{file:?}"), format!("{lines:?}")));
    eventually("one warning per file", async || {
        let found = warnings(&lockgate);
        (found == expected)
            .then_some(())
            .ok_or(format!("{found:?}"))
    })
    .await;

    // An entry of the hosts file has precedence from now on, and no query is sent.
    let hosts = format!("{} app.test\n", at(2));
    fs::write(dns.file("hosts"), hosts).expect("writable");
    dns.set(0, &json!({ "records": {} }));
    tokio::time::sleep(Duration::from_secs(2)).await;
    within("a session by the hosts file", timed_session(&lockgate)).await;
}

#[tokio::test]
async fn backend_that_left_dns_is_removed_while_a_server_ignores_aaaa() {
    let port = 8786;
    echo_on(port, 1..=2).await;
    let zone = |of: &[u8]| {
        let addresses: Vec<_> = of.iter().map(|last| at(*last).to_string()).collect();
        json!({ "ttl": 1, "records": { "app.test": { "A": addresses } }, "faults": { "AAAA": "silent" } })
    };
    let dns = FaultyDns::start(&[zone(&[1, 2])]).await;
    let config = pool("a", &format!("\"dns://app.test:{port}\""), "");
    let lockgate = Lockgate::with_file(&format!("{HEAD}{config}"))
        .resolving_by(&dns.file("resolv.conf"))
        .start()
        .await;
    let both = [1, 2].map(|last| shown(port, last, "up"));
    until(&lockgate, "a", &both).await;
    dns.set(0, &zone(&[1]));
    until(&lockgate, "a", &both[..1]).await;
}
