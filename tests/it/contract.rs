//! Snapshots of the public contract: the names, words and shapes that programs of users read. Renames inside the
//! program must not change a line of them.
//!
//! A difference fails with the lines that were removed and added. `LOCKGATE_UPDATE_SNAPSHOTS=1` rewrites the files in
//! `contract/snapshots/` instead. Prose (messages, help texts, descriptions) is not part of a snapshot.

mod access;
mod admin;
mod cli;
mod connections;
mod files;
pub(crate) mod handover;
mod metrics;
mod reasons;
mod requests;
mod schema;
mod sessions;

use crate::harness::{Lockgate, Wire};
use serde_json::Value;
use std::{collections::BTreeSet, env, fs, path::Path};
use tokio::net::UnixStream;

/// Lines of a snapshot, sorted.
pub(crate) type Lines = BTreeSet<String>;

/// Compares `actual` with the snapshot of this name.
#[track_caller]
fn snapshot(name: &str, actual: &Lines) {
    assert!(!actual.is_empty(), "nothing to compare for {name}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/contract/snapshots");
    let file = Path::new(folder).join(format!("{name}.txt"));
    if env::var_os("LOCKGATE_UPDATE_SNAPSHOTS").is_some() {
        let text: String = actual.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&file, text).expect("the snapshot is writable");
        return;
    }
    let text = fs::read_to_string(&file).unwrap_or_default();
    let expected: Lines = text.lines().map(str::to_owned).collect();
    let removed = expected
        .difference(actual)
        .map(|line| format!("- {line}\n"));
    let added = actual
        .difference(&expected)
        .map(|line| format!("+ {line}\n"));
    let difference: String = removed.chain(added).collect();
    assert!(
        difference.is_empty(),
        "the public contract changed; {}:\n{difference}",
        file.display()
    );
}

/// Adds the path of every JSON field, with `[]` for the elements of an array.
fn key_paths(at: &str, value: &Value, lines: &mut Lines) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                key_paths(&format!("{at}.{key}"), value, lines);
            }
        }
        Value::Array(items) => {
            lines.insert(format!("{at}[]"));
            for item in items {
                key_paths(&format!("{at}[]"), item, lines);
            }
        }
        _ => {
            lines.insert(at.to_owned());
        }
    }
}

/// Sends a request to the admin socket; the body is unread.
async fn admin_request(lockgate: &Lockgate, request: &str) -> Wire {
    let socket = UnixStream::connect(lockgate.folder().join("admin.sock")).await;
    let mut wire = Wire::stream(socket.expect("the admin socket listens"));
    wire.send(format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    wire
}

/// Runs a command with `folder` as its home and parses what it prints.
async fn json_output(folder: &Path, arguments: &[&str]) -> Value {
    let output = Lockgate::run(folder, arguments).await;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"))
}
