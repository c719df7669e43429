//! HTTP/2: many requests and WebSockets on one connection, none of which can stall the others (RFC 9113 §5.2).

mod gather;

use super::{
    super::{
        Context, Peer,
        patience::{ClientStream, ConnState, StreamParts, TimeoutStream},
        service,
    },
    connection_stop, log_end, timeouts,
};
use crate::{lifecycle::Tasks, splice::Socket, wire::ServerStream};
use gather::WriteCoalescer;
use hyper::{rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, future::poll_fn, pin::pin, sync::Arc};

/// Runs hyper's HTTP/2 over a client's stream.
///
/// Every stream may have [`STREAM_WINDOW`] unread bytes in flight to Lockgate, and the connection's window has room
/// for that many of each: a stream whose reader is stalled uses up its own window, never the connection's. The same
/// holds for h2's overhead for unread small frames, which is limited to half of that window: see [`CONNECTION_WINDOW`].
pub(super) async fn drive(
    context: Arc<Context>,
    parts: StreamParts<Box<ServerStream<Socket>>>,
    peer: Peer,
) {
    let client = peer.address;
    let state = ConnState::new(true);
    let (coalescer, connection) = {
        let gateway = context.live.snapshot();
        let limits = &gateway.limits;
        let stream: ClientStream = TimeoutStream::new(parts, state.clone(), timeouts(limits));
        let head = u32::try_from(limits.head_size.0).unwrap_or(u32::MAX);
        let coalescer = WriteCoalescer::new(stream);
        let mut builder = http2::Builder::new(TasksExecutor(context.tasks.clone()));
        builder
            .auto_date_header(false)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(
                limits
                    .h2_streams
                    .saturating_mul(STREAM_WINDOW)
                    .clamp(CONNECTION_WINDOW, MAX_WINDOW),
            )
            .max_concurrent_streams(limits.h2_streams)
            .max_send_buf_size(MAX_SEND_BUF)
            .max_header_list_size(head);
        if gateway.h2_websocket {
            builder.enable_connect_protocol();
        }
        let (context, state) = (context.clone(), state.clone());
        let service = service_fn(move |request| {
            let answered = Box::pin(service::answer(
                context.clone(),
                peer.clone(),
                state.begin_request(),
                request,
            ));
            async { Ok::<_, Infallible>(answered.await) }
        });
        let io = TokioIo::new(coalescer.clone());
        (coalescer, builder.serve_connection(io, service))
    };
    let mut connection = pin!(connection);
    let mut shutting_down = false;
    let ended = loop {
        tokio::select! {
            // The connection is polled first: what it reads determines whether it may close.
            biased;
            ended = poll_fn(|cx| coalescer.poll_with(cx, connection.as_mut(), state.is_shared())) => {
                break ended
            }
            overdue = state.notified() => {
                if overdue && !shutting_down {
                    shutting_down = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            () = connection_stop(&context, &state), if !shutting_down => {
                shutting_down = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    log_end(client, ended);
}

/// Runs the tasks that hyper spawns for streams, so that they are tracked.
#[derive(Clone)]
struct TasksExecutor(Tasks);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TasksExecutor {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The bytes in flight to Lockgate in one stream: the default of RFC 9113 §6.5.2.
const STREAM_WINDOW: u32 = 65_535;
/// The maximum of a window (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;
/// h2 counts 256 bytes for each unread small frame, and ends the connection when they reach half of its
/// window. One stream has room for 65,535 frames of a byte: several that are paused must not end the others.
const CONNECTION_WINDOW: u32 = 128 * 1024 * 1024;
/// The bytes of one stream's response that are buffered while its client does not read.
const MAX_SEND_BUF: usize = 64 * 1024;
