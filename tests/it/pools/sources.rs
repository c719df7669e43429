//! More connections to one backend than one address of this machine has ports.

use crate::harness::{program::interpreter, within};
use tempfile::TempDir;
use tokio::process::Command;

/// How many of fifty sessions there are, where an address has twenty ports, in a network namespace of its own.
async fn of_fifty(sources: &str) -> usize {
    assert!(
        rustix::process::getuid().is_root(),
        "a network namespace is made, which only root may do: run the tests as root with CAP_SYS_ADMIN, or leave this one \
         out (cargo nextest run -E 'not test(pools::sources)')"
    );
    let folder = TempDir::new().expect("a temporary folder");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/ports.py");
    let narrow =
        "ip link set lo up; echo 40000 40019 >/proc/sys/net/ipv4/ip_local_port_range; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--net", "/bin/sh", "-ec", narrow, "sh"])
        .arg(interpreter())
        .args([script, env!("CARGO_BIN_EXE_lockgate")])
        .arg(folder.path())
        .arg(sources)
        .kill_on_drop(true)
        .output();
    let output = within("fifty sessions", output).await.expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().expect("how many")
}

#[tokio::test]
async fn one_backend_takes_more_than_one_address_has_ports() {
    // Some of the twenty are the clients'.
    let alone = of_fifty("[]").await;
    let more = of_fifty(r#"["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]"#).await;
    println!("of an address {alone} sessions, of four {more}");
    assert!(alone <= 20 && more > 20, "{alone}, {more}");
}
