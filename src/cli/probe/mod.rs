//! `lockgate probe`: one WebSocket, opened step by step. `connect.rs` has TLS and the handshake, `report.rs` the
//! output.

pub(crate) mod connect;
pub(crate) mod report;

use crate::{
    cli::{
        args::{ProbeArgs, parse_url},
        output::print,
        probe::{
            connect::{ProbeOutcome, Stream},
            report::{CloseReceived, Report},
        },
    },
    net::{
        happy_eyeballs::{AddressHistory, AttemptPermits, connect_first},
        resolver::Resolver,
    },
    observe::logging::ErrorChain,
};
use anyhow::{Context, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use std::{
    future, io,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, runtime, time::timeout};
use tokio_tungstenite::tungstenite::{
    Bytes, Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

/// Opens, pings and closes a WebSocket: returns 0 if every step succeeded, 1 if one failed.
pub(crate) fn probe(arguments: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let target = ProbeTarget::read(&arguments.url);
    if !arguments.json
        && let Err(error) = target
    {
        // No step was tried, so there is no report.
        return Err(error);
    }
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut report = Report::new(&arguments.url);
    let result = runtime.block_on(run(arguments, target, &mut report));
    let failed = result.is_err();
    report.failed = result.err().map(|error| ErrorChain(&*error).to_string());
    match arguments.json {
        true => print(serde_json::to_string_pretty(&report)?),
        false => print(report),
    }
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

async fn run(
    arguments: &ProbeArgs,
    target: anyhow::Result<ProbeTarget>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let limit = arguments.timeout.0;
    let target = target?;
    let host = target.host.clone();

    let started = Instant::now();
    let resolver = Resolver::system();
    let addresses = within("DNS", limit, resolver.lookup(&host)).await?;
    let addresses: Vec<_> = addresses
        .with_context(|| format!("DNS: `{host}` has no address; is the name right?"))?
        .into_iter()
        .map(|address| SocketAddr::new(address, target.port))
        .collect();
    report.dns_ms = Some(millis(started));

    let started = Instant::now();
    let (permits, history) = (AttemptPermits::Unlimited, AddressHistory::default());
    let connect = connect_first(addresses, permits, &history, TcpStream::connect);
    let tcp = within("TCP", limit, connect).await?;
    let no_address = || io::Error::from(io::ErrorKind::AddrNotAvailable);
    let tcp = tcp.map_err(|last| last.unwrap_or_else(no_address));
    let tcp = tcp.with_context(|| {
        format!(
            "TCP: cannot connect to {host}:{}; is the server running, and is the port open?",
            target.port
        )
    })?;
    tcp.set_nodelay(true).context("TCP")?;
    report.address = tcp.peer_addr().ok();
    report.tcp_ms = Some(millis(started));

    let stream: Stream = match target.tls {
        false => Box::new(tcp),
        true => {
            let connector = connect::connector(arguments)?;
            let started = Instant::now();
            let connect = connect::connect(&connector, &host, tcp);
            let (stream, mut tls) = within("TLS", limit, connect).await??;
            tls.ms = millis(started);
            report.tls = Some(tls);
            Box::new(stream)
        }
    };

    let started = Instant::now();
    let handshake = connect::open_websocket(arguments, stream, target.tls);
    let outcome = within("handshake", limit, handshake).await??;
    report.handshake_ms = Some(millis(started));
    let (mut socket, answer) = match outcome {
        ProbeOutcome::Open(socket, answer) => (socket, answer),
        ProbeOutcome::Refused(answer) => {
            let message = format!("handshake: refused with {}", answer.status);
            report.answer = Some(answer);
            bail!(message);
        }
    };
    report.answer = Some(answer);

    let started = Instant::now();
    let ping = Message::Ping(Bytes::from_static(b"lockgate probe"));
    let pong = async {
        socket.send(ping).await?;
        while let Some(message) = socket.next().await.transpose()? {
            if message.is_pong() {
                return Ok(());
            }
        }
        Err(anyhow!(
            "the server closed the session instead of answering"
        ))
    };
    within("ping", limit, pong).await?.context("ping")?;
    report.ping_ms = Some(millis(started));

    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    let closed = async {
        socket.send(Message::Close(Some(close))).await?;
        while let Some(message) = socket.next().await.transpose()? {
            if let Message::Close(frame) = message {
                return anyhow::Ok(frame.map(|frame| CloseReceived {
                    code: frame.code.into(),
                    reason: frame.reason.to_string(),
                }));
            }
        }
        Ok(None)
    };
    report.closed = within("close", limit, closed).await?.context("close")?;
    Ok(())
}

/// The parts of a URL.
struct ProbeTarget {
    tls: bool,
    host: String,
    port: u16,
}

// === impl ProbeTarget ===

impl ProbeTarget {
    fn read(url: &str) -> anyhow::Result<ProbeTarget> {
        let uri = parse_url(url, &["wss", "ws"])?;
        let tls = uri.scheme_str() == Some("wss");
        let host = uri.host().with_context(|| format!("`{url}` has no host"))?;
        Ok(ProbeTarget {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }
}

async fn within<T>(
    step: &str,
    limit: Duration,
    operation: impl future::Future<Output = T>,
) -> anyhow::Result<T> {
    timeout(limit, operation)
        .await
        .map_err(|_| anyhow!("{step}: no answer within {limit:?}"))
}

fn millis(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}
