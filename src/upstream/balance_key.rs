//! The part of a request that selects its backend, as a number.

use crate::{
    config::HashKey,
    net::subnet::SubnetKey,
    proto::{cookie, query},
};
use http::HeaderMap;
use percent_encoding::percent_decode;
use std::net::IpAddr;

/// The hash of what `hash` names in a request, the same in every process and every version; and the affinity of the
/// request if the pool is sticky.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BalanceKey {
    number: u64,
    bound: Option<Affinity>,
}

/// The affinity of a request: a backend, by the `id_hash` of its member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub(crate) id_hash: u64,
    /// Whether no other backend can answer the request: it goes to this one even if that is draining.
    pub(crate) only: bool,
}

// === impl BalanceKey ===

impl BalanceKey {
    /// Computes the key of a request; from the client's address if the request lacks the named part.
    pub(crate) fn of(
        by: &HashKey,
        headers: &HeaderMap,
        path: &str,
        query: Option<&str>,
        client: IpAddr,
    ) -> Self {
        let found = match by {
            HashKey::Ip => None,
            HashKey::Path => Some(stable_hash(path.bytes())),
            HashKey::Header(name) => headers
                .get(name)
                .map(|value| stable_hash(value.as_bytes().iter().copied())),
            HashKey::Cookie(name) => {
                let mut values = cookie::values(headers, name);
                values
                    .next()
                    .map(|value| stable_hash(value.iter().copied()))
            }
            HashKey::Query(name) => query.and_then(|query| parameter(query, name)),
        };
        BalanceKey {
            number: found.unwrap_or_else(|| {
                let subnet = SubnetKey::of(client);
                stable_hash(subnet.octets().iter().copied())
            }),
            bound: None,
        }
    }

    /// Binds the request to a backend, or to none.
    pub(crate) fn bound_to(self, bound: Option<Affinity>) -> Self {
        BalanceKey { bound, ..self }
    }

    pub(crate) fn bound(self) -> Option<Affinity> {
        self.bound
    }

    pub(crate) fn number(self) -> u64 {
        self.number
    }
}

/// Returns the hash of a query parameter, decoded as forms encode it: `room=a%20b` equals `room=a+b`.
fn parameter(query: &str, name: &str) -> Option<u64> {
    let mut pairs = query::pairs(query);
    let pair = pairs.find(|pair| plain(pair.name).eq(name.bytes()))?;
    Some(stable_hash(plain(pair.value.unwrap_or_default())))
}

/// Decodes form encoding: a plus is a space, an escaped plus stays a plus.
fn plain(text: &str) -> impl Iterator<Item = u8> {
    let pieces = text.split('+').enumerate();
    pieces.flat_map(|(index, piece)| {
        let blank = (index > 0).then_some(b' ');
        blank.into_iter().chain(percent_decode(piece.as_bytes()))
    })
}

/// Returns the FNV-1a hash, followed by a mixing step, because the last bytes hardly affect its high bits.
pub(crate) fn stable_hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash)
}

/// Applies the finalizer of SplitMix64: every input bit affects every output bit.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(by: &str, headers: &[(&'static str, &str)], target: &str, client: &str) -> BalanceKey {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()));
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let client = client.parse().unwrap();
        BalanceKey::of(
            &by.parse().unwrap(),
            &HeaderMap::from_iter(headers),
            path,
            query,
            client,
        )
    }

    #[test]
    fn key_is_derived_from_the_named_part() {
        let of = |headers: &[_], target| key("cookie:sid", headers, target, "192.0.2.1");
        let a = of(&[("cookie", "x=1; sid=a")], "/");
        assert_eq!(a, of(&[("cookie", "sid=a;y=2")], "/x"));
        assert_ne!(a, of(&[("cookie", "sid=b")], "/"));
        // Neither a longer name with this suffix nor one with this prefix.
        let none = of(&[], "/");
        for other in ["xsid=a", "sidx=a", "sid"] {
            assert_eq!(none, of(&[("cookie", other)], "/"), "{other}");
        }
        let user = |name| key("header:x-user", &[("x-user", name)], "/", "192.0.2.1");
        assert_eq!(user("a"), user("a"));
        assert_ne!(user("a"), user("b"));
        let room = |target| key("query:room", &[], target, "192.0.2.1");
        assert_eq!(room("/?room=a%20b"), room("/x?y=1&room=a+b"));
        assert_ne!(room("/?room=a%2Bb"), room("/?room=a+b"));
        assert_eq!(room("/?rooms=a"), room("/?x=room"));
        let path = |target| key("path", &[], target, "192.0.2.1");
        assert_eq!(path("/a?x"), path("/a?y"));
        assert_ne!(path("/a"), path("/b"));
    }

    #[test]
    fn request_without_the_named_part_is_keyed_by_address() {
        let ip = |client| key("ip", &[], "/", client);
        for by in ["header:x-user", "cookie:sid", "query:room"] {
            assert_eq!(key(by, &[], "/", "192.0.2.1"), ip("192.0.2.1"), "{by}");
        }
        assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
    }

    #[test]
    fn stable_hash_never_changes() {
        // Other processes, also of other versions, must select the same backend.
        assert_eq!(
            stable_hash("ws://10.0.0.1:8765".bytes()),
            10_504_844_085_248_084_611
        );
    }
}
