//! The messages of a takeover: each side is played once by the test, packet by packet.

use super::{Lines, admin_request, snapshot};
use crate::harness::{Lockgate, Wire, eventually, within};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, recvmsg, sendmsg, socket_with,
};
use std::{
    fs::{self, Permissions},
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt, net},
    },
    path::Path,
};
use tempfile::TempDir;
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    process::Command,
};

const ROUTE: &str = "[[routes]]\nhosts = [\"a.test\"]\nto = \"ws://127.0.0.1:1\"\n";

/// One end of a handover: a packet is a message and at most one descriptor.
pub(crate) struct Packets(UnixStream);

// === impl Packets ===

impl Packets {
    pub(crate) async fn send(&self, message: &str, descriptor: Option<BorrowedFd<'_>>) {
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if let Some(descriptor) = &descriptor {
                let rights = std::slice::from_ref(descriptor);
                control.push(SendAncillaryMessage::ScmRights(rights));
            }
            let packet = [IoSlice::new(message.as_bytes())];
            Ok(sendmsg(
                &self.0,
                &packet,
                &mut control,
                SendFlags::NOSIGNAL,
            )?)
        };
        let sent = self.0.async_io(Interest::WRITABLE, send);
        within("a packet is sent", sent)
            .await
            .expect("the peer reads");
    }

    /// The next message, with the number of its descriptors.
    pub(crate) async fn receive(&self) -> String {
        let receive = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut packet = vec![0; 8192];
            let mut into = [IoSliceMut::new(&mut packet)];
            let got = recvmsg(&self.0, &mut into, &mut control, RecvFlags::empty())?;
            let descriptors = control.drain().map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.count(),
                _ => 0,
            });
            let descriptors: usize = descriptors.sum();
            packet.truncate(got.bytes);
            let message = String::from_utf8_lossy(&packet).into_owned();
            Ok(format!("{message} +{descriptors} descriptors"))
        };
        let received = self.0.async_io(Interest::READABLE, receive);
        within("a packet", received).await.expect("the peer sends")
    }
}

fn socket() -> OwnedFd {
    let flags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a socket")
}

fn address(name: &str) -> SocketAddrUnix {
    SocketAddrUnix::new_abstract_name(name.as_bytes()).expect("a short name")
}

/// Orders a running process to offer its sockets, and connects to the offer.
pub(crate) async fn offered(lockgate: &Lockgate) -> Packets {
    let (mut admin, head) = eventually("an offer", async || {
        let mut admin = admin_request(lockgate, "POST /handover").await;
        let head = admin.head().await;
        // The response is 409 while an earlier offer is open.
        let status = head.status();
        (status == 200).then_some((admin, head)).ok_or(status)
    })
    .await;
    let name = String::from_utf8(admin.body(&head).await).expect("a name");
    assert!(
        name.starts_with("lockgate-") && name.ends_with('\n'),
        "{name}"
    );
    let socket = socket();
    connect(&socket, &address(name.trim())).expect("the offer is open");
    Packets(UnixStream::from_std(net::UnixStream::from(socket)).expect("a stream"))
}

#[tokio::test]
async fn messages_of_the_old_process_are_unchanged() {
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nmetrics = \"127.0.0.1:0\"\n\
         [acme]\ndirectory = \"https://localhost:1/dir\"\nstorage = \"storage\"\n{ROUTE}"
    );
    let mut lockgate = Lockgate::with_file(&config).start().await;
    let folder = lockgate.folder().display().to_string();
    let mut lines = Lines::new();
    let mut receives = |step: String, message: String| {
        lines.insert(format!("{step} {}", message.replace(&folder, "FOLDER")));
        message.contains("\"all\"")
    };
    // The old process refuses an unknown message.
    let refused = offered(&lockgate).await;
    let mut number = 1..;
    let mut next = || format!("1.{}", number.next().expect("endless"));
    while !receives(next(), refused.receive().await) {}
    refused.send("{\"is\":\"unknown\"}", None).await;
    receives(
        "2 after an unknown message:".into(),
        refused.receive().await,
    );

    let accepted = offered(&lockgate).await;
    while !accepted.receive().await.contains("\"all\"") {}
    accepted.send("{\"is\":\"ready\"}", None).await;
    receives("3 after ready:".into(), accepted.receive().await);
    accepted.send("{\"is\":\"serving\"}", None).await;
    receives("4 after serving:".into(), accepted.receive().await);
    assert_eq!(lockgate.exit().await, Some(0));
    snapshot("handover_old", &lines);
}

#[tokio::test]
async fn messages_of_the_new_process_are_unchanged() {
    let mut lines = Lines::new();
    let (mut successor, packets) = new_process(&mut lines).await;
    lines.insert(format!("2 after all: {}", packets.receive().await));
    packets.send("{\"is\":\"yes\"}", None).await;
    lines.insert(format!("3 after yes: {}", packets.receive().await));
    packets.send("{\"is\":\"done\"}", None).await;
    let ended = successor.child.try_wait().expect("a child");
    assert!(ended.is_none(), "it serves");
    snapshot("handover_new", &lines);
}

/// A process that takes over from the test.
pub(crate) struct NewProcess {
    pub(crate) child: tokio::process::Child,
    _folder: TempDir,
}

/// Starts a process that takes over, and passes it listening sockets. Adds its request to `lines`.
pub(crate) async fn new_process(lines: &mut Lines) -> (NewProcess, Packets) {
    let folder = TempDir::new().expect("a temporary folder");
    let https = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    https.set_nonblocking(true).expect("a socket");
    let admin = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&admin).expect("the folder is writable");
    // Lockgate accepts no admin socket that other users can open.
    fs::set_permissions(&admin, Permissions::from_mode(0o600)).expect("ours");
    let child = successor(folder.path(), &admin);

    let (stream, _) = within("a connection to admin", listener.accept())
        .await
        .expect("the listener is open");
    let mut connection = Wire::backend(stream);
    let head = connection.head().await;
    lines.insert(format!("1 admin: {}", head.start));
    let name = format!("lockgate-contract-{}", std::process::id());
    let offer = socket();
    bind(&offer, &address(&name)).expect("the name is free");
    listen(&offer, 1).expect("bound");
    let offer = UnixListener::from_std(net::UnixListener::from(offer)).expect("a listener");
    let body = format!("{name}\n");
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.send(answer).await;

    let (stream, _) = within("the new process", offer.accept())
        .await
        .expect("the listener is open");
    let packets = Packets(stream);
    packets.send("{\"is\":\"offer\",\"version\":1}", None).await;
    for (kind, address, descriptor) in [
        ("https", "127.0.0.1:0".to_owned(), https.as_fd()),
        (
            "admin",
            format!("unix:{}", admin.display()),
            listener.as_fd(),
        ),
    ] {
        let message =
            serde_json::json!({ "is": "socket", "kind": kind, "address": address }).to_string();
        packets.send(&message, Some(descriptor)).await;
    }
    packets.send("{\"is\":\"all\"}", None).await;
    let process = NewProcess {
        child,
        _folder: folder,
    };
    (process, packets)
}

/// Starts a process that takes over from the listener on `admin`.
fn successor(folder: &Path, admin: &Path) -> tokio::process::Child {
    let config =
        format!("[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n{ROUTE}");
    fs::write(folder.join("config.toml"), config).expect("the folder is writable");
    let admin = format!("unix:{}", admin.display());
    Command::new(env!("CARGO_BIN_EXE_lockgate"))
        .args([
            "run",
            "--takeover",
            "--config",
            "config.toml",
            "--admin",
            &admin,
        ])
        .env_clear()
        .env("LOCKGATE_DATA", folder.join("data"))
        .current_dir(folder)
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts")
}
