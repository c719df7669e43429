//! A Unix socket that carries packets and descriptors between two processes of one user.

use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, bind, connect, listen, recvmsg, sendmsg, socket_with,
    },
    process::geteuid,
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net,
    },
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
};

/// A listening socket with a random name.
#[derive(Debug)]
pub(super) struct HandoverListener {
    socket: UnixListener,
    name: String,
}

/// One end of a connection. The socket is of type `SOCK_SEQPACKET`, although it is held as a `UnixStream`.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

// === impl HandoverListener ===

impl HandoverListener {
    pub(super) fn open() -> io::Result<HandoverListener> {
        let name = format!("lockgate-{:016x}", getrandom::u64()?);
        let socket = socket()?;
        bind(&socket, &address(&name)?)?;
        listen(&socket, BACKLOG)?;
        let socket = net::UnixListener::from(socket);
        Ok(HandoverListener {
            socket: UnixListener::from_std(socket)?,
            name,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Accepts the first connection from a process of the same user; closes connections of other users.
    pub(super) async fn accept(&self) -> io::Result<Channel> {
        loop {
            let (stream, _) = self.socket.accept().await?;
            if is_same_user(&stream)? {
                return Ok(Channel(stream));
            }
        }
    }
}

// === impl Channel ===

impl Channel {
    pub(super) fn to(name: &str) -> io::Result<Channel> {
        let socket = socket()?;
        connect(&socket, &address(name)?)?;
        let socket = UnixStream::from_std(net::UnixStream::from(socket))?;
        if !is_same_user(&socket)? {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the running lockgate belongs to another user: run this command as that user",
            ));
        }
        Ok(Channel(socket))
    }

    /// Returns the process id of the other process.
    pub(super) fn peer(&self) -> io::Result<u32> {
        let id = self.0.peer_cred()?.pid().unwrap_or_default();
        // The kernel reports no id for a process of another PID namespace.
        let id = u32::try_from(id).ok().filter(|id| *id > 0);
        id.ok_or_else(|| {
            io::Error::other("the processes run in different containers: only a process in the same container can take over")
        })
    }

    pub(super) async fn send(
        &self,
        payload: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); CONTROL_LEN];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if let Some(descriptor) = &descriptor {
                control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(
                    descriptor,
                )));
            }
            let payload = [IoSlice::new(payload)];
            // A closed peer causes an error, not SIGPIPE.
            sendmsg(&self.0, &payload, &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    pub(super) async fn receive(&self) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
        let receive = || {
            let mut space = [MaybeUninit::uninit(); CONTROL_LEN];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut payload = vec![0; MAX_MESSAGE_LEN];
            let mut slices = [IoSliceMut::new(&mut payload)];
            let received = recvmsg(&self.0, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let descriptor = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            });
            if received.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for (flag, message) in [
                (ReturnFlags::TRUNC, "a message is too long"),
                (
                    ReturnFlags::CTRUNC,
                    "no file descriptor is left: raise LimitNOFILE (systemd) or ulimit -n",
                ),
            ] {
                if received.flags.contains(flag) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            }
            payload.truncate(received.bytes);
            Ok((payload, descriptor))
        };
        self.0.async_io(Interest::READABLE, receive).await
    }
}

/// Returns whether the process at the other end belongs to the same user.
fn is_same_user(socket: &UnixStream) -> io::Result<bool> {
    Ok(socket.peer_cred()?.uid() == geteuid().as_raw())
}

fn socket() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
    Ok(socket)
}

/// Returns an address in the abstract namespace, which leaves no file behind (unix(7)).
fn address(name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
const BACKLOG: i32 = 8;
/// The maximum length of a message in bytes.
const MAX_MESSAGE_LEN: usize = 8192;
/// The length of the control data for one descriptor.
const CONTROL_LEN: usize = rustix::cmsg_space!(ScmRights(1));
