//! Handles the commands of the admin API.

use crate::{
    lifecycle::command::{
        CertificateStatus, Command, DrainReport, DrainTarget, ServerState, Status,
    },
    registry::SessionTarget,
    server::{Server, drain::DrainPacing},
    tls::acme::Acme,
};
use tracing::{info, warn};

// === impl Server ===

impl Server {
    /// Handles one command and sends its reply. A reply is dropped if the client has disconnected.
    pub(crate) async fn handle_command(&mut self, command: Command, state: ServerState) {
        match command {
            Command::Status(reply) => drop(reply.send(self.status(state))),
            Command::Reload(reply) if state == ServerState::Draining => {
                drop(reply.send(Err("lockgate is stopping".into())));
            }
            Command::Reload(reply) => drop(reply.send(self.reload().await)),
            Command::HandOver(reply) if state == ServerState::Draining => {
                drop(reply.send(Err("lockgate is stopping".into())));
            }
            Command::HandOver(reply) => drop(reply.send(self.offer())),
            Command::Drain(target, draining, reply) => {
                drop(reply.send(self.drain(&target, draining)))
            }
            Command::Certificates(reply) => drop(reply.send(self.certificates())),
            Command::Renew(host, reply) => drop(reply.send(self.renew(&host))),
        }
    }

    /// Starts or ends the drain of a route or backend. Its sessions are closed as after a reload that removes it.
    fn drain(&self, target: &DrainTarget, draining: bool) -> Result<DrainReport, String> {
        let gateway = self.context.live.snapshot();
        if !gateway.drain(target, draining) {
            return Err(match target {
                DrainTarget::Route(name) => {
                    format!("there is no route `{name}`; `lockgate status` shows them")
                }
                DrainTarget::Backend(address) => {
                    format!("there is no backend {address}; write it as `lockgate status` shows it")
                }
            });
        }
        if !draining {
            info!(%target, "drain undone by order; accepting new sessions again");
            return Ok(DrainReport::default());
        }
        let leaving = self.context.sessions.matching(|session| match target {
            DrainTarget::Route(name) => *session.route == **name,
            DrainTarget::Backend(address) => *session.backend == **address,
        });
        let closing = leaving.len();
        let (context, drained) = (self.context.clone(), target.clone());
        let must_close = move |_: &SessionTarget| context.live.snapshot().is_drained(&drained);
        let pacing = DrainPacing::of(&gateway.drain);
        self.drains
            .close(leaving, pacing, must_close, &self.context.tasks);
        info!(%target, closing, "drained by order; accepting no new sessions");
        let pools_without_backend = gateway.pools_left_without_backend(target);
        for pool in &pools_without_backend {
            warn!(%pool, %target, "the pool has no backend left that accepts new sessions: all are drained or down");
        }
        Ok(DrainReport {
            closing,
            pools_without_backend,
        })
    }

    fn status(&self, state: ServerState) -> Status {
        let metrics = &self.context.metrics;
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
            closing: self.drains.waiting(),
            config: self.active_config.status(),
            listeners: self.listeners(),
            routes: gateway.route_status(),
            pools: gateway.pool_status(),
            names: self.dns_tasks.status(),
            backends: gateway.backend_status(),
        }
    }

    fn certificates(&self) -> Vec<CertificateStatus> {
        let mut list = self.context.live.snapshot().certificates.status();
        list.extend(self.acme.iter().flat_map(Acme::status));
        list
    }

    fn renew(&self, host: &str) -> Result<(), String> {
        match &self.acme {
            Some(acme) => acme.renew(host),
            None => Err("there is no [acme] section: certificates from files are renewed by replacing the files".into()),
        }
    }
}
