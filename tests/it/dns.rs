//! Pools whose backends come from DNS, with a real DNS server whose answers change.

mod answers;
mod names;

use crate::harness::{Backend, Frame, Lockgate, Program, Wire, eventually, handshake, observe};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::Path,
    process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};

const HEAD: &str = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[drain]\nwindow = \"1s\"\n";

/// A DNS server with a zone that tests can change.
struct Dns {
    _server: Program,
    folder: TempDir,
}

// === impl Dns ===

impl Dns {
    async fn start(records: &[Record]) -> Dns {
        let folder = TempDir::new().expect("a temporary folder");
        let address = at(53);
        let resolv = format!("nameserver {address}\noptions timeout:1 attempts:1\n");
        fs::write(folder.path().join("resolv.conf"), resolv).expect("writable");
        let zone = folder.path().join("zone.json");
        write(&zone, records, &[]);
        let arguments = [&*address.to_string(), &*zone.display().to_string()];
        let mut server = Program::start("dns.py", &arguments);
        assert_eq!(server.line().await, "ready");
        Dns {
            _server: server,
            folder,
        }
    }

    fn set(&self, records: &[Record]) {
        write(&self.folder.path().join("zone.json"), records, &[]);
    }

    /// Changes the zone; queries of these types are answered with SERVFAIL.
    fn fail(&self, types: &[&str], records: &[Record]) {
        write(&self.folder.path().join("zone.json"), records, types);
    }

    async fn lockgate(&self, config: &str) -> Lockgate {
        let resolv = self.folder.path().join("resolv.conf");
        let setup = Lockgate::with_file(&format!("{HEAD}{config}"));
        setup.resolving_by(&resolv).start().await
    }
}

type Record = (&'static str, &'static str, String);

fn write(zone: &Path, records: &[Record], failing: &[&str]) {
    let text = json!({ "ttl": TTL.as_secs(), "records": records, "failing": failing });
    let new = zone.with_extension("new");
    fs::write(&new, text.to_string()).expect("writable");
    fs::rename(new, zone).expect("writable");
}

thread_local! {
    /// The number of this test: each test has its own thread, in a process of its own or in one with all others.
    static TEST: u32 = {
        static TESTS: AtomicU32 = AtomicU32::new(0);
        process::id().wrapping_add(TESTS.fetch_add(1, Relaxed))
    };
}

/// A loopback address that only this test uses.
fn at(last: u8) -> Ipv4Addr {
    let [.., high, low] = TEST.with(|test| test.to_be_bytes());
    Ipv4Addr::new(127, high | 0x80, low, last)
}

fn addresses(of: impl IntoIterator<Item = u8>) -> Vec<Record> {
    let record = |last| ("chat.test", "A", at(last).to_string());
    of.into_iter().map(record).collect()
}

/// Starts an echo server on this port of each of these addresses.
async fn echo_on(port: u16, of: impl IntoIterator<Item = u8>) {
    for last in of {
        let listener = TcpListener::bind((at(last), port)).await;
        tokio::spawn(Backend::echo_on(listener.expect("the port is free")));
    }
}

fn pool(name: &str, backends: &str, more: &str) -> String {
    format!(
        "[pools.{name}]\nbackends = [{backends}]\n{more}\n\
         [[routes]]\nname = \"{name}\"\nhosts = [\"{name}.test\"]\npool = \"{name}\"\norigins = [\"*\"]\n"
    )
}

async fn try_session(lockgate: &Lockgate, host: &'static str) -> (Wire, u16) {
    let mut wire = lockgate.connect_as(host).await;
    let request = handshake("/", "").replace("Host: a.test", &format!("Host: {host}"));
    wire.send(request).await;
    let status = wire.head().await.status();
    (wire, status)
}

async fn session(lockgate: &Lockgate, host: &'static str) -> Wire {
    let (wire, status) = try_session(lockgate, host).await;
    assert_eq!(status, 101);
    wire
}

/// The leases of the pool's backends, by address and state.
fn backends(status: &Value, pool: &str) -> BTreeMap<(String, String), u64> {
    let all = status["backends"].as_array().expect("a list");
    let of_pool = all.iter().filter(|it| it["pool"] == pool);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    of_pool
        .map(|it| {
            let leases = it["leases"].as_u64().expect("a number");
            ((text(&it["address"]), text(&it["state"])), leases)
        })
        .collect()
}

fn shown(port: u16, last: u8, state: &str) -> (String, String) {
    (format!("ws://{}:{port}", at(last)), state.to_owned())
}

/// Waits until the pool has exactly these backends.
async fn until(lockgate: &Lockgate, pool: &str, expected: &[(String, String)]) -> Value {
    eventually(format!("the backends {expected:?}"), async || {
        observe(lockgate.status().await, |status| {
            backends(status, pool).keys().eq(expected.iter())
        })
    })
    .await
}

async fn until_failed(lockgate: &Lockgate, more: f64) {
    let series = "lockgate_dns_answers_total{outcome=\"failed\"}";
    let before = lockgate.metric_or_zero(series).await;
    eventually("failed DNS answers", async || {
        observe(lockgate.metric_or_zero(series).await, |&failed| {
            failed >= before + more
        })
    })
    .await;
}

#[tokio::test]
async fn changed_dns_answers_add_and_drain_backends() {
    let port = 8765;
    echo_on(port, 1..=4).await;
    let dns = Dns::start(&addresses([1])).await;
    let name = format!("address = \"dns://chat.test:{port}\"");
    let config = pool("a", &format!("{{ {name} }}"), "")
        + &pool("b", &format!("{{ {name}, on_vanish = \"drain\" }}"), "");
    let lockgate = dns.lockgate(&config).await;
    // A client that connects before the first DNS answer waits for it.
    let mut first = session(&lockgate, "a.test").await;
    first.echoes().await;
    until(&lockgate, "a", &[shown(port, 1, "up")]).await;

    let changed = Instant::now();
    dns.set(&addresses([3, 1, 4, 2]));
    let all = [1, 2, 3, 4].map(|last| shown(port, last, "up"));
    until(&lockgate, "a", &all).await;
    let grown = changed.elapsed();
    let (mut keeping, mut draining) = (vec![first], vec![]);
    for _ in 0..7 {
        keeping.push(session(&lockgate, "a.test").await);
    }
    for _ in 0..8 {
        draining.push(session(&lockgate, "b.test").await);
    }
    let status = lockgate.status().await;
    assert!(
        backends(&status, "a").values().all(|&leases| leases == 4),
        "{status:#}"
    );

    let changed = Instant::now();
    dns.set(&addresses([2, 1]));
    let left = [
        shown(port, 1, "up"),
        shown(port, 2, "up"),
        shown(port, 3, "vanished"),
        shown(port, 4, "vanished"),
    ];
    until(&lockgate, "a", &left).await;
    let shrunk = changed.elapsed();
    println!("of a TTL of {TTL:?}: 1 to 4 addresses after {grown:.2?}, 4 to 2 after {shrunk:.2?}");
    assert!(grown.max(shrunk) <= TTL * 5, "{grown:?}, {shrunk:?}");
    let waiting = draining.iter_mut().enumerate();
    let mut waiting: FuturesUnordered<_> = waiting
        .map(async |(n, wire)| (n, wire.frame().await))
        .collect();
    let mut closed = vec![];
    for _ in 0..4 {
        let (n, close) = waiting.next().await.expect("there are more");
        assert_eq!(close.closes_with().0, 1012);
        closed.push(n);
    }
    drop(waiting);
    for (n, wire) in draining.iter_mut().enumerate() {
        if closed.contains(&n) {
            wire.send_frame(Frame::close(1012, "")).await
        } else {
            wire.echoes().await
        }
    }
    for wire in &mut keeping {
        wire.echoes().await;
    }
    // Vanished backends receive no new sessions.
    for _ in 0..8 {
        keeping.push(session(&lockgate, "a.test").await);
    }
    let both = [3, 4].map(|last| shown(port, last, "vanished"));
    eventually("the ends of the closed sessions", async || {
        observe(lockgate.status().await, |status| {
            let of_a = backends(status, "a");
            both.iter().all(|one| of_a[one] == 2)
        })
    })
    .await;
    drop(keeping);
    until(&lockgate, "a", &left[..2]).await;
}

#[tokio::test]
async fn failed_dns_queries_keep_backends() {
    let port = 8766;
    echo_on(port, 1..=3).await;
    let dns = Dns::start(&addresses([1, 2])).await;
    let name = format!("\"dns://chat.test:{port}\"");
    let lockgate = dns.lockgate(&pool("a", &name, "")).await;
    let both = [1, 2].map(|last| shown(port, last, "up"));
    until(&lockgate, "a", &both).await;
    let mut open = session(&lockgate, "a.test").await;

    // SERVFAIL, then NXDOMAIN.
    dns.fail(&["A", "AAAA"], &addresses([1, 2]));
    until_failed(&lockgate, 1.0).await;
    dns.set(&[]);
    until_failed(&lockgate, 2.0).await;
    eventually("the error of the last answer", async || {
        observe(lockgate.status().await, |status| {
            let error = status["names"][0]["error"].as_str();
            error.is_some_and(|error| error.contains("NXDOMAIN"))
        })
    })
    .await;
    until(&lockgate, "a", &both).await;
    let (_, output) = lockgate.command(&["status"]).await;
    assert!(
        output.contains(&format!("DNS          dns://chat.test:{port}: ")),
        "{output}"
    );
    open.echoes().await;
    session(&lockgate, "a.test").await;

    // A reload keeps the answers of DNS.
    let other = pool("a", &name, "balance = \"round-robin\"");
    lockgate.write_config(&format!("{HEAD}{other}"));
    let (ok, output) = lockgate.command(&["reload"]).await;
    assert!(ok, "{output}");
    until(&lockgate, "a", &both).await;
    session(&lockgate, "a.test").await;

    // The answer is incomplete: new addresses are added, missing ones are kept.
    dns.fail(&["AAAA"], &addresses([1, 3]));
    let three = [1, 2, 3].map(|last| shown(port, last, "up"));
    let status = until(&lockgate, "a", &three).await;
    assert!(status["names"][0]["error"].is_string(), "{status:#}");
    dns.set(&addresses([1, 3]));
    eventually("the removal of the second backend", async || {
        observe(lockgate.status().await, |status| {
            !backends(status, "a").contains_key(&shown(port, 2, "up"))
        })
    })
    .await;
    open.echoes().await;
    // Only the first failure is logged.
    eventually("the recovery of the name", async || {
        observe(lockgate.status().await, |status| {
            status["names"][0]["error"].is_null()
        })
    })
    .await;
    // A second warning would precede the line of the recovery.
    lockgate.until_logged("DNS lookup has recovered").await;
    let log = lockgate.log("WARN");
    let warnings = log.iter().filter(|line| line["name"].is_string());
    assert_eq!(warnings.count(), 1, "{log:?}");
}

#[tokio::test]
async fn unresolved_name_is_refused_until_it_resolves() {
    let port = 8767;
    echo_on(port, [1]).await;
    let dns = Dns::start(&[]).await;
    let name = format!("\"dns://chat.test:{port}\"");
    let lockgate = dns.lockgate(&pool("a", &name, "")).await;
    until_failed(&lockgate, 1.0).await;
    assert_eq!(try_session(&lockgate, "a.test").await.1, 503);
    let refused = "lockgate_refusals_total{status=\"503\",why=\"backends-unresolved\"}";
    lockgate.until_metric(refused, 1.0).await;
    dns.set(&addresses([1]));
    until(&lockgate, "a", &[shown(port, 1, "up")]).await;
    session(&lockgate, "a.test").await.echoes().await;
}

#[tokio::test]
async fn renamed_pool_keeps_dns_answers() {
    let port = 8771;
    echo_on(port, [1]).await;
    let dns = Dns::start(&addresses([1])).await;
    let name = format!("\"dns://chat.test:{port}\"");
    let lockgate = dns.lockgate(&pool("a", &name, "")).await;
    until(&lockgate, "a", &[shown(port, 1, "up")]).await;
    // From here on DNS fails.
    dns.fail(&["A", "AAAA"], &addresses([1]));
    until_failed(&lockgate, 1.0).await;
    lockgate.write_config(&format!("{HEAD}{}", pool("b", &name, "")));
    let (ok, output) = lockgate.command(&["reload"]).await;
    assert!(ok, "{output}");
    let status = lockgate.status().await;
    assert!(backends(&status, "b").contains_key(&shown(port, 1, "up")));
    session(&lockgate, "b.test").await.echoes().await;
}

#[tokio::test]
async fn srv_records_set_ports_and_weights() {
    for (port, of) in [(8768, [1, 2]), (8769, [2, 3])] {
        echo_on(port, of).await;
    }
    let service = |data: &str| ("_ws._tcp.chat.test", "SRV", data.to_owned());
    let records = [
        service("0 1 8768 one.chat.test."),
        service("0 3 8769 two.chat.test."),
        // Used only when no target of priority 0 is left.
        service("1 9 8769 three.chat.test."),
        ("one.chat.test", "A", at(1).to_string()),
        ("two.chat.test", "A", at(2).to_string()),
        ("three.chat.test", "A", at(3).to_string()),
    ];
    let dns = Dns::start(&records).await;
    let config = pool("a", "\"srv://_ws._tcp.chat.test\"", "");
    let lockgate = dns.lockgate(&config).await;
    let two = [shown(8768, 1, "up"), shown(8769, 2, "up")];
    until(&lockgate, "a", &two).await;
    let mut open = vec![];
    for _ in 0..8 {
        open.push(session(&lockgate, "a.test").await);
    }
    let status = lockgate.status().await;
    let leases: Vec<u64> = backends(&status, "a").into_values().collect();
    assert_eq!(leases, [2, 6], "{status:#}");
    dns.set(&records[2..]);
    let left = [
        shown(8768, 1, "vanished"),
        shown(8769, 2, "vanished"),
        shown(8769, 3, "up"),
    ];
    until(&lockgate, "a", &left).await;
    for wire in &mut open {
        wire.echoes().await;
    }
}

#[tokio::test]
async fn reload_from_an_address_to_its_dns_name_keeps_its_sessions() {
    let port = 8770;
    echo_on(port, 1..=2).await;
    let dns = Dns::start(&addresses([1])).await;
    let addresses = |of: &[u8]| {
        let of = of
            .iter()
            .map(|last| format!("\"ws://{}:{port}\"", at(*last)));
        of.collect::<Vec<_>>().join(", ")
    };
    let lockgate = dns.lockgate(&pool("a", &addresses(&[1, 2]), "")).await;
    let (mut stays, mut goes) = (
        session(&lockgate, "a.test").await,
        session(&lockgate, "a.test").await,
    );
    let name = format!("\"dns://chat.test:{port}\"");
    lockgate.write_config(&format!("{HEAD}{}", pool("a", &name, "")));
    let (ok, output) = lockgate.command(&["reload"]).await;
    assert!(ok, "{output}");
    // The name resolves to the first of the two addresses.
    let close = goes.frame().await;
    assert_eq!(close.closes_with().0, 1012);
    goes.send_frame(close).await;
    stays.echoes().await;
    until(&lockgate, "a", &[shown(port, 1, "up")]).await;
    let leases: Vec<u64> = backends(&lockgate.status().await, "a")
        .into_values()
        .collect();
    assert_eq!(leases, [1]);
}

/// TTL of the records.
const TTL: Duration = Duration::from_secs(2);
