//! A Unix socket over which the running process gives what it listens with to the one that takes its place
//! (`SCM_RIGHTS`, unix(7)).
//!
//! The running one gives every socket, then says so. The new one, when nothing can fail any more, says that it is ready;
//! the running one answers yes, or no and goes on. When the new one serves it says so, and only then does the other one
//! stop: whichever of the two ends before, the other serves. Only the same user is spoken to, and each message is one
//! packet: a few words and at most one descriptor.

mod channel;

use channel::{Channel, HandoverListener};
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// What a descriptor is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdLabel {
    /// As `lockgate status` calls a listener; "acme" for the lock of a folder with certificates.
    pub kind: String,
    /// As the configuration writes it.
    pub address: String,
}

/// A descriptor to be given.
#[derive(Debug)]
pub struct PassedFd {
    /// What it is for.
    pub label: FdLabel,
    /// One of its own: what is given stays in use here.
    pub descriptor: OwnedFd,
}

/// Why nothing changed hands.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The other process has ended, or never came.
    #[error("the other process did not come so far")]
    Io(#[from] io::Error),
    /// It hangs.
    #[error("the other process did not answer within {REPLY_TIMEOUT:?}")]
    Timeout,
    /// It is of another time.
    #[error("the other lockgate is of another version and says {0}: restart it instead")]
    UnexpectedMessage(String),
    /// The running process refuses to hand over.
    #[error(
        "the running lockgate goes on: it has waited for too long, or is giving its place to another one"
    )]
    Refused,
}

/// An invitation to take over, under a name that only processes of this machine and network namespace can see.
#[derive(Debug)]
pub struct HandoverOffer {
    door: HandoverListener,
    claim: HandoverClaim,
}

/// Whose an offer is: the first to take it has it.
#[derive(Debug, Clone, Default)]
pub struct HandoverClaim(Arc<AtomicBool>);

/// The process that is ready to take over.
#[derive(Debug)]
pub struct Successor {
    channel: Channel,
    /// Its process id.
    pub id: u32,
}

/// The running process, which is ready to hand over.
#[derive(Debug)]
pub struct Predecessor(Channel);

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
enum Message {
    /// The first word.
    Offer { version: u32 },
    /// With a descriptor.
    Socket(FdLabel),
    /// That was everything.
    All,
    /// The new one can serve.
    Ready,
    /// The old one lets it.
    Yes,
    /// The old one goes on.
    No,
    /// The new one serves.
    Serving,
    /// The old process no longer serves.
    Done,
}

// === impl HandoverOffer ===

impl HandoverOffer {
    /// Opens it. Called inside a runtime.
    pub fn open() -> io::Result<HandoverOffer> {
        Ok(HandoverOffer {
            door: HandoverListener::open()?,
            claim: HandoverClaim::default(),
        })
    }

    /// Taking this claim before a process has connected withdraws the offer.
    pub fn claim(&self) -> HandoverClaim {
        self.claim.clone()
    }

    /// What [`take_over`] wants.
    pub fn name(&self) -> &str {
        self.door.name()
    }

    /// Gives all of `given` to the process that comes, and waits until it can serve.
    pub async fn send_to_successor(self, given: Vec<PassedFd>) -> Result<Successor, HandoverError> {
        let came = timeout(REPLY_TIMEOUT, self.door.accept()).await;
        let channel = came.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?;
        if !self.claim.take() {
            return Err(HandoverError::Refused);
        }
        let gift = async {
            send(&channel, &Message::Offer { version: VERSION }, None).await?;
            for PassedFd { label, descriptor } in given {
                send(&channel, &Message::Socket(label), Some(&descriptor)).await?;
            }
            send(&channel, &Message::All, None).await?;
            match recv(&channel).await? {
                (Message::Ready, _) => Ok(channel.peer()?),
                (other, _) => Err(HandoverError::UnexpectedMessage(format!("{other:?}"))),
            }
        };
        let ready = timeout(REPLY_TIMEOUT, gift).await;
        match ready.unwrap_or(Err(HandoverError::Timeout)) {
            Ok(id) => Ok(Successor { channel, id }),
            Err(error) => {
                // Without a word it would think that this process has ended.
                let _ = timeout(REPLY_TIMEOUT, send(&channel, &Message::No, None)).await;
                Err(error)
            }
        }
    }
}

// === impl HandoverClaim ===

impl HandoverClaim {
    /// Takes the claim; returns whether it was still free.
    pub fn take(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

// === impl Successor ===

impl Successor {
    /// Lets it serve, and waits until it does. An error says that it does not.
    pub async fn permit_serving(&self) -> Result<(), HandoverError> {
        let serving = async {
            send(&self.channel, &Message::Yes, None).await?;
            match recv(&self.channel).await? {
                (Message::Serving, _) => Ok(()),
                (other, _) => Err(HandoverError::UnexpectedMessage(format!("{other:?}"))),
            }
        };
        let serving = timeout(BEGINNING, serving).await;
        serving.unwrap_or(Err(HandoverError::Timeout))
    }

    /// Notifies the successor that it is alone; if the message is lost, the end of the connection shows it.
    pub async fn release(self) {
        let _ = timeout(REPLY_TIMEOUT, send(&self.channel, &Message::Done, None)).await;
    }

    /// Notifies the successor that this process continues to serve.
    pub async fn refuse(self) {
        let _ = timeout(REPLY_TIMEOUT, send(&self.channel, &Message::No, None)).await;
    }
}

// === impl Predecessor ===

impl Predecessor {
    /// Says that nothing can fail here any more, and waits for leave to serve. A process that ended without a no is not
    /// there to serve: then this one does.
    pub async fn ready(&self) -> Result<(), HandoverError> {
        let answered = async {
            send(&self.0, &Message::Ready, None).await?;
            match recv(&self.0).await? {
                (Message::Yes, _) => Ok(()),
                (Message::No, _) => Err(HandoverError::Refused),
                (other, _) => Err(HandoverError::UnexpectedMessage(format!("{other:?}"))),
            }
        };
        match timeout(REPLY_TIMEOUT, answered).await {
            Ok(Err(HandoverError::Io(_))) => Ok(()),
            Ok(answered) => answered,
            Err(_) => Err(HandoverError::Timeout),
        }
    }

    /// Says that this process serves, and waits until the other one has notified systemd.
    pub async fn serving(self) {
        let done = async {
            send(&self.0, &Message::Serving, None).await?;
            recv(&self.0).await
        };
        let _ = timeout(REPLY_TIMEOUT, done).await;
    }
}

/// Takes what the process behind the offer of this name gives.
pub async fn take_over(name: &str) -> Result<(Vec<PassedFd>, Predecessor), HandoverError> {
    let taken = async {
        let channel = Channel::to(name)?;
        match recv(&channel).await? {
            (Message::Offer { version: VERSION }, _) => {}
            (other, _) => return Err(HandoverError::UnexpectedMessage(format!("{other:?}"))),
        }
        let mut given = Vec::new();
        loop {
            match recv(&channel).await? {
                (Message::Socket(label), Some(descriptor)) if given.len() < MOST => {
                    given.push(PassedFd { label, descriptor });
                }
                (Message::All, _) => return Ok((given, Predecessor(channel))),
                (other, _) => return Err(HandoverError::UnexpectedMessage(format!("{other:?}"))),
            }
        }
    };
    timeout(REPLY_TIMEOUT, taken)
        .await
        .unwrap_or(Err(HandoverError::Timeout))
}

async fn send(
    channel: &Channel,
    message: &Message,
    descriptor: Option<&OwnedFd>,
) -> Result<(), HandoverError> {
    let words = serde_json::to_string(message).expect("strings and numbers");
    let descriptor = descriptor.map(AsFd::as_fd);
    Ok(channel.send(words.as_bytes(), descriptor).await?)
}

async fn recv(channel: &Channel) -> Result<(Message, Option<OwnedFd>), HandoverError> {
    let (words, descriptor) = channel.receive().await?;
    let strange = || HandoverError::UnexpectedMessage(String::from_utf8_lossy(&words).into_owned());
    let message = serde_json::from_slice(&words).map_err(|_| strange())?;
    Ok((message, descriptor))
}

/// To be raised when the messages change.
const VERSION: u32 = 1;
/// For all of it, on either side: what takes time was done before.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// For the certificates of thousands of hosts to be read: both serve if it takes longer.
const BEGINNING: Duration = Duration::from_secs(60);
/// The maximum number of descriptors, more than any configuration needs.
const MOST: usize = 1024;

#[cfg(test)]
mod tests;
