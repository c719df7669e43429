//! Contradictions within a pool: backends, addresses, weights, balancing, health and ejection.

use crate::config::{
    check::{CheckContext, positive},
    diagnostic::Located,
    schema::pool::{Backend, BackendTls, Balance, Check, Pool, Sticky},
    values::{
        address::{BackendAddress, BackendSource},
        pattern::HostPattern,
        selector::HashKey,
        units::{DurationValue, Rebalance},
    },
};
use std::{collections::HashSet, net::IpAddr, time::Duration};

pub(crate) fn pool(name: &str, pool: &Located<Pool>, context: &mut CheckContext<'_>) {
    if pool.backends.is_empty() && !context.source_map.may_contain(pool.at, &["backends"]) {
        context.add(
            context.in_table(pool.at, "backends"),
            format!("the pool `{name}` has no backends"),
            "name at least one: backends = [\"ws://127.0.0.1:8765\"]",
        );
    }
    let mut taken = HashSet::new();
    for one in &pool.backends {
        if !taken.insert(&one.address) {
            context.add(
                one.at,
                format!("`{}` is listed twice in the pool `{name}`", one.address),
                "list it once; write weight = 2 to give it twice the share",
            );
        }
        backend(one, context);
    }
    hash(name, pool, context);
    health(name, pool, context);
    passive(pool, context);
    positive(
        &format!("pools.{name}.connect_timeout"),
        pool.connect_timeout,
        context.in_table(pool.at, "connect_timeout"),
        context,
    );
    admission(name, pool, context);
    rebalance(name, pool, context);
}

fn admission(name: &str, pool: &Located<Pool>, context: &mut CheckContext<'_>) {
    let place = |context: &CheckContext<'_>, key| context.in_table(pool.at, key);
    if pool.retry.times > 0 {
        let at = place(context, "retry");
        positive(
            &format!("pools.{name}.retry.within"),
            pool.retry.within,
            at,
            context,
        );
    }
    if pool.retry.times > 100 {
        context.add(
            place(context, "retry"),
            format!(
                "pools.{name}.retry.times = {} is out of range",
                pool.retry.times
            ),
            "write something between 0 and 100",
        );
    }
    if pool.admission.queue > 0 && pool.admission.wait.0.is_zero() {
        context.add(
            place(context, "admission"),
            format!("pools.{name}.admission.wait = \"0s\" leaves no time at all"),
            "write how long one may wait, such as \"10s\"; queue = 0 disables the queue",
        );
    }
    if pool.admission.queue > 1_000_000 {
        context.add(
            place(context, "admission"),
            format!(
                "pools.{name}.admission.queue = {} is out of range",
                pool.admission.queue
            ),
            "write something between 0 and 1000000",
        );
    }
}

/// Checks `hash`. The default next to another `balance` is accepted: it may be written out for documentation.
fn hash(name: &str, pool: &Located<Pool>, context: &mut CheckContext<'_>) {
    let balance = context.written_in(pool.at, "balance");
    let is_shown = balance.is_some() && pool.hash == HashKey::Ip;
    if pool.balance == Balance::Hash
        || is_shown
        || context
            .source_map
            .may_contain(pool.at, &["balance", "hash"])
    {
        return;
    }
    if let Some(at) = context.written_in(pool.at, "hash") {
        context.add(
            Some(at),
            format!(
                "pools.{name}.hash = \"{}\" has no effect with this balance",
                pool.hash
            ),
            "write balance = \"hash\" too, or leave hash out",
        );
    }
}

/// Checks `rebalance`: a client whose session is closed must reconnect to a backend with fewer sessions.
fn rebalance(name: &str, pool: &Located<Pool>, context: &mut CheckContext<'_>) {
    if pool.rebalance == Rebalance::Off {
        return;
    }
    let mut report_if = |conflicts, key, why: &str, value| {
        if conflicts {
            context.add(
                context.in_table(pool.at, "rebalance"),
                format!("pools.{name}.rebalance would close sessions without effect: {why}"),
                format!("leave it out, or write {key} = \"{value}\""),
            );
        }
    };
    let (elsewhere, back) = (
        "this `balance` does not prefer backends with fewer sessions",
        "with `sticky`, clients return to the same backend",
    );
    let ignores_counts = pool.balance != Balance::LeastSessions;
    report_if(ignores_counts, "balance", elsewhere, "least-sessions");
    report_if(pool.sticky != Sticky::Off, "sticky", back, "off");
}

fn backend(backend: &Located<Backend>, context: &mut CheckContext<'_>) {
    if !(1..=1000).contains(&backend.weight) {
        context.add(
            context.in_table(backend.at, "weight"),
            format!("weight = {} is out of range", backend.weight),
            "write something between 1 and 1000; `lockgate drain --backend` stops new sessions and requests to a backend",
        );
    }
    names(backend, context);
    sources(backend, context);
    let (tls, at) = (&backend.tls, context.in_table(backend.at, "tls"));
    if *tls != BackendTls::default() && !backend.address.has_tls() {
        context.add(
            at,
            format!("tls, but `{}` does not use TLS", backend.address),
            "write the address with wss://, or leave tls out",
        );
    }
    if tls.cert.is_some() != tls.key.is_some() {
        context.add(
            at,
            "only one of tls.cert and tls.key is set",
            "name both files, or none",
        );
    }
    if let Some(name) = &tls.server_name
        && !matches!(name.parse(), Ok(HostPattern::Exact(_)))
        && name.parse::<IpAddr>().is_err()
    {
        context.add(
            at,
            format!("`{name}` is not a name that a certificate could have"),
            "write it as server_name = \"chat.internal\"",
        );
    }
}

fn sources(backend: &Located<Backend>, context: &mut CheckContext<'_>) {
    let at = context.in_table(backend.at, "sources");
    if let Some(any) = backend.sources.iter().find(|from| from.is_unspecified()) {
        context.add(
            at,
            format!("sources: {any} is not a specific address"),
            "name addresses of this machine, such as \"10.0.0.5\", or leave sources out",
        );
    }
    if let BackendSource::One(BackendAddress::Tcp { host, .. }) = &backend.address
        && let Ok(to) = host.parse::<IpAddr>()
        && let Some(other) = backend
            .sources
            .iter()
            .find(|from| from.is_ipv4() != to.is_ipv4())
    {
        context.add(
            at,
            format!("sources: a connection from {other} to {to} is impossible"),
            "name addresses of the backend's family, IPv4 or IPv6",
        );
    }
    let is_socket = matches!(backend.address, BackendSource::One(BackendAddress::Unix(_)));
    if is_socket && !backend.sources.is_empty() {
        context.add(
            at,
            format!("sources, but `{}` is a socket", backend.address),
            "leave sources out",
        );
    }
}

/// Checks the keys that apply only to DNS names.
fn names(backend: &Located<Backend>, context: &mut CheckContext<'_>) {
    let place = |context: &CheckContext<'_>, key| context.in_table(backend.at, key);
    if backend.address.dns().is_some() {
        if backend.resolve.0 < Duration::from_secs(1) {
            context.add(
                place(context, "resolve"),
                format!("resolve = \"{}\" is too short", backend.resolve),
                "write at least \"1s\"; a DNS answer with a shorter TTL than resolve is renewed when it expires",
            );
        }
        return;
    }
    for key in ["resolve", "on_vanish"] {
        let at = place(context, key);
        if at != backend.at {
            context.add(
                at,
                format!("{key}, but DNS is not asked for `{}`", backend.address),
                format!("leave {key} out, or write the address with dns:// or srv://"),
            );
        }
    }
}

fn health(name: &str, pool: &Located<Pool>, context: &mut CheckContext<'_>) {
    let health = &pool.health;
    let at = context.in_table(pool.at, "health");
    idle(name, pool, context);
    for (key, count, default) in [("rise", health.rise, 2), ("fall", health.fall, 3)] {
        if count == 0 {
            context.add(
                at,
                format!("health.{key} = 0 would decide without a check"),
                format!("write 1 or more; leave it out for {default}"),
            );
        }
    }
    if health.interval.0 < SHORTEST {
        context.add(
            at,
            format!("health.interval = \"{}\" is too short", health.interval),
            format!(
                "write at least \"{}\"; leave it out for \"5s\"",
                DurationValue(SHORTEST)
            ),
        );
    }
    positive("health.timeout", health.timeout, at, context);
}

/// Reports settings of a check that does not exist. If "off" is written out, they are accepted: the check may be
/// switched on later.
fn idle(name: &str, pool: &Located<Pool>, context: &mut CheckContext<'_>) {
    let at = pool.health.at;
    if context.written_in(at, "check").is_some() || context.source_map.may_contain(at, &["check"]) {
        return;
    }
    let keys = ["path", "interval", "timeout", "rise", "fall", "on_down"].iter();
    let mut keys = keys.filter_map(|key| Some((*key, context.written_in(at, key)?)));
    let is_idle = |(key, _): &(&str, _)| *key != "on_down" || !is_checked(pool, context);
    if let Some((key, at)) = keys.find(is_idle) {
        context.add(
            Some(at),
            format!("pools.{name}.health.{key} has no effect: there is no check"),
            "choose a check, such as check = \"websocket\", or leave it out",
        );
    }
}

/// Returns whether another pool health-checks a backend of this pool: `on_down` then has an effect here too.
fn is_checked(pool: &Pool, context: &CheckContext<'_>) -> bool {
    let checking = context.config.pools.values();
    let checking = checking.filter(|other| other.health.check != Check::Off);
    let mut checked = checking.flat_map(|other| &other.backends);
    checked.any(|one| pool.backends.iter().any(|own| own.address == one.address))
}

fn passive(pool: &Located<Pool>, context: &mut CheckContext<'_>) {
    let passive = &pool.passive;
    let at = context.in_table(pool.at, "passive");
    if passive.fails > 1000 {
        context.add(
            at,
            format!("passive.fails = {} is out of range", passive.fails),
            "write something between 1 and 1000, or 0 for no ejection at all",
        );
    }
    if passive.fails > 0 {
        positive("passive.within", passive.within, at, context);
        positive("passive.eject", passive.eject, at, context);
    }
}

/// Shorter intervals would make the checks themselves a load.
const SHORTEST: Duration = Duration::from_millis(100);
