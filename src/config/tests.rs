//! Tests that no input makes the loader panic and that every diagnostic can be rendered.

use crate::config::{
    diagnostic::Diagnostics,
    schema::{Config, session},
    values::address,
};
use proptest::prelude::*;
use std::fs;

const ANNOTATED_FILE: &str = include_str!("../../config/lockgate.toml");

fn load(bytes: &[u8]) -> Result<Config, Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lockgate.toml");
    fs::write(&file, bytes).unwrap();
    let loaded = Config::load_in(&file, &|_| None);
    if let Err(diagnostics) = &loaded {
        assert!(!diagnostics.list.is_empty());
        assert!(diagnostics.to_string().contains("error: "));
        serde_json::from_str::<Vec<serde_json::Value>>(&diagnostics.json()).unwrap();
        for diagnostic in &diagnostics.list {
            assert!(diagnostic.hint.is_some(), "{diagnostic:?}");
        }
    }
    loaded
}

#[test]
fn annotated_file_is_valid_and_has_the_defaults() {
    let config = load(ANNOTATED_FILE.as_bytes()).unwrap();
    assert_eq!(config.routes.len(), 2);
    assert_eq!(config.session, session::Session::default());
}

#[test]
fn crlf_and_byte_order_mark_are_accepted() {
    let text = format!("\u{feff}{}", ANNOTATED_FILE.replace('\n', "\r\n"));
    assert_eq!(load(text.as_bytes()).unwrap().routes.len(), 2);
}

#[test]
fn columns_are_counted_in_characters() {
    let text = "[[routes]]\nhosts = [\"ü\", \"b:1\"]\nto = \"ws://a\"\n";
    let json = load(text.as_bytes()).unwrap_err().json();
    for column in ["\"column\": 10", "\"column\": 15"] {
        assert!(json.contains(column), "{json}");
    }
}

#[test]
fn each_error_is_reported_once_at_its_location() {
    for (text, place) in [
        ("[[routes]]\nhosts = \"a\"\nto = \"ws://a\"\n", (2, 9)),
        (
            "[pools.a]\nbackends = \"ws://a\"\n[[routes]]\nhosts = [\"a\"]\npool = \"a\"\n",
            (2, 12),
        ),
        (
            "[tls]\ncertificates = [{ cert = \"a\", key = 5 }]\n[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\n",
            (2, 37),
        ),
        ("[[routes]]\nhosts = [\"${A}\"]\nto = \"ws://a\"\n", (2, 10)),
        (
            "[[routes]]\nname = \"${A}\"\nhosts = [\"a\"]\nto = \"ws://a\"\n",
            (2, 8),
        ),
        (
            "[session]\nclose_timeout = \"0s\"\n[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\nsession = { max_frame = \"1B\" }\n",
            (2, 1),
        ),
        (
            "routes = [\n { name = \"a\", hosts = [], to = \"ws://a\" },\n { name = \"b\",\nhosts = [\"b\"], to = \"ws://b\" } ]\n",
            (2, 16),
        ),
        (
            "[limits]\n# idle = \n\"idle\" = \"0s\"\n[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\n",
            (3, 1),
        ),
        (
            "[session.ping]\ninterval = \"0s\"\n[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\n",
            (1, 10),
        ),
    ] {
        let json = load(text.as_bytes()).unwrap_err().json();
        let diagnostics: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        let places: Vec<_> = diagnostics
            .iter()
            .map(|diagnostic| (diagnostic["line"].as_u64(), diagnostic["column"].as_u64()))
            .collect();
        assert_eq!(places, [(Some(place.0), Some(place.1))], "{text}\n{json}");
    }
}

/// A dangling reference is reported together with all other errors; a key that is present and invalid is not reported
/// as missing too.
#[test]
fn dangling_references_are_reported_with_all_other_errors() {
    for (text, expected) in [
        (
            "[server]\nhtps = []\n[pools.chat]\nbackends = [\"ws:/a\"]\n[[routes]]\nhosts = [\"a\"]\npool = \"chatt\"\n",
            &[(2, "htps"), (4, "ws:/a"), (7, "no pool `chatt`")][..],
        ),
        (
            "[pools.chat]\nbackends = 5\nbalance = \"no\"\n[[routes]]\nhosts = [\"a\"]\npool = \"chat\"\n",
            &[(2, "5"), (3, "no")],
        ),
        (
            "[pools]\nchat = \"ws://a\"\n[[routes]]\nhosts = [\"a\"]\npool = \"chat\"\n",
            &[(2, "ws://a")],
        ),
        (
            "[pools.chat]\n[[routes]]\npath = \"ws\"\npool = \"chatt\"\n",
            &[
                (1, "`backends` is missing"),
                (2, "`hosts` is missing"),
                (3, "ws"),
                (4, "no pool `chatt`"),
            ],
        ),
        (
            "[pool.chat]\nbackends = [\"ws://a\"]\n[[routes]]\nhosts = [\"a\"]\npool = \"chat\"\n",
            &[(1, "unknown key `pool`")],
        ),
        (
            "include = [\"none.toml\"]\n[[routes]]\nhosts = [\"a\"]\npool = \"chat\"\n",
            &[(1, "none.toml")],
        ),
        (
            "[limits]\nidle = 3\n[[routes]]\nhosts = [\"a\"]\nurl = \"ws://a\"\n[[routes]]\nname = \"b\"\nhosts = []\nclient_cert = \"require\"\n",
            &[
                (2, "3"),
                (5, "unknown key `url`"),
                (6, "the route `b` has no target"),
                (8, "no hosts"),
                (9, "no CA"),
            ],
        ),
        ("[server]\nhtps = []\n", &[(1, "no routes"), (2, "htps")]),
        (
            "[server]\nhttps = [\"x\"]\nhttp = []\n[[route]]\nhosts = [\"a\"]\n",
            &[(2, "x"), (4, "unknown key `route`")],
        ),
    ] {
        let diagnostics = load(text.as_bytes()).unwrap_err();
        let shown: Vec<_> = diagnostics
            .list
            .iter()
            .map(|diagnostic| {
                let start = diagnostic.at.map_or(0, |at| at.start);
                let line = text[..start].matches('\n').count() + 1;
                (line, &*diagnostic.message)
            })
            .collect();
        let matches = shown.len() == expected.len()
            && shown
                .iter()
                .zip(expected)
                .all(|(shown, expected)| shown.0 == expected.0 && shown.1.contains(expected.1));
        assert!(matches, "{text}\n{shown:#?}");
    }
}

/// The result of another pool's health check counts in every pool with that backend.
#[test]
fn settings_without_effect_by_default_are_accepted() {
    for pools in [
        "[pools.a]\nbackends = [\"ws://a\"]\nhealth = { check = \"tcp\" }\n[pools.b]\nbackends = [\"ws://a\", \"ws://b\"]\nhealth = { on_down = \"drain\" }\n",
        "[pools.a]\nbackends = [\"ws://a\"]\nhealth = { check = \"off\", path = \"/well\" }\n",
        "[pools.a]\nbackends = [\"ws://a\"]\nbalance = \"random-two\"\nhash = \"ip\"\n",
    ] {
        load(format!("[[routes]]\nhosts = [\"a\"]\npool = \"a\"\n{pools}").as_bytes()).unwrap();
    }
}

#[test]
fn ten_thousand_errors_are_summarised() {
    let text: String = (0..10_000)
        .map(|n| {
            format!("[[routes]]\nname = \"r{n}\"\nhosts = [\"a\"]\nto = \"ws://a\"\nallow = []\n")
        })
        .collect();
    let diagnostics = load(text.as_bytes()).unwrap_err();
    assert_eq!(diagnostics.list.len(), 101);
    assert_eq!(diagnostics.list[100].message, "and 9900 more problems");
}

#[test]
fn quoted_value_is_truncated_and_escaped() {
    let text = format!("[server]\nhttps = [\"\\u001b{}\"]\n", "x".repeat(1 << 20));
    let shown = load(text.as_bytes()).unwrap_err().to_string();
    assert!(
        shown.len() < 2000 && !shown.contains('\u{1b}'),
        "{shown:.200}"
    );
}

#[test]
fn secret_is_redacted_in_diagnostics() {
    for text in [
        "server.admin_token = \"geheim\"\n",
        "server = { admin_token = 'geheim\u{7f}' }\n",
        "server.admin_token = \"a,b#}geheim\"\n",
        "server.admin_token = [\"geheim\"]\n",
        "server.admin_token = 4711 # but\n",
        "[acme]\neab = \"kid:geheim\"\n",
        "[acme]\neab = { kid = \"a\", hmac = 4711 }\n",
        // The name of a key before the key, in a value and in a comment.
        "[acme]\neab = { kid = \"hmac-1\", hmac = \"geheim\", x = 1 }\n",
        "[acme]\neab = { kid = \"hmac = 1\", hmac = \"geheim\", x = 1 }\n",
        "[acme]\neab = { kid = \"a\", \"hmac\" = \"geheim\", x = 1 }\n",
        "[acme]\neab = { hmac = \"a\\\"geheim\", x = 1 }\n",
        "[acme]\neab = { hmac = '''geheim''', x = 1 }\n",
        "server.admin_token = [\"a\", \"geheim\"]\n",
        "server.admin_token = 4711 # a \"number\"\n",
    ] {
        let diagnostics = load(text.as_bytes()).unwrap_err();
        let shown = format!("{diagnostics}{}", diagnostics.json());
        assert!(shown.contains("**"), "{shown}");
        assert!(
            !shown.contains("geheim") && !shown.contains("4711"),
            "{shown}"
        );
    }
}

#[test]
fn access_log_path_is_relative_to_the_file_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lockgate.toml");
    let text = "server.access = \"a.log\"\n[[routes]]\nhosts = [\"a\"]\nto = \"ws://a\"\n";
    fs::write(&file, text).unwrap();
    let config = Config::load_in(&file, &|_| None).unwrap();
    let expected = folder.path().join("a.log");
    assert_eq!(config.server.access, address::Access::File(expected));
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = load(&bytes);
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "[\\[\\]{}=\"',.#a-zü0-9 \n$]{0,200}") {
        let _ = load(text.as_bytes());
    }

    #[test]
    fn damaged_file_does_not_panic(at in 0..ANNOTATED_FILE.len(), cut in 0..40_usize, put in "[\\[\\]{}=\"',.#a-zü0-9 \n$]{0,8}") {
        let mut bytes = ANNOTATED_FILE.as_bytes().to_vec();
        bytes.splice(at..(at + cut).min(ANNOTATED_FILE.len()), put.into_bytes());
        let _ = load(&bytes);
    }
}
