//! Explains why a route won or lost: the same conditions as `find`, evaluated for every route.

use crate::router::{
    Match, Router,
    rule::{RouteQuery, Rule},
};
use std::fmt;

/// The result of one route for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The route wins.
    Wins,
    /// None of its hosts matches.
    Host,
    /// Its path does not match.
    Path,
    /// None of its subprotocols is offered.
    Subprotocol,
    /// This header is missing or has another value.
    Header(String),
    /// It accepts only the other kind of request.
    Only,
    /// It matches, but a more specific route does too.
    LessSpecific,
    /// It matches as specifically as the winner, which was written first.
    Later,
}

// === impl Router ===

impl<T> Router<T> {
    /// Returns every route in the order written, with its result.
    pub fn explain(&self, query: &RouteQuery<'_>) -> Vec<(&Rule, &T, Verdict)> {
        let winner = self.find(query);
        self.routes
            .iter()
            .enumerate()
            .map(|(index, (rule, route))| {
                (rule, route, self.verdict(index, query, winner.as_ref()))
            })
            .collect()
    }

    fn verdict(
        &self,
        index: usize,
        query: &RouteQuery<'_>,
        winner: Option<&Match<'_, T>>,
    ) -> Verdict {
        let rule = &self.routes[index].0;
        if let Some(winner) = winner.filter(|winner| std::ptr::eq(winner.rule, rule)) {
            return if winner.fits {
                Verdict::Wins
            } else {
                Verdict::Only
            };
        }
        let rank = self
            .by_host(query.host)
            .find(|(_, candidates)| candidates.all().contains(&index));
        let Some((host, _)) = rank else {
            return Verdict::Host;
        };
        if let Some(verdict) = rule.unmet_condition(query) {
            return verdict;
        }
        match winner {
            _ if !rule.accepts_kind(query.websocket) => Verdict::Only,
            Some(winner) if Some(winner.summary) == rule.matches(host, query) => Verdict::Later,
            _ => Verdict::LessSpecific,
        }
    }
}

// === impl Rule ===

impl Rule {
    /// Returns the first condition besides the host that the request does not meet.
    fn unmet_condition(&self, query: &RouteQuery<'_>) -> Option<Verdict> {
        if self.match_path(query.path.decoded()).is_none() {
            return Some(Verdict::Path);
        }
        if !self.offers(query.subprotocols) {
            return Some(Verdict::Subprotocol);
        }
        let missing = self.missing_header(query.headers)?;
        Some(Verdict::Header(missing.to_owned()))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Wins => "wins",
            Verdict::Host => "another host",
            Verdict::Path => "another path",
            Verdict::Subprotocol => "none of its subprotocols is offered",
            Verdict::Header(name) => {
                return write!(f, "the header `{name}` is missing or has another value");
            }
            Verdict::Only => "takes only the other kind of request (`only`)",
            Verdict::LessSpecific => "matches, but a more specific route does too",
            Verdict::Later => "matches as well, but was written later",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::proto::path::NormalPath;
    use ::http::HeaderMap;

    #[test]
    fn every_losing_route_has_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lockgate.toml");
        let route = |name: &str, rest: &str| {
            format!("[[routes]]\nname = \"{name}\"\nto = \"ws://127.0.0.1:1\"\n{rest}\n")
        };
        let text = [
            route("host", "hosts = [\"b.test\"]"),
            route("path", "hosts = [\"a.test\"]\npath = \"/other\""),
            route("sub", "hosts = [\"a.test\"]\nsubprotocols = [\"x\"]"),
            route("head", "hosts = [\"a.test\"]\nheaders = { x-v = \"2\" }"),
            route(
                "only",
                "hosts = [\"a.test\"]\npath = \"/ws\"\nonly = \"http\"",
            ),
            route("wide", "hosts = [\"*\"]"),
            route("wins", "hosts = [\"a.test\"]\npath = \"/ws/*\""),
            route("late", "hosts = [\"a.test\"]\npath = \"/ws/*\""),
        ]
        .concat();
        std::fs::write(&file, format!("[tls]\ndev_ca = true\n{text}")).unwrap();
        let config = Config::load(&file).unwrap();
        let rules = config
            .routes
            .iter()
            .map(|route| (Rule::from(&route.value), route.name.value.clone()));
        let router = Router::new(rules);
        let path = NormalPath::parse("/ws").unwrap();
        let headers = HeaderMap::new();
        let query = RouteQuery {
            host: "a.test",
            path: &path,
            headers: &headers,
            websocket: true,
            subprotocols: &[],
        };
        let verdicts: Vec<_> = router
            .explain(&query)
            .into_iter()
            .map(|(_, name, verdict)| (name.as_str(), verdict))
            .collect();
        let expected = [
            ("host", Verdict::Host),
            ("path", Verdict::Path),
            ("sub", Verdict::Subprotocol),
            ("head", Verdict::Header("x-v".into())),
            ("only", Verdict::Only),
            ("wide", Verdict::LessSpecific),
            ("wins", Verdict::Wins),
            ("late", Verdict::Later),
        ];
        assert_eq!(verdicts, expected);
    }
}
