//! Hints for files that are not TOML: the line in TOML, translated from YAML, JSON or nginx, or from TOML with a small
//! mistake.

use crate::config::values::path_notation::quoted;
use std::ops::Range;

/// Returns the line that was probably meant by the line at `span`, where the TOML parser has found an error.
pub(crate) fn correct_line(text: &str, span: &Range<usize>) -> Option<String> {
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |end| end + 1);
    let rest = text.get(start..)?;
    let line = rest.lines().next()?.trim();
    let line = if line.is_empty() {
        text.get(..start)?.lines().next_back()?.trim()
    } else {
        line
    };
    if line.len() > MAX_LINE_LEN {
        return None;
    }
    let plain = straight_quotes(line);
    let found = of_nginx(&plain)
        .or_else(|| of_json(&plain))
        .or_else(|| of_yaml(&plain))
        .or_else(|| of_toml(&plain))?;
    (found != line && !found.is_empty()).then_some(found)
}

/// Translates a directive of nginx.
fn of_nginx(line: &str) -> Option<String> {
    let (directive, is_block) = match line.strip_suffix(';') {
        Some(directive) => (directive, false),
        None => (line.strip_suffix('{')?.trim_end(), true),
    };
    let (name, value) = directive.split_once(' ').unwrap_or((directive, ""));
    let value = value.trim();
    let words = || {
        value
            .split_whitespace()
            .map(quoted)
            .collect::<Vec<_>>()
            .join(", ")
    };
    Some(match (name, is_block) {
        ("server" | "http", true) => "[[routes]]".to_owned(),
        ("location", true) => match value.split_once(' ') {
            Some(("=", path)) => format!("path = {}", quoted(path)),
            Some((modifier, expression)) if modifier.starts_with('~') => {
                format!("path = {}", quoted(&format!("~ {expression}")))
            }
            _ => {
                let prefix = value.trim_start_matches("^~").trim().trim_end_matches('/');
                format!("path = {}", quoted(&format!("{prefix}/*")))
            }
        },
        ("upstream", true) => format!("[pools.{value}]"),
        ("listen", false) => {
            let address = value.split_whitespace().next()?;
            let address = match address.parse::<u16>() {
                Ok(port) => format!("[::]:{port}"),
                Err(_) => address.to_owned(),
            };
            format!("https = [{}]", quoted(&address))
        }
        ("server_name", false) => format!("hosts = [{}]", words()),
        ("proxy_pass", false) => format!("to = {}", quoted(value.trim_end_matches('/'))),
        ("server", false) => format!("backends = [{}]", quoted(&format!("ws://{value}"))),
        ("ssl_certificate", false) => {
            format!(
                "certificates = [{{ cert = {}, key = \"…\" }}]",
                quoted(value)
            )
        }
        ("include", false) => format!("include = [{}]", quoted(value)),
        (name, false) if is_key(name) && !value.is_empty() && !value.starts_with('=') => {
            format!("{name} = {}", literal(value))
        }
        (_, false) => directive.to_owned(),
        (_, true) => return None,
    })
}

/// Translates a member of a JSON object.
fn of_json(line: &str) -> Option<String> {
    let line = line.trim_end_matches(',');
    if matches!(line, "{" | "}" | "[" | "]") {
        return Some("[server]".to_owned());
    }
    let line = line.trim_start_matches('{').trim();
    let (key, value) = line.strip_prefix('"')?.split_once('"')?;
    let value = value.trim_start().strip_prefix(':')?.trim();
    Some(match value {
        value if value.starts_with('{') => format!("[{key}]"),
        "[" => return None,
        value => assignment(key, value),
    })
}

/// Translates a mapping or a list entry of YAML.
fn of_yaml(line: &str) -> Option<String> {
    let entry = line.strip_prefix("- ");
    let line = entry.unwrap_or(line);
    match line.split_once(':') {
        Some((key, "")) if is_key(key.trim()) => Some(match key.trim() {
            "routes" => "[[routes]]".to_owned(),
            key => format!("[{key}]"),
        }),
        Some((key, value)) if is_key(key.trim()) && value.starts_with(' ') => {
            Some(assignment(key.trim(), value.trim()))
        }
        _ => entry.map(|entry| format!("[{}], in the line of its key", literal(entry))),
    }
}

/// Corrects an assignment: a text without quotes, a missing quote or bracket, a word of Python.
fn of_toml(line: &str) -> Option<String> {
    if let Some(header) = line.strip_prefix('[')
        && !line.contains('=')
    {
        let name = header.trim_matches(['[', ']', ' ']);
        return if line.starts_with("[[") {
            Some(format!("[[{name}]]"))
        } else {
            Some(format!("[{name}]"))
        };
    }
    let (key, value) = line.split_once('=')?;
    let value = value.trim_start_matches('>').trim();
    (is_dotted(key.trim()) && !value.is_empty()).then(|| assignment(key.trim(), value))
}

/// Writes `key = value`, with the brackets that the key needs.
fn assignment(key: &str, value: &str) -> String {
    let value = value.split(" #").next().unwrap_or_default().trim();
    let inner = value
        .strip_prefix('[')
        .map(|inner| inner.strip_suffix(']').unwrap_or(inner));
    let is_list = LISTS.contains(&key);
    match inner {
        // An IPv6 address has brackets, too.
        Some(inner) if !value.starts_with("[:") => {
            let values = inner.split(',').map(|value| literal(value.trim()));
            format!("{key} = [{}]", values.collect::<Vec<_>>().join(", "))
        }
        _ if is_list => format!("{key} = [{}]", literal(value)),
        _ if value.starts_with('{') => format!("{key} = {value}"),
        _ => format!("{key} = {}", literal(value)),
    }
}

/// Writes a value as TOML: a number or a boolean as it is, everything else as text in quotes.
fn literal(value: &str) -> String {
    let bare = value.trim_matches(['"', '\'', ' ']);
    let is_number = value.parse::<i64>().is_ok() || value.parse::<f64>().is_ok();
    match value {
        "true" | "True" | "yes" => "true".to_owned(),
        "false" | "False" | "no" => "false".to_owned(),
        _ if is_number => value.to_owned(),
        _ => quoted(bare),
    }
}

fn straight_quotes(line: &str) -> String {
    line.replace(['“', '”', '„', '«', '»'], "\"")
        .replace(['‘', '’', '`'], "'")
}

fn is_key(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !text.is_empty() && text.chars().all(is_part)
}

fn is_dotted(text: &str) -> bool {
    text.split('.').all(is_key)
}

/// The keys whose values are lists of texts.
const LISTS: [&str; 12] = [
    "https",
    "http",
    "cleartext",
    "hosts",
    "origins",
    "allow",
    "deny",
    "backends",
    "trusted_proxies",
    "subprotocols",
    "include",
    "sources",
];

/// The maximum length of a line that is corrected.
const MAX_LINE_LEN: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_formats_are_translated() {
        for (line, fixed) in [
            ("server:", "[server]"),
            ("routes:", "[[routes]]"),
            ("https: 0.0.0.0:443", "https = [\"0.0.0.0:443\"]"),
            ("dev_ca: true", "dev_ca = true"),
            ("- hosts: [a.test]", "hosts = [\"a.test\"]"),
            ("to: ws://a:1", "to = \"ws://a:1\""),
            ("\"to\": \"ws://a:1\",", "to = \"ws://a:1\""),
            ("\"server\": {", "[server]"),
            ("{", "[server]"),
            ("server {", "[[routes]]"),
            ("listen 443 ssl;", "https = [\"[::]:443\"]"),
            (
                "server_name a.test b.test;",
                "hosts = [\"a.test\", \"b.test\"]",
            ),
            ("location /ws/ {", "path = \"/ws/*\""),
            ("proxy_pass http://a:1/;", "to = \"http://a:1\""),
            ("to = ws://127.0.0.1:8765", "to = \"ws://127.0.0.1:8765\""),
            ("to = \"ws://a:1", "to = \"ws://a:1\""),
            (
                "hosts = [a.test, b.test]",
                "hosts = [\"a.test\", \"b.test\"]",
            ),
            ("hosts = a.test", "hosts = [\"a.test\"]"),
            ("https = [::]:443", "https = [\"[::]:443\"]"),
            ("dev_ca = True", "dev_ca = true"),
            ("to = “ws://a:1”", "to = \"ws://a:1\""),
            ("idle = 30s", "idle = \"30s\""),
            ("[server", "[server]"),
            ("[[routes]", "[[routes]]"),
        ] {
            assert_eq!(
                correct_line(line, &(0..1)).as_deref(),
                Some(fixed),
                "{line}"
            );
        }
        assert_eq!(correct_line("= 1", &(0..1)), None);
    }
}
