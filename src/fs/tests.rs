use crate::fs::*;
use std::{
    ffi::OsStr,
    fs::Permissions,
    os::unix::{
        fs::{PermissionsExt, chown, symlink},
        net::UnixListener,
    },
};
use tempfile::TempDir;

/// Creates a FIFO that no process has opened.
fn fifo(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[test]
fn only_regular_files_up_to_the_limit_are_read() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "12345").unwrap();
    fs::write(at("empty"), "").unwrap();
    symlink("file", at("link")).unwrap();
    for (name, expected) in [("file", "12345"), ("link", "12345"), ("empty", "")] {
        assert_eq!(read(&at(name), 5).unwrap(), expected.as_bytes(), "{name}");
    }
    fifo(&at("fifo"));
    symlink("fifo", at("to-fifo")).unwrap();
    symlink("/dev/zero", at("to-zero")).unwrap();
    symlink("nowhere", at("to-nowhere")).unwrap();
    symlink("loop", at("loop")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    for (path, expected) in [
        (at("fifo"), "is a FIFO"),
        (at("to-fifo"), "is a FIFO"),
        (at("to-zero"), "is a device"),
        (at("socket"), "is a socket"),
        (folder.path().to_owned(), "is a folder"),
        (at("to-nowhere"), "there is no file"),
        (at("none"), "there is no file"),
        (at("file/none"), "cannot read"),
        (at("loop"), "cannot read"),
        (PathBuf::from(OsStr::new("a\0b")), "cannot read"),
    ] {
        let error = read(&path, 5).unwrap_err();
        assert!(error.to_string().contains(expected), "{path:?}: {error}");
        assert!(!error.hint().is_empty());
    }
    let error = read(&at("file"), 4).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} is larger than 4 bytes", at("file").display())
    );
}

#[test]
fn file_whose_size_is_reported_as_0_is_read_up_to_the_limit() {
    let path = Path::new("/proc/self/pagemap");
    assert_eq!(fs::metadata(path).unwrap().len(), 0);
    let error = read(path, 1 << 20).unwrap_err();
    assert_eq!(error.to_string(), "/proc/self/pagemap is larger than 1 MiB");
}

#[test]
fn owner_and_mode_decide_whether_a_file_is_private() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, "").unwrap();
    for (mode, not_writable, secret) in [
        (0o600, Ok(()), Ok(())),
        (0o644, Ok(()), Err(NotPrivate::Readable(0o644))),
        (
            0o620,
            Err(NotPrivate::Writable(0o620)),
            Err(NotPrivate::Writable(0o620)),
        ),
        (
            0o602,
            Err(NotPrivate::Writable(0o602)),
            Err(NotPrivate::Writable(0o602)),
        ),
    ] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let found = check_private(&metadata, WRITABLE_BY_OTHERS);
        assert_eq!(found, not_writable, "{mode:o}");
        assert_eq!(check_private(&metadata, OPEN_TO_OTHERS), secret, "{mode:o}");
    }
}

#[test]
fn file_of_another_user_is_not_private() {
    assert!(
        geteuid().is_root(),
        "only root can give a file to another user: run the tests as root"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(file.path(), Permissions::from_mode(0o600)).unwrap();
    chown(file.path(), Some(12_345), None).unwrap();
    let metadata = fs::metadata(file.path()).unwrap();
    let found = check_private(&metadata, WRITABLE_BY_OTHERS);
    assert_eq!(found, Err(NotPrivate::Owner(12_345)));
}
