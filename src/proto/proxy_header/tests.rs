//! Headers in tables, each whole and in every prefix.

use crate::proto::proxy_header::*;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16).to_be_bytes();
    [V2, &[command, family], &len, body].concat()
}

fn source(address: &str) -> Option<SocketAddr> {
    Some(address.parse().unwrap())
}

/// 192.0.2.1:4660 to 192.0.2.9:443.
const V4_ADDRESSES: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 9, 0x12, 0x34, 1, 187];

fn v6_addresses(source: &str) -> Vec<u8> {
    let source: std::net::Ipv6Addr = source.parse().unwrap();
    [&source.octets()[..], &[0; 16], &[0x12, 0x34, 1, 187]].concat()
}

#[test]
fn complete_headers_parse_and_partial_ones_need_more_bytes() {
    let long_v4 = [V4_ADDRESSES, &[4, 0, 2, 0, 0]].concat();
    let longest = vec![0; MAX_LEN - 16];
    let table: &[(&[u8], Option<SocketAddr>)] = &[
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\n",
            source("192.0.2.1:56324"),
        ),
        (
            b"PROXY TCP6 2001:db8::1 2001:DB8::9 1 65535\r\n",
            source("[2001:db8::1]:1"),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
            source("192.0.2.1:1"),
        ),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 what ever 1 2\r\n", None),
        (&v2(0x21, 0x11, V4_ADDRESSES), source("192.0.2.1:4660")),
        (&v2(0x21, 0x11, &long_v4), source("192.0.2.1:4660")),
        (
            &v2(0x21, 0x21, &v6_addresses("2001:db8::1")),
            source("[2001:db8::1]:4660"),
        ),
        (
            &v2(0x21, 0x21, &v6_addresses("::ffff:192.0.2.1")),
            source("192.0.2.1:4660"),
        ),
        (&v2(0x21, 0x31, &[b'x'; 216]), None),
        (&v2(0x21, 0x00, &longest), None),
        (&v2(0x20, 0x00, &[]), None),
        // LOCAL: the family and the addresses do not matter.
        (&v2(0x20, 0x11, &[]), None),
        (&v2(0x20, 0x12, V4_ADDRESSES), None),
        (&v2(0x20, 0xFF, &[1]), None),
    ];
    for (bytes, source) in table {
        let header = ProxyHeader {
            len: bytes.len(),
            source: *source,
        };
        for have in 0..bytes.len() {
            assert_eq!(parse(&bytes[..have]), Ok(None), "{have} of {bytes:?}");
        }
        assert_eq!(parse(bytes), Ok(Some(header)), "{bytes:?}");
        let followed = [bytes, &b"\x16\x03\x01 and TLS\r\n"[..]].concat();
        assert_eq!(parse(&followed), Ok(Some(header)), "{bytes:?}");
    }
}

/// The last byte of each row is the first that cannot belong to a header.
#[test]
fn bad_header_is_refused_at_the_first_impossible_byte() {
    use BadProxyHeader::*;
    let too_long_v1 = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92]].concat();
    let too_long_v4 = [b"PROXY TCP4 ".as_slice(), &[b'1'; 95]].concat();
    let table: &[(&[u8], BadProxyHeader)] = &[
        (b"\x16", Signature),
        (b"G", Signature),
        (b"PO", Signature),
        (b"PROXy", Signature),
        (b"PROXY\t", Signature),
        (b"PROXY\r", Signature),
        (b"PROXY t", Line),
        (b"PROXY TCP5", Line),
        (b"PROXY TCP4\t", Line),
        (b"PROXY UNKNOWNX", Line),
        (b"PROXY TCP4 a", Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.9 +", Line),
        (b"PROXY TCP4 192.0.2.1\n", Line),
        (b"PROXY TCP6 g", Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\rX", Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\r", Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.9 1\r\n", Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.9 1 65536\r\n", Line),
        (b"PROXY TCP4 192.0.2.256 192.0.2.9 1 2\r\n", Line),
        (b"PROXY TCP4 192.0.2.1  192.0.2.9 1 2\r\n", Line),
        (b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2 \r\n", Line),
        (b"PROXY TCP6 1::2::3 ::1 1 2\r\n", Line),
        (&too_long_v1, TooLong),
        (&too_long_v4, TooLong),
        (b"\r\n\r\n\0\r\nQUIT\r", Signature),
        (b"\r\n\r\n\x01", Signature),
        (b"\r\n\r\n\0\r\nQUIT\n\x22", Command),
        (b"\r\n\r\n\0\r\nQUIT\n\x11", Command),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x12", Family),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x41", Family),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0b", TooShort),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x23", TooShort),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x31\x00\xd7", TooShort),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x02\x09", TooLong),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\xff\xff", TooLong),
    ];
    for (bytes, why) in table {
        for have in 0..bytes.len() {
            assert_eq!(parse(&bytes[..have]), Ok(None), "{have} of {bytes:?}");
        }
        assert_eq!(parse(bytes), Err(*why), "{bytes:?}");
        let followed = [bytes, &b"\r\n"[..]].concat();
        assert_eq!(parse(&followed), Err(*why), "{bytes:?}");
    }
}

#[test]
fn longest_v1_line_is_accepted() {
    let line = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
        ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(line.len(), 107);
    let header = ProxyHeader {
        len: 107,
        source: None,
    };
    assert_eq!(parse(line), Ok(Some(header)));
}

/// Found by fuzzing: a bad byte far after the end of the longest line changed the error.
#[test]
fn bytes_after_a_line_that_is_too_long_are_ignored() {
    let mut bytes = b"PROXY TCP4 ".to_vec();
    bytes.resize(106, b'1');
    for behind in [&b""[..], b"1", b"\xCC", b"\r\n", b"1111\r\n"] {
        let bytes = [&bytes, behind].concat();
        assert_eq!(parse(&bytes), Err(BadProxyHeader::TooLong), "{behind:?}");
    }
}

#[test]
fn written_headers_parse_to_the_same_addresses() {
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let (four, other) = (at("192.0.2.1:4660"), at("192.0.2.9:443"));
    let (six, mapped) = (at("[2001:db8::1]:4660"), at("[::ffff:192.0.2.9]:443"));
    for (source, destination, line) in [
        (four, other, "PROXY TCP4 192.0.2.1 192.0.2.9 4660 443\r\n"),
        (four, mapped, "PROXY TCP4 192.0.2.1 192.0.2.9 4660 443\r\n"),
        (
            six,
            other,
            "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.9 4660 443\r\n",
        ),
        (
            four,
            six,
            "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 4660 4660\r\n",
        ),
    ] {
        let text = header(ProxyVersion::V1, source, destination);
        assert_eq!(String::from_utf8_lossy(&text), line);
        for bytes in [text, header(ProxyVersion::V2, source, destination)] {
            let read = parse(&bytes).unwrap().unwrap();
            assert_eq!((read.len, read.source), (bytes.len(), Some(source)));
        }
    }
    assert_eq!(
        header(ProxyVersion::V2, four, other),
        v2(0x21, 0x11, V4_ADDRESSES)
    );
}
