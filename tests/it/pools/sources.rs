//! More connections to one backend than one address of this machine has ports.

use crate::harness::{program::interpreter, within};
use tempfile::TempDir;
use tokio::process::Command;

/// Opens fifty sessions in a network namespace where an address has twenty ports; returns how many succeed.
async fn sessions_with_sources(sources: &str) -> usize {
    assert!(
        rustix::process::getuid().is_root(),
        "a network namespace is made, which only root may do: run the tests as root with CAP_SYS_ADMIN, or leave this one \
         out (cargo nextest run -E 'not test(pools::sources)')"
    );
    let folder = TempDir::new().expect("a temporary folder");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/ports.py");
    let limit_ports =
        "ip link set lo up; echo 40000 40019 >/proc/sys/net/ipv4/ip_local_port_range; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--net", "/bin/sh", "-ec", limit_ports, "sh"])
        .arg(interpreter())
        .args([script, env!("CARGO_BIN_EXE_lockgate")])
        .arg(folder.path())
        .arg(sources)
        .kill_on_drop(true)
        .output();
    let output = within("fifty sessions", output).await.expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    stdout.trim().parse().expect("how many")
}

#[tokio::test]
async fn source_addresses_permit_more_connections_than_ports() {
    // The clients use some of the twenty ports.
    let alone = sessions_with_sources("[]").await;
    let more =
        sessions_with_sources(r#"["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]"#).await;
    println!("{alone} sessions with one source address, {more} with four");
    assert!(alone <= 20 && more > 20, "{alone}, {more}");
}
