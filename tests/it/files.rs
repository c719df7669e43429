//! Files that an operator names and that are not regular files, have no end, or are on a mount that hangs.

use crate::harness::{Backend, Lockgate, Program, eventually, eventually_within, observe, within};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{process::Command, time::Instant};

/// Longer than the deadline of a reload.
const RELOAD_DEADLINE: Duration = Duration::from_secs(90);

/// The files that no configuration may make Lockgate read, with a word of their error.
const SPECIAL_FILES: [(&str, &str); 4] = [
    ("fifo", "FIFO"),
    ("link-to-fifo", "FIFO"),
    ("link-to-zero", "device"),
    ("link-to-pagemap", "larger than"),
];

fn special_files(folder: &Path) {
    let at = |name: &str| folder.join(name);
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("writable");
    symlink("fifo", at("link-to-fifo")).expect("writable");
    symlink("/dev/zero", at("link-to-zero")).expect("writable");
    symlink("/proc/self/pagemap", at("link-to-pagemap")).expect("writable");
}

fn route(to: &str, more: &str) -> String {
    format!("[[routes]]\nhosts = [\"a.test\"]\n{to}\norigins = [\"*\"]\n{more}\n")
}

/// A configuration for every key that names a file to read.
fn configurations(file: &str) -> Vec<(&'static str, String)> {
    let plain = "to = \"ws://127.0.0.1:1\"";
    let backend = |tls: &str| {
        format!(
            "[tls]\ndev_ca = true\n[pools.p]\nbackends = [{{ address = \"wss://127.0.0.1:1\", tls = {{ {tls} }} }}]\n{}",
            route("pool = \"p\"", "")
        )
    };
    vec![
        (
            "include",
            format!(
                "include = [\"{file}\"]\n[tls]\ndev_ca = true\n{}",
                route(plain, "")
            ),
        ),
        (
            "include pattern",
            format!(
                "include = [\"{file}*\"]\n[tls]\ndev_ca = true\n{}",
                route(plain, "")
            ),
        ),
        (
            "cert",
            format!(
                "[tls]\ncertificates = [{{ cert = \"{file}\", key = \"none\" }}]\n{}",
                route(plain, "")
            ),
        ),
        (
            "key",
            format!(
                "[tls]\ncertificates = [{{ cert = \"none\", key = \"{file}\" }}]\n{}",
                route(plain, "")
            ),
        ),
        (
            "client_ca",
            format!(
                "[tls]\ndev_ca = true\nclient_ca = \"{file}\"\n{}",
                route(plain, "client_cert = \"require\"")
            ),
        ),
        ("backend ca", backend(&format!("ca = \"{file}\""))),
        (
            "backend cert",
            backend(&format!("cert = \"{file}\", key = \"{file}\"")),
        ),
        (
            "acme.ca_file",
            format!(
                "[acme]\nca_file = \"{file}\"\nstorage = \"storage\"\n{}",
                route(plain, "")
            ),
        ),
    ]
}

/// Runs `lockgate check` with at most 2 GB of address space.
async fn check(folder: &Path, file: &str) -> Output {
    let script = "ulimit -v 2000000; exec \"$@\"";
    let command = Command::new("/bin/sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_lockgate")])
        .args(["check", "--config", file])
        .env_clear()
        .env("LOCKGATE_DATA", folder.join("data"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    within(&format!("the end of a check of {file}"), command)
        .await
        .expect("it starts")
}

#[tokio::test]
async fn check_refuses_special_files_in_every_key() {
    let folder = TempDir::new().expect("a temporary folder");
    special_files(folder.path());
    for (file, expected) in SPECIAL_FILES {
        for (key, text) in configurations(file) {
            fs::write(folder.path().join("config.toml"), text).expect("writable");
            let output = check(folder.path(), "config.toml").await;
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{key}, {file}: {stderr}");
            assert!(
                stderr.contains(expected) && stderr.contains("help: "),
                "{key}, {file}: {stderr}"
            );
        }
        // The configuration itself.
        let output = check(folder.path(), file).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{file}: {stderr}");
        assert!(stderr.contains(expected), "{file}: {stderr}");
    }
}

#[tokio::test]
async fn include_pattern_that_visits_too_many_files_is_an_error() {
    let folder = TempDir::new().expect("a temporary folder");
    let write = |text: &str| fs::write(folder.path().join("config.toml"), text).expect("writable");
    for pattern in ["/**/x", "/**", "/*/*/*/*/*/*/*.toml", "/proc/**/pagemap"] {
        write(&format!(
            "include = [\"{pattern}\", \"{pattern}\"]\n[tls]\ndev_ca = true\n{}",
            route("to = \"ws://127.0.0.1:1\"", "")
        ));
        let output = check(folder.path(), "config.toml").await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{pattern}: {stderr}");
        assert!(stderr.contains("visits more than"), "{pattern}: {stderr}");
        assert!(stderr.contains("conf.d"), "{pattern}: {stderr}");
    }
}

#[tokio::test]
async fn size_of_all_included_files_together_is_limited() {
    let folder = TempDir::new().expect("a temporary folder");
    for index in 0..20 {
        symlink(
            "/proc/self/pagemap",
            folder.path().join(format!("{index}.toml")),
        )
        .expect("writable");
    }
    fs::create_dir(folder.path().join("etc")).expect("writable");
    fs::write(
        folder.path().join("etc/config.toml"),
        format!(
            "include = [\"../*.toml\"]\n[tls]\ndev_ca = true\n{}",
            route("to = \"ws://127.0.0.1:1\"", "")
        ),
    )
    .expect("writable");
    let output = check(folder.path(), "etc/config.toml").await;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{stderr}");
    assert!(stderr.contains("64 MiB together"), "{stderr}");
}

const HEAD: &str = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[drain]\nwindow = \"2s\"\n";

fn valid(backend: impl std::fmt::Display) -> String {
    format!(
        "{HEAD}[tls]\ndev_ca = true\n{}",
        route(&format!("to = \"ws://{backend}\""), "")
    )
}

#[tokio::test]
async fn reload_with_a_special_file_is_rejected_and_commands_are_answered() {
    let backend = Backend::echo().await;
    let mut lockgate = Lockgate::with_file(&valid(backend)).start().await;
    special_files(lockgate.folder());
    let mut open = lockgate.echo_session().await;
    for (file, expected) in SPECIAL_FILES {
        for (key, text) in configurations(file) {
            // The settings of ACME are those of the start.
            if key == "acme.ca_file" {
                continue;
            }
            lockgate.write_config(&text);
            let (ok, output) = lockgate.command(&["reload"]).await;
            assert!(!ok && output.contains(expected), "{key}, {file}: {output}");
            assert_eq!(lockgate.status().await["state"], "ready", "{key}, {file}");
        }
    }
    open.echoes().await;
    lockgate.write_config(&valid(backend));
    eventually("no error", async || {
        lockgate.status().await["config"]["error"].is_null()
    })
    .await;
    lockgate.echo_session().await;
    lockgate.terminate();
    assert_eq!(open.frame().await.closes_with().0, 1001);
    drop(open);
    assert_eq!(lockgate.exit().await, Some(0));
}

/// Writes a certificate and its key into `folder`. Returns a configuration with them, and the path of the certificate.
fn with_certificate(folder: &Path, backend: impl std::fmt::Display) -> (String, PathBuf) {
    let key = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
    let (cert_file, key_file) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert_file, key.cert.pem()).expect("writable");
    fs::write(&key_file, key.signing_key.serialize_pem()).expect("writable");
    let config = format!(
        "{HEAD}[tls]\ncertificates = [{{ cert = \"{}\", key = \"{}\" }}]\n{}",
        cert_file.display(),
        key_file.display(),
        route(&format!("to = \"ws://{backend}\""), "")
    );
    (config, cert_file)
}

#[tokio::test]
async fn certificate_replaced_by_a_fifo_keeps_the_previous_one() {
    let fixture = TempDir::new().expect("a temporary folder");
    let (config, cert_file) = with_certificate(fixture.path(), Backend::echo().await);
    let mut lockgate = Lockgate::with_file(&config).start().await;
    fs::remove_file(&cert_file).expect("ours");
    mknodat(CWD, &cert_file, FileType::Fifo, Mode::RUSR, 0).expect("writable");
    eventually("an error of the certificate", async || {
        let list = lockgate.certificates().await;
        list.iter()
            .any(|cert| cert["error"].as_str().is_some_and(|it| it.contains("FIFO")))
    })
    .await;
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));
}

/// Makes every open of this file hang until the returned program is dropped.
async fn hang(file: &Path) -> Program {
    let mut program = Program::start("hang.py", &[&file.display().to_string()]);
    assert_eq!(program.line().await, "ready");
    program
}

fn admin(folder: &Path) -> String {
    format!("unix:{}", folder.join("admin.sock").display())
}

fn with_client_ca(backend: impl std::fmt::Display, file: &Path) -> String {
    let file = file.display();
    format!(
        "{HEAD}[tls]\ndev_ca = true\nclient_ca = \"{file}\"\n{}",
        route(
            &format!("to = \"ws://{backend}\""),
            "client_cert = \"optional\""
        )
    )
}

/// Starts `lockgate reload`; the output is that of its end.
fn reload(folder: &Path) -> tokio::task::JoinHandle<(bool, String)> {
    let command = Command::new(env!("CARGO_BIN_EXE_lockgate"))
        .args(["reload", "--admin", &admin(folder)])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::spawn(async move {
        let output = tokio::time::timeout(RELOAD_DEADLINE, command).await;
        let output = output.expect("it ends").expect("it starts");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    })
}

#[tokio::test]
async fn file_that_hangs_during_a_reload_delays_neither_commands_nor_sigterm() {
    let backend = Backend::echo().await;
    let mut lockgate = Lockgate::with_file(&valid(backend)).start().await;
    let file = lockgate.folder().join("hung.pem");
    fs::write(&file, "").expect("writable");
    let mut hung = hang(&file).await;
    let mut open = lockgate.echo_session().await;
    lockgate.write_config(&with_client_ca(backend, &file));
    let reloading = reload(lockgate.folder());
    assert_eq!(hung.line().await, "held");
    lockgate.signal(rustix::process::Signal::HUP);
    for _ in 0..3 {
        let started = Instant::now();
        assert_eq!(lockgate.status().await["state"], "ready");
        // The deadline of the reload is 25 s.
        assert!(started.elapsed() < Duration::from_secs(15));
    }
    let backend = format!("ws://{backend}");
    let (ok, output) = lockgate.command(&["drain", "--backend", &backend]).await;
    assert!(ok, "{output}");
    assert_eq!(open.frame().await.closes_with().0, 1012);
    drop(open);
    let started = Instant::now();
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(15));
    let (ok, output) = reloading.await.expect("it ends");
    assert!(!ok, "{output}");
}

#[tokio::test]
async fn certificate_that_hangs_delays_neither_commands_nor_sigterm() {
    let backend = Backend::echo().await;
    let fixture = TempDir::new().expect("a temporary folder");
    let (config, cert_file) = with_certificate(fixture.path(), backend);
    let mut lockgate = Lockgate::with_file(&config).start().await;
    let renewed = fixture.path().join("renewed.pem");
    fs::copy(&cert_file, &renewed).expect("writable");
    let mut hung = hang(&renewed).await;
    fs::rename(&renewed, &cert_file).expect("writable");
    assert_eq!(hung.line().await, "held");
    for _ in 0..3 {
        assert_eq!(lockgate.status().await["state"], "ready");
    }
    let started = Instant::now();
    lockgate.terminate();
    assert_eq!(lockgate.exit().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn reload_of_a_file_that_hangs_fails_at_its_deadline_and_is_repeated_later() {
    let backend = Backend::echo().await;
    let lockgate = Lockgate::with_file(&valid(backend)).start().await;
    let file = lockgate.folder().join("hung.pem");
    fs::copy(lockgate.ca(), &file).expect("writable");
    let mut hung = hang(&file).await;
    let mut open = lockgate.echo_session().await;
    lockgate.write_config(&with_client_ca(backend, &file));
    let (first, second) = (reload(lockgate.folder()), reload(lockgate.folder()));
    assert_eq!(hung.line().await, "held");
    for reloading in [first, second] {
        let (ok, output) = reloading.await.expect("it ends");
        assert!(!ok && output.contains("hung.pem"), "{output}");
    }
    let status = lockgate.status().await;
    let error = status["config"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("hung.pem"), "{status}");
    // The thread still hangs: no further one is started.
    let (ok, output) = lockgate.command(&["reload"]).await;
    assert!(!ok && output.contains("hung.pem"), "{output}");
    drop(hung);
    eventually("the new configuration", async || {
        let applied = "lockgate_config_reloads_total{outcome=\"applied\"}";
        lockgate.metric_or_zero(applied).await >= 1.0
    })
    .await;
    assert_eq!(lockgate.status().await["config"]["error"], Value::Null);
    open.echoes().await;
}

#[tokio::test]
async fn development_ca_that_another_user_can_have_planted_is_refused() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can give a file to another user: run the tests as root"
    );
    let folder = TempDir::new().expect("a temporary folder");
    let text = format!(
        "{HEAD}[tls]\ndev_ca = true\n{}",
        route("to = \"ws://127.0.0.1:1\"", "")
    );
    fs::write(folder.path().join("config.toml"), text).expect("writable");
    let created = Lockgate::run(folder.path(), &["cert", "ca"]).await;
    assert!(created.status.success());
    let ca = folder.path().join("data/dev-ca");
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
    };
    let files = [ca.clone(), ca.join("ca.key"), ca.join("ca.pem")];
    let refused = async |what: &str, expected: &str| {
        for command in [&["cert", "ca"][..], &["check", "--config", "config.toml"]] {
            let output = Lockgate::run(folder.path(), command).await;
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{what}: {stderr}");
            assert!(stderr.contains(expected), "{what}: {stderr}");
        }
    };
    for file in &files {
        chown(file, Some(12_345), None).expect("root");
        refused(&format!("{file:?}"), "12345").await;
        chown(file, Some(0), None).expect("root");
    }
    for (file, wrong, right, expected) in [
        (&files[0], 0o770, 0o700, "mode 0770"),
        (&files[0], 0o707, 0o700, "mode 0707"),
        (&files[1], 0o640, 0o600, "mode 0640"),
        (&files[1], 0o604, 0o600, "mode 0604"),
        (&files[2], 0o664, 0o644, "mode 0664"),
    ] {
        mode(file, wrong);
        refused(&format!("{file:?}"), expected).await;
        mode(file, right);
    }
    let output = Lockgate::run(folder.path(), &["check", "--config", "config.toml"]).await;
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn changed_file_that_hangs_past_the_deadline_is_then_applied_as_a_change_of_files() {
    let (backend, other) = (Backend::echo().await, Backend::echo().await);
    let lockgate = Lockgate::with_file(&valid(backend)).start().await;
    let file = lockgate.folder().join("hung.pem");
    fs::copy(lockgate.ca(), &file).expect("writable");
    let mut hung = hang(&file).await;
    let mut open = lockgate.echo_session().await;
    lockgate.write_config(&with_client_ca(other, &file));
    assert_eq!(hung.line().await, "held");
    eventually_within(RELOAD_DEADLINE, "the deadline", async || {
        let error = lockgate.status().await["config"]["error"].to_string();
        observe(error, |error| error.contains("hung.pem"))
    })
    .await;
    drop(hung);
    let released = Instant::now();
    assert_eq!(open.frame().await.closes_with().0, 1012);
    // A change that closes sessions waits until its files have been stable for two seconds.
    assert!(released.elapsed() > Duration::from_millis(1900));
}

#[tokio::test]
async fn certificate_store_that_hangs_delays_neither_commands_nor_sigterm() {
    let backend = Backend::echo().await;
    let fixture = TempDir::new().expect("a temporary folder");
    let store = fixture.path().join("acme/127.0.0.1-1-dir");
    fs::create_dir_all(&store).expect("writable");
    let lock = store.join("lock");
    fs::write(&lock, "").expect("writable");
    let mut config = format!(
        "{HEAD}[acme]\nretry = \"1s\"\ndirectory = \"https://127.0.0.1:1/dir\"\nstorage = {:?}\n",
        fixture.path().display().to_string()
    );
    for host in ["a.test", "b.test", "c.test"] {
        let to = format!("to = \"ws://{backend}\"");
        config += &route(&to, &format!("name = {host:?}")).replacen("a.test", host, 1);
    }
    let mut hung = hang(&lock).await;
    let setup = Lockgate::with_file(&config).env("TOKIO_WORKER_THREADS", "2");
    let mut lockgate = setup.start().await;
    assert_eq!(hung.line().await, "held");
    for _ in 0..3 {
        assert_eq!(lockgate.status().await["state"], "ready");
    }
    let certificates = lockgate.certificates().await;
    assert_eq!(certificates.len(), 3, "{certificates:?}");
    // The offer of the lock, if this process holds it, does not wait for the file.
    let mut successor = lockgate.successor(&[("TOKIO_WORKER_THREADS", "2")]).await;
    assert_eq!(lockgate.exit().await, Some(0));
    assert_eq!(successor.status().await["state"], "ready");
    successor.terminate();
    assert_eq!(successor.exit().await, Some(0));
}
