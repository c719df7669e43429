//! Serves a bound listener: few connections, each with one request and one deadline.

use super::{Admin, AdminListener, Surface, browser::HostCheck, desk::AdminApi};
use crate::{lifecycle::Tasks, observe::LogThrottle};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// Accepts connections until `tasks` stop, and serves each in a task of its own.
pub async fn serve(bound: Arc<AdminListener>, admin: Arc<Admin>, surface: Surface, tasks: Tasks) {
    serve_with(bound, admin, surface, tasks, PATIENCE).await;
}

/// The timeouts of an admin listener.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServeTimeouts {
    /// The time to read a whole request head.
    pub(super) head: Duration,
    /// The time to wait for the server's reply to a command.
    pub(super) reply: Duration,
    /// The lifetime of a connection: the two above, and the time for the client to read the answer.
    pub(super) whole: Duration,
    /// The time that answers in progress get when the tasks stop.
    pub(super) shutdown: Duration,
}

pub(super) async fn serve_with(
    bound: Arc<AdminListener>,
    admin: Arc<Admin>,
    surface: Surface,
    tasks: Tasks,
    patience: ServeTimeouts,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, bound.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = tasks.stopping() => return,
        };
        let (stream, names) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(suppressed) = FAULTS.allow() {
                    warn!(%error, suppressed, "the admin listener cannot accept");
                }
                // Most likely out of descriptors: an immediate retry would only use up CPU time.
                sleep(PAUSE).await;
                continue;
            }
        };
        let desk = AdminApi {
            admin: admin.clone(),
            surface,
            names: match surface {
                Surface::Full => names,
                Surface::Metrics => HostCheck::Any,
            },
            reply: patience.reply,
            response_deadline: OnceLock::new(),
        };
        let until = tasks.clone();
        tasks.spawn(async move {
            serve_connection(stream, desk, until, patience).await;
            drop(place);
        });
    }
}

async fn serve_connection(
    stream: Box<dyn AdminStream>,
    desk: AdminApi,
    tasks: Tasks,
    patience: ServeTimeouts,
) {
    let desk = &desk;
    let service = service_fn(move |request: Request<Incoming>| async move {
        Ok::<_, Infallible>(desk.answer(request).await)
    });
    // One request per connection: an idle client cannot hold a permit.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let patience_ends = async {
        sleep(patience.whole).await;
        // A tap request sets its own duration.
        if let Some(lasting) = desk.response_deadline.get() {
            sleep(*lasting).await;
        }
    };
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = patience_ends => None,
        () = tasks.stopping() => timeout(patience.shutdown, connection).await.ok(),
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => debug!(%error, "an admin connection broke"),
        None => debug!("an admin connection was cut: its time was up"),
    }
}

/// TCP or Unix.
trait AdminStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> AdminStream for S {}

// === impl AdminListener ===

impl AdminListener {
    async fn accept(&self) -> io::Result<(Box<dyn AdminStream>, HostCheck)> {
        match self {
            AdminListener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                let local = stream.local_addr()?.ip().to_canonical();
                Ok((Box::new(stream), HostCheck::Here(local)))
            }
            AdminListener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), HostCheck::Any))
            }
        }
    }
}

const PATIENCE: ServeTimeouts = ServeTimeouts {
    // Admin clients send their request at once: a connection that stays silent is closed.
    head: Duration::from_secs(1),
    reply: Duration::from_secs(2),
    whole: Duration::from_secs(10),
    shutdown: Duration::from_millis(100),
};

/// The maximum number of concurrent connections; more wait in the listen backlog.
pub(super) const CONNECTIONS: usize = 128;

/// The maximum size of a request head, in bytes.
const HEAD: usize = 16 * 1024;

/// The delay after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

static FAULTS: LogThrottle = LogThrottle::new();
