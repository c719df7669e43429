//! Contradictions within `health` and `passive` of a pool.

use super::{
    super::{Check, DurationValue, Located, Pool},
    CheckContext, positive,
};
use std::time::Duration;

pub(super) fn health(name: &str, pool: &Located<Pool>, context: &mut CheckContext<'_>) {
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

/// Reports settings of a check that does not exist. If "off" is written out, they are accepted: the check may be switched
/// on later.
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

pub(super) fn passive(pool: &Located<Pool>, context: &mut CheckContext<'_>) {
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
