//! Runs hyper on a client's stream, with the deadlines below it and the service above it.

use crate::{
    http::{
        body::Body,
        context::Context,
        h2,
        peer::Peer,
        service,
        timeouts::{
            ConnState, ConnTimeouts, ConnectionGuard, InFlight, StreamParts, TimeoutStream,
        },
    },
    net::{
        socket::{Socket, Transport},
        tls_stream::ServerStream,
    },
    observe::logging::ErrorChain,
    tls::server_config,
};
use ::http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, net::IpAddr, pin::pin, sync::Arc};
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
        log_end(client, Box::pin(h2::drive(&context, parts, answer)).await);
    } else {
        drive(&context, parts, client, answer).await;
    }
}

/// Does the same for a connection from a trusted proxy that has terminated TLS. It is HTTP/1.1.
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

/// Runs hyper's HTTP/1.1 over a stream. hyper itself answers a head above the limits with 431 or 400.
pub(crate) async fn drive<S, F>(
    context: &Context,
    parts: StreamParts<S>,
    client: IpAddr,
    answer: impl Fn(Request<Incoming>, InFlight) -> F,
) where
    S: Transport + Send + 'static,
    F: Future<Output = Response<Body>>,
{
    let state = ConnState::new();
    let connection = {
        let limits = &context.live.snapshot().limits;
        let stream = TimeoutStream::new(parts, state.clone(), ConnTimeouts::new(limits));
        let head = usize::try_from(limits.head_size.0).unwrap_or(usize::MAX);
        let state = state.clone();
        let service = service_fn(move |request| {
            // Boxed: hyper reserves space for the future before there is a request, and this block would hold it twice.
            let answered = Box::pin(answer(request, state.begin_request()));
            async { Ok::<_, Infallible>(answered.await) }
        });
        http1::Builder::new()
            .preserve_header_case(true)
            .auto_date_header(false)
            .header_read_timeout(None)
            .max_headers(MAX_HEADERS)
            .max_header_size(head)
            .max_buf_size(head.max(MIN_READ_BUF_LEN))
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    };
    let mut connection = pin!(connection);
    let mut shutting_down = false;
    let ended = loop {
        tokio::select! {
            // The connection is polled first: what it reads determines whether it may close.
            biased;
            ended = connection.as_mut() => break ended,
            // When polled again, the connection checks its deadline.
            _ = state.notified() => {}
            () = state.stopped(context), if !shutting_down => {
                shutting_down = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    log_end(client, ended);
}

fn log_end(client: IpAddr, ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        debug!(%client, error = %ErrorChain(&error), "connection ended");
    }
}

/// The limit of `websockets` and of most Python servers.
const MAX_HEADERS: usize = 128;

/// hyper's own lower bound.
const MIN_READ_BUF_LEN: usize = 8192;
