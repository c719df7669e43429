use crate::tls::trust::*;
use std::fs;
use tempfile::TempDir;

#[test]
fn commands_contain_the_file_in_shell_quotes() {
    let text = trust_commands(Path::new("/home/it's me/ca.pem"));
    for part in [
        "update-ca-certificates",
        "update-ca-trust",
        "add-trusted-cert",
        "Import-Certificate",
        "certutil -d sql:",
        "SSL_CERT_FILE='/home/it'\\''s me/ca.pem'",
        "NODE_EXTRA_CA_CERTS='/home/it'\\''s me/ca.pem'",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(quoted(Path::new("/plain/ca.pem")), "/plain/ca.pem");
}

#[test]
fn trust_store_is_found_by_its_folder() {
    let ca = Path::new("/d/ca.pem");
    for (folder, expected) in [
        (
            "usr/local/share/ca-certificates",
            "/lockgate-dev.crt && sudo update-ca-certificates",
        ),
        (
            "etc/pki/ca-trust/source/anchors",
            "/lockgate-dev.pem && sudo update-ca-trust",
        ),
        (
            "etc/pki/trust/anchors",
            "/lockgate-dev.pem && sudo update-ca-certificates",
        ),
        (
            "etc/ca-certificates/trust-source/anchors",
            "/lockgate-dev.pem && sudo update-ca-trust",
        ),
    ] {
        let root = TempDir::new().unwrap();
        assert_eq!(TrustStore::find(root.path()), None);
        fs::create_dir_all(root.path().join(folder)).unwrap();
        let commands = TrustStore::find(root.path()).unwrap().commands(ca);
        assert!(commands.starts_with("sudo cp /d/ca.pem "), "{commands}");
        assert!(
            commands.ends_with(&format!("{folder}{expected}")),
            "{commands}"
        );
    }
    let root = TempDir::new().unwrap();
    fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    fs::write(root.path().join("usr/bin/security"), "").unwrap();
    let commands = TrustStore::find(root.path()).unwrap().commands(ca);
    assert!(
        commands.starts_with("sudo /usr/bin/security add-trusted-cert"),
        "{commands}"
    );
    assert!(
        commands.ends_with("System.keychain /d/ca.pem"),
        "{commands}"
    );
}

#[test]
fn add_copies_the_file_runs_the_command_and_reports_failures() {
    let folder = TempDir::new().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, "pem").unwrap();
    let target = folder.path().join("lockgate-dev.crt");
    let store = |command| TrustStore {
        copy_to: Some(target.clone()),
        command,
        takes_file: false,
    };
    let done = store(&["true"]).add(&ca).unwrap();
    assert!(done.contains("lockgate-dev.crt"), "{done}");
    assert_eq!(fs::read_to_string(&target).unwrap(), "pem");

    let refused = store(&["sh", "-c", "echo first >&2; echo why >&2; exit 3"]).add(&ca);
    assert!(matches!(refused, Err(TrustError::Refused { output, .. }) if output == "why"));
    let missing = store(&["/nonexistent/command"]).add(&ca);
    assert!(matches!(missing, Err(TrustError::Run { .. })));
    let nothing = store(&["true"]).add(&folder.path().join("none.pem"));
    assert!(matches!(nothing, Err(TrustError::Copy { to, .. }) if to == target));
}
