//! The hosts file, hosts(5), as the module `files` of glibc reads it.

use crate::net::resolver::skipped::SkippedLine;
use std::{collections::HashMap, net::IpAddr};

/// The addresses of names in the hosts file.
#[derive(Debug, Default)]
pub(crate) struct HostsFile {
    /// By lower-case name, in the order of the file.
    addresses: HashMap<Box<str>, Vec<IpAddr>>,
}

// === impl HostsFile ===

impl HostsFile {
    /// Parses the text. A line is an address, a name and aliases, up to a `#`. Skips malformed lines and returns them.
    pub(crate) fn parse(text: &[u8]) -> (HostsFile, Vec<SkippedLine>) {
        let (mut file, mut skipped) = (HostsFile::default(), Vec::new());
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            if let Err(reason) = file.add(line) {
                skipped.push(SkippedLine { number, reason });
            }
        }
        (file, skipped)
    }

    fn add(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let entry = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        // A comment may have any encoding; a name in another one than UTF-8 matches no query.
        let entry = String::from_utf8_lossy(entry);
        let mut fields = entry.split_ascii_whitespace();
        let Some(address) = fields.next() else {
            return Ok(());
        };
        // An address with a scope, such as fe80::1%eth0, is no address here, as in glibc.
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err("it does not begin with an IP address");
        };
        let mut names = fields.peekable();
        if names.peek().is_none() {
            return Err("it has an address without a name");
        }
        for name in names {
            let addresses = self.addresses.entry(name.to_ascii_lowercase().into());
            let addresses = addresses.or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(())
    }

    /// Returns the addresses of all lines that have this name or alias, in the order of the file.
    pub(crate) fn addresses(&self, name: &str) -> &[IpAddr] {
        let addresses = self.addresses.get(&*name.to_ascii_lowercase());
        addresses.map_or(&[], Vec::as_slice)
    }
}

/// U+FEFF in UTF-8, which some editors write.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_aliases_and_several_lines_have_the_addresses_in_the_order_of_the_file() {
        let text = b"\xef\xbb\xbf10.0.0.7 app my_app # ours\r\n\tfd00::7  App\talias\n10.0.0.8 app\n10.0.0.7 app\n";
        let (file, skipped) = HostsFile::parse(text);
        assert_eq!(skipped, []);
        let addresses = |name: &str| {
            let addresses = file.addresses(name).iter();
            addresses.map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(addresses("APP"), ["10.0.0.7", "fd00::7", "10.0.0.8"]);
        assert_eq!(addresses("my_app"), ["10.0.0.7"]);
        assert_eq!(addresses("alias"), ["fd00::7"]);
        assert_eq!(addresses("ours"), Vec::<String>::new());
    }

    #[test]
    fn malformed_line_is_skipped_and_the_others_count() {
        let text = b"10.0.0.256 a\n10.0.0.1\nfe80::1%eth0 a\nname 10.0.0.1\n# caf\xe9\n\n   \n10.0.0.2 \xff\xfe ok\n";
        let (file, skipped) = HostsFile::parse(text);
        let numbers: Vec<_> = skipped.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!(file.addresses("ok").len(), 1);
        assert!(file.addresses("a").is_empty());
    }

    #[test]
    fn long_line_counts_to_its_end() {
        let names: Vec<_> = (0..20_000).map(|n| format!("host-{n}")).collect();
        let text = format!("10.0.0.1 {}\n10.0.0.2 last\n", names.join(" "));
        let (file, skipped) = HostsFile::parse(text.as_bytes());
        assert_eq!(skipped, []);
        assert_eq!(file.addresses("host-19999").len(), 1);
        assert_eq!(file.addresses("last").len(), 1);
    }
}
