//! Warns of settings that are valid, but probably do not do what was meant. `lockgate check` prints them, and a start
//! and a reload log them; a warning changes neither the exit code nor what `lockgate run` does.

use crate::config::{
    Diagnostic,
    check::{
        CheckContext,
        path::{self, Prefixes},
        proxy_variable::ignored_proxy_variable,
        shadowed,
        unused::unused,
    },
    diagnostic::Location,
    parse::SourceMap,
    schema::{
        Config,
        route::{ClientCert, Only, Route},
    },
    values::{
        address::AdminAddress,
        network::Cidr,
        pattern::{HostPattern, OriginPattern, PathPattern},
    },
};
use std::{env, net::IpAddr};

/// Returns every warning in the whole configuration.
pub(crate) fn warnings(config: &Config, source_map: &SourceMap) -> Vec<Diagnostic> {
    let mut context = CheckContext {
        config,
        source_map,
        diagnostics: Vec::new(),
    };
    server(&mut context);
    let prefixes = Prefixes::of(&config.routes);
    for route in &config.routes {
        warn_route(&route.value, route.at, &mut context);
        path::route(&route.value, route.at, &prefixes, &mut context);
    }
    shadowed::routes(&mut context);
    unused(&mut context);
    context.diagnostics
}

/// Returns the warnings that depend on the environment of this command. That of the service may be another one.
pub(crate) fn environment_warnings(config: &Config, source_map: &SourceMap) -> Vec<Diagnostic> {
    let mut context = CheckContext {
        config,
        source_map,
        diagnostics: Vec::new(),
    };
    acme(&mut context);
    context.diagnostics
}

/// Warns of a proxy that the environment names; `run` logs the same warning.
fn acme(context: &mut CheckContext<'_>) {
    if let Some(acme) = &context.config.acme
        && let Some(variable) = ignored_proxy_variable(acme, |name| env::var(name).ok())
    {
        context.add(
            context.in_section("acme", "directory"),
            format!("{variable} is set, but Lockgate connects to the ACME CA directly"),
            "allow connections to the CA on port 443, or add its host to NO_PROXY if they are allowed",
        );
    }
}

fn server(context: &mut CheckContext<'_>) {
    let server = &context.config.server;
    // That of a backend is an error; this one can be replaced by a flag.
    if let AdminAddress::Unix(path) = &server.admin.value
        && path.as_os_str().len() > MAX_SOCKET_PATH_LEN
    {
        let length = path.as_os_str().len();
        context.add(
            server.admin.at,
            format!("the path of server.admin has {length} bytes, and the kernel accepts {MAX_SOCKET_PATH_LEN}"),
            "use a shorter path, such as \"unix:/run/lockgate/admin.sock\"",
        );
    }
    let token = server.admin_token.expose();
    if (1..MIN_TOKEN_LEN).contains(&token.len()) {
        context.add(
            context.in_section("server", "admin_token"),
            format!("server.admin_token is shorter than {MIN_TOKEN_LEN} bytes"),
            "every user of this machine can try tokens offline: generate one with `openssl rand -hex 32`",
        );
    }
    for network in &server.trusted_proxies {
        if is_internet(network) {
            context.add(
                context.in_section("server", "trusted_proxies"),
                format!("server.trusted_proxies has {network}: every client can claim any address"),
                "name only the addresses of the proxies in front of Lockgate, such as \"10.0.0.0/8\"",
            );
        }
    }
}

fn warn_route(route: &Route, at: Option<Location>, context: &mut CheckContext<'_>) {
    let name = &route.name.value;
    if let PathPattern::Regex(regex) = &route.path {
        let at = context.in_table(at, "path");
        if !is_anchored(regex.as_str()) {
            context.add(
                at,
                format!("`~ {regex}` matches anywhere in a path, because it does not begin with ^"),
                "begin it with ^, as in \"~ ^/room/[0-9]+$\"; or with ^.* if it may match anywhere",
            );
        }
        if let Some(escape) = escape_in(regex.as_str()) {
            context.add(
                at,
                format!("`~ {regex}` has {escape}, but it is compared with the decoded path"),
                "write the character itself, such as @ instead of %40",
            );
        }
    }
    trailing_slash(route, at, context);
    if let Some(missing) = other_family(route) {
        context.add(
            context.in_table(at, "deny"),
            format!("deny of the route `{name}` refuses every client of one IP version, and none of the other"),
            format!("add \"{missing}\" to refuse every client"),
        );
    }
    let checks_origins = route.only != Only::Http || !route.token.from.is_empty();
    if route.hosts.contains(&HostPattern::Any)
        && route.origins.contains(&OriginPattern::SameHost)
        && checks_origins
        && !context.config.tls.dev_ca
    {
        context.add(
            context.in_table(at, "hosts"),
            format!("the route `{name}` accepts every host, so \"same-host\" in its origins accepts pages of every name that resolves to this server"),
            "name the hosts, as in hosts = [\"chat.example.com\"], or the pages, as in origins = [\"https://chat.example.com\"]",
        );
    }
    for origin in &route.origins {
        if let OriginPattern::Host {
            scheme: Some(scheme),
            host,
        } = origin
            && &**scheme == "http"
            && !is_loopback(host)
            && route.hosts.iter().any(|own| host_rank(own, host).is_some())
        {
            context.add(
                context.in_table(at, "origins"),
                format!("`{origin}` allows pages of the route's own host that were loaded without TLS, which anyone on the network can alter"),
                format!("write \"https://{host}\""),
            );
        }
    }
}

/// Warns if the path with a slash at its end has another route, without the guards of this one: most servers answer
/// both alike.
fn trailing_slash(route: &Route, at: Option<Location>, context: &mut CheckContext<'_>) {
    let PathPattern::Exact(path) = &route.path else {
        return;
    };
    if path.ends_with('/') || !is_guarded(route) {
        return;
    }
    let with_slash = format!("{path}/");
    let routes = &context.config.routes;
    let other = route.hosts.iter().find_map(|host| {
        let ranked = routes.iter().filter_map(|other| {
            let of_host = other
                .hosts
                .iter()
                .filter_map(|pattern| host_rank(pattern, host))
                .max()?;
            Some(((of_host, path_rank(&other.path, &with_slash)?), other))
        });
        // Of equal routes, the one written first wins.
        let winner = ranked.rev().max_by_key(|(rank, _)| *rank)?.1;
        (!has_same_guards(route, winner)).then_some(winner)
    });
    if let Some(other) = other {
        let (name, other) = (&route.name.value, &other.name.value);
        context.add(
            context.in_table(at, "path"),
            format!("the route `{name}` guards {path}, but {with_slash} belongs to the route `{other}`, which has other guards"),
            format!("write path = \"{path}/*\" to guard all below it too"),
        );
    }
}

fn is_guarded(route: &Route) -> bool {
    let allows = |covers: fn(&Cidr) -> bool| route.allow.iter().any(covers);
    let admits_all = route.deny.is_empty() && allows(is_all_v4) && allows(is_all_v6);
    !admits_all || route.client_cert == ClientCert::Require
}

fn has_same_guards(one: &Route, other: &Route) -> bool {
    one.deny == other.deny && one.allow == other.allow && one.client_cert == other.client_cert
}

/// Returns how specifically `pattern` matches every host of `host`; `None` if it does not.
fn host_rank(pattern: &HostPattern, host: &HostPattern) -> Option<usize> {
    match (pattern, host) {
        (HostPattern::Any, _) => Some(0),
        (HostPattern::Exact(one), HostPattern::Exact(other)) => {
            (one == other).then_some(usize::MAX)
        }
        (HostPattern::Under(suffix), HostPattern::Under(other)) if suffix == other => {
            Some(suffix.len())
        }
        (HostPattern::Under(suffix), HostPattern::Exact(below) | HostPattern::Under(below)) => {
            below
                .strip_suffix(&**suffix)
                .is_some_and(|labels| labels.ends_with('.'))
                .then_some(suffix.len())
        }
        (HostPattern::Exact(_) | HostPattern::Under(_), _) => None,
    }
}

/// Returns how specifically `pattern` matches `path`; `None` if it does not.
fn path_rank(pattern: &PathPattern, path: &str) -> Option<usize> {
    match pattern {
        PathPattern::Exact(exact) => (**exact == *path).then_some(usize::MAX),
        PathPattern::Regex(regex) => regex.is_match(path).then_some(usize::MAX - 1),
        PathPattern::Prefix(prefix) => path
            .strip_prefix(&**prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            .then_some(prefix.len()),
    }
}

/// Returns the network that is missing in `deny`, if it has all addresses of the other IP version.
fn other_family(route: &Route) -> Option<&'static str> {
    let denies = |covers: fn(&Cidr) -> bool| route.deny.iter().any(covers);
    let allows = |is_family: fn(&Cidr) -> bool| route.allow.iter().any(is_family);
    match (denies(is_all_v4), denies(is_all_v6)) {
        (true, false) if allows(is_v6) => Some("::/0"),
        (false, true) if allows(|network| !is_v6(network)) => Some("0.0.0.0/0"),
        _ => None,
    }
}

fn is_v6(network: &Cidr) -> bool {
    network.0.addr().is_ipv6()
}

fn is_all_v4(network: &Cidr) -> bool {
    network.0.prefix_len() == 0 && !is_v6(network)
}

fn is_all_v6(network: &Cidr) -> bool {
    network.0.prefix_len() == 0 && is_v6(network)
}

/// Returns whether a network has half of all addresses, or, of IPv6, all that are assigned (2000::/3).
fn is_internet(network: &Cidr) -> bool {
    network.0.prefix_len() <= if is_v6(network) { 3 } else { 1 }
}

fn is_loopback(host: &HostPattern) -> bool {
    match host {
        HostPattern::Exact(host) => {
            &**host == "localhost"
                || host.ends_with(".localhost")
                || host
                    .parse::<IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
        HostPattern::Under(suffix) => &**suffix == "localhost",
        HostPattern::Any => false,
    }
}

/// Returns whether an expression matches only from the beginning of a path: each of its alternatives begins with `^`
/// or `\A`, perhaps within groups.
fn is_anchored(expression: &str) -> bool {
    alternatives(expression).into_iter().all(|alternative| {
        if alternative.starts_with('^') || alternative.starts_with("\\A") {
            return true;
        }
        let Some(group) = alternative.strip_prefix('(') else {
            return false;
        };
        let Some(end) = closing(group) else {
            return false;
        };
        let (inner, rest) = (&group[..end], &group[end + 1..]);
        // A group that may be left out anchors nothing.
        if rest.starts_with(['?', '*', '{']) {
            return false;
        }
        match inner.strip_prefix('?') {
            // Flags such as (?i) apply to what follows.
            Some(flags) if !flags.contains([':', '>']) => is_anchored(rest),
            Some(flags) => flags
                .find([':', '>'])
                .is_some_and(|at| is_anchored(&flags[at + 1..])),
            None => is_anchored(inner),
        }
    })
}

/// Splits an expression at each `|` outside of groups and classes.
fn alternatives(expression: &str) -> Vec<&str> {
    let (mut list, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, char) in syntax(expression) {
        match char {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => {
                list.push(&expression[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    list.push(&expression[start..]);
    list
}

/// Returns where the group ends whose content `text` begins with.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    syntax(text).find_map(|(at, char)| {
        match char {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

/// Returns the characters of an expression that are neither escaped nor in a class.
fn syntax(expression: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut escaped, mut in_class) = (false, 0_usize);
    expression.char_indices().filter(move |(_, char)| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        match char {
            '\\' => escaped = true,
            '[' => in_class += 1,
            ']' => in_class = in_class.saturating_sub(1),
            _ => return in_class == 0,
        }
        false
    })
}

/// Returns the first `%XX` in an expression.
fn escape_in(expression: &str) -> Option<&str> {
    expression.match_indices('%').find_map(|(at, _)| {
        let escape = expression.get(at..at + 3)?;
        escape[1..]
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit())
            .then_some(escape)
    })
}

/// The length of `sun_path` in Linux without its final zero (unix(7)).
const MAX_SOCKET_PATH_LEN: usize = 107;

/// 128 bits, if every byte were random.
const MIN_TOKEN_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expression_is_anchored_if_each_alternative_is() {
        for anchored in [
            "^/a",
            "\\A/a",
            "^/a|^/b",
            "^(/a|/b)$",
            "(^/a|^/b)",
            "(?i)^/a",
            "(?:^/a)",
            "(?P<x>^/a)",
            "^/[|]x",
            "^/\\|/b",
        ] {
            assert!(is_anchored(anchored), "{anchored}");
        }
        for loose in [
            "/a", "^/a|/b", "(^/a|/b)", "(^/a)?/b", "(?i)/a", "\\^/a", "[^/]a", "\\.php$", "",
        ] {
            assert!(!is_anchored(loose), "{loose}");
        }
    }

    #[test]
    fn first_escape_is_found() {
        assert_eq!(escape_in("^/100%/%4/%c3%A9"), Some("%c3"));
        assert_eq!(escape_in("^/100%/é%"), None);
    }
}
