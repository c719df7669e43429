//! Sections of PEM text (RFC 7468): every part that begins or ends a section must parse. Text between sections is
//! ignored, as `openssl x509 -text` and CA bundles write it.

use rustls::pki_types::{
    CertificateDer,
    pem::{self, PemObject, SectionKind},
};

/// An error in PEM text, with its line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct BadPem {
    /// The line, from 1.
    pub(crate) line: usize,
    pub(crate) fault: PemFault,
}

/// The kind of an error in PEM text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PemFault {
    #[error("an END and a BEGIN are on one line")]
    Glued,
    #[error("this is no complete line of the form -----BEGIN …----- or -----END …-----")]
    Boundary,
    #[error("the section {0:?} has no END line")]
    NoEnd(String),
    #[error("the END line has no BEGIN line")]
    NoBegin,
    #[error("the section ends as {found:?}, but begins as {expected:?}")]
    OtherEnd { found: String, expected: String },
    #[error("this is no base64")]
    Base64,
    #[error("base64 without a BEGIN line")]
    LooseBase64,
    #[error("a section {0:?} is unknown here")]
    UnknownLabel(String),
    #[error("the certificate is not X.509")]
    NotX509,
}

/// One decoded section.
pub(crate) struct Section {
    /// `None` for a label whose content is not decoded, such as `DH PARAMETERS`.
    pub(crate) kind: Option<SectionKind>,
    pub(crate) der: Vec<u8>,
}

/// Parses all sections of a text, in which each certificate must be X.509.
pub(crate) fn sections(text: &[u8]) -> Result<Vec<Section>, BadPem> {
    let mut sections = Vec::new();
    let mut open: Option<OpenSection<'_>> = None;
    for (line, content) in lines(text) {
        let fail = |fault| Err(BadPem { line, fault });
        match (Line::of(content), &mut open) {
            (Line::Bad(fault), _) => return fail(fault),
            (Line::Begin(label), None) => open = Some(OpenSection::new(line, label)),
            (Line::Begin(_), Some(section)) => return section.fail(line, section.no_end()),
            (Line::End(_), None) => return fail(PemFault::NoBegin),
            (Line::End(label), Some(section)) if label != section.label => {
                let (found, expected) = (shown(label), shown(section.label));
                return fail(PemFault::OtherEnd { found, expected });
            }
            (Line::End(_), Some(section)) => {
                sections.push(section.decode()?);
                open = None;
            }
            (Line::Other, Some(section)) => section.body.push((line, content)),
            // A whole line of base64 is a certificate or key whose BEGIN line is lost.
            (Line::Other, None) if is_base64_line(content) => {
                return fail(PemFault::LooseBase64);
            }
            (Line::Other, None) => {}
        }
    }
    match open {
        Some(section) => section.fail(section.line, section.no_end()),
        None => Ok(sections),
    }
}

/// The lines of a text with their numbers, without white space around them. A line ends with LF, CR LF or CR.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    // Windows editors write a byte order mark.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let lines = lines.flat_map(|line| {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r")
            .unwrap_or(line)
            .split(|byte| *byte == b'\r')
    });
    lines
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_ascii()))
}

/// A line by its role.
enum Line<'a> {
    Begin(&'a [u8]),
    End(&'a [u8]),
    /// A line of a body, or text between sections.
    Other,
    Bad(PemFault),
}

// === impl Line ===

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Line<'a> {
        let begin = label(line, b"-----BEGIN ");
        let end = label(line, b"-----END ");
        match (begin, end) {
            (Some(label), _) => Line::Begin(label),
            (_, Some(label)) => Line::End(label),
            _ if contains(line, b"-----BEGIN ") && contains(line, b"-----END ") => {
                Line::Bad(PemFault::Glued)
            }
            _ if is_like_boundary(line) => Line::Bad(PemFault::Boundary),
            _ => Line::Other,
        }
    }
}

/// Returns the label of a complete boundary line.
fn label<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let label = line.strip_prefix(start)?.strip_suffix(b"-----")?;
    (!label.is_empty() && !label.contains(&b'-')).then_some(label)
}

/// Returns whether a line that is no boundary was probably meant as one: dashes next to BEGIN or END.
fn is_like_boundary(line: &[u8]) -> bool {
    [&b"BEGIN"[..], b"END"].into_iter().any(|word| {
        let at = line
            .windows(word.len())
            .position(|part| part.eq_ignore_ascii_case(word));
        at.is_some_and(|at| {
            let before = line[..at].trim_ascii_end();
            let after = line[at + word.len()..].trim_ascii();
            before.ends_with(b"--")
                || (before.ends_with(b"-") && after.ends_with(b"-"))
                || (before.is_empty()
                    && after.ends_with(b"--")
                    && LABEL_WORDS.iter().any(|it| contains(after, it)))
        })
    })
}

/// A section whose END line has not been read yet.
struct OpenSection<'a> {
    line: usize,
    label: &'a [u8],
    body: Vec<(usize, &'a [u8])>,
}

// === impl OpenSection ===

impl<'a> OpenSection<'a> {
    fn new(line: usize, label: &'a [u8]) -> OpenSection<'a> {
        OpenSection {
            line,
            label,
            body: Vec::new(),
        }
    }

    fn no_end(&self) -> PemFault {
        PemFault::NoEnd(shown(self.label))
    }

    fn fail<T>(&self, line: usize, fault: PemFault) -> Result<T, BadPem> {
        Err(BadPem { line, fault })
    }

    fn decode(&self) -> Result<Section, BadPem> {
        // The older labels of RFC 7468 §5.1.
        let label = match self.label {
            b"X509 CERTIFICATE" | b"X.509 CERTIFICATE" => b"CERTIFICATE",
            label => label,
        };
        let kind = SectionKind::try_from(label).ok();
        // A damaged one would be left out in silence, and so would one of another format.
        if kind.is_none() && !IGNORED_LABELS.iter().any(|known| label.ends_with(known)) {
            return self.fail(self.line, PemFault::UnknownLabel(shown(label)));
        }
        // An encrypted key has headers, and an empty line after them (RFC 1421 §4.4).
        let has_headers = self
            .body
            .first()
            .is_some_and(|(_, line)| line.contains(&b':'));
        let base64 = match self.body.iter().position(|(_, line)| line.is_empty()) {
            Some(blank) if has_headers => &self.body[blank..],
            _ => &self.body[..],
        };
        if let Some((line, _)) = base64.iter().find(|(_, line)| !is_base64(line)) {
            return self.fail(*line, PemFault::Base64);
        }
        let Some(kind) = kind.filter(|_| !has_headers) else {
            let der = Vec::new();
            return Ok(Section { kind: None, der });
        };
        let body: Vec<&[u8]> = base64.iter().map(|(_, line)| *line).collect();
        let (label, body) = (String::from_utf8_lossy(label), body.join(&b'\n'));
        let clean = [
            format!("-----BEGIN {label}-----\n").as_bytes(),
            &body,
            format!("\n-----END {label}-----\n").as_bytes(),
        ]
        .concat();
        match <(SectionKind, Vec<u8>)>::from_pem_slice(&clean) {
            Ok((SectionKind::Certificate, der)) if !is_x509(&der) => {
                self.fail(self.line, PemFault::NotX509)
            }
            Ok((_, der)) => Ok(Section {
                kind: Some(kind),
                der,
            }),
            Err(pem::Error::Base64Decode(_)) => self.fail(self.line, PemFault::Base64),
            Err(_) => self.fail(self.line, PemFault::Boundary),
        }
    }
}

/// Returns whether one of the two parsers in use accepts the certificate. Old roots have forms that only one knows.
fn is_x509(der: &[u8]) -> bool {
    x509_parser::parse_x509_certificate(der).is_ok_and(|(rest, _)| rest.is_empty())
        || webpki::anchor_from_trusted_cert(&CertificateDer::from(der)).is_ok()
}

fn is_base64(line: &[u8]) -> bool {
    line.iter().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b' ' | b'\t')
    })
}

/// Returns whether the line is a whole one of base64, and neither prose nor a checksum.
fn is_base64_line(line: &[u8]) -> bool {
    line.len() == BASE64_LINE_LEN
        && is_base64(line)
        && !line.contains(&b' ')
        && line.iter().any(u8::is_ascii_uppercase)
        && line.iter().any(u8::is_ascii_lowercase)
}

fn contains(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|found| found == part)
}

fn shown(label: &[u8]) -> String {
    let shown: String = String::from_utf8_lossy(label)
        .chars()
        .take(MAX_SHOWN_LEN)
        .collect();
    shown.escape_debug().to_string()
}

/// The ends of labels that may stand next to certificates and keys and are of no use here.
const IGNORED_LABELS: [&[u8]; 8] = [
    b"PRIVATE KEY",
    b"PUBLIC KEY",
    b"PARAMETERS",
    b"X509 CRL",
    b"CERTIFICATE REQUEST",
    b"ECHCONFIG",
    b"OCSP RESPONSE",
    b"ATTRIBUTE CERTIFICATE",
];

/// The words of a damaged boundary that has lost its leading dashes.
const LABEL_WORDS: [&[u8]; 2] = [b"CERTIFICATE", b"KEY"];

/// RFC 7468 §2.
const BASE64_LINE_LEN: usize = 64;

const MAX_SHOWN_LEN: usize = 40;

#[cfg(test)]
mod tests;
