//! Warns of paths and hosts that are valid and match less than they seem to: notations of other software, a final
//! slash, hosts that no client names.

use crate::config::{
    check::CheckContext,
    diagnostic::{Located, Location},
    schema::{
        pool::{Check, Pool},
        route::Route,
    },
    values::{
        path_notation::quoted,
        pattern::{HostPattern, PathPattern},
    },
};
use std::{collections::HashSet, net::IpAddr};

/// The hosts and the prefix of every route whose path is `/prefix/*`.
pub(crate) struct Prefixes<'a>(HashSet<(&'a HostPattern, &'a str)>);

// === impl Prefixes ===

impl<'a> Prefixes<'a> {
    pub(crate) fn of(routes: &'a [Located<Route>]) -> Self {
        let of_route = |route: &'a Located<Route>| {
            let prefix = match &route.path {
                PathPattern::Prefix(prefix) => Some(&**prefix),
                PathPattern::Exact(_) | PathPattern::Regex(_) => None,
            };
            let hosts = route.hosts.iter();
            hosts.filter_map(move |host| Some((host, prefix?)))
        };
        Prefixes(routes.iter().flat_map(of_route).collect())
    }

    fn contains(&self, route: &Route, prefix: &str) -> bool {
        let mut hosts = route.hosts.iter();
        hosts.any(|host| self.0.contains(&(host, prefix)))
    }
}

/// Warns of the path and the hosts of the route at `at`.
pub(crate) fn route(
    route: &Route,
    at: Option<Location>,
    prefixes: &Prefixes<'_>,
    context: &mut CheckContext<'_>,
) {
    let path_at = context.in_table(at, "path");
    let text = match &route.path {
        PathPattern::Exact(path) => path.to_string(),
        PathPattern::Prefix(prefix) => format!("{prefix}/*"),
        PathPattern::Regex(_) => String::from("~ "),
    };
    if let Some(foreign) = PathPattern::foreign(&text) {
        context.add(
            path_at,
            format!(
                "`{text}` matches only this literal path: `{}` is not a pattern",
                foreign.part
            ),
            foreign.hint(),
        );
    } else if let PathPattern::Exact(path) = &route.path
        && let Some(bare) = path.strip_suffix('/')
        && !prefixes.contains(route, bare)
    {
        exact_folder(path, bare, path_at, context);
    }
    for host in &route.hosts {
        if let HostPattern::Exact(name) = host
            && is_wildcard_elsewhere(name)
        {
            context.add(
                context.in_table(at, "hosts"),
                format!("`{host}` matches only requests for a host of this name"),
                "write hosts = [\"*\"] for any host",
            );
        }
    }
}

/// Warns of a path with a final slash, which is exact here and a prefix in nginx.
fn exact_folder(path: &str, bare: &str, at: Option<Location>, context: &mut CheckContext<'_>) {
    let others = match bare {
        "" => "/ws".to_owned(),
        bare => format!("{bare}, and not {path}room"),
    };
    let literal = bare.replace('.', "[.]");
    context.add(
        at,
        format!("`{path}` matches only exactly {path}: not {others}"),
        format!(
            "write path = \"{bare}/*\" for all of them, or path = {} to keep it exact",
            quoted(&format!("~ ^{literal}/$"))
        ),
    );
}

/// Warns of a health check that requests a path with a parameter.
pub(crate) fn health(name: &str, pool: &Located<Pool>, context: &mut CheckContext<'_>) {
    let health = &pool.health;
    let path = health.path.to_string();
    let is_sent = matches!(health.check, Check::Websocket | Check::Http);
    if !is_sent || !path.contains('{') {
        return;
    }
    let at = context.in_table(health.at, "path");
    let example = path.split('{').next().unwrap_or_default();
    context.add(
        at,
        format!("pools.{name}.health.path = \"{path}\" is requested literally"),
        format!("name a path that exists, such as path = \"{example}1\""),
    );
}

/// Returns whether other software means any host by this name: `_` (nginx) and unspecified addresses.
fn is_wildcard_elsewhere(name: &str) -> bool {
    let address = name.parse::<IpAddr>();
    name == "_" || address.is_ok_and(|address| address.is_unspecified())
}
