//! Patterns for one name, as in glob(7): `*`, `?`, `[…]` with ranges and classes, and `\`. A leading period is only
//! matched by a period, so that the lock and swap files of editors are not.

/// A pattern for the name of a file or folder.
#[derive(Debug, Clone)]
pub(crate) struct NamePattern(Vec<Token>);

#[derive(Debug, Clone)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
    Set {
        is_negated: bool,
        members: Vec<Member>,
    },
}

/// A part of `[…]`.
#[derive(Debug, Clone)]
enum Member {
    Range(char, char),
    Class(fn(&char) -> bool),
}

// === impl NamePattern ===

impl NamePattern {
    /// Parses a pattern. Every text is one: a `[` without its end is the character itself (glob(7)).
    pub(crate) fn new(text: &str) -> NamePattern {
        let chars: Vec<char> = text.chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(&char) = chars.get(at) {
            at += 1;
            let token = match char {
                '*' if matches!(tokens.last(), Some(Token::Any)) => continue,
                '*' => Token::Any,
                '?' => Token::One,
                '\\' => match chars.get(at) {
                    Some(&escaped) => {
                        at += 1;
                        Token::Char(escaped)
                    }
                    None => Token::Char('\\'),
                },
                '[' => match set(&chars[at..]) {
                    Some((set, len)) => {
                        at += len;
                        set
                    }
                    None => Token::Char('['),
                },
                char => Token::Char(char),
            };
            tokens.push(token);
        }
        NamePattern(tokens)
    }

    /// Returns whether the whole name matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        if name.starts_with('.') && !matches!(self.0.first(), Some(Token::Char('.'))) {
            return false;
        }
        let name: Vec<char> = name.chars().collect();
        let (mut token, mut at) = (0, 0);
        // The last `*`, and the number of characters that it matches so far: a mismatch behind it extends it by one.
        let mut star: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.0.get(token) {
                Some(Token::Any) => {
                    star = Some((token, at));
                    token += 1;
                }
                Some(one) if one.matches(name[at]) => {
                    token += 1;
                    at += 1;
                }
                _ => match &mut star {
                    Some((any, from)) => {
                        *from += 1;
                        (token, at) = (*any + 1, *from);
                    }
                    None => return false,
                },
            }
        }
        self.0[token..]
            .iter()
            .all(|token| matches!(token, Token::Any))
    }
}

// === impl Token ===

impl Token {
    fn matches(&self, char: char) -> bool {
        match self {
            Token::Char(own) => *own == char,
            Token::One | Token::Any => true,
            Token::Set {
                is_negated,
                members,
            } => {
                let contains = members.iter().any(|member| match member {
                    Member::Range(from, to) => (*from..=*to).contains(&char),
                    Member::Class(contains) => contains(&char),
                });
                contains != *is_negated
            }
        }
    }
}

/// Parses a set behind its `[`. Returns it with its length, or `None` if it has no end.
fn set(text: &[char]) -> Option<(Token, usize)> {
    let is_negated = matches!(text.first(), Some('!' | '^'));
    let mut at = usize::from(is_negated);
    let start = at;
    let mut members = Vec::new();
    loop {
        let first = *text.get(at)?;
        at += 1;
        match first {
            // A `]` at the start is a member.
            ']' if at - 1 > start => break,
            '[' if text.get(at) == Some(&':') => {
                let len = text[at + 1..]
                    .windows(2)
                    .position(|end| end == [':', ']'])?;
                let name: String = text[at + 1..at + 1 + len].iter().collect();
                members.push(Member::Class(class(&name)?));
                at += len + 3;
                continue;
            }
            _ => {}
        }
        let first = if first == '\\' {
            at += 1;
            *text.get(at - 1)?
        } else {
            first
        };
        let last = match (text.get(at), text.get(at + 1)) {
            (Some('-'), Some(last)) if *last != ']' => {
                at += 2;
                *last
            }
            _ => first,
        };
        members.push(Member::Range(first, last));
    }
    let set = Token::Set {
        is_negated,
        members,
    };
    Some((set, at))
}

fn class(name: &str) -> Option<fn(&char) -> bool> {
    Some(match name {
        "alnum" => |char| char.is_alphanumeric(),
        "alpha" => |char| char.is_alphabetic(),
        "blank" => |char| matches!(char, ' ' | '\t'),
        "cntrl" => |char| char.is_control(),
        "digit" => char::is_ascii_digit,
        "graph" => |char| !char.is_whitespace() && !char.is_control(),
        "lower" => |char| char.is_lowercase(),
        "print" => |char| !char.is_control(),
        "punct" => char::is_ascii_punctuation,
        "space" => |char| char.is_whitespace(),
        "upper" => |char| char.is_uppercase(),
        "xdigit" => char::is_ascii_hexdigit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_glob_7() {
        for (pattern, matching, others) in [
            (
                "*.toml",
                &["a.toml", "a.b.toml", "ä.toml"][..],
                &[".toml", ".a.toml", "a.tom", "a.toml~", "toml"][..],
            ),
            (".*.toml", &[".a.toml"], &["a.toml"]),
            ("*", &["a"], &[".a"]),
            ("?", &["a", "ä"], &[".", "ab", ""]),
            ("[.a]x", &["ax"], &[".x"]),
            ("[!a]x", &["bx"], &["ax", ".x"]),
            ("[^a]x", &["bx"], &["ax"]),
            ("[a-c0]", &["a", "b", "c", "0"], &["d", "-", "A"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[[:digit:]x]*", &["1", "x2"], &["a"]),
            ("[!]a]", &["b"], &["]", "a"]),
            ("a[", &["a["], &["a"]),
            ("[abc", &["[abc"], &["a"]),
            ("a**b", &["ab", "axyb"], &["a"]),
            ("\\*.toml", &["*.toml"], &["a.toml"]),
            ("*a*b*c", &["abc", "xaxbxc", "abcabc"], &["abcb"]),
            ("a", &["a"], &["b", "ab", ""]),
        ] {
            let parsed = NamePattern::new(pattern);
            for name in matching {
                assert!(parsed.matches(name), "{pattern} {name}");
            }
            for name in others {
                assert!(!parsed.matches(name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = NamePattern::new(&"*a".repeat(100));
        assert!(!pattern.matches(&"a".repeat(99)));
        assert!(!NamePattern::new("*a*a*a*a*a*a*a*a*b").matches(&"a".repeat(255)));
    }
}
