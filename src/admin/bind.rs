//! Where the admin listener listens: a TCP address, or a Unix socket that only its owner can open.

use crate::config::AdminAddress;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs, io, net,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            self,
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
        },
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::net::{TcpListener, UnixListener};

/// A bound listener.
#[derive(Debug)]
pub enum AdminListener {
    /// On a TCP address.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener, SocketFile),
}

/// A Unix socket's file: removed on drop, unless another one stands in its place by then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// It is another process's to remove.
    left: AtomicBool,
}

/// Binds `address`; `None` for "off". Called inside a runtime. A socket file on which nobody answers is replaced.
pub fn bind(address: &AdminAddress) -> io::Result<Option<AdminListener>> {
    match address {
        AdminAddress::Off => Ok(None),
        AdminAddress::Tcp(address) => {
            let listener = net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Some(AdminListener::Tcp(TcpListener::from_std(listener)?)))
        }
        AdminAddress::Unix(path) => {
            let (listener, file) = bind_unix(path)?;
            Ok(Some(AdminListener::Unix(
                UnixListener::from_std(listener)?,
                file,
            )))
        }
    }
}

/// A listener on `address` that another process has opened, whose file stays when this is dropped ([`Bound::keep`]).
/// Called inside a runtime.
pub fn inherit(descriptor: OwnedFd, address: &AdminAddress) -> io::Result<AdminListener> {
    match address {
        AdminAddress::Unix(path) => {
            let listener = unix::net::UnixListener::from(descriptor);
            listener.set_nonblocking(true)?;
            if fs::metadata(path)?.mode() & 0o077 != 0 {
                return Err(io::Error::other(
                    "others than its owner may open it: write SocketMode=0600 into the .socket unit",
                ));
            }
            let file = SocketFile::new(path, true)?;
            Ok(AdminListener::Unix(UnixListener::from_std(listener)?, file))
        }
        AdminAddress::Tcp(_) | AdminAddress::Off => {
            let listener = net::TcpListener::from(descriptor);
            listener.set_nonblocking(true)?;
            Ok(AdminListener::Tcp(TcpListener::from_std(listener)?))
        }
    }
}

/// Where it listens, with the real port, as `--admin` takes it.
pub fn address(bound: &AdminListener) -> String {
    match bound {
        AdminListener::Tcp(listener) => listener
            .local_addr()
            .map_or_else(|error| error.to_string(), |address| address.to_string()),
        AdminListener::Unix(_, file) => format!("unix:{}", file.path.display()),
    }
}

/// An address as it was written.
pub fn describe(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Off => "off".to_owned(),
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

// === impl AdminListener ===

impl AdminListener {
    /// Another process listens here from now on: nothing is removed when this is dropped.
    pub fn disown(&self) {
        self.set_left(true);
    }

    /// No other process listens here any more: this one removes what is to be removed.
    pub fn own(&self) {
        self.set_left(false);
    }

    fn set_left(&self, left: bool) {
        if let AdminListener::Unix(_, file) = self {
            file.left.store(left, Ordering::Relaxed);
        }
    }
}

impl AsFd for AdminListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            AdminListener::Tcp(listener) => listener.as_fd(),
            AdminListener::Unix(listener, _) => listener.as_fd(),
        }
    }
}

// === impl SocketFile ===

impl SocketFile {
    fn new(path: &Path, left: bool) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_owned(),
            identity: identity(path)?,
            left: AtomicBool::new(left),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = !self.left.load(Ordering::Relaxed);
        if ours && identity(&self.path).is_ok_and(|now| now == self.identity) {
            // It may stay: the next start finds that nobody answers on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<(unix::net::UnixListener, SocketFile)> {
    let address = SockAddr::unix(path)?;
    clear(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&address).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "its folder does not exist"),
        _ => error,
    })?;
    let file = SocketFile::new(path, false)?;
    // Before `listen` nobody can connect, so there is no moment in which others could.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((OwnedFd::from(socket).into(), file))
}

/// Removes what an earlier process left at `path`; fails if someone still answers, or if it is no socket.
fn clear(path: &Path, address: &SockAddr) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file that is not a socket is there; it is left alone",
            ));
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Without this, a process that hangs with a full backlog would hang us too.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process answers on it",
        )),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// What may wait while as many as are served at once are being served.
const BACKLOG: i32 = 128;
