//! Names in DNS that pools have: asked for as long as a configuration has them.

use super::{Server, drains::DrainPacing};
use crate::{
    config::DnsName,
    lifecycle::NameStatus,
    observe::{ErrorChain, SessionTarget},
    upstream::{Backend, DnsAnswer, Resolver},
};
use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

/// Who is asked for, and what came of it last.
#[derive(Debug)]
pub(super) struct DnsTasks {
    asked: BTreeMap<DnsName, TrackedName>,
    tell: mpsc::Sender<DnsUpdate>,
    heard: mpsc::Receiver<DnsUpdate>,
}

#[derive(Debug)]
struct TrackedName {
    /// The maximum interval between queries; dropping it ends the queries.
    often: watch::Sender<Duration>,
    /// What DNS has said last.
    found: Option<DnsAnswer>,
    /// What is wrong with that.
    error: Option<String>,
}

/// What DNS says of a name, or why it says nothing.
#[derive(Debug)]
pub(super) struct DnsUpdate {
    name: DnsName,
    found: Result<DnsAnswer, String>,
}

// === impl DnsTasks ===

impl Default for DnsTasks {
    fn default() -> Self {
        let (tell, heard) = mpsc::channel(UNHEARD);
        DnsTasks {
            asked: BTreeMap::new(),
            tell,
            heard,
        }
    }
}

impl DnsTasks {
    /// The next answer. May be dropped.
    pub(super) async fn said(&mut self) -> DnsUpdate {
        let said = self.heard.recv().await;
        said.expect("one sender is kept beside it")
    }

    /// What is known of each name.
    pub(super) fn status(&self) -> Vec<NameStatus> {
        let status = |(name, asked): (&DnsName, &TrackedName)| NameStatus {
            name: name.to_string(),
            error: asked.error.clone(),
        };
        self.asked.iter().map(status).collect()
    }
}

// === impl Server ===

impl Server {
    /// Asks for the names of the gateway in force. Those that stay are asked for on, and what is known of them is known at
    /// once to pools that have them since now.
    pub(super) fn refresh_dns_tasks(&mut self) {
        let gateway = self.context.live.snapshot();
        let mut wanted = gateway.dns_names();
        self.names.asked.retain(|name, asked| {
            let Some(often) = wanted.remove(name) else {
                return false;
            };
            asked.often.send_replace(often);
            if asked.found.is_some() || asked.error.is_some() {
                gateway.apply_dns_answer(name, asked.found.as_ref());
            }
            true
        });
        for (name, often) in wanted {
            let (say, often) = watch::channel(often);
            let (resolver, tell) = (self.context.resolver.clone(), self.names.tell.clone());
            let (asking, tasks) = (name.clone(), self.context.tasks.clone());
            self.context.tasks.spawn(async move {
                tokio::select! {
                    () = ask(asking, often, &resolver, tell) => {}
                    () = tasks.stopping() => {}
                }
            });
            let asked = TrackedName {
                often: say,
                found: None,
                error: None,
            };
            self.names.asked.insert(name, asked);
        }
    }

    /// What DNS says is in force: for new sessions, and for those that are not to outlive their address.
    pub(super) fn apply_dns_update(&mut self, said: DnsUpdate) {
        let DnsUpdate { name, found } = said;
        let Some(asked) = self.names.asked.get_mut(&name) else {
            return;
        };
        let outcome = if found.is_ok() { "answered" } else { "failed" };
        self.context.metrics.dns(outcome);
        let (found, error) = match found {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(error)),
        };
        let error = error.or_else(|| shortcoming(found.as_ref()?));
        match (&error, &asked.error) {
            (Some(error), None) => {
                warn!(%name, %error, "DNS does not say who is under this name: nobody is taken out by that");
            }
            (None, Some(_)) => info!(%name, "DNS knows this name again"),
            _ => {}
        }
        asked.error = error;
        if found.is_some() {
            asked.found.clone_from(&found);
        }
        let gateway = self.context.live.snapshot();
        let followed = gateway.apply_dns_answer(&name, found.as_ref());
        if !followed.added.is_empty() || !followed.vanished.is_empty() {
            let (came, vanished) = (in_words(&followed.added), in_words(&followed.vanished));
            info!(%name, %came, %vanished, "DNS has other backends under this name");
            self.watch_backends();
        } else if !followed.first {
            return;
        }
        let leaving = self.context.sessions.matching(|session| {
            let mut gone = followed.vanished.iter();
            let is_asked = followed.first || gone.any(|one| *one.name() == session.backend);
            is_asked && !gateway.may_keep(session)
        });
        let context = self.context.clone();
        let must_go = move |session: &SessionTarget| !context.live.snapshot().may_keep(session);
        let spread = DrainPacing::of(&gateway.drain);
        self.drains
            .close(leaving, spread, must_go, &self.context.tasks);
    }
}

/// Asks until nobody wants to know any more: again when the answer is good no longer, and after `often` in any case.
async fn ask(
    name: DnsName,
    mut often: watch::Receiver<Duration>,
    resolver: &Resolver,
    tell: mpsc::Sender<DnsUpdate>,
) {
    let mut failures = 0;
    loop {
        let found = match timeout(QUERY_TIMEOUT, resolver.discover(&name)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(ErrorChain(&error).to_string()),
            Err(_) => Err(format!("no answer within {QUERY_TIMEOUT:?}")),
        };
        failures = if found.is_ok() { 0 } else { failures + 1 };
        let good = match &found {
            Ok(found) => found.ttl.unwrap_or(Duration::MAX).max(MIN_QUERY_INTERVAL),
            Err(_) => MIN_QUERY_INTERVAL * 2_u32.pow(failures.min(10) - 1),
        };
        let now = Instant::now();
        let said = DnsUpdate {
            name: name.clone(),
            found,
        };
        if tell.send(said).await.is_err() {
            return;
        }
        loop {
            let pause = good.min(often.borrow_and_update().max(MIN_QUERY_INTERVAL));
            let mut pause = pin!(sleep_until(now + pause));
            tokio::select! {
                () = &mut pause => break,
                changed = often.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// What an answer lacks.
fn shortcoming(found: &DnsAnswer) -> Option<String> {
    match (found.complete, found.truncated) {
        (false, _) => Some("a part of the answer failed: nobody is taken out by it".into()),
        (true, 0) => None,
        (true, more) => Some(format!("{more} more than are taken are left out")),
    }
}

fn in_words(backends: &[Arc<Backend>]) -> String {
    let names: Vec<&str> = backends.iter().map(|backend| &**backend.name()).collect();
    names.join(", ")
}

/// Answers that the server has not heard of yet.
const UNHEARD: usize = 16;

/// For all servers in `/etc/resolv.conf`, each as often as that says.
const QUERY_TIMEOUT: Duration = Duration::from_secs(15);

/// At least so long between two questions, however short answers are good for.
const MIN_QUERY_INTERVAL: Duration = Duration::from_secs(1);
