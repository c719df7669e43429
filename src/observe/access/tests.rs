use crate::{
    observe::{
        access::{record::*, *},
        testing::Memory,
    },
    proto::frame_tracker::FrameCounts,
};
use serde_json::{Value, json};
use std::{
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};

fn session() -> SessionRecord {
    SessionRecord {
        id: 0xa1b2_c3d4_e5f6_0718,
        client: IpAddr::from([203, 0, 113, 7]),
        http: "1.1",
        host: "chat.example.com".into(),
        path: "/ws".into(),
        route: "chat".into(),
        backend: "ws://10.0.0.1:8765".into(),
        subprotocol: Some("chat.v2".into()),
        extensions: Some("permessage-deflate; client_max_window_bits=15".into()),
    }
}

fn facts(record: &SessionRecord) -> SessionFacts<'_> {
    SessionFacts {
        record,
        subject: None,
    }
}

fn end() -> SessionEnd {
    SessionEnd {
        duration: Duration::from_millis(12_345),
        from_client: FrameCounts {
            frames: 12,
            messages: 10,
            bytes: 1234,
        },
        from_backend: FrameCounts {
            frames: 3,
            messages: 3,
            bytes: 99,
        },
        code: Some(1000),
        by: "client",
        why: "closed",
        hint: None,
    }
}

fn request() -> RequestRecord<'static> {
    RequestRecord {
        client: IpAddr::from([203, 0, 113, 7]),
        http: "1.1",
        method: "GET",
        host: "chat.example.com",
        path: "/ws",
        route: None,
        backend: None,
        subject: None,
        status: 403,
        duration: Duration::from_micros(850),
        why: Some("origin"),
    }
}

/// 2026-11-21T05:00:00.123Z
fn timestamp() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_237_200_123)
}

fn text(event: AccessEvent<'_>) -> String {
    line(event, LogFormat::Text, timestamp())
}

fn json(event: AccessEvent<'_>) -> Value {
    let line = line(event, LogFormat::Json, timestamp());
    assert!(line.ends_with("}\n") && line.lines().count() == 1, "{line}");
    serde_json::from_str(&line).unwrap()
}

#[test]
fn text_lines_have_the_documented_layout() {
    let (session, end) = (session(), end());
    let opened = "a1b2c3d4e5f60718 203.0.113.7 chat.example.com/ws route=chat backend=ws://10.0.0.1:8765 h=1.1 \
        subprotocol=chat.v2 extensions=\"permessage-deflate; client_max_window_bits=15\"";
    assert_eq!(
        text(AccessEvent::Open(facts(&session))),
        format!("2026-11-21T05:00:00.123Z open    {opened}\n")
    );
    assert_eq!(
        text(AccessEvent::Close(facts(&session), &end)),
        format!(
            "2026-11-21T05:00:00.123Z close   {opened} 12.3s code=1000 by=client why=closed in=12f/10m/1.2KiB out=3f/3m/99B\n"
        )
    );
    assert_eq!(
        text(AccessEvent::Request(&request())),
        "2026-11-21T05:00:00.123Z request 203.0.113.7 GET chat.example.com/ws 403 850us why=origin h=1.1\n"
    );
}

#[test]
fn subject_is_in_the_lines_of_sessions_and_requests() {
    let record = session();
    let facts = SessionFacts {
        record: &record,
        subject: Some("anna k"),
    };
    assert!(text(AccessEvent::Open(facts)).ends_with(" subject=\"anna k\"\n"));
    assert_eq!(json(AccessEvent::Close(facts, &end()))["subject"], "anna k");
    let request = RequestRecord {
        subject: Some("anna"),
        ..request()
    };
    assert!(text(AccessEvent::Request(&request)).contains(" subject=anna "));
    assert_eq!(json(AccessEvent::Request(&request))["subject"], "anna");
}

#[test]
fn json_lines_have_all_fields() {
    let (session, end) = (session(), end());
    let mut expected = json!({
        "timestamp": "2026-11-21T05:00:00.123Z",
        "event": "open",
        "id": "a1b2c3d4e5f60718",
        "client": "203.0.113.7",
        "http": "1.1",
        "host": "chat.example.com",
        "path": "/ws",
        "route": "chat",
        "backend": "ws://10.0.0.1:8765",
        "subprotocol": "chat.v2",
        "extensions": "permessage-deflate; client_max_window_bits=15",
        "subject": null,
    });
    assert_eq!(json(AccessEvent::Open(facts(&session))), expected);
    let closed = json!({
        "event": "close",
        "duration": 12.345,
        "code": 1000,
        "by": "client",
        "why": "closed",
        "hint": null,
        "from_client": { "frames": 12, "messages": 10, "bytes": 1234 },
        "from_backend": { "frames": 3, "messages": 3, "bytes": 99 },
    });
    let more = closed.as_object().unwrap().clone();
    expected.as_object_mut().unwrap().extend(more);
    assert_eq!(json(AccessEvent::Close(facts(&session), &end)), expected);
    assert_eq!(
        json(AccessEvent::Request(&request())),
        json!({
            "timestamp": "2026-11-21T05:00:00.123Z",
            "event": "request",
            "client": "203.0.113.7",
            "http": "1.1",
            "method": "GET",
            "host": "chat.example.com",
            "path": "/ws",
            "route": null,
            "backend": null,
            "subject": null,
            "status": 403,
            "duration": 0.00085,
            "why": "origin",
        })
    );
}

#[test]
fn hostile_values_neither_end_a_line_nor_control_a_terminal() {
    let hostile = [
        "a\nb",
        "a\r\nb",
        "\u{1b}[31mred",
        "\u{9b}31m",
        "\u{7f}",
        "\u{202e}gpj",
        "\0",
        "\" by=client",
        "a b",
        "\\",
        "\u{2028}",
    ];
    for hostile in hostile {
        let mut session = session();
        session.host = hostile.into();
        session.path = hostile.into();
        session.subprotocol = Some(hostile.into());
        session.extensions = Some(hostile.into());
        let mut request = request();
        (request.method, request.host, request.path) = (hostile, hostile, hostile);
        for event in [
            AccessEvent::Open(facts(&session)),
            AccessEvent::Request(&request),
        ] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let line = line(event, format, timestamp());
                let inner = line.strip_suffix('\n').expect("a whole line");
                assert!(
                    inner.bytes().all(|b| b == b' ' || b.is_ascii_graphic()),
                    "{line:?}"
                );
                let named = inner.split(' ').filter(|word| *word == "by=client").count();
                assert!(format == LogFormat::Json || named == 0, "{line:?}");
            }
            let back = json(event);
            assert_eq!(
                (&back["host"], &back["path"]),
                (&json!(hostile), &json!(hostile))
            );
        }
    }
}

#[test]
fn json_keeps_non_ascii_characters() {
    let mut session = session();
    session.path = "/żółw/🐢".into();
    assert_eq!(json(AccessEvent::Open(facts(&session)))["path"], "/żółw/🐢");
}

#[test]
fn long_values_are_truncated() {
    let mut session = session();
    session.path = "ż".repeat(MAX_FIELD_CHARS).into();
    assert_eq!(
        json(AccessEvent::Open(facts(&session)))["path"],
        *session.path
    );
    session.path = "ż".repeat(20_000).into();
    let truncated = format!("{}…", "ż".repeat(MAX_FIELD_CHARS));
    assert_eq!(json(AccessEvent::Open(facts(&session)))["path"], truncated);
    assert!(text(AccessEvent::Open(facts(&session))).len() < 4 * MAX_FIELD_CHARS);
}

#[test]
fn request_fields_are_shorter_and_escapes_count_in_full() {
    for (path, kept) in [
        ("x".repeat(256), 256),
        ("x".repeat(257), 256),
        ("x".repeat(20_000), 256),
        ("\u{1}".repeat(20_000), 42),
        ("ż".repeat(20_000), 42),
        ("🐢".repeat(20_000), 21),
        ("\"".repeat(20_000), 128),
    ] {
        let mut request = request();
        (request.method, request.host, request.path) = (&path, &path, &path);
        let cut = if path.chars().count() > kept {
            "…"
        } else {
            ""
        };
        let truncated = path.chars().take(kept).collect::<String>() + cut;
        assert_eq!(json(AccessEvent::Request(&request))["path"], truncated);
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = line(AccessEvent::Request(&request), format, timestamp());
            assert!(line.len() < 3 * 256 + 300, "{}: {line}", line.len());
        }
    }
}

#[test]
fn omitted_requests_have_a_summary_line() {
    let mut omitted = OmittedRecord {
        client: Some(IpAddr::from([203, 0, 113, 7])),
        requests: 1234,
        duration: Duration::from_millis(5_000),
    };
    assert_eq!(
        text(AccessEvent::Omitted(&omitted)),
        "2026-11-21T05:00:00.123Z omitted 203.0.113.7 requests=1234 5.0s\n"
    );
    let expected = json!({
        "timestamp": "2026-11-21T05:00:00.123Z",
        "event": "omitted",
        "client": "203.0.113.7",
        "requests": 1234,
        "duration": 5.0,
    });
    assert_eq!(json(AccessEvent::Omitted(&omitted)), expected);
    omitted.client = None;
    assert!(text(AccessEvent::Omitted(&omitted)).contains(" omitted - requests="));
    assert_eq!(json(AccessEvent::Omitted(&omitted))["client"], Value::Null);
}

#[test]
fn missing_host_and_close_code_have_placeholders() {
    let mut request = request();
    (request.host, request.path) = ("", "");
    assert!(text(AccessEvent::Request(&request)).contains(" GET \"\" 403 "));
    let end = SessionEnd {
        code: None,
        ..end()
    };
    let session = session();
    assert!(text(AccessEvent::Close(facts(&session), &end)).contains(" code=none by=client "));
    assert_eq!(
        json(AccessEvent::Close(facts(&session), &end))["code"],
        Value::Null
    );
}

#[test]
fn hint_is_the_last_field_of_a_close_line() {
    let end = SessionEnd {
        hint: Some("session.ping.legs selects"),
        ..end()
    };
    let session = session();
    assert!(
        text(AccessEvent::Close(facts(&session), &end))
            .ends_with("out=3f/3m/99B hint=\"session.ping.legs selects\"\n")
    );
    assert_eq!(
        json(AccessEvent::Close(facts(&session), &end))["hint"],
        "session.ping.legs selects"
    );
}

#[test]
fn durations_and_sizes_use_short_units() {
    for (duration, bytes, shown) in [
        (Duration::from_micros(7), 0, "7us in=0f/0m/0B"),
        (Duration::from_millis(999), 1023, "999ms in=0f/0m/1023B"),
        (Duration::from_millis(59_999), 1024, "59.9s in=0f/0m/1.0KiB"),
        (Duration::from_secs(125), 5 << 20, "2m05s in=0f/0m/5.0MiB"),
        (
            Duration::from_secs(3 * 3600 + 425),
            3 << 29,
            "3h07m in=0f/0m/1.5GiB",
        ),
        (
            Duration::from_secs(52 * 3600),
            u64::MAX,
            "2d04h in=0f/0m/16777216.0TiB",
        ),
    ] {
        let mut end = SessionEnd { duration, ..end() };
        end.from_client = FrameCounts {
            bytes,
            ..FrameCounts::default()
        };
        let line = text(AccessEvent::Close(facts(&session()), &end));
        let line = line.replace(" code=1000 by=client why=closed", "");
        assert!(line.contains(&format!(" {shown} ")), "{shown}: {line}");
    }
}

#[test]
fn clones_share_one_log_and_the_guard_flushes_it() {
    let memory = Memory::default();
    let (log, guard) = AccessLog::to(memory.clone(), None, LogFormat::Text);
    log.clone().opened(facts(&session()));
    log.closed(facts(&session()), &end());
    log.request(&request());
    drop(guard);
    let written = memory.text();
    let events: Vec<_> = written
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    assert_eq!(events, ["open", "close", "request"]);
}

#[test]
fn access_file_is_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    std::fs::write(&path, "before\n").unwrap();
    let (log, guard) = AccessLog::open(&Access::File(path.clone()), LogFormat::Json).unwrap();
    log.request(&request());
    drop(guard);
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written.starts_with("before\n{"), "{written}");
    assert_eq!(written.lines().count(), 2);

    let missing = Access::File(folder.path().join("none/access.log"));
    let error = AccessLog::open(&missing, LogFormat::Json).unwrap_err();
    assert!(error.to_string().contains("none/access.log"), "{error}");
    let source = std::error::Error::source(&error).expect("the system's error");
    let source = source.downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn access_off_writes_nothing() {
    let (log, _guard) = AccessLog::open(&Access::Off, LogFormat::Text).unwrap();
    log.opened(facts(&session()));
    assert!(log.out.is_none());
}
