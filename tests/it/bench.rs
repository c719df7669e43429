//! The comparisons with other proxies take minutes and are run by hand. These tests run them with Lockgate only.

use crate::harness::Program;
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;

/// A comparison takes 12 s and aborts itself after 50 s.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a comparison of `tests/bench`; returns its figures and its output.
async fn figures(program: &str, more: &[&str]) -> (Value, String) {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("figures.json");
    let json = file.to_str().expect("UTF-8");
    let arguments = ["--quick", "--json", json, env!("CARGO_BIN_EXE_lockgate")];
    let program = format!("../bench/{program}");
    let arguments = [&arguments, more].concat();
    let compare = Program::run(&program, &arguments);
    let output = tokio::time::timeout(DEADLINE, compare)
        .await
        .expect("it ends itself");
    let log = [output.stdout, output.stderr].concat();
    let log = String::from_utf8_lossy(&log).into_owned();
    assert!(output.status.success(), "{log}");
    let figures = std::fs::read(&file).expect("it was written");
    (serde_json::from_slice(&figures).expect("JSON"), log)
}

#[tokio::test]
async fn comparison_of_reloads_runs_with_lockgate() {
    let (figures, log) = figures("reload/compare.py", &["--only", "lockgate"]).await;
    let figures = figures["results"].as_object().expect("by proxy");
    let (_, lockgate) = figures.iter().next().expect("Lockgate's");
    let all = figures.len() == 1 && lockgate["reloads"]["sessions"] == 40;
    assert!(all, "{log}");
    let reloads = &lockgate["reloads"];
    assert_eq!(
        (&reloads["ended"], &reloads["in_force"]),
        (&0.into(), &true.into()),
        "{log}"
    );
    assert_eq!(lockgate["removal"]["codes"]["1012"], 40, "{log}");
    assert_eq!(lockgate["stop"]["codes"]["1001"], 40, "{log}");
    assert!(lockgate["stop"]["left_after"].is_number(), "{log}");
    let replaced = &lockgate["replacement"];
    assert_eq!(replaced["knocks_failed"], 0, "{log}");
    assert_eq!(replaced["codes"]["1012"], 40, "{log}");
}

#[tokio::test]
async fn comparison_of_compression_runs() {
    let (figures, log) = figures("offload/compare.py", &[]).await;
    let rows = figures["results"].as_object().expect("by row");
    assert_eq!(rows.len(), 4, "{log}");
    for (row, runs) in rows {
        let run = &runs[0];
        let compressed = if row.starts_with("no compression") {
            0
        } else {
            40
        };
        assert_eq!(run["compressed"], compressed, "{log}");
        assert!(run["echoed"].as_u64() > Some(100), "{log}");
        // Compressed, 1 KiB is half of that.
        let bytes = run["received"].as_f64().expect("a number");
        assert_eq!(bytes < 700.0, compressed > 0, "{log}");
    }
}

#[tokio::test]
async fn comparison_of_handshakes_during_attacks_runs() {
    let kinds = ["tls-abandoned", "h2-unread", "pings"];
    let only: Vec<_> = kinds.iter().flat_map(|kind| ["--only", kind]).collect();
    let (figures, log) = figures("attack/latency.py", &only).await;
    for kind in kinds {
        for role in ["valid", "attack"] {
            assert_eq!(figures[kind][role]["failed"], 0, "{kind}, {role}: {log}");
        }
        assert!(
            figures[kind]["valid"]["actions"].as_f64() > Some(0.0),
            "{log}"
        );
    }
}

#[tokio::test]
async fn clients_of_a_pool_with_a_dead_backend_do_not_fail() {
    let (figures, log) = figures("dial/dead.py", &["--only", "2/drop", "--only", "hash"]).await;
    let results = figures["results"].as_object().expect("by combination");
    assert_eq!(results.len(), 10, "{log}");
    for (combination, figures) in results {
        for part in ["first", "later"] {
            assert_eq!(figures[part]["failed"], 0, "{combination}, {part}: {log}");
        }
    }
}
