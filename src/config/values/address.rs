//! Addresses of backends, one by one or as a DNS name, of the admin listener and of the access log.

use crate::config::values::{BadValue, pattern::HostPattern, text_value};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// The address of a backend: "ws://10.0.0.1:8765"; "http://" means the same as "ws://".
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendAddress {
    /// A TCP address.
    Tcp {
        /// The scheme: with or without TLS.
        scheme: Scheme,
        /// The name or IP address; IPv6 without brackets.
        host: Box<str>,
        /// The port; if none is written, 80, or 443 with TLS.
        port: u16,
    },
    /// A Unix socket: "unix:/run/chat.sock", without TLS.
    Unix(PathBuf),
}

/// Whether connections to a backend use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `ws://` and `http://`: without TLS.
    Plain,
    /// `wss://` and `https://`: with TLS.
    Tls,
}

/// `server.admin`: the listener for status and commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// "off"
    Off,
    /// "127.0.0.1:9180"
    Tcp(SocketAddr),
    /// "unix:/run/lockgate/admin.sock"
    Unix(PathBuf),
}

/// `server.access`: where the access log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// "off"
    Off,
    /// "stdout"
    Stdout,
    /// A file; lines are appended.
    File(PathBuf),
}

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
    BackendAddress,
    "a backend's address, such as \"ws://127.0.0.1:8765\"",
    [
        "ws://127.0.0.1:8765",
        "http://app:8000",
        "wss://chat.internal",
        "unix:/run/chat.sock"
    ]
);

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

text_value!(
    AdminAddress,
    "an address on loopback, \"unix:/path\" or \"off\"",
    ["127.0.0.1:9180", "unix:/run/lockgate/admin.sock", "off"]
);

text_value!(
    Access,
    "\"stdout\", \"off\" or a file",
    ["stdout", "off", "/var/log/lockgate/access.log"]
);

// === impl BackendAddress ===

impl BackendAddress {
    /// Returns whether the backend uses TLS.
    pub fn has_tls(&self) -> bool {
        matches!(
            self,
            BackendAddress::Tcp {
                scheme: Scheme::Tls,
                ..
            }
        )
    }
}

impl FromStr for BackendAddress {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = |why: &str| {
            BadValue::new(
                format!("`{text}` is not a backend's address: {why}"),
                "write it as \"ws://127.0.0.1:8765\"",
            )
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') && path.len() <= MAX_UNIX_PATH_LEN {
                Ok(BackendAddress::Unix(path.into()))
            } else {
                Err(BadValue::new(
                    format!("`{text}` does not name a socket"),
                    format!(
                        "write its whole path, of at most {MAX_UNIX_PATH_LEN} bytes: \"unix:/run/chat.sock\""
                    ),
                ))
            };
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let whole = match text.trim_start_matches(':').parse::<u16>() {
                Ok(port) => format!("ws://127.0.0.1:{port}"),
                Err(_) if text.starts_with('/') => format!("unix:{text}"),
                Err(_) => format!("ws://{text}"),
            };
            return Err(match whole.parse::<BackendAddress>() {
                Ok(_) => BadValue::new(
                    format!("`{text}` is not a backend's address: it does not begin with ws://"),
                    format!("write it as \"{whole}\""),
                ),
                Err(_) => bad("it does not begin with ws://"),
            });
        };
        let (scheme, port) = match &*scheme.to_ascii_lowercase() {
            "ws" | "http" => (Scheme::Plain, 80),
            "wss" | "https" => (Scheme::Tls, 443),
            _ => {
                return Err(BadValue::new(
                    format!("`{scheme}://` is not supported for backends"),
                    "ws:// and http://, wss:// and https:// (with TLS), and unix: are",
                ));
            }
        };
        let authority: http::uri::Authority = rest.parse().map_err(|_| {
            if rest.contains(['/', '?', '#']) {
                bad("it has a path, a query or a fragment; paths are for routes")
            } else {
                bad("the host or the port is invalid")
            }
        })?;
        if authority.as_str().contains('@') {
            return Err(bad("it has a user name"));
        }
        let host = authority.host();
        let name = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let (host_len, whole) = (host.len(), authority.as_str());
        let port = match whole
            .get(host_len..)
            .and_then(|rest| rest.strip_prefix(':'))
        {
            None => port,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(|| bad("the port is not 1 to 65535"))?,
        };
        let is_host = if host == name {
            matches!(host.parse(), Ok(HostPattern::Exact(_)))
        } else {
            name.parse::<Ipv6Addr>().is_ok()
        };
        if !is_host {
            return Err(bad("the host is wrong"));
        }
        Ok(BackendAddress::Tcp {
            scheme,
            host: name.to_ascii_lowercase().into(),
            port,
        })
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            BackendAddress::Unix(path) => return write!(f, "unix:{}", path.display()),
            BackendAddress::Tcp { scheme, host, port } => (scheme, host, port),
        };
        f.write_str(match scheme {
            Scheme::Plain => "ws://",
            Scheme::Tls => "wss://",
        })?;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

// === impl AdminAddress ===

impl FromStr for AdminAddress {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        if text == "off" {
            return Ok(AdminAddress::Off);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(AdminAddress::Unix(path.into()))
            } else {
                Err(BadValue::new(
                    format!("`{text}` does not name a whole path"),
                    "write it as \"unix:/run/lockgate/admin.sock\"",
                ))
            };
        }
        let address: SocketAddr = text.parse().map_err(|_| {
            BadValue::new(
                format!("`{text}` is neither an address with a port nor a socket"),
                "write it as \"127.0.0.1:9180\", \"unix:/run/lockgate/admin.sock\" or \"off\"",
            )
        })?;
        if !address.ip().to_canonical().is_loopback() {
            return Err(BadValue::new(
                format!(
                    "`{text}` can be reached from other machines, and the admin API has no password"
                ),
                "use 127.0.0.1 or a Unix socket; for Prometheus and the kubelet there is server.metrics",
            ));
        }
        Ok(AdminAddress::Tcp(address))
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminAddress::Off => f.write_str("off"),
            AdminAddress::Tcp(address) => address.fmt(f),
            AdminAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

// === impl Access ===

impl FromStr for Access {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        match text {
            "off" => Ok(Access::Off),
            "stdout" => Ok(Access::Stdout),
            "" => Err(BadValue::new(
                "the path is empty",
                "write \"stdout\", \"off\" or a file's path",
            )),
            file => Ok(Access::File(file.into())),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Access::Off => f.write_str("off"),
            Access::Stdout => f.write_str("stdout"),
            Access::File(path) => path.display().fmt(f),
        }
    }
}

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
    if is_name(name) {
        Ok(DnsName::Addresses {
            name: name.to_ascii_lowercase().into(),
            port,
        })
    } else {
        Err(bad("the name is wrong"))
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
    if is_name(name) {
        Ok(DnsName::Services {
            name: name.to_ascii_lowercase().into(),
        })
    } else {
        Err(bad("the name is wrong"))
    }
}

/// Returns whether `name` has labels of letters, digits, hyphens and underscores, as in SRV names and Docker Compose.
fn is_name(name: &str) -> bool {
    let plain = name.strip_suffix('.').unwrap_or(name).replace('_', "x");
    matches!(plain.parse(), Ok(HostPattern::Exact(_)))
}

/// The kernel's limit of a socket path without the final zero byte (unix(7)).
const MAX_UNIX_PATH_LEN: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends() {
        for (text, shown) in [
            ("ws://127.0.0.1:8765", "ws://127.0.0.1:8765"),
            ("http://App:8000", "ws://app:8000"),
            ("ws://chat", "ws://chat:80"),
            ("ws://[::1]:9000", "ws://[::1]:9000"),
            ("https://Chat", "wss://chat:443"),
            ("wss://10.0.0.1:1", "wss://10.0.0.1:1"),
            ("unix:/run/a b.sock", "unix:/run/a b.sock"),
        ] {
            let address: BackendAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<BackendAddress>().unwrap(), address);
        }
        for bad in [
            "",
            "127.0.0.1:8765",
            "ws://",
            "ws://:80",
            "unix:run/a",
            "unix:",
            "ws://a:0",
            "ws://a:70000",
            "ws://a:",
            "ws://a/b",
            "ws://a?b",
            "ws://u@a",
            "ws://[::g]:1",
            "ws://a b",
            "ftp://a",
        ] {
            assert!(bad.parse::<BackendAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn admin_listens_on_loopback_or_a_unix_socket_only() {
        for good in [
            "off",
            "127.0.0.1:9180",
            "[::1]:9180",
            "unix:/run/lockgate.sock",
        ] {
            assert_eq!(good.parse::<AdminAddress>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "on",
            "0.0.0.0:9180",
            "[::]:9180",
            "192.0.2.1:1",
            "unix:relative",
            "127.0.0.1",
        ] {
            assert!(bad.parse::<AdminAddress>().is_err(), "{bad}");
        }
    }

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
