//! Runs the commands of a page in one shell, and compares what they print with the output that the page shows.

use super::page::{Block, Directive, Page, root};
use crate::harness::{free_port, program};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use std::{
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
};
use tempfile::TempDir;
use tokio::process::Command;

/// Runs the commands of a page, and checks its output blocks.
pub(super) async fn run(path: &str) {
    let mut page = Page::read(path);
    let ports: Vec<(&str, String)> = PORTS
        .iter()
        .map(|port| (*port, free_port().to_string()))
        .collect();
    let replaced = |text: &str| {
        let mut text = text.to_owned();
        for (port, free) in &ports {
            text = text.replace(port, free);
        }
        text
    };
    page.text = replaced(&page.text);
    let port = |name| {
        let found = ports.iter().find(|(port, _)| *port == name);
        found.expect("one of PORTS").1.clone()
    };

    let folder = TempDir::new().expect("a temporary folder");
    let start = Page::read("docs/getting-started.md");
    for block in start.blocks() {
        if let ("python", Some(name)) = (&*block.language, block.file_name()) {
            fs::write(folder.path().join(name), replaced(&block.text)).expect("writable");
        }
    }
    write_certificates(folder.path());
    write_stand_in_for_tests_run(folder.path());

    let blocks = page.blocks();
    let mut script = include_str!("prelude.sh").to_owned();
    for block in &blocks {
        match (&*block.language, &block.directive) {
            ("sh", None) => script.push_str(&block.text),
            ("python" | "toml", None) => {
                if let Some(name) = block.file_name() {
                    fs::write(folder.path().join(name), &block.text).expect("writable");
                }
            }
            _ => {}
        }
    }

    let printed = folder.path().join("printed");
    let file = File::create(&printed).expect("writable");
    // `timeout` ends the whole group: the servers in the background too.
    let status = Command::new("timeout")
        .args(["240", "bash", "-c", &script])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder.path())
        .env("LOCKGATE", env!("CARGO_BIN_EXE_lockgate"))
        .env("LOCKGATE_ADMIN", format!("127.0.0.1:{}", port(ADMIN)))
        .env("HTTPS_PORT", port(HTTPS))
        .env("BACKEND_PORT", port(BACKEND))
        .env("PYTHON", program::interpreter())
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a descriptor"))
        .stderr(file)
        .kill_on_drop(true)
        .status()
        .await
        .expect("timeout and bash are there");
    let printed = fs::read(&printed).expect("it was created");
    let printed = String::from_utf8_lossy(&printed);
    assert!(
        status.success(),
        "{path}: {status}\n{script}\n--- printed ---\n{printed}"
    );
    let missing = missing_lines(&blocks, &printed, folder.path());
    assert!(
        missing.is_empty(),
        "{path} shows lines that its commands do not print:\n{}\n--- printed ---\n{printed}",
        missing.join("\n")
    );
}

/// Returns the lines of output blocks that were not printed.
fn missing_lines(blocks: &[Block], printed: &str, folder: &Path) -> Vec<String> {
    let printed = printed.replace(&*folder.to_string_lossy(), HOME);
    let printed: Vec<String> = printed.lines().map(normalize).collect();
    let shown = blocks
        .iter()
        .filter(|block| block.directive == Some(Directive::Output));
    shown
        .flat_map(|block| block.text.lines())
        .filter(|line| !line.trim().is_empty())
        .filter(|line| {
            let pattern = normalize(line);
            !printed.iter().any(|line| matches(&pattern, line))
        })
        .map(str::to_owned)
        .collect()
}

/// Replaces numbers, session ids, durations and runs of spaces, which differ from run to run.
fn normalize(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let is_id = word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id {
            words.push("ID".to_owned());
            continue;
        }
        let mut normalized = String::new();
        let mut was_digit = false;
        let mut characters = word.chars().peekable();
        while let Some(c) = characters.next() {
            let is_point =
                c == '.' && was_digit && characters.peek().is_some_and(char::is_ascii_digit);
            if c.is_ascii_digit() || is_point {
                if !was_digit {
                    normalized.push('0');
                }
                was_digit = true;
            } else {
                was_digit = false;
                normalized.push(c);
            }
        }
        words.push(match &*normalized {
            "0us" | "0µs" | "0ms" | "0s" => "0s".to_owned(),
            _ => normalized,
        });
    }
    words.join(" ")
}

/// Returns whether the line is the pattern, in which "…" stands for any text.
fn matches(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// Writes the files that configurations of the pages name: `chat.pem`, `chat.key` and `clients.pem`.
pub(super) fn write_certificates(folder: &Path) {
    let names = ["chat.example.com", "*.example.com", "localhost"].map(str::to_owned);
    let pair = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let mut ca = CertificateParams::new([]).expect("no names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca = ca.self_signed(&KeyPair::generate().expect("random"));
    for (file, text) in [
        ("chat.pem", pair.cert.pem()),
        ("chat.key", pair.signing_key.serialize_pem()),
        ("clients.pem", ca.expect("it signs").pem()),
    ] {
        let file = folder.join(file);
        fs::write(&file, text).expect("writable");
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("it is ours");
    }
}

/// Writes an empty `tests/run`, because this test is part of the real one.
fn write_stand_in_for_tests_run(folder: &Path) {
    let real = root().join("tests/run");
    let mode = fs::metadata(&real)
        .expect("tests/run is there")
        .permissions();
    assert!(mode.mode() & 0o111 != 0, "tests/run can be executed");
    fs::create_dir(folder.join("tests")).expect("writable");
    let stand_in = folder.join("tests/run");
    fs::write(&stand_in, "#!/bin/sh\n").expect("writable");
    fs::set_permissions(&stand_in, mode).expect("writable");
}

const BACKEND: &str = "8765";
const HTTPS: &str = "8443";
const ADMIN: &str = "9180";

/// The ports of the pages, which are replaced by free ones.
const PORTS: &[&str] = &[BACKEND, HTTPS, ADMIN, "9181", "8000"];

/// The home directory in the output that pages show.
const HOME: &str = "/home/you";
