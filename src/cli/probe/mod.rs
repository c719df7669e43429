//! `lockgate probe`: one WebSocket, opened step by step.

pub(crate) mod connect;

use crate::{
    cli::{
        args::ProbeArgs,
        print,
        probe::connect::{ProbeOutcome, Stream},
    },
    net::resolver::Resolver,
};
use anyhow::{Context, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use std::{
    fmt::{self, Display},
    future,
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
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut report = Report::new(&arguments.url);
    let result = runtime.block_on(run(arguments, &mut report));
    let failed = result.is_err();
    report.failed = result.err().map(|error| format!("{error:#}"));
    match arguments.json {
        true => print(serde_json::to_string_pretty(&report)?),
        false => print(report),
    }
    Ok(match failed {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

async fn run(arguments: &ProbeArgs, report: &mut Report) -> anyhow::Result<()> {
    let limit = arguments.timeout.0;
    let target = ProbeTarget::read(&arguments.url)?;
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
    let tcp = within("TCP", limit, TcpStream::connect(&*addresses)).await?;
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

impl ProbeTarget {
    fn read(url: &str) -> anyhow::Result<ProbeTarget> {
        let uri: ::http::Uri = url
            .parse()
            .with_context(|| format!("`{url}` is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("wss") => true,
            Some("ws") => false,
            _ => bail!("`{url}` does not begin with wss:// or ws://"),
        };
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

// The result of a probe, as text and as JSON.

/// The results of all steps up to a failed one. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    url: String,
    pub(crate) dns_ms: Option<f64>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) tcp_ms: Option<f64>,
    pub(crate) tls: Option<TlsReport>,
    pub(crate) handshake_ms: Option<f64>,
    pub(crate) answer: Option<HttpAnswer>,
    pub(crate) ping_ms: Option<f64>,
    pub(crate) closed: Option<CloseReceived>,
    /// The step that failed, with the reason.
    pub(crate) failed: Option<String>,
}

/// The negotiated TLS parameters.
#[derive(Debug, Serialize)]
pub(crate) struct TlsReport {
    pub(crate) ms: f64,
    pub(crate) version: String,
    pub(crate) cipher: String,
    /// The key-exchange group.
    pub(crate) group: String,
    pub(crate) alpn: Option<String>,
    pub(crate) certificate: Certificate,
}

/// The server's leaf certificate.
#[derive(Debug, Serialize)]
pub(crate) struct Certificate {
    pub(crate) names: Vec<String>,
    pub(crate) issuer: String,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) days_left: i64,
}

/// The answer to the handshake.
#[derive(Debug, Serialize)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) http: &'static str,
    pub(crate) subprotocol: Option<String>,
    pub(crate) extensions: Option<String>,
    /// The headers of a refusal.
    pub(crate) headers: Vec<(String, String)>,
    /// The beginning of a refusal's body.
    pub(crate) body: Option<String>,
}

/// The Close frame received from the server.
#[derive(Debug, Serialize)]
pub(crate) struct CloseReceived {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

impl Report {
    pub(crate) fn new(url: &str) -> Report {
        Report {
            url: url.to_owned(),
            dns_ms: None,
            address: None,
            tcp_ms: None,
            tls: None,
            handshake_ms: None,
            answer: None,
            ping_ms: None,
            closed: None,
            failed: None,
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)?;
        let mut step = |name: &str, ms: Option<f64>, what: &dyn Display| match ms {
            Some(ms) => write!(f, "\n  {name:<10} {ms:>9.3} ms  {what}"),
            None => Ok(()),
        };
        step("DNS", self.dns_ms, &"")?;
        let address = self.address.map(|address| address.to_string());
        step("TCP", self.tcp_ms, &address.unwrap_or_default())?;
        if let Some(tls) = &self.tls {
            step("TLS", Some(tls.ms), tls)?;
        }
        if let Some(answer) = &self.answer {
            step("handshake", self.handshake_ms, answer)?;
        }
        step("ping", self.ping_ms, &"")?;
        if let Some(CloseReceived { code, reason }) = &self.closed {
            write!(f, "\n  close                     {code} {reason}")?;
        }
        match &self.failed {
            Some(failed) => write!(f, "\nfailed at {failed}"),
            None => write!(f, "\nall steps succeeded"),
        }
    }
}

impl Display for TlsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Certificate {
            names,
            issuer,
            not_before,
            not_after,
            days_left,
        } = &self.certificate;
        let alpn = self.alpn.as_deref().unwrap_or("no ALPN");
        write!(
            f,
            "{}, {}, {}, {alpn}{INDENT}for {}{INDENT}from {issuer}{INDENT}{not_before} to {not_after}, days left: {days_left}",
            self.version,
            self.group,
            self.cipher,
            names.join(", ")
        )
    }
}

impl Display for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over HTTP/{}", self.status, self.http)?;
        for (what, value) in [
            ("subprotocol", &self.subprotocol),
            ("extensions", &self.extensions),
        ] {
            if let Some(value) = value {
                write!(f, "{INDENT}{what} {value}")?;
            }
        }
        for (name, value) in &self.headers {
            write!(f, "{INDENT}{name}: {value}")?;
        }
        match &self.body {
            Some(body) => write!(f, "{INDENT}{body}"),
            None => Ok(()),
        }
    }
}

const INDENT: &str = "\n                            ";
