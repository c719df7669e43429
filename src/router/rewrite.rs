//! Removes a route's `strip_prefix` from the forwarded path.

use super::NormalPath;

/// Removes `prefix` from a path at a segment boundary; the result is never empty. Returns `None` if the path does not
/// begin with the prefix, or the prefix is empty: the path is then forwarded unchanged, and no prefix is sent to the
/// backend.
pub fn strip_prefix<'p>(path: &'p NormalPath<'_>, prefix: &str) -> Option<&'p str> {
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() {
        return None;
    }
    match path.as_str().strip_prefix(prefix)? {
        "" => Some("/"),
        rest => rest.starts_with('/').then_some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            let normal = NormalPath::parse(path).unwrap();
            assert_eq!(strip_prefix(&normal, prefix), expected, "{path} {prefix}");
        }
    }

    #[test]
    fn dot_segments_cannot_leave_the_prefix() {
        let normal = NormalPath::parse("/ws/%2e%2e/admin").unwrap();
        assert_eq!(strip_prefix(&normal, "/ws"), None);
    }
}
