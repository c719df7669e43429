//! The rule of one route: whether it matches, and how specific the match is.

use crate::{
    config::{HostPattern, Only, PathPattern, Route},
    proto::path::{self, NormalPath},
    router::host::Authority,
};
use ::http::HeaderMap;
use std::fmt;

/// The conditions of one route. `Display` is its one-line summary, as in `chat.example.com /ws/* subprotocol=chat`.
#[derive(Debug, Clone)]
pub struct Rule {
    hosts: Box<[HostPattern]>,
    path: PathPattern,
    /// Subprotocols, one of which must be offered; empty: no condition.
    subprotocols: Box<[String]>,
    /// Headers that must all be present with this value.
    headers: Box<[(String, String)]>,
    /// The kind of requests that the route accepts. It does not affect whether the rule matches.
    pub only: Only,
}

/// The parts of a request that rules are compared with, in normal form.
#[derive(Debug, Clone, Copy)]
pub struct RouteQuery<'a> {
    /// The host as `Authority::parse` returns it: lower case, without port, final dot and brackets.
    pub host: &'a str,
    /// The path; rules are compared with its decoded form.
    pub path: &'a NormalPath<'a>,
    /// All header fields of the request.
    pub headers: &'a HeaderMap,
    /// Whether this is a WebSocket handshake.
    pub websocket: bool,
    /// The tokens of `Sec-WebSocket-Protocol`, in any order; empty for a plain request.
    pub subprotocols: &'a [&'a str],
}

/// How specific a match is. The derived order is the precedence: a greater summary wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Summary {
    /// The pattern that matched the host, the most specific one if there are several.
    pub host: HostRank,
    /// The pattern that matched the path.
    pub path: PathRank,
    /// Number of header conditions, plus one for a condition on subprotocols: further alternatives make a rule
    /// less specific.
    pub conditions: usize,
}

/// The rank of a host pattern, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostRank {
    /// `*`
    Any,
    /// `*.example.com`; the longer suffix wins.
    Under(usize),
    /// `chat.example.com`
    Exact,
}

/// The rank of a path pattern, ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathRank {
    /// `/ws/*`; the longer prefix wins.
    Prefix(usize),
    /// `~ ^/room/[0-9]+$`
    Regex,
    /// `/ws`
    Exact,
}

// === impl Rule ===

impl From<&Route> for Rule {
    /// Creates a rule with hosts and paths in the form in which requests are compared: `[::1]` becomes `::1`,
    /// `/%40me` becomes `/@me`.
    fn from(route: &Route) -> Rule {
        Rule {
            hosts: route.hosts.iter().map(comparable_host).collect(),
            path: comparable_path(&route.path),
            subprotocols: route.subprotocols.as_slice().into(),
            headers: route.headers.clone().into_iter().collect(),
            only: route.only,
        }
    }
}

impl Rule {
    pub(crate) fn hosts(&self) -> &[HostPattern] {
        &self.hosts
    }

    /// Returns whether the rule has this host, in the form of [`RouteQuery::host`].
    pub(crate) fn covers_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|pattern| match pattern {
            HostPattern::Any => true,
            HostPattern::Exact(exact) => **exact == *host,
            HostPattern::Under(suffix) => {
                let rest = host.strip_suffix(&**suffix);
                rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        })
    }

    pub(crate) fn path(&self) -> &PathPattern {
        &self.path
    }

    /// Returns whether the route accepts this kind of request.
    pub(crate) fn accepts_kind(&self, websocket: bool) -> bool {
        match self.only {
            Only::Any => true,
            Only::Websocket => websocket,
            Only::Http => !websocket,
        }
    }

    /// Returns the summary of the match if all conditions besides the host, which the caller has matched, are met.
    pub(crate) fn matches(&self, host: HostRank, query: &RouteQuery<'_>) -> Option<Summary> {
        let path = self.match_path(query.path.decoded())?;
        let met = self.offers(query.subprotocols) && self.missing_header(query.headers).is_none();
        met.then(|| Summary {
            host,
            path,
            conditions: self.headers.len() + usize::from(!self.subprotocols.is_empty()),
        })
    }

    /// Returns how the path pattern matches a decoded path; `None` if it does not.
    pub(crate) fn match_path(&self, path: &str) -> Option<PathRank> {
        match &self.path {
            PathPattern::Exact(exact) => (path == &**exact).then_some(PathRank::Exact),
            PathPattern::Regex(regex) => regex.is_match(path).then_some(PathRank::Regex),
            PathPattern::Prefix(prefix) => {
                let rest = path.strip_prefix(&**prefix)?;
                // A prefix ends where a segment ends: /ws/* matches /ws and /ws/x, never /wsx.
                (rest.is_empty() || rest.starts_with('/')).then_some(PathRank::Prefix(prefix.len()))
            }
        }
    }

    /// Returns the first header condition that is not met.
    pub(crate) fn missing_header(&self, headers: &HeaderMap) -> Option<&str> {
        let is_missing = |(name, value): &&(String, String)| {
            let mut values = headers.get_all(name.as_str()).iter();
            !values.any(|found| found.as_bytes() == value.as_bytes())
        };
        let (name, _) = self.headers.iter().find(is_missing)?;
        Some(name)
    }

    /// Returns whether `offered` has one of the subprotocols of the rule, or the rule has none. Names are
    /// case-sensitive, as the registered ones are (RFC 6455 §11.5).
    pub(crate) fn offers(&self, offered: &[&str]) -> bool {
        self.subprotocols.is_empty()
            || self
                .subprotocols
                .iter()
                .any(|protocol| offered.contains(&protocol.as_str()))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, host) in self.hosts.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match host {
                HostPattern::Any => f.write_str("*")?,
                HostPattern::Under(suffix) => write!(f, "*.{suffix}")?,
                HostPattern::Exact(host) => f.write_str(host)?,
            }
        }
        match &self.path {
            PathPattern::Exact(path) => write!(f, " {path}")?,
            PathPattern::Prefix(prefix) => write!(f, " {prefix}/*")?,
            PathPattern::Regex(regex) => write!(f, " ~ {regex}")?,
        }
        if !self.subprotocols.is_empty() {
            write!(f, " subprotocol={}", self.subprotocols.join("|"))?;
        }
        for (name, value) in &self.headers {
            write!(f, " {name}={value}")?;
        }
        match self.only {
            Only::Any => Ok(()),
            Only::Websocket => f.write_str(" only=websocket"),
            Only::Http => f.write_str(" only=http"),
        }
    }
}

fn comparable_host(pattern: &HostPattern) -> HostPattern {
    match pattern {
        HostPattern::Exact(host) => match Authority::parse(host) {
            Ok(authority) => HostPattern::Exact(authority.host.into()),
            // A bare IPv6 address is not an authority, but already in the form of an authority's host.
            Err(_) => HostPattern::Exact(host.clone()),
        },
        other => other.clone(),
    }
}

fn comparable_path(pattern: &PathPattern) -> PathPattern {
    // The prefix of "/*" is empty; a configuration has refused any other value that is not a path.
    let comparable = |path: &str| path::comparable(path).unwrap_or_else(|_| path.into());
    match pattern {
        PathPattern::Exact(path) => PathPattern::Exact(comparable(path)),
        PathPattern::Prefix(prefix) => PathPattern::Prefix(comparable(prefix)),
        PathPattern::Regex(regex) => PathPattern::Regex(regex.clone()),
    }
}
