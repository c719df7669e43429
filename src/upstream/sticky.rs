//! Affinity: the same backend for the same client as long as it exists, by Lockgate's cookie or by the `sid` that
//! Socket.IO assigns in its first response and expects in every request.

use crate::{
    config,
    net::subnet::SubnetKey,
    proto::{cookie, query},
    upstream::balance_key::{Affinity, stable_hash},
};
use aws_lc_rs::{hmac, rand::SystemRandom};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How a pool recognises a client's backend.
#[derive(Debug)]
pub(crate) enum StickyStrategy {
    Off,
    Cookie(Arc<CookieSigner>),
    Socketio(Arc<SidTable>),
}

/// Signs cookies that name a backend, so that clients cannot forge them. The key lasts as long as the process: after a
/// restart clients get new cookies, and possibly another backend.
#[derive(Debug)]
pub(crate) struct CookieSigner {
    name: String,
    key: hmac::Key,
}

/// The backend of each `sid` (the Engine.IO protocol, "Handshake"). A bounded table in which every entry is young or
/// old. When the table, or the share of one client, is full, the old entries in it are discarded, and the young ones,
/// which were used since the last time, become old. So a client that opens many sessions displaces only its own.
#[derive(Debug, Default)]
pub(crate) struct SidTable(Mutex<Sids>);

#[derive(Debug, Default)]
struct Sids {
    entries: HashMap<Box<str>, SidEntry>,
    clients: HashMap<SubnetKey, ClientSids>,
    /// The number of young entries of all clients.
    young: usize,
}

#[derive(Debug)]
struct SidEntry {
    id_hash: u64,
    client: SubnetKey,
    /// The entry is young while this is the epoch of its client.
    epoch: u64,
}

/// The entries of one client.
#[derive(Debug, Default)]
struct ClientSids {
    epoch: u64,
    young: usize,
}

/// Reads the `sid` from the first bytes of a response to Socket.IO's first request.
#[derive(Debug)]
pub struct SidCapture {
    sids: Arc<SidTable>,
    id_hash: u64,
    client: SubnetKey,
}

// === impl StickyStrategy ===

impl StickyStrategy {
    /// Creates the strategy of a pool. Cookies are signed with a key of this process.
    pub(crate) fn new(config: config::Sticky, pool: &str) -> Self {
        match config {
            config::Sticky::Off => StickyStrategy::Off,
            config::Sticky::Cookie => StickyStrategy::Cookie(Arc::new(CookieSigner::new(pool))),
            config::Sticky::Socketio => StickyStrategy::Socketio(Arc::default()),
        }
    }

    /// Takes over the state of `before` if it is of the same kind.
    pub(crate) fn after(self, before: &StickyStrategy) -> Self {
        match (self, before) {
            (StickyStrategy::Cookie(_), StickyStrategy::Cookie(signer)) => {
                StickyStrategy::Cookie(signer.clone())
            }
            (StickyStrategy::Socketio(_), StickyStrategy::Socketio(sids)) => {
                StickyStrategy::Socketio(sids.clone())
            }
            (fresh, _) => fresh,
        }
    }

    /// Returns the backend that a request is bound to.
    pub(crate) fn bound(&self, headers: &HeaderMap, query: Option<&str>) -> Option<Affinity> {
        match self {
            StickyStrategy::Off => None,
            StickyStrategy::Cookie(signer) => signer.read(headers).map(|id_hash| Affinity {
                id_hash,
                only: false,
            }),
            StickyStrategy::Socketio(sids) => {
                // No parameter of Engine.IO needs an escape.
                let sid = query::value(query?, "sid")?;
                sids.backend(sid).map(|id_hash| Affinity {
                    id_hash,
                    only: true,
                })
            }
        }
    }

    /// Returns the `Set-Cookie` that binds a client to the backend with this `id_hash`.
    pub(crate) fn cookie(&self, id_hash: u64) -> Option<HeaderValue> {
        match self {
            StickyStrategy::Cookie(signer) => Some(signer.write(id_hash)),
            StickyStrategy::Off | StickyStrategy::Socketio(_) => None,
        }
    }

    /// Returns a capture if the response to a request of `client` with this query, from the backend with `id_hash`,
    /// contains a `sid`.
    pub(crate) fn sid_capture(
        &self,
        query: Option<&str>,
        id_hash: u64,
        client: IpAddr,
    ) -> Option<SidCapture> {
        let StickyStrategy::Socketio(sids) = self else {
            return None;
        };
        let query = query?;
        let is_first = query::value(query, "transport") == Some("polling")
            && query::value(query, "sid").is_none();
        is_first.then(|| SidCapture {
            sids: sids.clone(),
            id_hash,
            client: SubnetKey::of(client),
        })
    }
}

// === impl SidCapture ===

impl SidCapture {
    /// Takes the first bytes of the response.
    pub fn capture(self, first: &[u8]) {
        if let Some(sid) = parse_sid(first) {
            self.sids.bind(sid, self.id_hash, self.client);
        }
    }
}

// === impl CookieSigner ===

impl CookieSigner {
    /// Creates the signer with a random key.
    pub(crate) fn new(pool: &str) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        CookieSigner {
            // One name per pool, because several pools may share a host. The prefix keeps other hosts of the domain
            // from setting the cookie (RFC 6265bis §4.1.3.2).
            name: format!("__Host-lockgate-{:016x}", stable_hash(pool.bytes())),
            key: key.expect("the kernel's random source answers once the system is up"),
        }
    }

    /// Returns the `Set-Cookie` value that binds a client to the backend.
    pub(crate) fn write(&self, id_hash: u64) -> HeaderValue {
        let id_hash = id_hash.to_be_bytes();
        let tag = hmac::sign(&self.key, &id_hash);
        let value = URL_SAFE_NO_PAD.encode([&id_hash, tag.as_ref()].concat());
        let name = &self.name;
        let cookie = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax");
        HeaderValue::try_from(cookie).expect("the cookie is visible ASCII")
    }

    /// Returns the value of a cookie that this process has signed; `None` if the signature does not match.
    pub(crate) fn read(&self, headers: &HeaderMap) -> Option<u64> {
        cookie::values(headers, &self.name).find_map(|value| self.open(value))
    }

    fn open(&self, value: &[u8]) -> Option<u64> {
        let mut bytes = [0; 40];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        let (id_hash, tag) = bytes[..length].split_first_chunk::<8>()?;
        hmac::verify(&self.key, id_hash, tag).ok()?;
        Some(u64::from_be_bytes(*id_hash))
    }
}

// === impl SidTable ===

impl SidTable {
    /// Binds a Socket.IO `sid`, which was assigned to `client`, to the backend.
    pub(crate) fn bind(&self, sid: &str, id_hash: u64, client: SubnetKey) {
        self.lock().insert(sid.into(), id_hash, client);
    }

    /// Returns the backend of a Socket.IO `sid`, which then stays in the table for longer.
    pub(crate) fn backend(&self, sid: &str) -> Option<u64> {
        self.lock().find(sid)
    }

    fn lock(&self) -> MutexGuard<'_, Sids> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Sids ===

impl Sids {
    fn insert(&mut self, sid: Box<str>, id_hash: u64, client: SubnetKey) {
        if self.young >= MAX_SIDS / 2 {
            self.age_all();
        }
        let share = self.clients.entry(client).or_default();
        if share.young >= MAX_YOUNG_SIDS {
            let epoch = share.epoch;
            self.entries
                .retain(|_, entry| entry.client != client || entry.epoch == epoch);
            self.young -= share.young;
            share.age();
        }
        share.young += 1;
        self.young += 1;
        let epoch = share.epoch;
        self.entries.insert(
            sid,
            SidEntry {
                id_hash,
                client,
                epoch,
            },
        );
    }

    /// Returns the backend of `sid`, whose entry becomes young.
    fn find(&mut self, sid: &str) -> Option<u64> {
        let entry = self.entries.get_mut(sid)?;
        let share = self.clients.entry(entry.client).or_default();
        if entry.epoch != share.epoch {
            entry.epoch = share.epoch;
            share.young += 1;
            self.young += 1;
        }
        Some(entry.id_hash)
    }

    /// Discards the old entries of all clients; the young ones become old.
    fn age_all(&mut self) {
        let clients = &mut self.clients;
        self.entries.retain(|_, entry| {
            let share = clients.get(&entry.client);
            share.is_some_and(|share| share.epoch == entry.epoch)
        });
        clients.retain(|_, share| share.young > 0);
        clients.values_mut().for_each(ClientSids::age);
        self.young = 0;
    }
}

// === impl ClientSids ===

impl ClientSids {
    fn age(&mut self) {
        self.epoch += 1;
        self.young = 0;
    }
}

/// Parses the `sid` of an open packet: `0{"sid":"…"`; before version 4 its length precedes it.
fn parse_sid(first: &[u8]) -> Option<&str> {
    let first = &first[..first.len().min(SCAN_LEN)];
    let key = first
        .windows(SID_KEY.len())
        .position(|window| window == SID_KEY)?;
    let rest = &first[key + SID_KEY.len()..];
    let end = rest.iter().position(|byte| *byte == b'"')?;
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let sid = &rest[..end];
    let fits = (1..=MAX_SID_LEN).contains(&sid.len()) && sid.iter().all(is_plain);
    fits.then(|| std::str::from_utf8(sid).ok())?
}

const SID_KEY: &[u8] = b"\"sid\":\"";

/// Twenty letters in practice.
const MAX_SID_LEN: usize = 64;

/// The `sid` is at the beginning.
const SCAN_LEN: usize = 256;

/// The maximum number of entries, of which half may be young: some 10 MiB.
const MAX_SIDS: usize = 64 * 1024;

/// The maximum number of young entries of one client (IPv6: of one /64), which has as many old ones.
const MAX_YOUNG_SIDS: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use http::header;

    fn cookies(lines: &[&str]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|line| (header::COOKIE, line.parse().unwrap()));
        lines.collect()
    }

    fn written(signer: &CookieSigner, id_hash: u64) -> String {
        let line = signer.write(id_hash);
        let (pair, attributes) = line.to_str().unwrap().split_once("; ").unwrap();
        assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Lax");
        pair.to_owned()
    }

    #[test]
    fn signed_cookie_is_read_alone_and_among_others() {
        let signer = CookieSigner::new("chat");
        let pair = written(&signer, 7);
        for lines in [
            vec![&*pair],
            vec!["a=1", &pair],
            vec![&*format!("a=1; {pair};b=2")],
        ] {
            assert_eq!(signer.read(&cookies(&lines)), Some(7), "{lines:?}");
        }
        assert_ne!(
            written(&CookieSigner::new("other"), 7).split_once('='),
            pair.split_once('=')
        );
    }

    #[test]
    fn modified_cookie_is_ignored() {
        let signer = CookieSigner::new("chat");
        let pair = written(&signer, 7);
        let (name, value) = pair.split_once('=').unwrap();
        for index in 0..value.len() {
            let mut other = value.as_bytes().to_vec();
            other[index] = if other[index] == b'A' { b'Q' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(
                signer.read(&cookies(&[&format!("{name}={other}")])),
                None,
                "{index}"
            );
        }
        for other in ["", "=", "====", &"A".repeat(54), &"A".repeat(9999), "ä"] {
            assert_eq!(signer.open(other.as_bytes()), None, "{other}");
        }
        assert_eq!(CookieSigner::new("chat").read(&cookies(&[&pair])), None);
    }

    #[test]
    fn sid_is_parsed_from_open_packets_of_both_versions_only() {
        for (first, sid) in [
            (
                r#"0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"]}"#,
                Some("lv_VI97HAXpY6yYWAAAC"),
            ),
            (r#"97:0{"sid":"a-1","pingInterval":25000}2:40"#, Some("a-1")),
            (r#"0{"sid":""}"#, None),
            (r#"0{"sid":"a b"}"#, None),
            (r#"0{"sid":"cut"#, None),
            ("4hello", None),
            ("", None),
        ] {
            assert_eq!(parse_sid(first.as_bytes()), sid, "{first}");
        }
        let long = format!(r#"0{{"sid":"{}"}}"#, "a".repeat(65));
        assert_eq!(parse_sid(long.as_bytes()), None);
    }

    fn client(n: usize) -> SubnetKey {
        let [a, b, c, d] = (n as u32).to_be_bytes();
        SubnetKey::of(IpAddr::from([10 + a, b, c, d]))
    }

    #[test]
    fn table_is_bounded_and_discards_unused_sids() {
        let sids = SidTable::default();
        sids.bind("used", 1, client(0));
        sids.bind("unused", 2, client(0));
        for n in 0..4 * MAX_SIDS {
            sids.bind(&n.to_string(), 3, client(n / 2));
            if n % 1000 == 0 {
                assert_eq!(sids.backend("used"), Some(1));
            }
        }
        assert_eq!(sids.backend("unused"), None);
        let sids = sids.lock();
        assert!(sids.entries.len() <= MAX_SIDS && sids.clients.len() <= MAX_SIDS + 1);
    }

    #[test]
    fn client_with_many_sids_displaces_only_its_own() {
        let sids = SidTable::default();
        for n in 0..1000 {
            sids.bind(&format!("other-{n}"), 1, client(1 + n));
        }
        for n in 0..4 * MAX_SIDS {
            sids.bind(&n.to_string(), 2, client(0));
        }
        for n in 0..1000 {
            assert_eq!(sids.backend(&format!("other-{n}")), Some(1), "{n}");
        }
        assert_eq!(sids.backend(&(4 * MAX_SIDS - 1).to_string()), Some(2));
        assert_eq!(sids.backend("0"), None);
        assert!(sids.lock().entries.len() <= 1000 + 2 * MAX_YOUNG_SIDS);
    }
}
