//! Where keys and certificates are kept between two runs: a folder today, perhaps a shared store tomorrow.

mod folder;
mod kept;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

pub(super) use folder::DirStore;
pub(super) use kept::WriteBehindStore;

/// Files by name. A name is of our making: a host and a suffix, never a path.
pub(super) trait Store: fmt::Debug + Send + Sync {
    /// What was saved last, whole; `None` if there is nothing.
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Replaces what was there. After a crash at any point the old or the new content is found, never another.
    fn save(&self, name: &str, content: &[u8]) -> io::Result<()>;

    /// Moves what cannot be used out of the way and keeps it; says where to.
    fn quarantine(&self, name: &str) -> io::Result<String>;

    /// The right to write, until it is dropped or the process ends; `None` while another process has it.
    fn lock(&self) -> io::Result<Option<Lock>>;

    /// In words, for messages.
    fn location(&self) -> String;
}

/// Whoever has it open may write: it can be given to the process that takes over.
pub(super) type Lock = OwnedFd;
