//! The tiers of the tests, as `.config/nextest.toml` defines them.

use std::{collections::BTreeSet, process::Command};

const FILTERS: &str = include_str!("../../.config/nextest.toml");

#[test]
fn every_filter_of_a_tier_selects_a_test() {
    let program = std::env::current_exe().expect("the path of this program");
    let list = Command::new(program).arg("--list").output();
    let list = String::from_utf8(list.expect("it starts").stdout).expect("UTF-8");
    let paths: Vec<&str> = list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let lines = FILTERS.lines().filter(|line| !line.starts_with('#'));
    let filters: BTreeSet<&str> = lines
        .flat_map(|line| line.split("test(~").skip(1))
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect();
    assert!(filters.len() > 2, "{filters:?}");
    // This module may be empty: the tests in it are optional.
    let used = |filter: &&&str| {
        **filter == "applications::" || paths.iter().any(|it| it.contains(**filter))
    };
    let stale: Vec<_> = filters.iter().filter(|filter| !used(filter)).collect();
    assert!(
        stale.is_empty(),
        ".config/nextest.toml: no test has this in its path: {stale:?}"
    );
}
