//! The name of the CA, resolved by DNS servers with faults.

use super::fixture::{AcmeFixture, issued};
use crate::harness::{Lockgate, Program};
use serde_json::json;
use std::{fs, net::Ipv4Addr, process, time::Duration};
use tokio::time::Instant;

/// Obtains a certificate from a CA whose name the server at `address` knows. Returns how long that took.
async fn issue_by(address: Ipv4Addr, faults: serde_json::Value) -> Duration {
    let fixture = AcmeFixture::new().await;
    let zone = fixture.folder.path().join("zone.json");
    let description = json!({ "records": { "ca.test": { "A": ["127.0.0.1"] } }, "faults": faults });
    fs::write(&zone, description.to_string()).expect("writable");
    let (server, file) = (address.to_string(), zone.display().to_string());
    let mut dns = Program::start("faulty_dns.py", &[&server, &file]);
    assert_eq!(dns.line().await, "ready");
    let resolv = fixture.folder.path().join("resolv.conf");
    fs::write(&resolv, format!("nameserver {server}\n")).expect("writable");
    let directory = fixture.pebble.directory().replace("localhost", "ca.test");
    let config = fixture.config(&["a.test"], &format!("directory = {directory:?}"));
    let started = Instant::now();
    let lockgate = Lockgate::with_file(&config)
        .resolving_by(&resolv)
        .start()
        .await;
    issued(&lockgate, "a.test").await;
    started.elapsed()
}

/// A loopback address that only this process uses.
fn server(last: u8) -> Ipv4Addr {
    let [.., high, low] = process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 0x80, low, last)
}

#[tokio::test]
async fn certificate_is_issued_in_time_while_the_dns_server_of_the_ca_ignores_aaaa() {
    let took = issue_by(server(201), json!({ "AAAA": "silent" })).await;
    println!("issued in {took:.1?}");
    // With the timeout of the resolver for each connection it would be more than a minute.
    assert!(took < Duration::from_secs(40), "{took:?}");
}

#[tokio::test]
async fn certificate_is_issued_if_the_name_of_the_ca_is_in_dns() {
    issue_by(server(202), json!({})).await;
}
