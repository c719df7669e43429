//! Warns of routes that can never be chosen, because another route wins for every request that they match.
//!
//! The comparison follows the order of `router`: kind of request, host, path, number of conditions, order in the file.
//! It is sound and not complete: it compares one other route for each host, and reads only the literal beginning of
//! regular expressions.

use crate::{
    config::{
        check::CheckContext,
        diagnostic::{Located, Location},
        schema::route::{Only, Route},
        values::pattern::{HostPattern, PathPattern},
    },
    proto::path,
};
use std::collections::HashMap;

/// A route in the form in which it is compared.
struct Candidate<'a> {
    /// The position in the file.
    index: usize,
    route: &'a Route,
    at: Option<Location>,
    path: ComparedPath,
}

/// A path pattern in the form in which requests are compared with it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum ComparedPath {
    Exact(Box<str>),
    Prefix(Box<str>),
    Regex(Box<str>),
}

/// The candidates of one host.
#[derive(Default)]
struct OfHost<'a> {
    by_path: HashMap<ComparedPath, Vec<&'a Candidate<'a>>>,
    /// Those with a regular expression that matches every path with a literal beginning, which is attached.
    whole: Vec<(String, &'a Candidate<'a>)>,
}

/// Adds a warning for each route that can never be chosen, or never for one of its hosts.
pub(crate) fn routes(context: &mut CheckContext<'_>) {
    let routes = &context.config.routes;
    let candidates: Vec<Candidate<'_>> = routes.iter().enumerate().map(Candidate::of).collect();
    let mut by_host: HashMap<&HostPattern, OfHost<'_>> = HashMap::new();
    for candidate in &candidates {
        for host in &candidate.route.hosts {
            by_host.entry(host).or_default().add(candidate);
        }
    }
    for candidate in &candidates {
        let winner = |host: &HostPattern| by_host.get(host)?.winner_over(candidate);
        let hosts = candidate.route.hosts.iter();
        let lost: Vec<_> = hosts
            .filter_map(|host| Some((host, winner(host)?)))
            .collect();
        let Some((host, other)) = lost.first() else {
            if candidate.route.only == Only::Http && !candidate.route.subprotocols.is_empty() {
                never_fits(candidate, context);
            }
            continue;
        };
        let for_host = if lost.len() == candidate.route.hosts.len() {
            String::new()
        } else {
            format!(" for the host `{host}`")
        };
        warn(candidate, other, &for_host, context);
    }
}

fn warn(
    candidate: &Candidate<'_>,
    other: &Candidate<'_>,
    for_host: &str,
    context: &mut CheckContext<'_>,
) {
    let (name, path) = (&candidate.route.name.value, &candidate.route.path);
    let winner = format!(
        "the route `{}`{}",
        other.route.name.value,
        place(other.at, context)
    );
    let (why, hint) = if other.path == candidate.path {
        let why = format!("{winner} has the same path and is chosen instead");
        let hint = match (other.route.hosts == candidate.route.hosts, path) {
            (true, _) => "remove one of them, or give it another path, such as path = \"/ws/*\"",
            (false, _) => {
                "remove the host from one of them, or give it another path, such as path = \"/ws/*\""
            }
        };
        (why, hint.to_owned())
    } else {
        let why = format!(
            "{winner} has a regular expression that matches all of its paths, and those precede prefixes"
        );
        let general = match &other.route.path {
            PathPattern::Regex(regex) => literal_start(regex.as_str()).unwrap_or_default(),
            PathPattern::Exact(_) | PathPattern::Prefix(_) => String::new(),
        };
        let prefix = general.trim_end_matches('/');
        let hint = format!(
            "write path = \"{prefix}/*\" in `{}`: the longest prefix wins",
            other.route.name.value
        );
        (why, hint)
    };
    context.add(
        context.in_table(candidate.at, "path"),
        format!("the route `{name}` is never chosen{for_host}: {why}"),
        hint,
    );
}

/// Warns of a route whose subprotocols match only handshakes, which it then refuses.
fn never_fits(candidate: &Candidate<'_>, context: &mut CheckContext<'_>) {
    context.add(
        context.in_table(candidate.at, "only"),
        format!(
            "the route `{}` is never chosen: only WebSockets have subprotocols, and only = \"http\" refuses them",
            candidate.route.name.value
        ),
        "write only = \"websocket\", or leave subprotocols out",
    );
}

/// Returns the file and line of a location, as a part of a message.
fn place(at: Option<Location>, context: &CheckContext<'_>) -> String {
    let found = at.and_then(|at| {
        let source = context.config.sources.get(at.source)?;
        let line = source.text.get(..at.start)?.matches('\n').count() + 1;
        Some(format!(" ({}:{line})", source.path.display()))
    });
    found.unwrap_or_default()
}

// === impl Candidate ===

impl<'a> Candidate<'a> {
    fn of((index, route): (usize, &'a Located<Route>)) -> Self {
        let comparable = |path: &str| path::comparable(path).unwrap_or_else(|_| path.into());
        Candidate {
            index,
            route: &route.value,
            at: route.at,
            path: match &route.path {
                PathPattern::Exact(path) => ComparedPath::Exact(comparable(path)),
                PathPattern::Prefix(prefix) => ComparedPath::Prefix(comparable(prefix)),
                PathPattern::Regex(regex) => ComparedPath::Regex(regex.as_str().into()),
            },
        }
    }

    /// Returns whether this route wins against `other` for each request that both match and `other` accepts, if it
    /// matches every path of `other`, with a path of the same rank or, with `is_more_specific`, of a higher one.
    fn wins_over(&self, other: &Candidate<'_>, is_more_specific: bool) -> bool {
        if self.index == other.index {
            return false;
        }
        let (own, theirs) = (self.route, other.route);
        let is_accepted = |only: Only, websocket: bool| match only {
            Only::Any => true,
            Only::Websocket => websocket,
            Only::Http => !websocket,
        };
        let accepts = [true, false].into_iter().all(|websocket| {
            // Plain requests have no subprotocols.
            let is_matched = websocket || theirs.subprotocols.is_empty();
            let is_theirs = is_matched && is_accepted(theirs.only, websocket);
            !is_theirs || is_accepted(own.only, websocket)
        });
        let has_protocol = |protocol: &String| own.subprotocols.contains(protocol);
        let subprotocols = own.subprotocols.is_empty()
            || !theirs.subprotocols.is_empty() && theirs.subprotocols.iter().all(has_protocol);
        let header = |(name, value): (&String, &String)| {
            let mut their_headers = theirs.headers.iter();
            their_headers.any(|(their, its)| their.eq_ignore_ascii_case(name) && its == value)
        };
        let conditions =
            |route: &Route| route.headers.len() + usize::from(!route.subprotocols.is_empty());
        let ranks =
            is_more_specific || (conditions(own), other.index) > (conditions(theirs), self.index);
        accepts && subprotocols && own.headers.iter().all(header) && ranks
    }
}

// === impl OfHost ===

impl<'a> OfHost<'a> {
    fn add(&mut self, candidate: &'a Candidate<'a>) {
        self.by_path
            .entry(candidate.path.clone())
            .or_default()
            .push(candidate);
        if let PathPattern::Regex(regex) = &candidate.route.path
            && let Some(start) = literal_start(regex.as_str())
            && self.whole.len() < MAX_COMPARED
        {
            self.whole.push((start, candidate));
        }
    }

    /// Returns a route that wins for every request of this host that `candidate` matches.
    fn winner_over(&self, candidate: &Candidate<'_>) -> Option<&'a Candidate<'a>> {
        let same = self.by_path.get(&candidate.path).into_iter().flatten();
        let mut same = same.take(MAX_COMPARED);
        if let Some(other) = same.find(|other| other.wins_over(candidate, false)) {
            return Some(other);
        }
        let is_prefix = match &candidate.path {
            ComparedPath::Exact(_) => return None,
            ComparedPath::Prefix(_) => true,
            ComparedPath::Regex(_) => false,
        };
        let own_start = match &candidate.path {
            // The path itself, without a slash, belongs to it.
            ComparedPath::Prefix(prefix) if prefix.is_empty() => "/".to_owned(),
            ComparedPath::Prefix(prefix) => prefix.to_string(),
            ComparedPath::Regex(expression) => leading_literal(expression)?,
            ComparedPath::Exact(_) => return None,
        };
        let mut whole = self.whole.iter();
        let found = whole.find(|(start, other)| {
            own_start.starts_with(start.as_str()) && other.wins_over(candidate, is_prefix)
        });
        found.map(|(_, other)| *other)
    }
}

/// Returns the literal beginning of an expression that matches every path with this beginning; `None` for any other.
fn literal_start(expression: &str) -> Option<String> {
    let (bare, is_anchored) = match expression.strip_prefix('^') {
        Some(bare) => (bare, true),
        None => (expression, false),
    };
    let bare = match bare.strip_suffix(".*$").or_else(|| bare.strip_suffix(".*")) {
        Some(bare) => bare,
        None if bare.ends_with('$') => return None,
        None => bare,
    };
    let literal = literal(bare)?;
    // Every path has a slash.
    if is_anchored || literal.is_empty() || literal == "/" {
        Some(literal)
    } else {
        None
    }
}

/// Returns the literal with which every match of an expression begins; "" if it may begin with anything.
fn leading_literal(expression: &str) -> Option<String> {
    let Some(bare) = expression
        .strip_prefix('^')
        .filter(|bare| !bare.contains('|'))
    else {
        return Some("/".to_owned());
    };
    let end = bare.find(is_syntax).unwrap_or(bare.len());
    let mut start = bare[..end].to_owned();
    // The character before a quantifier may be absent.
    if bare[end..].starts_with(['?', '*', '{']) {
        start.pop();
    }
    Some(start)
}

fn literal(text: &str) -> Option<String> {
    (!text.contains(is_syntax)).then(|| text.to_owned())
}

fn is_syntax(c: char) -> bool {
    r"\.+*?()|[]{}^$".contains(c)
}

/// The maximum number of routes with one host that a route is compared with.
const MAX_COMPARED: usize = 100;
