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
        progress::ProgressDisplay,
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
    let result = {
        let progress = ProgressDisplay::start("reading the URL");
        runtime.block_on(run(arguments, target, &mut report, &progress))
    };
    let failed = result.is_err();
    report.failed = result.err().map(|error| ErrorChain(&*error).to_string());
    if arguments.json {
        print(serde_json::to_string_pretty(&report)?)
    } else {
        print(report)
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn run(
    arguments: &ProbeArgs,
    target: anyhow::Result<ProbeTarget>,
    report: &mut Report,
    progress: &ProgressDisplay,
) -> anyhow::Result<()> {
    let limit = arguments.timeout.0;
    let target = target?;
    let host = target.host.clone();

    progress.step(format!("DNS: looking up {host}"));
    let started = Instant::now();
    let resolver = Resolver::system();
    let addresses = within("DNS", limit, resolver.lookup(&host)).await?;
    let addresses: Vec<_> = addresses
        .with_context(|| format!("DNS: `{host}` has no address; is the name right?"))?
        .into_iter()
        .map(|address| SocketAddr::new(address, target.port))
        .collect();
    report.dns_ms = Some(millis(started));

    progress.step(format!("TCP: connecting to {host}:{}", target.port));
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

    let stream: Stream = if !target.tls {
        Box::new(tcp)
    } else {
        progress.step("TLS: performing the handshake");
        let connector = connect::connector(arguments)?;
        let started = Instant::now();
        let connect = connect::connect(&connector, &host, tcp);
        let (stream, mut tls) = within("TLS", limit, connect).await??;
        tls.ms = millis(started);
        report.tls = Some(tls);
        Box::new(stream)
    };

    progress.step("handshake: waiting for the answer");
    let started = Instant::now();
    let handshake = connect::open_websocket(arguments, stream, target.tls);
    let outcome = within("handshake", limit, handshake).await??;
    report.handshake_ms = Some(millis(started));
    let (mut socket, answer) = match outcome {
        ProbeOutcome::Open(socket, answer) => (socket, answer),
        ProbeOutcome::Refused(answer) => {
            let message = match refusal_advice(answer.status) {
                Some(advice) => format!("handshake: refused with {}; {advice}", answer.status),
                None => format!("handshake: refused with {}", answer.status),
            };
            report.answer = Some(answer);
            bail!(message);
        }
    };
    report.answer = Some(answer);

    progress.step("ping: waiting for the Pong");
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

    progress.step("close: waiting for the Close");
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

/// Returns what to check after a refusal. The status is that of the proxy, or of the server behind it.
fn refusal_advice(status: u16) -> Option<&'static str> {
    Some(match status {
        401 => "credentials are required; send them with --header \"Authorization: …\"",
        403 => {
            "the address or the origin of this client is not allowed; a browser sends its origin, as --header \"Origin: …\" does"
        }
        404 => {
            "no route has this host and path, or the server does not know the path; `lockgate explain URL` shows the route"
        }
        429 => "too many requests; try again later",
        502 => {
            "the proxy works, but not the server behind it: is that server running, at the address that --to or the \
             configuration names? `lockgate status` and Lockgate's log have the reason"
        }
        503 => {
            "no server behind the proxy accepts new sessions, or a limit is reached; `lockgate status` shows backends and limits"
        }
        504 => {
            "the server behind the proxy did not answer in time; its own log may have the reason"
        }
        _ => return None,
    })
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
