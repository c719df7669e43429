//! The command line: a mode, and `--name value` pairs that all modes share.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{env, io, net::SocketAddr, path::PathBuf, time::Duration};

/// What may be said; each mode reads what it needs.
#[derive(Clone)]
pub(crate) struct Arguments {
    /// Where the proxy listens, or where `forward` connects to.
    pub(crate) to: SocketAddr,
    /// The port of `forward` and `backend`; 0: any.
    pub(crate) listen: u16,
    /// The name in SNI and in the Host header.
    pub(crate) host: String,
    /// PEM: what the proxy must show, and nothing else.
    pub(crate) cert: PathBuf,
    /// PEM: the key of `forward`.
    pub(crate) key: PathBuf,
    /// How many at a time.
    pub(crate) sessions: usize,
    /// How many of them share an HTTP/2 connection; 0: each has one of its own, with HTTP/1.1.
    pub(crate) streams: usize,
    /// Bytes of payload of one message.
    pub(crate) size: usize,
    /// How long is measured.
    pub(crate) seconds: Duration,
    /// How long it runs before that.
    pub(crate) warm: Duration,
    /// Messages a second of all sessions together; 0: each as soon as the last was answered.
    pub(crate) rate: u32,
    /// With tickets of TLS 1.3.
    pub(crate) resume: bool,
}

impl Arguments {
    pub(crate) fn from_command_line() -> io::Result<(String, Self)> {
        let mut words = env::args().skip(1);
        let mode = words.next().unwrap_or_default();
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
        while let Some(name) = words.next() {
            if name == "--resume" {
                it.resume = true;
                continue;
            }
            let value = words.next().ok_or_else(|| wrong(&name, "no value"))?;
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
                _ => return Err(wrong(&name, "unknown")),
            }
        }
        if !it.to.ip().is_loopback() {
            return Err(wrong("--to", "loopback only"));
        }
        Ok((mode, it))
    }
}

/// Thousands of sessions need thousands of descriptors. Where it cannot be raised, opening them says so.
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
    Duration::try_from_secs_f64(parse(name, value)?).map_err(|error| wrong(name, error))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> io::Result<T> {
    value.parse().map_err(|error| wrong(name, error))
}

fn wrong(name: &str, why: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{name}: {why}"))
}
