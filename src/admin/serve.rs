//! Serves a bound listener: a limited number of connections, each with one deadline and one request, which a request
//! for the proof of the token may precede.

use crate::{
    admin::{
        Admin, Surface,
        api::AdminApi,
        auth::HostCheck,
        listener::{AdminListener, AdminStream},
    },
    lifecycle::tasks::Tasks,
    observe::log_throttle::LogThrottle,
};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// The timeouts of an admin listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServeTimeouts {
    /// The time to read the whole request head.
    pub(crate) head: Duration,
    /// The time to wait for the server's reply to a command.
    pub(crate) reply: Duration,
    /// The lifetime of a connection: the two above, and the time for the client to read the answer.
    pub(crate) connection: Duration,
    /// The time to complete responses in progress on shutdown.
    pub(crate) shutdown: Duration,
}

/// Connections that may not have sent a request yet, the oldest first. One of them is closed for a new connection that
/// finds every place taken: otherwise silent connections would delay the probes of an orchestrator.
#[derive(Debug, Default)]
struct SilentConnections(VecDeque<Arc<Silence>>);

/// The time of a connection before its request.
#[derive(Debug, Default)]
struct Silence {
    /// The connection has sent a request, or has ended.
    has_ended: AtomicBool,
    closed: Notify,
}

/// Accepts connections until `tasks` stop, and serves each in a task of its own.
pub(crate) async fn serve(
    bound: Arc<AdminListener>,
    admin: Arc<Admin>,
    surface: Surface,
    tasks: Tasks,
) {
    serve_with(bound, admin, surface, tasks, DEFAULT_TIMEOUTS).await;
}

/// Accepts and serves connections as [`serve`] does, with these timeouts.
pub(crate) async fn serve_with(
    bound: Arc<AdminListener>,
    admin: Arc<Admin>,
    surface: Surface,
    tasks: Tasks,
    timeouts: ServeTimeouts,
) {
    let permits = Arc::new(Semaphore::new(admin.max_connections));
    let mut silent = SilentConnections::default();
    loop {
        let accepted = tokio::select! {
            accepted = bound.accept() => accepted,
            () = tasks.stopping() => return,
        };
        let (stream, host_check) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(suppressed) = ACCEPT_ERRORS.allow() {
                    warn!(%error, suppressed, "admin listener cannot accept connections");
                }
                // Most likely out of descriptors: an immediate retry would only use up CPU time.
                sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let permit = async {
            if let Ok(permit) = permits.clone().try_acquire_owned() {
                return Ok(permit);
            }
            silent.close_oldest();
            permits.clone().acquire_owned().await
        };
        let permit = tokio::select! {
            permit = permit => permit,
            () = tasks.stopping() => return,
        };
        let api = AdminApi {
            admin: admin.clone(),
            surface,
            host_check: match surface {
                Surface::Full => host_check,
                Surface::Metrics => HostCheck::Any,
            },
            reply_timeout: timeouts.reply,
            response_deadline: OnceLock::new(),
            proven: OnceLock::new(),
        };
        let (until, silence) = (tasks.clone(), silent.add());
        tasks.spawn(async move {
            tokio::select! {
                () = serve_connection(stream, api, &silence, until, timeouts) => {}
                () = silence.closed.notified() => debug!("admin connection closed: it was silent, and others are waiting"),
            }
            silence.has_ended.store(true, Ordering::Relaxed);
            drop(permit);
        });
    }
}

async fn serve_connection(
    stream: Box<dyn AdminStream>,
    api: AdminApi,
    silence: &Silence,
    tasks: Tasks,
    timeouts: ServeTimeouts,
) {
    let api = &api;
    let service = service_fn(move |request: Request<Incoming>| async move {
        silence.has_ended.store(true, Ordering::Relaxed);
        Ok::<_, Infallible>(api.respond(request).await)
    });
    // The API closes the connection after its request, so that an idle client cannot hold a permit.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeouts.head)
        .max_buf_size(MAX_HEAD_LEN)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let deadline = async {
        sleep(timeouts.connection).await;
        // A tap and a reload set their own duration.
        if let Some(duration) = api.response_deadline.get() {
            sleep(*duration).await;
        }
    };
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = deadline => None,
        () = tasks.stopping() => timeout(timeouts.shutdown, connection).await.ok(),
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => debug!(%error, "admin connection failed"),
        None => debug!("admin connection timed out"),
    }
}

// === impl SilentConnections ===

impl SilentConnections {
    /// Adds a new connection.
    fn add(&mut self) -> Arc<Silence> {
        while self.0.pop_front_if(|oldest| oldest.has_ended()).is_some() {}
        let silence = Arc::new(Silence::default());
        self.0.push_back(silence.clone());
        silence
    }

    /// Closes the oldest connection that has not sent a request, if there is one.
    fn close_oldest(&mut self) {
        while let Some(oldest) = self.0.pop_front() {
            if !oldest.has_ended() {
                oldest.closed.notify_one();
                return;
            }
        }
    }
}

// === impl Silence ===

impl Silence {
    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

const DEFAULT_TIMEOUTS: ServeTimeouts = ServeTimeouts {
    // Admin clients send their request at once: a connection that stays silent is closed.
    head: Duration::from_secs(1),
    reply: Duration::from_secs(2),
    connection: Duration::from_secs(10),
    shutdown: Duration::from_millis(100),
};

/// The maximum size of a request head, in bytes.
const MAX_HEAD_LEN: usize = 16 * 1024;

/// The delay after a failed accept.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

static ACCEPT_ERRORS: LogThrottle = LogThrottle::new();
