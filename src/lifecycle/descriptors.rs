//! The file descriptor limit, which bounds the number of connections.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::warn;

/// Raises the soft limit to the hard one; returns the resulting soft limit.
pub fn raise_nofile_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot raise the soft limit on file descriptors to the hard one");
    }
    let current = getrlimit(Resource::Nofile).current;
    current
        .and_then(|current| usize::try_from(current).ok())
        .unwrap_or(usize::MAX)
}
