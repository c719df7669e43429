//! Packets and descriptors between two processes of one user.

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

/// A listening socket under a name of its own.
#[derive(Debug)]
pub(super) struct HandoverListener {
    socket: UnixListener,
    name: String,
}

/// One end of a conversation. A stream by its type alone: it carries packets.
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

    /// The first process of the same user that comes; others find the door shut.
    pub(super) async fn accept(&self) -> io::Result<Channel> {
        loop {
            let (came, _) = self.socket.accept().await?;
            if is_same_user(&came)? {
                return Ok(Channel(came));
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
                "the running lockgate belongs to another user: run this as that user",
            ));
        }
        Ok(Channel(socket))
    }

    /// The other process.
    pub(super) fn peer(&self) -> io::Result<u32> {
        let id = self.0.peer_cred()?.pid().unwrap_or_default();
        // The kernel has no number here for a process of another namespace.
        let id = u32::try_from(id).ok().filter(|id| *id > 0);
        id.ok_or_else(|| {
            io::Error::other("it runs in another container: only a process beside it can take over")
        })
    }

    pub(super) async fn send(
        &self,
        words: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); ROOM];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if let Some(descriptor) = &descriptor {
                control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(
                    descriptor,
                )));
            }
            let words = [IoSlice::new(words)];
            // Nobody there is an error, not a signal.
            sendmsg(&self.0, &words, &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    pub(super) async fn receive(&self) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
        let receive = || {
            let mut space = [MaybeUninit::uninit(); ROOM];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut words = vec![0; LONGEST];
            let mut into = [IoSliceMut::new(&mut words)];
            let got = recvmsg(&self.0, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            let descriptor = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
                _ => None,
            });
            if got.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for (flag, why) in [
                (ReturnFlags::TRUNC, "a message is too long"),
                (
                    ReturnFlags::CTRUNC,
                    "no file descriptor is left: raise LimitNOFILE (systemd) or ulimit -n",
                ),
            ] {
                if got.flags.contains(flag) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
            words.truncate(got.bytes);
            Ok((words, descriptor))
        };
        self.0.async_io(Interest::READABLE, receive).await
    }
}

/// Whether the process at the other end is of the same user.
fn is_same_user(socket: &UnixStream) -> io::Result<bool> {
    Ok(socket.peer_cred()?.uid() == geteuid().as_raw())
}

fn socket() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, FLAGS, None)?;
    Ok(socket)
}

/// In the abstract namespace: nothing is left in a folder, whatever happens (unix(7)).
fn address(name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
const BACKLOG: i32 = 8;
/// Bytes of a message.
const LONGEST: usize = 8192;
/// Bytes of control data, for one descriptor.
const ROOM: usize = rustix::cmsg_space!(ScmRights(1));
