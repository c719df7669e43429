//! A Unix socket over which the running process gives what it listens with to the one that takes its place
//! (`SCM_RIGHTS`, unix(7)).
//!
//! The running one gives every socket, then says so. The new one, when nothing can fail any more, says that it is ready;
//! the running one answers that it lets go. Whatever happens before that answer, it goes on as if nobody had come.
//! Only the same user is spoken to, and each message is one packet: a few words and at most one descriptor.

mod channel;

use channel::{Channel, Door};
use rustix::process::{Pid, getpid};
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};
use tokio::time::timeout;

/// What a descriptor is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// As `lockgate status` calls a listener; "acme" for the lock of a folder with certificates.
    pub kind: String,
    /// As the configuration writes it.
    pub address: String,
}

/// A descriptor to be given.
#[derive(Debug)]
pub struct Given {
    /// What it is for.
    pub label: Label,
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
    #[error("the other process did not answer within {PATIENCE:?}")]
    Late,
    /// It is of another time.
    #[error("the other process says what this version of lockgate does not understand: {0}")]
    Strange(String),
}

/// An invitation to take over, under a name that only processes of this machine and network namespace can see.
#[derive(Debug)]
pub struct Offer(Door);

/// The process that is ready to take over.
#[derive(Debug)]
pub struct Successor {
    channel: Channel,
    /// Its process id.
    pub id: Pid,
}

/// The process that is ready to let go.
#[derive(Debug)]
pub struct Predecessor(Channel);

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
enum Message {
    /// The first word.
    Offer { version: u32 },
    /// With a descriptor.
    Socket(Label),
    /// That was everything.
    All,
    /// The new one can serve.
    Ready,
    /// The old one lets go.
    Yours,
}

// === impl Offer ===

impl Offer {
    /// Opens it. Called inside a runtime.
    pub fn open() -> io::Result<Offer> {
        Door::open().map(Offer)
    }

    /// What [`take_over`] wants.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Gives all of `given` to the process that comes, and waits until it can serve.
    pub async fn give(self, given: Vec<Given>) -> Result<Successor, HandoverError> {
        let gift = async {
            let channel = self.0.accept().await?;
            say(&channel, &Message::Offer { version: VERSION }, None).await?;
            for Given { label, descriptor } in given {
                say(&channel, &Message::Socket(label), Some(&descriptor)).await?;
            }
            say(&channel, &Message::All, None).await?;
            match hear(&channel).await? {
                (Message::Ready, _) => Ok(Successor {
                    id: channel.peer()?,
                    channel,
                }),
                (other, _) => Err(HandoverError::Strange(format!("{other:?}"))),
            }
        };
        timeout(PATIENCE, gift)
            .await
            .unwrap_or(Err(HandoverError::Late))
    }
}

// === impl Successor ===

impl Successor {
    /// Lets it serve. An error says that it has ended meanwhile.
    pub async fn let_go(self) -> Result<(), HandoverError> {
        let said = timeout(PATIENCE, say(&self.channel, &Message::Yours, None));
        said.await.unwrap_or(Err(HandoverError::Late))
    }
}

// === impl Predecessor ===

impl Predecessor {
    /// Says that nothing can fail here any more, and waits until the other one has let go.
    pub async fn confirm(self) -> Result<(), HandoverError> {
        let confirmed = async {
            say(&self.0, &Message::Ready, None).await?;
            match hear(&self.0).await? {
                (Message::Yours, _) => Ok(()),
                (other, _) => Err(HandoverError::Strange(format!("{other:?}"))),
            }
        };
        let confirmed = timeout(PATIENCE, confirmed).await;
        confirmed.unwrap_or(Err(HandoverError::Late))
    }
}

/// Takes what the process behind the offer of this name gives.
pub async fn take_over(name: &str) -> Result<(Vec<Given>, Predecessor), HandoverError> {
    let taken = async {
        let channel = Channel::to(name)?;
        match hear(&channel).await? {
            (Message::Offer { version: VERSION }, _) => {}
            (other, _) => return Err(HandoverError::Strange(format!("{other:?}"))),
        }
        let mut given = Vec::new();
        loop {
            match hear(&channel).await? {
                (Message::Socket(label), Some(descriptor)) if given.len() < MOST => {
                    given.push(Given { label, descriptor });
                }
                (Message::All, _) => return Ok((given, Predecessor(channel))),
                (other, _) => return Err(HandoverError::Strange(format!("{other:?}"))),
            }
        }
    };
    timeout(PATIENCE, taken)
        .await
        .unwrap_or(Err(HandoverError::Late))
}

/// This process.
pub fn own_id() -> Pid {
    getpid()
}

async fn say(
    channel: &Channel,
    message: &Message,
    descriptor: Option<&OwnedFd>,
) -> Result<(), HandoverError> {
    let words = serde_json::to_string(message).expect("strings and numbers");
    let descriptor = descriptor.map(AsFd::as_fd);
    Ok(channel.send(words.as_bytes(), descriptor).await?)
}

async fn hear(channel: &Channel) -> Result<(Message, Option<OwnedFd>), HandoverError> {
    let (words, descriptor) = channel.receive().await?;
    let strange = || HandoverError::Strange(String::from_utf8_lossy(&words).into_owned());
    let message = serde_json::from_slice(&words).map_err(|_| strange())?;
    Ok((message, descriptor))
}

/// To be raised when the messages change.
const VERSION: u32 = 1;
/// For all of it, on either side: what takes time was done before.
const PATIENCE: Duration = Duration::from_secs(10);
/// Descriptors: more than anybody listens with.
const MOST: usize = 1024;

#[cfg(test)]
mod tests;
