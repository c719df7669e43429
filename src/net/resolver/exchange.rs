//! One query for one absolute name: which server receives it, by which transport, and for how long.
//!
//! The order is that of glibc (`res_send.c`): every server in the order of the file, each for its own time, and the
//! whole list again for each attempt. A server that cannot be reached or reports an error is followed by the next one
//! at once; an answer, also a negative one, is final. The resolver of hickory is not used, because it bounds all
//! servers together by the time of one, and takes SERVFAIL and REFUSED of the first server as the answer.

use crate::net::resolver::{
    error::QueryError,
    message::{Answer, DnsQuestion, DnsRecords, Response},
    resolv_conf::ResolvConf,
};
use hickory_proto::{
    op::ResponseCode,
    rr::{Name, RecordType},
};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// A client of the configured DNS servers.
#[derive(Debug)]
pub(crate) struct DnsClient {
    conf: ResolvConf,
    /// The server with which the next query begins, with `rotate`.
    next: AtomicUsize,
}

/// The course of one query.
struct Exchange<'a> {
    conf: &'a ResolvConf,
    question: DnsQuestion,
    /// Whether TCP is used from now on: an answer did not fit into a datagram.
    over_tcp: bool,
    edns0: bool,
    /// The records of a truncated answer, which are better than none.
    partial: Option<DnsRecords>,
}

/// Why a server gave no answer.
enum Failure {
    Server(ResponseCode),
    Io(io::Error),
    Timeout,
}

// === impl DnsClient ===

impl DnsClient {
    pub(crate) fn new(conf: ResolvConf) -> Self {
        DnsClient {
            conf,
            next: AtomicUsize::new(0),
        }
    }

    pub(crate) fn conf(&self) -> &ResolvConf {
        &self.conf
    }

    /// Returns the records of an absolute name, at least one; those of its alias if it is one.
    pub(crate) async fn records(
        &self,
        name: &Name,
        kind: RecordType,
    ) -> Result<DnsRecords, QueryError> {
        let mut name = name.clone();
        for _ in 0..MAX_ALIAS_QUERIES {
            match self.query(name, kind).await? {
                Answer::Records(records) => return Ok(records),
                Answer::Alias(target) => name = target,
                Answer::Negative(error) => return Err(error),
            }
        }
        Err(QueryError::NoData { ttl: None })
    }

    async fn query(&self, name: Name, kind: RecordType) -> Result<Answer, QueryError> {
        let servers = &self.conf.servers;
        let start = if self.conf.options.rotate {
            self.next.fetch_add(1, Ordering::Relaxed) % servers.len()
        } else {
            0
        };
        let mut exchange = Exchange {
            conf: &self.conf,
            question: DnsQuestion::new(name, kind),
            over_tcp: self.conf.options.use_vc,
            edns0: self.conf.options.edns0,
            partial: None,
        };
        let mut worst = Failure::Io(io::ErrorKind::NotConnected.into());
        for _ in 0..self.conf.options.attempts {
            for index in 0..servers.len() {
                let server = servers[(start + index) % servers.len()];
                match exchange.ask(server, index).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => worst = worst.or(failure),
                }
            }
            // No server answers over TCP.
            if let Some(records) = exchange.partial.take() {
                return Ok(Answer::Records(records));
            }
        }
        Err(match worst {
            Failure::Server(ResponseCode::FormErr) => QueryError::Invalid,
            Failure::Server(code) => QueryError::Server(code),
            Failure::Timeout => QueryError::Timeout,
            Failure::Io(error) => QueryError::Unreachable(error.kind()),
        })
    }
}

// === impl Exchange ===

impl Exchange<'_> {
    /// Queries one server, over UDP, and over TCP if the answer is truncated.
    async fn ask(&mut self, server: SocketAddr, index: usize) -> Result<Answer, Failure> {
        let limit = self.conf.timeout(index);
        // At most three: without EDNS if the server does not know it, then over TCP.
        for _ in 0..3 {
            let query = self.question.encode(self.edns0);
            let query = query.ok_or_else(|| Failure::Io(io::ErrorKind::InvalidInput.into()))?;
            let response = timeout(limit, async {
                if self.over_tcp {
                    over_tcp(server, &query, &self.question).await
                } else {
                    over_udp(server, &query, &self.question).await
                }
            });
            let response = match response.await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(Failure::Io(error)),
                Err(_) => return Err(Failure::Timeout),
            };
            match response {
                Response::Final(answer) => return Ok(answer),
                Response::Truncated(records) if self.over_tcp => {
                    self.partial = records.or(self.partial.take());
                    return Err(Failure::Server(ResponseCode::FormErr));
                }
                Response::Truncated(records) => {
                    self.over_tcp = true;
                    self.partial = records;
                }
                // RFC 6891 §7: the server does not know EDNS.
                Response::Failed(ResponseCode::FormErr | ResponseCode::NotImp) if self.edns0 => {
                    self.edns0 = false;
                }
                Response::Failed(code) => return Err(Failure::Server(code)),
                Response::Foreign => break,
            }
        }
        Err(Failure::Server(ResponseCode::FormErr))
    }
}

// === impl Failure ===

impl Failure {
    /// Returns the more informative of two failures: an error of a server, then a timeout.
    fn or(self, other: Failure) -> Failure {
        let rank = |failure: &Failure| match failure {
            Failure::Io(_) => 0,
            Failure::Timeout => 1,
            Failure::Server(_) => 2,
        };
        if rank(&other) >= rank(&self) {
            other
        } else {
            self
        }
    }
}

/// Sends a query in a datagram, from a port of its own, and waits for its response.
async fn over_udp(
    server: SocketAddr,
    query: &[u8],
    question: &DnsQuestion,
) -> io::Result<Response> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    // Connected: the kernel drops datagrams from other addresses, and reports a port without a server.
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MAX_MESSAGE_LEN];
    loop {
        let len = socket.recv(&mut buffer).await?;
        match question.decode(&buffer[..len]) {
            Response::Foreign => {}
            response => return Ok(response),
        }
    }
}

/// Sends a query over a connection (RFC 7766) and reads its response.
async fn over_tcp(
    server: SocketAddr,
    query: &[u8],
    question: &DnsQuestion,
) -> io::Result<Response> {
    let mut stream = TcpStream::connect(server).await?;
    let len = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream
        .write_all(&[&len.to_be_bytes(), query].concat())
        .await?;
    let mut buffer = Vec::new();
    loop {
        let len = stream.read_u16().await?;
        buffer.resize(len.into(), 0);
        stream.read_exact(&mut buffer).await?;
        match question.decode(&buffer) {
            Response::Foreign => {}
            response => return Ok(response),
        }
    }
}

/// Maximum number of queries for an alias whose server does not resolve it.
const MAX_ALIAS_QUERIES: usize = 8;

/// The maximum length of a message (RFC 1035 §4.2.2). Servers may send datagrams of more than 512 bytes unasked.
const MAX_MESSAGE_LEN: usize = 65_535;
