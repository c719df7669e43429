//! `lockgate demo`: a chat, and Lockgate in front of it, in one process.
//!
//! The demo's backend serves a page, and a chat that broadcasts every line to all tabs. It uses plain HTTP, as Python
//! servers do, and only Lockgate connects to it.

use crate::{
    cli::{args::DemoArgs, output::eprint, run, startup::Startup},
    config::{Config, HostPattern, ListenAddress, RunTarget},
    lifecycle::tasks::Tasks,
    proto::handshake,
};
use ::http::{HeaderValue, Request, Response, StatusCode, header};
use anyhow::Context;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    net::{self, Ipv4Addr},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::broadcast::{self, error::RecvError},
    time::sleep,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        protocol::{Role, WebSocketConfig},
    },
};

/// The channel that broadcasts lines to all tabs.
type ChatRoom = broadcast::Sender<Utf8Bytes>;

/// Serves `https://localhost:8443` until it receives a stop signal.
pub(crate) fn demo(arguments: DemoArgs) -> anyhow::Result<ExitCode> {
    let startup = Startup::begin()?;
    let backend = net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .context("cannot listen on 127.0.0.1 for the backend of the demo")?;
    let address = backend
        .local_addr()
        .context("the backend of the demo has no address")?;
    let to = format!("ws://{address}").parse();
    let mut config = Config::for_target(RunTarget {
        acme: None,
        to: to.expect("an address and a port are a backend's address"),
        hosts: vec![HostPattern::Exact("localhost".into())],
        listen: match arguments.listen {
            Some(address) => vec![address],
            // Loopback only: the demo is not meant for other machines.
            None => vec![ListenAddress((Ipv4Addr::LOCALHOST, PORT).into())],
        },
        origins: Vec::new(),
    });
    arguments.overrides.apply(&mut config.server);
    run::serve(
        startup,
        config,
        None,
        arguments.data.data.as_deref(),
        false,
        |server| {
            let backend = TcpListener::from_std(backend)?;
            let tasks = Tasks::default();
            tasks.spawn(serve(backend, tasks.clone()));
            let port = run::https_port(server);
            eprint(format_args!(
                "  the demo is a chat: open https://localhost:{port} in two browser tabs"
            ));
            Ok(())
        },
    )
}

/// Serves the demo's backend: accepts connections until the process ends.
async fn serve(listener: TcpListener, tasks: Tasks) {
    let room: ChatRoom = broadcast::channel(CHANNEL_CAPACITY).0;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_BACKOFF).await;
            continue;
        };
        let (room, sessions) = (room.clone(), tasks.clone());
        tasks.spawn(async move {
            let service = service_fn(|request| {
                let response = respond(request, &room, &sessions);
                async { Ok::<_, Infallible>(response) }
            });
            // A connection fails only if Lockgate closes it.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

/// Serves the page, and the chat at `/ws`.
fn respond(request: Request<Incoming>, room: &ChatRoom, tasks: &Tasks) -> Response<Full<Bytes>> {
    let (mut parts, _) = request.into_parts();
    let mut response = Response::new(Full::default());
    let headers = response.headers_mut();
    match (parts.uri.path(), handshake::Offer::read(&parts)) {
        ("/ws", Ok(Some(offer))) => {
            let accept = handshake::accept_key(&offer.key);
            let accept = HeaderValue::try_from(accept).expect("base64 is ASCII");
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            if let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() {
                tasks.spawn(serve_tab(upgrade, room.clone()));
            }
        }
        ("/", Ok(None)) => {
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, html);
            *response.body_mut() = Full::from(PAGE);
        }
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

/// Serves one tab until it disconnects.
async fn serve_tab(upgrade: OnUpgrade, room: ChatRoom) {
    let Ok(upgraded) = upgrade.await else { return };
    let config = WebSocketConfig::default()
        .read_buffer_size(MAX_MESSAGE_LEN)
        .max_message_size(Some(MAX_MESSAGE_LEN));
    let io = TokioIo::new(upgraded);
    let mut tab = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let mut lines = room.subscribe();
    loop {
        tokio::select! {
            message = tab.next() => match message {
                Some(Ok(Message::Text(line))) => {
                    // This tab is subscribed too, so sending cannot fail.
                    let _ = room.send(line);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            line = lines.recv() => match line {
                Ok(line) => if tab.send(Message::Text(line)).await.is_err() { return },
                // The tab was too slow: it misses some lines and continues with the next ones.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}

const PORT: u16 = 8443;

const PAGE: &str = include_str!("demo/index.html");

/// The number of lines buffered for the slowest tab.
const CHANNEL_CAPACITY: usize = 64;

/// The maximum length of a line in bytes.
const MAX_MESSAGE_LEN: usize = 4096;

/// The time to read a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The delay before the next accept when the process is out of descriptors.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
