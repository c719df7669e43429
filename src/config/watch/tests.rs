use crate::config::watch::*;
use std::{fs, os::unix::fs::symlink, path::Path};
use tempfile::TempDir;

/// Well below [`COMPARE_INTERVAL`]: such a change was reported by a kernel event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(8);

/// The maximum delay of a change with a kernel event.
const NO_CHANGE_WAIT: Duration = Duration::from_millis(2_700);

struct Scene {
    folder: TempDir,
    watch: Watch,
}

impl Scene {
    /// Creates a scene; `prepare` fills its directory.
    fn new(watched: &[&str], prepare: impl FnOnce(&Path)) -> Scene {
        let folder = TempDir::new().unwrap();
        prepare(folder.path());
        let watch = Watch::new(watched.iter().map(|path| folder.path().join(path)));
        Scene { folder, watch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Replaces a symbolic link by rename, as `ln -sfn` and Kubernetes do.
    fn swap(&self, target: &str, link: &str) {
        symlink(target, self.path("new-link")).unwrap();
        fs::rename(self.path("new-link"), self.path(link)).unwrap();
    }

    #[track_caller]
    fn expect_change(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let change = tokio::time::timeout(EVENT_TIMEOUT, self.watch.changed()).await;
            assert!(change.is_ok(), "no change reported, awaited at {caller}");
        }
    }

    async fn expect_no_change(&mut self) {
        let change = tokio::time::timeout(NO_CHANGE_WAIT, self.watch.changed()).await;
        assert!(change.is_err(), "report without a change");
    }
}

#[tokio::test]
async fn write_in_place_is_reported_and_equal_content_is_not() {
    let mut scene = Scene::new(&["a", "b"], |at| fs::write(at.join("a"), "1").unwrap());
    scene.write("a", "2");
    scene.expect_change().await;
    scene.write("a", "2");
    scene.write("neighbour", "3");
    scene.expect_no_change().await;
    scene.write("b", "1");
    scene.expect_change().await;
    scene.expect_no_change().await;
}

#[tokio::test]
async fn changed_returns_the_indices_of_changed_paths() {
    let mut scene = Scene::new(&["a", "b", "c"], |at| fs::write(at.join("a"), "1").unwrap());
    scene.write("c", "1");
    fs::remove_file(scene.path("a")).unwrap();
    let changed = tokio::time::timeout(EVENT_TIMEOUT, scene.watch.changed()).await;
    assert_eq!(changed.unwrap(), [0, 2]);
}

#[tokio::test]
async fn changes_before_the_first_wait_are_reported_once() {
    let mut scene = Scene::new(&["a"], |_| {});
    for text in ["1", "2", "3"] {
        scene.write("a", text);
    }
    scene.expect_change().await;
    scene.expect_no_change().await;
}

#[tokio::test]
async fn every_rename_over_the_file_is_reported() {
    let mut scene = Scene::new(&["a"], |at| fs::write(at.join("a"), "0").unwrap());
    for text in ["1", "2", "3"] {
        scene.write("a.tmp", text);
        fs::rename(scene.path("a.tmp"), scene.path("a")).unwrap();
        scene.expect_change().await;
    }
    scene.write("a.tmp", "3");
    fs::rename(scene.path("a.tmp"), scene.path("a")).unwrap();
    scene.expect_no_change().await;
}

#[tokio::test]
async fn removal_and_return_of_a_file_are_reported() {
    let mut scene = Scene::new(&["a"], |at| fs::write(at.join("a"), "1").unwrap());
    fs::remove_file(scene.path("a")).unwrap();
    scene.expect_change().await;
    scene.write("a", "1");
    scene.expect_change().await;
}

#[tokio::test]
async fn swap_of_a_kubernetes_secret_is_reported() {
    let mut scene = Scene::new(&["tls.crt"], |at| {
        fs::create_dir(at.join("..2026_11_20")).unwrap();
        fs::write(at.join("..2026_11_20/tls.crt"), "1").unwrap();
        symlink("..2026_11_20", at.join("..data")).unwrap();
        symlink("..data/tls.crt", at.join("tls.crt")).unwrap();
    });
    let mut before = "..2026_11_20";
    for (day, text) in [("..2026_11_21", "2"), ("..2026_11_22", "3")] {
        fs::create_dir(scene.path(day)).unwrap();
        scene.write(&format!("{day}/tls.crt"), text);
        scene.swap(day, "..data");
        fs::remove_dir_all(scene.path(before)).unwrap();
        scene.expect_change().await;
        before = day;
    }
    // The directory that the link now points to is watched as well.
    scene.write("..2026_11_22/tls.crt", "4");
    scene.expect_change().await;
}

#[tokio::test]
async fn certbot_renewal_is_reported() {
    let mut scene = Scene::new(&["live/x/fullchain.pem"], |at| {
        fs::create_dir_all(at.join("live/x")).unwrap();
        fs::create_dir_all(at.join("archive/x")).unwrap();
        fs::write(at.join("archive/x/fullchain1.pem"), "1").unwrap();
        let target = "../../archive/x/fullchain1.pem";
        symlink(target, at.join("live/x/fullchain.pem")).unwrap();
    });
    scene.write("archive/x/fullchain2.pem", "2");
    scene.swap("../../archive/x/fullchain2.pem", "live/x/fullchain.pem");
    scene.expect_change().await;
    // certbot itself removes the link before it creates the new one.
    scene.write("archive/x/fullchain3.pem", "3");
    fs::remove_file(scene.path("live/x/fullchain.pem")).unwrap();
    let target = "../../archive/x/fullchain3.pem";
    symlink(target, scene.path("live/x/fullchain.pem")).unwrap();
    scene.expect_change().await;
    scene.write("archive/x/fullchain3.pem", "in place");
    scene.expect_change().await;
}

#[tokio::test]
async fn creation_of_a_missing_directory_is_reported() {
    let mut scene = Scene::new(&["deep/er/a"], |_| {});
    fs::create_dir_all(scene.path("deep/er")).unwrap();
    scene.write("deep/er/a", "1");
    scene.expect_change().await;
    // A directory that is created again is a different directory of the same name.
    fs::remove_dir_all(scene.path("deep")).unwrap();
    scene.expect_change().await;
    fs::create_dir_all(scene.path("deep/er")).unwrap();
    scene.write("deep/er/a", "1");
    scene.expect_change().await;
    fs::rename(scene.path("deep/er"), scene.path("deep/old")).unwrap();
    fs::create_dir(scene.path("deep/er")).unwrap();
    scene.write("deep/er/a", "2");
    scene.write("deep/old/a", "not this");
    scene.expect_change().await;
    scene.write("deep/er/a", "3");
    scene.expect_change().await;
}

#[tokio::test]
async fn entry_names_are_the_content_of_a_directory() {
    let mut scene = Scene::new(&["conf.d"], |at| fs::create_dir(at.join("conf.d")).unwrap());
    scene.write("conf.d/a.toml", "1");
    scene.expect_change().await;
    scene.write("conf.d/a.toml", "2");
    scene.expect_no_change().await;
    fs::rename(scene.path("conf.d/a.toml"), scene.path("conf.d/b.toml")).unwrap();
    scene.expect_change().await;
}

#[tokio::test]
async fn circular_links_and_pipes_do_not_block() {
    let mut scene = Scene::new(&["circle", "pipe"], |at| {
        symlink("circle", at.join("circle")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
    });
    scene.swap("neighbour", "circle");
    scene.write("neighbour", "1");
    scene.expect_change().await;
}

/// A cancelled wait loses no change.
#[tokio::test]
async fn cancelled_wait_loses_no_change() {
    let mut scene = Scene::new(&["a"], |_| {});
    scene.write("a", "1");
    for _ in 0..3 {
        let brief = Duration::from_millis(20);
        if tokio::time::timeout(brief, scene.watch.changed())
            .await
            .is_ok()
        {
            return;
        }
    }
    scene.expect_change().await;
}

/// Without kernel events a change is found by comparison.
#[tokio::test]
async fn change_without_kernel_event_is_found_by_comparison() {
    let mut scene = Scene::new(&["a"], |_| {});
    scene.watch.watched_dirs.lock().unwrap().watcher = None;
    scene.watch.due = Instant::now();
    scene.write("a", "1");
    scene.expect_change().await;
}
