//! Faults of the disk with the certificate store.

use super::fixture::{AcmeFixture, failed, issued, stop, until};
use crate::harness::eventually;
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
async fn full_disk_keeps_certificates_in_memory_until_they_can_be_saved() {
    let fixture = AcmeFixture::new().await;
    let disk = Disk::mount(fixture.storage());
    fixture.prepare(&["a.test"]).await;
    let filler = disk.0.join("ballast");
    // Fails once the disk is full.
    let _ = fs::write(&filler, vec![0; 1 << 20]);

    let mut lockgate = fixture.start(&["a.test", "b.test"], "").await;
    issued(&lockgate, "b.test").await;
    for host in ["a.test", "b.test"] {
        fixture.leaf(host).await.expect("served");
    }
    failed(&lockgate, "b.test", "No space left on device").await;
    lockgate.until_logged("kept in memory only").await;

    fs::remove_file(filler).expect("there");
    until(&lockgate, "b.test", |row| row["error"].is_null()).await;
    stop(&mut lockgate).await;
    let _lockgate = fixture.start(&["a.test", "b.test"], "").await;
    fixture.leaf("b.test").await.expect("kept after all");
    assert_eq!(fixture.pebble.orders(), 2);
}

#[tokio::test]
async fn read_only_disk_keeps_certificates_in_memory_until_they_can_be_saved() {
    let fixture = AcmeFixture::new().await;
    let disk = Disk::mount(fixture.storage());
    fixture.prepare(&["a.test"]).await;
    disk.remount("ro");

    let mut lockgate = fixture.start(&["a.test", "b.test"], "").await;
    issued(&lockgate, "b.test").await;
    for host in ["a.test", "b.test"] {
        fixture.leaf(host).await.expect("served");
    }
    failed(&lockgate, "b.test", "Read-only file system").await;

    disk.remount("rw");
    until(&lockgate, "b.test", |row| row["error"].is_null()).await;
    stop(&mut lockgate).await;
    let _lockgate = fixture.start(&["a.test", "b.test"], "").await;
    fixture.leaf("b.test").await.expect("kept after all");
    assert_eq!(fixture.pebble.orders(), 2);
}

/// Checks that a damaged file of `a.test` causes one order for `a.test` and none for `b.test`.
async fn damaged(damage: impl FnOnce(Vec<u8>) -> Vec<u8>, error: &str) {
    let fixture = AcmeFixture::new().await;
    fixture.prepare(&["a.test", "b.test"]).await;
    let other = fixture.leaf_of("b.test");
    let folder = fixture.store_of(&fixture.pebble.directory());
    let file = folder.join("a.test.pem");
    let before = fs::read(&file).expect("kept");
    fs::write(&file, damage(before)).expect("ours");

    let lockgate = fixture.start(&["a.test", "b.test"], "").await;
    fixture.leaf("b.test").await.expect("served throughout");
    issued(&lockgate, "a.test").await;
    fixture.leaf("a.test").await.expect("served again");
    assert_eq!(fixture.pebble.orders(), 3);
    assert_eq!(fixture.leaf_of("b.test"), other);
    eventually("the error of the file in the log", async || {
        let log = lockgate.log("ERROR");
        let moved = log.iter().find(|line| line["name"] == "a.test.pem");
        let is_explained = moved.is_some_and(|line| line.to_string().contains(error));
        is_explained.then_some(()).ok_or(format!("{log:?}"))
    })
    .await;
    let mut files = fs::read_dir(folder)
        .expect("there")
        .map(|file| file.expect("read").file_name());
    assert!(files.any(|file| file.to_string_lossy().starts_with("a.test.pem.unusable-")));
}

#[tokio::test]
async fn truncated_certificate_is_ordered_again() {
    let truncate = |mut file: Vec<u8>| {
        file.truncate(file.len() / 3);
        file
    };
    damaged(truncate, "it is damaged").await;
}

#[tokio::test]
async fn empty_certificate_is_ordered_again() {
    damaged(|_| Vec::new(), "it is empty").await;
}

#[tokio::test]
async fn corrupt_certificate_is_ordered_again() {
    damaged(
        |file| file.iter().map(|byte| byte ^ 0x55).collect(),
        "no usable private key",
    )
    .await;
}

#[tokio::test]
async fn lost_account_key_is_replaced() {
    for garbage in [false, true] {
        let fixture = AcmeFixture::new().await;
        fixture.prepare(&["a.test"]).await;
        let file = fixture
            .store_of(&fixture.pebble.directory())
            .join("account.pem");
        if garbage {
            fs::write(&file, "garbage").expect("ours")
        } else {
            fs::remove_file(&file).expect("kept")
        }
        let lockgate = fixture.start(&["a.test", "b.test"], "").await;
        fixture.leaf("a.test").await.expect("served throughout");
        issued(&lockgate, "b.test").await;
        assert_eq!(fixture.pebble.orders(), 2);
    }
}
