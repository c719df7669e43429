//! A signed cookie that names a backend.

use aws_lc_rs::{hmac, rand::SystemRandom};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};

use crate::upstream::balance::stable_hash;

/// Signs cookies so that clients cannot forge them. The key lasts as long as the process: after a restart clients get
/// new cookies, and possibly another backend.
#[derive(Debug)]
pub(in crate::upstream) struct CookieSigner {
    name: String,
    key: hmac::Key,
}

// === impl CookieSigner ===

impl CookieSigner {
    pub(super) fn new(pool: &str) -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        CookieSigner {
            // One name per pool, because several pools may share a host. The prefix keeps other hosts of the domain
            // from setting the cookie (RFC 6265bis §4.1.3.2).
            name: format!("__Host-lockgate-{:016x}", stable_hash(pool.bytes())),
            key: key.expect("the kernel's random source answers once the system is up"),
        }
    }

    pub(super) fn write(&self, id_hash: u64) -> HeaderValue {
        let id_hash = id_hash.to_be_bytes();
        let tag = hmac::sign(&self.key, &id_hash);
        let value = URL_SAFE_NO_PAD.encode([&id_hash, tag.as_ref()].concat());
        let name = &self.name;
        let cookie = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax");
        HeaderValue::try_from(cookie).expect("the cookie is visible ASCII")
    }

    /// Returns the value of a cookie that this process has signed; `None` if the signature does not match.
    pub(super) fn read(&self, headers: &HeaderMap) -> Option<u64> {
        // HTTP/2 may send cookies one by one (RFC 9113 §8.2.3).
        let lines = headers.get_all(header::COOKIE).into_iter();
        let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        pairs.find_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(self.name.as_bytes())?;
            self.open(value.strip_prefix(b"=")?)
        })
    }

    fn open(&self, value: &[u8]) -> Option<u64> {
        let mut bytes = [0; 40];
        let length = URL_SAFE_NO_PAD.decode_slice(value, &mut bytes).ok()?;
        let (id_hash, tag) = bytes[..length].split_first_chunk::<8>()?;
        hmac::verify(&self.key, id_hash, tag).ok()?;
        Some(u64::from_be_bytes(*id_hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
