//! Certificates come, by every challenge, and stay.

use super::fixture::{Believing, Rig, failed, issued, leaf, stop, until};
use crate::harness::{Lockgate, Program};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};
use tokio::time::Instant;

/// A session with this host by a Python client that believes Pebble alone.
async fn session(rig: &Rig, host: &str) {
    let root = rig.pebble.root().await;
    let (root, port) = (root.to_str().expect("UTF-8"), rig.https.to_string());
    let said = Program::run("session_as.py", &[host, &port, root]).await;
    let text = String::from_utf8_lossy(&said.stdout);
    assert_eq!(text.trim(), "echoed", "{said:?}");
}

async fn three_hosts_at_once(challenge: &str) {
    let rig = Rig::new().await;
    let hosts = ["a.test", "b.test", "c.test"];
    let started = Instant::now();
    let lockgate = rig
        .start(&hosts, &format!("challenge = {challenge:?}"))
        .await;
    for host in hosts {
        issued(&lockgate, host).await;
    }
    let took = started.elapsed();
    println!("{challenge}: three certificates in {took:.1?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    for host in hosts {
        session(&rig, host).await;
    }
    assert_eq!(rig.pebble.orders(), 3);
    let answered = lockgate.metric("lockgate_acme_challenges_total").await;
    assert!(answered >= 3.0, "{answered}");
}

#[tokio::test]
async fn three_hosts_at_once_by_tls_alpn_01() {
    three_hosts_at_once("tls-alpn-01").await;
}

#[tokio::test]
async fn three_hosts_at_once_by_http_01() {
    three_hosts_at_once("http-01").await;
}

/// The programs that change DNS: Pebble's DNS server takes JSON.
fn hook(rig: &Rig) -> String {
    let url = rig.pebble.management();
    for (program, page) in [("present", "set-txt"), ("cleanup", "clear-txt")] {
        let script = format!(
            "#!/usr/bin/env python3\nimport json, sys, urllib.request\n\
            record = {{'host': sys.argv[1] + '.', 'value': sys.argv[2]}}\n\
            urllib.request.urlopen('{url}/{page}', json.dumps(record).encode())\n"
        );
        let file = rig.folder.path().join(program);
        fs::write(&file, script).expect("writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let folder = rig.folder.path().display();
    format!("dns = {{ present = \"{folder}/present\", cleanup = \"{folder}/cleanup\" }}")
}

#[tokio::test]
async fn a_wildcard_by_dns_01() {
    let rig = Rig::new().await;
    let lockgate = rig.start(&["*.w.test", "w.test"], &hook(&rig)).await;
    let row = issued(&lockgate, "*.w.test").await;
    assert_eq!(row["names"], serde_json::json!(["*.w.test"]));
    issued(&lockgate, "w.test").await;
    session(&rig, "any.w.test").await;
    session(&rig, "w.test").await;
    assert!(rig.leaf("two.labels.w.test").await.is_err());
    rig.pebble
        .until_log("Removed DNS-01 TXT challenge", 1)
        .await;
}

#[tokio::test]
async fn a_hook_that_fails_says_why() {
    let rig = Rig::new().await;
    let hook =
        "dns = { present = \"/bin/false\", cleanup = \"/bin/true\" }\nchallenge = \"dns-01\"";
    let lockgate = rig.start(&["a.test"], hook).await;
    failed(&lockgate, "a.test", "/bin/false failed: exit status: 1").await;
}

#[tokio::test]
async fn an_account_that_is_bound_to_an_external_one() {
    let key = BASE64_URL_SAFE_NO_PAD.encode([7; 32]);
    let rig = Rig::with(|pebble| pebble.eab("kid-1", &key)).await;
    let eab = format!(
        "eab = {{ kid = \"kid-1\", hmac = \"{key}\" }}\n{}",
        hook(&rig)
    );
    let mut lockgate = rig.start(&["a.test", "*.b.test"], &eab).await;
    issued(&lockgate, "a.test").await;
    issued(&lockgate, "*.b.test").await;
    session(&rig, "a.test").await;
    assert!(!lockgate.stderr().contains(&key));
    stop(&mut lockgate).await;

    // The account that is kept does for another host.
    let lockgate = rig.start(&["a.test", "c.test"], &eab).await;
    issued(&lockgate, "c.test").await;
    drop(lockgate);

    let lockgate = rig.start(&["d.test"], "storage = \"/nonexistent\"").await;
    failed(&lockgate, "d.test", "externalAccountRequired").await;
}

#[tokio::test]
async fn flags_alone() {
    let rig = Rig::new().await;
    let (to, listen) = (
        format!("ws://{}", rig.backend),
        format!("127.0.0.1:{}", rig.https),
    );
    let (directory, ca) = (rig.pebble.directory(), rig.pebble.ca());
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
    session(&rig, "a.test").await;
}

#[tokio::test]
async fn restarts_and_reordered_names_order_nothing_and_a_new_host_only_its_own() {
    let rig = Rig::new().await;
    rig.prepare(&["a.test", "b.test"]).await;
    let before = [rig.leaf_of("a.test"), rig.leaf_of("b.test")];
    assert_eq!(rig.pebble.orders(), 2);
    for round in 0..10 {
        let hosts = match round % 2 {
            0 => ["a.test", "b.test"],
            _ => ["B.test", "A.TEST"],
        };
        let mut lockgate = rig.start(&hosts, "").await;
        // Served from the first handshake on.
        rig.leaf("a.test").await.expect("trusted");
        stop(&mut lockgate).await;
    }
    assert_eq!(rig.pebble.orders(), 2);

    let lockgate = rig.start(&["c.test", "b.test", "a.test"], "").await;
    issued(&lockgate, "c.test").await;
    assert_eq!(rig.pebble.orders(), 3);
    assert_eq!([rig.leaf_of("a.test"), rig.leaf_of("b.test")], before);
    for (host, kept) in ["a.test", "b.test"].into_iter().zip(before) {
        assert_eq!(rig.leaf(host).await.expect("trusted"), kept);
    }
}

#[tokio::test]
async fn a_second_process_serves_what_the_first_one_gets() {
    let rig = Rig::new().await;
    let mut first = rig.start(&["a.test"], "").await;
    issued(&first, "a.test").await;
    let config = rig.config(&["a.test", "b.test"], "");
    let config = config.replace(&format!(":{}\"", rig.https), ":0\"");
    let config = config.replace(&format!(":{}\"", rig.http), ":0\"");
    let second = Lockgate::with_file(&config).start().await;
    let row = until(&second, "a.test", |row| row["not_after"].is_string()).await;
    assert_eq!(row["source"], "acme");
    assert!(second.stderr().contains("this process only serves them"));
    assert_eq!(rig.pebble.orders(), 1);
    // It orders what is missing as soon as it is alone.
    stop(&mut first).await;
    failed(&second, "b.test", "").await;
    assert!(second.stderr().contains("the other process has released"));
}

#[tokio::test]
async fn without_a_certificate_a_stopgap_or_an_alert() {
    let rig = Rig::new().await;
    rig.pebble.freeze();
    for (until_issued, shown) in [("self-signed", true), ("refuse", false)] {
        let mut lockgate = rig
            .start(&["a.test"], &format!("until_issued = {until_issued:?}"))
            .await;
        let leaf = leaf(&Believing::Everything, "a.test", rig.https).await;
        assert_eq!(leaf.is_ok(), shown, "{until_issued}: {leaf:?}");
        stop(&mut lockgate).await;
    }
    rig.pebble.thaw();
}

#[tokio::test]
async fn an_operator_may_ask_for_one_more_a_day() {
    let rig = Rig::new().await;
    let lockgate = rig.start(&["a.test"], "").await;
    issued(&lockgate, "a.test").await;
    let (well, said) = lockgate.tell(&["cert", "renew", "a.test"]).await;
    assert!(!well && said.contains("within the last day"), "{said}");
    let (well, said) = lockgate.tell(&["cert", "renew", "x.test"]).await;
    assert!(!well && said.contains("these are: a.test"), "{said}");
    let (well, said) = lockgate.tell(&["cert", "list"]).await;
    assert!(well && said.contains("by Pebble Intermediate CA"), "{said}");
    assert_eq!(rig.pebble.orders(), 1);
}

#[tokio::test]
async fn hosts_come_and_go_with_the_configuration() {
    let rig = Rig::new().await;
    let lockgate = rig.start(&["a.test"], "").await;
    issued(&lockgate, "a.test").await;
    let held = rig.leaf("a.test").await.expect("trusted");
    for round in 0..3 {
        lockgate.write_config(&rig.config(&["a.test", "b.test"], ""));
        let (well, said) = lockgate.tell(&["reload"]).await;
        assert!(well, "{said}");
        // Ordered once; from then on it comes out of the store.
        issued(&lockgate, "b.test").await;
        rig.leaf("b.test").await.expect("trusted");
        lockgate.write_config(&rig.config(&["a.test"], &format!("# {round}")));
        let (well, said) = lockgate.tell(&["reload"]).await;
        assert!(well, "{said}");
        assert_eq!(lockgate.certificates().await.len(), 1);
        assert!(rig.leaf("b.test").await.is_err());
        assert_eq!(rig.leaf("a.test").await.expect("trusted"), held);
    }
    assert_eq!(rig.pebble.orders(), 2);
}
