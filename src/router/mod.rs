//! Selects the route of a request: a pure function of host, path and handshake headers, with an ordered summary and no
//! hidden precedence. `find` reads only its arguments, allocates nothing and logs nothing.
//!
//! This file has the lookup, `rule` the conditions of one route. The other files have the form in which hosts are
//! compared (`host`; that of paths is in `proto::path`), what each Python server expects of a proxy (`framework`), and
//! the reasons why a route did not win (`explain`). Access checks are in `guard`.
//!
//! # Which route wins
//!
//! 1. Candidates are the routes whose hosts, path, headers and subprotocols all match.
//! 2. A candidate that accepts this kind of request (`only`) beats one that does not. One that does not is still a
//!    match if there is no other: that is why `only = "websocket"` answers a plain request with 426 instead of 404.
//! 3. Then the greatest [`Summary`] wins: host, then path, then the number of conditions.
//! 4. Then the one written first.

pub(crate) mod explain;
pub(crate) mod framework;
pub(crate) mod host;
pub(crate) mod rule;

use crate::{
    config::{HostPattern, PathPattern},
    router::rule::{HostRank, RouteQuery, Rule, Summary},
};
use std::{collections::HashMap, iter};

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

/// The routes of one host pattern, as indices in the order written; indexed by path if there are many.
#[derive(Debug, Default)]
struct Candidates {
    all: Vec<usize>,
    /// `None` with at most [`LINEAR_SCAN_MAX`] routes, where a linear scan is as fast.
    by_path: Option<Box<ByPath>>,
}

#[derive(Debug, Default)]
struct ByPath {
    exact: HashMap<Box<str>, Vec<usize>>,
    regex: Vec<usize>,
    prefix: HashMap<Box<str>, Vec<usize>>,
    /// The length of the longest prefix. Longer parts of a path are not looked up.
    max_prefix_len: usize,
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
            for part in candidates.for_path(query.path.decoded()) {
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

// === impl Candidates ===

impl Candidates {
    /// Appends the route with this index.
    fn push(&mut self, index: usize) {
        self.all.push(index);
    }

    /// Builds the index. Must be called after the last route has been added.
    fn build_index<'a>(&mut self, rule: impl Fn(usize) -> &'a Rule) {
        if self.all.len() <= LINEAR_SCAN_MAX {
            return;
        }
        let mut by_path = ByPath::default();
        for &index in &self.all {
            match rule(index).path() {
                PathPattern::Exact(path) => by_path.exact.entry(path.clone()).or_default(),
                PathPattern::Regex(_) => &mut by_path.regex,
                PathPattern::Prefix(prefix) => {
                    by_path.max_prefix_len = by_path.max_prefix_len.max(prefix.len());
                    by_path.prefix.entry(prefix.clone()).or_default()
                }
            }
            .push(index);
        }
        self.by_path = Some(Box::new(by_path));
    }

    /// Returns the indices of all routes.
    pub(crate) fn all(&self) -> &[usize] {
        &self.all
    }

    /// Returns the routes that a path may match, in parts: routes in a later part match the path less specifically, or
    /// not at all.
    fn for_path<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a [usize]> {
        let unindexed = self.by_path.is_none().then_some(&self.all);
        let by_path = self
            .by_path
            .iter()
            .flat_map(|by_path| by_path.for_path(path));
        unindexed.into_iter().chain(by_path).map(Vec::as_slice)
    }
}

// === impl ByPath ===

impl ByPath {
    fn for_path<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Vec<usize>> {
        // A prefix ends where a segment ends, so each such part of the path is looked up, the longest first.
        let ends = path.rmatch_indices('/').map(|(at, _)| at);
        let prefixes = iter::once(path.len())
            .chain(ends)
            .filter(|end| *end <= self.max_prefix_len)
            .filter_map(|end| self.prefix.get(&path[..end]));
        let exact = self.exact.get(path);
        exact.into_iter().chain([&self.regex]).chain(prefixes)
    }
}

/// The maximum number of routes that are scanned one by one.
const LINEAR_SCAN_MAX: usize = 8;

#[cfg(test)]
mod tests;
