//! The state that all requests share.

use crate::{
    gateway::Live,
    guard::authorization::AuthServices,
    http::{client::HttpClient, client_table::ClientTable},
    lifecycle::tasks::Tasks,
    net::{descriptors::DescriptorBudget, memory::MemoryMonitor, resolver::Resolver},
    observe::{access::AccessLog, metrics::Metrics},
    registry::SessionRegistry,
};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// The shared state of all requests, created once by the server.
#[derive(Debug)]
pub(crate) struct Context {
    /// The current gateway; a request takes one snapshot of it.
    pub live: Live,
    /// The registry of sessions.
    pub sessions: Arc<SessionRegistry>,
    /// The permits of `limits.sessions`.
    pub session_permits: Arc<Semaphore>,
    /// What each client address holds.
    pub(crate) clients: Arc<ClientTable>,
    /// The budget of file descriptors.
    pub(crate) descriptors: Arc<DescriptorBudget>,
    pub metrics: Arc<Metrics>,
    /// One record per request or session.
    pub access: AccessLog,
    /// The runtime on which sessions run.
    pub tasks: Tasks,
    /// The resolver for backend names.
    pub resolver: Resolver,
    /// What guards need to ask other services.
    pub(crate) auth: AuthServices,
    /// The client for plain requests.
    pub(crate) http_client: HttpClient,
}

// === impl Context ===

impl Context {
    /// Creates the context from the server's parts.
    pub(crate) fn new(
        live: Live,
        max_sessions: usize,
        descriptors: Arc<DescriptorBudget>,
        metrics: Arc<Metrics>,
        access: AccessLog,
        resolver: Resolver,
        tasks: Tasks,
    ) -> Self {
        Context {
            live,
            sessions: Arc::default(),
            session_permits: Arc::new(Semaphore::new(max_sessions)),
            access,
            http_client: HttpClient::new(resolver.clone(), descriptors.clone(), tasks.clone()),
            clients: Arc::new(ClientTable::new(
                descriptors.clone(),
                MemoryMonitor::of_process(),
                metrics.clone(),
            )),
            descriptors,
            metrics,
            auth: AuthServices::new(tasks.clone(), resolver.clone()),
            tasks,
            resolver,
        }
    }
}
