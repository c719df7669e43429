//! Health checks use the same transport as sessions.

use super::{file, tls::Files};
use crate::harness::{Lockgate, Wire, eventually, switching_protocols, within};
use tokio::net::UnixListener;

#[track_caller]
fn until_up(lockgate: &Lockgate, backend: &str, up: f64) -> impl Future<Output = ()> {
    let series = format!("lockgate_backend_up{{pool=\"chat\",backend=\"{backend}\"}}");
    eventually(format!("{series} {up}"), async move || {
        lockgate.metric(&series).await == up
    })
}

#[tokio::test]
async fn checks_use_tls_unix_sockets_and_proxy_headers() {
    let files = Files::new();
    let (_server, at) = files.server(None).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("chat.sock");
    let listener = UnixListener::bind(&path).expect("a fresh folder");
    let (tls, socket) = (format!("wss://{at}"), format!("unix:{}", path.display()));
    let config = |ca: &str, version: &str| {
        let ca = files.path(ca);
        file(&format!(
            "health = {{ check = \"websocket\", interval = \"100ms\", timeout = \"10s\", rise = 1 }}\nbackends = [\
             {{ address = \"{tls}\", tls = {{ ca = \"{ca}\", server_name = \"chat.internal\" }} }}, \
             {{ address = \"{socket}\", proxy_protocol = \"{version}\" }}]"
        ))
    };
    let next = || async {
        let (stream, _) = within("a check", listener.accept()).await.expect("lives");
        Wire::backend(stream)
    };
    let lockgate = Lockgate::with_file(&config("other.pem", "v1"))
        .start()
        .await;
    // One failed check is enough: an untrusted certificate, and a connection closed by the backend.
    let mut check = next().await;
    assert_eq!(check.line().await, "PROXY UNKNOWN");
    drop(check);
    until_up(&lockgate, &tls, 0.0).await;
    until_up(&lockgate, &socket, 0.0).await;

    // One more check may use the old configuration.
    lockgate.write_config(&config("ca.pem", "v2"));
    until_up(&lockgate, &tls, 1.0).await;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let mut check = loop {
        let mut check = next().await;
        if check.exactly(local.len()).await == local {
            break check;
        }
    };
    let request = check.head().await;
    assert_eq!(request.start, "GET / HTTP/1.1");
    assert_eq!(request.get("host"), Some("localhost"));
    check.send(switching_protocols(&request, "")).await;
    let close = check.frame().await;
    assert_eq!(close.closes_with().0, 1000);
    check.send_frame(close).await;
    drop(check);
    until_up(&lockgate, &socket, 1.0).await;
}
