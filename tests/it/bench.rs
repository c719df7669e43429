//! The comparison with other proxies takes minutes and is run by hand. These tests check that it works, with Lockgate alone.

use crate::harness::Program;
use serde_json::Value;
use std::time::Duration;
use tempfile::TempDir;

/// It takes 12 s, and ends itself after 50 s.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_comparison_of_reloads_runs() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("figures.json");
    let json = file.to_str().expect("UTF-8");
    let lockgate = env!("CARGO_BIN_EXE_lockgate");
    let arguments = ["--quick", "--only", "lockgate", "--json", json, lockgate];
    let compare = Program::run("../bench/reload/compare.py", &arguments);
    let output = tokio::time::timeout(DEADLINE, compare)
        .await
        .expect("it ends itself");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");

    let figures = std::fs::read(&file).expect("it was written");
    let figures: Value = serde_json::from_slice(&figures).expect("JSON");
    let figures = figures["results"].as_object().expect("by proxy");
    let (_, lockgate) = figures.iter().next().expect("Lockgate's");
    let all = figures.len() == 1 && lockgate["reloads"]["sessions"] == 40;
    assert!(all, "{said}");
    let reloads = &lockgate["reloads"];
    assert_eq!(
        (&reloads["ended"], &reloads["in_force"]),
        (&0.into(), &true.into()),
        "{said}"
    );
    assert_eq!(lockgate["removal"]["codes"]["1012"], 40, "{said}");
    assert_eq!(lockgate["stop"]["codes"]["1001"], 40, "{said}");
    assert!(lockgate["stop"]["left_after"].is_number(), "{said}");
    let replaced = &lockgate["replacement"];
    assert_eq!(replaced["knocks_failed"], 0, "{said}");
    assert_eq!(replaced["codes"]["1012"], 40, "{said}");
}

#[tokio::test]
async fn the_comparison_of_who_compresses_runs() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("figures.json");
    let json = file.to_str().expect("UTF-8");
    let arguments = ["--quick", "--json", json, env!("CARGO_BIN_EXE_lockgate")];
    let compare = Program::run("../bench/offload/compare.py", &arguments);
    let output = tokio::time::timeout(DEADLINE, compare)
        .await
        .expect("it ends itself");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");

    let figures = std::fs::read(&file).expect("it was written");
    let figures: Value = serde_json::from_slice(&figures).expect("JSON");
    let rows = figures["results"].as_object().expect("by row");
    assert_eq!(rows.len(), 4, "{said}");
    for (row, runs) in rows {
        let run = &runs[0];
        let compressed = if row.starts_with("no compression") {
            0
        } else {
            40
        };
        assert_eq!(run["compressed"], compressed, "{said}");
        assert!(run["echoed"].as_u64() > Some(100), "{said}");
        // Compressed, 1 KiB is half of that.
        let bytes = run["received"].as_f64().expect("a number");
        assert_eq!(bytes < 700.0, compressed > 0, "{said}");
    }
}
