//! `lockgate tap`: the frames of live sessions, on routes that allow it.

use crate::harness::{Backend, Frame, Lockgate, Wire, eventually, switching_protocols, within};
use flate2::{Compress, Compression, FlushCompress};
use serde_json::{Value, json};
use tokio::net::UnixStream;

/// An attached tap: the response to `GET /tap`.
struct Tap(Wire);

impl Tap {
    /// Sends `GET /tap` with this query; the tap is attached when this returns.
    async fn start(lockgate: &Lockgate, query: &str) -> Tap {
        let (status, tap) = Tap::request(lockgate, query).await;
        assert_eq!(status, 200);
        tap
    }

    async fn request(lockgate: &Lockgate, query: &str) -> (u16, Tap) {
        let socket = UnixStream::connect(lockgate.folder().join("admin.sock")).await;
        let mut wire = Wire::stream(socket.expect("it listens"));
        wire.send(format!(
            "GET /tap?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ))
        .await;
        let head = wire.head().await;
        (head.status(), Tap(wire))
    }

    async fn line(&mut self) -> Value {
        serde_json::from_slice(&self.0.chunk().await).expect("a line is a chunk")
    }

    /// The next frame: sender, kind, size, text or hex.
    async fn frame(&mut self) -> (String, String, u64, String) {
        let line = self.line().await;
        let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let shown = word("text") + &word("hex");
        (
            word("from"),
            word("kind"),
            line["size"].as_u64().expect("a frame"),
            shown,
        )
    }
}

fn is(from: &str, kind: &str, size: u64, shown: &str) -> (String, String, u64, String) {
    (from.into(), kind.into(), size, shown.into())
}

#[tokio::test]
async fn tapped_frames_are_truncated_and_not_logged() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address)
        .with("tap = true")
        .start()
        .await;
    let (mut client, mut server, _) = lockgate.session(&backend).await;
    // A client receives its 101 before its session is registered, and a relayed frame shows that it is.
    client.send_frame(Frame::text("before")).await;
    server.frame().await;
    let mut tap = Tap::start(&lockgate, "bytes=16").await;
    assert_eq!(tap.line().await, json!({ "sessions": 1 }));

    client.send_frame(Frame::text("hello, hush-hush")).await;
    assert_eq!(
        tap.frame().await,
        is("client", "text", 16, "hello, hush-hush")
    );
    let long = "0123456789".repeat(1000);
    server.send_frame(Frame::text(&long)).await;
    assert_eq!(
        tap.frame().await,
        is("backend", "text", 10_000, "0123456789012345")
    );
    let mut part = Frame::text("one ");
    part.fin = false;
    client.send_frame(part).await;
    client.send_frame(Frame::ping(b"?")).await;
    client.send_frame(Frame::new(0, b"two")).await;
    let first = tap.line().await;
    assert_eq!(
        (&first["kind"], &first["fin"], &first["text"]),
        (&json!("text"), &json!(false), &json!("one "))
    );
    assert_eq!(tap.frame().await, is("client", "ping", 1, "3f"));
    let last = tap.line().await;
    assert_eq!(
        (&last["kind"], &last["continues"], &last["fin"]),
        (&json!("text"), &json!(true), &json!(true))
    );
    assert_eq!(last["text"], "two");
    server.send_frame(Frame::binary(&[1, 2, 0xFF])).await;
    assert_eq!(tap.frame().await, is("backend", "binary", 3, "0102ff"));

    // A session that opens while the tap is attached is observed from its first frame.
    let (mut late, _its_server, _) = lockgate.session(&backend).await;
    late.send_frame(Frame::text("late")).await;
    assert_eq!(tap.frame().await, is("client", "text", 4, "late"));
    late.send_frame(Frame::close(4001, "bye")).await;
    let close = tap.line().await;
    assert_eq!(
        (&close["kind"], &close["code"], &close["text"]),
        (&json!("close"), &json!(4001), &json!("bye"))
    );

    // The tap is detached when its client disconnects.
    drop(tap);
    eventually("the end of the tap in the log", async || {
        let log = lockgate.log("INFO");
        log.iter().any(|line| line["lost"].is_u64())
    })
    .await;
    client.send_frame(Frame::text("unseen")).await;
    let logged = format!("{}{:?}", lockgate.stderr(), lockgate.records());
    assert!(!logged.contains("hush-hush"), "{logged}");
    let log = lockgate.log("INFO");
    assert!(log.iter().any(|line| line["sessions"].is_u64()), "{logged}");
}

#[tokio::test]
async fn tap_shows_compressed_messages_inflated() {
    let backend = Backend::listen().await;
    let lockgate = Lockgate::to(backend.address)
        .with("tap = true")
        .start()
        .await;
    let mut tap = Tap::start(&lockgate, "").await;
    assert_eq!(tap.line().await, json!({ "sessions": 0 }));
    let extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let mut client = lockgate.upgrade("/", extension).await;
    let mut server = backend.accept().await;
    let request = server.head().await;
    server.send(switching_protocols(&request, extension)).await;
    assert_eq!(client.head().await.status(), 101);
    let mut compress = Compress::new(Compression::default(), false);
    for text in ["again and again and again", "again and again"] {
        let mut payload = Vec::with_capacity(1024);
        compress
            .compress_vec(text.as_bytes(), &mut payload, FlushCompress::Sync)
            .expect("there is room");
        payload.truncate(payload.len() - 4);
        let mut frame = Frame::new(1, &payload);
        frame.reserved = 4;
        client.send_frame(frame.clone()).await;
        // A tap does not change the relayed bytes.
        let got = server.frame().await;
        assert_eq!((got.reserved, got.payload), (4, payload));
        let line = tap.line().await;
        assert_eq!(line["text"], text, "{line}");
        assert_eq!(
            (&line["compressed"], &line["gaps"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(line["inflated"], text.len());
    }
}

#[tokio::test]
async fn tap_requires_a_route_that_allows_it() {
    let backend = Backend::echo().await;
    let setup = Lockgate::to(backend).with("name = \"private\"\npath = \"/private\"");
    let shown = format!(
        "[[routes]]\nname = \"shown\"\nhosts = [\"a.test\"]\nto = \"ws://{backend}\"\norigins = [\"*\"]\ntap = true"
    );
    let lockgate = setup.with(&shown).start().await;
    let mut private = lockgate.upgrade("/private", "").await;
    assert_eq!(private.head().await.status(), 101);
    let opened = lockgate.record(|it| it["event"] == "open").await;
    let id = opened["id"].as_str().unwrap();
    for query in ["route=private", "route=none", &format!("id={id}")] {
        assert_eq!(Tap::request(&lockgate, query).await.0, 403, "{query}");
    }
    for (query, status) in [
        ("id=0000000000000000", 404),
        ("bytes=9999", 400),
        ("roote=x", 400),
    ] {
        assert_eq!(Tap::request(&lockgate, query).await.0, status, "{query}");
    }
    let (ok, output) = lockgate.command(&["tap", "--route", "private"]).await;
    assert!(!ok && output.contains("tap = true"), "{output}");
    // Without a selection, a tap covers the sessions of all routes that allow it.
    let mut tap = Tap::start(&lockgate, "").await;
    assert_eq!(tap.line().await, json!({ "sessions": 0 }));
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    private.send_frame(Frame::text("private")).await;
    assert_eq!(private.text().await, "private");
    client.send_frame(Frame::text("shown")).await;
    assert_eq!(tap.frame().await, is("client", "text", 5, "shown"));
    assert_eq!(tap.frame().await, is("backend", "text", 5, "shown"));

    let (ok, output) = lockgate.command(&["tap", "--for", "50ms"]).await;
    assert!(ok && output.starts_with("tapping 1 session"), "{output}");
    assert!(output.contains("the duration has elapsed"), "{output}");

    // A reload that disables `tap` ends the tap.
    let config = std::fs::read_to_string(lockgate.folder().join("config.toml")).unwrap();
    lockgate.write_config(&config.replace("tap = true", "tap = false"));
    assert!(lockgate.command(&["reload"]).await.0);
    let ended = within("the end of the tap", tap.line()).await;
    assert!(
        ended["ended"]
            .as_str()
            .is_some_and(|why| why.contains("tap = true")),
        "{ended}"
    );
    assert_eq!(Tap::request(&lockgate, "").await.0, 403);
}

#[tokio::test]
async fn tap_over_its_rate_counts_lost_frames() {
    let lockgate = Lockgate::to(Backend::echo().await)
        .with("tap = true")
        .start()
        .await;
    let mut client = lockgate.upgrade("/", "").await;
    assert_eq!(client.head().await.status(), 101);
    client.echoes().await;
    let mut tap = Tap::start(&lockgate, "rate=5").await;
    assert_eq!(tap.line().await, json!({ "sessions": 1 }));
    for _ in 0..100 {
        client.send_frame(Frame::text("x")).await;
        assert_eq!(client.text().await, "x");
    }
    let (mut shown, mut lost) = (0, 0);
    while shown + lost < 200 {
        let line = tap.line().await;
        match line["lost"].as_u64() {
            Some(some) => lost += some,
            None => shown += 1,
        }
    }
    // Five more are shown each second, and a loaded machine may take several.
    assert!(lost >= 100, "{shown} shown, {lost} lost");
}
