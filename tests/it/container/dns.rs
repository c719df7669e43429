//! A DNS server that knows one name (RFC 1035).

use std::net::{IpAddr, Ipv4Addr};
use tokio::{net::UdpSocket, task::JoinHandle};

/// Answers until it is dropped.
pub(super) struct Dns {
    ip: IpAddr,
    task: JoinHandle<()>,
}

// === impl Dns ===

impl Dns {
    /// Listens on port 53, the only one that `resolv.conf` supports, of an otherwise unused loopback address.
    pub(super) async fn serve(name: &'static str, address: IpAddr) -> Dns {
        let IpAddr::V4(address) = address else {
            panic!("an IPv4 address")
        };
        let ip = IpAddr::from(Ipv4Addr::new(127, 53, 53, std::process::id() as u8 | 2));
        let socket = UdpSocket::bind((ip, 53))
            .await
            .expect("root may bind it, and it is free");
        let task = tokio::spawn(async move {
            let mut query = [0; 512];
            while let Ok((size, from)) = socket.recv_from(&mut query).await {
                if let Some(answer) = answer(&query[..size], name, address) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Dns { ip, task }
    }

    pub(super) fn ip(&self) -> IpAddr {
        self.ip
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers a query: the address for `name` and type A, no records for `name` and other types, NXDOMAIN for other names.
fn answer(query: &[u8], name: &str, address: Ipv4Addr) -> Option<Vec<u8>> {
    let encoded: Vec<u8> = name
        .split('.')
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .chain([0])
        .collect();
    let questions = query.get(HEADER..)?;
    let end = questions.iter().position(|&byte| byte == 0)? + 1;
    let question = questions.get(..end + 4)?;
    let known = question[..end] == encoded;
    let found = known && question[end..end + 2] == A;
    let mut answer = query[..2].to_vec();
    // A response, recursion desired and available; NXDOMAIN if the name is not known; one question, perhaps an answer.
    answer.extend([0x81, if known { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    answer.extend(question);
    if found {
        // The name as in the question, A, IN, 600 seconds, four bytes.
        answer.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

const HEADER: usize = 12;
const A: [u8; 2] = [0, 1];
