//! The proof that the admin listener knows the admin token, so that a command does not send its token to another
//! program that listens on the port: `GET /auth?nonce=N` returns HMAC-SHA-256(token, context ‖ N) in hex, or "none" if
//! no token is configured. N is 32 to 128 hex digits; `CONTEXT` separates the proof from any other use of the token.

use crate::{
    admin::{
        query::{BadQuery, Query},
        response::AdminResponse,
    },
    config::Secret,
    net::random::random_bytes,
};
use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hyper::StatusCode;
use std::{fmt::Write, num::NonZeroU32};

/// The rate limit of proofs. Each costs one HMAC and needs no token.
#[derive(Debug)]
pub(crate) struct ProofLimiter(DefaultDirectRateLimiter);

/// A nonce of a command, in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProofNonce(String);

/// What a listener answers to `/auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProofResult {
    /// It knows the token.
    Verified,
    /// It has no token, and therefore requires none.
    NoToken,
    /// The answer proves nothing.
    Wrong,
}

// === impl ProofLimiter ===

impl Default for ProofLimiter {
    fn default() -> Self {
        ProofLimiter(RateLimiter::direct(Quota::per_second(PROOFS_PER_SECOND)))
    }
}

// === impl ProofNonce ===

impl ProofNonce {
    /// Returns a fresh, unpredictable nonce.
    pub(crate) fn random() -> Self {
        ProofNonce(hex(&random_bytes::<32>()))
    }

    fn parse(text: String) -> Option<Self> {
        let fits =
            (32..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then_some(ProofNonce(text))
    }

    /// Returns the path and query of the request for the proof.
    pub(crate) fn target(&self) -> String {
        format!("{AUTH}?nonce={}", self.0)
    }

    /// Verifies the text of an answer with status 200. The duration of the comparison reveals nothing about the token.
    pub(crate) fn verify(&self, token: &str, answer: &str) -> ProofResult {
        let answer = answer.trim_ascii_end();
        if answer == NO_TOKEN {
            return ProofResult::NoToken;
        }
        let proof = parse_hex(answer);
        let verified = proof.filter(|_| !token.is_empty()).is_some_and(|proof| {
            hmac::verify(&key(token), self.message().as_bytes(), &proof).is_ok()
        });
        if verified {
            ProofResult::Verified
        } else {
            ProofResult::Wrong
        }
    }

    fn sign(&self, token: &Secret) -> String {
        match token.expose() {
            "" => NO_TOKEN.to_owned(),
            token => hex(hmac::sign(&key(token), self.message().as_bytes()).as_ref()),
        }
    }

    fn message(&self) -> String {
        format!("{CONTEXT}{}", self.0)
    }
}

/// Answers `GET /auth`.
pub(crate) fn prove(token: &Secret, limiter: &ProofLimiter, query: &str) -> AdminResponse {
    let nonce = match parse_query(query) {
        Ok(nonce) => nonce,
        Err(why) => return AdminResponse::bad(&why.to_string()),
    };
    if limiter.0.check().is_err() {
        return AdminResponse::line(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests for a proof: try again in a second",
        );
    }
    AdminResponse::line(StatusCode::OK, &nonce.sign(token))
}

fn parse_query(query: &str) -> Result<ProofNonce, BadQuery> {
    let mut query = Query::parse(query)?;
    let nonce = query.take("nonce").and_then(ProofNonce::parse);
    query.finish()?;
    nonce.ok_or(BadQuery::Nonce)
}

fn key(token: &str) -> Key {
    Key::new(HMAC_SHA256, token.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = pairs.iter().map(|[high, low]| {
        let byte = digit(*high)? * 16 + digit(*low)?;
        u8::try_from(byte).ok()
    });
    bytes.collect()
}

/// The path of the proof.
pub(crate) const AUTH: &str = "/auth";

/// Precedes the nonce in the signed message.
const CONTEXT: &str = "lockgate admin auth v1\n";

/// The answer of a listener without a token.
const NO_TOKEN: &str = "none";

/// More than a person or a script needs, and less than 1 ms of CPU time per second.
const PROOFS_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("not zero");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_depends_on_token_and_nonce() {
        let token: Secret = "0123456789abcdef".parse().unwrap();
        let nonce = ProofNonce::random();
        let proof = nonce.sign(&token);
        assert_eq!(nonce.verify(token.expose(), &proof), ProofResult::Verified);
        assert_eq!(
            nonce.verify(token.expose(), &format!("{proof}\n")),
            ProofResult::Verified
        );
        let other = ProofNonce::random();
        assert_ne!(nonce, other);
        for (nonce, token, answer) in [
            (&other, token.expose(), &*proof),
            (&nonce, "0123456789abcdeg", &proof),
            (&nonce, "", &proof),
            (&nonce, token.expose(), &proof[2..]),
            (&nonce, token.expose(), &proof[1..]),
            (&nonce, token.expose(), ""),
            (&nonce, token.expose(), "ok"),
        ] {
            assert_eq!(nonce.verify(token, answer), ProofResult::Wrong, "{answer}");
        }
        let none = nonce.sign(&Secret::default());
        assert_eq!(nonce.verify(token.expose(), &none), ProofResult::NoToken);
    }

    /// Computed with `openssl dgst -sha256 -hmac`.
    #[test]
    fn proof_is_hmac_sha256_over_context_and_nonce() {
        let nonce = ProofNonce::parse("00112233445566778899aabbccddeeff".to_owned()).unwrap();
        let token: Secret = "0123456789abcdef".parse().unwrap();
        assert_eq!(nonce.sign(&token), EXPECTED_PROOF);
    }

    const EXPECTED_PROOF: &str = "5d78c97385d9a854720bb2a137c5393c95fb51581daa66f2195e74b03a8098a4";
}
