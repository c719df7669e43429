//! Authentication that belongs to a connection instead of a request: NTLM, Negotiate and Kerberos (RFC 4559 §6).
//!
//! A server that uses it answers every further request on the connection as the same user. Only names of schemes are
//! compared, without the grammar of challenges: a wrong match costs a connection that could have been shared, a missed
//! one would show one client's data to another.

use crate::proto::handshake;
use ::http::{HeaderMap, HeaderName, header};

/// Returns whether a request has credentials that apply to its connection.
pub(crate) fn has_credentials(headers: &HeaderMap) -> bool {
    names_scheme(headers, &header::AUTHORIZATION)
        || names_scheme(headers, &header::PROXY_AUTHORIZATION)
}

/// Returns whether a response shows that its backend authenticates connections.
pub(crate) fn is_required_by(headers: &HeaderMap) -> bool {
    names_scheme(headers, &header::WWW_AUTHENTICATE)
        || names_scheme(headers, &header::PROXY_AUTHENTICATE)
        || handshake::has_token(headers, &PERSISTENT_AUTH, "true")
        || handshake::has_token(headers, &PROXY_SUPPORT, "session-based-authentication")
}

/// Returns whether an element of a field begins with the name of a scheme, in any case, also in a repeated field and
/// inside quotes.
fn names_scheme(headers: &HeaderMap, name: &HeaderName) -> bool {
    handshake::tokens(headers, name).any(|element| {
        let end = element
            .iter()
            .position(|byte| !byte.is_ascii_alphanumeric());
        let scheme = element.get(..end.unwrap_or(element.len()));
        scheme.is_some_and(|scheme| {
            SCHEMES
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()))
        })
    })
}

/// The registered and the known private names; Windows also sends `Nego2`.
const SCHEMES: [&str; 4] = ["ntlm", "negotiate", "nego2", "kerberos"];

/// Sent by IIS when the connection stays authenticated.
const PERSISTENT_AUTH: HeaderName = HeaderName::from_static("persistent-auth");

/// RFC 4559 §6.
const PROXY_SUPPORT: HeaderName = HeaderName::from_static("proxy-support");

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name;
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn credentials_of_a_connection_are_recognised() {
        for (value, expected) in [
            ("NTLM TlRMTVNTUAABAAAA", true),
            ("ntlm", true),
            ("Negotiate YIIabc==", true),
            ("NEGOTIATE\tYII", true),
            ("Kerberos x", true),
            ("Nego2 x", true),
            ("Basic TlRMTTo=", false),
            ("Bearer ntlm", false),
            ("NTLMv3 x", false),
        ] {
            let headers = headers(&[("authorization", value)]);
            assert_eq!(has_credentials(&headers), expected, "{value}");
        }
        let repeated = [("authorization", "Basic eA=="), ("authorization", "NTLM x")];
        assert!(has_credentials(&headers(&repeated)));
        assert!(!has_credentials(&headers(&[])));
    }

    #[test]
    fn responses_of_authenticated_connections_are_recognised() {
        let one = |name, value| headers(&[(name, value)]);
        for (lines, expected) in [
            (one("www-authenticate", "NTLM"), true),
            (one("www-authenticate", "negotiate oYG2"), true),
            (one("www-authenticate", "Basic realm=\"a\", nTLM"), true),
            (
                one("www-authenticate", "Basic realm=\"a,b\",Negotiate, NTLM"),
                true,
            ),
            (
                one("www-authenticate", "Basic realm=\"unterminated, NTLM"),
                true,
            ),
            (one("proxy-authenticate", "NTLM"), true),
            (one("persistent-auth", "True"), true),
            (one("persistent-auth", "false"), false),
            (one("proxy-support", "Session-Based-Authentication"), true),
            (one("www-authenticate", "Basic realm=\"NTLM\""), false),
            (
                one("www-authenticate", "Digest realm=\"x\", nonce=\"y\""),
                false,
            ),
            (one("authentication-info", "NTLM"), false),
        ] {
            assert_eq!(is_required_by(&lines), expected, "{lines:?}");
        }
        let repeated = [
            ("www-authenticate", "Basic realm=\"x\""),
            ("www-authenticate", "NTLM"),
        ];
        assert!(is_required_by(&headers(&repeated)));
    }
}
