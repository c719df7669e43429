//! Repeated reloads under many sessions.
//!
//! `LOCKGATE_SESSIONS`, `LOCKGATE_CLIENTS` and `LOCKGATE_RELOADS` set the numbers of sessions, of client processes with
//! Python's `websockets`, and of reloads (1000, 2 and 100). The figures are printed.

use super::{HEAD, route};
use crate::harness::{Backend, Lockgate, Program, eventually, raise_descriptor_limit};
use rcgen::{CertificateParams, KeyPair};
use std::{fs, path::Path, time::Duration};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

fn setting(name: &str, default: usize) -> usize {
    let set = std::env::var(name).ok();
    set.map_or(default, |it| it.parse().expect("a number"))
}

fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("Linux");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

/// Writes a file by one of three methods: in place, by rename, or by replacing a symbolic link.
fn write(file: &Path, text: &str, round: usize) {
    match round % 3 {
        0 => fs::write(file, text).expect("writable"),
        1 => {
            let new = file.with_extension("new");
            fs::write(&new, text).expect("writable");
            fs::rename(&new, file).expect("ours");
        }
        _ => {
            // Kubernetes: the file is a link into a directory that is replaced.
            let folder = file.parent().expect("a folder");
            let version = folder.join(format!("version-{round}"));
            fs::create_dir(&version).expect("new");
            fs::write(version.join("config.toml"), text).expect("writable");
            let link = folder.join("link");
            std::os::unix::fs::symlink(version.join("config.toml"), &link).expect("new");
            fs::rename(&link, file).expect("ours");
        }
    }
}

/// Writes a new certificate and key for `pair.test`.
fn certificate(folder: &Path) {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["pair.test".to_owned()]).expect("a name");
    let certificate = certificate.self_signed(&key).expect("signed");
    fs::write(folder.join("pair.pem"), certificate.pem()).expect("writable");
    fs::write(folder.join("pair.key"), key.serialize_pem()).expect("writable");
}

/// The next line of a client; thousands of handshakes may take minutes.
async fn line_of(client: &mut Program) -> String {
    let line = timeout(Duration::from_secs(240), client.any_line()).await;
    line.expect("within four minutes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_reloads_interrupt_no_session() {
    let (sessions, clients, reloads) = (
        setting("LOCKGATE_SESSIONS", 1000),
        setting("LOCKGATE_CLIENTS", 2),
        setting("LOCKGATE_RELOADS", 100),
    );
    raise_descriptor_limit();
    let backend = Backend::echo().await;
    let own_route = route("a", "localhost", backend, "");
    let pair = TempDir::new().expect("a temporary folder");
    certificate(pair.path());
    let folder = pair.path().display();
    let files = format!(
        "[tls]\ncertificates = [{{ cert = \"{folder}/pair.pem\", key = \"{folder}/pair.key\" }}]"
    );
    let head = HEAD.replace("[tls]", &files);
    let lockgate = Lockgate::with_file(&format!("{head}{own_route}"))
        .start()
        .await;
    // The message rate of all sessions together is constant.
    let pause = sessions as f64 / 1000.0;
    let url = format!("wss://localhost:{}/", lockgate.https.port());
    let arguments = [
        url,
        lockgate.ca().display().to_string(),
        (sessions / clients).to_string(),
        pause.to_string(),
    ];
    let arguments = arguments.each_ref().map(String::as_str);
    let mut programs = vec![];
    for _ in 0..clients {
        programs.push(Program::start("many.py", &arguments));
    }
    for client in &mut programs {
        assert_eq!(line_of(client).await, "open");
    }

    let count = async |outcome: &str| {
        let series = format!("lockgate_config_reloads_total{{outcome=\"{outcome}\"}}");
        lockgate.metric_or_zero(&series).await as usize
    };
    let file = lockgate.folder().join("config.toml");
    let started = Instant::now();
    let (mut applied, mut refused, mut resident_after_warmup) = (0, 0, 0);
    for round in 0..reloads {
        let other = match round % 5 {
            0 => route("b", "b.test", backend, ""),
            1 => route("b", "b.test", backend, &format!("path = \"/{round}\"")),
            2 => String::new(),
            3 => route(
                "c",
                "c.test",
                backend,
                &format!("session = {{ max_message = \"{round}KiB\" }}"),
            ),
            _ => "[[routes]]\nhots = [\"*\"]\n".to_owned(),
        };
        write(
            &file,
            &format!("{head}# {round}\n{own_route}{other}"),
            round,
        );
        if round % 5 == 3 {
            certificate(pair.path());
        }
        match round % 5 {
            4 => refused += 1,
            _ => applied += 1,
        }
        let expected = format!("round {round}: {applied} applied, {refused} refused");
        eventually(expected, async || {
            let counts = (count("applied").await, count("refused").await);
            (counts == (applied, refused))
                .then_some(())
                .ok_or_else(|| format!("{counts:?}"))
        })
        .await;
        if round == reloads / 4 {
            resident_after_warmup = resident(lockgate.id());
        }
    }
    let took = started.elapsed();
    let growth = resident(lockgate.id()).saturating_sub(resident_after_warmup);
    let mut messages = 0;
    for client in &programs {
        client.terminate();
    }
    for client in &mut programs {
        let echoed: u64 = line_of(client)
            .await
            .parse()
            .expect("nothing lost, nothing reordered");
        messages += echoed;
    }
    println!(
        "{sessions} sessions of {clients} clients, {reloads} reloads in {took:.0?} ({refused} of them invalid, all reported): 0 dropped, {messages} messages, 0 lost; {growth} KiB more after warm-up"
    );
    assert!(growth < 16 * 1024, "{growth} KiB");
}
