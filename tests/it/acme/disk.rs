//! A disk on its bad days.

use super::fixture::{Rig, failed, issued, stop, until};
use std::{fs, path::PathBuf, process::Command};

/// A tmpfs of its own, unmounted on drop.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Disk {
        fs::create_dir_all(&at).expect("writable");
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                "size=64k,mode=700",
                "tmpfs",
                &at.display().to_string(),
            ],
        );
        Disk(at)
    }

    fn remount(&self, how: &str) {
        run(
            "mount",
            &[
                "-o",
                &format!("remount,{how}"),
                &self.0.display().to_string(),
            ],
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .expect("Debian has it");
    assert!(
        status.success(),
        "{program} {arguments:?} (as root): {status}"
    );
}

#[tokio::test]
async fn a_full_disk_is_as_good_as_memory_until_there_is_room() {
    let rig = Rig::new().await;
    let disk = Disk::mount(rig.storage());
    rig.prepare(&["a.test"]).await;
    let ballast = disk.0.join("ballast");
    // Fails when nothing more goes in, which is what is wanted.
    let _ = fs::write(&ballast, vec![0; 1 << 20]);

    let mut lockgate = rig.start(&["a.test", "b.test"], "").await;
    issued(&lockgate, "b.test").await;
    for host in ["a.test", "b.test"] {
        rig.leaf(host).await.expect("served");
    }
    failed(&lockgate, "b.test", "No space left on device").await;
    assert!(lockgate.stderr().contains("kept in memory only"));

    fs::remove_file(ballast).expect("there");
    until(&lockgate, "b.test", |row| row["error"].is_null()).await;
    stop(&mut lockgate).await;
    let _lockgate = rig.start(&["a.test", "b.test"], "").await;
    rig.leaf("b.test").await.expect("kept after all");
    assert_eq!(rig.pebble.orders(), 2);
}

#[tokio::test]
async fn a_read_only_disk_is_as_good_as_memory_until_it_can_be_written() {
    let rig = Rig::new().await;
    let disk = Disk::mount(rig.storage());
    rig.prepare(&["a.test"]).await;
    disk.remount("ro");

    let mut lockgate = rig.start(&["a.test", "b.test"], "").await;
    issued(&lockgate, "b.test").await;
    for host in ["a.test", "b.test"] {
        rig.leaf(host).await.expect("served");
    }
    failed(&lockgate, "b.test", "Read-only file system").await;

    disk.remount("rw");
    until(&lockgate, "b.test", |row| row["error"].is_null()).await;
    stop(&mut lockgate).await;
    let _lockgate = rig.start(&["a.test", "b.test"], "").await;
    rig.leaf("b.test").await.expect("kept after all");
    assert_eq!(rig.pebble.orders(), 2);
}

/// What became of the files of `a.test` costs it one order, and `b.test` nothing.
async fn damaged(damage: impl FnOnce(Vec<u8>) -> Vec<u8>, words: &str) {
    let rig = Rig::new().await;
    rig.prepare(&["a.test", "b.test"]).await;
    let other = rig.leaf_of("b.test");
    let folder = rig.kept(&rig.pebble.directory());
    let file = folder.join("a.test.pem");
    let before = fs::read(&file).expect("kept");
    fs::write(&file, damage(before)).expect("ours");

    let lockgate = rig.start(&["a.test", "b.test"], "").await;
    rig.leaf("b.test").await.expect("served throughout");
    issued(&lockgate, "a.test").await;
    rig.leaf("a.test").await.expect("served again");
    assert_eq!(rig.pebble.orders(), 3);
    assert_eq!(rig.leaf_of("b.test"), other);
    let stderr = lockgate.stderr();
    assert!(
        stderr.contains("cannot be used, and was moved to") && stderr.contains(words),
        "{stderr}"
    );
    let mut files = fs::read_dir(folder)
        .expect("there")
        .map(|file| file.expect("read").file_name());
    assert!(files.any(|file| file.to_string_lossy().starts_with("a.test.pem.unusable-")));
}

#[tokio::test]
async fn a_certificate_that_is_cut_off() {
    let half = |mut file: Vec<u8>| {
        file.truncate(file.len() / 3);
        file
    };
    damaged(half, "no certificate that can be used").await;
}

#[tokio::test]
async fn a_certificate_that_is_empty() {
    damaged(|_| Vec::new(), "it is empty").await;
}

#[tokio::test]
async fn a_certificate_that_is_garbage() {
    damaged(
        |file| file.iter().map(|byte| byte ^ 0x55).collect(),
        "no private key",
    )
    .await;
}

#[tokio::test]
async fn an_account_key_that_is_lost() {
    for garbage in [false, true] {
        let rig = Rig::new().await;
        rig.prepare(&["a.test"]).await;
        let file = rig.kept(&rig.pebble.directory()).join("account.pem");
        match garbage {
            true => fs::write(&file, "garbage").expect("ours"),
            false => fs::remove_file(&file).expect("kept"),
        }
        let lockgate = rig.start(&["a.test", "b.test"], "").await;
        rig.leaf("a.test").await.expect("served throughout");
        issued(&lockgate, "b.test").await;
        assert_eq!(rig.pebble.orders(), 2);
    }
}
