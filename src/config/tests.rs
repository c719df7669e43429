//! No input makes the loader panic, and whatever it says can be shown.

use super::{Config, Problems};
use proptest::prelude::*;
use std::fs;

const WHOLE: &str = include_str!("../../config/lockgate.toml");

fn load(bytes: &[u8]) -> Result<Config, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lockgate.toml");
    fs::write(&file, bytes).unwrap();
    let loaded = Config::load_in(&file, &|_| None);
    if let Err(problems) = &loaded {
        assert!(!problems.list.is_empty());
        assert!(problems.to_string().contains("error: "));
        serde_json::from_str::<Vec<serde_json::Value>>(&problems.json()).unwrap();
        for problem in &problems.list {
            assert!(problem.hint.is_some(), "{problem:?}");
        }
    }
    loaded
}

#[test]
fn the_annotated_file_is_right_as_it_is() {
    let config = load(WHOLE.as_bytes()).unwrap();
    assert_eq!(config.routes.len(), 2);
    assert_eq!(config.session, super::Session::default());
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_read() {
    let text = format!("\u{feff}{}", WHOLE.replace('\n', "\r\n"));
    assert_eq!(load(text.as_bytes()).unwrap().routes.len(), 2);
}

#[test]
fn a_place_is_counted_in_characters() {
    let text = "[[routes]]\nhosts = [\"ü\", \"b:1\"]\nto = \"ws://a\"\n";
    let json = load(text.as_bytes()).unwrap_err().json();
    for column in ["\"column\": 10", "\"column\": 15"] {
        assert!(json.contains(column), "{json}");
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = load(&bytes);
    }

    #[test]
    fn any_text(text in "[\\[\\]{}=\"',.#a-zü0-9 \n$]{0,200}") {
        let _ = load(text.as_bytes());
    }

    #[test]
    fn a_right_file_with_something_wrong(at in 0..WHOLE.len(), cut in 0..40_usize, put in "[\\[\\]{}=\"',.#a-zü0-9 \n$]{0,8}") {
        let mut bytes = WHOLE.as_bytes().to_vec();
        bytes.splice(at..(at + cut).min(WHOLE.len()), put.into_bytes());
        let _ = load(&bytes);
    }
}
