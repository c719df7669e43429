//! Metrics: names, types and labels.

use super::{Lines, snapshot};
use crate::harness::{Backend, Frame, Lockgate, Wire, eventually, handshake, observe};
use regex::Regex;
use tokio::net::TcpStream;

/// The families of ACME are in the snapshot of `files.rs`, which has a CA.
#[tokio::test]
async fn metric_names_types_and_labels_are_unchanged() {
    let (echo, silent) = (Backend::echo().await, Backend::listen().await);
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n\
         [pools.retried]\nbackends = [\"ws://127.0.0.1:1\", \"ws://{echo}\"]\nbalance = \"round-robin\"\n\
         [pools.queue]\nbackends = [\"ws://{}\"]\nadmission = {{ handshakes = 1, queue = 1, wait = \"10s\" }}\n\
         [pools.named]\nbackends = [\"dns://localhost:1\"]\n\
         [[routes]]\nname = \"retried\"\nhosts = [\"a.test\"]\npath = \"/retried\"\npool = \"retried\"\norigins = [\"*\"]\n\
         [[routes]]\nname = \"queue\"\nhosts = [\"a.test\"]\npath = \"/queue\"\npool = \"queue\"\norigins = [\"*\"]\n\
         [[routes]]\nname = \"named\"\nhosts = [\"a.test\"]\npath = \"/named\"\npool = \"named\"\n\
         [[routes]]\nname = \"guarded\"\nhosts = [\"a.test\"]\npath = \"/guarded\"\npool = \"named\"\nguards = [\"own\"]\n\
         [guards.own.jwt]\nissuer = \"\"\naudience = [\"*\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\n",
        silent.address
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    for _ in 0..2 {
        let mut client = lockgate.upgrade("/retried", "").await;
        assert_eq!(client.head().await.status(), 101);
        client.send_frame(Frame::close(1000, "")).await;
        client.end().await;
    }
    lockgate.closed().await;
    let plain = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let mut refused = lockgate.request(plain("/named")).await;
    assert_eq!(refused.head().await.status(), 502);
    let mut denied = lockgate.request(plain("/guarded")).await;
    assert_eq!(denied.head().await.status(), 401);
    let mut answered = lockgate.request(plain("/queue")).await;
    let mut server = silent.accept().await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(answered.head().await.status(), 204);
    let _first = lockgate.upgrade("/queue", "").await;
    let _server = silent.accept().await;
    let _second = lockgate.upgrade("/queue", "").await;
    let waiting = "lockgate_admission_waiting{pool=\"queue\"}";
    eventually("a waiting request", async || {
        lockgate.metric_or_zero(waiting).await >= 1.0
    })
    .await;
    let mut third = lockgate.upgrade("/queue", "").await;
    assert_eq!(third.head().await.status(), 503);
    let stream = TcpStream::connect(lockgate.https).await;
    let mut clear = Wire::plain(stream.expect("it listens"));
    clear.send(handshake("/", "")).await;
    clear.end().await;
    drop(clear);
    assert!(lockgate.command(&["reload"]).await.0);

    let expected = "lockgate_connection_failures_total{why=\"plain_http\"} 1";
    let page = eventually("a connection failure and a DNS answer", async || {
        observe(lockgate.metrics().await, |page| {
            page.contains(expected) && page.contains("lockgate_dns_answers_total{")
        })
    })
    .await;
    snapshot("metrics", &families(&page, |_| true));
}

/// One line for each name of a sample: its type and its labels.
pub(super) fn families(page: &str, is_included: impl Fn(&str) -> bool) -> Lines {
    let label = Regex::new(r#"([a-z_]+)="(?:[^"\\]|\\.)*""#).expect("valid");
    let (mut kind, mut lines) = ("", Lines::new());
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            kind = family.rsplit(' ').next().expect("a type");
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = label.captures_iter(labels).map(|found| found[1].to_owned());
            let labels = labels.collect::<Vec<_>>().join(",");
            if is_included(name) {
                lines.insert(format!("{name} {kind} {{{labels}}}"));
            }
        }
    }
    lines
}
