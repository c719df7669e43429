//! Corrects values that are written as other software expects them. The hint of an error shows the correction, which is
//! always a valid value.

use crate::config::values::{
    acme::{AcmeDirectory, MailAddress},
    address::{Access, AdminAddress, BackendAddress, BackendSource},
    host_field::HostField,
    network::{Cidr, ListenAddress},
    pattern::{HostPattern, OriginPattern, PathPattern},
    selector::{CheckPath, HashKey, TokenHeader, TokenSource},
    units::{DurationValue, Rate, Rebalance, Size},
};
use std::net::{IpAddr, SocketAddr};

/// Returns the value of the type `kind` of the schema that was probably meant by `text`; `None` if `text` is valid, or
/// similar to no value.
pub(crate) fn correct(kind: &str, text: &str) -> Option<String> {
    if is_valid(kind, text) {
        return None;
    }
    let text = text.trim();
    let candidates: Vec<String> = match kind {
        "ListenAddress" => listen(text),
        "DurationValue" => duration(text),
        "Size" => size(text),
        "Rate" | "Rebalance" => rate(text),
        "Cidr" => network(text),
        "BackendSource" | "BackendAddress" => backend(text),
        "HostPattern" => host(text),
        "OriginPattern" => origin(text),
        "PathPattern" => PathPattern::foreign(text)
            .map(|found| found.wider.unwrap_or(found.fix))
            .into_iter()
            .collect(),
        "AdminAddress" => admin(text),
        "CheckPath" => vec![format!("/{}", path_of(text).trim_start_matches('/'))],
        "MailAddress" => vec![text.trim_start_matches("mailto:").to_owned()],
        "AcmeDirectory" => vec![
            text.replacen("http://", "https://", 1),
            format!("https://{text}"),
        ],
        _ => Vec::new(),
    };
    let mut valid = candidates
        .into_iter()
        .filter(|candidate| is_valid(kind, candidate));
    valid.next()
}

/// Returns whether `text` is a value of the type `kind` of the schema; any text is one of a type without a syntax.
pub(crate) fn is_valid(kind: &str, text: &str) -> bool {
    match kind {
        "ListenAddress" => text.parse::<ListenAddress>().is_ok(),
        "DurationValue" => text.parse::<DurationValue>().is_ok(),
        "Size" => text.parse::<Size>().is_ok(),
        "Rate" => text.parse::<Rate>().is_ok(),
        "Rebalance" => text.parse::<Rebalance>().is_ok(),
        "Cidr" => text.parse::<Cidr>().is_ok(),
        "BackendAddress" => text.parse::<BackendAddress>().is_ok(),
        "BackendSource" => text.parse::<BackendSource>().is_ok(),
        "HostPattern" => text.parse::<HostPattern>().is_ok(),
        "OriginPattern" => text.parse::<OriginPattern>().is_ok(),
        "PathPattern" => text.parse::<PathPattern>().is_ok(),
        "AdminAddress" => text.parse::<AdminAddress>().is_ok(),
        "Access" => text.parse::<Access>().is_ok(),
        "CheckPath" => text.parse::<CheckPath>().is_ok(),
        "HashKey" => text.parse::<HashKey>().is_ok(),
        "TokenSource" => text.parse::<TokenSource>().is_ok(),
        "TokenHeader" => text.parse::<TokenHeader>().is_ok(),
        "MailAddress" => text.parse::<MailAddress>().is_ok(),
        "AcmeDirectory" => text.parse::<AcmeDirectory>().is_ok(),
        "HostField" => text.parse::<HostField>().is_ok(),
        _ => true,
    }
}

/// Returns whether a text switches something off in other software.
pub(crate) fn is_off(text: &str) -> bool {
    let words = ["", "off", "none", "no", "false", "null", "disabled", "0"];
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn listen(text: &str) -> Vec<String> {
    // nginx: "443 ssl".
    let address = authority(text.split_whitespace().next().unwrap_or_default());
    let any = |port: &str| format!("[::]:{port}");
    let mut found = Vec::new();
    if let Ok(ip) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
        found.push(SocketAddr::new(ip, 443).to_string());
    }
    let (host, port) = address.rsplit_once(':').unwrap_or(("", address));
    let port = match port.parse::<u16>() {
        Ok(_) => port,
        Err(_) => "443",
    };
    found.push(match host {
        "" | "*" => any(port),
        "localhost" => format!("127.0.0.1:{port}"),
        host if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => format!("{host}:{port}"),
        _ => any(port),
    });
    found
}

fn duration(text: &str) -> Vec<String> {
    if is_off(text) {
        return vec!["0s".to_owned()];
    }
    let lower = text.to_ascii_lowercase();
    let (mut millis, mut rest) = (0.0, lower.trim());
    if rest.is_empty() {
        return Vec::new();
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, behind) = rest.split_at(end.unwrap_or(rest.len()));
        let Ok(number) = number.parse::<f64>() else {
            return Vec::new();
        };
        let behind = behind.trim_start();
        let end = behind.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, after) = behind.split_at(end.unwrap_or(behind.len()));
        let length = match unit {
            "ms" | "msec" | "msecs" | "millis" | "milliseconds" => 1.0,
            "" | "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
            "m" | "min" | "mins" | "minute" | "minutes" => 60e3,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3600e3,
            "d" | "day" | "days" => 86_400e3,
            _ => return Vec::new(),
        };
        millis += number * length;
        rest = after.trim_start();
    }
    let written = format!("{}ms", millis.round().clamp(0.0, 1e15) as u64);
    let parsed = written.parse::<DurationValue>();
    parsed.iter().map(ToString::to_string).collect()
}

fn size(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" | "byte" | "bytes" => "B",
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => return Vec::new(),
    };
    let parsed = format!("{number}{unit}").parse::<Size>();
    parsed.iter().map(ToString::to_string).collect()
}

fn rate(text: &str) -> Vec<String> {
    let lower = text.to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = lower.split_at(end.unwrap_or(lower.len()));
    let unit = unit
        .trim_start_matches([' ', '/', 'r'])
        .trim_start_matches("per");
    let unit = match unit.trim().chars().next() {
        None | Some('s') => "s",
        Some('m') => "m",
        Some('h') => "h",
        Some(_) => return Vec::new(),
    };
    vec![format!("{number}/{unit}")]
}

fn network(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    match text.to_ascii_lowercase().as_str() {
        "*" | "all" | "any" => found.push("0.0.0.0/0".to_owned()),
        "localhost" => found.push("127.0.0.1".to_owned()),
        _ => {}
    }
    // A netmask.
    if let Some((address, mask)) = text.split_once('/')
        && let Ok(IpAddr::V4(mask)) = mask.parse()
        && mask.to_bits().count_ones() == mask.to_bits().leading_ones()
    {
        found.push(format!("{address}/{}", mask.to_bits().count_ones()));
    }
    // "10.0.*" and "10.0."
    let bytes = text.trim_end_matches(['*', '.']);
    let bytes: Vec<&str> = bytes
        .split('.')
        .filter(|byte| !byte.is_empty() && *byte != "*")
        .collect();
    if bytes.len() < 4 && text.ends_with(['*', '.']) {
        let address = [&bytes[..], &["0"; 4][bytes.len()..]].concat().join(".");
        found.push(format!("{address}/{}", bytes.len() * 8));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        found.push(address.ip().to_string());
    }
    found.push(text.split('/').next().unwrap_or_default().to_owned());
    found
}

fn backend(text: &str) -> Vec<String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return vec![format!("unix:/{}", path.trim_start_matches('/'))];
    }
    if text.starts_with('/') {
        return vec![format!("unix:{text}")];
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    if port.parse::<u16>().is_ok() {
        return vec![format!("ws://127.0.0.1:{port}")];
    }
    let scheme = text.split_once("://").map_or("ws", |(scheme, _)| scheme);
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        known @ ("ws" | "wss" | "http" | "https" | "dns" | "srv") => known.to_owned(),
        "tls" | "ssl" | "tcps" => "wss".to_owned(),
        _ => "ws".to_owned(),
    };
    let address = authority(text);
    let address = address.rsplit_once('@').map_or(address, |(_, host)| host);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let port = if address == host { "" } else { ":8765" };
    vec![
        format!("{scheme}://{address}"),
        format!("{scheme}://{host}{port}"),
        format!("ws://{address}"),
    ]
}

fn host(text: &str) -> Vec<String> {
    let name = authority(text);
    let name = name.rsplit_once('@').map_or(name, |(_, name)| name);
    let bare = match name.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() || port == "*" => name,
        _ => name,
    };
    let mut found = vec![bare.to_owned()];
    if bare.is_empty() || text.starts_with(['~', '^']) || text.eq_ignore_ascii_case("all") {
        found.insert(0, "*".to_owned());
    }
    // ".example.com", "*example.com", "{tenant}.example.com", "a.*.example.com"
    if let Some((_, parent)) = bare.split_once(['}', '>', '*'])
        && !parent.trim_start_matches('.').is_empty()
    {
        found.push(format!("*.{}", parent.trim_start_matches('.')));
    }
    if let Some(parent) = bare.strip_prefix('.') {
        found.push(format!("*.{parent}"));
    }
    found
}

fn origin(text: &str) -> Vec<String> {
    if matches!(
        text,
        "self" | "'self'" | "same-origin" | "same_host" | "same"
    ) {
        return vec!["same-host".to_owned()];
    }
    let scheme = text.split_once("://").map_or("https", |(scheme, _)| scheme);
    let scheme = match scheme {
        "ws" => "http",
        "wss" => "https",
        scheme => scheme,
    };
    host(text)
        .into_iter()
        .map(|host| format!("{scheme}://{host}"))
        .collect()
}

fn admin(text: &str) -> Vec<String> {
    if is_off(text) {
        return vec!["off".to_owned()];
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return vec![format!("unix:/{}", path.trim_start_matches('/'))];
    }
    if text.starts_with('/') {
        return vec![format!("unix:{text}")];
    }
    let address = authority(text);
    let port = address.rsplit_once(':').map_or(address, |(_, port)| port);
    let port = match port.parse::<u16>() {
        Ok(_) => port,
        Err(_) => "9180",
    };
    vec![format!("127.0.0.1:{port}")]
}

/// Returns a URL without its scheme and path.
fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// Returns the path of a URL, or the text itself.
fn path_of(text: &str) -> &str {
    match text.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_other_software_are_corrected() {
        for (kind, text, fixed) in [
            ("ListenAddress", "8443", "[::]:8443"),
            ("ListenAddress", "*:443", "[::]:443"),
            ("ListenAddress", "443 ssl", "[::]:443"),
            ("ListenAddress", "localhost:8443", "127.0.0.1:8443"),
            ("ListenAddress", "0.0.0.0", "0.0.0.0:443"),
            ("ListenAddress", "::1", "[::1]:443"),
            ("ListenAddress", "https://0.0.0.0:443/", "0.0.0.0:443"),
            ("ListenAddress", "0.0.0.0:70000", "0.0.0.0:443"),
            ("ListenAddress", "chat.example.com:443", "[::]:443"),
            ("DurationValue", "30", "30s"),
            ("DurationValue", "30 seconds", "30s"),
            ("DurationValue", "1.5s", "1500ms"),
            ("DurationValue", "1m30s", "90s"),
            ("DurationValue", "off", "0s"),
            ("Size", "16384", "16KiB"),
            ("Size", "16k", "16KiB"),
            ("Size", "10mb", "10MiB"),
            ("Rate", "10", "10/s"),
            ("Rate", "10r/s", "10/s"),
            ("Rate", "10 per minute", "10/m"),
            ("Cidr", "10.0.0.0/255.0.0.0", "10.0.0.0/8"),
            ("Cidr", "10.0.*", "10.0.0.0/16"),
            ("Cidr", "192.168.1.", "192.168.1.0/24"),
            ("Cidr", "1.2.3.4:80", "1.2.3.4"),
            ("Cidr", "localhost", "127.0.0.1"),
            ("BackendSource", "8765", "ws://127.0.0.1:8765"),
            ("BackendSource", ":8765", "ws://127.0.0.1:8765"),
            ("BackendSource", "localhost:8765", "ws://localhost:8765"),
            ("BackendSource", "ws://a:1/ws", "ws://a:1"),
            ("BackendSource", "http://a:1/", "http://a:1"),
            ("BackendSource", "tcp://a:1", "ws://a:1"),
            ("BackendSource", "tls://a:1", "wss://a:1"),
            ("BackendSource", "/run/a.sock", "unix:/run/a.sock"),
            ("BackendSource", "unix:run/a.sock", "unix:/run/a.sock"),
            ("BackendSource", "ws://a:99999", "ws://a:8765"),
            ("HostPattern", "https://a.test/ws", "a.test"),
            ("HostPattern", "a.test:443", "a.test"),
            ("HostPattern", ".a.test", "*.a.test"),
            ("HostPattern", "{x}.a.test", "*.a.test"),
            ("HostPattern", "", "*"),
            ("OriginPattern", "https://a.test/b", "https://a.test"),
            ("AdminAddress", "9180", "127.0.0.1:9180"),
            ("AdminAddress", "localhost:9180", "127.0.0.1:9180"),
            ("AdminAddress", "/run/a.sock", "unix:/run/a.sock"),
            ("AdminAddress", "none", "off"),
            ("PathPattern", "/ws/{room}", "/ws/*"),
            ("CheckPath", "health", "/health"),
        ] {
            assert_eq!(correct(kind, text).as_deref(), Some(fixed), "{kind} {text}");
        }
        assert_eq!(correct("ListenAddress", "[::]:443"), None);
        assert_eq!(correct("DurationValue", "soon"), None);
    }
}
