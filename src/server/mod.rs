//! The composition root: binds the listeners, serves, reloads the configuration and shuts down.

pub(crate) mod active_config;
pub(crate) mod commands;
pub(crate) mod drain;
pub(crate) mod listeners;
pub(crate) mod reload;
pub(crate) mod stop;
pub(crate) mod takeover;
pub(crate) mod tasks;

use crate::{
    admin::{Admin, Surface, listener, serve},
    config::{AdminAddress, Config},
    gateway::{Gateway, Live},
    http::context::Context,
    lifecycle::{
        command::{ListenerStatus, ServerState},
        handover::Predecessor,
        inherited::Inherited,
        process::Signal,
        systemd,
        tasks::Tasks,
    },
    listener::{connection::ConnectionHandler, limits::ConnectionLimiter},
    observe::{access::AccessLog, metrics::Metrics},
    registry::SessionRegistry,
    server::{
        active_config::{ActiveConfig, ConfigSource},
        drain::Drains,
        listeners::{BoundListener, Capacity, StartError, bind_admin},
        takeover::PendingHandover,
        tasks::{dns::DnsTasks, health::HealthTasks, rebalance::Rebalancer},
    },
    tls::acme::Acme,
};
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

/// The server with every listener bound. It accepts connections from [`Server::run`] on.
#[derive(Debug)]
pub struct Server {
    context: Arc<Context>,
    connections: Arc<ConnectionHandler>,
    listeners: Vec<BoundListener>,
    acme: Option<Acme>,
    admin: Option<Arc<listener::AdminListener>>,
    metrics_listener: Option<Arc<listener::AdminListener>>,
    /// The admin and metrics listeners, which stay open until shutdown is complete.
    admin_status: Vec<ListenerStatus>,
    capacity: Capacity,
    /// Shared with the blocking thread that reads a new configuration.
    active_config: Arc<ActiveConfig>,
    drains: Drains,
    handover: PendingHandover,
    /// The port to which the clear-text listeners redirect.
    https_port: Arc<AtomicU16>,
    /// Cancels the task that watches the certificate files.
    certificate_watch: CancellationToken,
    health_tasks: HealthTasks,
    dns_tasks: DnsTasks,
    rebalancer: Rebalancer,
    started: Instant,
}

/// The result of [`Server::run`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Whether every session ended in time; otherwise the remaining ones are aborted.
    pub clean: bool,
}

// === impl Server ===

impl Server {
    /// Binds every configured address that was not inherited, in the order https, http, admin, metrics, and opens the ACME
    /// issuer. Returns the first error. Must be called inside a runtime.
    pub fn bind(
        config: Config,
        gateway: Gateway,
        access_log: AccessLog,
        source: ConfigSource,
        inherited: &mut Inherited,
    ) -> Result<Server, StartError> {
        let listeners = BoundListener::bind_missing(&config.server, &[], inherited)?;
        let admin = bind_admin("admin", &config.server.admin, inherited)?;
        let metrics_listener = match &config.server.metrics {
            Some(address) => bind_admin("metrics", &AdminAddress::Tcp(address.value), inherited)?,
            None => None,
        };
        let mut admin_status = Vec::new();
        for (kind, bound) in [("admin", &admin), ("metrics", &metrics_listener)] {
            admin_status.extend(bound.iter().map(|bound| ListenerStatus {
                kind,
                address: listener::address(bound),
            }));
        }
        let capacity = Capacity::from_descriptors(&config.limits);
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
            capacity.sessions,
            metrics.clone(),
            access_log,
            Arc::new(SessionRegistry::default()),
            tasks,
        ));
        let limiter = ConnectionLimiter::new(capacity.connections, &config.limits, metrics);
        let connections = Arc::new(ConnectionHandler {
            http: context.clone(),
            limiter: Arc::new(limiter),
        });
        Ok(Server {
            context,
            connections,
            listeners,
            acme,
            admin,
            metrics_listener,
            admin_status,
            capacity,
            active_config: Arc::new(ActiveConfig::new(config, source)),
            drains: Drains::default(),
            handover: PendingHandover::default(),
            https_port: Arc::default(),
            certificate_watch: CancellationToken::new(),
            health_tasks: HealthTasks::default(),
            dns_tasks: DnsTasks::default(),
            rebalancer: Rebalancer::default(),
            started: Instant::now(),
        })
    }

    /// Returns the bound listeners with their actual ports.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        let listeners = self.listeners.iter().map(BoundListener::status);
        listeners.chain(self.admin_status.iter().cloned()).collect()
    }

    /// Serves until [`Signal::Stop`], and reloads the configuration on [`Signal::Reload`] and when a watched file changes.
    /// On shutdown closes every session with 1001 and returns when all have ended, at the end of `drain.window`, or on a
    /// second [`Signal::Stop`]. After a takeover by another process the close code is `drain.code` instead. `predecessor` is
    /// the process that permitted this one to take over; it stops serving as soon as this one serves.
    pub async fn run(
        mut self,
        predecessor: Option<Predecessor>,
        mut signals: impl AsyncFnMut() -> Signal,
    ) -> Drained {
        let metrics = self.context.metrics.clone();
        let (state, current_state) = watch::channel(ServerState::Starting);
        let (commands, mut command_queue) = mpsc::channel(COMMAND_QUEUE_LEN);
        let admin = Arc::new(Admin {
            metrics,
            token: self.active_config.config.server.admin_token.clone(),
            sessions: self.context.sessions.clone(),
            commands,
            state: current_state,
        });
        // Separate tasks: the admin API answers until the process ends, so that the drain can be observed.
        let admin_tasks = Tasks::default();
        for (bound, surface) in [
            (&self.admin, Surface::Full),
            (&self.metrics_listener, Surface::Metrics),
        ] {
            if let Some(bound) = bound.clone() {
                admin_tasks.spawn(serve::serve(
                    bound,
                    admin.clone(),
                    surface,
                    admin_tasks.clone(),
                ));
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
                "takeover complete; this process accepts all new connections"
            );
        }
        info!(listeners = %self.listener_summary(), "ready");
        systemd::ready(&self.listener_summary());

        let mut watched_files = self.active_config.files();
        let mut config_changes = self.watch_config(&watched_files);
        self.catch_up().await;
        let successor = loop {
            tokio::select! {
                signal = signals() => match signal {
                    Signal::Stop => break false,
                    Signal::Reload => drop(self.reload().await),
                    Signal::Replace => self.replace(),
                },
                Some(command) = command_queue.recv() => self.handle_command(command, ServerState::Ready).await,
                Some(()) = config_changes.recv() => drop(self.reload().await),
                update = self.dns_tasks.next_update() => self.apply_dns_update(update),
                accepted = self.handover.accepted() => if self.hand_over(accepted).await { break true },
            }
            let files = self.active_config.files();
            if files != watched_files {
                config_changes = self.watch_config(&files);
                watched_files = files;
            }
        };
        // Every session closes now, so rebalancing ends.
        self.rebalancer = Rebalancer::default();
        let drained = if successor {
            admin_tasks.stop();
            state.send_replace(ServerState::Draining);
            self.drain_after_handover(&mut signals, &mut command_queue)
                .await
        } else {
            None
        };
        let clean = match drained {
            Some(clean) => clean,
            None => {
                let notify_systemd = !successor;
                self.stop(notify_systemd, &state, &mut signals, &mut command_queue)
                    .await
            }
        };
        admin_tasks.stop();
        admin_tasks.finish(stop::ADMIN_GRACE).await;
        Drained { clean }
    }

    /// Starts every listener that is not started yet.
    fn listen(&mut self) {
        let https = self.listeners.iter().find(|it| it.is_https());
        let port = https.map_or(443, |it| SocketAddr::port(&it.address()));
        self.https_port.store(port, Ordering::Relaxed);
        let Context { metrics, tasks, .. } = &*self.context;
        for listener in &mut self.listeners {
            listener.start(&self.connections, metrics, tasks, &self.https_port);
        }
    }

    fn listener_summary(&self) -> String {
        let listeners = self.listeners();
        let entries = listeners
            .iter()
            .map(|it| format!("{} {}", it.kind, it.address));
        entries.collect::<Vec<_>>().join(", ")
    }
}

/// Commands of the admin API that are queued for the server.
const COMMAND_QUEUE_LEN: usize = 16;
