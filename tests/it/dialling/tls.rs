//! Backends with TLS that accept connections and stay silent.

use super::*;
use crate::{harness::Backend, pools::tls::Files};

#[tokio::test]
async fn silent_tls_handshake_leaves_time_for_another_backend() {
    let files = Files::new();
    let (_server, alive) = files.server(None).await;
    let silent = Backend::listen().await;
    let tls = format!(
        "tls = {{ ca = \"{}\", server_name = \"chat.internal\" }}",
        files.path("ca.pem")
    );
    let backends =
        [silent.address, alive].map(|it| format!("{{ address = \"wss://{it}\", {tls} }}"));
    let text = config(&["x"], "balance = \"round-robin\"");
    let text = text.replace("[\"ws://x\"]", &format!("[{}]", backends.join(", ")));
    for kind in [Kind::WebSocket, Kind::Plain] {
        let lockgate = Lockgate::with_file(&text).start().await;
        for n in 0..6 {
            let path = if kind == Kind::Plain { "/http" } else { "/" };
            let mut wire = lockgate.connect().await;
            let started = Instant::now();
            wire.send(match kind {
                Kind::WebSocket => handshake(path, ""),
                Kind::Plain => format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
            })
            .await;
            let status = wire.head().await.status();
            assert!(matches!(status, 101 | 200), "{kind:?} {n}: {status}");
            let limit = if n < 2 { FIRST } else { 2 * AT_ONCE };
            assert!(
                started.elapsed() < limit,
                "{kind:?} {n}: {:?}",
                started.elapsed()
            );
        }
        assert_eq!(retries(&lockgate).await, 1.0, "{kind:?}");
    }
}
