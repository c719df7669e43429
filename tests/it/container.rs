//! The image: the Dockerfile is checked against the program, and its settings are then used as in a container, without
//! an engine: the static binary alone in a read-only root, as its user, with its environment.

mod dns;
mod dockerfile;

use crate::harness::{Backend, Frame, Lockgate, within};
use dns::Dns;
use dockerfile::Dockerfile;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};
use tempfile::TempDir;
use tokio::process::Command;

#[tokio::test]
async fn container_with_only_the_binary_serves_a_backend_from_etc_hosts() {
    let backend = Backend::echo().await;
    let container = Container::new("127.0.0.1 backend.test\n", "");
    let to = format!("ws://backend.test:{}", backend.port());
    let environment = [
        ("LOCKGATE_TO", &*to),
        ("LOCKGATE_HOST", "a.test,localhost"),
        ("LOCKGATE_LISTEN", "127.0.0.1:0"),
    ];
    let (mut lockgate, health) = container.start(&environment).await;

    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    client.send_frame(Frame::text("hello")).await;
    assert_eq!(client.frame().await, Frame::text("hello"));

    let healthy = health.check().await;
    assert!(healthy.status.success(), "{healthy:?}");
    assert_eq!(
        health.files(),
        ["data", "etc", "etc/hosts", "etc/resolv.conf", "lockgate"]
    );

    lockgate.terminate();
    assert_eq!(client.frame().await.closes_with().0, 1001);
    client.send_frame(Frame::close(1001, "")).await;
    assert_eq!(lockgate.exit().await, Some(0));
    let ended = health.check().await;
    assert!(!ended.status.success(), "{ended:?}");
}

#[tokio::test]
async fn container_resolves_names_by_dns() {
    let backend = Backend::listen().await;
    let dns = Dns::serve("app.test", backend.address.ip()).await;
    let container = Container::new("", &format!("nameserver {}\n", dns.ip()));
    let to = |name: &str| format!("ws://{name}:{}", backend.address.port());
    let environment = [
        ("LOCKGATE_HOST", "a.test,localhost"),
        ("LOCKGATE_LISTEN", "127.0.0.1:0"),
        ("LOCKGATE_LOG_FORMAT", "text"),
    ];
    let known = to("app.test");
    let (lockgate, _) = container
        .start(&[&environment[..], &[("LOCKGATE_TO", &known)]].concat())
        .await;
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    client.send_frame(Frame::text("hello")).await;
    assert_eq!(server.frame().await.payload, b"hello");
    let mut client = lockgate
        .request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        .await;
    let mut server = backend.accept().await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.head().await.status(), 204);
    // There is no file to read again.
    let status = lockgate.status().await;
    assert!(status["config"]["error"].is_null(), "{status}");

    let container = Container::new("", &format!("nameserver {}\n", dns.ip()));
    let unknown = to("unknown.test");
    let (lockgate, _) = container
        .start(&[&environment[..], &[("LOCKGATE_TO", &unknown)]].concat())
        .await;
    assert_eq!(lockgate.upgrade("/", "").await.head().await.status(), 502);
    let reason = "cannot find an address for `unknown.test`: it is not in /etc/hosts; DNS: ";
    lockgate.until_logged(reason).await;
}

#[test]
fn static_binary_needs_no_loader() {
    let binary = fs::read(binary()).expect("readable");
    // ELF-64: the table of segments, of which one would name the loader.
    let at = |offset: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&binary[offset..][..size]);
        u64::from_le_bytes(bytes) as usize
    };
    let (table, entry, entries) = (at(0x20, 8), at(0x36, 2), at(0x38, 2));
    let kinds: Vec<_> = (0..entries).map(|n| at(table + n * entry, 4)).collect();
    assert!(kinds.contains(&PT_LOAD), "{kinds:?}");
    assert!(!kinds.contains(&PT_INTERP), "{kinds:?}");
}

#[tokio::test]
async fn dockerfile_names_only_existing_files_and_variables() {
    let dockerfile = Dockerfile::read();
    dockerfile.check_copies();
    let folder = TempDir::new().expect("a temporary folder");
    for command in [dockerfile.start(), dockerfile.health()] {
        let (program, arguments) = command.split_first().expect("a program");
        assert!(dockerfile.has(program), "{program} is not in the image");
        let arguments = arguments.iter().map(String::as_str).chain(["--help"]);
        let output = Lockgate::run(folder.path(), &arguments.collect::<Vec<_>>()).await;
        assert!(output.status.success(), "{command:?}: {output:?}");
    }
    let help = Lockgate::run(folder.path(), &["run", "--help"]).await;
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    // Lines are wrapped.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let environment = dockerfile.environment();
    for (name, _) in environment.iter().filter(|(name, _)| name != "PATH") {
        assert!(
            help.contains(&format!("[env: {name}=")),
            "{name} means nothing to `run`"
        );
    }
    let tests = fs::read_to_string("tests/run").expect("it is there");
    let flags = format!("RUSTFLAGS='{}'", dockerfile.flags());
    assert!(
        tests.contains(&flags),
        "tests/run builds the binary in another way: {flags}"
    );
    let value = |variable: &str| {
        environment
            .iter()
            .find(|(name, _)| name == variable)
            .map(|(_, value)| &**value)
    };
    assert_eq!(value("LOCKGATE_DATA"), Some("/data"));
    assert_eq!(dockerfile.volume(), "/data");
    assert_eq!(dockerfile.owner("/data"), dockerfile.user());
    let path = Path::new(value("PATH").expect("set")).join("lockgate");
    assert!(
        dockerfile.has(&path.display().to_string()),
        "{}",
        path.display()
    );
}

/// A root made as the Dockerfile's last stage makes it, and the files that an engine adds.
struct Container {
    dockerfile: Dockerfile,
    /// `root/`, `data/` (the volume), and a link to the admin socket in it, where the harness looks for it.
    folder: TempDir,
}

/// The HEALTHCHECK of the running container.
struct Health {
    command: Vec<String>,
    root: PathBuf,
    jail: Jail,
}

#[derive(Clone)]
struct Jail {
    folder: PathBuf,
    user: String,
    environment: Vec<(String, String)>,
}

// === impl Container ===

impl Container {
    fn new(hosts: &str, servers: &str) -> Container {
        assert!(
            rustix::process::getuid().is_root(),
            "a container is played with unshare, mount and chroot, which only root may use: run the tests as root, in a \
             container of their own with CAP_SYS_ADMIN, or leave this one out (cargo nextest run -E 'not test(container)')"
        );
        let dockerfile = Dockerfile::read();
        let folder = TempDir::new().expect("a temporary folder");
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("etc")).expect("writable");
        fs::create_dir(root.join("data")).expect("writable");
        fs::copy(binary(), root.join("lockgate")).expect("writable");
        fs::write(root.join("etc/hosts"), hosts).expect("writable");
        fs::write(root.join("etc/resolv.conf"), servers).expect("writable");
        for public in [&root, &root.join("etc")] {
            fs::set_permissions(public, fs::Permissions::from_mode(0o755)).expect("ours");
        }
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("writable");
        let (user, group) = dockerfile.user().split_once(':').map_or_else(
            || panic!("USER is no UID:GID"),
            |(user, group)| {
                (
                    user.parse().expect("a number"),
                    group.parse().expect("a number"),
                )
            },
        );
        chown(&data, Some(user), Some(group)).expect("root may");
        symlink("data/admin.sock", folder.path().join("admin.sock")).expect("writable");
        Container { dockerfile, folder }
    }

    async fn start(self, environment: &[(&str, &str)]) -> (Lockgate, Health) {
        let mut all = self.dockerfile.environment();
        let ours = [
            ("LOCKGATE_ADMIN", "unix:/data/admin.sock"),
            ("LOCKGATE_LOG_FORMAT", "json"),
        ];
        // Later variables override earlier ones.
        let added = ours.iter().chain(environment);
        all.extend(added.map(|(name, value)| (name.to_string(), value.to_string())));
        let jail = Jail {
            folder: self.folder.path().to_owned(),
            user: self.dockerfile.user().to_owned(),
            environment: all,
        };
        let health = Health {
            command: self.dockerfile.health(),
            root: self.folder.path().join("root"),
            jail: jail.clone(),
        };
        let command = jail.command(&self.dockerfile.start());
        (Lockgate::launched(command, self.folder).await, health)
    }
}

// === impl Health ===

impl Health {
    async fn check(&self) -> Output {
        let mut command = self.jail.command(&self.command);
        command.stdin(Stdio::null()).kill_on_drop(true);
        within("the health check", command.output())
            .await
            .expect("it starts")
    }

    /// Everything in the root, without the volume.
    fn files(&self) -> Vec<String> {
        let mut found = vec![];
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("readable") {
                let path = entry.expect("readable").path();
                let name = path.strip_prefix(&self.root).expect("below it");
                found.push(name.display().to_string());
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

// === impl Jail ===

impl Jail {
    /// Builds the command that an engine would run: private mounts, a read-only root, a writable volume, the user's
    /// rights. Each program executes the next one, so that the last keeps the process id and receives the signals.
    fn command(&self, program: &[String]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "/bin/sh", "-ec"])
            .arg(
                "mount --bind root root\n\
                 mount --bind data root/data\n\
                 mount -o remount,bind,ro root\n\
                 if touch root/file 2>/dev/null; then echo 'the root is writable' >&2; exit 1; fi\n\
                 exec env -i \"$@\"",
            )
            .arg("sh")
            .args(
                self.environment
                    .iter()
                    .map(|(name, value)| format!("{name}={value}")),
            )
            .args([
                "/usr/sbin/chroot",
                &format!("--userspec={}", self.user),
                "--groups=",
                "root",
            ])
            .args(program)
            .current_dir(&self.folder);
        command
    }
}

/// The static binary, which `tests/run` builds.
fn binary() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_lockgate"));
    let target = binary.ancestors().nth(2).expect("target/debug/lockgate");
    let tuple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let found = target.join(tuple).join("static/lockgate");
    let built = fs::metadata(&found).and_then(|file| file.modified());
    let built = built.unwrap_or_else(|_| {
        panic!(
            "{} is missing: run tests/run once, which builds it",
            found.display()
        )
    });
    for newest in ["src", "Cargo.lock"] {
        assert!(
            built >= modified(Path::new(newest)),
            "{} is older than {newest}: run tests/run once",
            found.display()
        );
    }
    found
}

/// Modification time of a file, or of the newest file in a directory.
fn modified(path: &Path) -> std::time::SystemTime {
    if !path.is_dir() {
        return fs::metadata(path)
            .and_then(|file| file.modified())
            .expect("there");
    }
    let entries = fs::read_dir(path).expect("readable");
    entries
        .map(|entry| modified(&entry.expect("readable").path()))
        .max()
        .expect("it is not empty")
}

const PT_LOAD: usize = 1;
const PT_INTERP: usize = 3;
