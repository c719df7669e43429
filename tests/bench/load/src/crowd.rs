//! Many sessions: opened a few at a time.

use crate::{arguments::Arguments, http2, session::Session, tls, wire::Way};
use std::{io, iter, sync::Arc};
use tokio::task::JoinSet;

/// Opened or closed at a time.
pub(crate) const FEW: usize = 64;

/// All of them, or the first error.
pub(crate) async fn open(arguments: &Arguments, path: &str) -> io::Result<Vec<Session>> {
    let ways = ways(arguments).await?;
    let (arguments, path): (_, Arc<str>) = (Arc::new(arguments.clone()), path.into());
    let opening = ways.into_iter().map(|way| {
        let (arguments, path) = (arguments.clone(), path.clone());
        async move { Session::open(&way, &arguments, &path).await }
    });
    few_at_a_time(opening).await
}

/// One for each session. Over HTTP/2 the connections are already open; with tickets each has its own.
pub(crate) async fn ways(arguments: &Arguments) -> io::Result<Vec<Way>> {
    let (sessions, streams) = (arguments.sessions, arguments.streams);
    if streams > 0 {
        let tls = tls::client(&arguments.cert, false, b"h2")?;
        let connections = (0..sessions.div_ceil(streams)).map(|_| {
            let (tls, arguments) = (tls.clone(), arguments.clone());
            async move { http2::Connection::open(tls, &arguments).await }
        });
        let connections = few_at_a_time(connections).await?.into_iter();
        let ways = connections.flat_map(|it| iter::repeat_n(Way::Stream(it), streams));
        return Ok(ways.take(sessions).collect());
    }
    let fresh = || tls::client(&arguments.cert, arguments.resume, b"http/1.1").map(Way::Fresh);
    match arguments.resume {
        true => iter::repeat_with(fresh).take(sessions).collect(),
        false => Ok(vec![fresh()?; sessions]),
    }
}

async fn few_at_a_time<T, F>(mut futures: impl Iterator<Item = F>) -> io::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut done = Vec::new();
    let mut running = JoinSet::new();
    loop {
        while running.len() < FEW
            && let Some(next) = futures.next()
        {
            running.spawn(next);
        }
        match running.join_next().await {
            Some(one) => done.push(one.map_err(io::Error::other)??),
            None => return Ok(done),
        }
    }
}
