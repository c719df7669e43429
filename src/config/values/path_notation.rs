//! Paths in the notation of web frameworks and other proxies: `/ws/{room}`, `/ws/<room>`, `/ws/:room`, `^~ /ws/`. None
//! of them is a pattern here; each is translated to the pattern that was probably meant.

/// A path in the notation of other software, translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignPath {
    /// The part that is no pattern here, such as `{room}`.
    pub(crate) part: String,
    /// The pattern that was probably meant.
    pub(crate) fix: String,
    /// A simpler pattern that also matches deeper paths.
    pub(crate) wider: Option<String>,
    /// Whether the part is also a valid literal path, which no client is likely to request.
    pub(crate) is_literal: bool,
}

/// One piece of a translated path.
enum Piece<'a> {
    Literal(&'a str),
    /// One path segment, or a part of it, as a regular expression.
    Segment(&'a str),
    /// The rest of the path.
    Rest,
}

// === impl ForeignPath ===

impl ForeignPath {
    /// Returns the translation of `text`; `None` if it has no notation of other software. The result may be invalid.
    pub(crate) fn translate(text: &str) -> Option<ForeignPath> {
        if text.starts_with("~ ") {
            return None;
        }
        if let Some(found) = modifier(text) {
            return Some(found);
        }
        if let Some((_, rest)) = text.split_once("://") {
            let path = rest.find('/').map_or("/*", |slash| &rest[slash..]);
            let path = path_alone(path);
            let fix = Self::translate(&path).map_or(path, |found| found.fix);
            return Some(ForeignPath::new(text, fix));
        }
        if matches!(text, "" | "*" | "**" | "/**") {
            return Some(ForeignPath::new(text, "/*".to_owned()));
        }
        if let Some(found) = expression(text) {
            return Some(found);
        }
        let rooted = match text.strip_prefix('/') {
            Some(_) => text.to_owned(),
            None => format!("/{text}"),
        };
        if let Some((path, query)) = rooted.split_once('?') {
            let path = path_alone(path);
            let fix = Self::translate(&path).map_or(path, |found| found.fix);
            return Some(ForeignPath::new(format!("?{query}"), fix));
        }
        match parameters(&rooted) {
            Some(found) => Some(ForeignPath {
                is_literal: found.is_literal && rooted == text,
                ..found
            }),
            None => (rooted != text).then(|| ForeignPath::new(text, rooted)),
        }
    }

    fn new(part: impl Into<String>, fix: String) -> ForeignPath {
        ForeignPath {
            part: part.into(),
            fix,
            wider: None,
            is_literal: false,
        }
    }

    /// Returns the hint: the line that was probably meant.
    pub(crate) fn hint(&self) -> String {
        let fix = quoted(&self.fix);
        match &self.wider {
            Some(wider) => {
                let below = wider.trim_end_matches("/*");
                format!(
                    "write path = \"{wider}\" for everything below {below}, or path = {fix} for one segment"
                )
            }
            None => format!("write path = {fix}"),
        }
    }
}

/// Translates the modifiers of nginx's `location`, and matchers of Traefik.
fn modifier(text: &str) -> Option<ForeignPath> {
    let below = |path: &str| format!("{}/*", path.trim().trim_end_matches('/'));
    let inside = |name: &str| {
        let inner = text.strip_prefix(name)?.strip_suffix(')')?;
        Some(inner.trim_matches(['`', '"', '\'']).to_owned())
    };
    let (part, fix) = if let Some(path) = text.strip_prefix("= ") {
        ("=", path.trim().to_owned())
    } else if let Some(path) = text.strip_prefix("^~") {
        ("^~", below(path))
    } else if let Some(expression) = text.strip_prefix("~*") {
        ("~*", format!("~ (?i){}", expression.trim()))
    } else if let Some(expression) = text.strip_prefix('~') {
        ("~", format!("~ {}", expression.trim()))
    } else if let Some(path) = inside("PathPrefix(") {
        ("PathPrefix", below(&path))
    } else if let Some(path) = inside("Path(") {
        ("Path", path)
    } else {
        return None;
    };
    Some(ForeignPath::new(part, fix))
}

/// Translates a regular expression that is written without `~`.
fn expression(text: &str) -> Option<ForeignPath> {
    if let Some(prefix) = ["/.*", "/(.*)", "/.+"]
        .iter()
        .find_map(|end| text.strip_suffix(end))
        && is_plain(prefix)
        && (prefix.is_empty() || prefix.starts_with('/'))
    {
        let part = &text[prefix.len()..];
        return Some(ForeignPath {
            is_literal: !part.contains('*'),
            ..ForeignPath::new(part, format!("{prefix}/*"))
        });
    }
    let is_certain = text.starts_with('^')
        || text.contains(['\\', '['])
        || text.contains('(') && text.contains('|')
        || [".*", "(?", ")*", ")?"]
            .iter()
            .any(|part| text.contains(part));
    let is_likely = text.ends_with('$') || text.contains(".+") || text.contains(")+");
    // Braces and angle brackets are parameters, unless the whole is an expression.
    let has_parameter = text.contains('{') || text.contains("/<");
    if !(is_certain || is_likely) || has_parameter && !text.contains("(?") {
        return None;
    }
    let bare = text.trim_start_matches('^');
    let bare = bare.strip_prefix('/').unwrap_or(bare);
    let end = if bare.ends_with('$') { "" } else { "$" };
    Some(ForeignPath {
        is_literal: !is_certain && text.starts_with('/'),
        ..ForeignPath::new(text, format!("~ ^/{bare}{end}"))
    })
}

/// Translates parameters: `{room}`, `{room:path}`, `<room>`, `<int:room>`, `:room`, `*rest` and `**`.
fn parameters(path: &str) -> Option<ForeignPath> {
    let (mut pieces, mut parts) = (Vec::new(), Vec::new());
    let (mut start, mut at, mut is_literal) = (0, 0, true);
    while at < path.len() {
        let rest = &path[at..];
        // "/*" at the end is a pattern of this project.
        if rest == "*" && path[..at].ends_with('/') {
            break;
        }
        let Some((len, piece)) = parameter(rest, path[..at].ends_with('/')) else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        pieces.push(Piece::Literal(&path[start..at]));
        is_literal &= rest.starts_with(':');
        parts.push(&rest[..len]);
        pieces.push(piece);
        at += len;
        start = at;
    }
    let part = (*parts.first()?).to_owned();
    pieces.push(Piece::Literal(&path[start..]));
    let (fix, wider) = match &pieces[..] {
        [
            Piece::Literal(before),
            Piece::Segment(PART),
            Piece::Literal(""),
        ] if !before.ends_with('/') => (pattern(&pieces), Some(format!("{before}/*"))),
        [
            Piece::Literal(before),
            Piece::Rest,
            Piece::Literal("" | "/" | "/*"),
        ] if before.ends_with('/') => (format!("{before}*"), None),
        [
            Piece::Literal(before),
            Piece::Segment(_),
            Piece::Literal(""),
        ] if before.ends_with('/') => (pattern(&pieces), Some(format!("{before}*"))),
        _ => (pattern(&pieces), None),
    };
    Some(ForeignPath {
        part,
        fix,
        wider,
        is_literal,
    })
}

/// Returns the length of the parameter that `text` begins with, and its translation.
fn parameter(text: &str, begins_segment: bool) -> Option<(usize, Piece<'_>)> {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        bytes.next().is_some_and(is_first)
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if let Some(rest) = text.strip_prefix('{') {
        let inner = &rest[..closing(rest, '{', '}')?];
        let (name, kind) = inner.split_once(':').unwrap_or((inner, ""));
        let is_rest = name.starts_with('*') || name.ends_with("...");
        let piece = if is_rest { Piece::Rest } else { of_kind(kind) };
        return Some((inner.len() + 2, piece));
    }
    if let Some(rest) = text.strip_prefix('<') {
        let inner = &rest[..closing(rest, '<', '>')?];
        let (kind, _) = inner.split_once(':').unwrap_or(("", inner));
        return Some((inner.len() + 2, of_kind(kind)));
    }
    let name_len = |rest: &str| {
        let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        rest.find(is_end).unwrap_or(rest.len())
    };
    if let Some(rest) = text.strip_prefix(':').filter(|_| begins_segment) {
        let len = name_len(rest);
        return is_name(&rest[..len]).then_some((len + 1, Piece::Segment(SEGMENT)));
    }
    let rest = text.strip_prefix('*')?;
    let len = name_len(rest);
    Some(match rest.strip_prefix('*') {
        Some(_) => (2, Piece::Rest),
        None if is_name(&rest[..len]) && begins_segment => (len + 1, Piece::Rest),
        None => (1, Piece::Segment(PART)),
    })
}

/// Returns the translation of a converter such as `int`, or of an expression in its place.
fn of_kind(kind: &str) -> Piece<'_> {
    match kind {
        "path" => Piece::Rest,
        "int" => Piece::Segment("[0-9]+"),
        "float" => Piece::Segment("[0-9.]+"),
        "uuid" => Piece::Segment("[0-9a-fA-F-]+"),
        // Gorilla, chi, aiohttp: an expression.
        kind if kind.contains(['[', '\\', '.', '(']) => Piece::Segment(kind),
        _ => Piece::Segment(SEGMENT),
    }
}

/// Returns where the bracket ends whose content `text` begins with; it does not include a slash of the path.
fn closing(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 1;
    text.char_indices().find_map(|(at, c)| {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
        }
        (depth == 0).then_some(at)
    })
}

fn pattern(pieces: &[Piece<'_>]) -> String {
    let mut text = "~ ^".to_owned();
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => {
                // A final "/*" has nothing to match behind a parameter.
                for c in literal.strip_suffix("/*").unwrap_or(literal).chars() {
                    match c {
                        '.' | '+' | '?' | '(' | ')' | '|' | '[' | ']' | '$' | '*' | '{' | '}' => {
                            text.extend(['[', c, ']']);
                        }
                        c => text.push(c),
                    }
                }
                if literal.ends_with("/*") {
                    text.push_str("(/.*)?");
                }
            }
            Piece::Segment(expression) => text.push_str(expression),
            Piece::Rest => text.push_str(".*"),
        }
    }
    text.push('$');
    text
}

/// Returns a path without query and fragment; a final slash of a directory becomes a prefix.
fn path_alone(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    match path {
        "" | "/" | "/*" => "/*".to_owned(),
        path => path.to_owned(),
    }
}

fn is_plain(path: &str) -> bool {
    !path.contains(|c: char| c.is_control() || "*?#\\{}<>[]()^$|".contains(c))
}

/// Writes a TOML string. One with backslashes is literal, because a basic string would need each of them twice.
pub(crate) fn quoted(text: &str) -> String {
    if text.contains(['\\', '"']) && !text.contains('\'') {
        format!("'{text}'")
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// One path segment.
const SEGMENT: &str = "[^/]+";

/// A part of a path segment, which may be empty.
const PART: &str = "[^/]*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notations_of_other_software_are_translated() {
        for (text, fix) in [
            ("/ws/{room}", "~ ^/ws/[^/]+$"),
            ("/ws/{room}/", "~ ^/ws/[^/]+/$"),
            ("/ws/{room_id:int}", "~ ^/ws/[0-9]+$"),
            ("/ws/{rest:path}", "/ws/*"),
            ("/ws/{*rest}", "/ws/*"),
            ("/ws/{rest...}", "/ws/*"),
            ("/ws/{id:[0-9]{2}}", "~ ^/ws/[0-9]{2}$"),
            ("/{tenant}/ws", "~ ^/[^/]+/ws$"),
            ("/ws/room-{id}.json", "~ ^/ws/room-[^/]+[.]json$"),
            ("/{tenant}/ws/*", "~ ^/[^/]+/ws(/.*)?$"),
            ("/ws/<room>", "~ ^/ws/[^/]+$"),
            ("/ws/<int:room>", "~ ^/ws/[0-9]+$"),
            ("/ws/<path:rest>", "/ws/*"),
            ("ws/chat/<str:room>/", "~ ^/ws/chat/[^/]+/$"),
            ("/ws/:room", "~ ^/ws/[^/]+$"),
            ("/ws/:room/:user", "~ ^/ws/[^/]+/[^/]+$"),
            ("/ws/*rest", "/ws/*"),
            ("/ws/**", "/ws/*"),
            ("/ws/*/chat", "~ ^/ws/[^/]*/chat$"),
            ("/ws*", "~ ^/ws[^/]*$"),
            ("/ws/.*", "/ws/*"),
            ("/ws/[0-9]+", "~ ^/ws/[0-9]+$"),
            ("/ws$", "~ ^/ws$"),
            ("^/ws/", "~ ^/ws/$"),
            (r"^ws/(?P<room>\w+)/$", r"~ ^/ws/(?P<room>\w+)/$"),
            ("= /ws", "/ws"),
            ("^~ /ws/", "/ws/*"),
            ("~* ^/ws", "~ (?i)^/ws"),
            ("~^/ws", "~ ^/ws"),
            ("PathPrefix(`/ws`)", "/ws/*"),
            ("wss://chat.example.com/ws", "/ws"),
            ("wss://chat.example.com", "/*"),
            ("/ws?token=1", "/ws"),
            ("ws", "/ws"),
            ("", "/*"),
            ("*", "/*"),
        ] {
            let found =
                ForeignPath::translate(text).unwrap_or_else(|| panic!("{text} is not found"));
            assert_eq!(found.fix, fix, "{text}");
        }
        for text in [
            "/",
            "/*",
            "/ws",
            "/ws/",
            "/ws/*",
            "/a:b",
            "/v1/users:get",
            "/a/%7Bb%7D",
            "/@me",
            "/a(b)",
            "/a.b",
            "/caf%C3%A9/*",
            "~ ^/ws/{2}$",
            "/a$b",
            "/1:2",
            "/:80",
        ] {
            assert_eq!(ForeignPath::translate(text), None, "{text}");
        }
    }
}
