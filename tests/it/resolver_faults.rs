//! Names under faults of DNS servers, resolv.conf(5) and hosts(5), compared with getent(1) in the same namespace.

use crate::harness::program::interpreter;
use serde_json::Value;
use std::{collections::BTreeSet, fs, time::Duration};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

#[tokio::test]
async fn names_resolve_as_by_getent_and_not_later_by_measured_time() {
    assert!(
        rustix::process::getuid().is_root(),
        "namespaces are made, which only root may do: run the tests as root with CAP_SYS_ADMIN, or leave this one out \
         (cargo nextest run -E 'not test(resolver_faults)')"
    );
    let folder = TempDir::new().expect("a temporary folder");
    for (name, text) in [
        ("resolv.conf", ""),
        ("hosts", ""),
        ("nsswitch.conf", "hosts: files dns\n"),
    ] {
        fs::write(folder.path().join(name), text).expect("writable");
    }
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/python/resolver_faults.py"
    );
    let bind = "ip link set lo up; \
                for file in resolv.conf hosts nsswitch.conf; do mount --bind \"$1/$file\" \"/etc/$file\"; done; \
                folder=$1; shift; exec \"$@\" \"$folder\"";
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--uts", "--propagation", "private"])
        .args(["/bin/sh", "-ec", bind, "sh"])
        .arg(folder.path())
        .arg(interpreter())
        .args([script, env!("CARGO_BIN_EXE_lockgate")])
        .kill_on_drop(true)
        .output();
    let output = timeout(LIMIT, output).await.expect("within its limit");
    let output = output.expect("unshare starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let rows: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(rows.len() > 80, "{} rows", rows.len());
    println!(
        "{:<55} {:>9} {:>9}  addresses",
        "case", "getent", "lockgate"
    );
    let problems: Vec<String> = rows.iter().filter_map(problem).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// Prints one row; returns it if it differs from what is expected.
fn problem(row: &Value) -> Option<String> {
    let addresses = |key: &str| -> BTreeSet<&str> {
        let list = row[key].as_array().expect("a list");
        list.iter().filter_map(Value::as_str).collect()
    };
    let (theirs, ours) = (addresses("getent"), addresses("lockgate"));
    let seconds = |key: &str| row[key].as_f64().expect("a number");
    let (their_time, our_time) = (seconds("getent_s"), seconds("lockgate_s"));
    let is_as_expected = match row["expect"].as_str() {
        Some("more") => ours.len() > theirs.len() && ours.is_superset(&theirs),
        Some("first") => !ours.is_empty() && ours.is_subset(&theirs),
        _ if row["tool"] == "probe" => {
            ours.is_subset(&theirs) && ours.is_empty() == theirs.is_empty()
        }
        _ => ours == theirs,
    };
    let text = row["case"].as_str().expect("a name");
    println!(
        "{text:<55} {their_time:>7.2} s {our_time:>7.2} s  {} and {}",
        theirs.len(),
        ours.len()
    );
    (!is_as_expected || our_time > their_time + MARGIN).then(|| row.to_string())
}

/// The start of the process, and the resolution delay once for each name of a search list, in seconds. The script takes
/// the shortest of up to five runs.
const MARGIN: f64 = 0.9;

/// Several cases wait for servers that do not answer.
const LIMIT: Duration = Duration::from_secs(420);
