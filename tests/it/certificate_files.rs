//! Certificate files that are damaged, that clients cannot verify, and several for one host.

use crate::harness::{Backend, Lockgate, Program, within};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
    date_time_ymd,
};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;
use tokio::process::Command;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// The keys of a configuration that name a PEM file, each with a configuration in which `FILE` stands for it.
const KEYS: [(&str, &str); 7] = [
    (
        "tls.certificates.cert",
        "[tls]\ncertificates = [{ cert = \"FILE\", key = \"leaf.key\" }]\n",
    ),
    (
        "tls.certificates.key",
        "[tls]\ncertificates = [{ cert = \"leaf.pem\", key = \"FILE\" }]\n",
    ),
    (
        "tls.client_ca",
        "[tls]\ndev_ca = true\nclient_ca = \"FILE\"\n",
    ),
    (
        "tls.ca of a backend",
        "[tls]\ndev_ca = true\n[pools.p]\nbackends = [{ address = \"wss://127.0.0.1:1\", tls = { ca = \"FILE\" } }]\n",
    ),
    (
        "tls.cert of a backend",
        "[tls]\ndev_ca = true\n[pools.p]\nbackends = [{ address = \"wss://127.0.0.1:1\", tls = { cert = \"FILE\", key = \"leaf.key\" } }]\n",
    ),
    (
        "tls.key of a backend",
        "[tls]\ndev_ca = true\n[pools.p]\nbackends = [{ address = \"wss://127.0.0.1:1\", tls = { cert = \"leaf.pem\", key = \"FILE\" } }]\n",
    ),
    ("acme.ca_file", "[acme]\nca_file = \"FILE\"\n"),
];

#[tokio::test]
async fn unparsable_part_of_a_pem_file_is_an_error_with_its_line() {
    let pki = Pki::new();
    let leaf = pki.leaf("leaf", &pki.intermediate, |_| {});
    let key = fs::read_to_string(pki.path("leaf.key")).expect("written above");
    let (root, key) = (unix(&pki.root.pem()), unix(&key));
    let begin = "-----BEGIN CERTIFICATE-----";
    let end = "-----END CERTIFICATE-----";
    for (of, config) in KEYS {
        let good = if of.contains("key") {
            key.clone()
        } else if of.contains("cert") {
            leaf.clone()
        } else {
            root.clone()
        };
        let lines = good.lines().count();
        let second = unix(&pki.intermediate.pem());
        for (fault, text, line) in [
            (
                "END and BEGIN on one line",
                format!("{}{second}", good.trim_end()),
                lines,
            ),
            (
                "no END line",
                format!("{good}{}", second.replace(end, "")),
                lines + 1,
            ),
            (
                "no BEGIN line",
                format!("{good}{}", second.replace(begin, "")),
                lines + 2,
            ),
            (
                "four dashes",
                format!("{good}{}", second.replace(begin, &begin[1..])),
                lines + 1,
            ),
            (
                "no base64",
                format!("{good}{}", second.replacen("MI", "M!", 1)),
                lines + 2,
            ),
            (
                "no certificate",
                format!("{good}{begin}\nAAAA\n{end}\n"),
                lines + 1,
            ),
            (
                "another label",
                format!("{good}{}", second.replace("CERTIFICATE", "CERTIFCATE")),
                lines + 1,
            ),
        ] {
            pki.write("file.pem", &text);
            let output = pki.check(&config.replace("FILE", "file.pem")).await;
            let named = format!("line {line}");
            assert!(
                output.0 == Some(64) && output.1.contains(&named) && output.1.contains("file.pem"),
                "{of}, {fault}: not {named}, but {output:?}"
            );
        }
        // Text between the sections, and line ends of other systems, are no fault.
        pki.write(
            "file.pem",
            &format!("# of {of}\nsubject=CN = a\n{}", good.replace('\n', "\r\n")),
        );
        let (code, printed) = pki.check(&config.replace("FILE", "file.pem")).await;
        assert_eq!(code, Some(0), "{of}: {printed}");
    }
    pki.write("file.pem", &format!("{}{root}", root.trim_end()));
    // `probe` reads the file once it is connected.
    let url = format!("wss://{}", Backend::echo().await);
    let arguments = ["probe", &url, "--ca", "file.pem"];
    let output = Lockgate::run(pki.folder.path(), &arguments).await;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(
        !output.status.success() && printed.contains(&format!("line {}", root.lines().count())),
        "{printed}"
    );
}

#[tokio::test]
async fn chain_that_clients_cannot_verify_has_one_warning() {
    let pki = Pki::new();
    let chain = unix(&pki.intermediate.pem());
    let old = pki.ca("old intermediate", Some(&pki.root), |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let foreign = pki.ca("intermediate", None, |_| {});
    let other = pki.ca("other", Some(&pki.root), |_| {});
    let staple = |params: &mut CertificateParams| {
        let oid = [1, 3, 6, 1, 5, 5, 7, 1, 24];
        let feature = CustomExtension::from_oid_content(&oid, vec![0x30, 3, 2, 1, 5]);
        params.custom_extensions.push(feature);
    };
    let client = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    for (text, word) in [
        (pki.leaf("leaf", &pki.intermediate, |_| {}) + &chain, None),
        (
            pki.leaf("leaf", &pki.intermediate, |_| {}) + &chain + &unix(&pki.root.pem()),
            None,
        ),
        (pki.self_signed("leaf"), None),
        (
            pki.leaf("leaf", &pki.intermediate, |_| {}),
            Some("intermediate"),
        ),
        (
            pki.leaf("leaf", &pki.intermediate, |_| {}) + &unix(&other.pem()),
            Some("issuer"),
        ),
        (
            pki.leaf("leaf", &old, |_| {}) + &unix(&old.pem()),
            Some("expired"),
        ),
        (
            pki.leaf("leaf", &pki.intermediate, |_| {}) + &unix(&foreign.pem()),
            Some("not signed"),
        ),
        (
            pki.leaf("leaf", &pki.intermediate, staple) + &chain,
            Some("must-staple"),
        ),
        (
            pki.leaf("leaf", &pki.intermediate, client) + &chain,
            Some("serverAuth"),
        ),
    ] {
        pki.write("leaf.pem", &text);
        let config = "[tls]\ncertificates = [{ cert = \"leaf.pem\", key = \"leaf.key\" }]\n";
        let (code, printed) = pki.check(config).await;
        assert_eq!(code, Some(0), "{printed}");
        let expected = usize::from(word.is_some());
        let warnings = |text: &str, mark: &str| {
            let is_named = |line: &&str| word.is_none_or(|word| line.contains(word));
            text.lines()
                .filter(|line| line.contains(mark))
                .filter(is_named)
                .count()
        };
        assert_eq!(
            warnings(&printed, "warning"),
            expected,
            "check, {word:?}: {printed}"
        );
        let json = Lockgate::run(
            pki.folder.path(),
            &["check", "--config", "lockgate.toml", "--json"],
        )
        .await;
        let json: Value = serde_json::from_slice(&json.stdout).expect("a list");
        assert_eq!(json.as_array().expect("a list").len(), expected, "{json}");
        let doctor =
            Lockgate::run(pki.folder.path(), &["doctor", "--config", "lockgate.toml"]).await;
        let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
        let of_file: String = doctor
            .lines()
            .filter(|line| line.contains("leaf.pem"))
            .collect();
        assert_eq!(
            warnings(&of_file, "warn"),
            expected,
            "doctor, {word:?}: {doctor}"
        );

        let lockgate = pki.lockgate(&["leaf"]).await;
        if let Some(word) = word {
            lockgate.until_logged(word).await;
        }
        // Lines of the start precede the one of its end.
        lockgate.until_logged("\"ready\"").await;
        let logged = lockgate.log("WARN");
        let logged = logged.iter().filter(|line| {
            line["file"]
                .as_str()
                .is_some_and(|file| file.ends_with("leaf.pem"))
        });
        let logged: Vec<_> = logged.collect();
        assert_eq!(logged.len(), expected, "run, {word:?}: {logged:?}");
        let (_, list) = lockgate.command(&["cert", "list"]).await;
        assert_eq!(
            warnings(&list, "warning"),
            expected,
            "cert list, {word:?}: {list}"
        );
        let listed = lockgate.certificates().await;
        assert_eq!(
            listed[0]["warning"].is_string(),
            word.is_some(),
            "{listed:?}"
        );
    }
}

#[tokio::test]
async fn key_of_a_host_is_chosen_by_the_clients_signature_schemes() {
    let pki = Pki::new();
    pki.leaf("ecdsa", &pki.intermediate, |_| {});
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("random bytes");
    pki.leaf_with(rsa, "rsa", &pki.intermediate, |_| {});
    for order in [["ecdsa", "rsa"], ["rsa", "ecdsa"]] {
        let lockgate = pki.lockgate(&order).await;
        for name in ["a.test", "unknown.test"] {
            for (arguments, kind) in [
                (&["-sigalgs", "ECDSA+SHA256"][..], "ECDSA"),
                (&["-sigalgs", "RSA-PSS+SHA256"], "RSA-PSS"),
                (&["-tls1_2", "-sigalgs", "ECDSA+SHA256"], "ECDSA"),
                (&["-tls1_2", "-sigalgs", "RSA+SHA256"], "RSA"),
                (&["-tls1_2", "-sigalgs", "RSA-PSS+SHA256"], "RSA-PSS"),
                // The suites of TLS 1.2 exclude a kind, and the schemes do not.
                (
                    &["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
                    "RSA-PSS",
                ),
                (
                    &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
                    "ECDSA",
                ),
                // PKCS #1 v1.5 signs no handshake of TLS 1.3.
                (&["-tls1_3", "-sigalgs", "RSA+SHA256:ECDSA+SHA256"], "ECDSA"),
                // The client's preference decides between two that it supports.
                (&["-sigalgs", "RSA-PSS+SHA256:ECDSA+SHA256"], "RSA-PSS"),
                (&["-sigalgs", "ECDSA+SHA256:RSA-PSS+SHA256"], "ECDSA"),
                (&[], "ECDSA"),
            ] {
                let seen = signature_type(&lockgate, name, arguments).await;
                assert_eq!(seen, kind, "{order:?} {name} {arguments:?}");
            }
        }
        let mut logged = lockgate.log("WARN");
        logged.retain(|line| {
            line["message"]
                .as_str()
                .is_some_and(|text| text.contains("earlier"))
        });
        assert!(logged.is_empty(), "{logged:?}");
        assert_eq!(lockgate.certificates().await.len(), 2);
    }
}

/// Returns the type of the signature by which the server proves its key, as `openssl s_client` prints it.
async fn signature_type(lockgate: &Lockgate, name: &str, arguments: &[&str]) -> String {
    let mut client = Command::new("openssl");
    client.args([
        "s_client",
        "-connect",
        &lockgate.https.to_string(),
        "-servername",
        name,
    ]);
    client
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = within("openssl s_client", client.output())
        .await
        .expect("openssl is installed");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let kind = printed
        .lines()
        .find_map(|line| line.strip_prefix("Peer signature type: "));
    kind.unwrap_or_else(|| panic!("{printed}{}", String::from_utf8_lossy(&output.stderr)))
        .to_owned()
}

#[tokio::test]
async fn python_clients_of_one_key_kind_are_served() {
    let pki = Pki::new();
    pki.leaf("ecdsa", &pki.intermediate, |_| {});
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("random bytes");
    pki.leaf_with(rsa, "rsa", &pki.intermediate, |_| {});
    for kind in ["ecdsa", "rsa"] {
        let path = pki.path(&format!("{kind}.pem"));
        let text =
            fs::read_to_string(&path).expect("written above") + &unix(&pki.intermediate.pem());
        fs::write(path, text).expect("ours");
    }
    pki.write("root.pem", &unix(&pki.root.pem()));
    let lockgate = pki.lockgate(&["rsa", "ecdsa"]).await;
    let (port, root) = (lockgate.https.port().to_string(), pki.path("root.pem"));
    for cipher in ["ECDHE+aRSA", "ECDHE+ECDSA"] {
        let mut client = Program::start(
            "tls_client.py",
            &[&port, &root.display().to_string(), cipher],
        );
        assert_eq!(client.line().await, "verified", "{cipher}");
    }
}

/// A folder with a root, an intermediate CA below it, and certificates for `a.test`.
struct Pki {
    folder: TempDir,
    root: Issuer,
    intermediate: Issuer,
    /// The key of every leaf, so that a test can create several for one file.
    leaf_key: String,
}

// === impl Pki ===

impl Pki {
    fn new() -> Pki {
        let root = ca("root", None, |_| {});
        let intermediate = ca("intermediate", Some(&root), |_| {});
        Pki {
            folder: TempDir::new().expect("a temporary folder"),
            root,
            intermediate,
            leaf_key: KeyPair::generate().expect("random bytes").serialize_pem(),
        }
    }

    fn leaf_key(&self) -> KeyPair {
        KeyPair::from_pem(&self.leaf_key).expect("written by the same library")
    }

    fn ca(
        &self,
        name: &str,
        issuer: Option<&Issuer>,
        configure: impl FnOnce(&mut CertificateParams),
    ) -> Issuer {
        ca(name, issuer, configure)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("ours");
    }

    /// Writes `name.pem` and `name.key`, and returns the certificate.
    fn leaf(
        &self,
        name: &str,
        issuer: &Issuer,
        configure: impl FnOnce(&mut CertificateParams),
    ) -> String {
        self.leaf_with(self.leaf_key(), name, issuer, configure)
    }

    fn leaf_with(
        &self,
        key: KeyPair,
        name: &str,
        issuer: &Issuer,
        configure: impl FnOnce(&mut CertificateParams),
    ) -> String {
        let mut params = leaf_params();
        configure(&mut params);
        let cert = unix(&params.signed_by(&key, issuer).expect("a certificate").pem());
        self.write(&format!("{name}.pem"), &cert);
        self.write(&format!("{name}.key"), &key.serialize_pem());
        cert
    }

    fn self_signed(&self, name: &str) -> String {
        let key = self.leaf_key();
        let cert = leaf_params().self_signed(&key).expect("a certificate");
        self.write(&format!("{name}.key"), &key.serialize_pem());
        unix(&cert.pem())
    }

    /// Runs `check`, and returns its exit code and output.
    async fn check(&self, config: &str) -> (Option<i32>, String) {
        let to = if config.contains("pools.p") {
            "pool = \"p\""
        } else {
            "to = \"ws://127.0.0.1:1\""
        };
        let config = format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\nadmin = \"off\"\n{config}\
             [[routes]]\nhosts = [\"a.test\"]\n{to}\norigins = [\"*\"]\n"
        );
        self.write("lockgate.toml", &config);
        let output =
            Lockgate::run(self.folder.path(), &["check", "--config", "lockgate.toml"]).await;
        let printed = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&printed).into_owned(),
        )
    }

    /// Starts a Lockgate with these pairs, of which the first is the default.
    async fn lockgate(&self, names: &[&str]) -> Lockgate {
        let pair = |name: &&str| {
            let path = |end: &str| self.path(&format!("{name}.{end}")).display().to_string();
            format!("{{ cert = {:?}, key = {:?} }}", path("pem"), path("key"))
        };
        let pairs: Vec<String> = names.iter().map(pair).collect();
        let backend = Backend::echo().await;
        let lockgate = Lockgate::with_file(&format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndefault = \"a.test\"\ncertificates = [{}]\n\
             [[routes]]\nhosts = [\"a.test\"]\nto = \"ws://{backend}\"\norigins = [\"*\"]\n",
            pairs.join(", "),
        ));
        lockgate.start().await
    }
}

fn ca(
    name: &str,
    issuer: Option<&Issuer>,
    configure: impl FnOnce(&mut CertificateParams),
) -> Issuer {
    let mut params = CertificateParams::new([]).expect("no names are good names");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("{name} of the tests"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    configure(&mut params);
    let key = KeyPair::generate().expect("random bytes");
    match issuer {
        Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer),
        None => CertifiedIssuer::self_signed(params, key),
    }
    .expect("a CA")
}

fn leaf_params() -> CertificateParams {
    let mut params = CertificateParams::new(["a.test".to_owned()]).expect("a name");
    params
        .distinguished_name
        .push(DnType::CommonName, "leaf of the tests");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

/// With line feeds only, so that lines are counted as an editor does.
fn unix(pem: &str) -> String {
    pem.replace("\r\n", "\n")
}
