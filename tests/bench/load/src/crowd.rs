//! Opens many sessions, a limited number at a time.

use crate::{arguments::Arguments, http2, session::Session, tls, wire::Way};
use std::{io, iter, sync::Arc};
use tokio::task::JoinSet;

/// The number of sessions that are opened or closed at a time.
pub(crate) const MAX_CONCURRENT: usize = 64;

/// Opens all sessions, or returns the first error.
pub(crate) async fn open(arguments: &Arguments, path: &str) -> io::Result<Vec<Session>> {
    let ways = ways(arguments).await?;
    let (arguments, path): (_, Arc<str>) = (Arc::new(arguments.clone()), path.into());
    let opening = ways.into_iter().map(|way| {
        let (arguments, path) = (arguments.clone(), path.clone());
        async move { Session::open(&way, &arguments, &path).await }
    });
    run_limited(opening).await
}

/// Returns one `Way` for each session. Over HTTP/2 the connections are already open; with tickets each session has its
/// own.
pub(crate) async fn ways(arguments: &Arguments) -> io::Result<Vec<Way>> {
    let (sessions, streams) = (arguments.sessions, arguments.streams);
    if streams > 0 {
        let tls = tls::client(&arguments.cert, false, b"h2")?;
        let connections = (0..sessions.div_ceil(streams)).map(|_| {
            let (tls, arguments) = (tls.clone(), arguments.clone());
            async move { http2::Connection::open(tls, &arguments).await }
        });
        let connections = run_limited(connections).await?.into_iter();
        let ways = connections.flat_map(|it| iter::repeat_n(Way::Stream(it), streams));
        return Ok(ways.take(sessions).collect());
    }
    let fresh = || tls::client(&arguments.cert, arguments.resume, b"http/1.1").map(Way::Fresh);
    match arguments.resume {
        true => iter::repeat_with(fresh).take(sessions).collect(),
        false => Ok(vec![fresh()?; sessions]),
    }
}

async fn run_limited<T, F>(mut futures: impl Iterator<Item = F>) -> io::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut done = Vec::new();
    let mut running = JoinSet::new();
    loop {
        while running.len() < MAX_CONCURRENT
            && let Some(next) = futures.next()
        {
            running.spawn(next);
        }
        match running.join_next().await {
            Some(result) => done.push(result.map_err(io::Error::other)??),
            None => return Ok(done),
        }
    }
}
