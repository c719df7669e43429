//! The composition root: bind, run, reload, stop.

mod bind;
mod ceilings;
mod drains;
mod listening;
mod orders;
mod plan;
mod reload;
mod stop;

use crate::{
    admin::{self, Admin, Surface},
    config::{self, Config, Watch},
    gateway::{Gateway, Live},
    http::Context,
    lifecycle::{ListenerStatus, Signal, State, Tasks, systemd},
    listener::{Admission, Doorway},
    observe::{AccessLog, Metrics, Sessions},
    tls::{self, Acme},
};
pub use bind::StartError;
use bind::failed;
use ceilings::Ceilings;
use drains::Drains;
use listening::Listening;
pub use plan::Blueprint;
use plan::Plan;
use std::{
    net::SocketAddr,
    path::PathBuf,
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
    doorway: Arc<Doorway>,
    listening: Vec<Listening>,
    acme: Option<Acme>,
    admin: Option<admin::Bound>,
    scrape: Option<admin::Bound>,
    /// The admin surface's own, which answers until the very end.
    fixed: Vec<ListenerStatus>,
    ceilings: Ceilings,
    plan: Plan,
    drains: Drains,
    /// Where clear text is sent.
    https_port: Arc<AtomicU16>,
    /// Ends the watch over the files of the certificates in force.
    certificates: CancellationToken,
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
        config: Config,
        gateway: Gateway,
        access: AccessLog,
        blueprint: Blueprint,
    ) -> Result<Server, StartError> {
        let listening = Listening::missing(&config.server, &[])?;
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
        let mut fixed = Vec::new();
        for (kind, bound) in [("admin", &admin), ("metrics", &scrape)] {
            fixed.extend(bound.iter().map(|bound| ListenerStatus {
                kind,
                address: admin::address(bound),
            }));
        }
        let ceilings = Ceilings::from_descriptors(&config.limits);
        let metrics = Arc::new(Metrics::new());
        let tasks = Tasks::default();
        let acme = match &config.acme {
            Some(section) => {
                let shelf = gateway.tls.shelf.clone();
                let acme = Acme::open(section, shelf, metrics.clone(), tasks.clone())?;
                acme.apply(gateway.certificates.issued());
                Some(acme)
            }
            None => None,
        };
        let context = Arc::new(Context::new(
            Live::new(gateway),
            ceilings.sessions,
            metrics.clone(),
            access,
            Arc::new(Sessions::default()),
            tasks,
        ));
        let admission = Admission::new(ceilings.connections, &config.limits, metrics);
        let doorway = Arc::new(Doorway {
            http: context.clone(),
            admission: Arc::new(admission),
        });
        Ok(Server {
            context,
            doorway,
            listening,
            acme,
            admin,
            scrape,
            fixed,
            ceilings,
            plan: Plan::new(config, blueprint),
            drains: Drains::default(),
            https_port: Arc::default(),
            certificates: CancellationToken::new(),
            started: Instant::now(),
        })
    }

    /// Bound sockets with their real ports.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        let listening = self.listening.iter().map(Listening::status);
        listening.chain(self.fixed.iter().cloned()).collect()
    }

    /// Serves until `signals` says stop, and reads the configuration again when it says so or when a file changes; then
    /// closes every session with 1001 and returns when all have ended, or when `drain.window` has. Another stop: at once.
    pub async fn run(mut self, mut signals: impl AsyncFnMut() -> Signal) -> Drained {
        let metrics = self.context.metrics.clone();
        let (state, seen) = watch::channel(State::Starting);
        let (commands, mut asked) = mpsc::channel(COMMANDS);
        let admin = Arc::new(Admin {
            metrics,
            commands,
            state: seen,
        });
        // Tasks of their own: it answers until the very end, for somebody may ask how the drain is going.
        let desk = Tasks::default();
        for (bound, surface) in [
            (self.admin.take(), Surface::Full),
            (self.scrape.take(), Surface::Metrics),
        ] {
            if let Some(bound) = bound {
                desk.spawn(admin::serve(bound, admin.clone(), surface, desk.clone()));
            }
        }
        self.listen();
        self.watch_certificates();
        state.send_replace(State::Ready);
        info!(listeners = %self.in_words(), "ready");
        systemd::ready(&self.in_words());

        let mut watched = self.plan.files();
        let mut changes = self.watch_config(&watched);
        loop {
            tokio::select! {
                signal = signals() => match signal {
                    Signal::Stop => break,
                    Signal::Reload => drop(self.reload()),
                },
                Some(command) = asked.recv() => self.obey(command, State::Ready),
                Some(()) = changes.recv() => drop(self.reload()),
            }
            let named = self.plan.files();
            if named != watched {
                changes = self.watch_config(&named);
                watched = named;
            }
        }
        let clean = self.stop(&state, &mut signals, &mut asked).await;
        desk.stop();
        desk.finish(stop::LAST_ANSWERS).await;
        Drained { clean }
    }

    /// Tells when one of these files changes. In a task of its own: whoever waits here is often called away.
    fn watch_config(&self, files: &[PathBuf]) -> mpsc::Receiver<()> {
        let (tell, changes) = mpsc::channel(1);
        let mut watch = Watch::new(files.to_vec());
        let tasks = self.context.tasks.clone();
        self.context.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = watch.changed() => {}
                    () = tell.closed() => return,
                    () = tasks.stopping() => return,
                }
                // What is not heard yet has been said.
                let _ = tell.try_send(());
            }
        });
        changes
    }

    /// Reads the files of the certificates in force again when they change, instead of those watched before.
    fn watch_certificates(&mut self) {
        self.certificates.cancel();
        self.certificates = CancellationToken::new();
        let certificates = self.context.live.snapshot().certificates.clone();
        let watch = tls::watch_files(certificates, self.context.metrics.clone());
        let (gone, tasks) = (self.certificates.clone(), self.context.tasks.clone());
        self.context.tasks.spawn(async move {
            tokio::select! {
                () = watch => {}
                () = gone.cancelled() => {}
                () = tasks.stopping() => {}
            }
        });
    }

    /// Starts every listener that is not started yet.
    fn listen(&mut self) {
        let https = self.listening.iter().find(|it| it.is_https());
        let port = https.map_or(443, |it| SocketAddr::port(&it.address()));
        self.https_port.store(port, Ordering::Relaxed);
        let Context { metrics, tasks, .. } = &*self.context;
        for listening in &mut self.listening {
            listening.start(&self.doorway, metrics, tasks, &self.https_port);
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
const COMMANDS: usize = 16;
