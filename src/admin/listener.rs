//! Binds the admin listener: a TCP address, or a Unix socket that only its owner can open.

use crate::{
    admin::auth::HostCheck,
    config::AdminAddress,
    fs::{NotPrivate, WRITABLE_BY_OTHERS, check_private},
    net::listen,
};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    fs, io,
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
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};
use tracing::warn;

/// A bound socket of the admin API or of the metrics.
#[derive(Debug)]
pub(crate) enum AdminListener {
    /// On a TCP address.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket; removed on drop, unless it is disowned or another file has replaced it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
    /// Set if another process is responsible for the file.
    disowned: AtomicBool,
}

/// A TCP or Unix stream.
pub(crate) trait AdminStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> AdminStream for S {}

/// Binds `address`; `None` for "off". Called inside a runtime. A socket file without a listening process is replaced.
pub(crate) fn bind(address: &AdminAddress) -> io::Result<Option<AdminListener>> {
    match address {
        AdminAddress::Off => Ok(None),
        AdminAddress::Tcp(address) => Ok(Some(AdminListener::Tcp(listen::bind(*address)?))),
        AdminAddress::Unix(path) => {
            let (listener, file) = bind_unix(path)?;
            Ok(Some(AdminListener::Unix(
                UnixListener::from_std(listener)?,
                file,
            )))
        }
    }
}

/// Wraps a listener on `address` that another process has opened; its file stays on drop, unless [`AdminListener::own`]
/// is called. Called inside a runtime.
pub(crate) fn inherit(descriptor: OwnedFd, address: &AdminAddress) -> io::Result<AdminListener> {
    match address {
        AdminAddress::Unix(path) => {
            let listener = unix::net::UnixListener::from(descriptor);
            listener.set_nonblocking(true)?;
            if fs::metadata(path)?.mode() & 0o077 != 0 {
                return Err(io::Error::other(
                    "users other than its owner can open it: set SocketMode=0600 in the .socket unit",
                ));
            }
            let file = SocketFile::new(path, true)?;
            Ok(AdminListener::Unix(UnixListener::from_std(listener)?, file))
        }
        AdminAddress::Tcp(_) | AdminAddress::Off => {
            let listener = std::net::TcpListener::from(descriptor);
            listener.set_nonblocking(true)?;
            Ok(AdminListener::Tcp(TcpListener::from_std(listener)?))
        }
    }
}

/// Returns the bound address with the real port, in the syntax of `--admin`.
pub(crate) fn address(bound: &AdminListener) -> String {
    match bound {
        AdminListener::Tcp(listener) => listener
            .local_addr()
            .map_or_else(|error| error.to_string(), |address| address.to_string()),
        AdminListener::Unix(_, file) => format!("unix:{}", file.path.display()),
    }
}

/// Returns a configured address as text.
pub(crate) fn describe(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Off => "off".to_owned(),
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

// === impl AdminListener ===

impl AdminListener {
    /// Accepts the next connection, and returns which Host header values its requests may have.
    pub(crate) async fn accept(&self) -> io::Result<(Box<dyn AdminStream>, HostCheck)> {
        match self {
            AdminListener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                let local = stream.local_addr()?.ip().to_canonical();
                Ok((Box::new(stream), HostCheck::Here(local)))
            }
            AdminListener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), HostCheck::Any))
            }
        }
    }

    /// Hands the socket file over to another process: it is not removed on drop.
    pub(crate) fn disown(&self) {
        self.set_disowned(true);
    }

    /// Takes the socket file back: it is removed on drop.
    pub(crate) fn own(&self) {
        self.set_disowned(false);
    }

    fn set_disowned(&self, disowned: bool) {
        if let AdminListener::Unix(_, file) = self {
            file.disowned.store(disowned, Ordering::Relaxed);
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
    fn new(path: &Path, disowned: bool) -> io::Result<SocketFile> {
        Ok(SocketFile {
            path: path.to_owned(),
            identity: identity(path)?,
            disowned: AtomicBool::new(disowned),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_owned = !self.disowned.load(Ordering::Relaxed);
        if is_owned && identity(&self.path).is_ok_and(|now| now == self.identity) {
            // If this fails, the next start replaces the file, because no process is listening on it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<(unix::net::UnixListener, SocketFile)> {
    let address = SockAddr::unix(path)?;
    remove_stale(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&address).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "its directory does not exist"),
        _ => error,
    })?;
    let file = SocketFile::new(path, false)?;
    // Set before `listen`, so that other users cannot connect at any time.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    warn_about_folder(path);
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((OwnedFd::from(socket).into(), file))
}

/// Logs a warning if other users can replace the socket: then `lockgate status` could send the admin token to them.
fn warn_about_folder(path: &Path) {
    let Some(folder) = path.parent().filter(|folder| folder.is_absolute()) else {
        return;
    };
    let Ok(metadata) = fs::metadata(folder) else {
        return;
    };
    // With the sticky bit, as in /tmp, only the owner of a file can replace it.
    let is_sticky = metadata.mode() & 0o1000 != 0;
    if let Err(why) = check_private(&metadata, WRITABLE_BY_OTHERS)
        && !(is_sticky && matches!(why, NotPrivate::Writable(_)))
    {
        warn!(
            folder = %folder.display(), reason = %why,
            "another user can replace the admin socket; use a folder of the user that runs lockgate (server.admin)"
        );
    }
}

/// Removes the socket that an earlier process left at `path`; fails if a process still answers, or if it is no socket.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the path exists and is not a socket; remove that file or choose another path",
            ));
        }
        Ok(_) => {}
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Without this, a hung process with a full backlog would block this one too.
    probe.set_nonblocking(true)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process is listening on it",
        )),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// The listen backlog: connections that wait while the maximum number is being served.
const BACKLOG: i32 = 128;
