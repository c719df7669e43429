//! The bound sockets of the server: https, http, admin and metrics. A reload binds added ones before it changes
//! anything else.

use crate::{
    admin::listener::{self, AdminListener},
    config::{self, AdminAddress, ListenAddress, Located, Server},
    lifecycle::{
        command::ListenerStatus,
        handover::{FdLabel, PassedFd},
        inherited::Inherited,
        process,
        tasks::Tasks,
    },
    listener::{accept, connection::ConnectionHandler, limits::ConnectionPermit},
    net::{
        descriptors::{DescriptorBudget, admin_connections, reserved_descriptors},
        listen,
    },
    observe::metrics::Metrics,
    tls::acme::files::BadRoots,
};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// All bound sockets of the process.
#[derive(Debug)]
pub(crate) struct Listeners {
    /// The https and http listeners.
    bound: Vec<BoundListener>,
    admin: Option<Arc<AdminListener>>,
    metrics: Option<Arc<AdminListener>>,
    /// The status of the admin and metrics listeners, which stay open until shutdown is complete.
    admin_status: Vec<ListenerStatus>,
    /// The port to which the clear-text listeners redirect.
    https_port: Arc<AtomicU16>,
}

/// The kind of a listener, by the key of `[server]` that has its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListenerKind {
    Https,
    Http,
    Cleartext,
    Admin,
    Metrics,
}

/// The protocol of a listener that [`BoundListener`] accepts connections on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Https,
    Http,
    Cleartext,
}

/// A bound socket, identified by its protocol and configured address.
#[derive(Debug)]
pub(crate) struct BoundListener {
    protocol: Protocol,
    configured: SocketAddr,
    /// The address with the actual port.
    address: SocketAddr,
    socket: Arc<TcpListener>,
    started: bool,
    closed: CancellationToken,
}

/// The limits of connections and sessions: as configured, but within the file descriptor limit.
#[derive(Debug)]
pub(crate) struct Capacity {
    pub(crate) connections: usize,
    pub(crate) sessions: usize,
    /// The connections of each admin listener.
    pub(crate) admin_connections: usize,
    pub(crate) descriptors: Arc<DescriptorBudget>,
}

/// The reason why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error("cannot listen on {address} ({key}{}): {hint}", or_flag(.flag))]
    Bind {
        /// The configuration key of the address.
        key: &'static str,
        /// The command-line flag of the address, if there is one.
        flag: Option<&'static str>,
        /// The configured address.
        address: String,
        /// The likely cause or remedy.
        hint: &'static str,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// A socket of systemd is not configured: connections to it would never be accepted.
    #[error(
        "systemd listens on {0} for this service, but no key has this address: add it in this form to server.https, \
         server.http, server.cleartext, server.admin or server.metrics, or remove it from the .socket unit"
    )]
    Unclaimed(String),
    /// The trust roots for the ACME CA cannot be read.
    #[error("acme.ca_file")]
    Acme(#[from] BadRoots),
}

// === impl StartError ===

impl StartError {
    /// Returns whether another socket has the address.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(self, StartError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }

    /// Replaces the hint.
    pub(crate) fn with_hint(mut self, text: &'static str) -> Self {
        if let StartError::Bind { hint, .. } = &mut self {
            *hint = text;
        }
        self
    }
}

// === impl Listeners ===

impl Listeners {
    /// Binds every configured address that was not inherited, in the order https, http, admin, metrics. Returns the
    /// first error.
    pub(crate) fn bind(server: &Server, inherited: &mut Inherited) -> Result<Self, StartError> {
        let bound = BoundListener::bind_missing(server, &[], inherited)?;
        let admin = bind_admin(ListenerKind::Admin, &server.admin, inherited)?;
        let metrics = match &server.metrics {
            Some(address) => {
                let address = AdminAddress::Tcp(address.value);
                bind_admin(ListenerKind::Metrics, &address, inherited)?
            }
            None => None,
        };
        let mut admin_status = Vec::new();
        for (kind, bound) in [
            (ListenerKind::Admin, &admin),
            (ListenerKind::Metrics, &metrics),
        ] {
            admin_status.extend(bound.iter().map(|bound| ListenerStatus {
                kind: kind.as_str(),
                address: listener::address(bound),
            }));
        }
        Ok(Listeners {
            bound,
            admin,
            metrics,
            admin_status,
            https_port: Arc::default(),
        })
    }

    /// Binds the https and http addresses of `server` that are not bound yet. Returns the first error; then nothing has
    /// changed.
    pub(crate) fn bind_added(&self, server: &Server) -> Result<Vec<BoundListener>, StartError> {
        BoundListener::bind_missing(server, &self.bound, &mut Inherited::default())
    }

    /// Adds the `added` listeners, and closes those that `server` does not configure.
    pub(crate) fn replace(&mut self, added: Vec<BoundListener>, server: &Server) {
        self.bound.extend(added);
        self.bound.retain(|listener| {
            let stays = listener.is_configured(server);
            if !stays {
                info!(address = %listener.address, "listener closed");
                listener.close();
            }
            stays
        });
    }

    /// Starts every https and http listener that is not started yet.
    pub(crate) fn start(
        &mut self,
        handler: &Arc<ConnectionHandler>,
        metrics: &Arc<Metrics>,
        tasks: &Tasks,
    ) {
        let mut bound = self.bound.iter();
        let https = bound.find(|it| it.protocol == Protocol::Https);
        let port = https.map_or(443, |it| it.address.port());
        self.https_port.store(port, Ordering::Relaxed);
        for listener in &mut self.bound {
            listener.start(handler, metrics, tasks, &self.https_port);
        }
    }

    /// Stops accepting on all https and http listeners.
    pub(crate) fn close(&mut self) {
        self.bound.clear();
    }

    /// Returns the admin listener, if there is one.
    pub(crate) fn admin(&self) -> Option<&Arc<AdminListener>> {
        self.admin.as_ref()
    }

    /// Returns the metrics listener, if there is one.
    pub(crate) fn metrics(&self) -> Option<&Arc<AdminListener>> {
        self.metrics.as_ref()
    }

    /// Makes this process the owner of the inherited admin and metrics sockets.
    pub(crate) fn own_admin(&self) {
        for bound in [&self.admin, &self.metrics].into_iter().flatten() {
            bound.own();
        }
    }

    /// Gives up the ownership of the admin and metrics sockets, and closes them.
    pub(crate) fn disown_admin(&mut self) {
        for bound in [self.admin.take(), self.metrics.take()]
            .into_iter()
            .flatten()
        {
            bound.disown();
        }
    }

    /// Returns the status of all listeners, with their actual ports.
    pub(crate) fn status(&self) -> Vec<ListenerStatus> {
        let listeners = self.bound.iter().map(BoundListener::status);
        listeners.chain(self.admin_status.iter().cloned()).collect()
    }

    /// Returns kind and address of all listeners in one line.
    pub(crate) fn summary(&self) -> String {
        let listeners = self.status();
        let entries = listeners
            .iter()
            .map(|it| format!("{} {}", it.kind, it.address));
        entries.collect::<Vec<_>>().join(", ")
    }

    /// Returns duplicates of all sockets for another process. `server`: the configuration at startup, by whose
    /// addresses the other process finds the admin and metrics sockets.
    pub(crate) fn inheritable_fds(&self, server: &Server) -> io::Result<Vec<PassedFd>> {
        let passed =
            |kind: ListenerKind, address: String, socket: BorrowedFd<'_>| -> io::Result<PassedFd> {
                let kind = kind.as_str().to_owned();
                let descriptor = socket.try_clone_to_owned()?;
                Ok(PassedFd {
                    label: FdLabel { kind, address },
                    descriptor,
                })
            };
        let mut descriptors = Vec::new();
        for listener in &self.bound {
            let address = listener.configured.to_string();
            descriptors.push(passed(
                listener.protocol.listener_kind(),
                address,
                listener.socket.as_fd(),
            )?);
        }
        let metrics_address = server.metrics.as_ref().map(|it| it.value.to_string());
        for (kind, bound, address) in [
            (
                ListenerKind::Admin,
                &self.admin,
                Some(listener::describe(&server.admin)),
            ),
            (ListenerKind::Metrics, &self.metrics, metrics_address),
        ] {
            if let (Some(bound), Some(address)) = (bound, address) {
                descriptors.push(passed(kind, address, bound.as_fd())?);
            }
        }
        Ok(descriptors)
    }
}

// === impl BoundListener ===

impl BoundListener {
    /// Binds every configured address that is neither in `existing` nor inherited. Returns the first error; then
    /// nothing has changed.
    fn bind_missing(
        server: &Server,
        existing: &[BoundListener],
        inherited: &mut Inherited,
    ) -> Result<Vec<BoundListener>, StartError> {
        let addresses = addresses(server);
        let missing = addresses
            .filter(|(protocol, address)| !existing.iter().any(|it| it.is(*protocol, address)));
        let bound = missing.map(|(protocol, address)| {
            let socket = bind_one(protocol.listener_kind(), address, inherited)?;
            let configured = address.value.0;
            Ok(BoundListener {
                protocol,
                configured,
                address: socket.local_addr().unwrap_or(configured),
                socket: Arc::new(socket),
                started: false,
                closed: CancellationToken::new(),
            })
        });
        bound.collect()
    }

    /// Returns whether `server` has its address.
    fn is_configured(&self, server: &Server) -> bool {
        addresses(server).any(|(protocol, address)| self.is(protocol, address))
    }

    /// Starts the accept loop, which runs until [`BoundListener::close`] or shutdown. Does nothing if it is already
    /// started.
    fn start(
        &mut self,
        handler: &Arc<ConnectionHandler>,
        metrics: &Arc<Metrics>,
        tasks: &Tasks,
        https_port: &Arc<AtomicU16>,
    ) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        match self.protocol {
            Protocol::Https => {
                self.spawn_accept(handler, metrics, tasks, ConnectionHandler::serve_tls);
            }
            Protocol::Cleartext => {
                self.spawn_accept(handler, metrics, tasks, ConnectionHandler::serve_cleartext);
            }
            Protocol::Http => {
                let https_port = https_port.clone();
                let serve = move |handler: Arc<ConnectionHandler>, tcp, from, permit| {
                    handler.serve_plain(tcp, from, permit, https_port.load(Ordering::Relaxed))
                };
                self.spawn_accept(handler, metrics, tasks, serve);
            }
        }
    }

    /// Accepts connections in a task; `serve` serves one.
    fn spawn_accept<F>(
        &self,
        handler: &Arc<ConnectionHandler>,
        metrics: &Arc<Metrics>,
        tasks: &Tasks,
        serve: impl Fn(Arc<ConnectionHandler>, TcpStream, SocketAddr, ConnectionPermit) -> F
        + Send
        + Sync
        + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (socket, handler, serve) = (self.socket.clone(), handler.clone(), Arc::new(serve));
        let (metrics, closed) = (metrics.clone(), self.closed.clone());
        let spawned = tasks.clone();
        tasks.spawn_loop("accept", tasks.stop_token(), move || {
            let (connections, serve) = (handler.clone(), serve.clone());
            accept::accept(
                socket.clone(),
                handler.limiter.clone(),
                metrics.clone(),
                spawned.clone(),
                closed.clone(),
                move |tcp, from, permit| serve(connections.clone(), tcp, from, permit),
            )
        });
    }

    /// Stops accepting; accepted connections continue.
    fn close(&self) {
        self.closed.cancel();
    }

    fn status(&self) -> ListenerStatus {
        ListenerStatus {
            kind: self.protocol.listener_kind().as_str(),
            address: self.address.to_string(),
        }
    }

    fn is(&self, protocol: Protocol, address: &Located<ListenAddress>) -> bool {
        self.protocol == protocol && self.configured == address.value.0
    }
}

// === impl ListenerKind ===

impl ListenerKind {
    /// Returns the word for status and handover messages.
    fn as_str(self) -> &'static str {
        match self {
            ListenerKind::Https => "https",
            ListenerKind::Http => "http",
            ListenerKind::Cleartext => "cleartext",
            ListenerKind::Admin => "admin",
            ListenerKind::Metrics => "metrics",
        }
    }

    /// Returns the configuration key of the address.
    fn config_key(self) -> &'static str {
        match self {
            ListenerKind::Https => "server.https",
            ListenerKind::Http => "server.http",
            ListenerKind::Cleartext => "server.cleartext",
            ListenerKind::Admin => "server.admin",
            ListenerKind::Metrics => "server.metrics",
        }
    }

    /// Returns the command-line flag of the address, if there is one.
    fn flag(self) -> Option<&'static str> {
        match self {
            ListenerKind::Https => Some("--listen"),
            ListenerKind::Admin => Some("--admin"),
            ListenerKind::Http | ListenerKind::Cleartext | ListenerKind::Metrics => None,
        }
    }
}

// === impl Protocol ===

impl Protocol {
    fn listener_kind(self) -> ListenerKind {
        match self {
            Protocol::Https => ListenerKind::Https,
            Protocol::Http => ListenerKind::Http,
            Protocol::Cleartext => ListenerKind::Cleartext,
        }
    }
}

// === impl Capacity ===

impl Capacity {
    /// Raises the descriptor limit and computes the capacity. A session needs two descriptors, one for each leg.
    pub(crate) fn from_descriptors(limits: &config::Limits) -> Self {
        let descriptors = process::raise_nofile_limit();
        let budget = descriptors.saturating_sub(reserved_descriptors(descriptors));
        let available = (budget / 2).clamp(1, MAX_PERMITS);
        let clamp = |key: &'static str, configured: u32| match configured as usize {
            0 => available,
            configured if configured <= available => configured,
            configured => {
                warn!(
                    key,
                    configured,
                    available,
                    descriptors,
                    "limit exceeds the file descriptors; raise LimitNOFILE (systemd) or ulimit -n"
                );
                available
            }
        };
        Capacity {
            connections: clamp("limits.connections", limits.connections),
            sessions: clamp("limits.sessions", limits.sessions),
            admin_connections: admin_connections(descriptors),
            descriptors: DescriptorBudget::new(budget.max(2) as u64),
        }
    }
}

fn addresses(server: &Server) -> impl Iterator<Item = (Protocol, &Located<ListenAddress>)> {
    let https = server
        .https
        .iter()
        .map(|address| (Protocol::Https, address));
    let http = server.http.iter().map(|address| (Protocol::Http, address));
    let cleartext = server.cleartext.iter();
    let cleartext = cleartext.map(|address| (Protocol::Cleartext, address));
    https.chain(http).chain(cleartext)
}

/// Returns the inherited listener for an address of `server.KIND`, or binds the address.
fn bind_one(
    kind: ListenerKind,
    address: &Located<ListenAddress>,
    inherited: &mut Inherited,
) -> Result<TcpListener, StartError> {
    let configured = address.value.0.to_string();
    let bound = match inherited.take_tcp(kind.as_str(), &configured) {
        Some(listener) => listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener)),
        None => listen::bind(address.value.0),
    };
    bound.map_err(|source| bind_error(kind, configured, source, inherited.is_takeover()))
}

/// Returns the inherited listener for `server.admin` or `server.metrics`, or binds the address; `None` for "off".
fn bind_admin(
    kind: ListenerKind,
    address: &AdminAddress,
    inherited: &mut Inherited,
) -> Result<Option<Arc<AdminListener>>, StartError> {
    let configured = listener::describe(address);
    let bound = match inherited.take(kind.as_str(), &configured) {
        Some(descriptor) => listener::inherit(descriptor, address).map(Some),
        None => listener::bind(address),
    };
    let bound =
        bound.map_err(|source| bind_error(kind, configured, source, inherited.is_takeover()))?;
    Ok(bound.map(Arc::new))
}

/// Returns the flag as an alternative to the key before it.
fn or_flag(flag: &Option<&str>) -> String {
    flag.map_or_else(String::new, |flag| format!(", or {flag}"))
}

/// Creates the error of an address, with the likely cause.
fn bind_error(
    kind: ListenerKind,
    address: String,
    source: io::Error,
    takeover: bool,
) -> StartError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse if takeover => {
            "if the running lockgate listens there, configure the address under the same key and in the same form as it \
             does; otherwise `ss -ltnp` shows which program listens"
        }
        io::ErrorKind::AddrInUse => "another program listens there; `ss -ltnp` shows which",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 require root or the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        _ => "the operating system reports an error",
    };
    StartError::Bind {
        key: kind.config_key(),
        flag: kind.flag(),
        address,
        hint,
        source,
    }
}

/// The maximum number of permits of one kind, below the limit of tokio's semaphore.
const MAX_PERMITS: usize = 1 << 28;
