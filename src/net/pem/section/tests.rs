use super::*;

fn certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
    params
        .self_signed(&key)
        .unwrap()
        .pem()
        .replace("\r\n", "\n")
}

fn fault(text: &str) -> (usize, PemFault) {
    match sections(text.as_bytes()) {
        Ok(sections) => panic!("{} sections in {text}", sections.len()),
        Err(BadPem { line, fault }) => (line, fault),
    }
}

#[test]
fn complete_sections_parse_with_any_text_between_them() {
    let one = certificate();
    let lines = one.lines().count();
    assert!(lines > 5, "{one}");
    for text in [
        one.clone(),
        one.replace('\n', "\r\n"),
        one.replace('\n', "\r"),
        format!("\u{feff}{one}"),
        one.trim_end().to_owned(),
        one.lines().map(|line| format!("  {line} \n")).collect(),
        format!("Certificate:\n    Data: begin, end\n# END of it\n{one}\n\nsubject=/CN=a\n"),
        one.replace("CERTIFICATE", "X509 CERTIFICATE"),
    ] {
        let sections = sections(text.as_bytes()).unwrap();
        assert!(
            matches!(
                &sections[..],
                [Section {
                    kind: Some(SectionKind::Certificate),
                    ..
                }]
            ),
            "{text}"
        );
    }
    let both = sections(format!("{one}{one}").as_bytes()).unwrap();
    assert_eq!(both.len(), 2);
    assert_eq!(sections(b"").unwrap().len(), 0);
}

#[test]
fn every_unparsable_part_is_an_error_with_its_line() {
    let one = certificate();
    let lines = one.lines().count();
    let glued = format!("{}{one}", one.trim_end());
    assert_eq!(fault(&glued), (lines, PemFault::Glued));
    let after = |text: &str| format!("{one}{text}");
    let begin = "-----BEGIN CERTIFICATE-----";
    let end = "-----END CERTIFICATE-----";
    for (text, line, expected) in [
        (
            one.replace(end, ""),
            1,
            PemFault::NoEnd("CERTIFICATE".into()),
        ),
        (
            after(&one.replace(begin, "")),
            lines + 2,
            PemFault::LooseBase64,
        ),
        (
            after(&one.replace(begin, "----BEGIN CERTIFICATE-----")),
            lines + 1,
            PemFault::Boundary,
        ),
        (
            after(&one.replace(begin, "-----BEGIN CERTIFICATE----")),
            lines + 1,
            PemFault::Boundary,
        ),
        (
            after(&one.replace(begin, "-----BEGIN CERTIFICATE------")),
            lines + 1,
            PemFault::Boundary,
        ),
        (
            after(&one.replace(begin, "----- BEGIN CERTIFICATE -----")),
            lines + 1,
            PemFault::Boundary,
        ),
        (
            after(&one.replace(begin, "-----begin certificate-----")),
            lines + 1,
            PemFault::Boundary,
        ),
        (
            after(&one.replace(begin, "BEGIN CERTIFICATE-----")),
            lines + 1,
            PemFault::Boundary,
        ),
        (
            after(&one.replace(begin, "x-----BEGIN CERTIFICATE-----")),
            lines + 1,
            PemFault::Boundary,
        ),
        (
            after(
                &one.replace(begin, "-----BEGIN CERTIFCATE-----")
                    .replace(end, "-----END CERTIFCATE-----"),
            ),
            lines + 1,
            PemFault::UnknownLabel("CERTIFCATE".into()),
        ),
        (
            after(&one.replace("CERTIFICATE", "TRUSTED CERTIFICATE")),
            lines + 1,
            PemFault::UnknownLabel("TRUSTED CERTIFICATE".into()),
        ),
        (
            after(&one.replace("CERTIFICATE", "PKCS7")),
            lines + 1,
            PemFault::UnknownLabel("PKCS7".into()),
        ),
        (
            format!("{}{one}", one.replace(end, "")),
            lines + 1,
            PemFault::NoEnd("CERTIFICATE".into()),
        ),
        (
            one.replace(end, "-----END PRIVATE KEY-----"),
            lines,
            PemFault::OtherEnd {
                found: "PRIVATE KEY".into(),
                expected: "CERTIFICATE".into(),
            },
        ),
        (
            after(&one.replacen("MI", "M!", 1)),
            lines + 2,
            PemFault::Base64,
        ),
        (
            after(&format!("{begin}\nAAAA\n{end}\n")),
            lines + 1,
            PemFault::NotX509,
        ),
        (after(&format!("{end}\n")), lines + 1, PemFault::NoBegin),
        (
            after(&format!("{begin}\n{end}\n")),
            lines + 1,
            PemFault::NotX509,
        ),
        (
            after(&format!("{}\n", "QUJj".repeat(16))),
            lines + 1,
            PemFault::LooseBase64,
        ),
    ] {
        assert_eq!(fault(&text), (line, expected), "{text}");
    }
    // The decoder may accept the rest, which is no certificate then.
    assert_eq!(fault(&after(&one.replacen("MI", "I", 1))).0, lines + 1);
    // A lost line of a certificate.
    let cut: Vec<&str> = one
        .lines()
        .enumerate()
        .filter(|(at, _)| *at != 3)
        .map(|(_, line)| line)
        .collect();
    assert_eq!(fault(&cut.join("\n")).0, 1);
}

#[test]
fn encrypted_key_in_the_old_format_is_no_error_of_its_file() {
    let key = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let sections = sections(format!("{key}{}", certificate()).as_bytes()).unwrap();
    assert_eq!(sections.len(), 2);
    assert!(sections[0].kind.is_none());
}
