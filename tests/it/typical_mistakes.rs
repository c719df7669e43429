//! The mistakes of a new user: each message has the next step.

use crate::harness::{Backend, Lockgate, Wire, web::trusting};
use rustls::pki_types::ServerName;
use std::{fs, process::Output};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

/// Mistakes in a command or a file: the configuration, the command, and words of the next step in its output.
#[tokio::test]
async fn command_with_a_typical_mistake_prints_the_next_step() {
    let used = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let used = used.local_addr().map(|at| (at, used)).expect("it has one");
    let run = ["run", "--config", "lockgate.toml"];
    let check = ["check", "--config", "lockgate.toml"];
    let in_use = format!("https = [\"{}\"]", used.0);
    let mut faults = vec![];
    let cases: &[(&str, String, &[&str], &str)] = &[
        (
            "no file",
            String::new(),
            &["run", "--config", "none.toml"],
            "is the path right",
        ),
        (
            "an empty file",
            String::new(),
            &["run"],
            "add [[routes]] with `hosts`",
        ),
        (
            "a key typo",
            config("htps = []", "", ""),
            &check,
            "did you mean `https`?",
        ),
        (
            "YAML",
            "server:\n  https: 8443\n".to_owned(),
            &check,
            "write [server];",
        ),
        (
            "nginx",
            "server {\n  listen 443 ssl;\n}\n".to_owned(),
            &check,
            "write [[routes]];",
        ),
        (
            "JSON",
            "{\n  \"routes\": []\n}\n".to_owned(),
            &check,
            "TOML",
        ),
        (
            "a bad regex",
            config("", "", "path = \"~ ^/room/(\""),
            &check,
            "\"~ ^/room/[0-9]+$\"",
        ),
        (
            "a parameter in a path",
            config("", "", "path = \"/ws/{room}\""),
            &check,
            "path = \"/ws/*\"",
        ),
        (
            "a number as a duration",
            config("", "[limits]\nidle = 30", ""),
            &check,
            "write idle = \"30s\"",
        ),
        (
            "a port as a listener",
            config("https = 8443", "", ""),
            &check,
            "write https = [\"[::]:8443\"]",
        ),
        (
            "an unset variable",
            config("admin_token = \"${NOT_SET}\"", "", ""),
            &check,
            "set it, or write ${NOT_SET:-default}",
        ),
        (
            "no certificate",
            config("", "", "").replace("dev_ca = true", ""),
            &check,
            "tls.dev_ca = true",
        ),
        (
            "a missing certificate file",
            config("", "", "").replace(
                "dev_ca = true",
                "certificates = [{ cert = \"a.pem\", key = \"a.key\" }]",
            ),
            &check,
            "the folder of the configuration file",
        ),
        (
            "a missing pool",
            config("", "", "").replace("to = \"ws://127.0.0.1:1\"", "pool = \"chat\""),
            &check,
            "add [pools.chat]",
        ),
        (
            "two routes without names",
            format!(
                "{0}[[routes]]\nhosts = [\"b.test\"]\nto = \"ws://a\"\n",
                config("", "", "")
            ),
            &check,
            "add name =",
        ),
        (
            "an admin listener for everyone",
            config("admin = \"0.0.0.0:9180\"", "", ""),
            &check,
            "server.metrics",
        ),
        (
            "a port in use",
            config(&in_use, "", ""),
            &run,
            "another program listens there",
        ),
        (
            "an address of another machine",
            config("https = [\"192.0.2.1:8443\"]", "", ""),
            &run,
            "this machine has no such address",
        ),
        (
            "a port as a backend",
            String::new(),
            &["run", "--to", "8765"],
            "\"ws://127.0.0.1:8765\"",
        ),
        (
            "nothing runs",
            String::new(),
            &["status", "--admin", "127.0.0.1:1"],
            "is lockgate running",
        ),
        (
            "a probe of a closed port",
            String::new(),
            &["probe", "wss://localhost:1/"],
            "is the server running, and is the port open?",
        ),
        ("a misspelt command", String::new(), &["chekc"], "check"),
        (
            "a certificate store that cannot be written",
            config(
                "",
                "[acme]\ndirectory = \"https://127.0.0.1:1/dir\"\nstorage = \"/proc/x\"",
                "",
            ),
            &["doctor", "--config", "lockgate.toml"],
            "install -d -m 700",
        ),
        (
            "an unreachable CA",
            config(
                "",
                "[acme]\ndirectory = \"https://127.0.0.1:1/dir\"\nstorage = \"acme\"",
                "",
            ),
            &["doctor", "--config", "lockgate.toml"],
            "check acme.directory and acme.ca_file",
        ),
    ];
    for (mistake, text, arguments, step) in cases {
        let folder = TempDir::new().expect("a temporary folder");
        fs::write(folder.path().join("lockgate.toml"), text).expect("writable");
        let output = Lockgate::run(folder.path(), arguments).await;
        let shown = shown(&output);
        if output.status.success() || !shown.contains(step) {
            faults.push(format!("{mistake}: no {step:?} in\n{shown}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
}

/// Mistakes that show when a client connects: words of the next step in the response or in the log.
#[tokio::test]
async fn refused_client_or_its_log_line_has_the_next_step() {
    let web = web_server().await;
    let lines = format!(
        "[[routes]]\nname = \"down\"\nhosts = [\"a.test\"]\npath = \"/down\"\nto = \"ws://127.0.0.1:1\"\n\
         [[routes]]\nname = \"web\"\nhosts = [\"a.test\"]\npath = \"/web\"\nto = \"ws://{web}\"\n"
    );
    let setup = Lockgate::with_file(&format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n{lines}"
    ));
    let lockgate = setup.start().await;
    for (path, more, step) in [
        ("/other", "", "lockgate explain"),
        (
            "/down",
            "Origin: https://evil.test\r\n",
            "add it to `origins`",
        ),
    ] {
        let mut wire = lockgate.upgrade(path, more).await;
        let head = wire.head().await;
        let body = String::from_utf8(wire.body(&head).await).expect("UTF-8");
        assert!(body.contains(step), "{path}: {body}");
    }
    // The backend is down, and the backend is no WebSocket server.
    for (path, step) in [
        (
            "/down",
            "is the backend running, and listening on that address and port?",
        ),
        ("/web", "does the server accept WebSockets there?"),
    ] {
        let mut wire = lockgate.upgrade(path, "").await;
        assert_eq!(wire.head().await.status(), 502, "{path}");
        lockgate.until_logged(step).await;
    }
    // A client that does not trust the development CA.
    let folder = TempDir::new().expect("a temporary folder");
    let other = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
    let file = folder.path().join("other.pem");
    fs::write(&file, other.cert.pem()).expect("writable");
    let stream = TcpStream::connect(lockgate.https)
        .await
        .expect("it listens");
    let name = ServerName::try_from("a.test").expect("a DNS name");
    assert!(trusting(&file).connect(name, stream).await.is_err());
    lockgate.until_logged("run `lockgate cert trust`").await;
}

/// A server that answers every request with 200.
async fn web_server() -> std::net::SocketAddr {
    let backend = Backend::listen().await;
    let address = backend.address;
    tokio::spawn(async move {
        loop {
            let mut wire: Wire = backend.accept().await;
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    });
    address
}

/// A valid configuration with further lines for `[server]`, before the route, and in the route.
fn config(server: &str, sections: &str, route: &str) -> String {
    let https = if server.contains("https") {
        ""
    } else {
        "https = [\"127.0.0.1:0\"]\n"
    };
    let tls = if sections.contains("[acme]") {
        ""
    } else {
        "[tls]\ndev_ca = true\n"
    };
    let admin = if server.contains("admin =") {
        ""
    } else {
        "admin = \"off\"\n"
    };
    format!(
        "[server]\n{https}http = []\n{admin}{server}\n{sections}\n{tls}[[routes]]\nhosts = [\"a.test\"]\n\
         to = \"ws://127.0.0.1:1\"\n{route}\n"
    )
}

fn shown(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))
}
