//! The two programs and their ports.

use crate::harness::free_port;
use socket2::{Domain, Socket, Type};
use std::{
    io::{Error, ErrorKind},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

/// The ports of the two processes of one test.
pub(super) struct Ports {
    pub(super) api: u16,
    pub(super) management: u16,
    /// UDP and TCP.
    pub(super) dns: u16,
    pub(super) dns_management: u16,
}

// === impl Ports ===

impl Ports {
    /// Returns free ports, which differ.
    pub(super) fn free() -> Ports {
        let dns = loop {
            let port = free_port();
            if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                break port;
            }
        };
        Ports {
            api: free_port(),
            management: free_port(),
            dns,
            dns_management: free_port(),
        }
    }

    /// Binds Pebble's ports without listening, so that no other process takes them and a connection is refused.
    pub(super) fn reserve(&self) -> Vec<Socket> {
        let reserve = |port| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // Connections of the ended process may still be in TIME_WAIT.
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
            Ok(socket)
        };
        [self.api, self.management]
            .map(|port| reserve(port).unwrap_or_else(|error: Error| panic!("port {port}: {error}")))
            .into()
    }
}

/// Starts Pebble itself.
pub(super) fn acme(
    folder: &Path,
    ports: &Ports,
    nonce_reject: u8,
    log: &watch::Sender<String>,
) -> (Child, [JoinHandle<()>; 2]) {
    let mut command = Command::new("pebble");
    command
        .args(["-strict", "-config", "pebble.json", "-dnsserver"])
        .arg(format!("127.0.0.1:{}", ports.dns))
        .env("PEBBLE_VA_NOSLEEP", "1")
        // "0" still means one in a hundred: an account's next order may have a valid authorization.
        .env("PEBBLE_AUTHZREUSE", "0")
        .env("PEBBLE_WFE_NONCEREJECT", nonce_reject.to_string())
        .current_dir(folder);
    spawn(command, log)
}

/// Starts the DNS server, which answers 127.0.0.1 for every host without its own records.
pub(super) fn dns(ports: &Ports, log: &watch::Sender<String>) -> (Child, [JoinHandle<()>; 2]) {
    let mut command = Command::new("pebble-challtestsrv");
    command
        .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
        .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
        .args(["-dns01", &format!("127.0.0.1:{}", ports.dns)])
        .args([
            "-management",
            &format!("127.0.0.1:{}", ports.dns_management),
        ]);
    spawn(command, log)
}

/// Starts a child process whose output is collected in `log`.
fn spawn(mut command: Command, log: &watch::Sender<String>) -> (Child, [JoinHandle<()>; 2]) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => panic!(
            "{:?} is missing: run tests/run once, or apt-get install pebble",
            command.as_std().get_program()
        ),
        _ => panic!("{command:?}: {error}"),
    });
    let out = collect(child.stdout.take().expect("piped"), log.clone());
    let err = collect(child.stderr.take().expect("piped"), log.clone());
    (child, [out, err])
}

fn collect(
    stream: impl AsyncRead + Send + Unpin + 'static,
    log: watch::Sender<String>,
) -> JoinHandle<()> {
    let mut lines = BufReader::new(stream).lines();
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            log.send_modify(|log| {
                log.push_str(&line);
                log.push('\n');
            });
        }
    })
}
