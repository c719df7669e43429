//! DNS answers that are large, have IPv6 addresses, or change back.

use super::*;
use std::net::Ipv6Addr;

#[tokio::test]
async fn stable_256_of_300_srv_targets_are_used() {
    let service = |port: u16| {
        (
            "_ws._tcp.chat.test",
            "SRV",
            format!("0 1 {port} one.chat.test."),
        )
    };
    let mut records: Vec<Record> = (20_000..20_300).map(service).collect();
    records.push(("one.chat.test", "A", at(1).to_string()));
    // Too large for UDP: the query is repeated over TCP (RFC 7766).
    let dns = Dns::start(&records).await;
    let config = pool("a", "\"srv://_ws._tcp.chat.test\"", "");
    let lockgate = dns.lockgate(&config).await;
    let taken: Vec<_> = (20_000..20_256).map(|port| shown(port, 1, "up")).collect();
    let status = until(&lockgate, "a", &taken).await;
    let error = status["names"][0]["error"].as_str().expect("text");
    assert!(error.contains("44"), "{error}");
    // DNS servers rotate the records of their answers.
    records[..300].rotate_left(150);
    dns.set(&records);
    let answered = "lockgate_dns_answers_total{outcome=\"answered\"}";
    let before = lockgate.metric(answered).await;
    eventually("two more answers", async || {
        lockgate.metric(answered).await >= before + 2.0
    })
    .await;
    let status = lockgate.status().await;
    assert!(backends(&status, "a").keys().eq(taken.iter()), "{status:#}");
}

#[tokio::test]
async fn ipv4_and_ipv6_addresses_become_backends() {
    let port = 8772;
    echo_on(port, [1]).await;
    // IPv6 has only one loopback address: a random port, so that no other test uses it.
    let ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await;
    let ipv6 = ipv6.expect("a machine with IPv6");
    let six_port = ipv6.local_addr().expect("bound").port();
    tokio::spawn(Backend::echo_on(ipv6));
    let dns = Dns::start(&[
        ("six.test", "AAAA", Ipv6Addr::LOCALHOST.to_string()),
        ("chat.test", "A", at(1).to_string()),
    ])
    .await;
    let names = format!("\"dns://six.test:{six_port}\", \"dns://chat.test:{port}\"");
    let lockgate = dns.lockgate(&pool("a", &names, "")).await;
    let ipv6 = (format!("ws://[::1]:{six_port}"), "up".to_owned());
    until(&lockgate, "a", &[shown(port, 1, "up"), ipv6.clone()]).await;
    let mut both = vec![];
    for _ in 0..2 {
        both.push(session(&lockgate, "a.test").await);
    }
    for wire in &mut both {
        wire.echoes().await;
    }
    let leases = backends(&lockgate.status().await, "a");
    assert_eq!(leases.get(&ipv6), Some(&1), "{leases:?}");
}

#[tokio::test]
async fn drained_backend_stays_drained_when_dns_returns_it_again() {
    let port = 8773;
    echo_on(port, 1..=2).await;
    let dns = Dns::start(&addresses(1..=2)).await;
    let name = format!("\"dns://chat.test:{port}\"");
    let lockgate = dns.lockgate(&pool("a", &name, "")).await;
    until(
        &lockgate,
        "a",
        &[shown(port, 1, "up"), shown(port, 2, "up")],
    )
    .await;
    let backend = format!("ws://{}:{port}", at(1));
    let (ok, output) = lockgate.command(&["drain", "--backend", &backend]).await;
    assert!(ok, "{output}");
    dns.set(&addresses([2]));
    until(
        &lockgate,
        "a",
        &[shown(port, 1, "vanished"), shown(port, 2, "up")],
    )
    .await;
    dns.set(&addresses(1..=2));
    until(
        &lockgate,
        "a",
        &[shown(port, 1, "draining"), shown(port, 2, "up")],
    )
    .await;
    let all: Vec<_> = (0..4).map(|_| session(&lockgate, "a.test")).collect();
    let _open = futures_util::future::join_all(all).await;
    let leases: Vec<u64> = backends(&lockgate.status().await, "a")
        .into_values()
        .collect();
    assert_eq!(leases, [0, 4]);
}

#[tokio::test]
async fn backend_that_dns_returns_while_down_is_reported_as_down() {
    let port = 8774;
    echo_on(port, [2]).await;
    let dns = Dns::start(&addresses(1..=2)).await;
    let name = format!("\"dns://chat.test:{port}\"");
    let health = "health = { check = \"tcp\", interval = \"100ms\", timeout = \"1s\" }";
    let lockgate = dns.lockgate(&pool("a", &name, health)).await;
    // A drained backend is remembered while it is missing from the answer.
    let backend = format!("ws://{}:{port}", at(1));
    until(
        &lockgate,
        "a",
        &[shown(port, 1, "down"), shown(port, 2, "up")],
    )
    .await;
    let up = format!("lockgate_backend_up{{pool=\"a\",backend=\"{backend}\"}}");
    assert_eq!(lockgate.metric(&up).await, 0.0);
    assert!(lockgate.command(&["drain", "--backend", &backend]).await.0);
    dns.set(&addresses([2]));
    eventually("the removal of its series", async || {
        !lockgate.metrics().await.contains(&up)
    })
    .await;
    dns.set(&addresses(1..=2));
    until(
        &lockgate,
        "a",
        &[shown(port, 1, "draining"), shown(port, 2, "up")],
    )
    .await;
    assert_eq!(lockgate.metric(&up).await, 0.0);
}
