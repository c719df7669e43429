//! The binary as a child process: started with a configuration or with flags, observed and stopped.

use super::{
    Backend, H2, Head, Wire, eventually, observe, program::interpreter, strict_json, web::trusting,
    within,
};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, setrlimit};
use rustls::pki_types::ServerName;
use std::{
    fmt::Write as _,
    fs::File,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream, UnixStream},
    process::{Child, Command},
    sync::watch,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// One line of the access log.
pub(crate) type Record = serde_json::Value;

/// A running Lockgate, killed on drop. Its stderr is printed if the test fails.
pub(crate) struct Lockgate {
    child: Child,
    /// `admin.sock`, `config.toml`, `data/`, `ca.pem`, `stderr`. A successor has the same.
    folder: Arc<TempDir>,
    stderr: PathBuf,
    /// The address of the TLS listener.
    pub(crate) https: SocketAddr,
    /// Every line of stdout so far that is a JSON object: the access log.
    records: watch::Receiver<Vec<Record>>,
    connector: TlsConnector,
}

/// Builder of a [`Lockgate`].
pub(crate) struct Setup {
    folder: TempDir,
    command: &'static str,
    server: String,
    rest: String,
    /// Flags instead of a file.
    flags: Option<Vec<String>>,
    /// A complete file instead of lines.
    file: Option<String>,
    environment: Vec<(String, String)>,
    /// A program that executes Lockgate, such as a shell; empty if none.
    launcher: Vec<String>,
}

// === impl Lockgate ===

impl Lockgate {
    /// A configuration with one route for `a.test` and `localhost` to this backend.
    pub(crate) fn to(backend: SocketAddr) -> Setup {
        Setup::new().with("[[routes]]").with(&format!(
            "hosts = [\"a.test\", \"localhost\"]\nto = \"ws://{backend}\"\norigins = [\"*\"]"
        ))
    }

    /// Flags instead of a configuration; `--listen` and `--admin` are added.
    pub(crate) fn with_flags(flags: &[&str]) -> Setup {
        let mut setup = Setup::new();
        setup.flags = Some(flags.iter().map(ToString::to_string).collect());
        setup
    }

    /// `lockgate demo`.
    pub(crate) fn demo() -> Setup {
        let mut setup = Lockgate::with_flags(&[]);
        setup.command = "demo";
        setup
    }

    /// Uses a complete configuration; only the admin address is replaced.
    pub(crate) fn with_file(config: &str) -> Setup {
        let mut setup = Setup::new();
        setup.file = Some(config.to_owned());
        setup
    }

    /// Runs `command`, which becomes a Lockgate with `folder/admin.sock` and `folder/data`, and waits until it listens.
    pub(crate) async fn launched(command: Command, folder: TempDir) -> Lockgate {
        let stderr = folder.path().join("stderr");
        Lockgate::spawned(command, Arc::new(folder), stderr, None).await
    }

    async fn spawned(
        mut command: Command,
        folder: Arc<TempDir>,
        stderr: PathBuf,
        predecessor: Option<u32>,
    ) -> Lockgate {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr).expect("the folder is writable"))
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let records = collect_records(&mut child);
        ready(&mut child, folder.path(), &stderr, predecessor).await;
        let https = listener(&status(folder.path()).await, "https");
        let connector = connector(folder.path()).await;
        Lockgate {
            child,
            folder,
            stderr,
            https,
            records,
            connector,
        }
    }

    /// Starts a successor that takes over from this process, with the present `config.toml`.
    pub(crate) async fn successor(&self, environment: &[(&str, &str)]) -> Lockgate {
        let mut command = self.takeover();
        command.envs(environment.iter().copied());
        let stderr = self.stderr.with_extension(format!("after-{}", self.id()));
        let predecessor = Some(self.id());
        Lockgate::spawned(command, self.folder.clone(), stderr, predecessor).await
    }

    /// The command of a successor, not yet started.
    pub(crate) fn takeover(&self) -> Command {
        let folder = self.folder.path();
        let admin = format!("unix:{}", folder.join("admin.sock").display());
        let mut command = command(folder, &[]);
        command.args(["run", "--takeover", "--config", "config.toml"]);
        command.args(["--admin", &admin, "--log-format", "json"]);
        command
    }

    /// Runs a command that ends by itself, with `folder` as its home.
    pub(crate) async fn run(folder: &Path, arguments: &[&str]) -> Output {
        let command = command(folder, &[])
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = within("the command's end", command)
            .await
            .expect("the binary starts");
        if arguments.contains(&"--json") {
            // `tap` prints one object per line, the other commands one value.
            let text = String::from_utf8_lossy(&output.stdout);
            let is_value = strict_json::check(&text).is_ok();
            let problems = strict_json::problems(&text);
            assert!(
                is_value || problems.is_empty(),
                "{arguments:?}: {problems:?}"
            );
        }
        output
    }

    /// A TLS connection for `a.test`.
    pub(crate) async fn connect(&self) -> Wire {
        self.connect_as("a.test").await
    }

    /// A TLS connection with this SNI.
    pub(crate) async fn connect_as(&self, name: &'static str) -> Wire {
        let name = ServerName::try_from(name).expect("a DNS name");
        within("a TLS handshake", async {
            let stream = TcpStream::connect(self.https).await.expect("it listens");
            Wire::tls(
                self.connector
                    .connect(name, stream)
                    .await
                    .expect("the certificate is trusted"),
            )
        })
        .await
    }

    /// A TLS connection for `a.test` from a local address, such as 127.0.0.2.
    pub(crate) async fn connect_from(&self, client: IpAddr) -> Wire {
        within("a TLS handshake", async {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind((client, 0).into()).expect("a free port");
            let stream = socket.connect(self.https).await.expect("it listens");
            let stream = self.tls_over(stream).await;
            Wire::tls(stream.expect("the connection is accepted"))
        })
        .await
    }

    /// The bare TLS stream, which uses a single descriptor, for tests with thousands of connections.
    pub(crate) async fn tls(&self, name: &'static str) -> TlsStream<TcpStream> {
        within("a TLS handshake", self.try_tls(name))
            .await
            .expect("the connection is accepted")
    }

    /// A TLS connection with HTTP/2.
    pub(crate) async fn h2(&self) -> H2 {
        H2::over(self.tls_for_h2().await).await
    }

    /// A TLS stream with ALPN `h2`, before the first byte of HTTP/2.
    pub(crate) async fn tls_for_h2(&self) -> TlsStream<TcpStream> {
        let mut config = rustls::ClientConfig::clone(self.connector.config());
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("a.test").expect("a DNS name");
        within("a TLS handshake", async {
            let stream = TcpStream::connect(self.https).await.expect("it listens");
            let connector = TlsConnector::from(Arc::new(config));
            connector
                .connect(name, stream)
                .await
                .expect("h2 is accepted")
        })
        .await
    }

    /// A TLS stream with `bytes` written during the handshake, so that they arrive with its last message.
    pub(crate) async fn tls_with(&self, bytes: &'static [u8]) -> TlsStream<TcpStream> {
        let name = ServerName::try_from("a.test").expect("a DNS name");
        within("a TLS handshake", async {
            let stream = TcpStream::connect(self.https).await.expect("it listens");
            let write = |tls: &mut rustls::ClientConnection| {
                std::io::Write::write_all(&mut tls.writer(), bytes).expect("it is buffered");
            };
            let connected = self.connector.connect_with(name, stream, write).await;
            connected.expect("the connection is accepted")
        })
        .await
    }

    /// A TLS stream with this SNI; returns an error if the connection is refused.
    pub(crate) async fn try_tls(
        &self,
        name: &'static str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name).expect("a DNS name");
        let stream = TcpStream::connect(self.https).await?;
        self.connector.connect(name, stream).await
    }

    /// A TLS connection after these bytes, such as a PROXY header; returns an error if it is refused.
    pub(crate) async fn connect_behind(&self, header: &[&[u8]]) -> std::io::Result<Wire> {
        within("a TLS handshake, or its refusal", async {
            let mut stream = TcpStream::connect(self.https).await?;
            stream.set_nodelay(true)?;
            for piece in header {
                stream.write_all(piece).await?;
            }
            let name = ServerName::try_from("a.test").expect("a DNS name");
            Ok(Wire::tls(self.connector.connect(name, stream).await?))
        })
        .await
    }

    /// Sends this request's bytes together with the last ones of the TLS handshake.
    pub(crate) async fn request_with_handshake(&self, request: &str) -> Wire {
        let name = ServerName::try_from("a.test").expect("a DNS name");
        within("a TLS handshake", async {
            let stream = TcpStream::connect(self.https).await.expect("it listens");
            let early = |session: &mut rustls::ClientConnection| {
                let written = session.writer().write_all(request.as_bytes());
                written.expect("it is buffered until the handshake is through");
            };
            let stream = self.connector.connect_with(name, stream, early).await;
            Wire::tls(stream.expect("the certificate is trusted"))
        })
        .await
    }

    /// TLS over an existing connection.
    pub(crate) async fn tls_over(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("a.test").expect("a DNS name");
        self.connector.connect(name, stream).await
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("not waited for yet")
    }

    /// Sends this request's bytes on a new connection.
    pub(crate) async fn request(&self, request: impl AsRef<[u8]>) -> Wire {
        let mut wire = self.connect().await;
        wire.send(request).await;
        wire
    }

    /// Sends a client's handshake with further header lines; the response is unread.
    pub(crate) async fn upgrade(&self, path: &str, more: &str) -> Wire {
        self.request(handshake(path, more)).await
    }

    /// Opens a session to a backend that echoes.
    pub(crate) async fn echo_session(&self) -> Wire {
        let mut wire = self.upgrade("/", "").await;
        assert_eq!(wire.head().await.status(), 101);
        wire.echoes().await;
        wire
    }

    /// Opens a session to a backend that the test controls; returns both ends and the request that the backend
    /// received.
    pub(crate) async fn session(&self, backend: &Backend) -> (Wire, Wire, Head) {
        let mut client = self.upgrade("/", "").await;
        let (server, request) = backend.accept_session().await;
        assert_eq!(client.head().await.status(), 101);
        (client, server, request)
    }

    /// Waits for the first access record, past or future, that `matches`.
    #[track_caller]
    pub(crate) fn record(&self, matches: impl Fn(&Record) -> bool) -> impl Future<Output = Record> {
        let mut records = self.records.clone();
        within("an access record", async move {
            let found = records.wait_for(|all| all.iter().any(&matches)).await;
            let all = found.expect("stdout is open");
            all.iter()
                .find(|record| matches(record))
                .expect("just seen")
                .clone()
        })
    }

    /// The record of the first closed session.
    #[track_caller]
    pub(crate) fn closed(&self) -> impl Future<Output = Record> {
        self.record(|record| record["event"] == "close")
    }

    /// Waits until the log on stderr contains `text`. It is written in the background.
    #[track_caller]
    pub(crate) fn until_logged(&self, text: &str) -> impl Future<Output = ()> {
        eventually(format!("{text:?} in the log"), async move || {
            let logged = self.stderr();
            if logged.contains(text) {
                Ok(())
            } else {
                Err(logged)
            }
        })
    }

    /// Waits for the first log line of this level, past or future, that `matches`.
    #[track_caller]
    pub(crate) fn logged(
        &self,
        level: &str,
        matches: impl Fn(&Record) -> bool,
    ) -> impl Future<Output = Record> {
        eventually(format!("a line of level {level}"), async move || {
            let mut lines = self.log(level);
            match lines.iter().position(&matches) {
                Some(at) => Ok(lines.swap_remove(at)),
                None => Err(format!("{lines:?}")),
            }
        })
    }

    /// Everything that was written to the access log so far. It is written in the background: a record that a test
    /// requires is awaited by [`Lockgate::record`], and a number of them by `eventually`.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.borrow().clone()
    }

    /// The JSON of `lockgate status --json`, from the admin socket: a test that polls it starts no process each time.
    pub(crate) async fn status(&self) -> Record {
        match self.admin_page("/status").await {
            (200, page) => serde_json::from_str(&page).expect("JSON"),
            // The admin token is required.
            _ => status(self.folder.path()).await,
        }
    }

    /// `lockgate cert list --json`.
    pub(crate) async fn certificates(&self) -> Vec<Record> {
        let list = command_json(self.folder.path(), &["cert", "list", "--json"]).await;
        list.as_array().expect("a list").clone()
    }

    /// Its folder, where `config.toml` is.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a new configuration in place, without a rename.
    pub(crate) fn write_config(&self, text: &str) {
        std::fs::write(self.folder.path().join("config.toml"), text).expect("it is writable");
    }

    /// Waits until a series has this value; a series that does not exist yet counts as 0. What a response announces may
    /// be counted after the response.
    #[track_caller]
    pub(crate) fn until_metric(&self, series: &str, value: f64) -> impl Future<Output = ()> {
        eventually(format!("{series} {value}"), async move || {
            observe(self.metric_or_zero(series).await, |it| *it == value).map(drop)
        })
    }

    /// The present value of a series, or 0 if it does not exist yet.
    pub(crate) async fn metric_or_zero(&self, series: &str) -> f64 {
        let page = self.metrics().await;
        value_of(&page, series).unwrap_or(0.0)
    }

    /// The present value of a series on its admin address, once the series exists.
    #[track_caller]
    pub(crate) fn metric(&self, series: &str) -> impl Future<Output = f64> {
        eventually(format!("the series {series}"), async move || {
            let page = self.metrics().await;
            value_of(&page, series).ok_or(page)
        })
    }

    /// Returns the text of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        self.admin_page("/metrics").await.1
    }

    /// The status and the body of a page of the admin socket.
    async fn admin_page(&self, path: &str) -> (u16, String) {
        let socket = UnixStream::connect(self.folder.path().join("admin.sock")).await;
        let mut wire = Wire::stream(socket.expect("it listens"));
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        let head = wire.head().await;
        let body = String::from_utf8(wire.body(&head).await).expect("UTF-8");
        (head.status(), body)
    }

    /// Runs a command against the running Lockgate; returns whether it succeeded, and its output.
    pub(crate) async fn command(&self, command: &[&str]) -> (bool, String) {
        let folder = self.folder.path();
        let admin = format!("unix:{}", folder.join("admin.sock").display());
        let output = Lockgate::run(folder, &[command, &["--admin", &admin]].concat()).await;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("UTF-8");
        (output.status.success(), text)
    }

    /// The certificate that clients must trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the child is ours and was not waited for");
    }

    /// The exit code, `None` after a signal.
    #[track_caller]
    pub(crate) fn exit(&mut self) -> impl Future<Output = Option<i32>> {
        within("the exit", async {
            self.child.wait().await.expect("a child").code()
        })
    }

    /// What it wrote to stderr so far; see [`Lockgate::log`].
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// The log lines of this level so far, with their fields. They are written in the background: a line that a test
    /// requires is awaited by [`Lockgate::logged`].
    pub(crate) fn log(&self, level: &str) -> Vec<Record> {
        let stderr = self.stderr();
        let lines = stderr
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Record| line["level"] == level)
            .collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.id() as i32).expect("a process id is positive")
    }
}

impl Drop for Lockgate {
    fn drop(&mut self) {
        // Every JSON line of every test: a key occurs once.
        let mut problems = strict_json::problems(&self.stderr());
        let records = self.records.borrow().clone();
        problems.extend(
            records
                .iter()
                .filter_map(|it| Some(it.as_str()?.to_owned())),
        );
        if !std::thread::panicking() && !problems.is_empty() {
            panic!("invalid JSON in the log:\n{}", problems.join("\n"));
        }
        if std::thread::panicking() {
            eprintln!(
                "--- lockgate's stderr ---\n{}\n--- its access log ---",
                self.stderr()
            );
            for record in self.records() {
                eprintln!("{record}");
            }
        }
    }
}

// === impl Setup ===

impl Setup {
    fn new() -> Setup {
        Setup {
            folder: TempDir::new().expect("a temporary folder"),
            command: "run",
            server: String::new(),
            rest: String::new(),
            flags: None,
            file: None,
            environment: vec![],
            launcher: vec![],
        }
    }

    /// Lines for `[server]`.
    pub(crate) fn server(mut self, lines: &str) -> Setup {
        self.server.push_str(lines);
        self.server.push('\n');
        self
    }

    /// Appends lines; after [`Lockgate::to`] they belong to the route.
    pub(crate) fn with(mut self, lines: &str) -> Setup {
        self.rest.push_str(lines);
        self.rest.push('\n');
        self
    }

    /// Sets an environment variable; the environment is empty otherwise.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Limits the number of file descriptors, as `ulimit -n` does.
    pub(crate) fn descriptors(self, limit: u64) -> Setup {
        let script = "ulimit -n \"$1\"; shift; exec \"$@\"";
        self.under(&["/bin/sh", "-c", script, "sh", &limit.to_string()])
    }

    /// Passes listening sockets on these addresses or paths, like systemd.
    pub(crate) fn activated(self, addresses: &str) -> Setup {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/activate.py");
        let python = interpreter().display().to_string();
        self.under(&[&python, script, addresses])
    }

    /// Makes IPv6 sockets impossible, as on a machine without IPv6.
    pub(crate) fn without_ipv6(self) -> Setup {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/without_ipv6.py");
        let python = interpreter().display().to_string();
        self.under(&[&python, script])
    }

    /// Mounts this file as `/etc/resolv.conf`, and a file `hosts` in its folder as `/etc/hosts`, in a private mount
    /// namespace, which requires root.
    pub(crate) fn resolving_by(self, file: &Path) -> Setup {
        assert!(
            rustix::process::getuid().is_root(),
            "another /etc/resolv.conf is mounted for lockgate, which only root may do: run the tests as root with \
             CAP_SYS_ADMIN, or leave this one out (cargo nextest run -E 'not test(dns)')"
        );
        let script = "mount --bind \"$1\" /etc/resolv.conf; hosts=${1%/*}/hosts; \
                      [ ! -e \"$hosts\" ] || mount --bind \"$hosts\" /etc/hosts; shift; exec \"$@\"";
        let file = file.display().to_string();
        let shell = ["/bin/sh", "-ec", script, "sh", &file];
        self.under(
            &[
                &["unshare", "--mount", "--propagation", "private"],
                &shell[..],
            ]
            .concat(),
        )
    }

    fn under(mut self, launcher: &[&str]) -> Setup {
        self.launcher = launcher.iter().map(ToString::to_string).collect();
        self
    }

    /// Starts it and waits until it listens.
    pub(crate) async fn start(self) -> Lockgate {
        let admin = format!("unix:{}", self.folder.path().join("admin.sock").display());
        let mut command = command(self.folder.path(), &self.launcher);
        command.arg(self.command);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(flags) = &self.flags {
            command.args(flags).args([
                "--listen",
                "127.0.0.1:0",
                "--admin",
                &admin,
                "--log-format",
                "json",
            ]);
        } else {
            let config = self.folder.path().join("config.toml");
            let text = self.file.clone().unwrap_or_else(|| self.config(&admin));
            std::fs::write(&config, text).expect("the folder is writable");
            command.arg("--config").arg(config);
            if self.file.is_some() {
                command.args(["--admin", &admin, "--log-format", "json"]);
            }
        }
        Lockgate::launched(command, self.folder).await
    }

    fn config(&self, admin: &str) -> String {
        let mut config = String::from("[server]\nhttps = [\"127.0.0.1:0\"]\n");
        if !self.server.contains("http = ") {
            config.push_str("http = []\n");
        }
        write!(
            config,
            "admin = \"{admin}\"\nlog = {{ level = \"debug\", format = \"json\" }}\n{}\n[tls]\ndev_ca = true\n\n{}",
            self.server, self.rest
        )
        .expect("a String");
        config
    }
}

fn value_of(page: &str, series: &str) -> Option<f64> {
    let mut values = page
        .lines()
        .filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Some(values.next()?.parse().expect("a number"))
}

/// The real address of a listener.
pub(crate) fn listener(status: &Record, kind: &str) -> SocketAddr {
    let listeners = status["listeners"].as_array().expect("a list");
    let found = listeners.iter().find(|listener| listener["kind"] == kind);
    let address = found
        .and_then(|listener| listener["address"].as_str())
        .unwrap_or_else(|| panic!("no {kind}: {status}"));
    address.parse().expect("an address with its port")
}

/// A client's handshake (RFC 6455 §4.1), with further header lines.
pub(crate) fn handshake(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

/// Raises the descriptor limit, for tests with thousands of connections.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit is always allowed");
}

/// The command of the binary, with an environment independent of the developer's.
fn command(folder: &Path, launcher: &[String]) -> Command {
    let program = env!("CARGO_BIN_EXE_lockgate");
    let mut command = match launcher {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command
        .env_clear()
        .env("HOME", folder)
        .env("LOCKGATE_DATA", folder.join("data"))
        .current_dir(folder);
    command
}

/// Polls until the process answers; no event signals its start.
async fn ready(child: &mut Child, folder: &Path, stderr: &Path, predecessor: Option<u32>) {
    within("the start", async {
        while !answers(folder, predecessor).await {
            if let Ok(exit) = tokio::time::timeout(Duration::from_millis(10), child.wait()).await {
                let stderr = std::fs::read_to_string(stderr).unwrap_or_default();
                panic!("it ended at once, {exit:?}:\n{stderr}");
            }
        }
    })
    .await;
}

/// Returns whether a process other than the predecessor answers.
async fn answers(folder: &Path, predecessor: Option<u32>) -> bool {
    let listens = UnixStream::connect(folder.join("admin.sock")).await.is_ok();
    match predecessor {
        // No answer is no error: the predecessor may end while it answers.
        Some(predecessor) => {
            listens
                && try_command_json(folder, &["status", "--json"])
                    .await
                    .is_ok_and(|status| status["process"] != predecessor)
        }
        None => listens,
    }
}

async fn status(folder: &Path) -> Record {
    command_json(folder, &["status", "--json"]).await
}

async fn command_json(folder: &Path, arguments: &[&str]) -> Record {
    let answer = try_command_json(folder, arguments).await;
    answer.unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// Returns what a command prints as JSON, or the errors of one that fails.
async fn try_command_json(folder: &Path, arguments: &[&str]) -> Result<Record, String> {
    let admin = format!("unix:{}", folder.join("admin.sock").display());
    // The configuration file has the admin token.
    let config = std::fs::read_to_string(folder.join("config.toml"));
    let token: &[&str] = if config.is_ok_and(|config| config.contains("admin_token")) {
        &["--config", "config.toml"]
    } else {
        &[]
    };
    let output = Lockgate::run(folder, &[arguments, &["--admin", &admin], token].concat()).await;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).expect("--json is JSON"))
}

/// Trusts the development CA, whose certificate `lockgate cert ca` names, and nothing else.
async fn connector(folder: &Path) -> TlsConnector {
    // In a container it belongs to another user, and `cert ca` refuses a CA whose key another user knows.
    let file = folder.join("data/dev-ca/ca.pem");
    let owner = std::fs::metadata(&file).map(|file| file.uid());
    if owner.is_ok_and(|owner| owner != rustix::process::geteuid().as_raw()) {
        std::fs::copy(&file, folder.join("ca.pem")).expect("the folder is writable");
        return trusting(&file);
    }
    let output = Lockgate::run(folder, &["cert", "ca"]).await;
    assert!(
        output.status.success(),
        "cert ca: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let file = printed
        .lines()
        .map(str::trim)
        .find(|line| Path::new(line).is_file());
    let file = file.unwrap_or_else(|| panic!("`cert ca` names no file:\n{printed}"));
    std::fs::copy(file, folder.join("ca.pem")).expect("the folder is writable");
    trusting(Path::new(file))
}

fn collect_records(child: &mut Child) -> watch::Receiver<Vec<Record>> {
    let (sender, records) = watch::channel(vec![]);
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Ok(record @ Record::Object(_)) = serde_json::from_str(&line) {
                sender.send_modify(|all| all.push(record));
                // `Lockgate::drop` fails because of it.
                if let Err(problem) = strict_json::check(&line) {
                    sender.send_modify(|all| all.push(Record::String(problem)));
                }
            }
        }
    });
    records
}
