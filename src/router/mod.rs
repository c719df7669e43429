//! Selects the route of a request: a pure function of host, path and handshake headers, with an ordered summary and no
//! hidden precedence. `find` reads only its arguments, allocates nothing and logs nothing.
//!
//! This module also has the forms in which hosts (`host`) and paths (`path`) are compared, the removal of a prefix from
//! the forwarded path (`rewrite`), what each Python server expects of a proxy (`framework`), and the reasons why a
//! route did not win (`verdict`). Access checks are in `guard`.
//!
//! # Which route wins
//!
//! 1. Candidates are the routes whose hosts, path, headers and subprotocols all match.
//! 2. A candidate that accepts this kind of request (`only`) beats one that does not. One that does not is still a
//!    match if there is no other: that is why `only = "websocket"` answers a plain request with 426 instead of 404.
//! 3. Then the greatest [`Summary`] wins: host, then path, then the number of conditions.
//! 4. Then the one written first.

mod candidates;
mod framework;
mod host;
mod path;
mod rewrite;
mod rule;
mod verdict;

use std::{collections::HashMap, iter};

use ::http::HeaderMap;

pub use framework::{FrameworkPreset, TRUSTED_BY_BACKENDS, preset};
pub use host::{Authority, BadAuthority};
pub use path::{BadPath, NormalPath};
pub use rewrite::strip_prefix;
pub use rule::{HostRank, PathRank, Rule, Summary};
pub use verdict::Verdict;

use crate::config::HostPattern;
use candidates::Candidates;

/// All routes of a gateway, indexed by host and then by path, so that the cost of a lookup does not depend on
/// the number of routes. Regular expressions cannot be indexed and are tried one after the other.
///
/// `T` is what the gateway attaches to a route (pool, limits, guards); the router does not depend on it.
#[derive(Debug)]
pub struct Router<T> {
    /// In the order written. The maps below hold indices into it, in the same order.
    routes: Vec<(Rule, T)>,
    exact: HashMap<Box<str>, Candidates>,
    /// By the suffix below which a wildcard matches: `*.example.com` is under `example.com`.
    under: HashMap<Box<str>, Candidates>,
    any: Candidates,
}

/// The parts of a request that rules are compared with, in normal form.
#[derive(Debug, Clone, Copy)]
pub struct RouteQuery<'a> {
    /// [`Authority::host`]: lower case, without port, final dot and brackets.
    pub host: &'a str,
    /// The path that will also be forwarded.
    pub path: &'a NormalPath<'a>,
    /// All header fields of the request.
    pub headers: &'a HeaderMap,
    /// Whether this is a WebSocket handshake.
    pub websocket: bool,
    /// The tokens of `Sec-WebSocket-Protocol`, in any order; empty for a plain request.
    pub subprotocols: &'a [&'a str],
}

/// The route that won, and the reason.
#[derive(Debug)]
pub struct Match<'a, T> {
    /// What the gateway attached to the route.
    pub route: &'a T,
    /// The rule that matched.
    pub rule: &'a Rule,
    /// The summary by which it won against the others.
    pub summary: Summary,
    /// Whether the route accepts this kind of request. `false`: its `only` names the other kind and no other route
    /// matched; a plain request is then answered with 426, and a WebSocket handshake with 404.
    pub fits: bool,
}

// === impl Router ===

impl<T> Router<T> {
    /// Indexes the routes by host. Their order decides ties.
    pub fn new(routes: impl IntoIterator<Item = (Rule, T)>) -> Router<T> {
        let mut router = Router {
            routes: routes.into_iter().collect(),
            exact: HashMap::new(),
            under: HashMap::new(),
            any: Candidates::default(),
        };
        for (index, (rule, _)) in router.routes.iter().enumerate() {
            for host in rule.hosts() {
                match host {
                    HostPattern::Exact(host) => router.exact.entry(host.clone()).or_default(),
                    HostPattern::Under(suffix) => router.under.entry(suffix.clone()).or_default(),
                    HostPattern::Any => &mut router.any,
                }
                .push(index);
            }
        }
        let Router {
            routes,
            exact,
            under,
            any,
        } = &mut router;
        for candidates in exact.values_mut().chain(under.values_mut()).chain([any]) {
            candidates.build_index(|index| &routes[index].0);
        }
        router
    }

    /// Returns the route for a request; `None` if no rule matches (404).
    pub fn find(&self, query: &RouteQuery<'_>) -> Option<Match<'_, T>> {
        let mut best: Option<Match<'_, T>> = None;
        for (host, candidates) in self.by_host(query.host) {
            for part in candidates.for_path(query.path.as_str()) {
                for (rule, route) in part.iter().map(|&index| &self.routes[index]) {
                    let Some(summary) = rule.matches(host, query) else {
                        continue;
                    };
                    let fits = rule.accepts_kind(query.websocket);
                    // Strictly greater: of two equal routes the one written first wins.
                    if best
                        .as_ref()
                        .is_none_or(|best| (fits, summary) > (best.fits, best.summary))
                    {
                        best = Some(Match {
                            route,
                            rule,
                            summary,
                            fits,
                        });
                    }
                }
                // Host and path come first in a summary, so the less specific candidates that follow cannot win against
                // this one.
                if best.as_ref().is_some_and(|best| best.fits) {
                    return best;
                }
            }
        }
        best
    }

    /// Returns every route in the order written, for status and the start-up log.
    pub fn rules(&self) -> impl Iterator<Item = (&Rule, &T)> {
        self.routes.iter().map(|(rule, route)| (rule, route))
    }

    /// Returns the routes that this host may reach, the most specific pattern first.
    fn by_host<'a>(&'a self, host: &'a str) -> impl Iterator<Item = (HostRank, &'a Candidates)> {
        let exact = self.exact.get(host).map(|list| (HostRank::Exact, list));
        let under = iter::successors(parent(host), |suffix| parent(suffix)).filter_map(|suffix| {
            let list = self.under.get(suffix)?;
            Some((HostRank::Under(suffix.len()), list))
        });
        exact
            .into_iter()
            .chain(under)
            .chain([(HostRank::Any, &self.any)])
    }
}

/// Returns a host without its first label.
fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests;
