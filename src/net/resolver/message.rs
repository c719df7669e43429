//! DNS messages (RFC 1035 §4): the query for one name and type, and what its response means.

use crate::net::{random::random_bytes, resolver::error::QueryError};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType},
};
use std::time::Duration;

/// A query and the response that it expects.
#[derive(Debug, Clone)]
pub(crate) struct DnsQuestion {
    id: u16,
    name: Name,
    kind: RecordType,
}

/// What a response means.
#[derive(Debug)]
pub(crate) enum Response {
    /// It belongs to another query, or was forged.
    Foreign,
    /// It is the answer of the server.
    Final(Answer),
    /// It does not fit into a datagram. It may have some of the records.
    Truncated(Option<DnsRecords>),
    /// The server did not answer the query: another one may.
    Failed(ResponseCode),
}

/// The answer to a query.
#[derive(Debug)]
pub(crate) enum Answer {
    Records(DnsRecords),
    /// The name is an alias of this one, whose records are missing.
    Alias(Name),
    Negative(QueryError),
}

/// The records under a name.
#[derive(Debug, Clone)]
pub(crate) struct DnsRecords {
    pub(crate) data: Vec<RData>,
    /// How long they are valid.
    pub(crate) ttl: Duration,
    /// Whether there may be more that did not fit into the answer.
    pub(crate) is_partial: bool,
}

// === impl DnsQuestion ===

impl DnsQuestion {
    /// Creates a question with an unpredictable id.
    pub(crate) fn new(name: Name, kind: RecordType) -> Self {
        DnsQuestion {
            id: u16::from_be_bytes(random_bytes()),
            name,
            kind,
        }
    }

    /// Returns the query; `None`: the name is too long.
    pub(crate) fn encode(&self, edns0: bool) -> Option<Vec<u8>> {
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind));
        if edns0 {
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS_PAYLOAD_LEN);
            message.set_edns(edns);
        }
        message.to_vec().ok()
    }

    /// Returns what a message from the server means.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Response {
        let is_own = bytes.get(..2) == Some(&self.id.to_be_bytes());
        let Ok(message) = Message::from_vec(bytes) else {
            return if is_own && bytes.len() >= HEADER_LEN {
                Response::Failed(ResponseCode::FormErr)
            } else {
                Response::Foreign
            };
        };
        let header = &message.metadata;
        if !is_own || header.message_type != MessageType::Response || !self.matches(&message) {
            return Response::Foreign;
        }
        // RFC 1035 §3.4.1: hickory reads a record without data as one of a dynamic update (RFC 2136 §2.4).
        if message
            .answers
            .iter()
            .any(|record| matches!(record.data, RData::Update0(_)))
        {
            return Response::Failed(ResponseCode::FormErr);
        }
        if header.truncation {
            return Response::Truncated(match self.answer(&message) {
                Answer::Records(records) => Some(DnsRecords {
                    is_partial: true,
                    ..records
                }),
                _ => None,
            });
        }
        match header.response_code {
            ResponseCode::NXDomain => Response::Final(Answer::Negative(QueryError::NoName {
                ttl: negative_ttl(&message),
            })),
            // A server that neither is responsible for the name nor resolves it for others, as in glibc.
            ResponseCode::NoError
                if message.answers.is_empty()
                    && message.additionals.is_empty()
                    && !header.authoritative
                    && !header.recursion_available =>
            {
                Response::Failed(ResponseCode::Refused)
            }
            ResponseCode::NoError => Response::Final(self.answer(&message)),
            code => Response::Failed(code),
        }
    }

    /// Returns whether the response repeats the question. Some servers omit it from an error.
    fn matches(&self, message: &Message) -> bool {
        match &*message.queries {
            [] => !matches!(
                message.metadata.response_code,
                ResponseCode::NoError | ResponseCode::NXDomain
            ),
            [query] => {
                query.name().eq_ignore_root(&self.name)
                    && query.query_type() == self.kind
                    && query.query_class() == DNSClass::IN
            }
            _ => false,
        }
    }

    fn answer(&self, message: &Message) -> Answer {
        let records = || {
            let mut records = message.answers.iter();
            std::iter::from_fn(move || records.next())
                .filter(|record| record.dns_class == DNSClass::IN)
        };
        let (mut owner, mut ttl) = (&self.name, u32::MAX);
        for _ in 0..MAX_ALIASES {
            let is_owned = |record: &&Record| record.name.eq_ignore_root(owner);
            let of_type = |record: &&Record| record.record_type() == self.kind;
            let found: Vec<_> = records().filter(is_owned).filter(of_type).collect();
            if !found.is_empty() {
                let ttl = found.iter().map(|record| record.ttl).fold(ttl, u32::min);
                return Answer::Records(DnsRecords {
                    data: found.iter().map(|record| record.data.clone()).collect(),
                    ttl: Duration::from_secs(ttl.into()),
                    is_partial: false,
                });
            }
            let alias = records().filter(is_owned).find_map(|record| {
                let RData::CNAME(target) = &record.data else {
                    return None;
                };
                Some((&target.0, record.ttl))
            });
            match alias {
                Some((target, its_ttl)) => (owner, ttl) = (target, ttl.min(its_ttl)),
                None if owner.eq_ignore_root(&self.name) => break,
                // A server that resolved the alias sends what it knows about its target, at least an SOA record.
                None if message.authorities.is_empty() => return Answer::Alias(owner.clone()),
                None => break,
            }
        }
        Answer::Negative(QueryError::NoData {
            ttl: negative_ttl(message),
        })
    }
}

/// Returns how long a negative answer is valid, if it has an SOA record (RFC 2308 §5).
fn negative_ttl(message: &Message) -> Option<Duration> {
    message.authorities.iter().find_map(|record| {
        let RData::SOA(soa) = &record.data else {
            return None;
        };
        Some(Duration::from_secs(record.ttl.min(soa.minimum).into()))
    })
}

/// RFC 1035 §4.1.1.
const HEADER_LEN: usize = 12;

/// `RESOLV_EDNS_BUFFER_SIZE` of glibc, which avoids fragments.
const EDNS_PAYLOAD_LEN: u16 = 1200;

/// Maximum number of aliases that are followed within one answer.
const MAX_ALIASES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::A;
    use proptest::prelude::*;

    fn question() -> DnsQuestion {
        DnsQuestion {
            id: 7,
            name: Name::from_ascii("app.test.").unwrap(),
            kind: RecordType::A,
        }
    }

    /// A response with the address 10.0.0.1, which is at its end.
    fn response() -> Vec<u8> {
        let question = question();
        let mut message = Message::new(7, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(question.name.clone(), question.kind));
        message.add_answer(Record::from_rdata(
            question.name,
            60,
            RData::A(A::new(10, 0, 0, 1)),
        ));
        message.to_vec().unwrap()
    }

    #[test]
    fn record_without_data_is_an_error_of_the_server() {
        let bytes = response();
        let Response::Final(Answer::Records(records)) = question().decode(&bytes) else {
            panic!("it has one record");
        };
        assert_eq!(records.data, [RData::A(A::new(10, 0, 0, 1))]);
        let end = bytes.len() - 6;
        // RDLENGTH is 0.
        let empty = [&bytes[..end], &[0, 0]].concat();
        let decoded = question().decode(&empty);
        assert!(
            matches!(decoded, Response::Failed(ResponseCode::FormErr)),
            "{decoded:?}"
        );
    }

    proptest! {
        #[test]
        fn every_record_of_a_changed_response_has_an_address(
            at in 0..100_usize, bytes in proptest::collection::vec(any::<u8>(), 0..4), cut in 0..60_usize,
        ) {
            let mut message = response();
            for (offset, byte) in bytes.into_iter().enumerate() {
                if let Some(changed) = message.get_mut(at + offset) {
                    *changed = byte;
                }
            }
            message.truncate(message.len().saturating_sub(cut / 10));
            if let Response::Final(Answer::Records(records)) = question().decode(&message) {
                prop_assert!(!records.data.is_empty());
                prop_assert!(records.data.iter().all(|data| data.ip_addr().is_some()));
            }
        }
    }
}
