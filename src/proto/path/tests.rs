use crate::proto::path::*;
use proptest::prelude::*;

#[test]
fn paths_have_one_form() {
    for (written, expected) in [
        // Unchanged paths
        ("/", "/"),
        ("/ws", "/ws"),
        ("/ws/", "/ws/"),
        ("/a/b/c", "/a/b/c"),
        ("/a-b_c.d~e", "/a-b_c.d~e"),
        ("/a!$&'()*+,;=:@", "/a!$&'()*+,;=:@"),
        ("/a|b^c\"d`e{f}[g]<h>", "/a|b^c\"d`e{f}[g]<h>"),
        ("/%20", "/%20"),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/a;v=1.1/b", "/a;v=1.1/b"),
        // Escapes: in upper case, and only where needed
        ("/%c3%a9", "/%C3%A9"),
        ("/%C3%a9", "/%C3%A9"),
        ("/%3a%3A", "/%3A%3A"),
        ("/%7euser", "/~user"),
        ("/%7Euser", "/~user"),
        ("/%41%5A%61%7a", "/AZaz"),
        ("/%30%39", "/09"),
        ("/%2d%5f", "/-_"),
        ("/%77%73", "/ws"),
        ("/%3F%23", "/%3F%23"),
        ("/%3f%23", "/%3F%23"),
        ("/%ff%80", "/%FF%80"),
        ("/%22%3c%3e", "/%22%3C%3E"),
        // Decoded only once: an escape behind an escaped percent sign stays
        ("/%25", "/%25"),
        ("/%252e%252e/", "/%252e%252e/"),
        ("/%252F", "/%252F"),
        ("/%2525", "/%2525"),
        ("/%2541", "/%2541"),
        // Dot segments (RFC 3986 §5.2.4)
        ("/.", "/"),
        ("/./", "/"),
        ("/././.", "/"),
        ("/a/.", "/a/"),
        ("/a/./b", "/a/b"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/a/b/../..", "/"),
        ("/a/b/c/./../../g", "/a/g"),
        ("/mid/content=5/../6", "/mid/6"),
        ("/a/../b/../c", "/c"),
        // … which may be escaped
        ("/%2e", "/"),
        ("/%2E/", "/"),
        ("/a/%2e", "/a/"),
        ("/a/%2E%2e", "/"),
        ("/a/.%2e/b", "/b"),
        ("/a/%2e./b", "/b"),
        ("/a/%2e%2E/%2e/b", "/b"),
        ("/ws/%2e%2e/admin", "/admin"),
        // … and are whole segments
        ("/...", "/..."),
        ("/a/..b", "/a/..b"),
        ("/a/b..", "/a/b.."),
        ("/.well-known/x", "/.well-known/x"),
        ("/%2ewell-known/x", "/.well-known/x"),
        ("/a/..;/b", "/a/..;/b"),
        ("/a/..%20/b", "/a/..%20/b"),
        ("/%2e%2e%2e", "/..."),
        // Empty segments are removed, except at the end
        ("//", "/"),
        ("//a", "/a"),
        ("///a", "/a"),
        ("/a//b", "/a/b"),
        ("/a//", "/a/"),
        ("/a//..", "/"),
        ("/a//../b", "/b"),
        ("/a/./", "/a/"),
        ("/a/.//b", "/a/b"),
    ] {
        let normal = NormalPath::parse(written).unwrap_or_else(|e| panic!("{written}: {e}"));
        assert_eq!(normal.as_str(), expected, "{written}");
        let borrowed = matches!(normal.normal, Cow::Borrowed(_));
        assert_eq!(borrowed, written == expected, "{written}");
    }
}

#[test]
fn ambiguous_paths_are_rejected() {
    use BadPath::*;
    for (written, expected) in [
        ("", NotAbsolute),
        ("*", NotAbsolute),
        ("ws", NotAbsolute),
        ("../ws", NotAbsolute),
        ("%2Fws", NotAbsolute),
        ("https://example.com/", NotAbsolute),
        ("example.com:443", NotAbsolute),
        ("\\ws", NotAbsolute),
        ("/ ", Character),
        ("/a b", Character),
        ("/a\tb", Character),
        ("/a\r\nX: y", Character),
        ("/a\0", Character),
        ("/a\u{7f}", Character),
        ("/a?x", Character),
        ("/a#x", Character),
        ("/caf\u{e9}", Character),
        ("/\u{2028}", Character),
        ("/a\\b", Backslash),
        ("/..\\..", Backslash),
        ("/a%5cb", Backslash),
        ("/a%5C..%5Cb", Backslash),
        ("/%", Escape),
        ("/%4", Escape),
        ("/%4/1", Escape),
        ("/%zz", Escape),
        ("/%g0", Escape),
        ("/%0g", Escape),
        ("/%%41", Escape),
        ("/%u0041", Escape),
        ("/%+1", Escape),
        ("/% 1", Escape),
        ("/a%c3%", Escape),
        ("/%\u{e9}", Escape),
        ("/%00", Control),
        ("/a%00.html", Control),
        ("/%0a", Control),
        ("/%0D%0AX:y", Control),
        ("/%09", Control),
        ("/%1f", Control),
        ("/%7f", Control),
        ("/%7F", Control),
        ("/..", AboveRoot),
        ("/../", AboveRoot),
        ("/../a", AboveRoot),
        ("/a/../..", AboveRoot),
        ("/./..", AboveRoot),
        ("/%2e%2e", AboveRoot),
        ("/%2e%2e/etc/passwd", AboveRoot),
        ("/.%2E/a", AboveRoot),
        ("/a/%2e%2e/%2e%2e/b", AboveRoot),
        ("//../..", AboveRoot),
        ("//..", AboveRoot),
        ("//../a", AboveRoot),
        ("/admin%2Fx", EscapedSlash),
        ("/a%2fb/..", EscapedSlash),
        ("/%2F", EscapedSlash),
        ("/..%2f", EscapedSlash),
        ("/..%2Fadmin", EscapedSlash),
        ("/ws/..%2Fadmin", EscapedSlash),
        ("/ws/%2e%2e%2fadmin", EscapedSlash),
        ("/ws/x%2F..", EscapedSlash),
        ("/ws/x%2f%2e%2e%2fadmin", EscapedSlash),
        ("/ws/%2F..", EscapedSlash),
        ("/ws/.%2Fx", EscapedSlash),
        ("/ws/x%2F.", EscapedSlash),
    ] {
        assert_eq!(NormalPath::parse(written), Err(expected), "{written:?}");
    }
}

/// Paths made of significant parts: dots, slashes, their escapes, and some other characters.
fn paths() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => Just("/".to_owned()),
        2 => Just(".".to_owned()),
        2 => Just("..".to_owned()),
        1 => "%2[efEF]",
        1 => "%[0-9a-fA-F]{2}",
        1 => Just("%25".to_owned()),
        3 => "[a-zA-Z0-9~_;=|-]{1,3}",
        1 => "[ -~]",
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| format!("/{}", parts.concat()))
}

/// Decodes all escapes, as some backends do.
fn unescaped(path: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(path).collect()
}

proptest! {
    #[test]
    fn normalising_is_idempotent(path in paths()) {
        if let Ok(once) = NormalPath::parse(&path) {
            let twice = NormalPath::parse(once.as_str());
            prop_assert_eq!(twice.as_ref(), Ok(&once));
            let is_borrowed = twice.is_ok_and(|twice| matches!(twice.normal, Cow::Borrowed(_)));
            prop_assert!(is_borrowed);
        }
    }

    #[test]
    fn normal_path_decodes_to_no_dot_segment_backslash_or_control(path in paths()) {
        if let Ok(normal) = NormalPath::parse(&path) {
            prop_assert!(normal.as_str().starts_with('/'));
            let bytes = unescaped(normal.as_str());
            prop_assert!(!bytes.iter().any(|byte| byte.is_ascii_control() || *byte == b'\\'));
            for segment in bytes.split(|byte| *byte == b'/') {
                prop_assert!(segment != b"." && segment != b"..", "{}", normal);
            }
        }
    }

    #[test]
    fn normalising_keeps_the_decoded_path(path in "(/([a-z~|]|%[2-7][0-9A-Fa-f]){1,4}){1,4}") {
        if let Ok(normal) = NormalPath::parse(&path)
            && !unescaped(&path).split(|byte| *byte == b'/').any(|s| s == b"." || s == b"..")
        {
            prop_assert_eq!(unescaped(normal.as_str()), unescaped(&path));
            prop_assert_eq!(normal.as_str().matches('/').count(), path.matches('/').count());
        }
    }

    #[test]
    fn parse_never_panics(path in "\\PC{0,40}|/.{0,40}") {
        let _ = NormalPath::parse(&path);
    }
}

#[test]
fn prefix_is_removed_only_at_a_segment_boundary() {
    for (path, prefix, expected) in [
        ("/ws", "/ws", Some("/")),
        ("/ws/", "/ws", Some("/")),
        ("/ws/chat", "/ws", Some("/chat")),
        ("/ws/chat/", "/ws", Some("/chat/")),
        ("/ws/ws", "/ws", Some("/ws")),
        ("/ws/chat", "/ws/", Some("/chat")),
        ("/ws", "/ws/", Some("/")),
        ("/api/v1/ws", "/api/v1", Some("/ws")),
        ("/wsx", "/ws", None),
        ("/WS/chat", "/ws", None),
        ("/other", "/ws", None),
        ("/", "/ws", None),
        ("/a/ws/chat", "/ws", None),
        ("/ws/chat", "", None),
        ("/ws/chat", "/", None),
        // Compared decoded; what remains is forwarded as it was.
        ("/%40me/a%40b", "/@me", Some("/a%40b")),
        ("/@me/x", "/%40me", Some("/x")),
        ("/%40me%2Dx/y", "/@me", None),
        ("/%2540me/x", "/@me", None),
        ("/caf%C3%A9/x", "/café", Some("/x")),
        ("/a%20b", "/a b", Some("/")),
    ] {
        let normal = NormalPath::parse(path).unwrap();
        assert_eq!(normal.strip_prefix(prefix), expected, "{path} {prefix}");
    }
}

#[test]
fn dot_segments_cannot_leave_the_prefix() {
    let normal = NormalPath::parse("/ws/%2e%2e/admin").unwrap();
    assert_eq!(normal.strip_prefix("/ws"), None);
}
