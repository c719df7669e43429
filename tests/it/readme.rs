//! The README, followed to the letter: its files are written, its commands run, in order, in one shell.

use crate::{
    acme::fixture::Rig,
    harness::{Lockgate, program},
};
use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, process::Stdio};
use tempfile::TempDir;
use tokio::process::Command;

/// What stands in for a reader: the program is already built, a server in the background is waited for, and whatever was
/// started is ended. An unknown way to call cargo or Python is an error, so that the README cannot outgrow this.
const READER: &str = r#"
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
lockgate() {
    if [ "$1" = run ]; then exec "$LOCKGATE" "$@"; fi
    # What asks a running one waits until there is one.
    if [ "$1" = status ] || [ "$1" = health ]; then wait_for "$LOCKGATE" health; fi
    "$LOCKGATE" "$@"
}
cargo() {
    [ "$1 $2" = "run --" ] || { echo "not a way to start it: cargo $*" >&2; exit 1; }
    shift 2
    # It runs until it is stopped, as the README's reader would.
    "$LOCKGATE" "$@" &
    local started=$!
    wait_for "$LOCKGATE" health
    kill $started
    wait $started
}
python3() {
    if [ "$1" = server.py ]; then exec "$PYTHON" "$@"; fi
    wait_for "$LOCKGATE" health
    wait_for "$PYTHON" -c "import socket; socket.create_connection(('127.0.0.1', $BACKEND_PORT)).close()"
    "$PYTHON" "$@"
}
wait_for() { until "$@" >/dev/null 2>&1; do :; done; }
"#;

/// What its `who.py` makes of its `alice.pem`.
const READS_ITS_HEADER: &str = r#"
"$PYTHON" - <<'END'
import base64, ssl, sys
sys.path.insert(0, ".")
from who import who
der = ssl.PEM_cert_to_DER_cert(open("alice.pem").read())
name = who({"Client-Cert": f":{base64.b64encode(der).decode()}:"})
assert name == "CN=alice", name
END
"#;

/// The last program that it starts has taken over from the first.
const HAS_TAKEN_OVER: &str = "until lockgate status | grep -q \"process $!\"; do :; done\n";

#[tokio::test]
async fn its_commands_do_what_it_says() {
    let folder = TempDir::new().expect("a temporary folder");
    let (backend_port, https_port) = (free_port(), free_port());
    let readme = readme()
        .replace("8765", &backend_port)
        .replace("8443", &https_port);

    let mut script = READER.to_owned();
    for block in blocks(&readme) {
        if block.section == CERTIFICATES && block.language == "sh" {
            continue;
        }
        match block.language {
            "sh" => script.push_str(&block.text),
            "python" | "toml" => {
                fs::write(folder.path().join(block.file_name()), &block.text).expect("writable")
            }
            "text" => {}
            other => panic!("who runs a block of {other:?}?"),
        }
    }
    script.push_str(HAS_TAKEN_OVER);
    script.push_str(READS_ITS_HEADER);
    stand_in_for_tests_run(folder.path());

    // `timeout` ends the whole group: the servers in the background too.
    let mut command = Command::new("timeout");
    command
        .args(["60", "bash", "-c", &script])
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder.path())
        .env("LOCKGATE", env!("CARGO_BIN_EXE_lockgate"))
        .env("LOCKGATE_DATA", folder.path().join("data"))
        .env("LOCKGATE_LISTEN", format!("127.0.0.1:{https_port}"))
        .env(
            "LOCKGATE_ADMIN",
            format!("unix:{}/admin.sock", folder.path().display()),
        )
        .env("PYTHON", program::interpreter())
        .env("BACKEND_PORT", &backend_port)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.expect("timeout and bash are there");
    let (said, failed) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{script}\n--- stdout ---\n{said}\n--- stderr ---\n{failed}"
    );
    assert!(
        said.lines().any(|line| line == "you said hello"),
        "{said}\n{failed}"
    );
}

/// The same for the section about certificates: its CA is Pebble, for which every name is on this machine.
#[tokio::test]
async fn its_certificates_come() {
    let rig = Rig::new().await;
    let mut script = String::from(
        r#"
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
lockgate() {
    case "$1 $2" in
    "run --to") "$LOCKGATE" "$@" & ;;
    "cert list") until "$LOCKGATE" "$@" | grep "by Pebble"; do :; done ;;
    *) echo "who runs lockgate $*?" >&2; exit 1 ;;
    esac
}
"#,
    );
    let readme = readme();
    let commands = blocks(&readme).into_iter();
    let commands = commands.filter(|block| block.section == CERTIFICATES && block.language == "sh");
    script.extend(commands.map(|block| block.text));
    let output = Command::new("timeout")
        .args(["60", "bash", "-c", &script])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LOCKGATE", env!("CARGO_BIN_EXE_lockgate"))
        .env("LOCKGATE_DATA", rig.storage())
        .env("LOCKGATE_LISTEN", format!("127.0.0.1:{}", rig.https))
        .env(
            "LOCKGATE_ADMIN",
            format!("unix:{}/admin.sock", rig.folder.path().display()),
        )
        .env("LOCKGATE_ACME_DIRECTORY", rig.pebble.directory())
        .env("LOCKGATE_ACME_CA_FILE", rig.pebble.ca())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("timeout and bash are there");
    assert!(output.status.success(), "{script}\n{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("until 20"), "{said}");
}

#[tokio::test]
async fn its_configurations_are_valid() {
    let folder = TempDir::new().expect("a temporary folder");
    let readme = readme();
    let mut configs = blocks(&readme)
        .into_iter()
        .filter(|block| block.language == "toml")
        .peekable();
    assert!(configs.peek().is_some(), "it shows one");
    // Its commands make one.
    let mut ca = rcgen::CertificateParams::new([]).expect("no names");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let ca = ca.self_signed(&rcgen::KeyPair::generate().expect("random"));
    fs::write(
        folder.path().join("clients.pem"),
        ca.expect("it signs").pem(),
    )
    .expect("writable");
    for config in configs {
        let file = folder.path().join(config.file_name());
        fs::write(&file, &config.text).expect("writable");
        let output = Lockgate::run(
            folder.path(),
            &["check", "--config", &file.display().to_string()],
        )
        .await;
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn the_first_two_commands_run_it_and_test_it() {
    let readme = readme();
    let commands: Vec<_> = blocks(&readme)
        .into_iter()
        .filter(|block| block.language == "sh")
        .take(2)
        .collect();
    assert_eq!(commands[0].text, "cargo run -- demo\n");
    assert_eq!(commands[1].text, "tests/run\n");
}

/// What its commands need is a CA.
const CERTIFICATES: &str = "Certificates";

/// A fenced block.
struct Block<'a> {
    /// The heading above it.
    section: &'a str,
    language: &'a str,
    text: String,
}

impl Block<'_> {
    /// Files say their name in their first line: `# server.py`.
    fn file_name(&self) -> &str {
        let first = self
            .text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# "));
        first.unwrap_or_else(|| panic!("a block without its file's name:\n{}", self.text))
    }
}

fn blocks(readme: &str) -> Vec<Block<'_>> {
    let mut blocks = vec![];
    let mut lines = readme.lines();
    let mut section = "";
    while let Some(line) = lines.next() {
        section = line.strip_prefix("## ").unwrap_or(section);
        if let Some(language) = line.strip_prefix("```") {
            let text = lines
                .by_ref()
                .take_while(|line| *line != "```")
                .map(|line| format!("{line}\n"))
                .collect();
            blocks.push(Block {
                section,
                language,
                text,
            });
        }
    }
    blocks
}

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md")
}

/// This test is a part of `tests/run`: here that only has to be there.
fn stand_in_for_tests_run(folder: &Path) {
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run");
    let mode = fs::metadata(&real)
        .expect("tests/run is there")
        .permissions();
    assert!(mode.mode() & 0o111 != 0, "tests/run can be executed");
    fs::create_dir(folder.join("tests")).expect("writable");
    let stand_in = folder.join("tests/run");
    fs::write(&stand_in, "#!/bin/sh\n").expect("writable");
    fs::set_permissions(&stand_in, mode).expect("writable");
}

/// Free a moment ago: the README names ports, so they cannot be 0.
fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port().to_string()
}
