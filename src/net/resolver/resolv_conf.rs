//! The list of DNS servers, resolv.conf(5), as glibc reads it.

use crate::net::resolver::skipped::SkippedLine;
use hickory_proto::rr::Name;
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

/// What `/etc/resolv.conf` configures.
#[derive(Debug, Clone)]
pub(crate) struct ResolvConf {
    /// The servers, in the order in which they are queried; at least one.
    pub(crate) servers: Vec<SocketAddr>,
    /// Whether the file names none of them, so that the server of this machine is queried.
    pub(crate) is_default_server: bool,
    /// The domains in which a short name is looked up, in this order.
    pub(crate) search: Vec<Name>,
    pub(crate) options: ResolverOptions,
}

/// The line `options`. An option that concerns only functions of the C library other than getaddrinfo(3) has no field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolverOptions {
    /// A name with at least this number of dots is queried as it is before the search list is used.
    pub(crate) ndots: usize,
    /// The time for an answer of the first server.
    pub(crate) timeout: Duration,
    /// How often the list of servers is gone through.
    pub(crate) attempts: u32,
    /// Whether each query begins with the next server.
    pub(crate) rotate: bool,
    pub(crate) edns0: bool,
    /// Whether queries are sent over TCP only.
    pub(crate) use_vc: bool,
    /// Whether the query for AAAA is sent after the answer to that for A. Each query has a socket of its own in any
    /// case, as with `single-request-reopen`.
    pub(crate) single_request: bool,
    pub(crate) no_aaaa: bool,
    /// Whether a name without a dot is never queried as it is, unless there is no search list.
    pub(crate) no_tld_query: bool,
    /// Whether a change of the file is ignored.
    pub(crate) no_reload: bool,
}

/// What resolv.conf(5) takes from outside the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResolverEnvironment {
    /// `LOCALDOMAIN`, which replaces the search list.
    pub(crate) local_domain: Option<String>,
    /// `RES_OPTIONS`, which is applied after the options of the file.
    pub(crate) options: Option<String>,
    /// The name of this machine. Its domain is the default search list.
    pub(crate) host_name: String,
}

// === impl ResolvConf ===

impl ResolvConf {
    /// Parses the text. A malformed line or option is skipped and returned.
    pub(crate) fn parse(
        text: &[u8],
        environment: &ResolverEnvironment,
    ) -> (ResolvConf, Vec<SkippedLine>) {
        let mut skipped = Vec::new();
        let (mut servers, mut search) = (Vec::new(), None);
        let mut options = ResolverOptions::default();
        for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let line = String::from_utf8_lossy(line);
            let line = line.trim_end_matches(['\r', ' ', '\t']);
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let (keyword, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            // glibc has no comments behind a value, but a `#` is part of no value.
            let value = value.split(['#', ';']).next().unwrap_or_default();
            let mut values = value.split_ascii_whitespace();
            let mut skip = |reason| skipped.push(SkippedLine { number, reason });
            match keyword {
                "nameserver" => match values.next().and_then(server) {
                    Some(server) => servers.push(server),
                    None => skip("`nameserver` has no IP address"),
                },
                "domain" | "search" => {
                    let limit = if keyword == "domain" { 1 } else { usize::MAX };
                    let (domains, has_bad) = domains(values.take(limit));
                    if has_bad {
                        skip("it has no valid domain name");
                    }
                    if !domains.is_empty() {
                        search = Some(domains);
                    }
                }
                "options" => {
                    for option in values {
                        if options.apply(option).is_err() {
                            skip("it has an unknown option");
                        }
                    }
                }
                // Only for gethostbyname(3).
                "sortlist" => {}
                _ => skip("it does not begin with a keyword"),
            }
        }
        for option in environment
            .options
            .iter()
            .flat_map(|text| text.split_whitespace())
        {
            // An unknown option in RES_OPTIONS is ignored, as in glibc: it is no line of the file.
            let _ = options.apply(option);
        }
        if let Some(local) = &environment.local_domain {
            search = Some(domains(local.split_whitespace()).0);
        }
        let of_host = || {
            let domain = environment
                .host_name
                .split_once('.')
                .map(|(_, domain)| domain);
            domains(domain.into_iter()).0
        };
        servers.truncate(MAX_SERVERS);
        let is_default_server = servers.is_empty();
        if is_default_server {
            servers.push((Ipv4Addr::LOCALHOST, DNS_PORT).into());
        }
        let conf = ResolvConf {
            servers,
            is_default_server,
            search: search.unwrap_or_else(of_host),
            options,
        };
        (conf, skipped)
    }

    /// Returns how long the answer of the server with this index may take: glibc doubles the time for each further
    /// server, and divides it by their number.
    pub(crate) fn timeout(&self, index: usize) -> Duration {
        let first = self.options.timeout.as_secs();
        let seconds = match index {
            0 => first,
            _ => (first << index.min(MAX_SERVERS)) / self.servers.len() as u64,
        };
        Duration::from_secs(seconds.max(1))
    }
}

// === impl ResolverOptions ===

impl Default for ResolverOptions {
    fn default() -> Self {
        ResolverOptions {
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            edns0: false,
            use_vc: false,
            single_request: false,
            no_aaaa: false,
            no_tld_query: false,
            no_reload: false,
        }
    }
}

impl ResolverOptions {
    /// Applies one option, with the limits of glibc.
    fn apply(&mut self, option: &str) -> Result<(), ()> {
        if let Some((name, value)) = option.split_once(':') {
            let value: u32 = value.parse().map_err(|_| ())?;
            match name {
                "ndots" => self.ndots = value.min(15) as usize,
                "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
                "attempts" => self.attempts = value.clamp(1, 5),
                _ => return Err(()),
            }
            return Ok(());
        }
        match option {
            "rotate" => self.rotate = true,
            "edns0" => self.edns0 = true,
            "use-vc" => self.use_vc = true,
            "single-request" => self.single_request = true,
            "no-aaaa" => self.no_aaaa = true,
            "no-tld-query" | "no_tld_query" => self.no_tld_query = true,
            "no-reload" => self.no_reload = true,
            "debug"
            | "inet6"
            | "ip6-bytestring"
            | "ip6-dotint"
            | "no-ip6-dotint"
            | "no-check-names"
            | "single-request-reopen"
            | "trust-ad" => {}
            _ => return Err(()),
        }
        Ok(())
    }
}

/// Parses the address of a server: IPv4 in any form of inet_aton(3), or IPv6, perhaps with a scope.
fn server(text: &str) -> Option<SocketAddr> {
    if let Some(address) = inet_aton(text) {
        return Some((address, DNS_PORT).into());
    }
    let (address, scope) = text.split_once('%').unwrap_or((text, ""));
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = match scope {
        "" => 0,
        _ => scope.parse().ok().or_else(|| interface(scope))?,
    };
    Some(SocketAddrV6::new(address, DNS_PORT, 0, scope).into())
}

/// Returns the index of a network interface.
fn interface(name: &str) -> Option<u32> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    name_to_index(any, name).ok()
}

/// Parses one to four numbers, decimal, octal or hexadecimal. The last one fills the rest of the address.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<_> = text.split('.').collect();
    let (last, bytes) = parts.split_last().filter(|(_, bytes)| bytes.len() < 4)?;
    let mut address: u32 = 0;
    for byte in bytes {
        let byte = number(byte).filter(|byte| *byte < 256)?;
        address = address << 8 | byte;
    }
    let rest = 8 * (4 - bytes.len() as u32);
    let last = number(last).filter(|last| u64::from(*last) < 1_u64 << rest)?;
    let address = u64::from(address) << rest | u64::from(last);
    Some(Ipv4Addr::from(address as u32))
}

fn number(text: &str) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(hexadecimal), _) => u32::from_str_radix(hexadecimal, 16).ok(),
        (None, Some(octal)) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => lower.parse().ok(),
    }
}

/// Returns the valid domains, and whether one is invalid.
fn domains<'a>(texts: impl Iterator<Item = &'a str>) -> (Vec<Name>, bool) {
    let (mut domains, mut has_bad) = (Vec::new(), false);
    for text in texts {
        let name = match text {
            "." => Ok(Name::root()),
            // With a dot at the beginning, as glibc permits it.
            _ => Name::from_str_relaxed(text.strip_prefix('.').unwrap_or(text)),
        };
        match name {
            Ok(name) => domains.push(name),
            Err(_) => has_bad = true,
        }
    }
    (domains, has_bad)
}

const DNS_PORT: u16 = 53;

/// `MAXNS` of glibc: further servers are ignored.
const MAX_SERVERS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (ResolvConf, Vec<usize>) {
        let environment = ResolverEnvironment {
            host_name: "proxy.corp.test".to_owned(),
            ..ResolverEnvironment::default()
        };
        let (conf, skipped) = ResolvConf::parse(text.as_bytes(), &environment);
        (conf, skipped.iter().map(|line| line.number).collect())
    }

    fn servers(conf: &ResolvConf) -> Vec<String> {
        let servers = conf.servers.iter();
        servers.map(|server| server.ip().to_string()).collect()
    }

    fn search(conf: &ResolvConf) -> Vec<String> {
        let search = conf.search.iter();
        search.map(|name| name.to_utf8()).collect()
    }

    #[test]
    fn servers_keep_their_order_and_malformed_lines_are_skipped() {
        let text = "# head\n; head\nnameserver 10.0.0.2 # first\r\nnameserver\nnameserver 10.0.0.256\n nameserver 10.0.0.9\n\
                    nameserver fd00::53\nsortlist 10.0.0.0\nlookup file bind\nnameserver\t127.1\nnameserver 10.0.0.4\n";
        let (conf, skipped) = parse(text);
        assert_eq!(servers(&conf), ["10.0.0.2", "fd00::53", "127.0.0.1"]);
        assert_eq!(skipped, [4, 5, 6, 9]);
        assert!(!conf.is_default_server);
    }

    #[test]
    fn without_a_server_line_the_server_of_this_machine_is_queried() {
        for text in ["", "search a.test\n", "nameserver x\n"] {
            let (conf, _) = parse(text);
            assert_eq!(conf.servers, [SocketAddr::from(([127, 0, 0, 1], 53))]);
            assert!(conf.is_default_server);
        }
    }

    #[test]
    fn last_search_or_domain_line_counts_and_the_domain_of_the_host_is_the_default() {
        for (text, expected) in [
            ("", &["corp.test"][..]),
            ("search\n", &["corp.test"]),
            ("search a.test b.test.\r\n", &["a.test", "b.test."]),
            ("search a.test\ndomain c.test d.test\n", &["c.test"]),
            (
                "domain c.test\nsearch .a.test . # b.test\n",
                &["a.test", "."],
            ),
        ] {
            let (conf, skipped) = parse(text);
            assert_eq!(search(&conf), expected, "{text}");
            assert_eq!(skipped, [] as [usize; 0], "{text}");
        }
        let (conf, skipped) = parse("search a..b ok.test\n");
        assert_eq!((search(&conf), skipped), (vec!["ok.test".into()], vec![1]));
        let environment = ResolverEnvironment {
            local_domain: Some("env.test".to_owned()),
            options: Some("ndots:3 unknown".to_owned()),
            host_name: String::new(),
        };
        let (conf, _) = ResolvConf::parse(b"search a.test\noptions ndots:2\n", &environment);
        assert_eq!(search(&conf), ["env.test"]);
        assert_eq!(conf.options.ndots, 3);
    }

    #[test]
    fn options_have_the_limits_of_glibc() {
        let (conf, skipped) =
            parse("options ndots:99 timeout:0 attempts:0\noptions rotate edns0 use-vc no-aaaa\n");
        let options = &conf.options;
        assert_eq!((options.ndots, options.attempts), (15, 1));
        assert_eq!(options.timeout, Duration::from_secs(1));
        assert!(options.rotate && options.edns0 && options.use_vc && options.no_aaaa);
        assert_eq!(skipped, [] as [usize; 0]);
        let (conf, skipped) = parse("options timeout:99 attempts:9 ndots:x what\n");
        assert_eq!(conf.options.timeout, Duration::from_secs(30));
        assert_eq!((conf.options.attempts, conf.options.ndots), (5, 1));
        assert_eq!(skipped, [1, 1]);
    }

    #[test]
    fn time_of_each_server_is_that_of_glibc() {
        let (conf, _) = parse("nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n");
        let seconds = [0, 1, 2].map(|index| conf.timeout(index).as_secs());
        assert_eq!(seconds, [5, 3, 6]);
    }

    #[test]
    fn addresses_in_every_form_of_inet_aton() {
        for (text, expected) in [
            ("10.1.2.3", Some([10, 1, 2, 3])),
            ("127.1", Some([127, 0, 0, 1])),
            ("10.1.258", Some([10, 1, 1, 2])),
            ("0x7f.0.0.010", Some([127, 0, 0, 8])),
            ("2130706433", Some([127, 0, 0, 1])),
            ("256.0.0.1", None),
            ("10.0.0.09", None),
            ("10.0.0.0.1", None),
            ("10..1", None),
            ("+1", None),
            ("", None),
        ] {
            assert_eq!(inet_aton(text), expected.map(Ipv4Addr::from), "{text}");
        }
        assert_eq!(
            server("fe80::1%lo").map(|server| matches!(
                server,
                SocketAddr::V6(v6) if v6.scope_id() > 0
            )),
            Some(true)
        );
        assert_eq!(server("fe80::1%no-such-device"), None);
    }
}
