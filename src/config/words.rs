//! Rewrites error messages of serde and toml into messages and hints for the author of the file.

/// The hint for a TOML syntax error.
pub(super) const SYNTAX: &str =
    "the file is TOML: strings in quotes, lists in [ ], tables under a [name]; see https://toml.io";

/// Returns a message and a hint for an error of the deserializer.
pub(super) fn explain(error: &str) -> (String, String) {
    // The message of a `BadValue`.
    if let Some((message, hint)) = error.split_once(super::values::SEPARATOR) {
        return (message.to_owned(), hint.to_owned());
    }
    let named: Vec<&str> = error.split('`').skip(1).step_by(2).collect();
    match (error, named.as_slice()) {
        (_, [key, known @ ..]) if error.starts_with("unknown field") => {
            (format!("unknown key `{key}`"), suggest(key, known, "keys"))
        }
        (_, [word, known @ ..]) if error.starts_with("unknown variant") => (
            format!("`{word}` is not one of the allowed words"),
            suggest(word, known, "words"),
        ),
        (_, [key, ..]) if error.starts_with("missing field") => (
            format!("`{key}` is missing"),
            format!("add it: {}", example(key)),
        ),
        _ if error.starts_with("invalid type") || error.starts_with("invalid value") => {
            let (found, expected) = error
                .split_once(", expected ")
                .unwrap_or((error, "something else"));
            let found = match found.split_once(": ").map_or(found, |(_, found)| found) {
                // toml passes a date as a map.
                "map" => "a table or a date",
                "sequence" => "a list",
                found => found,
            };
            (
                format!("{found} is not allowed here"),
                format!("write {}", kind(expected)),
            )
        }
        _ => (
            error.to_owned(),
            "`lockgate schema --markdown` lists every key and its values".to_owned(),
        ),
    }
}

/// Returns the missing key if `error` reports one.
pub(super) fn missing(error: &str) -> Option<&str> {
    error.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Returns "did you mean …", or a list of all known words.
pub(super) fn suggest(word: &str, known: &[&str], what: &str) -> String {
    let close = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .min();
    match close {
        Some((distance, known)) if distance <= (word.len() / 3).max(1) => {
            format!("did you mean `{known}`?")
        }
        _ if known.is_empty() => "remove it".to_owned(),
        _ => format!(
            "the {what} here are {}",
            known
                .iter()
                .map(|known| format!("`{known}`"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

fn example(key: &str) -> &'static str {
    match key {
        "hosts" => "hosts = [\"chat.example.com\"], or [\"*\"] for any",
        "address" => "address = \"ws://127.0.0.1:8765\"",
        "backends" => "backends = [\"ws://127.0.0.1:8765\"]",
        "cert" => "cert = \"chat.pem\", the file with the certificate chain",
        "key" => "key = \"chat.key\", the file with the private key",
        _ => "`lockgate schema --markdown` shows its values",
    }
}

/// Returns the name of a Rust type for users of TOML.
fn kind(expected: &str) -> String {
    match expected {
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "path string" => "text in quotes".to_owned(),
        "a sequence" => "a list in [ ]".to_owned(),
        "a map" => "a table".to_owned(),
        // A struct, by its Rust name.
        name if name.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    }
}
