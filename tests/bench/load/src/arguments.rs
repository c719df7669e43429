//! The command line: a mode, and `--name value` pairs that all modes share.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{env, io, net::SocketAddr, path::PathBuf, time::Duration};

/// The arguments of all modes; each mode reads those that it needs.
#[derive(Clone)]
pub(crate) struct Arguments {
    /// The address of the proxy, or the address to which `forward` connects.
    pub(crate) to: SocketAddr,
    /// The port of `forward` and `backend`; 0: any.
    pub(crate) listen: u16,
    /// The name in SNI and in the Host header.
    pub(crate) host: String,
    /// PEM: the only certificate that is accepted from the proxy.
    pub(crate) cert: PathBuf,
    /// PEM: the key of `forward`.
    pub(crate) key: PathBuf,
    /// The number of concurrent sessions.
    pub(crate) sessions: usize,
    /// Sessions per HTTP/2 connection; 0: HTTP/1.1, with a connection for each session.
    pub(crate) streams: usize,
    /// The payload length of a message, in bytes.
    pub(crate) size: usize,
    /// The duration of the measurement.
    pub(crate) seconds: Duration,
    /// The duration of the warm-up before it.
    pub(crate) warm: Duration,
    /// Messages per second of all sessions together; 0: each session sends the next message after the last echo.
    pub(crate) rate: u32,
    /// Whether to resume with TLS 1.3 tickets.
    pub(crate) resume: bool,
}

impl Arguments {
    pub(crate) fn from_command_line() -> io::Result<(String, Self)> {
        let mut args = env::args().skip(1);
        let mode = args.next().unwrap_or_default();
        let mut it = Self {
            to: SocketAddr::from(([127, 0, 0, 1], 0)),
            listen: 0,
            host: "bench.test".into(),
            cert: "cert.pem".into(),
            key: "key.pem".into(),
            sessions: 1,
            streams: 0,
            size: 64,
            seconds: Duration::from_secs(2),
            warm: Duration::from_millis(300),
            rate: 0,
            resume: false,
        };
        while let Some(name) = args.next() {
            if name == "--resume" {
                it.resume = true;
                continue;
            }
            let value = args.next().ok_or_else(|| bad_argument(&name, "no value"))?;
            match name.as_str() {
                "--to" => it.to = parse(&name, &value)?,
                "--listen" => it.listen = parse(&name, &value)?,
                "--host" => it.host = value,
                "--cert" => it.cert = value.into(),
                "--key" => it.key = value.into(),
                "--sessions" => it.sessions = parse(&name, &value)?,
                "--streams" => it.streams = parse(&name, &value)?,
                "--size" => it.size = parse(&name, &value)?,
                "--seconds" => it.seconds = seconds(&name, &value)?,
                "--warm" => it.warm = seconds(&name, &value)?,
                "--rate" => it.rate = parse(&name, &value)?,
                _ => return Err(bad_argument(&name, "unknown")),
            }
        }
        if !it.to.ip().is_loopback() {
            return Err(bad_argument("--to", "loopback only"));
        }
        Ok((mode, it))
    }
}

/// Raises the descriptor limit, because each session needs one. If that fails, opening the sessions fails later.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

fn seconds(name: &str, value: &str) -> io::Result<Duration> {
    Duration::try_from_secs_f64(parse(name, value)?).map_err(|error| bad_argument(name, error))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> io::Result<T> {
    value.parse().map_err(|error| bad_argument(name, error))
}

fn bad_argument(name: &str, why: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{name}: {why}"))
}
