//! Files that Lockgate keeps: names and modes.

use super::{Lines, key_paths, metrics::families, snapshot};
use crate::{
    acme::fixture::{AcmeFixture, issued},
    harness::{Backend, Lockgate, eventually, observe},
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

#[tokio::test]
async fn files_of_the_development_ca_are_unchanged() {
    let to = format!("ws://{}", Backend::echo().await);
    let flags = ["--to", &to, "--host", "localhost"];
    let lockgate = Lockgate::with_flags(&flags).start().await;
    let mut lines = Lines::new();
    list(&lockgate.folder().join("data"), "LOCKGATE_DATA", &mut lines);
    snapshot("files_dev_ca", &lines);
}

#[tokio::test]
async fn files_and_metrics_of_acme_are_unchanged() {
    let fixture = AcmeFixture::new().await;
    let lockgate = fixture.start(&["a.test"], "").await;
    issued(&lockgate, "a.test").await;
    let mut lines = Lines::new();
    list(&fixture.storage(), "acme.storage", &mut lines);
    let port = fixture.pebble.directory();
    let port = port.trim_start_matches("https://localhost:");
    let port = port.trim_end_matches("/dir");
    let lines = lines.iter().map(|line| line.replace(port, "PORT"));
    snapshot("files_acme", &lines.collect());

    let is_acme = |name: &str| name.contains("_acme_") || name.contains("_certificate_");
    // The order is counted after its certificate is in use.
    let families = eventually("the metrics of an order", async || {
        let found = families(&lockgate.metrics().await, is_acme);
        observe(found, |found| {
            found.iter().any(|it| it.contains("_orders_"))
        })
        .map_err(|found| format!("{found:?}"))
    })
    .await;
    snapshot("metrics_acme", &families);
}

/// Adds the mode and the path of everything in a folder, the labels in PEM files and the fields of JSON files.
fn list(folder: &Path, shown: &str, lines: &mut Lines) {
    let mode = |path: &Path| {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        metadata.permissions().mode()
    };
    lines.insert(format!("{shown}/ {:o}", mode(folder)));
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        let shown = format!("{shown}/{name}");
        if path.is_dir() {
            list(&path, &shown, lines);
            continue;
        }
        let text = fs::read(&path).expect("readable");
        let text = String::from_utf8_lossy(&text).into_owned();
        let labels = text.lines().filter(|line| line.starts_with("-----BEGIN"));
        let labels = labels.collect::<Vec<_>>().join(" ");
        let line = format!("{shown} {:o} {labels}", mode(&path));
        lines.insert(line.trim_end().to_owned());
        if let Ok(value) = serde_json::from_str(&text) {
            key_paths(&format!("{shown} "), &value, lines);
        }
    }
}
