//! The handover protocol of a takeover: the running process passes its listening sockets over a Unix socket to the
//! process that replaces it (`SCM_RIGHTS`, unix(7)).
//!
//! The running process sends every socket, then `all`. The new process sends `ready` when nothing can fail any longer.
//! The running process answers `yes`, or `no` and continues to serve. The new process sends `serving`, and only then
//! does the running one stop. If that takes too long, the running process sends `no` and continues to serve. If either
//! process ends before, the other one serves. Both processes must belong to the
//! same user. Each message is one packet of JSON with at most one descriptor.

use rustix::{
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, bind, connect, listen, recvmsg, sendmsg, socket_with,
    },
    process::geteuid,
};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    time::{Instant, timeout},
};

/// The purpose of a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FdLabel {
    /// The kind of listener, as in `lockgate status`; "acme" for the lock of a certificate store.
    pub kind: String,
    /// The address as configured.
    pub address: String,
}

/// A descriptor that passes to another process.
#[derive(Debug)]
pub(crate) struct PassedFd {
    /// What the new process uses it for.
    pub label: FdLabel,
    /// A duplicate: this process continues to use the original.
    pub descriptor: OwnedFd,
}

/// The reason why a takeover failed.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The other process has ended, or did not connect.
    #[error("the other process has ended or cannot be reached")]
    Io(#[from] io::Error),
    /// The other process has not sent the next message in time.
    #[error("the other process did not send `{missing}` within {waited:.1?}")]
    Timeout {
        /// The message that is missing.
        missing: &'static str,
        /// How long this process has waited.
        waited: Duration,
    },
    /// The offer was withdrawn.
    #[error("the offer was withdrawn")]
    Withdrawn,
    /// The message is not part of this version of the protocol.
    #[error(
        "unexpected message {0}: the other lockgate has an incompatible version; restart it instead"
    )]
    UnexpectedMessage(String),
    /// The running process refuses to hand over.
    #[error(
        "the running lockgate continues to serve: the takeover took too long, or another process is taking over"
    )]
    Refused,
}

/// An offer to take over, under a socket name that is visible only in this network namespace.
#[derive(Debug)]
pub(crate) struct HandoverOffer {
    listener: HandoverListener,
    claim: HandoverClaim,
}

/// The claim on an offer; only the first [`HandoverClaim::take`] succeeds.
#[derive(Debug, Clone, Default)]
pub(crate) struct HandoverClaim(Arc<AtomicBool>);

/// The process that is ready to take over.
#[derive(Debug)]
pub(crate) struct Successor {
    channel: Channel,
    /// The process id of the successor.
    pub id: u32,
}

/// The running process, which is ready to hand over.
#[derive(Debug)]
pub struct Predecessor(Channel);

/// A message of the protocol.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
enum Message {
    /// The first message, from the running process.
    Offer { version: u32 },
    /// Carries one descriptor (`SCM_RIGHTS`).
    Socket(FdLabel),
    /// All descriptors have been sent.
    All,
    /// The new process can serve.
    Ready,
    /// The running process permits it.
    Yes,
    /// The running process continues to serve.
    No,
    /// The new process serves.
    Serving,
    /// The process that was running no longer serves.
    Done,
}

/// A listening socket with a random name.
#[derive(Debug)]
struct HandoverListener {
    socket: UnixListener,
    name: String,
}

/// One end of a connection between two processes of one user, which carries packets and descriptors. The socket is of
/// type `SOCK_SEQPACKET`, although it is held as a `UnixStream`.
#[derive(Debug)]
struct Channel(UnixStream);

// === impl HandoverOffer ===

impl HandoverOffer {
    /// Opens the socket of the offer. Must be called inside a runtime.
    pub(crate) fn open() -> io::Result<HandoverOffer> {
        Ok(HandoverOffer {
            listener: HandoverListener::open()?,
            claim: HandoverClaim::default(),
        })
    }

    /// Returns the claim of the offer. Taking it before a process has connected withdraws the offer.
    pub(crate) fn claim(&self) -> HandoverClaim {
        self.claim.clone()
    }

    /// Returns the name for [`take_over`].
    pub(crate) fn name(&self) -> &str {
        self.listener.name()
    }

    /// Waits for a process to connect, sends it `descriptors`, permits it to serve when it is ready, and waits until it
    /// serves. On an error it does not serve, or ends when it receives the refusal.
    pub(crate) async fn hand_over(
        self,
        descriptors: Vec<PassedFd>,
    ) -> Result<Successor, HandoverError> {
        let accepted = timeout(REPLY_TIMEOUT, self.listener.accept()).await;
        let channel = accepted.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
        if !self.claim.take() {
            return Err(HandoverError::Refused);
        }
        let started = Instant::now();
        let mut missing = "ready";
        let exchange = async {
            send(&channel, &Message::Offer { version: VERSION }, None).await?;
            for PassedFd { label, descriptor } in descriptors {
                send(&channel, &Message::Socket(label), Some(&descriptor)).await?;
            }
            send(&channel, &Message::All, None).await?;
            let id = match recv(&channel).await? {
                (Message::Ready, _) => channel.peer()?,
                (other, _) => return Err(HandoverError::UnexpectedMessage(format!("{other:?}"))),
            };
            missing = "serving";
            send(&channel, &Message::Yes, None).await?;
            match recv(&channel).await? {
                (Message::Serving, _) => Ok(id),
                (other, _) => Err(HandoverError::UnexpectedMessage(format!("{other:?}"))),
            }
        };
        // One deadline for all messages: a successor that hangs after each of them is not given more time.
        let served = timeout(REPLY_TIMEOUT, exchange).await;
        let served = served.unwrap_or_else(|_| Err(timed_out(missing, started)));
        match served {
            Ok(id) => Ok(Successor { channel, id }),
            Err(error) => {
                // Without a message the other process would assume that this one has ended, and serve.
                let _ = timeout(REFUSAL_TIMEOUT, send(&channel, &Message::No, None)).await;
                Err(error)
            }
        }
    }
}

// === impl HandoverClaim ===

impl HandoverClaim {
    /// Takes the claim; returns whether it was still free.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

// === impl Successor ===

impl Successor {
    /// Notifies the successor that this process no longer serves. If the message is lost, the end of the connection has
    /// the same effect.
    pub(crate) async fn release(self) {
        let _ = timeout(REPLY_TIMEOUT, send(&self.channel, &Message::Done, None)).await;
    }
}

// === impl Predecessor ===

impl Predecessor {
    /// Reports that this process is ready, and waits for the permission to serve. If the running process ends without a
    /// refusal, it no longer serves, and the permission is implied.
    pub async fn ready(&self) -> Result<(), HandoverError> {
        let started = Instant::now();
        let reply = async {
            send(&self.0, &Message::Ready, None).await?;
            match recv(&self.0).await? {
                (Message::Yes, _) => Ok(()),
                (Message::No, _) => Err(HandoverError::Refused),
                (other, _) => Err(HandoverError::UnexpectedMessage(format!("{other:?}"))),
            }
        };
        match timeout(REPLY_TIMEOUT, reply).await {
            Ok(Err(HandoverError::Io(_))) => Ok(()),
            Ok(reply) => reply,
            Err(_) => Err(timed_out("yes", started)),
        }
    }

    /// Reports that this process serves, and waits until the other one has notified systemd. If that one does not
    /// answer or has ended, this process serves alone.
    ///
    /// # Errors
    /// Fails if the running process has refused in the meantime, because the takeover took too long.
    pub async fn serving(self) -> Result<(), HandoverError> {
        let done = async {
            send(&self.0, &Message::Serving, None).await?;
            recv(&self.0).await
        };
        match timeout(REPLY_TIMEOUT, done).await {
            Ok(Ok((Message::No, _))) => Err(HandoverError::Refused),
            _ => Ok(()),
        }
    }
}

// === impl HandoverListener ===

impl HandoverListener {
    fn open() -> io::Result<HandoverListener> {
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

    fn name(&self) -> &str {
        &self.name
    }

    /// Accepts the first connection from a process of the same user; closes connections of other users.
    async fn accept(&self) -> io::Result<Channel> {
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
    fn to(name: &str) -> io::Result<Channel> {
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
    fn peer(&self) -> io::Result<u32> {
        let id = self.0.peer_cred()?.pid().unwrap_or_default();
        // The kernel reports no id for a process of another PID namespace.
        let id = u32::try_from(id).ok().filter(|id| *id > 0);
        id.ok_or_else(|| {
            io::Error::other("the processes run in different containers: only a process in the same container can take over")
        })
    }

    async fn send(&self, payload: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
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

    async fn receive(&self) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
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

/// Connects to the offer of this name and receives the descriptors of the running process.
pub(crate) async fn take_over(name: &str) -> Result<(Vec<PassedFd>, Predecessor), HandoverError> {
    let started = Instant::now();
    let received = async {
        let channel = Channel::to(name)?;
        match recv(&channel).await? {
            (Message::Offer { version: VERSION }, _) => {}
            (other, _) => return Err(HandoverError::UnexpectedMessage(format!("{other:?}"))),
        }
        let mut descriptors = Vec::new();
        loop {
            match recv(&channel).await? {
                (Message::Socket(label), Some(descriptor))
                    if descriptors.len() < MAX_DESCRIPTORS =>
                {
                    descriptors.push(PassedFd { label, descriptor });
                }
                (Message::All, _) => return Ok((descriptors, Predecessor(channel))),
                (other, _) => return Err(HandoverError::UnexpectedMessage(format!("{other:?}"))),
            }
        }
    };
    let received = timeout(REPLY_TIMEOUT, received).await;
    received.unwrap_or_else(|_| Err(timed_out("all", started)))
}

fn timed_out(missing: &'static str, started: Instant) -> HandoverError {
    HandoverError::Timeout {
        missing,
        waited: started.elapsed(),
    }
}

async fn send(
    channel: &Channel,
    message: &Message,
    descriptor: Option<&OwnedFd>,
) -> Result<(), HandoverError> {
    let payload = serde_json::to_string(message).expect("strings and numbers");
    let descriptor = descriptor.map(AsFd::as_fd);
    Ok(channel.send(payload.as_bytes(), descriptor).await?)
}

async fn recv(channel: &Channel) -> Result<(Message, Option<OwnedFd>), HandoverError> {
    let (payload, descriptor) = channel.receive().await?;
    let unexpected =
        || HandoverError::UnexpectedMessage(String::from_utf8_lossy(&payload).into_owned());
    let message = serde_json::from_slice(&payload).map_err(|_| unexpected())?;
    Ok((message, descriptor))
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

/// The protocol version; it increases whenever the messages change.
const VERSION: u32 = 1;

/// The timeout for a process to connect, and then for all messages of a takeover together. Slow work is done before:
/// the successor has built its gateway when it connects.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout of a refusal: the buffer of the connection is full only if the other process reads nothing.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// The maximum number of descriptors, more than any configuration needs.
const MAX_DESCRIPTORS: usize = 1024;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

const BACKLOG: i32 = 8;

/// The maximum length of a message in bytes.
const MAX_MESSAGE_LEN: usize = 8192;

/// The length of the control data for one descriptor.
const CONTROL_LEN: usize = rustix::cmsg_space!(ScmRights(1));

#[cfg(test)]
mod tests;
