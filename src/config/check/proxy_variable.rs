//! Variables that name an HTTP proxy for outgoing requests. Lockgate connects to the ACME CA directly.

use crate::config::schema::tls::Acme;

/// Returns the name of the first variable that names a proxy for the CA's directory; `None` if there is none, or if
/// `NO_PROXY` excepts the CA.
pub(crate) fn ignored_proxy_variable(
    acme: &Acme,
    environment: impl Fn(&str) -> Option<String>,
) -> Option<&'static str> {
    let is_set = |name: &&str| environment(name).is_some_and(|value| !value.trim().is_empty());
    let found = VARIABLES.into_iter().find(is_set)?;
    let directory: http::Uri = acme.directory.url().parse().ok()?;
    let host = directory.host()?.to_ascii_lowercase();
    let excepted = ["NO_PROXY", "no_proxy"].into_iter().filter_map(environment);
    let is_excepted = excepted.into_iter().any(|list| {
        list.split(',').map(str::trim).any(|entry| {
            let entry = entry
                .trim_start_matches("*.")
                .trim_start_matches('.')
                .to_ascii_lowercase();
            let is_below = host
                .strip_suffix(&*entry)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            !entry.is_empty() && (entry == "*" || is_below)
        })
    });
    (!is_excepted).then_some(found)
}

/// In the order in which curl reads them for https.
const VARIABLES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_counts_unless_no_proxy_excepts_the_ca() {
        for (set, expected) in [
            (&[][..], None),
            (
                &[("HTTPS_PROXY", "http://proxy:3128")][..],
                Some("HTTPS_PROXY"),
            ),
            (&[("https_proxy", "http://proxy:3128")], Some("https_proxy")),
            (&[("ALL_PROXY", "socks5://proxy")], Some("ALL_PROXY")),
            (&[("all_proxy", "socks5://proxy")], Some("all_proxy")),
            // That of cleartext requests.
            (&[("HTTP_PROXY", "http://proxy:3128")], None),
            (&[("HTTPS_PROXY", " ")], None),
            (&[("HTTPS_PROXY", "p"), ("NO_PROXY", "*")], None),
            (
                &[
                    ("HTTPS_PROXY", "p"),
                    ("NO_PROXY", "a.test, .letsencrypt.org"),
                ],
                None,
            ),
            (
                &[
                    ("HTTPS_PROXY", "p"),
                    ("no_proxy", "acme-v02.api.letsencrypt.org"),
                ],
                None,
            ),
            (
                &[("HTTPS_PROXY", "p"), ("NO_PROXY", "crypt.org,")],
                Some("HTTPS_PROXY"),
            ),
        ] {
            let value = |name: &str| {
                let found = set.iter().find(|(set, _)| *set == name);
                found.map(|(_, value)| value.to_string())
            };
            assert_eq!(
                ignored_proxy_variable(&Acme::default(), value),
                expected,
                "{set:?}"
            );
        }
    }
}
