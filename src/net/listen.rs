//! Listening sockets.

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};
use tokio::net::TcpListener;

/// Binds `address` and listens. `[::]` accepts IPv4, too; if IPv6 is disabled, `0.0.0.0` is bound instead.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match listen(address) {
        Err(error) if is_without_ipv6(address, &error) => {
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        bound => bound,
    }
}

/// Returns whether `address` is `[::]`, and the error is that of a machine where IPv6 is off.
pub(crate) fn is_without_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let is_off = |off: Errno| error.raw_os_error() == Some(off.raw_os_error());
    is_any_v6(address) && IPV6_OFF.into_iter().any(is_off)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if is_any_v6(address) {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for earlier connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn is_any_v6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// The errors of the unspecified address where IPv6 is off: by a boot option or a filter, and by sysctl.
const IPV6_OFF: [Errno; 2] = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL];

/// Connections that the kernel completes before they are accepted; it limits the number to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn unspecified_ipv6_address_accepts_ipv4() {
        let listener = bind("[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(("127.0.0.1", port)), listener.accept());
        assert_eq!(
            client.unwrap().local_addr().unwrap().port(),
            accepted.unwrap().1.port()
        );
    }

    #[tokio::test]
    async fn bound_port_is_an_error() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
