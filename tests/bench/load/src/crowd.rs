//! Many sessions: opened a few at a time.

use crate::{arguments::Arguments, session::Session, tls};
use std::{io, iter, sync::Arc};
use tokio::task::JoinSet;

/// Opened or closed at a time.
pub(crate) const FEW: usize = 64;

/// All of them, or the first error.
pub(crate) async fn open(arguments: &Arguments, path: &str) -> io::Result<Vec<Session>> {
    let tls = tls::client(&arguments.cert, false)?;
    let (arguments, path): (_, Arc<str>) = (Arc::new(arguments.clone()), path.into());
    let mut sessions = Vec::with_capacity(arguments.sessions);
    let mut opening = JoinSet::new();
    let mut left = iter::repeat_n((), arguments.sessions);
    loop {
        while opening.len() < FEW && left.next().is_some() {
            let (tls, arguments, path) = (tls.clone(), arguments.clone(), path.clone());
            opening.spawn(async move { Session::open(tls, &arguments, &path).await });
        }
        match opening.join_next().await {
            Some(session) => sessions.push(session.map_err(io::Error::other)??),
            None => return Ok(sessions),
        }
    }
}
