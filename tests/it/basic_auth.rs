//! Guards for user names and passwords: which hashes and credentials are accepted, what the backend receives, and what
//! bounds the verification.

use crate::harness::{
    Head, Lockgate, Setup, Wire, eventually, handshake, recorder::Recorder, request,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::time::Instant;

/// Made by bcrypt and argon2-cffi (PyPI), and by `openssl passwd`; the password is [`PASSWORD`].
const HASHES: [(&str, &str); 9] = [
    (
        "bcrypt-2a",
        "$2a$04$cCnlEcFtcMzOKtp9RDIYfe2/sKGTvLM4vXjjQSeKREt/dunWcvo3W",
    ),
    (
        "bcrypt-2b",
        "$2b$04$sbzPz1y.FIwMw97alTEq2u.E0YW2us87eJoCyw.M694o73bqwhBZ6",
    ),
    (
        "bcrypt-2y",
        "$2y$04$yjbqncHXfCpMzOlTnYDLtuu1GhRtw9dUcsQLRxsU97.OKUN83nmRm",
    ),
    (
        "argon2id",
        "$argon2id$v=19$m=256,t=2,p=1$Tq81kgdz9Wmq9UwRHOw4MQ$F7Yeerovn69FP29O1ti1KG2tMDuEDOmqTMMkMpgoVsI",
    ),
    (
        "argon2i",
        "$argon2i$v=19$m=256,t=2,p=2$XFb8xGnuOzi42zaICRFWBA$cGXY8zlYkYxHIBapmrloTUxbwREdA8NFSiWvj6UXhh4",
    ),
    (
        "sha512",
        "$6$xuqUdIAdbybQQ2h9$5xZtoigo7I.l9CrQtjgZ/S1sgBv.Puy3F3FtXJr9ZnhS4AwQkpPZrTM1DTRmU37zCfjzlDTLFKQ574KLUswTo1",
    ),
    (
        "sha256",
        "$5$69p4kVqrAYr9B9ym$Dw1jo6wKgL0VC.2JlgByvHsXe8cX88PEx6eKBJs4ty1",
    ),
    (
        "sha512-rounds",
        "$6$rounds=1000$AvUjx1Ub/5eY1K6v$841qVa1TOlwjE9wHHxPAnZukIIrN8bmqFRs7J.dKHg7GEzDqtsneU4khRK6xNZqK4wXCyv2v66fYvdwa3KcJy0",
    ),
    (
        "sha256-rounds",
        "$5$rounds=1001$3.Eqd5Qys8fBDcun$b423K0iSEafH4s2E.AVzaIJkMOAsOF/HyPJE.Vd7qTD",
    ),
];

const PASSWORD: &str = "correct horse";

/// The bcrypt hash of "x".
const OF_X: &str = "$2b$04$nDhbx85eArCso/8L2/ysuOc6nXn/IoRPeK74h0.glBeXT7lFfWBLW";

/// The bcrypt hash of "pässwörd:€".
const OF_UTF8: &str = "$2b$04$JKtbKWX9r5WI2yyXEHDgquNyOrydwnpwpZZ5t.2fPsS0xCZPWkokm";

/// A file of users in a folder of its own.
struct Users {
    folder: TempDir,
}

impl Users {
    fn with(text: &str) -> Users {
        let users = Users {
            folder: TempDir::new().expect("a temporary folder"),
        };
        users.write(text);
        users
    }

    /// Replaces the file at once, as `htpasswd` does.
    fn write(&self, text: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).expect("the folder is writable");
        std::fs::rename(new, self.file()).expect("the folder is writable");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("users.htpasswd")
    }

    /// A route to `backend` with a guard for these users.
    fn guard(&self, backend: &Recorder, more: &str) -> Setup {
        Lockgate::to(backend.address)
            .with("guards = [\"staff\"]\n[guards.staff.basic]")
            .with(&format!("users = \"{}\"", self.file().display()))
            .with(more)
    }
}

fn all_users() -> String {
    HASHES
        .iter()
        .map(|(user, hash)| format!("{user}:{hash}\n"))
        .collect()
}

fn credentials(user: &str, password: &str) -> String {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    format!("Authorization: Basic {encoded}\r\n")
}

/// Sends a plain request on `wire`, and returns the response.
async fn get(wire: &mut Wire, more: &str) -> Head {
    wire.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{more}\r\n"))
        .await;
    let head = wire.head().await;
    wire.body(&head).await;
    head
}

#[tokio::test]
async fn every_kind_of_hash_admits_its_password_and_no_other() {
    let backend = Recorder::backend().await;
    let users = Users::with(&format!(
        "# staff\r\n\r\n{}utf8:{OF_UTF8}:a comment\n",
        all_users()
    ));
    let lockgate = users.guard(&backend, "realm = \"our staff\"").start().await;
    let mut admitted = 0;
    for (user, _) in HASHES {
        // An address of its own for each: wrong passwords are counted.
        let mut wire = lockgate.connect().await;
        assert_eq!(
            get(&mut wire, &credentials(user, PASSWORD)).await.status(),
            200,
            "{user}"
        );
        admitted += 1;
        assert_eq!(backend.count(), admitted);
    }
    let mut wire = lockgate.connect().await;
    assert_eq!(
        get(&mut wire, &credentials("utf8", "pässwörd:€"))
            .await
            .status(),
        200
    );
    for (user, password) in [
        ("bcrypt-2b", "correct hors"),
        ("argon2id", "correct horse "),
        ("sha512", ""),
        ("sha256", "CORRECT HORSE"),
        ("unknown", PASSWORD),
        ("", PASSWORD),
    ] {
        let head = get(&mut wire, &credentials(user, password)).await;
        assert_eq!(head.status(), 401, "{user}");
        let challenge = "Basic realm=\"our staff\", charset=\"UTF-8\"";
        assert_eq!(head.all("www-authenticate"), [challenge], "{user}");
    }
    assert_eq!(backend.count(), admitted + 1);
    assert!(!lockgate.stderr().contains("correct hors"));
}

#[tokio::test]
async fn backend_and_log_receive_the_user_and_no_password() {
    let backend = Recorder::backend().await;
    let users = Users::with(&all_users());
    let lockgate = users.guard(&backend, "header = \"X-User\"").start().await;
    let more = format!(
        "{}X-User: eve\r\nx_user: eve\r\nX-USER: eve\r\nRemote-User: kept\r\n",
        credentials("sha512", PASSWORD)
    );
    let mut client = lockgate.upgrade("/ws", &more).await;
    assert_eq!(client.head().await.status(), 101);
    let mut wire = lockgate.connect().await;
    assert_eq!(get(&mut wire, &more).await.status(), 200);
    let mut h2 = lockgate.h2().await;
    let header = credentials("sha512", PASSWORD);
    let value = header.trim().split_once(": ").expect("a header").1;
    let (answer, session) = h2
        .websocket("/ws", &[("authorization", value), ("x_user", "eve")])
        .await;
    assert_eq!(answer.status(), 200);
    for head in backend.heads() {
        assert_eq!(head.all("x-user"), ["sha512"]);
        assert!(head.all("x_user").is_empty() && head.all("authorization").is_empty());
    }
    assert_eq!(backend.count(), 3);
    let opened = lockgate.record(|it| it["event"] == "open").await;
    assert_eq!(opened["subject"], "sha512");
    let (ok, listed) = lockgate
        .command(&["sessions", "--json", "--subject", "sha512"])
        .await;
    assert!(ok && listed.contains("\"subject\":\"sha512\""), "{listed}");
    drop(session);
    let shown = format!("{:?}{}", lockgate.records(), lockgate.stderr());
    assert!(!shown.contains(value) && !shown.contains(PASSWORD));
}

#[tokio::test]
async fn every_stream_needs_its_own_credentials() {
    let backend = Recorder::backend().await;
    let users = Users::with(&all_users());
    let lockgate = users.guard(&backend, "").start().await;
    let mut h2 = lockgate.h2().await;
    let header = credentials("bcrypt-2y", PASSWORD);
    let value = header.trim().split_once(": ").expect("a header").1;
    let mut with = request("GET", "/");
    with.headers_mut()
        .insert("authorization", value.parse().expect("a value"));
    assert_eq!(h2.send(with).await.status(), 200);
    assert_eq!(h2.send(request("GET", "/")).await.status(), 401);
    assert_eq!(h2.websocket("/ws", &[]).await.0.status(), 401);
    assert_eq!(
        h2.websocket("/ws", &[("authorization", value)])
            .await
            .0
            .status(),
        200
    );
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn malformed_credentials_are_refused_and_cost_no_hash() {
    let backend = Recorder::backend().await;
    let users = Users::with(&all_users());
    let lockgate = users.guard(&backend, "").start().await;
    let mut wire = lockgate.connect().await;
    let basic = |bytes: &[u8]| {
        let encoded = BASE64_STANDARD.encode(bytes);
        format!("Authorization: Basic {encoded}\r\n")
    };
    let two = format!(
        "{}{}",
        credentials("sha512", PASSWORD),
        credentials("sha256", PASSWORD)
    );
    let rows = [
        String::new(),
        "Authorization: Basic\r\n".into(),
        "Authorization: Basic \r\n".into(),
        "Authorization: Basic ====\r\n".into(),
        "Authorization: Basic c2hhNTEy\r\n".into(),
        "Authorization: Bearer c2hhNTEyOmNvcnJlY3QgaG9yc2U=\r\n".into(),
        "Authorization: c2hhNTEyOmNvcnJlY3QgaG9yc2U=\r\n".into(),
        basic(b"sha512:correct horse\0"),
        basic(b"sha512\0:correct horse"),
        basic(b"sha512:\xff\xfe"),
        basic(&[b'a'; 300]),
        basic(format!("{}:x", "a".repeat(256)).as_bytes()),
        basic(format!("sha512:{}", "a".repeat(4000)).as_bytes()),
        two,
    ];
    // More than the failed attempts of an address.
    for row in rows.iter().chain(&rows) {
        let head = get(&mut wire, row).await;
        assert_eq!(head.status(), 401, "{row:?}");
        assert!(head.get("www-authenticate").is_some());
    }
    // The scheme has no case (RFC 9110 §11.1), and equal copies are one.
    let twice = credentials("sha512", PASSWORD)
        .replace("Basic", "bAsIc")
        .repeat(2);
    assert_eq!(get(&mut wire, &twice).await.status(), 200);
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn failed_attempts_of_an_address_are_limited_and_verified_credentials_are_not() {
    let backend = Recorder::backend().await;
    let users = Users::with(&all_users());
    let lockgate = users.guard(&backend, "").start().await;
    let mut wire = lockgate.connect().await;
    let right = credentials("bcrypt-2b", PASSWORD);
    for _ in 0..30 {
        assert_eq!(
            get(&mut wire, &right).await.status(),
            200,
            "a success is not counted"
        );
    }
    let mut statuses = Vec::new();
    for attempt in 0..14 {
        let wrong = credentials("bcrypt-2b", &format!("wrong {attempt}"));
        let head = get(&mut wire, &wrong).await;
        if head.status() == 429 {
            assert_eq!(head.get("retry-after"), Some("6"));
        }
        statuses.push(head.status());
    }
    let failed = statuses.iter().filter(|status| **status == 401).count();
    // One more in six seconds, if the machine is slow.
    assert!((10..=11).contains(&failed), "{statuses:?}");
    // Verified within the last minute.
    assert_eq!(get(&mut wire, &right).await.status(), 200);
    let other = credentials("sha512", PASSWORD);
    assert_eq!(get(&mut wire, &other).await.status(), 429);
    let refused = lockgate
        .metric("lockgate_refusals_total{status=\"429\",why=\"basic\"}")
        .await;
    assert!(refused >= 4.0, "{refused}");
}

#[tokio::test]
async fn burst_of_requests_with_the_same_credentials_counts_as_one_attempt() {
    let backend = Recorder::backend().await;
    let users = Users::with(&all_users());
    let lockgate = users.guard(&backend, "").start().await;
    let burst = async |more: String, expected: u16| {
        let mut wires = Vec::new();
        for _ in 0..40 {
            wires.push(lockgate.connect().await);
        }
        for wire in &mut wires {
            wire.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{more}\r\n"))
                .await;
        }
        for mut wire in wires {
            assert_eq!(wire.head().await.status(), expected);
        }
    };
    burst(credentials("argon2id", PASSWORD), 200).await;
    assert_eq!(backend.count(), 40);
}

#[tokio::test]
async fn changed_file_counts_from_its_reload_on_and_a_broken_one_keeps_the_last() {
    let backend = Recorder::backend().await;
    let users = Users::with(&all_users());
    let lockgate = users.guard(&backend, "").start().await;
    let mut wire = lockgate.connect().await;
    let (old, new) = (credentials("sha512", PASSWORD), credentials("anna", "x"));
    assert_eq!(get(&mut wire, &old).await.status(), 200);
    assert_eq!(get(&mut wire, &new).await.status(), 401);
    users.write(&format!("anna:{OF_X}\n"));
    eventually("the new file", async || {
        get(&mut wire, &old).await.status() == 401
    })
    .await;
    assert_eq!(get(&mut wire, &new).await.status(), 200);
    users.write("anna:$apr1$w8DUxrzQ$y4vCZW.6h0DnRcpDmVMSM1\n");
    lockgate.until_logged("line 1").await;
    assert_eq!(get(&mut wire, &new).await.status(), 200);
}

#[tokio::test]
async fn file_that_cannot_protect_anything_is_an_error_with_its_line() {
    let folder = TempDir::new().expect("a temporary folder");
    let config = folder.path().join("lockgate.toml");
    let text = "[server]\nhttps = [\"127.0.0.1:0\"]\n[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\n\
                to = \"ws://127.0.0.1:1\"\nguards = [\"staff\"]\n[guards.staff.basic]\nusers = \"users\"\n";
    let argon2 = "$argon2id$v=19$m=256,t=2,p=1$Tq81kgdz9Wmq9UwRHOw4MQ$F7Yeerovn69FP29O1ti1KG2tMDuEDOmqTMMkMpgoVsI";
    let rows = [
        ("".to_owned(), "no users"),
        ("# only a comment\n".into(), "no users"),
        (
            "a:$apr1$w8DUxrzQ$y4vCZW.6h0DnRcpDmVMSM1".into(),
            "line 1: this is an MD5 hash",
        ),
        ("a:$1$QWIMP2IA$VBwjir9d4alN/b366c2kx/".into(), "MD5"),
        ("a:rqXexS6ZhobKA".into(), "no hash that is accepted"),
        ("a:secret".into(), "no hash that is accepted"),
        (
            "a:{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=".into(),
            "no hash that is accepted",
        ),
        (format!("a:{OF_X}\n\nb"), "line 3: there is no `:`"),
        (
            format!("a:{OF_X}\na:{OF_X}"),
            "line 2: the user name occurs twice",
        ),
        (format!(":{OF_X}"), "user name is empty"),
        (format!("é:{OF_X}"), "characters that a header cannot carry"),
        (format!("a:{}", &OF_X[..59]), "malformed"),
        (
            format!("a:{}", OF_X.replace("$04$", "$17$")),
            "cost of the hash",
        ),
        (format!("a:{}", OF_X.replace("$04$", "$03$")), "malformed"),
        (
            format!("a:{}", argon2.replace("m=256", "m=4194304")),
            "cost of the hash",
        ),
        (
            format!("a:{}", argon2.replace("t=2", "t=4000000000")),
            "cost of the hash",
        ),
        (
            format!("a:{}", argon2.replace("argon2id", "argon2d")),
            "no hash that is accepted",
        ),
        (
            format!("a:$6$rounds=99999999$s${}", "a".repeat(86)),
            "cost of the hash",
        ),
        (format!("a:$6$rounds=10$s${}", "a".repeat(86)), "malformed"),
        ("a:$6$short$abc".into(), "malformed"),
    ];
    for (users, expected) in rows {
        std::fs::write(folder.path().join("users"), &users).expect("the folder is writable");
        std::fs::write(&config, text).expect("the folder is writable");
        let path = config.display().to_string();
        let output = Lockgate::run(folder.path(), &["check", &path]).await;
        let shown = String::from_utf8_lossy(&output.stderr);
        let shown = format!("{shown}{}", String::from_utf8_lossy(&output.stdout));
        assert!(!output.status.success(), "{users}");
        assert!(shown.contains(expected), "{users}: {shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[tokio::test]
async fn explain_shows_the_verdict_and_counts_no_attempt() {
    let folder = TempDir::new().expect("a temporary folder");
    let config = folder.path().join("lockgate.toml");
    let text = "[server]\nhttps = [\"127.0.0.1:0\"]\n[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\n\
                to = \"ws://127.0.0.1:1\"\nguards = [\"staff\", \"company\"]\n\
                [guards.staff.basic]\nusers = \"users\"\n[guards.company.forward_auth]\nurl = \"http://127.0.0.1:9/ask?secret=1\"\n";
    std::fs::write(folder.path().join("users"), all_users()).expect("the folder is writable");
    std::fs::write(&config, text).expect("the folder is writable");
    let config = config.display().to_string();
    let rows = [
        (String::new(), "refuses with 401: this route needs"),
        (
            credentials("sha512", "x"),
            "refuses with 401: the password is wrong",
        ),
        (
            credentials("eve", "x"),
            "refuses with 401: the file of users has no such user",
        ),
        (credentials("sha512", PASSWORD), "admits sha512"),
    ];
    for (header, expected) in rows {
        let header = header.trim();
        let mut arguments = vec!["explain", "--config", &config, "wss://a.test/"];
        if !header.is_empty() {
            arguments.extend(["--header", header]);
        }
        let output = Lockgate::run(folder.path(), &arguments).await;
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains(expected), "{header}: {shown}{output:?}");
        assert!(shown.contains("asks http://127.0.0.1:9/ask,"), "{shown}");
        assert!(
            !shown.contains("secret") && !shown.contains(PASSWORD),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn flood_of_passwords_delays_other_requests_little() {
    let backend = Recorder::backend().await;
    // About 30 ms for each hash, 240 ms without optimization.
    let slow = "$2b$08$KIXQb9s6xZ1fS5mZb6bPSe7tV9rj2bS3xJm9R8wqv0T8sYw4v2E0u";
    let users = Users::with(&format!("{}slow:{slow}\n", all_users()));
    let lockgate = users.guard(&backend, "").start().await;
    let right = credentials("sha512", PASSWORD);
    let mut wire = lockgate.connect().await;
    assert_eq!(get(&mut wire, &right).await.status(), 200);
    // From one address at most ten are computed.
    let mut wires = Vec::new();
    for attempt in 0..100 {
        let mut wire = lockgate.connect().await;
        let wrong = credentials("slow", &attempt.to_string());
        wire.send(handshake("/ws", &wrong)).await;
        wires.push(wire);
    }
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(get(&mut wire, &right).await.status(), 200);
    }
    let elapsed = begun.elapsed();
    let mut refused = [0; 2];
    for mut wire in wires {
        match wire.head().await.status() {
            401 => refused[0] += 1,
            429 => refused[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert!((10..=14).contains(&refused[0]), "{refused:?}");
    assert!(elapsed.as_secs() < 5, "{elapsed:?}");
}
