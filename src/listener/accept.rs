//! The accept loop. It ends only when the process stops accepting.

use crate::{
    lifecycle::tasks::Tasks,
    listener::limits::{ConnectionLimiter, ConnectionPermit, Exhausted},
    net::descriptors::is_exhaustion,
    observe::{log_throttle::LogThrottle, metrics::Metrics},
};
use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use std::{fs::File, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Accepts until shutdown, or until `closed` is cancelled, and runs `serve` for every connection in a separate task.
///
/// Without a free permit a connection is accepted and closed at once, so that the client notices. When no descriptor is
/// left, a spare one is released for that time: without it, `accept` would fail immediately and repeatedly, and leave
/// the client waiting in the backlog.
pub(crate) async fn accept<F>(
    listener: Arc<TcpListener>,
    limiter: Arc<ConnectionLimiter>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    closed: CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr, ConnectionPermit) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    set_socket_options(&listener);
    let mut spare = File::open("/dev/null").ok();
    let (full, exhausted) = (LogThrottle::new(), LogThrottle::new());
    let failed = LogThrottle::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.stopping() => return,
            () = closed.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match limiter.try_acquire() {
                Ok(permit) => tasks.spawn(serve(stream, peer, permit)),
                Err(exhausted) => {
                    metrics.count_connection_failure(exhausted.as_str());
                    if let Some(suppressed) = full.allow() {
                        warn!(
                            suppressed,
                            "connection limit reached; closing new connections (limits.connections, or LimitNOFILE)"
                        );
                    }
                }
            },
            Err(error) if is_exhaustion(&error) => {
                if let Some(suppressed) = exhausted.allow() {
                    warn!(
                        suppressed,
                        %error,
                        "no resources for another connection; closing new connections: if descriptors are exhausted, raise \
                         LimitNOFILE (systemd) or ulimit -n"
                    );
                }
                metrics.count_connection_failure(Exhausted::Descriptors.as_str());
                drop(spare.take());
                let refused = timeout(ACCEPT_BACKOFF, listener.accept()).await;
                drop(refused);
                spare = File::open("/dev/null").ok();
                if spare.is_none() {
                    // Another task took it: wait for a descriptor instead of retrying in a tight loop.
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
            Err(error) if is_peer_error(&error) => {}
            Err(error) => {
                if let Some(suppressed) = failed.allow() {
                    error!(suppressed, %error, "accept failed; retrying");
                }
                sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Sets TCP_NODELAY, because small frames must not be delayed, and keepalive, which detects a vanished peer. On Linux
/// accepted sockets inherit these options from the listening one, so they are set once.
fn set_socket_options(listener: &TcpListener) {
    let socket = SockRef::from(listener);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

/// Returns whether only this connection failed, for example because the client gave up before it was accepted: Linux
/// passes on the errors of its network and of its firewall (accept(2)).
fn is_peer_error(error: &io::Error) -> bool {
    use std::io::ErrorKind::*;
    let of_connection = [
        Errno::PERM,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
        Errno::HOSTDOWN,
        Errno::NONET,
    ];
    let is_kind = matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | ConnectionRefused
            | NetworkDown
            | NetworkUnreachable
            | HostUnreachable
            | TimedOut
            | Interrupted
    );
    is_kind
        || of_connection
            .iter()
            .any(|it| error.raw_os_error() == Some(it.raw_os_error()))
}

/// Long enough to cost no CPU, short enough to go unnoticed.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// The idle time before the kernel probes; sessions send Pings much earlier.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The interval between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_sockets_inherit_options_of_the_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        set_socket_options(&listener);
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, (stream, _)) = (client.unwrap(), accepted.unwrap());
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
    }
}
