//! Contradictions within routes: names, targets, conditions.

use crate::config::{
    check::{CheckContext, guard, session},
    diagnostic::Location,
    messages::suggest,
    schema::{
        route::{ClientCert, PathEncoding, Route, Token, UNNAMED},
        session::Session,
    },
    values::pattern::{HostPattern, PathPattern},
};
use percent_encoding::percent_decode_str;
use std::collections::HashSet;

/// Checks the names: a name identifies a route, so it is unique.
pub(crate) fn names(context: &mut CheckContext<'_>) {
    let mut taken = HashSet::new();
    let routes = &context.config.routes;
    for route in routes {
        let name = &route.name;
        let is_name = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if name.at.is_none() && context.source_map.may_contain(route.at, &["name"]) {
            // An invalid name was reported.
        } else if name.at.is_none() && name.value == UNNAMED && routes.len() > 1 {
            context.add(
                route.at,
                "a route without a name, where there are several",
                "add name = \"…\": it identifies the route in logs and reloads",
            );
        } else if !is_name {
            context.add(
                name.at,
                format!("`{}` is not a route's name", name.value),
                "use letters, digits, `-`, `_` and `.`",
            );
        } else if !taken.insert(name.as_str()) {
            context.add(
                name.at,
                format!("two routes are named `{}`", name.value),
                "give each a name of its own",
            );
        }
    }
}

/// Checks the route at `at`.
pub(crate) fn route(route: &Route, at: Option<Location>, context: &mut CheckContext<'_>) {
    let name = &route.name.value;
    if route.hosts.is_empty() && !context.source_map.may_contain(at, &["hosts"]) {
        context.add(
            context.in_table(at, "hosts"),
            format!("the route `{name}` has no hosts"),
            "hosts = [\"chat.example.com\"], or [\"*\"] for any",
        );
    }
    if route.hosts.len() > 1 && route.hosts.contains(&HostPattern::Any) {
        context.add(
            context.in_table(at, "hosts"),
            "hosts has \"*\" and others",
            "\"*\" alone takes every host",
        );
    }
    target(route, at, context);
    for subprotocol in route
        .subprotocols
        .iter()
        .filter(|subprotocol| !is_token(subprotocol))
    {
        context.add(
            context.in_table(at, "subprotocols"),
            format!("`{subprotocol}` is not a subprotocol"),
            "a subprotocol is a token such as \"graphql-transport-ws\" (RFC 6455 section 4.1)",
        );
    }
    for (header, value) in &route.headers {
        if header.parse::<http::HeaderName>().is_err()
            || value.parse::<http::HeaderValue>().is_err()
        {
            let message = format!("`{header} = {value:?}` is not a header");
            context.add(
                context.in_table(at, "headers"),
                message,
                "write it as headers = { x-version = \"2\" }",
            );
        }
    }
    let mut names = HashSet::new();
    for header in route.headers.keys() {
        if !names.insert(header.to_ascii_lowercase()) {
            context.add(
                context.in_table(at, "headers"),
                format!("`{header}` is named twice: headers are alike in any case"),
                "keep one of them",
            );
        }
    }
    if let Some(prefix) = &route.strip_prefix {
        strip_prefix(
            prefix,
            &route.path,
            context.in_table(at, "strip_prefix"),
            context,
        );
    }
    if route.strip_prefix.is_some() && route.path_encoding == PathEncoding::AsIs {
        context.add(
            context.in_table(at, "path_encoding"),
            "path_encoding = \"as-is\" with strip_prefix: a path that is changed is not forwarded as it is",
            "leave one of them out",
        );
    }
    token(&route.token, context.in_table(at, "token"), context);
    guard::of_route(route, at, context);
    if route.allow.is_empty() {
        let hint = "leave it out, or name networks such as \"10.0.0.0/8\"";
        context.add(
            context.in_table(at, "allow"),
            "allow = [] allows no client",
            hint,
        );
    }
    let tls = context.config.sections.get("tls").copied();
    if route.client_cert != ClientCert::Off
        && context.config.tls.client_ca.is_none()
        && !context.source_map.may_contain(tls, &["client_ca"])
        && !context.source_map.may_contain(None, &["tls"])
    {
        context.add(
            context.in_table(at, "client_cert"),
            "client_cert, but no CA is trusted for client certificates",
            "name it: client_ca = \"clients.pem\" in [tls]",
        );
    }
    if route.origins.is_empty() {
        let hint = "leave it out for \"same-host\", or list origins, or \"*\"";
        context.add(
            context.in_table(at, "origins"),
            "origins = [] allows no page",
            hint,
        );
    }
    let defaults = &context.config.session;
    let own = defaults.with(&route.session);
    if own != *defaults {
        // An inherited value is reported where it is written; whether Pings are sent follows only from both tables.
        let mut changed = Session::default().with(&route.session);
        if own.ping != defaults.ping {
            changed.ping = own.ping;
        }
        session(
            &format!("routes.{name}.session"),
            &changed,
            |context: &CheckContext<'_>, _: &str| context.in_table(at, "session"),
            context,
        );
    }
}

/// Checks that some path of the route begins with the prefix; otherwise it would never be stripped.
fn strip_prefix(
    prefix: &str,
    path: &PathPattern,
    at: Option<Location>,
    context: &mut CheckContext<'_>,
) {
    let is_plain = prefix
        .chars()
        .all(|c| !c.is_control() && !"?#*\\{}<>".contains(c));
    let bare = prefix.trim_end_matches('/');
    if !prefix.starts_with('/') || bare.is_empty() || !is_plain {
        return context.add(
            at,
            format!("`{prefix}` is not the beginning of a path"),
            "write it as strip_prefix = \"/ws\"",
        );
    }
    let fits = match path {
        PathPattern::Exact(path) => begins(path, bare),
        PathPattern::Prefix(path) => begins(path, bare) || begins(bare, path),
        PathPattern::Regex(_) => true,
    };
    if !fits {
        context.add(
            at,
            format!("no path that `{path}` matches begins with `{prefix}`"),
            format!("write path = \"{bare}/*\", or leave strip_prefix out"),
        );
    }
}

/// Returns whether `path` begins with `prefix`, by whole segments.
fn begins(path: &str, prefix: &str) -> bool {
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy();
    decoded(path)
        .strip_prefix(&*decoded(prefix))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn token(token: &Token, at: Option<Location>, context: &mut CheckContext<'_>) {
    let mut places = HashSet::new();
    for place in token.from.iter().filter(|place| !places.insert(*place)) {
        let message = format!("`{place}` is named twice in token.from");
        context.add(
            at,
            message,
            "keep one of them: the first that has a token counts",
        );
    }
    if token.from.is_empty() && token.to != Token::default().to {
        context.add(
            at,
            format!("token.to = \"{}\", but no source of a token", token.to),
            "add from = [\"subprotocol:bearer\"], or leave token out",
        );
    }
}

/// Checks that exactly one of `pool` and `to` is set and that the pool exists. A pool with errors counts as existing.
fn target(route: &Route, at: Option<Location>, context: &mut CheckContext<'_>) {
    let pools = &context.source_map.pools;
    match (&route.pool, &route.to) {
        (Some(_), Some(to)) => context.add(to.at, "both `pool` and `to`", "keep one of them"),
        (None, None) if !context.source_map.may_contain(at, &["pool", "to"]) => context.add(
            at,
            format!("the route `{}` has no target", route.name.value),
            "add to = \"ws://127.0.0.1:8765\", or pool = \"…\" with the name of one of [pools]",
        ),
        (Some(pool), None)
            if !pools.contains(&pool.value)
                && !context.source_map.may_contain(None, &["pools"]) =>
        {
            let mut known: Vec<&str> = pools.iter().map(String::as_str).collect();
            known.sort_unstable();
            let hint = if known.is_empty() {
                format!("add [pools.{}] with its backends", pool.value)
            } else {
                suggest(pool, &known, "pools")
            };
            context.add(pool.at, format!("there is no pool `{}`", pool.value), hint);
        }
        _ => {}
    }
}

/// Returns whether the text is a token (RFC 9110 §5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
