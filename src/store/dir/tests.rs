use crate::store::dir::*;
use std::{
    env,
    os::unix::fs::chown,
    process::{Command, Stdio},
};
use tempfile::TempDir;

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn saved_files_are_private() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("acme/ca.test");
    let folder = DirStore::at(path.clone());
    assert_eq!(folder.load("a.test.pem").unwrap(), None);
    for content in [&b"one"[..], b"", b"three"] {
        folder.save("a.test.pem", content).unwrap();
        assert_eq!(folder.load("a.test.pem").unwrap().unwrap(), content);
    }
    assert_eq!(mode(path.clone()), 0o700);
    assert_eq!(mode(path.join("a.test.pem")), 0o600);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn permissions_of_an_existing_directory_are_restricted() {
    let parent = TempDir::new().unwrap();
    fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
    let folder = DirStore::at(parent.path().to_owned());
    folder.save("account.pem", b"key").unwrap();
    assert_eq!(mode(parent.path().to_owned()), 0o700);
}

#[test]
fn files_of_another_user_are_neither_read_nor_written_over() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can give a file to another user: run the tests as root"
    );
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("acme");
    let folder = DirStore::at(path.clone());
    folder.save("account.pem", b"key").unwrap();
    let file = path.join("account.pem");
    for foreign in [&file, &path] {
        chown(foreign, Some(12_345), None).unwrap();
        let error = folder.load("account.pem").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("12345"), "{error}");
        if foreign == &path {
            assert!(folder.save("account.pem", b"new").is_err());
            assert!(folder.lock().is_err());
        }
        chown(foreign, Some(0), None).unwrap();
    }
    assert_eq!(folder.load("account.pem").unwrap().unwrap(), b"key");
}

#[test]
fn fifo_in_the_directory_is_quarantined_like_garbage() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("a.test.pem");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let folder = DirStore::at(parent.path().to_owned());
    assert_eq!(folder.load("a.test.pem").unwrap().unwrap(), b"");
}

#[test]
fn leftover_of_a_crash_does_not_block_a_save() {
    let parent = TempDir::new().unwrap();
    let folder = DirStore::at(parent.path().to_owned());
    fs::write(
        parent.path().join(".a.test.pem.new"),
        "half of something long",
    )
    .unwrap();
    assert_eq!(folder.load("a.test.pem").unwrap(), None);
    folder.save("a.test.pem", b"whole").unwrap();
    assert_eq!(folder.load("a.test.pem").unwrap().unwrap(), b"whole");
}

#[test]
fn quarantined_file_is_kept() {
    let parent = TempDir::new().unwrap();
    let folder = DirStore::at(parent.path().to_owned());
    folder.save("a.test.pem", b"garbage").unwrap();
    let moved = folder.quarantine("a.test.pem").unwrap();
    assert_eq!(folder.load("a.test.pem").unwrap(), None);
    assert_eq!(fs::read(moved).unwrap(), b"garbage");
}

#[test]
fn lock_is_exclusive() {
    let parent = TempDir::new().unwrap();
    let (one, other) = (
        DirStore::at(parent.path().to_owned()),
        DirStore::at(parent.path().to_owned()),
    );
    let lock = one.lock().unwrap();
    assert!(lock.is_some());
    assert!(other.lock().unwrap().is_none());
    drop(lock);
    assert!(other.lock().unwrap().is_some());
}

/// Saves once if it runs as a child of [`killed`]; otherwise does nothing.
#[test]
fn saves_once_as_a_child() {
    if let Some(folder) = env::var_os(CHILD) {
        DirStore::at(folder.into()).save("a.test.pem", NEW).unwrap();
    }
}

/// Returns true if a process that saves [`NEW`] was killed at the start of its `nth` call of `syscall` on our files.
fn killed(folder: &Path, syscall: &str, nth: u32) -> bool {
    let files = [
        folder.to_owned(),
        folder.join("a.test.pem"),
        folder.join(".a.test.pem.new"),
    ];
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null"])
        .args(
            files
                .iter()
                .flat_map(|file| ["-P".as_ref(), file.as_os_str()]),
        )
        .args(["-e".to_owned(), format!("trace={syscall}")])
        .args([
            "-e".to_owned(),
            format!("inject={syscall}:signal=KILL:when={nth}"),
        ])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "store::dir::tests::saves_once_as_a_child"])
        .env(CHILD, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("strace is missing: run tests/run once, or apt-get install strace");
    !status.success()
}

#[test]
fn crash_at_any_step_leaves_the_old_or_the_new_content() {
    let mut kills = Vec::new();
    for syscall in ["openat", "write", "fsync", "rename"] {
        for nth in 1.. {
            let parent = TempDir::new().unwrap();
            let path = parent.path().join("acme");
            let folder = DirStore::at(path.clone());
            folder.save("a.test.pem", OLD).unwrap();
            let was_killed = killed(&path, syscall, nth);
            let found = folder.load("a.test.pem").unwrap().unwrap();
            assert!(found == OLD || found == NEW, "{syscall} {nth}: {found:?}");
            // The next process is not affected.
            folder.save("a.test.pem", NEWER).unwrap();
            assert_eq!(folder.load("a.test.pem").unwrap().unwrap(), NEWER);
            assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "{syscall} {nth}");
            if !was_killed {
                assert_eq!(found, NEW, "{syscall} {nth}");
                break;
            }
            kills.push((syscall, nth, found == NEW));
        }
    }
    // The steps: open, write, sync the file, rename, sync the folder.
    let expected = [
        ("openat", 1, false),
        ("openat", 2, true),
        ("write", 1, false),
        ("fsync", 1, false),
        ("fsync", 2, true),
        ("rename", 1, false),
    ];
    assert_eq!(kills, expected);
}

const CHILD: &str = "LOCKGATE_TEST_SAVES_IN";

const OLD: &[u8] = b"old";

const NEW: &[u8] = b"new";

const NEWER: &[u8] = b"newer";
