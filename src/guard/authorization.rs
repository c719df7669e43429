//! What the guards of a route receive for a request, and what they decide about it.

use crate::{
    guard::{password_checks::PasswordChecks, recheck::SessionRecheck},
    lifecycle::tasks::Tasks,
    net::resolver::Resolver,
    registry::identity::SessionIdentity,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::{net::IpAddr, sync::Arc};

/// What the guards know about a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuthRequest<'a> {
    pub(crate) method: &'a Method,
    /// "https", or "http" on a cleartext listener.
    pub(crate) scheme: &'static str,
    /// The host as the client sent it, with its port.
    pub(crate) host: &'a str,
    /// The path and query as the client sent them.
    pub(crate) target: &'a str,
    /// The address of the client.
    pub(crate) client: IpAddr,
    /// Whether the client opens a WebSocket.
    pub(crate) is_handshake: bool,
    /// The headers as the client sent them.
    pub(crate) headers: &'a HeaderMap,
    /// The token that the route has moved into a header, or that of `Authorization: Bearer`.
    pub(crate) token: BearerToken<'a>,
}

/// The token of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BearerToken<'a> {
    /// The request has none.
    Absent,
    /// The request has one, or the same one twice.
    Present(&'a str),
    /// The request has two different ones, or one with characters that no token has.
    Ambiguous,
}

/// What the guards need to ask other services and to verify passwords.
#[derive(Debug, Clone)]
pub(crate) struct AuthServices {
    pub(crate) tasks: Tasks,
    pub(crate) resolver: Resolver,
    /// The limits on password checks, which all guards share and which stay after a reload.
    pub(crate) passwords: Arc<PasswordChecks>,
}

/// What the guards have decided about a request that they admit.
#[derive(Debug, Default)]
pub(crate) struct Authorized {
    /// Who the client is.
    pub(crate) identity: Option<Box<SessionIdentity>>,
    /// Headers of the client that the backend must not receive, in any spelling.
    pub(crate) removed: Vec<HeaderName>,
    /// Headers that the backend receives.
    pub(crate) added: Vec<(HeaderName, HeaderValue)>,
    /// Headers that the response to the client has in addition.
    pub(crate) response_headers: Vec<(HeaderName, HeaderValue)>,
    /// How the session is checked again while it is open.
    pub(crate) recheck: Option<Box<SessionRecheck>>,
}

// === impl AuthServices ===

impl AuthServices {
    pub(crate) fn new(tasks: Tasks, resolver: Resolver) -> AuthServices {
        AuthServices {
            tasks,
            resolver,
            passwords: Arc::default(),
        }
    }
}

// === impl Authorized ===

impl Authorized {
    /// Adds what a guard knows about the client: the subject of the first guard that names one counts, and the time
    /// limit of the guard that has one.
    pub(crate) fn identify(&mut self, identity: SessionIdentity) {
        match &mut self.identity {
            Some(first) => first.complete(identity),
            None => self.identity = Some(Box::new(identity)),
        }
    }

    /// Applies the changes to the headers for the backend. A client's header in another spelling, such as `X_User` for
    /// `X-User`, is removed, too: servers read both as one variable.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        remove_spellings(headers, &self.removed);
        for (name, value) in &self.added {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// Removes every header whose name is one of `names` if `_` is read as `-`.
pub(crate) fn remove_spellings(headers: &mut HeaderMap, names: &[HeaderName]) {
    if names.is_empty() {
        return;
    }
    let is_one = |name: &HeaderName| {
        names.contains(name)
            || name.as_str().contains('_') && {
                let spelling = name.as_str().replace('_', "-");
                names.iter().any(|one| one.as_str() == spelling)
            }
    };
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_one(name))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_headers_are_removed_in_every_spelling_and_other_headers_stay() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-user",
            "x_user",
            "x-user-id",
            "X-USER-ROLE",
            "x_user-role",
            "x-other",
            "x_other",
        ] {
            let name: HeaderName = name.to_ascii_lowercase().parse().unwrap();
            headers.append(name.clone(), HeaderValue::from_static("forged"));
            headers.append(name, HeaderValue::from_static("again"));
        }
        let name = |text| HeaderName::from_static(text);
        let authorized = Authorized {
            removed: vec![name("x-user"), name("x-user-role")],
            added: vec![(name("x-user"), HeaderValue::from_static("anna"))],
            ..Authorized::default()
        };
        authorized.apply(&mut headers);
        let mut left: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "x-other=again",
                "x-other=forged",
                "x-user-id=again",
                "x-user-id=forged",
                "x-user=anna",
                "x_other=again",
                "x_other=forged",
            ]
        );
    }
}
