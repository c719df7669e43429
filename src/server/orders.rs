//! What the admin surface asks for.

use super::Server;
use crate::{
    lifecycle::{CertificateStatus, Command, State, Status},
    tls::Acme,
};

// === impl Server ===

impl Server {
    /// Whoever asked may have left: nobody is owed an answer then.
    pub(super) fn obey(&mut self, command: Command, state: State) {
        match command {
            Command::Status(reply) => drop(reply.send(self.status(state))),
            Command::Reload(reply) if state == State::Draining => {
                drop(reply.send(Err("lockgate is stopping".into())));
            }
            Command::Reload(reply) => drop(reply.send(self.reload())),
            Command::Certificates(reply) => drop(reply.send(self.certificates())),
            Command::Renew(host, reply) => drop(reply.send(self.renew(&host))),
        }
    }

    fn status(&self, state: State) -> Status {
        let metrics = &self.context.metrics;
        let gateway = self.context.live.snapshot();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            state,
            uptime_seconds: self.started.elapsed().as_secs(),
            connections: metrics.connections(),
            connections_max: self.ceilings.connections as u64,
            sessions: metrics.sessions(),
            sessions_max: self.ceilings.sessions as u64,
            closing: self.drains.waiting(),
            config: self.plan.status(),
            listeners: self.listeners(),
            routes: gateway.route_status(),
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
            None => Err("there is no [acme] section: certificates from files are renewed by whoever writes the files".into()),
        }
    }
}
