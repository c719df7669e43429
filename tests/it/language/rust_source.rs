//! A lexer that splits Rust into names, comments and string literals.

/// A Rust file, split into code and text.
#[derive(Default)]
pub(super) struct RustSource {
    /// Identifiers, keywords and punctuation characters, with their lines.
    pub(super) code: Vec<(usize, String)>,
    /// Comments and string literals without markers and escapes, line by line.
    pub(super) text: Vec<Text>,
}

/// A run of `//` comments, a block comment or a string literal, with the line of each of its lines.
pub(super) struct Text {
    pub(super) is_comment: bool,
    pub(super) lines: Vec<(usize, String)>,
}

impl RustSource {
    pub(super) fn lex(source: &str) -> Self {
        let mut lexed = Self::default();
        let mut line = 1;
        let mut rest = source;
        // The line of a `//` comment that the next line may continue.
        let mut comment = None;
        while let Some(first) = rest.chars().next() {
            let len;
            if rest.starts_with("//") {
                len = rest.find('\n').unwrap_or(rest.len());
                let text = (line, rest[..len].to_owned());
                match lexed.text.last_mut() {
                    Some(open) if comment.is_some_and(|last| last + 1 == line) => {
                        open.lines.push(text)
                    }
                    _ => lexed.push_text(true, vec![text]),
                }
                comment = Some(line);
            } else if rest.starts_with("/*") {
                len = block_comment_len(rest);
                let lines = rest[..len].trim_end_matches("*/").lines();
                let lines = lines
                    .enumerate()
                    .map(|(index, text)| (line + index, text.to_owned()));
                lexed.push_text(true, lines.collect());
                comment = None;
            } else if let Some((start, end, after)) = string_literal(rest) {
                len = after;
                let is_raw = rest[..start].contains('r');
                lexed.push_text(false, string_lines(&rest[start..end], line, is_raw));
                comment = None;
            } else if first == '\'' {
                len = quote_len(rest);
                comment = None;
            } else if first.is_alphanumeric() || first == '_' {
                len = word_len(rest);
                if !first.is_numeric() {
                    lexed.code.push((line, rest[..len].to_owned()));
                }
                comment = None;
            } else {
                len = first.len_utf8();
                if !first.is_whitespace() {
                    lexed.code.push((line, first.to_string()));
                    comment = None;
                }
            }
            line += rest[..len].matches('\n').count();
            rest = &rest[len..];
        }
        lexed
    }

    fn push_text(&mut self, is_comment: bool, lines: Vec<(usize, String)>) {
        self.text.push(Text { is_comment, lines });
    }

    /// Returns true if the token names a function with a `#[test]` or `#[…::test]` attribute.
    pub(super) fn is_test_name(&self, index: usize) -> bool {
        let token = |index: usize| self.code.get(index).map_or("", |(_, text)| text.as_str());
        if index == 0 || token(index - 1) != "fn" {
            return false;
        }
        // The attributes follow the last item's `}` or `;`, or the `{` of the module.
        let item = (0..index)
            .rev()
            .find(|&at| matches!(token(at), "}" | ";" | "{"));
        (item.map_or(0, |at| at + 1)..index).any(|at| {
            let mut path = at + 2;
            while token(path + 1) == ":" {
                path += 3;
            }
            token(at) == "#" && token(at + 1) == "[" && token(path) == "test"
        })
    }
}

/// Returns the parts of a `snake_case` or `CamelCase` name, in lower case.
pub(super) fn name_parts(name: &str) -> Vec<String> {
    let chars: Vec<_> = name.chars().collect();
    let mut parts = vec![String::new()];
    for (index, &c) in chars.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| chars[before]);
        let after_is_lower = chars.get(index + 1).is_some_and(|c| c.is_lowercase());
        let starts_part =
            c.is_uppercase() && before.is_some_and(|b| !b.is_uppercase() || after_is_lower);
        if c == '_' || starts_part {
            parts.push(String::new());
        }
        if c != '_' {
            parts
                .last_mut()
                .expect("never empty")
                .extend(c.to_lowercase());
        }
    }
    parts
}

fn word_len(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len())
}

/// Returns the length of a block comment, with those nested in it.
fn block_comment_len(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Returns the start and end of the content of a string literal at the start of `text`, and the end
/// of the literal.
fn string_literal(text: &str) -> Option<(usize, usize, usize)> {
    let prefix = text.find(|c: char| !"bcr".contains(c))?;
    if !["", "b", "c", "r", "br", "cr"].contains(&&text[..prefix]) {
        return None;
    }
    let is_raw = text[..prefix].ends_with('r');
    let hashes = text[prefix..].find(|c| c != '#')?;
    let start = prefix + hashes + 1;
    if !text[prefix + hashes..].starts_with('"') || (hashes > 0 && !is_raw) {
        return None;
    }
    if is_raw {
        let terminator = format!("\"{}", "#".repeat(hashes));
        let end = start + text[start..].find(&terminator)?;
        return Some((start, end, end + terminator.len()));
    }
    let mut is_escaped = false;
    let end = text[start..].find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    })?;
    Some((start, start + end, start + end + 1))
}

/// Splits the content of a string literal at line ends and `\n`. Other escapes become their
/// character or a space.
fn string_lines(content: &str, mut line: usize, is_raw: bool) -> Vec<(usize, String)> {
    let mut lines = vec![(line, String::new())];
    let mut chars = content.chars();
    while let Some(c) = chars.next() {
        let escaped = (c == '\\' && !is_raw).then(|| chars.next()).flatten();
        let decoded = match escaped {
            Some('x') => {
                chars.nth(1);
                ' '
            }
            Some('u') => {
                chars.find(|&c| c == '}');
                ' '
            }
            Some('n') => '\n',
            Some('t' | 'r' | '0') => ' ',
            Some(other) => other,
            None => c,
        };
        line += usize::from(c == '\n' || escaped == Some('\n'));
        if decoded == '\n' {
            lines.push((line, String::new()));
        } else {
            lines.last_mut().expect("never empty").1.push(decoded);
        }
    }
    lines
}

/// Returns the length of a character literal or of a lifetime.
fn quote_len(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next().unwrap_or((1, '\''));
    if first == '\\' {
        chars.next();
        return chars
            .find(|&(_, c)| c == '\'')
            .map_or(text.len(), |(at, _)| at + 1);
    }
    match chars.next() {
        Some((at, '\'')) => at + 1,
        _ => 1 + word_len(&text[1..]),
    }
}
