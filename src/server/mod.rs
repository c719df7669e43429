//! The composition root: binds the listeners, serves, reloads the configuration and shuts down.
//!
//! [`Server::run`] is the loop that receives signals, commands and events. `reload.rs` and `stop.rs` hold its reactions
//! to a changed configuration and to shutdown. The other files hold the parts of the server, which do not refer to it.

pub(crate) mod active_config;
pub(crate) mod builds;
pub(crate) mod commands;
pub(crate) mod deferred;
pub(crate) mod drain;
pub(crate) mod listeners;
pub(crate) mod reload;
pub(crate) mod stop;
pub(crate) mod takeover;
pub(crate) mod tasks;

use crate::{
    admin::{Admin, Surface, serve},
    config::Config,
    fs::deadline,
    gateway::{Gateway, Live},
    http::context::Context,
    lifecycle::{
        command::{
            CertificateStatus, Command, ListenerStatus, OfferError, ReloadError, RenewalError,
            ServerState, Status,
        },
        handover::{FdLabel, PassedFd, Predecessor},
        inherited::Inherited,
        process::Signal,
        systemd,
        tasks::Tasks,
    },
    listener::{connection::ConnectionHandler, limits::ConnectionLimiter},
    net::{descriptors::DescriptorUse, resolver::Resolver},
    observe::{
        access::AccessLog, log_throttle::KeyedLogThrottle, logging::ErrorChain, metrics::Metrics,
    },
    registry::expiry,
    server::{
        active_config::{ActiveConfig, ConfigSource},
        builds::Builds,
        commands::drain_target,
        deferred::DeferredReload,
        drain::Drains,
        listeners::{Capacity, Listeners, StartError},
        takeover::{PendingHandover, start_successor},
        tasks::{
            dns::DnsTasks,
            files::{CertificateWatch, ConfigWatch},
            health::HealthTasks,
            rebalance::Rebalancer,
        },
    },
    tls::acme::Acme,
};
use std::{future, io, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tracing::{error, info};

/// The server with every listener bound. It accepts connections from [`Server::run`] on.
#[derive(Debug)]
pub struct Server {
    context: Arc<Context>,
    connections: Arc<ConnectionHandler>,
    listeners: Listeners,
    acme: Option<Arc<Acme>>,
    capacity: Capacity,
    /// Shared with the blocking thread that reads a new configuration.
    active_config: Arc<ActiveConfig>,
    builds: Builds,
    deferred: Option<DeferredReload>,
    drains: Drains,
    handover: PendingHandover,
    certificate_watch: CertificateWatch,
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
    /// Whether a second [`Signal::Stop`] ended the shutdown.
    pub by_signal: bool,
    /// The number of sessions that are aborted.
    pub aborted_sessions: u64,
}

/// How a shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopEnd {
    /// Every session, request and connection ended in time.
    Clean,
    /// The deadline has passed.
    Deadline,
    /// A second stop signal was received.
    Signal,
}

/// Why the server no longer accepts new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServingEnd {
    /// A stop signal.
    Stop,
    /// Another process has taken over.
    HandedOver,
    /// The process that this one was to replace continues to serve.
    Refused,
}

// === impl Server ===

impl Server {
    /// Binds every configured address that was not inherited, in the order https, http, admin, metrics, and opens the
    /// ACME issuer. Returns the first error. Must be called inside a runtime.
    pub fn bind(
        config: Config,
        gateway: Gateway,
        access_log: AccessLog,
        source: ConfigSource,
        inherited: &mut Inherited,
    ) -> Result<Server, StartError> {
        let listeners = Listeners::bind(&config.server, inherited)?;
        let capacity = Capacity::from_descriptors(&config.limits);
        let descriptors = capacity.descriptors.clone();
        let metrics = Arc::new(Metrics::of(descriptors.clone()));
        let tasks = Tasks::default();
        let resolver = Resolver::cached(tasks.clone());
        let acme = match &config.acme {
            Some(section) => {
                let issued = gateway.tls.issued.clone();
                Some(Arc::new(Acme::open(
                    section,
                    issued,
                    metrics.clone(),
                    resolver.clone(),
                    tasks.clone(),
                    inherited,
                )?))
            }
            None => None,
        };
        if let Some(address) = inherited.unclaimed() {
            return Err(StartError::Unclaimed(address.to_owned()));
        }
        gateway.commit();
        let context = Arc::new(Context::new(
            Live::new(gateway),
            capacity.sessions,
            descriptors.clone(),
            metrics.clone(),
            access_log,
            resolver,
            tasks,
        ));
        let limiter = ConnectionLimiter::new(
            capacity.connections,
            descriptors,
            context.clients.clone(),
            &config.limits,
            metrics,
        );
        let connections = Arc::new(ConnectionHandler {
            http: context.clone(),
            limiter: Arc::new(limiter),
            throttle: KeyedLogThrottle::new(),
        });
        let drains = Drains::default();
        Ok(Server {
            connections,
            listeners,
            acme,
            capacity,
            active_config: Arc::new(ActiveConfig::new(config, source)),
            builds: Builds::default(),
            deferred: None,
            handover: PendingHandover::default(),
            certificate_watch: CertificateWatch::new(context.clone()),
            health_tasks: HealthTasks::new(context.clone(), drains.clone()),
            dns_tasks: DnsTasks::new(context.clone(), drains.clone()),
            rebalancer: Rebalancer::new(context.clone(), drains.clone()),
            started: Instant::now(),
            drains,
            context,
        })
    }

    /// Returns the bound listeners with their actual ports.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        self.listeners.status()
    }

    /// Serves until [`Signal::Stop`], and reloads the configuration on [`Signal::Reload`] and when a watched file
    /// changes. On shutdown closes every session with 1001 and returns when all have ended, at the end of
    /// `drain.window`, or on a second [`Signal::Stop`]. After a takeover by another process the close code is
    /// `drain.code` instead. `predecessor` is the process that permitted this one to take over; it stops serving as
    /// soon as this one serves.
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
            proofs: Default::default(),
            sessions: self.context.sessions.clone(),
            commands,
            state: current_state,
            max_connections: self.capacity.admin_connections,
        });
        // Separate tasks: on shutdown the admin API answers until the process ends, so that the drain can be observed.
        // After a takeover it stops accepting before the drain, because the successor serves the admin address.
        let admin_tasks = Tasks::default();
        for (bound, surface) in [
            (self.listeners.admin(), Surface::Full),
            (self.listeners.metrics(), Surface::Metrics),
        ] {
            if let Some(bound) = bound.cloned() {
                admin_tasks.spawn(serve::serve(
                    bound,
                    admin.clone(),
                    surface,
                    admin_tasks.clone(),
                ));
            }
        }
        let mut early = Vec::new();
        if !self.open_acme_hosts(&mut signals, &mut early).await {
            return Drained {
                clean: true,
                by_signal: false,
                aborted_sessions: 0,
            };
        }
        let (tasks, access) = (&self.context.tasks, self.context.access.clone());
        tasks.spawn_loop("access-summary", tasks.stop_token(), move || {
            access.clone().summarise_omitted()
        });
        // Of its own, because tokens also expire during a drain. It ends with the process.
        let (expiry_tasks, sessions) = (Tasks::default(), self.context.sessions.clone());
        expiry_tasks.spawn_loop("identity-expiry", expiry_tasks.stop_token(), move || {
            expiry::close_expired(sessions.clone())
        });
        self.context
            .live
            .snapshot()
            .start_guards(&self.context.auth);
        self.start_listeners();
        self.refresh_tasks();
        let sessions = &self.context.sessions;
        sessions.set_tappable_routes(self.context.live.snapshot().tappable());
        state.send_replace(ServerState::Ready);
        // When it completes, the predecessor has sent systemd the new MAINPID.
        let mut takeover = predecessor.map(|predecessor| Box::pin(predecessor.serving()));
        if takeover.is_none() {
            self.announce_ready();
        }
        self.active_config.log_warnings();

        let mut watched = self.active_config.watched();
        let mut config_watch = ConfigWatch::start(watched.files.clone(), &self.context.tasks);
        for signal in early {
            match signal {
                Signal::Reload => self.reload(None),
                Signal::Replace => start_successor(&self.context.tasks),
                Signal::Stop => {}
            }
        }
        // No branch waits for a file or for another process: signals and commands are handled at once.
        let end = loop {
            // Answers that are applied to the current gateway during a build would be missing in the new one.
            let may_apply_dns = !self.builds.is_active();
            if self.builds.take_has_started() {
                config_watch.note_read();
            }
            tokio::select! {
                signal = signals() => match signal {
                    Signal::Stop => break ServingEnd::Stop,
                    Signal::Reload => self.reload(None),
                    Signal::Replace => start_successor(&self.context.tasks),
                },
                Some(command) = command_queue.recv() => self.handle_command(command, ServerState::Ready),
                Some(event) = config_watch.event() => self.reload_changed(event),
                event = self.builds.event() => self.finish_build(event),
                () = deferred::due(&mut self.deferred) => self.reload_deferred(&config_watch),
                update = self.dns_tasks.next_update(), if may_apply_dns => self.dns_tasks.apply(update, &mut self.health_tasks),
                served = self.handover.served() => if takeover::complete(&self.context, served) { break ServingEnd::HandedOver },
                permitted = completion(&mut takeover) => match permitted {
                    Ok(()) => {
                        self.listeners.own_admin();
                        info!(
                            process = std::process::id(),
                            "takeover complete; this process accepts all new connections"
                        );
                        self.announce_ready();
                    }
                    Err(error) => {
                        let error = ErrorChain(&error);
                        error!(process = std::process::id(), %error, "takeover failed; this process stops");
                        break ServingEnd::Refused;
                    }
                },
            }
            let current = self.active_config.watched();
            if current != watched {
                config_watch = ConfigWatch::start(current.files.clone(), &self.context.tasks);
                watched = current;
            }
        };
        self.builds.cancel();
        // Every session closes now, so rebalancing ends.
        self.rebalancer.stop();
        let drained = if end == ServingEnd::HandedOver {
            admin_tasks.stop();
            state.send_replace(ServerState::Draining);
            self.drain_after_handover(&mut signals, &mut command_queue)
                .await
        } else {
            None
        };
        let end = match drained {
            Some(end) => end,
            None => {
                let notify_systemd = end == ServingEnd::Stop;
                self.stop(notify_systemd, &state, &mut signals, &mut command_queue)
                    .await
            }
        };
        admin_tasks.stop();
        admin_tasks.finish(ADMIN_GRACE).await;
        self.context.access.write_omitted();
        Drained {
            clean: end == StopEnd::Clean,
            by_signal: end == StopEnd::Signal,
            aborted_sessions: self.context.metrics.sessions(),
        }
    }

    /// Reads the state of the ACME hosts from the store, and manages them. Returns false if a stop signal was received
    /// in the meantime; other signals are added to `early`.
    async fn open_acme_hosts(
        &self,
        signals: &mut impl AsyncFnMut() -> Signal,
        early: &mut Vec<Signal>,
    ) -> bool {
        let Some(acme) = self.acme.clone() else {
            return true;
        };
        let names = self
            .context
            .live
            .snapshot()
            .certificates
            .acme_names()
            .clone();
        let opened = {
            let (acme, names) = (acme.clone(), names.clone());
            deadline::unbounded(move || acme.open_hosts(&names))
        };
        let stopped = async {
            loop {
                match signals().await {
                    Signal::Stop => return,
                    signal if early.contains(&signal) => {}
                    signal => early.push(signal),
                }
            }
        };
        tokio::select! {
            opened = opened => {
                acme.apply(&names, opened.unwrap_or_default());
                true
            }
            () = stopped => false,
        }
    }

    fn announce_ready(&self) {
        let listeners = self.listeners.summary();
        info!(%listeners, "ready");
        systemd::ready(&listeners);
    }

    /// Starts every https and http listener that is not started yet.
    fn start_listeners(&mut self) {
        let Context { metrics, tasks, .. } = &*self.context;
        self.listeners.start(&self.connections, metrics, tasks);
    }

    /// Starts and ends the background tasks that depend on the current gateway.
    fn refresh_tasks(&mut self) {
        self.certificate_watch.refresh();
        self.dns_tasks.refresh();
        self.health_tasks.refresh();
        self.rebalancer.refresh();
    }

    /// Handles one command. Its reply is sent now or when the work has ended; it is dropped if the client has
    /// disconnected.
    fn handle_command(&mut self, command: Command, state: ServerState) {
        match command {
            Command::Status(reply) => drop(reply.send(self.status(state))),
            Command::Reload(reply) if state == ServerState::Draining => {
                drop(reply.send(Err(ReloadError::Stopping)));
            }
            Command::Reload(reply) => self.reload(Some(reply)),
            Command::HandOver(reply) if state == ServerState::Draining => {
                drop(reply.send(Err(OfferError::Stopping)));
            }
            Command::HandOver(reply) => drop(reply.send(self.offer())),
            Command::Drain {
                target,
                action,
                reply,
            } => drop(reply.send(drain_target(&self.context, &self.drains, &target, action))),
            Command::Certificates(reply) => drop(reply.send(self.certificates())),
            Command::Renew(host, reply) => self.renew(host, reply),
        }
    }

    /// Offers the listening sockets and the lock of the certificate store to another process. Returns the name of the
    /// socket to which that process must connect.
    fn offer(&mut self) -> Result<String, OfferError> {
        let (listeners, acme) = (&self.listeners, self.acme.as_deref());
        let server = &self.active_config.startup.server;
        let descriptors = || -> io::Result<Vec<PassedFd>> {
            let mut descriptors = listeners.inheritable_fds(server)?;
            if let Some((address, descriptor)) = acme.and_then(Acme::lock).transpose()? {
                let kind = Acme::LOCK.to_owned();
                descriptors.push(PassedFd {
                    label: FdLabel { kind, address },
                    descriptor,
                });
            }
            Ok(descriptors)
        };
        self.handover.offer(descriptors, &self.context.tasks)
    }

    fn status(&self, state: ServerState) -> Status {
        let metrics = &self.context.metrics;
        let descriptors = &self.context.descriptors;
        let gateway = self.context.live.snapshot();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            state,
            process: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            connections: metrics.connections(),
            connections_max: self.capacity.connections as u64,
            sessions: metrics.sessions(),
            sessions_max: self.capacity.sessions as u64,
            requests: metrics.requests_in_flight(),
            backend_connections: DescriptorUse::BACKEND
                .map(|it| descriptors.used_for(it))
                .iter()
                .sum(),
            backend_connections_idle: descriptors.idle(),
            descriptors: descriptors.used(),
            descriptors_max: descriptors.max(),
            closing: self.drains.pending_closes(),
            config: self.active_config.status(),
            listeners: self.listeners.status(),
            routes: gateway.route_status(),
            pools: gateway.pool_status(),
            names: self.dns_tasks.status(),
            backends: gateway.backend_status(),
        }
    }

    fn certificates(&self) -> Vec<CertificateStatus> {
        let mut list = self.context.live.snapshot().certificates.status();
        list.extend(self.acme.iter().flat_map(|acme| acme.status()));
        list
    }

    fn renew(&self, host: Box<str>, reply: oneshot::Sender<Result<(), RenewalError>>) {
        let Some(acme) = self.acme.clone() else {
            return drop(reply.send(Err(RenewalError::NoAcme)));
        };
        let tasks = &self.context.tasks;
        tasks.spawn_until(tasks.stop_token(), async move {
            drop(reply.send(acme.renew(&host).await));
        });
    }
}

/// Waits for a future until it completes; without one it never completes. Cancel-safe if the future is.
async fn completion<F: Future + Unpin>(running: &mut Option<F>) -> F::Output {
    let Some(future) = running else {
        return future::pending().await;
    };
    let output = future.await;
    *running = None;
    output
}

// === impl StopEnd ===

impl StopEnd {
    fn at_deadline(clean: bool) -> StopEnd {
        if clean {
            StopEnd::Clean
        } else {
            StopEnd::Deadline
        }
    }
}

/// Commands of the admin API that are queued for the server.
const COMMAND_QUEUE_LEN: usize = 16;

/// Time for the admin API to complete its last responses.
const ADMIN_GRACE: Duration = Duration::from_millis(200);
