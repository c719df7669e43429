//! The composition root: bind, run, stop.

mod bind;
mod ceilings;

use crate::{
    admin::{self, Admin, Surface},
    config::{self, Config},
    gateway::{Gateway, Live},
    http::Context,
    lifecycle::{CertificateStatus, Command, ListenerStatus, State, Status, Tasks, systemd},
    listener::{self, Admission, Doorway, Permit},
    observe::{AccessLog, Metrics, Sessions},
    tls::Acme,
};
pub use bind::StartError;
use bind::{bind_all, failed};
use ceilings::Ceilings;
use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::info;

/// Everything bound, nothing accepted yet.
#[derive(Debug)]
pub struct Server {
    context: Arc<Context>,
    doorway: Arc<Doorway>,
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
    acme: Option<Acme>,
    admin: Option<admin::Bound>,
    scrape: Option<admin::Bound>,
    ceilings: Ceilings,
    listeners: Vec<ListenerStatus>,
    /// How long sessions may take to end at the stop.
    patience: Duration,
    started: Instant,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Whether every session ended by itself; otherwise the rest was cut.
    pub clean: bool,
}

// === impl Server ===

impl Server {
    /// Binds every address of the config, in the order https, http, admin, metrics; the first that fails ends it.
    /// Called inside a runtime.
    pub fn bind(
        config: &Config,
        gateway: Gateway,
        access: AccessLog,
    ) -> Result<Server, StartError> {
        let https = bind_all("server.https", &config.server.https)?;
        let http = bind_all("server.http", &config.server.http)?;
        let admin = admin::bind(&config.server.admin).map_err(|source| {
            failed(
                "server.admin",
                admin::describe(&config.server.admin),
                source,
            )
        })?;
        let scrape = match &config.server.metrics {
            Some(address) => {
                let wanted = config::AdminAddress::Tcp(address.value);
                admin::bind(&wanted)
                    .map_err(|source| failed("server.metrics", address.value.to_string(), source))?
            }
            None => None,
        };
        let ceilings = Ceilings::from_descriptors(&config.limits);
        let mut listeners = Vec::new();
        for (kind, bound) in [("https", &https), ("http", &http)] {
            for listener in bound {
                let address = listener
                    .local_addr()
                    .map_or_else(|error| error.to_string(), |address| address.to_string());
                listeners.push(ListenerStatus { kind, address });
            }
        }
        for (kind, bound) in [("admin", &admin), ("metrics", &scrape)] {
            listeners.extend(bound.iter().map(|bound| ListenerStatus {
                kind,
                address: admin::address(bound),
            }));
        }
        let metrics = Arc::new(Metrics::new());
        let tasks = Tasks::default();
        let patience = config.session.close_timeout.0 + FAREWELL;
        let sessions = Arc::new(Sessions::default());
        let acme = match &config.acme {
            Some(section) => {
                let shelf = gateway.tls.shelf.clone();
                let acme = Acme::open(section, shelf, metrics.clone(), tasks.clone())?;
                acme.apply(gateway.certificates.issued());
                Some(acme)
            }
            None => None,
        };
        let context = Context::new(
            Live::new(gateway),
            ceilings.sessions,
            metrics.clone(),
            access,
            sessions,
            tasks.clone(),
        );
        let context = Arc::new(context);
        let admission = Arc::new(Admission::new(
            ceilings.connections,
            &config.limits,
            metrics,
        ));
        let doorway = Arc::new(Doorway {
            http: context.clone(),
            admission,
        });
        let started = Instant::now();
        Ok(Server {
            context,
            doorway,
            https,
            http,
            acme,
            admin,
            scrape,
            ceilings,
            listeners,
            patience,
            started,
        })
    }

    /// Bound sockets with their real ports.
    pub fn listeners(&self) -> &[ListenerStatus] {
        &self.listeners
    }

    /// Serves until `stop` ends; then closes every session with 1001 and returns when all have ended, or after the
    /// longest time that a session may take. `stop` again: at once.
    pub async fn run(self, mut stop: impl AsyncFnMut()) -> Drained {
        let tasks = self.context.tasks.clone();
        let metrics = self.context.metrics.clone();
        let (state, seen) = watch::channel(State::Starting);
        let (commands, mut asked) = mpsc::channel(COMMANDS);
        let admin = Arc::new(Admin {
            metrics: metrics.clone(),
            commands,
            state: seen,
        });
        // Tasks of their own: it answers until the very end, for somebody may ask how the drain is going.
        let desk = Tasks::default();
        for (bound, surface) in [(self.admin, Surface::Full), (self.scrape, Surface::Metrics)] {
            if let Some(bound) = bound {
                desk.spawn(admin::serve(bound, admin.clone(), surface, desk.clone()));
            }
        }
        let https_port = self
            .https
            .iter()
            .find_map(|listener| listener.local_addr().ok())
            .map_or(443, |at| at.port());
        for listener in self.https {
            let doorway = self.doorway.clone();
            let serve = move |tcp: TcpStream, from: SocketAddr, permit: Permit| {
                doorway.clone().secure(tcp, from, permit)
            };
            let admission = self.doorway.admission.clone();
            tasks.spawn(listener::accept(
                listener,
                admission,
                metrics.clone(),
                tasks.clone(),
                serve,
            ));
        }
        for listener in self.http {
            let doorway = self.doorway.clone();
            let serve = move |tcp: TcpStream, from: SocketAddr, permit: Permit| {
                doorway.clone().cleartext(tcp, from, permit, https_port)
            };
            let admission = self.doorway.admission.clone();
            tasks.spawn(listener::accept(
                listener,
                admission,
                metrics.clone(),
                tasks.clone(),
                serve,
            ));
        }
        state.send_replace(State::Ready);
        let listeners = in_words(&self.listeners);
        info!(%listeners, "ready");
        systemd::ready(&listeners);

        let status = |state: State| Status {
            version: env!("CARGO_PKG_VERSION"),
            state,
            uptime_seconds: self.started.elapsed().as_secs(),
            connections: metrics.connections(),
            connections_max: self.ceilings.connections as u64,
            sessions: metrics.sessions(),
            sessions_max: self.ceilings.sessions as u64,
            listeners: self.listeners.clone(),
            routes: self.context.live.snapshot().route_status(),
            backends: self.context.live.snapshot().backend_status(),
        };
        let certificates = Papers {
            acme: self.acme.as_ref(),
            context: &self.context,
        };
        loop {
            tokio::select! {
                () = stop() => break,
                Some(command) = asked.recv() => obey(command, &status, State::Ready, &certificates),
            }
        }
        info!(
            sessions = metrics.sessions(),
            "stopping: sessions are closed with 1001; a second signal stops at once"
        );
        systemd::stopping(&format!("closing sessions: {}", metrics.sessions()));
        state.send_replace(State::Draining);
        tasks.stop();
        self.context.sessions.close_all(GOING_AWAY);
        let mut finish = pin!(tasks.finish(self.patience));
        let clean = loop {
            tokio::select! {
                clean = &mut finish => break clean,
                () = stop() => break false,
                Some(command) = asked.recv() => obey(command, &status, State::Draining, &certificates),
            }
        };
        desk.stop();
        desk.finish(LAST_ANSWERS).await;
        Drained { clean }
    }
}

/// Where certificates are known.
struct Papers<'a> {
    acme: Option<&'a Acme>,
    context: &'a Context,
}

// === impl Papers ===

impl Papers<'_> {
    fn list(&self) -> Vec<CertificateStatus> {
        let mut list = self.context.live.snapshot().certificates.status();
        list.extend(self.acme.into_iter().flat_map(Acme::status));
        list
    }

    fn renew(&self, host: &str) -> Result<(), String> {
        match self.acme {
            Some(acme) => acme.renew(host),
            None => Err("there is no [acme] section: certificates from files are renewed by whoever writes the files".into()),
        }
    }
}

/// Whoever asked may have left: nobody is owed an answer then.
fn obey(command: Command, status: &impl Fn(State) -> Status, state: State, papers: &Papers<'_>) {
    match command {
        Command::Status(reply) => drop(reply.send(status(state))),
        Command::Certificates(reply) => drop(reply.send(papers.list())),
        Command::Renew(host, reply) => drop(reply.send(papers.renew(&host))),
    }
}

fn in_words(listeners: &[ListenerStatus]) -> String {
    listeners
        .iter()
        .map(|listener| format!("{} {}", listener.kind, listener.address))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Questions that wait for the server.
const COMMANDS: usize = 16;
/// RFC 6455 §7.4.1.
const GOING_AWAY: u16 = 1001;
/// What follows the closing handshake: close_notify, FIN, and the moment in which input is discarded.
const FAREWELL: Duration = Duration::from_millis(1500);
/// For answers of the admin surface that are under way at the very end.
const LAST_ANSWERS: Duration = Duration::from_millis(200);
