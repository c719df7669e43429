//! `lockgate sessions` and `lockgate kick`: listing, filtering and closing live sessions.

use crate::harness::{
    Backend, Frame, Lockgate, Wire, eventually, handshake, observe, raise_descriptor_limit, within,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::Command,
    sync::Semaphore,
    task::JoinSet,
};

/// Output of `lockgate sessions --json` with these flags.
async fn sessions(lockgate: &Lockgate, flags: &[&str]) -> Value {
    let (ok, output) = lockgate
        .command(&[&["sessions", "--json"], flags].concat())
        .await;
    assert!(ok, "{output}");
    serde_json::from_str(&output).expect("JSON")
}

/// Number of sessions in a list with these flags.
async fn total(lockgate: &Lockgate, flags: &[&str]) -> u64 {
    let list = sessions(lockgate, flags).await;
    assert_eq!(
        list["sessions"].as_array().unwrap().len() as u64,
        list["total"]
    );
    list["total"].as_u64().unwrap()
}

/// Opens a session on `path`. It may not be registered yet: see [`registered`].
async fn open(lockgate: &Lockgate, path: &str) -> Wire {
    let mut client = lockgate
        .upgrade(path, "Sec-WebSocket-Protocol: chat\r\n")
        .await;
    assert_eq!(client.head().await.status(), 101);
    client
}

/// Opens a session that echoes. A client receives its 101 before its session is registered, and an echo after that.
async fn registered(lockgate: &Lockgate, path: &str) -> Wire {
    let mut client = open(lockgate, path).await;
    client.echoes().await;
    client
}

async fn two_routes() -> Lockgate {
    let (one, two) = (Backend::echo().await, Backend::echo().await);
    Lockgate::to(one)
        .with("name = \"one\"\npath = \"/one\"")
        .with(&format!(
            "[[routes]]\nname = \"two\"\nhosts = [\"a.test\"]\nto = \"ws://{two}\"\norigins = [\"*\"]"
        ))
        .start()
        .await
}

#[tokio::test]
async fn session_list_has_counters_and_filters() {
    let lockgate = two_routes().await;
    assert_eq!(total(&lockgate, &[]).await, 0);
    let mut first = open(&lockgate, "/one?token=secret").await;
    let _second = registered(&lockgate, "/two").await;
    first.send_frame(Frame::text("hello")).await;
    assert_eq!(first.text().await, "hello");
    let list = eventually("one message from the backend", async || {
        observe(sessions(&lockgate, &["--route", "one"]).await, |list| {
            list["sessions"][0]["from_backend"]["messages"] == 1
        })
    })
    .await;
    let row = &list["sessions"][0];
    for (key, value) in [
        ("client", json!("127.0.0.1")),
        ("path", json!("/one")),
        ("route", json!("one")),
        ("subprotocol", json!("chat")),
        ("extensions", json!(null)),
        ("http", json!("1.1")),
    ] {
        assert_eq!(row[key], value, "{row}");
    }
    // Two bytes of header, four of a mask.
    assert_eq!(row["from_client"]["bytes"], 11, "{row}");
    assert_eq!(row["from_backend"]["bytes"], 7, "{row}");
    assert!(row["age_seconds"].is_number() && row["round_trip"]["client"].is_null());
    let opened = lockgate
        .record(|it| it["event"] == "open" && it["route"] == "one")
        .await;
    assert_eq!(row["id"], opened["id"]);
    assert!(!list.to_string().contains("secret"));

    let backend = row["backend"].as_str().unwrap();
    for (flags, expected) in [
        (&[][..], 2),
        (&["--backend", backend], 1),
        (&["--client", "192.0.2.1", "--route", "two"], 0),
        (&["--client", "127.0.0.0/8"], 2),
        (&["--client", "127.0.0.1", "--route", "two"], 1),
        (&["--client", "10.0.0.0/8"], 0),
        (&["--longer-than", "10m"], 0),
        (&["--longer-than", "0s"], 2),
    ] {
        assert_eq!(total(&lockgate, flags).await, expected, "{flags:?}");
    }
    let (ok, output) = lockgate.command(&["sessions"]).await;
    assert!(
        ok && output.contains("127.0.0.1  two") && output.contains("2 sessions"),
        "{output}"
    );
    // The query, which may carry secrets, is not shown.
    let has_row = |path: &str| {
        output
            .lines()
            .any(|line| line.ends_with(&format!("a.test  {path}")))
    };
    assert!(has_row("/one") && has_row("/two"), "{output}");
    assert!(!output.contains("secret"), "{output}");
}

#[tokio::test]
async fn kick_by_id_sends_the_given_code_and_reason() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address).start().await;
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    let (mut other, mut its_server, _) = lockgate.session(&backend).await;
    let opened = lockgate.record(|it| it["event"] == "open").await;
    let id = opened["id"].as_str().unwrap();
    let kick = [
        "kick",
        id,
        "--code",
        "4008",
        "--reason",
        "spam & \"more\" é",
    ];
    assert_eq!(
        lockgate.command(&kick).await,
        (true, "1 session is closed\n".into())
    );
    assert_eq!(
        client.frame().await.closes_with(),
        (4008, "spam & \"more\" é")
    );
    assert_eq!(server.frame().await.closes_with(), (1001, ""));
    client.send_frame(Frame::close(4008, "")).await;
    server.send_frame(Frame::close(1001, "")).await;
    let closed = lockgate.closed().await;
    assert_eq!(
        (
            &closed["id"],
            &closed["code"],
            &closed["by"],
            &closed["why"]
        ),
        (
            &json!(id),
            &json!(4008),
            &json!("operator"),
            &json!("ordered")
        )
    );
    let (ok, output) = lockgate.command(&kick).await;
    assert!(
        !ok && output.contains("there is no such session"),
        "{output}"
    );
    // The other session stays open.
    other.send_frame(Frame::text("still here")).await;
    assert_eq!(its_server.text().await, "still here");
}

#[tokio::test]
async fn kick_by_route_closes_only_matching_sessions() {
    let lockgate = two_routes().await;
    let mut ones = [
        registered(&lockgate, "/one").await,
        registered(&lockgate, "/one").await,
    ];
    let mut two = registered(&lockgate, "/two").await;
    let (ok, output) = lockgate.command(&["kick", "--route", "one"]).await;
    assert_eq!((ok, &*output), (true, "2 sessions are closed\n"));
    for one in &mut ones {
        assert_eq!(one.frame().await.closes_with(), (1008, ""));
    }
    two.send_frame(Frame::text("still here")).await;
    assert_eq!(two.text().await, "still here");

    for (flags, expected) in [
        (&[][..], "--longer-than"),
        (&["--all", "--route", "two"], "leave out --all"),
        (&["--all", "--code", "1006"], "RFC 6455 §7.4"),
        (&["--all", "--code", "5000"], "RFC 6455 §7.4"),
        (&["--all", "--reason", &"x".repeat(124)], "room for 123"),
        (&["12"], "16 hex digits"),
    ] {
        let (ok, output) = lockgate.command(&[&["kick"], flags].concat()).await;
        assert!(!ok && output.contains(expected), "{flags:?}: {output}");
    }
    let backend = |it: &str| format!("there is no backend {it}");
    for (command, expected) in [
        (
            &["kick", "--route", "three"][..],
            "there is no route three; the routes are: one, two".to_owned(),
        ),
        (
            &["sessions", "--route", "three"],
            "there is no route three; the routes are: one, two".to_owned(),
        ),
        (
            &["tap", "--route", "three"],
            "there is no route three; the routes are: one, two".to_owned(),
        ),
        (
            &["sessions", "--backend", "WS://LocalHost:1"],
            backend("ws://localhost:1"),
        ),
        (
            &["drain", "--backend", "ws://localhost:1"],
            backend("ws://localhost:1"),
        ),
        (&["drain", "--backend", "chat"], backend("chat")),
        (
            &["drain", "--backend", "dns://chat:1"],
            "is a name in DNS, and not one backend".to_owned(),
        ),
        (
            &["kick", "--backend", "srv://_ws._tcp.chat"],
            "is a name in DNS, and not one backend".to_owned(),
        ),
    ] {
        let (ok, output) = lockgate.command(command).await;
        assert!(!ok && output.contains(&expected), "{command:?}: {output}");
    }
    let (ok, output) = lockgate
        .command(&["kick", "--route", "one", "--longer-than", "1h"])
        .await;
    assert_eq!(
        (ok, &*output),
        (true, "no session is closed: none matches\n")
    );
    // `--config` names the file that has the admin address.
    let arguments = ["status", "--config", "config.toml"];
    let status = Lockgate::run(lockgate.folder(), &arguments).await;
    assert!(status.status.success(), "{status:?}");
    let (ok, output) = lockgate.command(&["kick", "--all", "--code", "1000"]).await;
    assert_eq!((ok, &*output), (true, "1 session is closed\n"));
    assert_eq!(two.frame().await.closes_with(), (1000, ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_1001_sessions_is_paged_and_does_not_delay_them() {
    raise_descriptor_limit();
    // Idle clients do not read, so that Pings are disabled.
    let setup = Lockgate::to(Backend::echo().await).with("session = { ping = { legs = \"off\" } }");
    let lockgate = Arc::new(setup.start().await);
    let handshakes = Arc::new(Semaphore::new(32));
    let mut opening = JoinSet::new();
    for _ in 0..1001 {
        let (lockgate, handshakes) = (lockgate.clone(), handshakes.clone());
        opening.spawn(async move {
            let _permit = handshakes.acquire_owned().await.expect("never closed");
            let mut client = lockgate.tls("a.test").await;
            let request = handshake("/", "");
            client
                .write_all(request.as_bytes())
                .await
                .expect("it reads");
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.expect("a whole head"));
            }
            client
        });
    }
    let _clients = opening.join_all().await;
    // A client receives its 101 before its session is registered.
    let first = eventually("a page of 1,001 sessions", async || {
        let first = page(&lockgate, "/sessions").await;
        (first["total"] == 1001).then_some(first)
    })
    .await;
    let began = Instant::now();
    let first_again = page(&lockgate, "/sessions").await;
    println!("1,001 sessions: the first page took {:?}", began.elapsed());
    assert_eq!(
        (&first["total"], &first_again["total"]),
        (&json!(1001), &json!(1001))
    );
    let next = first["next"].as_str().expect("there is more");
    let second = page(&lockgate, &format!("/sessions?after={next}")).await;
    assert_eq!(second["next"], json!(null));
    let ids = |page: &Value| -> Vec<String> {
        let rows = page["sessions"].as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (first, second) = (ids(&first), ids(&second));
    assert_eq!((first.len(), second.len()), (1000, 1));
    assert!(first.is_sorted() && first.last() < second.first());
    assert_eq!(total(&lockgate, &["--limit", "0"]).await, 1001);

    // The list is read in a loop while a session echoes.
    let listing = {
        let lockgate = lockgate.clone();
        tokio::spawn(async move {
            loop {
                page(&lockgate, "/sessions").await;
            }
        })
    };
    let mut client = open(&lockgate, "/").await;
    for turn in 0..200 {
        client.send_frame(Frame::text(&turn.to_string())).await;
        assert_eq!(client.text().await, turn.to_string());
    }
    listing.abort();
    let (ok, output) = lockgate.command(&["kick", "--all"]).await;
    assert!(
        ok && output.contains("1002 sessions are closed"),
        "{output}"
    );
    assert_eq!(client.frame().await.closes_with().0, 1008);
}

async fn page(lockgate: &Lockgate, path: &str) -> Value {
    let socket = UnixStream::connect(lockgate.folder().join("admin.sock")).await;
    let mut wire = Wire::stream(socket.expect("it listens"));
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    let head = wire.head().await;
    assert_eq!(head.status(), 200);
    serde_json::from_slice(&wire.body(&head).await).expect("JSON")
}

#[tokio::test]
async fn admin_token_is_required_and_not_logged() {
    let lockgate = Lockgate::to(Backend::echo().await)
        .server("admin_token = \"top-secret-1\"")
        .start()
        .await;
    let (ok, output) = lockgate.command(&["sessions"]).await;
    assert!(!ok && output.contains("LOCKGATE_ADMIN_TOKEN"), "{output}");
    let (ok, output) = lockgate.command(&["kick", "--all"]).await;
    assert!(!ok && output.contains("LOCKGATE_ADMIN_TOKEN"), "{output}");
    let (ok, output) = lockgate
        .command(&["sessions", "--config", "config.toml"])
        .await;
    assert!(ok && output.contains("no sessions"), "{output}");
    assert!(lockgate.command(&["health"]).await.0);
    let admin = format!("unix:{}", lockgate.folder().join("admin.sock").display());
    for (token, accepted) in [("top-secret-1", true), ("top-secret-2", false)] {
        let command = Command::new(env!("CARGO_BIN_EXE_lockgate"))
            .args(["sessions", "--admin", &admin])
            .env("LOCKGATE_ADMIN_TOKEN", token)
            .output();
        let output = within("the command's end", command)
            .await
            .expect("it starts");
        assert_eq!(output.status.success(), accepted, "{output:?}");
    }
    let logged = lockgate.stderr() + &lockgate.status().await.to_string();
    assert!(!logged.contains("top-secret"), "{logged}");
}
