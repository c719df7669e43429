use crate::{
    config::{HostPattern, Located},
    observe::testing::logged,
    tls::{
        certs::{CertIssuers, Certificates, reload::*},
        dev::DevCa,
        testing::{Pki, build_certificates, tls},
    },
};
use std::fs;

/// Returns the leaf that is served for `name`.
fn served(certificates: &Certificates, name: &str) -> Option<Vec<u8>> {
    let table = certificates.table.load();
    table
        .find(name)
        .map(|set| set.first().unwrap().cert[0].to_vec())
}

/// Reloads all files and returns the changes.
fn reload_all(certificates: &Certificates) -> Vec<CertReload> {
    certificates.reload(&certificates.files().into_iter().collect())
}

fn error(certificates: &Certificates) -> Option<String> {
    certificates.status()[0].error.clone()
}

#[test]
fn valid_pair_replaces_the_previous_one() {
    let pki = Pki::new();
    let certificates =
        build_certificates(&tls(vec![pki.pair("a", &["a.test", "old.test"])], "a.test"));
    assert_eq!(reload_all(&certificates), []);
    let first = served(&certificates, "a.test");

    pki.pair("a", &["a.test", "new.test"]);
    let changes = reload_all(&certificates);
    let [
        CertReload::Replaced {
            file,
            names,
            lost,
            not_after,
        },
    ] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    assert_eq!(*file, pki.path("a.pem"));
    assert_eq!(names[..], ["a.test".into(), "new.test".into()]);
    assert_eq!(lost[..], ["old.test".into()]);
    assert!(not_after.is_some_and(|seconds| seconds > 1_700_000_000));
    let second = served(&certificates, "a.test");
    assert_ne!(second, first);
    assert_eq!(served(&certificates, "new.test"), second);
    assert_eq!(served(&certificates, "old.test"), None);
    let default = certificates.table.load().default_cert.clone();
    let default = default.map(|set| set.first().unwrap().cert[0].to_vec());
    assert_eq!(default, second);
    assert!(certificates.expiries().contains_key("new.test"));
    assert_eq!(certificates.status()[0].names, ["a.test", "new.test"]);
    assert_eq!(reload_all(&certificates), []);
}

#[test]
fn only_changed_pairs_are_read() {
    let pki = Pki::new();
    let [a, b] = ["a.test", "b.test"].map(|name| pki.pair(name, &[name]));
    let certificates = build_certificates(&tls(vec![a.clone(), b.clone()], ""));
    let before = [
        served(&certificates, "a.test"),
        served(&certificates, "b.test"),
    ];
    let [a, b] = ["a.test", "b.test"].map(|name| pki.pair(name, &[name]));
    assert_eq!(certificates.reload(&BTreeSet::new()), []);
    // If both files of a pair changed, one of them is enough.
    for (changed, renewed) in [(&b.key, [false, true]), (&a.cert, [true, true])] {
        let changed = BTreeSet::from([changed.value.clone()]);
        assert_eq!(certificates.reload(&changed).len(), 1);
        let now = [
            served(&certificates, "a.test"),
            served(&certificates, "b.test"),
        ];
        assert_eq!([now[0] != before[0], now[1] != before[1]], renewed);
    }
}

#[test]
fn broken_pair_keeps_the_previous_one_and_is_reported_once() {
    let pki = Pki::new();
    let pair = pki.pair("a", &["a.test"]);
    let certificates = build_certificates(&tls(vec![pair.clone()], ""));
    let first = served(&certificates, "a.test");
    let old = fs::read(&pair.cert).unwrap();
    pki.pair("b", &["a.test", "b.test"]);
    let new = fs::read(pki.path("b.pem")).unwrap();

    let truncated: &[u8] = &new[..new.len() / 2];
    for (content, reason) in [
        (Some(&new[..]), "does not belong to"),
        (Some(truncated), "is damaged"),
        (Some(b""), "no certificate in"),
        (None, "there is no file"),
    ] {
        match content {
            Some(content) => fs::write(&pair.cert, content).unwrap(),
            None => fs::remove_file(&pair.cert).unwrap(),
        }
        let changes = reload_all(&certificates);
        let [
            CertReload::Failed {
                file,
                diagnostics,
                not_after: Some(_),
            },
        ] = &changes[..]
        else {
            panic!("{reason}: {changes:?}");
        };
        assert_eq!(*file, pair.cert.value);
        assert!(diagnostics[0].message.contains(reason), "{diagnostics:?}");
        assert!(diagnostics[0].hint.is_some(), "{diagnostics:?}");
        assert_eq!(reload_all(&certificates), [], "{reason}: reported twice");
        assert_eq!(served(&certificates, "a.test"), first);
        assert!(error(&certificates).unwrap().contains(reason));
    }

    // The previous files are restored: nothing is replaced, and the error is resolved.
    fs::write(&pair.cert, &old).unwrap();
    let file = pair.cert.value.clone();
    assert_eq!(reload_all(&certificates), [CertReload::Recovered { file }]);
    assert_eq!(error(&certificates), None);

    fs::write(&pair.cert, &new).unwrap();
    assert!(matches!(
        reload_all(&certificates)[..],
        [CertReload::Failed { .. }]
    ));
    fs::copy(pki.path("b.key"), &pair.key).unwrap();
    let changes = reload_all(&certificates);
    assert!(
        matches!(changes[..], [CertReload::Replaced { .. }]),
        "{changes:?}"
    );
    assert_eq!(error(&certificates), None);
    assert!(served(&certificates, "b.test").is_some());
}

#[test]
fn broken_pair_does_not_block_the_others() {
    let pki = Pki::new();
    let pairs = vec![pki.pair("a", &["a.test"]), pki.pair("b", &["b.test"])];
    let certificates = build_certificates(&tls(pairs, ""));
    let (a, b) = (
        served(&certificates, "a.test"),
        served(&certificates, "b.test"),
    );
    pki.write("a.key", "");
    pki.pair("b", &["b.test"]);
    let changes = reload_all(&certificates);
    assert!(
        matches!(
            changes[..],
            [CertReload::Failed { .. }, CertReload::Replaced { .. }]
        ),
        "{changes:?}"
    );
    assert_eq!(served(&certificates, "a.test"), a);
    assert_ne!(served(&certificates, "b.test"), b);
}

/// If two pairs have the same name, the first one in the configuration is served, whichever is newer.
#[test]
fn reload_keeps_the_order_of_the_pairs() {
    let pki = Pki::new();
    let pairs = vec![pki.pair("a", &["a.test"]), pki.pair("b", &["b.test"])];
    let certificates = build_certificates(&tls(pairs, ""));
    let first = served(&certificates, "a.test");
    pki.pair("b", &["a.test", "b.test"]);
    reload_all(&certificates);
    assert_eq!(served(&certificates, "a.test"), first);
    pki.pair("a", &["c.test"]);
    let changes = reload_all(&certificates);
    let [CertReload::Replaced { lost, .. }] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert!(lost.is_empty(), "the other pair has the name: {lost:?}");
    assert_ne!(served(&certificates, "a.test"), first);
}

#[test]
fn default_certificate_stays_when_no_certificate_has_its_name() {
    let pki = Pki::new();
    let certificates = build_certificates(&tls(vec![pki.pair("a", &["a.test"])], "A.test"));
    let first = served(&certificates, "a.test");
    pki.pair("a", &["b.test"]);
    let changes = reload_all(&certificates);
    let name = "a.test".into();
    assert_eq!(
        changes[1..],
        [CertReload::DefaultLost { name }],
        "{changes:?}"
    );
    let default = |certificates: &Certificates| {
        let table = certificates.table.load();
        table
            .default_cert
            .as_ref()
            .map(|set| set.first().unwrap().cert[0].to_vec())
    };
    assert_eq!(default(&certificates), first);
    pki.pair("a", &["c.test"]);
    assert_eq!(reload_all(&certificates).len(), 1, "reported once");
    pki.pair("a", &["a.test"]);
    assert_eq!(reload_all(&certificates).len(), 1);
    assert_eq!(default(&certificates), served(&certificates, "a.test"));
}

#[test]
fn reload_keeps_certificates_of_the_development_ca() {
    let pki = Pki::new();
    let ca = DevCa::open(pki.folder.path()).unwrap();
    let tls = tls(vec![pki.pair("a", &["a.test"])], "");
    let hosts = ["a.test", "b.test"].map(|name| Located::nowhere(HostPattern::Exact(name.into())));
    let issuers = CertIssuers {
        dev: Some(&ca),
        ..CertIssuers::default()
    };
    let certificates = Certificates::build(&tls, &hosts, None, &issuers, &mut Vec::new());
    let (b, localhost) = (
        served(&certificates, "b.test"),
        served(&certificates, "localhost"),
    );
    assert_eq!(certificates.files().len(), 2);
    pki.pair("a", &["a.test", "localhost"]);
    assert_eq!(reload_all(&certificates).len(), 1);
    assert_eq!(served(&certificates, "b.test"), b);
    // A file has precedence, but not for clients that send no name.
    assert_ne!(served(&certificates, "localhost"), localhost);
    let table = certificates.table.load();
    let without_sni = table
        .without_sni()
        .map(|set| set.first().unwrap().cert[0].to_vec());
    assert_eq!(without_sni, localhost);
}

#[tokio::test]
async fn panic_of_a_reload_is_logged() {
    let reload = tokio::task::spawn_blocking(|| panic!("on purpose"));
    let result = reload.await;
    let text = logged(|| log_reload(result));
    assert!(text.contains("ERROR"), "{text}");
    assert!(text.contains("on purpose"), "{text}");
}
