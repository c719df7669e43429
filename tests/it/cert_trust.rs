//! `lockgate cert trust` with the NSS databases of browsers, and a real certutil.

use std::{fs, path::Path, process::Output};
use tempfile::TempDir;
use tokio::process::Command;

#[tokio::test]
async fn ca_is_added_to_the_databases_of_browsers_and_removed_as_printed() {
    let home = home().await;
    // Twice: an earlier CA is replaced.
    for _ in 0..2 {
        let output = trust(home.path(), None).await;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        for folder in DATABASES {
            let folder = home.path().join(folder);
            let listed = certutil(&["-L"], &folder).await;
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            let is_trusted =
                |line: &str| line.starts_with("lockgate-dev ") && line.ends_with("C,,");
            assert_eq!(
                listed
                    .lines()
                    .filter(|line| is_trusted(line.trim()))
                    .count(),
                1,
                "{listed}\n{text}"
            );
            assert!(text.contains(&folder.display().to_string()), "{text}");
        }
        // The commands for the system's store, which only root may change, and those that undo each step.
        assert!(text.contains("sudo rm "), "{text}");
        let undo = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("to undo it: certutil "));
        let undo: Vec<&str> = undo.collect();
        assert_eq!(undo.len(), DATABASES.len(), "{text}");
        for command in undo {
            let run = Command::new("/bin/sh")
                .args(["-c", &format!("certutil {command}")])
                .output();
            assert!(run.await.expect("a shell").status.success(), "{command}");
        }
        for folder in DATABASES {
            let listed = certutil(&["-L"], &home.path().join(folder)).await;
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            assert!(!listed.contains("lockgate-dev"), "{listed}");
        }
    }
}

#[tokio::test]
async fn missing_certutil_is_named_with_its_package() {
    let home = home().await;
    let output = trust(home.path(), Some("/nowhere")).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{output:?}");
    assert!(stderr.contains("libnss3-tools"), "{stderr}");
    let none = TempDir::new().expect("a folder");
    open_to_all(none.path());
    let output = trust(none.path(), Some("/nowhere")).await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !stderr.contains("certutil"),
        "no browser, no certutil: {stderr}"
    );
}

/// Root's own databases are changed after the system's store, here of a mount namespace.
#[tokio::test]
async fn root_adds_the_ca_to_the_system_and_its_browsers_and_prints_how_to_undo_both() {
    let home = home().await;
    let script = "for folder in /usr/local/share/ca-certificates /etc/ssl/certs; do mount -t tmpfs none $folder; done; \
                  exec \"$@\"";
    let mut command = Command::new("/usr/bin/unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-ec",
            script,
            "sh",
        ])
        .args([env!("CARGO_BIN_EXE_lockgate"), "cert", "trust"])
        .env("HOME", home.path())
        .env("LOCKGATE_DATA", home.path().join("root-data"));
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), command.output());
    let output = output
        .await
        .expect("it ends")
        .expect("unshare and root are needed for this test");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        text.contains("rm /usr/local/share/ca-certificates/lockgate-dev.crt"),
        "{text}"
    );
    assert_eq!(
        text.matches("to undo it: certutil").count(),
        DATABASES.len(),
        "{text}"
    );
}

/// Runs `lockgate cert trust` as another user than root, who could change the store of this machine.
async fn trust(home: &Path, path: Option<&str>) -> Output {
    // The folder of the build may be closed to other users.
    let program = home.join("lockgate");
    fs::copy(env!("CARGO_BIN_EXE_lockgate"), &program).expect("writable");
    let mut command = Command::new("/usr/bin/setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(program)
        .args(["cert", "trust"])
        .env_clear()
        .env("HOME", home)
        .env("LOCKGATE_DATA", home.join("data"))
        .current_dir("/");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = tokio::time::timeout(std::time::Duration::from_secs(30), command.output());
    output
        .await
        .expect("it ends")
        .expect("setpriv (util-linux) and root are needed for this test")
}

/// A home directory with empty databases.
async fn home() -> TempDir {
    let home = TempDir::new().expect("a folder");
    for folder in DATABASES {
        let folder = home.path().join(folder);
        fs::create_dir_all(&folder).expect("writable");
        let created = certutil(&["-N", "--empty-password"], &folder).await;
        assert!(created.status.success(), "{created:?}");
    }
    open_to_all(home.path());
    home
}

async fn certutil(arguments: &[&str], folder: &Path) -> Output {
    let database = format!("sql:{}", folder.display());
    let output = Command::new("certutil")
        .args(arguments)
        .args(["-d", &database])
        .output();
    output
        .await
        .expect("certutil is needed for this test: apt-get install libnss3-tools")
}

/// Gives a directory with everything in it to the user of [`trust`].
fn open_to_all(folder: &Path) {
    std::os::unix::fs::chown(folder, Some(65534), Some(65534)).expect("this test needs root");
    for entry in fs::read_dir(folder).expect("readable").flatten() {
        let path = entry.path();
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).expect("this test needs root");
        if path.is_dir() {
            open_to_all(&path);
        }
    }
}

/// Databases of Chromium, of Firefox with two profiles, and of Firefox by snap and flatpak.
const DATABASES: [&str; 5] = [
    ".pki/nssdb",
    ".mozilla/firefox/abc.default",
    ".mozilla/firefox/it's second.dev",
    "snap/firefox/common/.mozilla/firefox/x.default",
    ".var/app/org.mozilla.firefox/.mozilla/firefox/y.default",
];
