//! The file of the access log: its rotation by rename, and a FIFO in its place.

use crate::harness::{Backend, Lockgate, eventually, observe, within};
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::unix::pipe};

struct Scene {
    folder: TempDir,
    lockgate: Lockgate,
}

// === impl Scene ===

impl Scene {
    async fn new(prepare: impl FnOnce(&Path)) -> Scene {
        let folder = TempDir::new().expect("a temporary folder");
        prepare(folder.path());
        let file = folder.path().join("access.log").display().to_string();
        let setup = Lockgate::to(Backend::echo().await).server(&format!("access = {file:?}"));
        Scene {
            folder,
            lockgate: setup.start().await,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends a request that is refused, which writes one line with this path.
    async fn request(&self, path: &str) {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n");
        let mut client = self.lockgate.request(request).await;
        assert_eq!(client.head().await.status(), 404);
    }

    async fn until_logged(&self, file: &str, text: &str) {
        eventually("a line in the access log", async || {
            let written = fs::read_to_string(self.path(file)).unwrap_or_default();
            observe(written, |written| written.contains(text))
        })
        .await;
    }

    /// Renames the log, as logrotate does, after it has a line.
    async fn rotate(&self, to: &str) {
        self.request("/before").await;
        self.until_logged("access.log", "/before").await;
        fs::rename(self.path("access.log"), self.path(to)).expect("ours");
    }

    /// Checks that the next line is in the new file, and not in the renamed one.
    async fn expect_reopened(&self, renamed: &str) {
        let after = format!("/after-{renamed}");
        self.request(&after).await;
        self.until_logged("access.log", &after).await;
        let before = fs::read_to_string(self.path(renamed)).expect("renamed above");
        assert!(!before.contains(&after), "{before}");
    }
}

#[tokio::test]
async fn renamed_access_log_is_reopened_on_sighup_also_with_an_invalid_configuration() {
    let scene = Scene::new(|_| {}).await;
    for round in ["1", "2"] {
        scene.rotate(round).await;
        scene.lockgate.signal(Signal::HUP);
        eventually("the new file", async || {
            observe(scene.path("access.log").exists(), |exists| *exists)
        })
        .await;
        scene.expect_reopened(round).await;
        // The second round has a configuration that is refused.
        scene.lockgate.write_config("nonsense");
    }
}

#[tokio::test]
async fn renamed_access_log_is_reopened_by_the_reload_command() {
    let scene = Scene::new(|_| {}).await;
    scene.rotate("1").await;
    let (succeeded, text) = scene.lockgate.command(&["reload"]).await;
    assert!(succeeded, "{text}");
    assert!(
        scene.path("access.log").exists(),
        "when the command has returned"
    );
    scene.expect_reopened("1").await;
}

#[tokio::test]
async fn renamed_or_removed_access_log_is_reopened_without_a_signal() {
    let scene = Scene::new(|_| {}).await;
    scene.rotate("1").await;
    let lines_come = async |text: &str| {
        eventually("a line in the new file", async || {
            scene.request(text).await;
            let written = fs::read_to_string(scene.path("access.log")).unwrap_or_default();
            observe(written, |written| written.contains(text))
        })
        .await;
    };
    lines_come("/renamed").await;
    fs::remove_file(scene.path("access.log")).expect("ours");
    lines_come("/removed").await;
}

#[tokio::test]
async fn fifo_without_a_reader_does_not_delay_the_start_and_is_read_later() {
    let scene = Scene::new(|folder| {
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, folder.join("access.log"), FileType::Fifo, mode, 0).expect("writable");
    })
    .await;
    scene.request("/early").await;
    let reader = pipe::OpenOptions::new().open_receiver(scene.path("access.log"));
    let mut reader = reader.expect("ours");
    let mut text = String::new();
    within("both lines", async {
        scene.request("/late").await;
        let mut part = [0; 4096];
        while !text.contains("/early") || !text.contains("/late") {
            let read = reader.read(&mut part).await.expect("a pipe");
            text.push_str(&String::from_utf8_lossy(&part[..read]));
        }
    })
    .await;
}
