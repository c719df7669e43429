use crate::{
    config::{HostPattern, Located},
    tls::{
        certs::{self, Certificates},
        dev::*,
        server_config::ticketer,
        testing::{client, presented_names, root, server_config_for, tls, tls_handshake},
        x509,
    },
};
use rustls::version::{TLS12, TLS13};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{Arc, Barrier},
};
use tempfile::TempDir;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn subject_line(path: &Path) -> String {
    let der = root(path);
    String::from_utf8_lossy(&der).into_owned()
}

#[test]
fn ca_is_created_once_and_readable_only_by_its_owner() {
    let data = TempDir::new().unwrap();
    let below = data.path().join("a/b");
    let first = DevCa::open(&below).unwrap();
    let path = first.certificate_path();
    let pem = fs::read(path).unwrap();

    assert_eq!(mode(&below), 0o700);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path.with_file_name("ca.key")), 0o600);
    assert!(subject_line(path).contains("Lockgate development CA"));

    let again = DevCa::open(&below).unwrap();
    assert_eq!(fs::read(again.certificate_path()).unwrap(), pem);
    assert_eq!(fs::read_dir(&below).unwrap().count(), 1, "files left over");
}

#[test]
fn concurrent_opens_create_one_ca() {
    let data = TempDir::new().unwrap();
    // An existing empty folder is treated like an absent one.
    fs::create_dir(data.path().join(FOLDER)).unwrap();
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (folder, barrier) = (data.path().to_owned(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                let ca = DevCa::open(&folder).unwrap();
                fs::read(ca.certificate_path()).unwrap()
            })
        })
        .collect();
    let mut seen: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    seen.dedup();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        fs::read_dir(data.path()).unwrap().count(),
        1,
        "files left over"
    );
}

#[test]
fn damaged_files_are_reported_and_not_overwritten() {
    let foreign = TempDir::new().unwrap();
    let foreign = DevCa::open(foreign.path()).unwrap();
    let foreign_pem = fs::read_to_string(&foreign.certificate).unwrap();
    let leaf = {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.is_ca = IsCa::ExplicitNoCa;
        params.self_signed(&key).unwrap().pem()
    };
    let expired = {
        let key = KeyPair::generate().unwrap();
        let mut params = authority().unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.self_signed(&key).unwrap().pem()
    };
    for (file, content, expected) in [
        ("ca.pem", None, "is missing"),
        ("ca.key", None, "is missing"),
        ("ca.pem", Some(""), "holds no certificate"),
        (
            "ca.pem",
            Some("-----BEGIN CERTIFICATE-----\n!"),
            "holds no certificate",
        ),
        (
            "ca.key",
            Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            "holds no usable key",
        ),
        ("ca.key", Some("nothing"), "holds no key"),
        (
            "ca.pem",
            Some(&*foreign_pem),
            "does not belong to the key in",
        ),
        ("ca.pem", Some(&*leaf), "is not the certificate of a CA"),
        ("ca.pem", Some(&*expired), "has expired"),
    ] {
        let data = TempDir::new().unwrap();
        let ca = DevCa::open(data.path()).unwrap();
        let path = ca.certificate_path().with_file_name(file);
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let error = DevCa::open(data.path()).unwrap_err().to_string();
        let named = format!("{} of the development CA {expected}", path.display());
        assert!(error.starts_with(&named), "{error}");
        assert!(error.contains("remove the folder"), "{error}");
        assert_eq!(
            fs::read_to_string(&path).ok().as_deref(),
            content,
            "overwritten"
        );
    }
}

#[test]
fn file_in_place_of_the_folder_is_an_error() {
    let data = TempDir::new().unwrap();
    fs::write(data.path().join(FOLDER), "x").unwrap();
    let error = DevCa::open(data.path()).unwrap_err();
    assert!(matches!(error, DevCaError::Read { .. }), "{error:?}");
    let error = DevCa::open(&data.path().join(FOLDER)).unwrap_err();
    assert!(
        matches!(error, DevCaError::Read { .. } | DevCaError::Write { .. }),
        "{error:?}"
    );
}

#[test]
fn leaf_is_valid_for_servers_and_at_most_398_days() {
    let data = TempDir::new().unwrap();
    let ca = DevCa::open(data.path()).unwrap();
    let names = ["a.test", "*.b.test", "10.0.0.1"].map(String::from);
    let key = ca.issue(&names).unwrap();
    assert_eq!(
        x509::names(&key.cert[0]).unwrap(),
        names.map(String::into_boxed_str)
    );
    let now = rustls::pki_types::UnixTime::now().as_secs();
    let at = |days: u64| {
        let time = Duration::from_secs(now + days * DAY.as_secs());
        x509::validity(
            &key.cert[0],
            rustls::pki_types::UnixTime::since_unix_epoch(time),
        )
        .unwrap()
    };
    use crate::tls::x509::Validity;
    assert_eq!(at(0), Validity::Leaf);
    assert_eq!(at(395), Validity::Leaf);
    assert_eq!(at(397), Validity::Expired);
    assert!(matches!(
        ca.issue(&["ä".to_owned()]),
        Err(DevCaError::Issue(_))
    ));
}

#[tokio::test]
async fn client_that_trusts_the_ca_completes_the_tls_handshake() {
    let data = TempDir::new().unwrap();
    let ca = DevCa::open(data.path()).unwrap();
    // Opened a second time, because a CA that is read from its files must also sign.
    let ca = DevCa::open(ca.certificate_path().parent().unwrap().parent().unwrap()).unwrap();
    let hosts = [
        HostPattern::Exact("chat.test".into()),
        HostPattern::Exact("10.1.2.3".into()),
        HostPattern::Exact("127.0.0.1".into()),
        HostPattern::Under("rooms.test".into()),
    ];
    let mut diagnostics = Vec::new();
    let tls = tls(vec![], "");
    let issuers = certs::CertIssuers {
        dev: Some(&ca),
        ..Default::default()
    };
    let certificates = Certificates::build(
        &tls,
        &hosts.map(Located::nowhere),
        None,
        &issuers,
        &mut diagnostics,
    );
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert_eq!(
        certificates
            .expiries()
            .keys()
            .map(|name| &**name)
            .collect::<Vec<_>>(),
        [
            "*.rooms.test",
            "10.1.2.3",
            "127.0.0.1",
            "::1",
            "chat.test",
            "localhost"
        ]
    );
    let server = server_config_for(&tls, certificates, ticketer().unwrap());
    let client = client(root(ca.certificate_path()), &[&TLS13, &TLS12]);
    for (name, expected) in [
        ("chat.test", "chat.test"),
        ("blue.rooms.test", "*.rooms.test"),
        ("localhost", "localhost"),
        ("127.0.0.1", "localhost"),
        ("10.1.2.3", "localhost"),
        ("::1", "localhost"),
    ] {
        let (accepted, connected) = tls_handshake(&server, &client, name).await;
        accepted.unwrap();
        assert_eq!(
            &*presented_names(&connected.unwrap())[0],
            expected,
            "{name}"
        );
    }
    let (accepted, _) = tls_handshake(&server, &client, "elsewhere.test").await;
    assert_eq!(accepted.unwrap_err().as_str(), "no_certificate");
}

#[test]
fn data_folder_is_read_from_the_environment() {
    for (variables, expected) in [
        (
            &[
                ("LOCKGATE_DATA", "/d"),
                ("XDG_DATA_HOME", "/x"),
                ("HOME", "/h"),
            ][..],
            Some("/d"),
        ),
        (&[("LOCKGATE_DATA", "d")], Some("d")),
        (
            &[
                ("LOCKGATE_DATA", ""),
                ("XDG_DATA_HOME", "/x"),
                ("HOME", "/h"),
            ],
            Some("/x/lockgate"),
        ),
        (
            &[("XDG_DATA_HOME", "x"), ("HOME", "/h")],
            Some("/h/.local/share/lockgate"),
        ),
        (&[("HOME", "")], None),
        (&[], None),
    ] {
        let found = data_folder(|name| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some(PathBuf::from(value))
        });
        assert_eq!(found.as_deref(), expected.map(Path::new), "{variables:?}");
    }
}

#[test]
fn common_name_is_truncated_and_printable() {
    assert_eq!(common_name("box\n"), "Lockgate development CA (box)");
    assert_eq!(common_name(""), "Lockgate development CA");
    assert_eq!(common_name(&"x".repeat(300)).len(), MAX_COMMON_NAME_LEN);
}
