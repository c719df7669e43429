//! Issuance by every challenge, and reuse of stored certificates.

use super::fixture::{AcmeFixture, Trust, failed, issued, leaf, stop, until};
use crate::harness::{Lockgate, Program};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use std::{fs, os::unix::fs::PermissionsExt};
use tokio::time::Instant;

/// Opens a session with this host by a Python client that trusts only Pebble's root.
async fn session(fixture: &AcmeFixture, host: &str) {
    let root = fixture.pebble.root().await;
    let (root, port) = (root.to_str().expect("UTF-8"), fixture.https.to_string());
    let run = Program::run("session_as.py", &[host, &port, root]).await;
    let text = String::from_utf8_lossy(&run.stdout);
    assert_eq!(text.trim(), "echoed", "{run:?}");
}

async fn three_hosts_at_once(challenge: &str) {
    let fixture = AcmeFixture::new().await;
    let hosts = ["a.test", "b.test", "c.test"];
    let started = Instant::now();
    let lockgate = fixture
        .start(&hosts, &format!("challenge = {challenge:?}"))
        .await;
    for host in hosts {
        issued(&lockgate, host).await;
    }
    let took = started.elapsed();
    println!("{challenge}: three certificates in {took:.1?}");
    for host in hosts {
        session(&fixture, host).await;
    }
    assert_eq!(fixture.pebble.orders(), 3);
    let answered = lockgate.metric("lockgate_acme_challenges_total").await;
    assert!(answered >= 3.0, "{answered}");
}

#[tokio::test]
async fn three_hosts_are_issued_by_tls_alpn_01() {
    three_hosts_at_once("tls-alpn-01").await;
}

#[tokio::test]
async fn three_hosts_are_issued_by_http_01() {
    three_hosts_at_once("http-01").await;
}

#[tokio::test]
async fn host_is_issued_by_http_01_through_a_cleartext_listener() {
    let fixture = AcmeFixture::new().await;
    let config = fixture.config(&["a.test"], "challenge = \"http-01\"");
    let cleartext = "http = []\ntrusted_proxies = [\"127.0.0.0/8\"]\ncleartext = [";
    let config = config.replacen("http = [", cleartext, 1);
    let lockgate = Lockgate::with_file(&config).start().await;
    issued(&lockgate, "a.test").await;
    session(&fixture, "a.test").await;
}

/// The programs that change DNS: Pebble's DNS server takes JSON.
fn hook(fixture: &AcmeFixture) -> String {
    let url = fixture.pebble.management();
    for (program, page) in [("present", "set-txt"), ("cleanup", "clear-txt")] {
        let script = format!(
            "#!/usr/bin/env python3\nimport json, sys, urllib.request\n\
            record = {{'host': sys.argv[1] + '.', 'value': sys.argv[2]}}\n\
            urllib.request.urlopen('{url}/{page}', json.dumps(record).encode())\n"
        );
        let file = fixture.folder.path().join(program);
        fs::write(&file, script).expect("writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let folder = fixture.folder.path().display();
    format!("dns = {{ present = \"{folder}/present\", cleanup = \"{folder}/cleanup\" }}")
}

#[tokio::test]
async fn wildcard_is_issued_by_dns_01() {
    let fixture = AcmeFixture::new().await;
    let lockgate = fixture
        .start(&["*.w.test", "w.test"], &hook(&fixture))
        .await;
    let row = issued(&lockgate, "*.w.test").await;
    assert_eq!(row["names"], serde_json::json!(["*.w.test"]));
    issued(&lockgate, "w.test").await;
    session(&fixture, "any.w.test").await;
    session(&fixture, "w.test").await;
    assert!(fixture.leaf("two.labels.w.test").await.is_err());
    fixture
        .pebble
        .until_log("Removed DNS-01 TXT challenge", 1)
        .await;
}

#[tokio::test]
async fn failed_dns_hook_is_reported_with_its_exit_status() {
    let fixture = AcmeFixture::new().await;
    let hook =
        "dns = { present = \"/bin/false\", cleanup = \"/bin/true\" }\nchallenge = \"dns-01\"";
    let lockgate = fixture.start(&["a.test"], hook).await;
    failed(&lockgate, "a.test", "/bin/false failed: exit status: 1").await;
}

#[tokio::test]
async fn account_with_external_binding_is_issued() {
    let key = BASE64_URL_SAFE_NO_PAD.encode([7; 32]);
    let fixture = AcmeFixture::with(|pebble| pebble.eab("kid-1", &key)).await;
    let eab = format!(
        "eab = {{ kid = \"kid-1\", hmac = \"{key}\" }}\n{}",
        hook(&fixture)
    );
    let mut lockgate = fixture.start(&["a.test", "*.b.test"], &eab).await;
    issued(&lockgate, "a.test").await;
    issued(&lockgate, "*.b.test").await;
    session(&fixture, "a.test").await;
    assert!(!lockgate.stderr().contains(&key));
    stop(&mut lockgate).await;

    // The stored account is reused for another host.
    let lockgate = fixture.start(&["a.test", "c.test"], &eab).await;
    issued(&lockgate, "c.test").await;
    drop(lockgate);

    let lockgate = fixture
        .start(&["d.test"], "storage = \"/nonexistent\"")
        .await;
    failed(&lockgate, "d.test", "externalAccountRequired").await;
}

#[tokio::test]
async fn flags_alone_obtain_a_certificate() {
    let fixture = AcmeFixture::new().await;
    let (to, listen) = (
        format!("ws://{}", fixture.backend),
        format!("127.0.0.1:{}", fixture.https),
    );
    let (directory, ca) = (fixture.pebble.directory(), fixture.pebble.ca());
    let flags = [
        "--to",
        &to,
        "--host",
        "a.test",
        "--acme",
        "ops@example.com",
        "--acme-directory",
        &directory,
        "--acme-ca-file",
        ca.to_str().expect("UTF-8"),
        "--listen",
        &listen,
    ];
    let lockgate = Lockgate::with_flags(&flags).start().await;
    issued(&lockgate, "a.test").await;
    session(&fixture, "a.test").await;
}

#[tokio::test]
async fn restart_reuses_certificates_and_orders_only_a_new_host() {
    let fixture = AcmeFixture::new().await;
    fixture.prepare(&["a.test", "b.test"]).await;
    let before = [fixture.leaf_of("a.test"), fixture.leaf_of("b.test")];
    assert_eq!(fixture.pebble.orders(), 2);
    for round in 0..10 {
        let hosts = match round % 2 {
            0 => ["a.test", "b.test"],
            _ => ["B.test", "A.TEST"],
        };
        let mut lockgate = fixture.start(&hosts, "").await;
        // The stored certificate is served from the first handshake on.
        fixture.leaf("a.test").await.expect("trusted");
        stop(&mut lockgate).await;
    }
    assert_eq!(fixture.pebble.orders(), 2);

    let lockgate = fixture.start(&["c.test", "b.test", "a.test"], "").await;
    issued(&lockgate, "c.test").await;
    assert_eq!(fixture.pebble.orders(), 3);
    assert_eq!(
        [fixture.leaf_of("a.test"), fixture.leaf_of("b.test")],
        before
    );
    for (host, kept) in ["a.test", "b.test"].into_iter().zip(before) {
        assert_eq!(fixture.leaf(host).await.expect("trusted"), kept);
    }
}

#[tokio::test]
async fn second_process_serves_certificates_of_the_first() {
    let fixture = AcmeFixture::new().await;
    let mut first = fixture.start(&["a.test"], "").await;
    issued(&first, "a.test").await;
    let config = fixture.config(&["a.test", "b.test"], "");
    let config = config.replace(&format!(":{}\"", fixture.https), ":0\"");
    let config = config.replace(&format!(":{}\"", fixture.http), ":0\"");
    let second = Lockgate::with_file(&config).start().await;
    let row = until(&second, "a.test", |row| row["not_after"].is_string()).await;
    assert_eq!(row["source"], "acme");
    second.until_logged("this process only serves them").await;
    assert_eq!(fixture.pebble.orders(), 1);
    // It orders missing certificates once the first process has released the lock.
    stop(&mut first).await;
    failed(&second, "b.test", "").await;
    second.until_logged("the other process has released").await;
}

#[tokio::test]
async fn until_issued_serves_a_self_signed_certificate_or_an_alert() {
    let fixture = AcmeFixture::new().await;
    fixture.pebble.freeze();
    for (until_issued, shown) in [("self-signed", true), ("refuse", false)] {
        let mut lockgate = fixture
            .start(&["a.test"], &format!("until_issued = {until_issued:?}"))
            .await;
        let leaf = leaf(&Trust::Everything, "a.test", fixture.https).await;
        assert_eq!(leaf.is_ok(), shown, "{until_issued}: {leaf:?}");
        stop(&mut lockgate).await;
    }
    fixture.pebble.thaw();
}

#[tokio::test]
async fn renew_command_is_limited_to_one_order_per_day() {
    let fixture = AcmeFixture::new().await;
    let lockgate = fixture.start(&["a.test"], "").await;
    issued(&lockgate, "a.test").await;
    let (ok, output) = lockgate.command(&["cert", "renew", "a.test"]).await;
    assert!(!ok && output.contains("within the last day"), "{output}");
    let (ok, output) = lockgate.command(&["cert", "renew", "x.test"]).await;
    assert!(!ok && output.contains("these are: a.test"), "{output}");
    let (ok, output) = lockgate.command(&["cert", "list"]).await;
    assert!(
        ok && output.contains("by Pebble Intermediate CA"),
        "{output}"
    );
    assert_eq!(fixture.pebble.orders(), 1);
}

#[tokio::test]
async fn renew_command_waits_for_the_certificate() {
    let fixture = AcmeFixture::new().await;
    fixture.pebble.set_ipv4("a.test", "127.0.0.99").await;
    let lockgate = fixture.start(&["a.test"], "").await;
    failed(&lockgate, "a.test", "").await;
    fixture.pebble.set_ipv4("a.test", "127.0.0.1").await;
    let renew = ["cert", "renew", "a.test", "--wait", "9s"];
    let (ok, output) = lockgate.command(&renew).await;
    assert!(
        ok && output.contains("has a certificate until 20"),
        "{output}"
    );
    fixture.leaf("a.test").await.expect("trusted");
}

#[tokio::test]
async fn reload_adds_and_removes_hosts() {
    let fixture = AcmeFixture::new().await;
    let lockgate = fixture.start(&["a.test"], "").await;
    issued(&lockgate, "a.test").await;
    let held = fixture.leaf("a.test").await.expect("trusted");
    for round in 0..3 {
        lockgate.write_config(&fixture.config(&["a.test", "b.test"], ""));
        let (ok, output) = lockgate.command(&["reload"]).await;
        assert!(ok, "{output}");
        // Ordered once, then loaded from the store.
        issued(&lockgate, "b.test").await;
        fixture.leaf("b.test").await.expect("trusted");
        lockgate.write_config(&fixture.config(&["a.test"], &format!("# {round}")));
        let (ok, output) = lockgate.command(&["reload"]).await;
        assert!(ok, "{output}");
        assert_eq!(lockgate.certificates().await.len(), 1);
        assert!(fixture.leaf("b.test").await.is_err());
        assert_eq!(fixture.leaf("a.test").await.expect("trusted"), held);
    }
    assert_eq!(fixture.pebble.orders(), 2);
}
