//! Runs hyper on a client's stream, with the deadlines below it and the service above it.

use crate::{
    http::{
        body::Body,
        conn_state::{ConnState, InFlight},
        context::Context,
        h2,
        peer::Peer,
        refusal::RefusalReason,
        request_body::RequestBody,
        service,
        timeouts::{ConnTimeouts, ConnectionGuard, StreamParts, TimeoutStream},
        unparsed, validate,
    },
    net::{
        socket::{Socket, Transport},
        tls_stream::ServerStream,
    },
    observe::logging::ErrorChain,
    tls::server_config,
};
use ::http::{Request, Response};
use futures_util::FutureExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, net::IpAddr, pin::pin, sync::Arc};
use tokio::io::AsyncWriteExt;
use tracing::debug;

/// Serves the requests of one connection, until it ends, becomes a session, or the process stops. `guard` is what the
/// connection holds (its permits); it moves with the stream into a session.
pub(crate) async fn serve(
    context: Arc<Context>,
    stream: Box<ServerStream<Socket>>,
    peer: Peer,
    guard: ConnectionGuard,
) {
    // ALPN has determined the version.
    let multiplexed = stream.tls_state().alpn_protocol() == Some(server_config::H2);
    let parts = StreamParts { io: stream, guard };
    let client = peer.address;
    let answer = {
        let context = context.clone();
        move |request, in_flight| service::answer(context.clone(), peer.clone(), in_flight, request)
    };
    if multiplexed {
        // Boxed: its state is large, and connections of the other version would reserve the space for it.
        log_end(
            client,
            Box::pin(h2::drive(&context, parts, client, answer)).await,
        );
    } else {
        drive(&context, parts, client, answer).await;
    }
}

/// Serves a connection from a trusted proxy that has terminated TLS. It is HTTP/1.1.
pub(crate) async fn serve_cleartext(
    context: Arc<Context>,
    stream: Socket,
    peer: Peer,
    guard: ConnectionGuard,
) {
    let parts = StreamParts { io: stream, guard };
    let client = peer.address;
    let answer = {
        let context = context.clone();
        move |request, in_flight| service::answer(context.clone(), peer.clone(), in_flight, request)
    };
    drive(&context, parts, client, answer).await;
}

/// Runs hyper's HTTP/1.1 over a stream. hyper's limits on a head are above ours, which `validate` checks: hyper refuses
/// a request without calling the service.
pub(crate) async fn drive<S, F>(
    context: &Context,
    parts: StreamParts<S>,
    client: IpAddr,
    answer: impl Fn(Request<RequestBody>, InFlight) -> F,
) where
    S: Transport + Send + 'static,
    F: Future<Output = Response<Body>>,
{
    let state = ConnState::new();
    let connection = {
        let limits = &context.live.snapshot().limits;
        let stream = TimeoutStream::new(parts, state.clone(), ConnTimeouts::new(limits));
        let head = usize::try_from(limits.head_size.0).unwrap_or(usize::MAX);
        let head = head.saturating_add(HEAD_MARGIN);
        let state = state.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let request = request.map(|body| RequestBody::new(body, &state));
            // Boxed: hyper reserves space for the future before there is a request, and this block would hold it twice.
            let answered = Box::pin(answer(request, state.begin_request()));
            async { Ok::<_, Infallible>(answered.await) }
        });
        http1::Builder::new()
            .preserve_header_case(true)
            .auto_date_header(false)
            .header_read_timeout(None)
            .max_headers(2 * validate::MAX_HEADERS)
            .max_header_size(head)
            .max_buf_size(head.max(MIN_READ_BUF_LEN))
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    };
    let mut connection = pin!(connection);
    let (mut shutting_down, mut refused) = (false, false);
    let ended = loop {
        tokio::select! {
            // The connection is polled first: what it reads determines whether it may close.
            biased;
            ended = connection.as_mut() => break ended,
            // When polled again, the connection checks its deadline.
            _ = state.notified() => refused |= record_refusal(context, client, &state),
            () = state.stopped(&context.tasks, &context.sessions), if !shutting_down => {
                shutting_down = true;
                state.end().hasten();
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    refused |= record_refusal(context, client, &state);
    // hyper refuses the preface of HTTP/2 without a response.
    if !refused && ended.as_ref().is_err_and(hyper::Error::is_parse) {
        unparsed::record(
            (&context.metrics, &context.access),
            client,
            "1.1",
            400,
            RefusalReason::Malformed,
        );
    }
    log_end(client, ended);
    if let Some(upgrade) = state.end().take_upgrade()
        && let Some(Ok(upgraded)) = upgrade.now_or_never()
        && let Ok(parts) = upgraded.downcast::<TokioIo<TimeoutStream<S>>>()
    {
        close_refused_upgrade(context, parts.io.into_inner(), &state).await;
    }
}

/// Closes the connection of a refused upgrade, which hyper returns without a shutdown.
async fn close_refused_upgrade<S: Transport>(
    context: &Context,
    mut stream: TimeoutStream<S>,
    state: &ConnState,
) {
    let mut closing = pin!(stream.shutdown());
    let mut hastened = false;
    loop {
        tokio::select! {
            _ = closing.as_mut() => return,
            () = context.tasks.stopping(), if !hastened => {
                hastened = true;
                state.end().hasten();
            }
        }
    }
}

/// Records a request that hyper has refused since the last call; returns whether there is one.
fn record_refusal(context: &Context, client: IpAddr, state: &ConnState) -> bool {
    let Some(status) = state.end().take_refusal() else {
        return false;
    };
    let reason = unparsed::reason(status);
    unparsed::record(
        (&context.metrics, &context.access),
        client,
        "1.1",
        status,
        reason,
    );
    true
}

fn log_end(client: IpAddr, ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        debug!(%client, error = %ErrorChain(&error), "connection ended");
    }
}

/// The bytes by which a head may exceed `limits.head_size` so that the refusal has an access line with its path.
const HEAD_MARGIN: usize = 4096;

/// hyper's own lower bound.
const MIN_READ_BUF_LEN: usize = 8192;
