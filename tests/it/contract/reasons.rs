//! `docs/reasons.md`: it lists every `why` word and every metric, and no other.

use super::Lines;
use regex::Regex;
use std::{collections::BTreeMap, fs, path::Path};

#[test]
fn documented_reasons_of_requests_match_the_program() {
    let arms = arms("RefusalReason|DenialReason|BadHandshake|Bad101|Unavailable");
    let snapshots = [
        snapshot_matches("refusals", r#""([^"]+)"$"#),
        snapshot_matches("refusals_limits", r#""([^"]+)"$"#),
    ];
    check_words("Requests", arms, snapshots.into_iter().flatten());
}

#[test]
fn documented_reasons_of_sessions_match_the_program() {
    let ends = snapshot_matches("session_ends", r#"why="([^"]+)"$"#);
    check_words("Sessions", arms("EndReason|Violation"), ends);
}

#[test]
fn documented_reasons_of_connections_match_the_program() {
    let failures = snapshot_matches("connection_failures", "^(.+)$");
    check_words("Connections", arms("AcceptError|TlsError"), failures);
}

#[test]
fn documented_statuses_and_close_codes_match_the_snapshots() {
    let requests = rows("Requests");
    let mut documented = Lines::new();
    documented.extend(requests.iter().map(|row| format!("{} {}", row[0], row[1])));
    let status = Regex::new(r#"(\d{3}) "([^"]+)"$"#).expect("valid");
    for line in snapshot("refusals").lines() {
        let found = status.captures(line).expect("a status and a word");
        let expected = format!("{} {}", &found[2], &found[1]);
        assert!(documented.contains(&expected), "{expected}");
    }
    // The code of a violation is the same whichever side sent the frame.
    let end = Regex::new(r#"code=(\d+) by="\w+" why="([^"]+)"$"#).expect("valid");
    let sessions: BTreeMap<_, _> = rows("Sessions")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    for line in snapshot("session_ends").lines() {
        if let Some(found) = end.captures(line)
            && sessions[&found[2]].parse::<u16>().is_ok()
        {
            assert_eq!(sessions[&found[2]], found[1], "{line}");
        }
    }
}

#[test]
fn documented_metrics_match_the_snapshots_and_help_texts() {
    let family = Regex::new(r"^(\S+) (\S+) \{(.*)\}$").expect("valid");
    let mut expected = Lines::new();
    for line in [snapshot("metrics"), snapshot("metrics_acme")]
        .concat()
        .lines()
    {
        let found = family.captures(line).expect("name, type and labels");
        let (mut name, kind) = (&found[1], &found[2]);
        if kind == "histogram" {
            // The buckets have the additional label `le`.
            let Some(base) = name.strip_suffix("_count") else {
                continue;
            };
            name = base;
        }
        let labels = match &found[3] {
            "" => "none".to_owned(),
            labels => labels.replace(',', ", "),
        };
        expected.insert(format!("`{name}` {kind} {labels}"));
    }
    let program = sources();
    let mut documented = Lines::new();
    for row in rows("Metrics") {
        documented.insert(format!("`{}` {} {}", row[0], row[1], row[2]));
        let help = [format!("\"{}\"", row[3]), format!("\"{}.\"", row[3])];
        assert!(
            help.iter().any(|text| program.contains(text)),
            "no metric has the HELP text of {row:?}"
        );
    }
    assert_eq!(documented, expected);
}

/// Compares the words of a section with those that the program can return, and with those in the snapshots.
#[track_caller]
fn check_words(section: &str, arms: Lines, snapshots: impl IntoIterator<Item = String>) {
    let documented: Lines = rows(section)
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    let mut required = arms;
    assert!(!required.is_empty(), "no reasons in src for {section}");
    required.extend(snapshots);
    let missing: Vec<_> = required.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/reasons.md lacks {missing:?}");
    let program = sources();
    let mut unused = documented.iter();
    let unused = unused.find(|word| !program.contains(&format!("\"{word}\"")));
    assert_eq!(unused, None, "the program has no such word");
}

/// Returns the cells of all table rows in a section of `docs/reasons.md`, without backticks in the first one.
fn rows(section: &str) -> Vec<Vec<String>> {
    let text = read("docs/reasons.md");
    let heading = format!("## {section}");
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    lines
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            let mut cells: Vec<_> = cells.map(|cell| cell.trim().to_owned()).collect();
            cells[0] = cells[0].replace('`', "");
            cells
        })
        .collect()
}

/// Returns the words that the variants of these enums are mapped to.
fn arms(enums: &str) -> Lines {
    let arm = format!(r#"\b(?:{enums})::[^=\n]*=>\s*"([a-z0-9._-]+)""#);
    matches(&sources(), &arm)
}

fn snapshot_matches(name: &str, pattern: &str) -> Lines {
    let pattern = format!("(?m){pattern}");
    matches(&snapshot(name), &pattern)
}

/// Returns the first group of every match.
fn matches(text: &str, pattern: &str) -> Lines {
    let pattern = Regex::new(pattern).expect("valid");
    let found = pattern.captures_iter(text);
    found.map(|found| found[1].to_owned()).collect()
}

fn snapshot(name: &str) -> String {
    read(&format!("tests/it/contract/snapshots/{name}.txt"))
}

/// Returns the text of all files in `src`.
fn sources() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut text, mut folders) = (String::new(), vec![root.join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a readable directory") {
            let path = entry.expect("a readable directory").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &fs::read_to_string(path).expect("UTF-8");
            }
        }
    }
    text
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}
