//! Configurations that are written in parts, next to other files, or in an included directory.

use crate::harness::{Backend, Frame, Lockgate, Wire, eventually, handshake, observe};
use rustix::process::Signal;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::time::{Instant, sleep};

const HEAD: &str = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n[drain]\nwindow = \"2s\"\n";

fn route(name: &str, backend: SocketAddr) -> String {
    format!(
        "[[routes]]\nname = \"{name}\"\nhosts = [\"{name}.test\"]\nto = \"ws://{backend}\"\norigins = [\"*\"]\n"
    )
}

/// A Lockgate with a session of the route `b`, and the two parts of its configuration: the second has that route.
async fn scene() -> (Lockgate, Wire, [String; 2]) {
    let backend = Backend::echo().await;
    let parts = [
        format!("{HEAD}{}", route("a", backend)),
        route("b", backend),
    ];
    let lockgate = Lockgate::with_file(&parts.concat()).start().await;
    let mut session = lockgate.connect_as("b.test").await;
    session
        .send(handshake("/", "").replace("a.test", "b.test"))
        .await;
    assert_eq!(session.head().await.status(), 101);
    (lockgate, session, parts)
}

/// Waits until a third route is applied, and checks that the session was not closed.
async fn expect_applied_and_open(lockgate: &Lockgate, session: &mut Wire) {
    until_routes(lockgate, 3).await;
    session.echoes().await;
    assert!(!lockgate.stderr().contains("closing sessions"));
}

async fn until_routes(lockgate: &Lockgate, count: usize) {
    eventually("another number of routes", async || {
        let status = lockgate.status().await;
        observe(status, |status| {
            let routes = status["routes"].as_array();
            routes.is_some_and(|routes| routes.len() == count)
        })
    })
    .await;
}

#[tokio::test]
async fn file_written_in_two_parts_by_one_writer_is_read_when_it_is_closed() {
    let (lockgate, mut session, [first, second]) = scene().await;
    let third = route("c", Backend::echo().await);
    let path = lockgate.folder().join("config.toml");
    let mut file = fs::File::create(path).expect("ours");
    file.write_all(first.as_bytes()).expect("ours");
    // Longer than the time for which a change that closes sessions must be stable.
    sleep(Duration::from_millis(3_500)).await;
    session.echoes().await;
    file.write_all(format!("{second}{third}").as_bytes())
        .expect("ours");
    drop(file);
    expect_applied_and_open(&lockgate, &mut session).await;
    // It would be 2 if the first part had been applied.
    let applied = "lockgate_config_reloads_total{outcome=\"applied\"}";
    lockgate.until_metric(applied, 1.0).await;
}

#[tokio::test]
async fn file_written_in_two_parts_by_two_writers_closes_no_session() {
    let (lockgate, mut session, [first, second]) = scene().await;
    let third = route("c", Backend::echo().await);
    let path = lockgate.folder().join("config.toml");
    for pause in [500, 800] {
        fs::write(&path, &first).expect("ours");
        sleep(Duration::from_millis(pause)).await;
        session.echoes().await;
        let mut file = OpenOptions::new().append(true).open(&path).expect("ours");
        file.write_all(second.as_bytes()).expect("ours");
    }
    let mut file = OpenOptions::new().append(true).open(&path).expect("ours");
    file.write_all(third.as_bytes()).expect("ours");
    drop(file);
    expect_applied_and_open(&lockgate, &mut session).await;
}

#[tokio::test]
async fn stable_change_closes_sessions_after_two_seconds_and_on_sighup_at_once() {
    let (lockgate, mut session, [first, second]) = scene().await;
    let written = Instant::now();
    lockgate.write_config(&first);
    assert_eq!(session.frame().await.closes_with().0, 1012);
    let waited = written.elapsed();
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    session.send_frame(Frame::close(1012, "")).await;

    // The shortest of three times: other processes use the processor, too.
    let mut times = vec![];
    for _ in 0..3 {
        lockgate.write_config(&format!("{first}{second}"));
        until_routes(&lockgate, 2).await;
        let mut session = lockgate.connect_as("b.test").await;
        session
            .send(handshake("/", "").replace("a.test", "b.test"))
            .await;
        assert_eq!(session.head().await.status(), 101);
        let ordered = Instant::now();
        lockgate.write_config(&first);
        lockgate.signal(Signal::HUP);
        until_routes(&lockgate, 1).await;
        times.push(ordered.elapsed());
        assert_eq!(session.frame().await.closes_with().0, 1012);
    }
    let shortest = times.iter().min().expect("three");
    assert!(*shortest < Duration::from_millis(1_900), "{times:?}");
}

#[tokio::test]
async fn busy_files_next_to_the_configuration_do_not_delay_a_reload() {
    let backend = Backend::echo().await;
    let includes =
        |routes: &str| format!("include = [\"conf.d/*.toml\", \"*.toml\"]\n{HEAD}{routes}");
    let lockgate = Lockgate::with_file(&includes(&route("a", backend)))
        .start()
        .await;
    fs::create_dir(lockgate.folder().join("conf.d")).expect("ours");
    let stop = Arc::new(AtomicBool::new(false));
    let busy = {
        let (folder, stop) = (lockgate.folder().to_owned(), stop.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for folder in [folder.clone(), folder.join("conf.d")] {
                    let mut log = OpenOptions::new()
                        .append(true)
                        .create(true)
                        .open(folder.join("app.log"))
                        .expect("ours");
                    log.write_all(b"line\n").expect("ours");
                    fs::write(folder.join("app.tmp"), "x").expect("ours");
                    fs::rename(folder.join("app.tmp"), folder.join("app.state")).expect("ours");
                    fs::write(folder.join(".swap.toml"), "x").expect("ours");
                    fs::remove_file(folder.join(".swap.toml")).expect("ours");
                }
                thread::sleep(Duration::from_millis(20));
            }
        })
    };
    // The shortest time: other processes use the processor, too, and a delay of 2 s would be that of every reload.
    let mut times = vec![];
    for count in 2..=8 {
        sleep(Duration::from_millis(300)).await;
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let routes = names[..count].iter().map(|name| route(name, backend));
        lockgate.write_config(&includes(&routes.collect::<String>()));
        let written = Instant::now();
        until_routes(&lockgate, count).await;
        times.push(written.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    busy.join().expect("it has only written files");
    times.sort();
    assert!(times[0] < Duration::from_millis(1_500), "{times:?}");
}

#[tokio::test]
async fn patterns_skip_hidden_files_and_find_new_ones_in_every_matching_folder() {
    let backend = Backend::echo().await;
    let config = format!(
        "include = [\"conf.d/*.toml\", \"sites/[ab]*/route.toml\"]\n{HEAD}{}",
        route("a", backend)
    );
    let lockgate = Lockgate::with_file(&config).start().await;
    let folder = lockgate.folder();
    for name in ["conf.d", "sites", "sites/other"] {
        fs::create_dir(folder.join(name)).expect("ours");
    }
    // An editor's lock, swap and backup files, and a folder that does not match.
    for name in [
        "conf.d/.#x.toml",
        "conf.d/.x.toml",
        "conf.d/x.toml~",
        "conf.d/x.toml.swp",
        "sites/other/route.toml",
    ] {
        fs::write(folder.join(name), "nonsense").expect("ours");
    }
    let (succeeded, text) = lockgate.command(&["reload"]).await;
    assert!(succeeded, "{text}");
    fs::write(folder.join("conf.d/x.toml"), route("x", backend)).expect("ours");
    until_routes(&lockgate, 2).await;
    fs::create_dir(folder.join("sites/a1")).expect("ours");
    sleep(Duration::from_millis(500)).await;
    fs::write(folder.join("sites/a1/route.toml"), route("y", backend)).expect("ours");
    until_routes(&lockgate, 3).await;
}
