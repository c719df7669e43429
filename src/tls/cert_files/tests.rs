use crate::tls::{
    cert_files::*,
    testing::{LOCATION, Pki},
};
use std::os::unix::fs::symlink;

#[test]
fn valid_pairs_are_read_with_their_names() {
    let pki = Pki::new();
    let pair = pki.pair("a", &["A.test", "*.b.test", "192.0.2.1", "2001:db8::1"]);
    // The chain follows the leaf, with comments and Windows line ends; through a link, as Kubernetes mounts secrets.
    let chain = fs::read_to_string(&pair.cert).unwrap() + "\r\ncomment\r\n" + &pki.ca_pem();
    pki.write("chain.pem", chain.replace('\n', "\r\n"));
    symlink(pki.path("a.key"), pki.path("link.key")).unwrap();
    let mut diagnostics = Vec::new();
    let plain = read(&pair, &mut diagnostics).unwrap();
    let long = read(&pki.entry("chain.pem", "link.key"), &mut diagnostics).unwrap();
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let names = ["a.test", "*.b.test", "192.0.2.1", "2001:db8::1"];
    assert_eq!(plain.names, names.map(Box::from));
    assert_eq!((plain.key.cert.len(), long.key.cert.len()), (1, 2));
}

/// An expired certificate is served and clients decide: an outage of all names because of one would be worse.
#[test]
fn expired_and_future_certificates_are_read() {
    let pki = Pki::new();
    let mut diagnostics = Vec::new();
    for (from, to) in [(2019, 2020), (4000, 4001)] {
        let pair = pki.pair_with("old", &["a.test"], |params| {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
        });
        assert!(read(&pair, &mut diagnostics).is_some());
    }
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
}

#[test]
fn invalid_files_are_reported_with_a_hint() {
    let pki = Pki::new();
    pki.pair("a", &["a.test"]);
    pki.pair("b", &["b.test"]);
    pki.pair("nameless", &[]);
    let leaf = fs::read_to_string(pki.path("a.pem")).unwrap();
    pki.write("empty", "");
    pki.write("order.pem", pki.ca_pem() + &leaf);
    pki.write("cut.pem", &leaf[..leaf.len() - 40]);
    pki.write(
        "junk.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    pki.write(
        "junk.key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    );
    pki.write(
        "base64.key",
        "-----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----\n",
    );
    pki.write("der", [0x30, 0x82, 0x01, 0xff, 0xfe]);
    pki.write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    pki.write("old.key", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n");
    pki.write(
        "ssh.key",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    );
    pki.write("huge", vec![b'x'; 1024 * 1024 + 1]);
    for (cert, key, message, hint) in [
        ("no.pem", "a.key", "there is no file", "configuration file"),
        ("a.pem", "no.key", "there is no file", "configuration file"),
        (".", "a.key", "is a folder", "name the file"),
        ("huge", "a.key", "larger than 1 MiB", "right file"),
        ("empty", "a.key", "no certificate in", "BEGIN CERTIFICATE"),
        ("a.key", "a.key", "no certificate in", "exchanged"),
        ("der", "a.key", "no certificate in", "openssl x509"),
        ("cut.pem", "a.key", "is damaged", "copy it again"),
        ("junk.pem", "a.key", "cannot be used", "X.509"),
        ("a.pem", "empty", "no private key in", "BEGIN PRIVATE KEY"),
        ("a.pem", "a.pem", "no private key in", "exchanged"),
        ("a.pem", "der", "no private key in", "openssl pkey"),
        ("a.pem", "ssh.key", "no private key in", "OpenSSH"),
        ("a.pem", "locked.key", "is encrypted", "openssl pkey"),
        ("a.pem", "old.key", "is encrypted", "openssl pkey"),
        ("a.pem", "base64.key", "is damaged", "copy it again"),
        ("a.pem", "junk.key", "cannot be used", "ECDSA"),
        ("a.pem", "b.key", "does not belong", "same request"),
        ("order.pem", "a.key", "does not belong", "must be first"),
        (
            "nameless.pem",
            "nameless.key",
            "names no host",
            "subjectAltName",
        ),
    ] {
        let mut diagnostics = Vec::new();
        assert!(read(&pki.entry(cert, key), &mut diagnostics).is_none());
        let [diagnostic] = &diagnostics[..] else {
            panic!("{cert}, {key}: {diagnostics:?}");
        };
        assert!(diagnostic.message.contains(message), "{diagnostic:?}");
        let file = if message == "there is no file" && cert == "a.pem" {
            key
        } else {
            cert
        };
        let named = diagnostic
            .message
            .contains(&*pki.path(file).to_string_lossy())
            || diagnostic
                .message
                .contains(&*pki.path(key).to_string_lossy());
        assert!(named, "{diagnostic:?} names no file");
        assert!(
            diagnostic.hint.as_ref().unwrap().contains(hint),
            "{diagnostic:?}"
        );
        assert_eq!(diagnostic.at, LOCATION);
    }
}

#[test]
fn errors_of_both_files_are_reported() {
    let pki = Pki::new();
    pki.write("empty", "");
    let mut diagnostics = Vec::new();
    assert!(read(&pki.entry("none.pem", "empty"), &mut diagnostics).is_none());
    assert_eq!(diagnostics.len(), 2);
}
