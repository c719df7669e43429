//! The admin API against web pages in a real Chromium on the same machine: pages can neither read nor change anything,
//! also with DNS rebinding. `tests/node/admin_csrf.js` has the attacks.

use crate::harness::{
    Backend, Lockgate, Program, Wire, handshake,
    web::{fetch, trusting},
    within,
};
use http::Request;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::{path::Path, process::Stdio, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, Command},
};

/// The script takes 25 s.
const DEADLINE: Duration = Duration::from_secs(120);

/// A Lockgate with its admin API on a TCP port, which a browser can reach.
struct TcpAdmin {
    _child: Child,
    folder: TempDir,
    log: Lines<BufReader<ChildStderr>>,
    https: String,
    admin: String,
}

impl TcpAdmin {
    async fn start(backend: std::net::SocketAddr) -> TcpAdmin {
        let folder = TempDir::new().expect("a temporary folder");
        let config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\naccess = \"off\"\n\
             log = {{ format = \"json\" }}\n[tls]\ndev_ca = true\n[session]\nping = {{ legs = \"off\" }}\n\
             [[routes]]\nname = \"a\"\nhosts = [\"a.test\"]\nto = \"ws://{backend}\"\ntap = true\n"
        );
        std::fs::write(folder.path().join("config.toml"), config).expect("writable");
        let mut child = Command::new(env!("CARGO_BIN_EXE_lockgate"))
            .args(["run", "--config", "config.toml", "--admin", "127.0.0.1:0"])
            .current_dir(&folder)
            .env_clear()
            .env("LOCKGATE_DATA", folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
        let ready = read_until(&mut log, "\"ready\"").await;
        let ready: Value = serde_json::from_str(ready.last().expect("a line")).expect("JSON");
        let words = ready.to_string();
        let address = |kind: &str| {
            let after = words.split(&format!("{kind} ")).nth(1);
            let address = after.and_then(|after| after.split([',', '"']).next());
            address.unwrap_or_else(|| panic!("{words}")).to_owned()
        };
        let (https, admin) = (address("https"), address("admin"));
        TcpAdmin {
            _child: child,
            folder,
            log,
            https,
            admin,
        }
    }

    async fn command(&self, command: &[&str]) -> (bool, String) {
        let arguments = [command, &["--admin", &self.admin]].concat();
        let output = Lockgate::run(self.folder.path(), &arguments).await;
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8(text).expect("UTF-8"),
        )
    }

    /// Number of reloads.
    async fn reloads(&self) -> usize {
        let url = format!("http://{}/metrics", self.admin);
        let request = Request::get(url).body(String::new()).expect("a request");
        let page = fetch(request, Path::new("")).await.expect("an answer");
        let page = String::from_utf8(page.into_body().to_vec()).expect("text");
        assert!(page.contains("lockgate_sessions 2"), "{page}");
        let reloads = page
            .lines()
            .filter(|line| line.starts_with("lockgate_config_reloads_total"));
        reloads.count()
    }

    async fn session(&self) -> Wire {
        let ca = Lockgate::run(self.folder.path(), &["cert", "ca"])
            .await
            .stdout;
        let ca = String::from_utf8(ca).expect("a path");
        let connector = trusting(Path::new(ca.trim()));
        let stream = TcpStream::connect(&self.https).await.expect("it listens");
        let name = ServerName::try_from("a.test").expect("a DNS name");
        let stream = within("a TLS handshake", connector.connect(name, stream)).await;
        let mut client = Wire::tls(stream.expect("its own CA"));
        client.send(handshake("/", "")).await;
        assert_eq!(client.head().await.status(), 101);
        // It is registered once it relays.
        client.echoes().await;
        client
    }
}

/// Reads lines up to the first one that contains `words`.
async fn read_until(log: &mut Lines<BufReader<ChildStderr>>, words: &str) -> Vec<String> {
    let mut lines = Vec::new();
    within(words, async {
        while !lines
            .last()
            .is_some_and(|line: &String| line.contains(words))
        {
            let line = log.next_line().await.expect("UTF-8");
            lines.push(line.unwrap_or_else(|| panic!("it ended: {lines:?}")));
        }
    })
    .await;
    lines
}

#[tokio::test]
async fn web_page_can_neither_read_nor_change_anything() {
    let mut lockgate = TcpAdmin::start(Backend::echo().await).await;
    let (mut first, mut second) = (lockgate.session().await, lockgate.session().await);
    let (ok, sessions) = lockgate.command(&["sessions", "--json"]).await;
    assert!(ok, "{sessions}");
    let sessions: Value = serde_json::from_str(&sessions).expect("JSON");
    let id = sessions["sessions"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let (_, before) = lockgate.command(&["status", "--json"]).await;

    let port = lockgate.admin.rsplit(':').next().expect("a port");
    let arguments = [port, &id];
    let run = Program::run("../node/admin_csrf.js", &arguments);
    let output = tokio::time::timeout(DEADLINE, run).await.expect("its end");
    let tried: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let tried = tried.as_array().expect("a list");
    assert_eq!(tried.len(), 8);
    for page in tried {
        let learned = page["learned"].as_array().expect("a list");
        let read = |it: &&Value| {
            !it[2]
                .as_str()
                .expect("text")
                .contains("Host header must be")
        };
        let read: Vec<&Value> = learned.iter().filter(read).collect();
        if page["target"] == "naive" {
            // The control server has no protection: every page can read and change everything.
            assert_eq!(page["done"].as_array().map(Vec::len), Some(12), "{page}");
            for way in [
                "fetch GET simple",
                "fetch POST headers",
                "script",
                "EventSource",
                "WebSocket",
            ] {
                assert!(read.iter().any(|it| it[0] == way), "{way} in {page}");
            }
        } else {
            assert!(read.is_empty(), "{} read {read:?}", page["from"]);
            // With DNS rebinding a page can read the refusal, and nothing else.
            let rebound = page["from"] == page["to"];
            assert_eq!(learned.len() > 100, rebound, "{page}");
            let refused = |it: &Value| it[2].as_str().expect("text").starts_with("403 ");
            let fetched = |it: &&Value| it[0].as_str().expect("a way").starts_with("fetch");
            assert!(learned.iter().filter(fetched).all(refused), "{page}");
        }
    }

    first.echoes().await;
    second.echoes().await;
    let (_, after) = lockgate.command(&["status", "--json"]).await;
    for (key, was) in serde_json::from_str::<Value>(&before)
        .expect("JSON")
        .as_object()
        .expect("a table")
    {
        let is = &serde_json::from_str::<Value>(&after).expect("JSON")[key];
        assert!(
            is == was || key.contains("uptime") || key.contains("since"),
            "{key}: {was} became {is}"
        );
    }

    // The same requests work from the command line, and are visible in the log and the metrics.
    assert_eq!(lockgate.reloads().await, 0);
    let (ok, reloaded) = lockgate.command(&["reload"]).await;
    assert!(ok, "{reloaded}");
    assert_eq!(lockgate.reloads().await, 1);
    let (ok, shown) = lockgate.command(&["tap", "--for", "1s"]).await;
    assert!(ok, "{shown}");
    let logged = read_until(&mut lockgate.log, "frame tap attached").await;
    assert_eq!(logged.len(), 1, "earlier lines were logged: {logged:?}");
    let (ok, kicked) = lockgate.command(&["kick", &id]).await;
    assert!(ok, "{kicked}");
    let (ok, drained) = lockgate.command(&["drain", "--route", "a"]).await;
    assert!(ok, "{drained}");
    let mut codes = [first.frame().await, second.frame().await].map(|it| it.closes_with().0);
    codes.sort_unstable();
    assert_eq!(codes, [1008, 1012]);
}
