//! The source of a pool entry: one backend, or all backends that DNS returns for a name.

use super::{
    address::BackendAddress,
    pattern::HostPattern,
    text::{BadValue, text_value},
};
use std::{fmt, net::IpAddr, str::FromStr};

/// The backends that a pool entry names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BackendSource {
    /// One backend.
    One(BackendAddress),
    /// All backends that DNS returns.
    Dns(DnsName),
}

/// A DNS name whose records are backends without TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DnsName {
    /// "dns://chat.internal:8765": each address (A, AAAA) with one port.
    Addresses {
        /// The name.
        name: Box<str>,
        /// The port; 80 if none is written.
        port: u16,
    },
    /// "srv://_ws._tcp.chat.internal": each service (SRV, RFC 2782) with its port and its weight.
    Services {
        /// The name, with its service and protocol.
        name: Box<str>,
    },
}

text_value!(
    BackendSource,
    "a backend's address, such as \"ws://127.0.0.1:8765\", or a name that DNS has several for, such as \"dns://chat:8765\"",
    [
        "ws://127.0.0.1:8765",
        "http://app:8000",
        "wss://chat.internal",
        "unix:/run/chat.sock",
        "dns://chat.default.svc:8765",
        "srv://_ws._tcp.chat.default.svc"
    ]
);

// === impl BackendSource ===

impl BackendSource {
    /// Returns whether the backend uses TLS.
    pub fn has_tls(&self) -> bool {
        matches!(self, BackendSource::One(address) if address.has_tls())
    }

    /// Returns the name to resolve, if there is one.
    pub fn dns(&self) -> Option<&DnsName> {
        match self {
            BackendSource::One(_) => None,
            BackendSource::Dns(name) => Some(name),
        }
    }
}

impl FromStr for BackendSource {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let scheme = text.split_once("://");
        let dns = match scheme.map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest)) {
            Some((scheme, rest)) if scheme == "dns" => addresses(text, rest),
            Some((scheme, rest)) if scheme == "srv" => services(text, rest),
            _ => return text.parse().map(BackendSource::One),
        };
        dns.map(BackendSource::Dns)
    }
}

impl fmt::Display for BackendSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendSource::One(address) => address.fmt(f),
            BackendSource::Dns(name) => name.fmt(f),
        }
    }
}

// === impl DnsName ===

impl DnsName {
    /// Returns the host as in a `Host` header; for SRV it is the name without service and protocol.
    pub fn host(&self) -> &str {
        match self {
            DnsName::Addresses { name, .. } => name,
            DnsName::Services { name } => {
                let labels = name.split_inclusive('.');
                let prefix = labels.take_while(|label| label.starts_with('_'));
                &name[prefix.map(str::len).sum()..]
            }
        }
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsName::Addresses { name, port } => write!(f, "dns://{name}:{port}"),
            DnsName::Services { name } => write!(f, "srv://{name}"),
        }
    }
}

fn addresses(text: &str, rest: &str) -> Result<DnsName, BadValue> {
    let bad = |why: &str| {
        BadValue::new(
            format!("`{text}` is not a name in DNS with a port: {why}"),
            "write it as \"dns://chat.internal:8765\"",
        )
    };
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && !rest.starts_with('[') => (name, port),
        _ => (rest, "80"),
    };
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || rest.starts_with('[') {
        return Err(BadValue::new(
            format!("`{text}` is an IP address, which DNS does not resolve"),
            format!("write it as \"ws://{rest}\""),
        ));
    }
    let port = port.parse().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| bad("the port is not 1 to 65535"))?;
    match is_name(name) {
        true => Ok(DnsName::Addresses {
            name: name.to_ascii_lowercase().into(),
            port,
        }),
        false => Err(bad("the name is wrong")),
    }
}

fn services(text: &str, name: &str) -> Result<DnsName, BadValue> {
    let bad = |why: &str| {
        BadValue::new(
            format!("`{text}` is not a name of services in DNS: {why}"),
            "write it as \"srv://_ws._tcp.chat.internal\"",
        )
    };
    if name.contains(':') {
        return Err(bad("DNS returns the ports, so it has none"));
    }
    match is_name(name) {
        true => Ok(DnsName::Services {
            name: name.to_ascii_lowercase().into(),
        }),
        false => Err(bad("the name is wrong")),
    }
}

/// Returns whether `name` has labels of letters, digits, hyphens and underscores, as in SRV names and Docker Compose.
fn is_name(name: &str) -> bool {
    let plain = name.strip_suffix('.').unwrap_or(name).replace('_', "x");
    matches!(plain.parse(), Ok(HostPattern::Exact(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        for (text, shown, host) in [
            ("dns://Chat:8765", "dns://chat:8765", "chat"),
            (
                "DNS://chat.internal",
                "dns://chat.internal:80",
                "chat.internal",
            ),
            ("dns://my_app.:1", "dns://my_app.:1", "my_app."),
            ("srv://_ws._tcp.Chat", "srv://_ws._tcp.chat", "chat"),
            ("srv://chat", "srv://chat", "chat"),
        ] {
            let source: BackendSource = text.parse().unwrap();
            assert_eq!(source.to_string(), shown);
            assert_eq!(source.dns().unwrap().host(), host);
            assert_eq!(shown.parse::<BackendSource>().unwrap(), source);
        }
        let one: BackendSource = "wss://chat".parse().unwrap();
        assert!(one.dns().is_none() && one.has_tls());
    }

    #[test]
    fn errors_contain_a_valid_example() {
        for (text, hint) in [
            ("dns://", "dns://chat.internal:8765"),
            ("dns://chat:0", "dns://chat.internal:8765"),
            ("dns://chat:", "dns://chat.internal:8765"),
            ("dns://a b:1", "dns://chat.internal:8765"),
            ("dns://chat:1/ws", "dns://chat.internal:8765"),
            ("dns://*.chat:1", "dns://chat.internal:8765"),
            ("dns://10.0.0.1:8765", "\"ws://10.0.0.1:8765\""),
            ("dns://[::1]:8765", "\"ws://[::1]:8765\""),
            ("srv://chat:8765", "srv://_ws._tcp.chat.internal"),
            ("srv://", "srv://_ws._tcp.chat.internal"),
            ("ftp://chat", "unix:"),
        ] {
            let error = text.parse::<BackendSource>().unwrap_err();
            assert!(error.hint.contains(hint), "{text}: {error}");
        }
    }
}
