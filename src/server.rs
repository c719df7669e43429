//! The composition root: bind, run, reload, stop.

mod bind;
mod ceilings;
mod checking;
mod drains;
mod handover;
mod listening;
mod names;
mod orders;
mod plan;
mod rebalancing;
mod reload;
mod stop;
mod watching;

use crate::{
    admin::{self, Admin, Surface},
    config::{AdminAddress, Config},
    gateway::{Gateway, Live},
    http::Context,
    lifecycle::{
        Inherited, ListenerStatus, ServerState, Signal, Tasks, handover::Predecessor, systemd,
    },
    listener::{ConnectionHandler, ConnectionLimiter},
    observe::{AccessLog, Metrics, SessionRegistry},
    tls::Acme,
};
pub use bind::StartError;
use bind::bind_admin;
use ceilings::Capacity;
use checking::HealthTasks;
use drains::Drains;
use handover::PendingHandover;
use listening::BoundListener;
use names::DnsTasks;
use plan::ActiveConfig;
pub use plan::ConfigSource;
use rebalancing::Rebalancer;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Everything bound, nothing accepted yet.
#[derive(Debug)]
pub struct Server {
    context: Arc<Context>,
    connections: Arc<ConnectionHandler>,
    listening: Vec<BoundListener>,
    acme: Option<Acme>,
    admin: Option<Arc<admin::AdminListener>>,
    metrics_listener: Option<Arc<admin::AdminListener>>,
    /// The admin surface's own, which answers until the very end.
    admin_status: Vec<ListenerStatus>,
    capacity: Capacity,
    /// Shared with the task that reloads the configuration.
    plan: Arc<ActiveConfig>,
    drains: Drains,
    handover: PendingHandover,
    /// Where clear text is sent.
    https_port: Arc<AtomicU16>,
    /// Ends the watch over the files of the certificates in force.
    certificates: CancellationToken,
    watched: HealthTasks,
    names: DnsTasks,
    rebalancing: Rebalancer,
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
    /// Binds every address of the config, in the order https, http, admin, metrics, unless it was `inherited`; the first that
    /// fails ends it. Called inside a runtime.
    pub fn bind(
        config: Config,
        gateway: Gateway,
        access: AccessLog,
        blueprint: ConfigSource,
        inherited: &mut Inherited,
    ) -> Result<Server, StartError> {
        let listening = BoundListener::bind_missing(&config.server, &[], inherited)?;
        let admin = bind_admin("admin", &config.server.admin, inherited)?;
        let scrape = match &config.server.metrics {
            Some(address) => bind_admin("metrics", &AdminAddress::Tcp(address.value), inherited)?,
            None => None,
        };
        let mut fixed = Vec::new();
        for (kind, bound) in [("admin", &admin), ("metrics", &scrape)] {
            fixed.extend(bound.iter().map(|bound| ListenerStatus {
                kind,
                address: admin::address(bound),
            }));
        }
        let ceilings = Capacity::from_descriptors(&config.limits);
        let metrics = Arc::new(Metrics::new());
        let tasks = Tasks::default();
        let acme = match &config.acme {
            Some(section) => {
                let issued = gateway.tls.issued.clone();
                Some(Acme::open(
                    section,
                    issued,
                    metrics.clone(),
                    tasks.clone(),
                    inherited,
                )?)
            }
            None => None,
        };
        if let Some(address) = inherited.unclaimed() {
            return Err(StartError::Unclaimed(address.to_owned()));
        }
        let context = Arc::new(Context::new(
            Live::new(gateway),
            ceilings.sessions,
            metrics.clone(),
            access,
            Arc::new(SessionRegistry::default()),
            tasks,
        ));
        let admission = ConnectionLimiter::new(ceilings.connections, &config.limits, metrics);
        let doorway = Arc::new(ConnectionHandler {
            http: context.clone(),
            admission: Arc::new(admission),
        });
        Ok(Server {
            context,
            connections: doorway,
            listening,
            acme,
            admin,
            metrics_listener: scrape,
            admin_status: fixed,
            capacity: ceilings,
            plan: Arc::new(ActiveConfig::new(config, blueprint)),
            drains: Drains::default(),
            handover: PendingHandover::default(),
            https_port: Arc::default(),
            certificates: CancellationToken::new(),
            watched: HealthTasks::default(),
            names: DnsTasks::default(),
            rebalancing: Rebalancer::default(),
            started: Instant::now(),
        })
    }

    /// Bound sockets with their real ports.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        let listening = self.listening.iter().map(BoundListener::status);
        listening.chain(self.admin_status.iter().cloned()).collect()
    }

    /// Serves until `signals` says stop, and reads the configuration again when it says so or when a file changes; then
    /// closes every session with 1001 and returns when all have ended, or when `drain.window` has. Another stop: at once.
    /// When another process has taken over, sessions are told `drain.code` instead.
    /// `predecessor` has let it serve, and stops when it does.
    pub async fn run(
        mut self,
        predecessor: Option<Predecessor>,
        mut signals: impl AsyncFnMut() -> Signal,
    ) -> Drained {
        let metrics = self.context.metrics.clone();
        let (state, seen) = watch::channel(ServerState::Starting);
        let (commands, mut asked) = mpsc::channel(COMMAND_QUEUE_LEN);
        let admin = Arc::new(Admin {
            metrics,
            token: self.plan.config.server.admin_token.clone(),
            sessions: self.context.sessions.clone(),
            commands,
            state: seen,
        });
        // Separate tasks: the admin API answers until the process ends, so that the drain can be observed.
        let desk = Tasks::default();
        for (bound, surface) in [
            (&self.admin, Surface::Full),
            (&self.metrics_listener, Surface::Metrics),
        ] {
            if let Some(bound) = bound.clone() {
                desk.spawn(admin::serve(bound, admin.clone(), surface, desk.clone()));
            }
        }
        if let Some(acme) = &self.acme {
            acme.apply(self.context.live.snapshot().certificates.acme_names());
        }
        self.listen();
        self.watch_certificates();
        self.refresh_dns_tasks();
        self.watch_backends();
        self.rebalance_pools();
        let sessions = &self.context.sessions;
        sessions.set_tappable_routes(self.context.live.snapshot().tappable());
        state.send_replace(ServerState::Ready);
        if let Some(predecessor) = predecessor {
            // When this returns, the predecessor has sent systemd the new MAINPID.
            predecessor.serving().await;
            for bound in [&self.admin, &self.metrics_listener].into_iter().flatten() {
                bound.own();
            }
            info!(
                process = std::process::id(),
                "this process has taken over: every new connection is its own"
            );
        }
        info!(listeners = %self.in_words(), "ready");
        systemd::ready(&self.in_words());

        let mut watched = self.plan.files();
        let mut changes = self.watch_config(&watched);
        self.catch_up().await;
        let successor = loop {
            tokio::select! {
                signal = signals() => match signal {
                    Signal::Stop => break false,
                    Signal::Reload => drop(self.reload().await),
                    Signal::Replace => self.replace(),
                },
                Some(command) = asked.recv() => self.handle_command(command, ServerState::Ready).await,
                Some(()) = changes.recv() => drop(self.reload().await),
                said = self.names.said() => self.apply_dns_update(said),
                came = self.handover.accepted() => if self.hand_over(came).await { break true },
            }
            let named = self.plan.files();
            if named != watched {
                changes = self.watch_config(&named);
                watched = named;
            }
        };
        // Now all sessions are to be closed, wherever they are.
        self.rebalancing = Rebalancer::default();
        let retired = match successor {
            true => {
                desk.stop();
                state.send_replace(ServerState::Draining);
                self.drain_after_handover(&mut signals, &mut asked).await
            }
            false => None,
        };
        let clean = match retired {
            Some(clean) => clean,
            None => {
                let service = !successor;
                self.stop(service, &state, &mut signals, &mut asked).await
            }
        };
        desk.stop();
        desk.finish(stop::ADMIN_GRACE).await;
        Drained { clean }
    }

    /// Starts every listener that is not started yet.
    fn listen(&mut self) {
        let https = self.listening.iter().find(|it| it.is_https());
        let port = https.map_or(443, |it| SocketAddr::port(&it.address()));
        self.https_port.store(port, Ordering::Relaxed);
        let Context { metrics, tasks, .. } = &*self.context;
        for listening in &mut self.listening {
            listening.start(&self.connections, metrics, tasks, &self.https_port);
        }
    }

    fn in_words(&self) -> String {
        let listeners = self.listeners();
        let words = listeners
            .iter()
            .map(|it| format!("{} {}", it.kind, it.address));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Questions that wait for the server.
const COMMAND_QUEUE_LEN: usize = 16;
