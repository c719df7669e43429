//! The README as a test: its files are written, and its commands run in order in one shell.

use crate::{
    acme::fixture::AcmeFixture,
    harness::{Lockgate, free_port, program},
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};
use tempfile::TempDir;
use tokio::process::Command;

/// Shell functions that replace the commands of a reader: the program is already built, servers in the background are
/// waited for, and all processes are ended. Unknown calls of cargo or Python are errors.
const PRELUDE: &str = r#"
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
lockgate() {
    if [ "$1" = run ]; then exec "$LOCKGATE" "$@"; fi
    # Commands to a running process wait until it runs.
    if [ "$1" = status ] || [ "$1" = health ]; then wait_for "$LOCKGATE" health; fi
    "$LOCKGATE" "$@"
}
cargo() {
    [ "$1 $2" = "run --" ] || { echo "not a way to start it: cargo $*" >&2; exit 1; }
    shift 2
    # It runs until it is stopped.
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

/// Checks the name that the README's `who.py` reads from its `alice.pem`.
const CHECK_CLIENT_CERT: &str = r#"
"$PYTHON" - <<'END'
import base64, ssl, sys
sys.path.insert(0, ".")
from who import who
der = ssl.PEM_cert_to_DER_cert(open("alice.pem").read())
name = who({"Client-Cert": f":{base64.b64encode(der).decode()}:"})
assert name == "CN=alice", name
END
"#;

/// Waits until the last process has taken over from the first.
const WAIT_FOR_TAKEOVER: &str = "until lockgate status | grep -q \"process $!\"; do :; done\n";

#[tokio::test]
async fn readme_commands_work() {
    let folder = TempDir::new().expect("a temporary folder");
    // They cannot be replaced by 0.
    let [backend_port, https_port] = [free_port(), free_port()].map(|port| port.to_string());
    let readme = readme()
        .replace("8765", &backend_port)
        .replace("8443", &https_port);

    let mut script = PRELUDE.to_owned();
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
            other => panic!("a block in an unknown language: {other:?}"),
        }
    }
    script.push_str(WAIT_FOR_TAKEOVER);
    script.push_str(CHECK_CLIENT_CERT);
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
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{script}\n--- stdout ---\n{stdout}\n--- stderr ---\n{stderr}"
    );
    assert!(
        stdout.lines().any(|line| line == "you said hello"),
        "{stdout}\n{stderr}"
    );
}

/// The commands of the section about certificates, with Pebble as the CA, which resolves every name to this machine.
#[tokio::test]
async fn readme_commands_obtain_a_certificate() {
    let fixture = AcmeFixture::new().await;
    let mut script = String::from(
        r#"
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
lockgate() {
    case "$1 $2" in
    "run --to") "$LOCKGATE" "$@" & ;;
    "cert list") until "$LOCKGATE" "$@" | grep "by Pebble"; do :; done ;;
    *) echo "unknown command: lockgate $*" >&2; exit 1 ;;
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
        .env("LOCKGATE_DATA", fixture.storage())
        .env("LOCKGATE_LISTEN", format!("127.0.0.1:{}", fixture.https))
        .env(
            "LOCKGATE_ADMIN",
            format!("unix:{}/admin.sock", fixture.folder.path().display()),
        )
        .env("LOCKGATE_ACME_DIRECTORY", fixture.pebble.directory())
        .env("LOCKGATE_ACME_CA_FILE", fixture.pebble.ca())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("timeout and bash are there");
    assert!(output.status.success(), "{script}\n{output:?}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("until 20"), "{stdout}");
}

#[tokio::test]
async fn readme_configurations_are_valid() {
    let folder = TempDir::new().expect("a temporary folder");
    let readme = readme();
    let mut configs = blocks(&readme)
        .into_iter()
        .filter(|block| block.language == "toml")
        .peekable();
    assert!(configs.peek().is_some(), "it shows one");
    // The README's commands create this file.
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
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert!(!stderr.contains("warning: "), "{stderr}");
    }
}

#[test]
fn readme_begins_with_demo_and_tests() {
    let readme = readme();
    let commands: Vec<_> = blocks(&readme)
        .into_iter()
        .filter(|block| block.language == "sh")
        .take(2)
        .collect();
    assert_eq!(commands[0].text, "cargo run -- demo\n");
    assert_eq!(commands[1].text, "tests/run\n");
}

/// The section whose commands need a CA.
const CERTIFICATES: &str = "Certificates";

/// A fenced code block of the README.
struct Block<'a> {
    /// The heading above it.
    section: &'a str,
    language: &'a str,
    text: String,
}

impl Block<'_> {
    /// The name of the file, which is in its first line: `# server.py`.
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

/// Writes an empty `tests/run`, because this test is part of the real one.
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
