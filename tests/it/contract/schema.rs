//! The configuration: keys, types, defaults and words.

use super::{Lines, snapshot};
use crate::harness::Lockgate;
use serde_json::{Map, Value};
use std::path::Path;

#[tokio::test]
async fn configuration_keys_defaults_and_words_are_unchanged() {
    let output = Lockgate::run(Path::new("."), &["schema"]).await;
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut lines = Lines::new();
    describe(&schema, "", &schema, &mut lines);
    snapshot("schema", &lines);
}

/// Adds a line per key. References are resolved: the names of definitions are those of types, and not a contract.
fn describe(schema: &Value, at: &str, node: &Value, lines: &mut Lines) {
    let Value::Object(fields) = node else { return };
    let (mut facts, mut words) = (Map::new(), vec![]);
    for (keyword, value) in fields {
        match keyword.as_str() {
            "$schema" | "$defs" | "description" | "title" | "examples" => {}
            // The facts that the reference shows.
            "x-applies" | "x-as" | "x-example" | "x-limit" => {}
            "$ref" => {
                let pointer = value.as_str().expect("a pointer").trim_start_matches('#');
                let target = schema.pointer(pointer).expect("a definition");
                describe(schema, at, target, lines);
            }
            "properties" => {
                for (key, value) in value.as_object().expect("keys") {
                    describe(schema, &format!("{at}.{key}"), value, lines);
                }
            }
            "items" => describe(schema, &format!("{at}[]"), value, lines),
            "additionalProperties" if value.is_object() => {
                describe(schema, &format!("{at}.*"), value, lines);
            }
            "anyOf" | "oneOf" => {
                for alternative in value.as_array().expect("alternatives") {
                    match alternative.get("const") {
                        Some(word) => words.push(word.to_string()),
                        None => describe(schema, at, alternative, lines),
                    }
                }
            }
            _ => {
                facts.insert(keyword.clone(), value.clone());
            }
        }
    }
    words.sort();
    let at = if at.is_empty() { "." } else { at };
    lines.extend(words.iter().map(|word| format!("{at} word {word}")));
    if !facts.is_empty() {
        lines.insert(format!("{at} {}", Value::Object(facts)));
    }
}
