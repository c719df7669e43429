mod watch;

use crate::{
    config::Located,
    tls::{
        certs::*,
        testing::{LOCATION, Pki, build_certificates, tls},
    },
};

fn exact(name: &str) -> Located<HostPattern> {
    Located::nowhere(HostPattern::Exact(name.into()))
}

fn any() -> Located<HostPattern> {
    Located::nowhere(HostPattern::Any)
}

fn under(name: &str) -> Located<HostPattern> {
    Located::nowhere(HostPattern::Under(name.into()))
}

/// Returns the diagnostics of a configuration.
fn diagnostics(tls: &Tls, hosts: &[Located<HostPattern>]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    Certificates::build(tls, hosts, None, &CertIssuers::default(), &mut diagnostics);
    diagnostics
}

#[test]
fn names_are_listed_once_in_lower_case_and_sorted() {
    let pki = Pki::new();
    let certificates = build_certificates(&tls(
        vec![
            pki.pair("b", &["B.test", "10.0.0.1", "::1", "*.b.test"]),
            pki.pair("a", &["a.test", "b.test"]),
        ],
        "",
    ));
    let table = certificates.table.load();
    let names: Vec<_> = table.names().collect();
    assert_eq!(names, ["*.b.test", "10.0.0.1", "::1", "a.test", "b.test"]);
    assert_eq!(format!("{certificates:?}").matches("b.test").count(), 2);
}

#[test]
fn first_of_two_certificates_for_a_name_wins() {
    let pki = Pki::new();
    let (first, second) = (pki.pair("1", &["a.test"]), pki.pair("2", &["a.test"]));
    let expected = build_certificates(&tls(vec![first.clone()], ""));
    let both = build_certificates(&tls(vec![first, second], ""));
    let served = |certificates: &Certificates| {
        let table = certificates.table.load();
        table.find("a.test").unwrap().first().unwrap().cert.clone()
    };
    assert_eq!(served(&both), served(&expected));
}

#[test]
fn wildcard_matches_exactly_one_label() {
    let pki = Pki::new();
    let certificates = build_certificates(&tls(vec![pki.pair("w", &["*.example.com"])], ""));
    for (name, found) in [
        ("a.example.com", true),
        ("*.example.com", true),
        ("example.com", false),
        ("a.b.example.com", false),
        (".example.com", false),
        ("aexample.com", false),
        ("", false),
        (".", false),
    ] {
        assert_eq!(
            certificates.table.load().find(name).is_some(),
            found,
            "{name:?}"
        );
    }
}

#[test]
fn default_without_a_certificate_is_reported() {
    let pki = Pki::new();
    let pair = pki.pair("a", &["chat.example.com", "*.rooms.test", "10.0.0.1"]);
    for good in [
        "chat.example.com",
        "Chat.example.com",
        "*.rooms.test",
        "x.rooms.test",
        "10.0.0.1",
    ] {
        let certificates = build_certificates(&tls(vec![pair.clone()], good));
        let table = certificates.table.load();
        assert!(table.default_cert.is_some() && table.without_sni().is_some());
    }
    for (bad, hint) in [
        ("chat.exmaple.com", "did you mean \"chat.example.com\"?"),
        (
            "qqq",
            "the certificates have: *.rooms.test, 10.0.0.1, chat.example.com",
        ),
    ] {
        let found = diagnostics(&tls(vec![pair.clone()], bad), &[]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].message,
            format!("no certificate has the name {bad:?}")
        );
        assert_eq!(found[0].hint.as_deref(), Some(hint));
        assert_eq!(found[0].at, LOCATION);
    }
    let found = diagnostics(&tls(vec![], "a.test"), &[]);
    assert!(found[0].hint.as_ref().unwrap().contains("tls.certificates"));
}

#[test]
fn routed_host_without_a_certificate_is_reported() {
    let pki = Pki::new();
    let pair = pki.pair("a", &["a.test", "*.w.test", "x.deep.test", "10.0.0.1"]);
    let plain = tls(vec![pair.clone()], "");
    for (host, unserved) in [
        (any(), None),
        (exact("a.test"), None),
        (exact("q.w.test"), None),
        (under("w.test"), None),
        (under("deep.test"), None),
        (exact("b.test"), Some("b.test")),
        (exact("w.test"), Some("w.test")),
        (under("a.test"), Some("*.a.test")),
        (under("eep.test"), Some("*.eep.test")),
        (exact("10.0.0.1"), Some("10.0.0.1")),
        (exact("10.0.0.2"), Some("10.0.0.2")),
        (exact("[::1]"), Some("::1")),
    ] {
        let found = diagnostics(&plain, std::slice::from_ref(&host));
        match unserved {
            None => assert!(found.is_empty(), "{host:?}: {found:?}"),
            Some(shown) => {
                assert_eq!(found.len(), 1, "{host:?}");
                assert!(found[0].message.contains(shown), "{found:?}");
                let hint = found[0].hint.as_ref().unwrap();
                assert!(hint.contains("tls.de"), "{hint}");
            }
        }
    }
    // With a default certificate a missing name is only a warning.
    let defaulted = tls(vec![pair], "a.test");
    let hosts = [exact("b.test"), exact("10.0.0.2"), under("z.test"), any()];
    assert!(diagnostics(&defaulted, &hosts).is_empty());
    assert_eq!(diagnostics(&tls(vec![], ""), &[any()]).len(), 1);
}

/// A broken file is one error, without a further error for each host that it may have named.
#[test]
fn broken_file_is_the_only_error() {
    let pki = Pki::new();
    let tls = tls(
        vec![
            pki.entry("none.pem", "none.key"),
            pki.pair("b", &["b.test"]),
        ],
        "a.test",
    );
    let found = diagnostics(&tls, &[exact("a.test")]);
    let messages: Vec<_> = found.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].ends_with("none.pem") && messages[1].ends_with("none.key"));
}

#[test]
fn development_ca_issues_only_missing_certificates_and_may_serve_the_default() {
    let pki = Pki::new();
    let ca = DevCa::open(pki.folder.path()).unwrap();
    let mut tls = tls(vec![pki.pair("a", &["a.test", "localhost"])], "");
    tls.default = Some(Located::nowhere("b.test".to_owned()));
    let mut diagnostics = Vec::new();
    let hosts = [exact("a.test"), exact("b.test")];
    let issuers = CertIssuers {
        dev: Some(&ca),
        ..CertIssuers::default()
    };
    let certificates = Certificates::build(&tls, &hosts, None, &issuers, &mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let table = certificates.table.load();
    let first = |name: &str| table.find(name).unwrap().first().unwrap().clone();
    let from_file = first("a.test");
    assert!(Arc::ptr_eq(&from_file, &first("localhost")));
    let default = table.default_cert.as_ref().unwrap().first().unwrap();
    assert!(Arc::ptr_eq(&first("b.test"), default));
    let without_sni = table.without_sni().unwrap().first().unwrap();
    assert!(Arc::ptr_eq(&first("b.test"), without_sni));

    let bad = [exact("ä.test")];
    Certificates::build(&tls, &bad, None, &issuers, &mut diagnostics);
    assert!(diagnostics[0].message.contains("ä.test"), "{diagnostics:?}");
}
