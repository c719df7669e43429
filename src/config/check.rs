//! What does not fit together, though every value is one.

use super::{
    Config, HostPattern, Legs, Location, Period, Problem, ProxyProtocol, Route, Session,
    schema::UNNAMED, words::suggest,
};
use std::{collections::HashMap, net::SocketAddr};

/// Everything that is wrong with the whole. `broken`: parts could not be read, so what is missing is not told.
pub(super) fn check(config: &Config, broken: bool) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    listeners(config, broken, &mut found);
    limits(config, &mut found);
    session("session", &config.session, None, &mut found);
    for (name, pool) in &config.pools {
        if pool.backends.is_empty() && !broken {
            found.add(
                pool.at,
                format!("the pool `{name}` has no backends"),
                "name at least one: backends = [\"ws://127.0.0.1:8765\"]",
            );
        }
    }
    if config.routes.is_empty() && !broken {
        found.add(
            None,
            "no routes: nothing would be served",
            "add [[routes]] with `hosts` and `to` or `pool`",
        );
    }
    names(config, &mut found);
    for route in &config.routes {
        self::route(config, &route.value, route.at, broken, &mut found);
    }
    found.0
}

struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, at: Option<Location>, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Problem {
            at,
            message: message.into(),
            hint: Some(hint.into()),
        });
    }
}

fn listeners(config: &Config, broken: bool, found: &mut Found) {
    let server = &config.server;
    if server.https.is_empty() && server.http.is_empty() && !broken {
        found.add(
            None,
            "no listeners",
            "give server.https an address, such as \"[::]:443\"",
        );
    }
    let mut taken: HashMap<SocketAddr, &str> = HashMap::new();
    let https = server
        .https
        .iter()
        .map(|listen| ("server.https", listen.value.0, listen.at));
    let http = server
        .http
        .iter()
        .map(|listen| ("server.http", listen.value.0, listen.at));
    let admin = match server.admin.value {
        super::AdminAddress::Tcp(address) => Some(("server.admin", address, server.admin.at)),
        _ => None,
    };
    let metrics = server
        .metrics
        .as_ref()
        .map(|metrics| ("server.metrics", metrics.value, metrics.at));
    for (key, address, at) in https.chain(http).chain(admin).chain(metrics) {
        // Port 0 is another one each time.
        if address.port() != 0
            && let Some(other) = taken.insert(address, key)
        {
            found.add(
                at,
                format!("{address} is taken by {other} already"),
                "give each listener an address of its own",
            );
        }
    }
    if server.proxy_protocol == ProxyProtocol::Require && server.trusted_proxies.is_empty() {
        found.add(
            None,
            "server.proxy_protocol = \"require\", but nobody is trusted to send the header",
            "name the load balancer's addresses in server.trusted_proxies",
        );
    }
}

fn limits(config: &Config, found: &mut Found) {
    let limits = &config.limits;
    for (key, period) in [
        ("tls_handshake", limits.tls_handshake),
        ("request_head", limits.request_head),
        ("body_idle", limits.body_idle),
        ("idle", limits.idle),
    ] {
        positive(&format!("limits.{key}"), period, None, found);
    }
    if !(1024..=1 << 20).contains(&limits.head_size.0) {
        found.add(
            None,
            format!(
                "limits.head_size = \"{}\" is out of range",
                limits.head_size
            ),
            "between \"1KiB\" and \"1MiB\"",
        );
    }
}

/// `key` is "session", or says whose it is.
fn session(key: &str, session: &Session, at: Option<Location>, found: &mut Found) {
    positive(
        &format!("{key}.handshake_timeout"),
        session.handshake_timeout,
        at,
        found,
    );
    positive(
        &format!("{key}.close_timeout"),
        session.close_timeout,
        at,
        found,
    );
    if session.ping.legs != Legs::Off {
        positive(
            &format!("{key}.ping.interval"),
            session.ping.interval,
            at,
            found,
        );
        positive(
            &format!("{key}.ping.timeout"),
            session.ping.timeout,
            at,
            found,
        );
    }
    for (name, size) in [
        ("max_message", session.max_message),
        ("max_frame", session.max_frame),
    ] {
        if size.0 == 0 {
            found.add(
                at,
                format!("{key}.{name} = \"0B\" would let no message pass"),
                "the default is \"64MiB\"",
            );
        }
    }
    let code = session.backend_gone_code;
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        found.add(
            at,
            format!("{key}.backend_gone_code = {code} must not be sent in a Close (RFC 6455 section 7.4)"),
            "1011 is the default; 1000 to 1003, 1007 to 1014 and 3000 to 4999 may be sent",
        );
    }
}

fn positive(key: &str, period: Period, at: Option<Location>, found: &mut Found) {
    if period.0.is_zero() {
        found.add(
            at,
            format!("{key} = \"0s\" leaves no time at all"),
            "write how long it may take, such as \"10s\"",
        );
    }
}

/// A route's name is its identity: no two share one.
fn names(config: &Config, found: &mut Found) {
    let mut taken: HashMap<&str, ()> = HashMap::new();
    for route in &config.routes {
        if route.name.at.is_none() && route.name.value == UNNAMED && config.routes.len() > 1 {
            found.add(
                route.at,
                "a route without a name, where there are several",
                "add name = \"…\": logs and reloads know a route by it",
            );
        } else if route.name.is_empty()
            || !route
                .name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            found.add(
                route.name.at,
                format!("`{}` is not a route's name", route.name.value),
                "use letters, digits, `-`, `_` and `.`",
            );
        } else if taken.insert(&route.name, ()).is_some() {
            found.add(
                route.name.at,
                format!("two routes are named `{}`", route.name.value),
                "give each a name of its own",
            );
        }
    }
}

fn route(config: &Config, route: &Route, at: Option<Location>, broken: bool, found: &mut Found) {
    if route.hosts.is_empty() && !broken {
        found.add(
            at,
            format!("the route `{}` has no hosts", route.name.value),
            "hosts = [\"chat.example.com\"], or [\"*\"] for any",
        );
    }
    match (&route.pool, &route.to) {
        (Some(_), Some(to)) => found.add(to.at, "both `pool` and `to`", "keep one of them"),
        (None, None) if !broken => found.add(
            at,
            format!("the route `{}` leads nowhere", route.name.value),
            "add to = \"ws://127.0.0.1:8765\", or pool = \"…\" with the name of one of [pools]",
        ),
        (Some(pool), None) if !config.pools.contains_key(&pool.value) && !broken => {
            let known: Vec<&str> = config.pools.keys().map(String::as_str).collect();
            let hint = match known.is_empty() {
                true => format!("add [pools.{}] with its backends", pool.value),
                false => suggest(pool, &known, "pools"),
            };
            found.add(pool.at, format!("there is no pool `{}`", pool.value), hint);
        }
        _ => {}
    }
    for subprotocol in &route.subprotocols {
        if !is_token(subprotocol) {
            found.add(
                at,
                format!("`{subprotocol}` is not a subprotocol"),
                "a subprotocol is a token such as \"graphql-transport-ws\" (RFC 6455 section 4.1)",
            );
        }
    }
    for (name, value) in &route.headers {
        if name.parse::<http::HeaderName>().is_err() || value.parse::<http::HeaderValue>().is_err()
        {
            found.add(
                at,
                format!("`{name} = \"{value}\"` is not a header"),
                "headers = { x-version = \"2\" }",
            );
        }
    }
    if let Some(prefix) = &route.strip_prefix
        && (!prefix.starts_with('/') || prefix.ends_with("/*") || prefix.contains(['?', '#', '*']))
    {
        found.add(
            at,
            format!("strip_prefix = \"{prefix}\" is not the beginning of a path"),
            "write it as \"/ws\"",
        );
    }
    if route.allow.is_empty() {
        found.add(
            at,
            "allow = [] lets nobody pass",
            "leave `allow` out, or name networks such as \"10.0.0.0/8\"",
        );
    }
    if route.origins.is_empty() {
        found.add(
            at,
            "origins = [] lets no page pass",
            "leave it out for \"same-host\", or list origins, or \"*\"",
        );
    }
    if route.hosts.len() > 1 && route.hosts.contains(&HostPattern::Any) {
        found.add(
            at,
            "hosts has \"*\" and others",
            "\"*\" alone takes every host",
        );
    }
    let key = format!("routes.{}.session", route.name.value);
    if config.session.with(&route.session) != config.session {
        session(&key, &config.session.with(&route.session), at, found);
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
