//! The vocabulary of the project: words and phrases that comments, strings, documentation and names
//! do not contain.
//!
//! A pattern of class A fails at its first hit. A pattern of class B has a number of tolerated
//! hits, which must be equal to the number found, so that it only falls. A pattern without hits
//! moves to class A. `LOCKGATE_LANGUAGE_ALL=1` prints every hit instead of the first 200.

mod rust_source;

use self::rust_source::{RustSource, name_parts};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    sync::LazyLock,
};

/// Words of class A: forbidden in text and as a part of a name in Rust code.
const CLASS_A_WORDS: &str = "whoever whomever whom somebody nobody everybody anew thereby \
    thereupon he him his himself she her hers herself \
    anybody meanwhile beside tell tells told telling say says said hear hears heard";

/// Phrases of class A, separated by `|`.
const CLASS_A_PHRASES: &str = "would else|or else|so long as|for ever|no more|any more|by then|\
    shake hands|shakes hands|shook hands|both hands|takes leave|lets go|let go|sign of life|\
    what is new|who is new|of its own making|in the same breath|has its say|\
    believe him|believes him|that is all|, for|so many|as many as|what becomes of|what came of|\
    at the latest|on the way|goes on|comes to";

/// A `, for` counts only before one of these words, where it most likely joins two clauses. In a false
/// hit the comma can go.
const FOR_SUBJECTS: &str = "the a an it they this that there these those what which no every each \
    one its all we he you";

/// Verbs of speech: allowed after an RFC, and in a README or a help text after a person.
const SPEECH: &str = "tell tells told telling say says said hear hears heard";

const PERSONS: &str = "you operator operators user users developer developers administrator \
    administrators reader readers people";

/// Words that may stand between a person and a verb.
const AUXILIARIES: &str = "can cannot may must should will not never also to have has had is are \
    be want wants";

/// Parts of `snake_case` and `CamelCase` names in Rust code.
const NAME_PARTS: &str = "wish plea desk doorway pulse strain farewell shelf drawer errand slip \
    agency keeper steward examinee lookers looks summons belonging standing standings seldom \
    causes told hear heard say said wanted asked came meet stir nudge unwell shaking";

/// Whole names of constants in Rust code.
const CONSTANTS: &str = "MOST FEW LONGEST LARGEST ROOM PATIENCE PAUSE BREATH FAREWELL WHOLE HALF \
    ROOMY COMPANY UNHURRIED";

/// Beginnings of test names that state no behaviour.
const TEST_PREFIXES: &str = "what_ who_ whoever_ nobody_ of_";

/// Hits that are right as they stand: the file, the words around the hit, the reason. An entry
/// without a hit fails.
const ALLOWED: &[(&str, &str, &str)] = &[];

/// Files and directories that are scanned if they exist.
const SCOPE: &str = "src tests config examples docs python README.md CHANGELOG.md CONTRIBUTING.md \
    SECURITY.md Cargo.toml deny.toml";

/// Files without an extension are scanned if they begin with `#!`.
const EXTENSIONS: &str = "rs py pyi js mjs ts sh toml md html yaml yml service socket";

/// Downloads, build results, inputs of the fuzz targets, and this file.
const SKIPPED: &str = "tests/bench/field/peers tests/fuzz/seeds tests/it/language.rs";
const SKIPPED_NAMES: &str = "node_modules target __pycache__ proptest-regressions";

const MAX_PRINTED: usize = 200;

/// Characters on each side of a hit in an excerpt.
const EXCERPT_MARGIN: usize = 45;

#[test]
fn text_and_identifiers_follow_the_vocabulary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for name in SCOPE.split_whitespace() {
        collect(root, name, &mut files);
    }
    let mut used = BTreeSet::new();
    let mut hits = Vec::new();
    for name in &files {
        // A file that is not UTF-8 is data.
        if let Ok(text) = fs::read_to_string(root.join(name)) {
            hits.extend(scan(name, &text));
        }
    }
    hits.retain(|hit| {
        let entry = ALLOWED.iter().position(|entry| hit.is_allowed_by(entry));
        used.extend(entry);
        entry.is_none()
    });
    let unused = (0..ALLOWED.len()).filter(|index| !used.contains(index));
    let problems: Vec<_> = unused
        .map(|index| format!("{:?}: no hit, remove it from ALLOWED", ALLOWED[index]))
        .collect();

    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    for hit in &hits {
        *totals.entry(&hit.pattern).or_default() += 1;
    }
    let printed: Vec<_> = hits.iter().map(Hit::to_string).collect();
    if problems.is_empty() && printed.is_empty() {
        return;
    }

    let limit = match env::var_os("LOCKGATE_LANGUAGE_ALL") {
        Some(_) => printed.len(),
        None => MAX_PRINTED.min(printed.len()),
    };
    let mut totals: Vec<_> = totals.into_iter().collect();
    totals.sort_by_key(|&(pattern, count)| (usize::MAX - count, pattern));
    let totals: Vec<_> = totals
        .iter()
        .map(|(pattern, count)| format!("{count:6} {pattern}"))
        .collect();
    panic!(
        "\n{}\n\n{} of {} hits printed\n{}\n\nhits per pattern\n{}\n",
        printed[..limit].join("\n"),
        limit,
        printed.len(),
        problems.join("\n"),
        totals.join("\n"),
    );
}

/// One row per case: the file, its text with `⏎` for a line end, and the expected patterns.
#[test]
fn each_rule_catches_its_example() {
    let cases = r##"
src/a.rs ¦ // For whoever waits. ¦ whoever
src/a.rs ¦ /// Is closed or⏎/// else kept. ¦ or else
src/a.rs ¦ //! It is let⏎//!   go. ¦ let go
src/a.rs ¦ /* by⏎ * then */ ¦ by then
src/a.rs ¦ f("HIS turn"); ¦ his
src/a.rs ¦ f("so \⏎  many"); ¦ so many
src/a.rs ¦ f("so\nmany"); ¦ so many
src/a.rs ¦ f(r#"a "b" so long as c"#); ¦ so long as
src/a.rs ¦ f(b"x", 'y', '"', '\'', "anew"); ¦ anew
src/a.rs ¦ f('\u{22}', "anew"); ¦ anew
src/a.rs ¦ /* a /* b */ he */ f(br"\", "she"); ¦ he, she
src/a.rs ¦ // It closes, for the peer is gone. ¦ , for
src/a.rs ¦ // DNS says "yes". ¦ says
src/a.rs ¦ // "it is said" ¦ said
src/a.rs ¦ // no more is read; no more ¦ no more, no more
src/a.rs ¦ fn was_told() {} ¦ told (name)
src/a.rs ¦ struct HTTPWish; ¦ wish (name)
src/a.rs ¦ fn f<'a>(nobody: &'a str) {} ¦ nobody (name)
src/a.rs ¦ const MOST: usize = 1; ¦ MOST (constant)
src/a.rs ¦ #![allow(clippy::match_bool)] ¦ clippy::match_bool
Cargo.toml ¦ match_bool = "allow" ¦ clippy::match_bool
src/a.rs ¦ #[test]⏎#[cfg(unix)]⏎fn what_is() {} ¦ what_… (test)
src/a.rs ¦ #[tokio::test(start_paused = true)]⏎async fn of_two() {} ¦ of_… (test)
README.md ¦ Lockgate is told so,⏎> and nobody else. ¦ told, nobody
README.md ¦ The RFC 6455, as the server says. ¦ says
examples/a/server.py ¦ x = 1  # so⏎    # many ¦ so many
tests/run ¦ #!/bin/sh⏎# no⏎# more ¦ no more
CHANGELOG.md ¦ # All⏎## [Unreleased]⏎- anew⏎## [0.1.0]⏎- nobody ¦ anew
"##;
    for (file, text, expected) in rows(cases) {
        let found: Vec<_> = scan(&file, &text)
            .into_iter()
            .map(|hit| hit.pattern)
            .collect();
        assert_eq!(found.join(", "), expected, "{file}: {text}");
    }
}

#[test]
fn innocent_text_has_no_hit() {
    let cases = r##"
src/a.rs ¦ // At most, no more than 5, whose name, on behalf of it. ¦
src/a.rs ¦ // The RFC says so; RFC 6455 §5.5.1 says "MUST". ¦
src/a.rs ¦ // RFC 6455: "he who sends no more data". ¦
src/a.rs ¦ // so. Many or⏎//⏎// else ¦
src/a.rs ¦ // or⏎fn f() {} // else ¦
src/a.rs ¦ // Used, for example, for routes, and for one, besides. ¦
src/a.rs ¦ let hello = there_is(mostly, HALF_OPEN, 'a', 0x1say, '\n'); ¦
src/a.rs ¦ fn what_is() {}⏎#[cfg(test)]⏎mod tests { fn of_two() {} } ¦
src/a.rs ¦ #[test]⏎fn a() {}⏎fn what_is() {} ¦
src/cli/args.rs ¦ /// The operator must say which. ¦
README.md ¦ You can tell it so, and the operator says when. ¦
Cargo.toml ¦ match_bool = "warn" ¦
"##;
    for (file, text, _) in rows(cases) {
        let found: Vec<_> = scan(&file, &text).iter().map(Hit::to_string).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

fn rows(table: &str) -> impl Iterator<Item = (String, String, String)> {
    table.trim().lines().map(|row| {
        let mut cells = row.split('¦').map(|cell| cell.trim().replace('⏎', "\n"));
        let mut cell = || cells.next().expect("three cells");
        (cell(), cell(), cell())
    })
}

#[test]
fn counters_only_fall() {
    assert_eq!(advice(3, 3), None);
    assert_eq!(advice(4, 3).as_deref(), Some("only 3 are tolerated"));
    assert_eq!(advice(2, 3).as_deref(), Some("lower the number to 2"));
    assert_eq!(advice(0, 3).as_deref(), Some("move the pattern to class A"));
}

#[test]
fn allowed_entry_covers_only_its_own_words() {
    let hits = scan("src/a.rs", "// It is told so, and told again.");
    let entry = ("src/a.rs", "told again", "an example");
    let allowed: Vec<_> = hits.iter().map(|hit| hit.is_allowed_by(&entry)).collect();
    assert_eq!(allowed, [false, true]);
}

/// A place where a pattern matches; `start` and `end` are byte offsets in `text`.
struct Hit {
    file: String,
    line: usize,
    pattern: String,
    text: String,
    start: usize,
    end: usize,
}

/// Text that reads as one paragraph, its lines joined by a space.
struct Passage {
    /// True for Rust comments and Markdown, where quotation marks enclose a quotation; false for
    /// string literals and whole files of other languages.
    is_prose: bool,
    text: String,
    /// Offset in `text` and line in the file of each joined line.
    lines: Vec<(usize, usize)>,
}

/// A word, in lower case, or a punctuation character.
struct Token {
    text: String,
    start: usize,
    end: usize,
}

// === impl Hit ===

impl Hit {
    fn is_allowed_by(&self, (file, excerpt, _): &(&str, &str, &str)) -> bool {
        self.file == *file
            && self
                .text
                .match_indices(excerpt)
                .any(|(start, excerpt)| start <= self.start && self.end <= start + excerpt.len())
    }
}

impl std::fmt::Display for Hit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let before = self.text[..self.start].char_indices().rev();
        let after = self.text[self.end..].char_indices();
        let from = before
            .take(EXCERPT_MARGIN)
            .last()
            .map_or(self.start, |(at, _)| at);
        let to = after
            .take(EXCERPT_MARGIN)
            .last()
            .map_or(0, |(at, c)| at + c.len_utf8());
        let excerpt = self.text[from..self.end + to].trim();
        write!(
            f,
            "{}:{}: {}: {excerpt}",
            self.file, self.line, self.pattern
        )
    }
}

// === impl Passage ===

impl Passage {
    /// Joins lines into passages. An empty line, without the comment marker, ends a passage.
    fn join<'a>(is_prose: bool, lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<Self> {
        let mut passages = Vec::new();
        let mut is_open = false;
        for (line, text) in lines {
            let text = text
                .trim_start_matches(|c: char| "/#!*> \t".contains(c))
                .trim_end();
            if text.is_empty() {
                is_open = false;
                continue;
            }
            if !is_open {
                passages.push(Self {
                    is_prose,
                    text: String::new(),
                    lines: Vec::new(),
                });
                is_open = true;
            }
            let passage = passages.last_mut().expect("one is open");
            if !passage.text.is_empty() {
                passage.text.push(' ');
            }
            passage.lines.push((passage.text.len(), line));
            passage.text.push_str(text);
        }
        passages
    }

    fn search(&self, file: &str) -> Vec<Hit> {
        let tokens = tokenize(&self.text);
        let quoted = self.rfc_quotations(&tokens);
        let mut hits = Vec::new();
        for at in 0..tokens.len() {
            for (pattern, words) in PATTERNS.get(&tokens[at].text).into_iter().flatten() {
                let Some(matched) = tokens.get(at..at + words.len()) else {
                    continue;
                };
                if !matched
                    .iter()
                    .zip(words)
                    .all(|(token, word)| token.text == word.text)
                    || is_exempt(file, pattern, &tokens[..at], &tokens[at + words.len()..])
                {
                    continue;
                }
                let (start, end) = (matched[0].start, matched[words.len() - 1].end);
                if quoted.iter().any(|&(from, to)| from <= start && end <= to) {
                    continue;
                }
                let after = self.lines.partition_point(|&(offset, _)| offset <= start);
                hits.push(Hit {
                    file: file.to_owned(),
                    line: self.lines[after - 1].1,
                    pattern: pattern.to_string(),
                    text: self.text.clone(),
                    start,
                    end,
                });
            }
        }
        hits
    }

    /// Returns the ranges in quotation marks if the passage is prose that names an RFC.
    fn rfc_quotations(&self, tokens: &[Token]) -> Vec<(usize, usize)> {
        if !self.is_prose || !tokens.iter().any(|token| token.text == "rfc") {
            return Vec::new();
        }
        let marks: Vec<_> = self.text.match_indices('"').map(|(at, _)| at).collect();
        marks
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            .collect()
    }
}

/// A pattern and its tokens.
type Pattern = (&'static str, Vec<Token>);

/// The words and phrases of both classes by their first token.
static PATTERNS: LazyLock<BTreeMap<String, Vec<Pattern>>> = LazyLock::new(|| {
    let all = CLASS_A_WORDS
        .split_whitespace()
        .chain(CLASS_A_PHRASES.split('|'));
    let mut patterns: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for pattern in all {
        let tokens = tokenize(pattern);
        patterns
            .entry(tokens[0].text.clone())
            .or_default()
            .push((pattern, tokens));
    }
    patterns
});

static FORBIDDEN_PARTS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    [NAME_PARTS, CLASS_A_WORDS]
        .iter()
        .flat_map(|list| list.split_whitespace())
        .collect()
});

fn contains(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|listed| listed == word)
}

/// Returns what has to change for a pattern of class B, or `None` if its number is right.
fn advice(found: usize, tolerated: usize) -> Option<String> {
    if found == 0 {
        Some("move the pattern to class A".to_owned())
    } else if found > tolerated {
        Some(format!("only {tolerated} are tolerated"))
    } else {
        (found < tolerated).then(|| format!("lower the number to {found}"))
    }
}

/// Returns true for a use of `pattern` that the vocabulary allows.
fn is_exempt(file: &str, pattern: &str, before: &[Token], after: &[Token]) -> bool {
    let next = after.first().map_or("", |token| &token.text);
    if pattern == "no more" {
        return next == "than";
    }
    if pattern == ", for" {
        let is_phrase = next == "one" && after.get(1).is_some_and(|token| token.text == ",");
        return is_phrase || !contains(FOR_SUBJECTS, next);
    }
    if !contains(SPEECH, pattern) {
        return false;
    }
    // "The RFC says", "RFC 6455 §5.5.1 says".
    let number = |text: &str| text.chars().all(|c| c.is_ascii_digit() || "§.".contains(c));
    let mut words = before.iter().rev().map(|token| token.text.as_str());
    if matches!(words.find(|text| !number(text)), Some("rfc" | "rfcs")) {
        return true;
    }
    let mut words = before.iter().rev().map(|token| token.text.as_str());
    let subject = words.find(|text| !contains(AUXILIARIES, text));
    (file.ends_with("README.md") || file.starts_with("src/cli/args"))
        && subject.is_some_and(|text| contains(PERSONS, text))
}

fn tokenize(text: &str) -> Vec<Token> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens: Vec<Token> = Vec::new();
    let mut in_word = false;
    for (start, c) in text.char_indices() {
        let end = start + c.len_utf8();
        match tokens.last_mut() {
            Some(token) if in_word && is_word(c) => {
                token.text.extend(c.to_lowercase());
                token.end = end;
            }
            _ if c.is_whitespace() => {}
            _ => tokens.push(Token {
                text: c.to_lowercase().collect(),
                start,
                end,
            }),
        }
        in_word = is_word(c);
    }
    tokens
}

/// Adds the files at or below `name` that are in scope.
fn collect(root: &Path, name: &str, files: &mut Vec<String>) {
    let path = root.join(name);
    let base = path.file_name().unwrap_or_default().to_string_lossy();
    if contains(SKIPPED, name) || contains(SKIPPED_NAMES, &base) || base.starts_with(".venv") {
        return;
    }
    if path.is_dir() {
        let entries = fs::read_dir(&path).expect("a readable directory");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("a readable directory").file_name())
            .map(|entry| format!("{name}/{}", entry.to_string_lossy()))
            .collect();
        names.sort();
        for name in names {
            collect(root, &name, files);
        }
        return;
    }
    let in_scope = match path.extension() {
        Some(extension) => contains(EXTENSIONS, &extension.to_string_lossy()),
        None => fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"#!")),
    };
    if in_scope {
        files.push(name.to_owned());
    }
}

fn scan(file: &str, text: &str) -> Vec<Hit> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(index, text)| (index + 1, text));
    let mut hits = Vec::new();
    let passages = if file.ends_with(".rs") {
        let source = RustSource::lex(text);
        hits = check_names(file, text, &source);
        let passages = source.text.iter().flat_map(|text| {
            let lines = text.lines.iter().map(|(line, text)| (*line, text.as_str()));
            Passage::join(text.is_comment, lines)
        });
        passages.collect()
    } else if file == "CHANGELOG.md" {
        let section = lines
            .skip_while(|(_, text)| !text.starts_with("## [Unreleased]"))
            .enumerate()
            .take_while(|(index, (_, text))| *index == 0 || !text.starts_with("## "))
            .map(|(_, line)| line);
        Passage::join(true, section)
    } else if file.ends_with(".md") {
        Passage::join(true, lines)
    } else {
        if file == "Cargo.toml" {
            let allows = lines.clone().find(|(_, text)| {
                text.trim_start().starts_with("match_bool") && text.contains("allow")
            });
            hits.extend(allows.map(|(line, text)| Hit {
                file: file.to_owned(),
                line,
                pattern: "clippy::match_bool".to_owned(),
                text: text.to_owned(),
                start: 0,
                end: text.len(),
            }));
        }
        Passage::join(false, lines)
    };
    hits.extend(passages.iter().flat_map(|passage| passage.search(file)));
    hits
}

fn check_names(file: &str, text: &str, source: &RustSource) -> Vec<Hit> {
    let lines: Vec<_> = text.lines().collect();
    let mut hits = Vec::new();
    for (index, (line, name)) in source.code.iter().enumerate() {
        let mut patterns = BTreeSet::new();
        for part in name_parts(name) {
            if FORBIDDEN_PARTS.contains(&*part) {
                patterns.insert(format!("{part} (name)"));
            }
        }
        if contains(CONSTANTS, name) {
            patterns.insert(format!("{name} (constant)"));
        }
        if name == "match_bool" {
            patterns.insert("clippy::match_bool".to_owned());
        }
        if source.is_test_name(index)
            && let Some(prefix) = TEST_PREFIXES
                .split_whitespace()
                .find(|prefix| name.starts_with(prefix))
        {
            patterns.insert(format!("{prefix}… (test)"));
        }
        let text = lines[line - 1];
        let start = text.find(name.as_str()).expect("the name is in its line");
        hits.extend(patterns.into_iter().map(|pattern| Hit {
            file: file.to_owned(),
            line: *line,
            pattern,
            text: text.to_owned(),
            start,
            end: start + name.len(),
        }));
    }
    hits
}
