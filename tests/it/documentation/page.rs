//! A Markdown page: its fenced blocks with the directives above them, its headings and its links.
//!
//! A directive is an HTML comment before a block, which readers do not see:
//!
//! - `<!-- not run: REASON -->`: the block is not run, or not checked, and why;
//! - `<!-- output -->`: every line of the block must be printed by the commands of the page;
//! - `<!-- figure -->`: the block is a drawing;
//! - `<!-- with a CA -->`: the commands run in a test that has an ACME server;
//! - `<!-- run`, commands, `-->`: commands that prepare those that a reader sees.

use std::{fs, path::Path};

/// A page, by its path in the repository.
pub(super) struct Page {
    pub(super) path: String,
    pub(super) text: String,
}

/// A fenced code block, or the hidden commands of a comment.
pub(super) struct Block {
    /// The number of its first line.
    pub(super) line: usize,
    pub(super) language: String,
    pub(super) text: String,
    pub(super) directive: Option<Directive>,
}

#[derive(PartialEq, Eq)]
pub(super) enum Directive {
    NotRun,
    Output,
    Figure,
    WithCa,
}

// === impl Page ===

impl Page {
    pub(super) fn read(path: &str) -> Page {
        let file = root().join(path);
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{path}: {error}"));
        Page {
            path: path.to_owned(),
            text,
        }
    }

    /// Returns the blocks in their order. A page may not have a directive without a block.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut directive = None;
        let mut lines = self.text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let line_number = index + 1;
            let place = format!("{}:{line_number}", self.path);
            let indent = line.len() - line.trim_start().len();
            let line = line.trim();
            if let Some(info) = line.strip_prefix("```") {
                blocks.push(Block {
                    line: line_number,
                    language: info.to_owned(),
                    text: until(&mut lines, "```", indent),
                    directive: directive.take(),
                });
            } else if line == "<!-- run" {
                blocks.push(Block {
                    line: line_number,
                    language: "sh".to_owned(),
                    text: until(&mut lines, "-->", indent),
                    directive: None,
                });
            } else if let Some(comment) = line.strip_prefix("<!-- ") {
                let comment = comment.strip_suffix(" -->");
                let comment = comment.unwrap_or_else(|| panic!("{place}: a long comment"));
                directive = Some(match comment {
                    "output" => Directive::Output,
                    "figure" => Directive::Figure,
                    "with a CA" => Directive::WithCa,
                    _ if comment.starts_with("not run: ") => Directive::NotRun,
                    _ => panic!("{place}: an unknown directive: {comment}"),
                });
            } else {
                assert!(
                    line.is_empty() || directive.is_none(),
                    "{place}: a directive without a block"
                );
            }
        }
        blocks
    }

    /// Returns the anchors of the headings, as code hosting sites form them.
    pub(super) fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for (_, line) in self.prose() {
            let title = line.trim_start_matches('#');
            if title.len() == line.len() || !title.starts_with(' ') {
                continue;
            }
            let slug: String = title
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            let same = |anchor: &&String| {
                **anchor == slug
                    || anchor
                        .strip_prefix(&format!("{slug}-"))
                        .is_some_and(is_number)
            };
            let before = anchors.iter().filter(same).count();
            anchors.push(match before {
                0 => slug,
                _ => format!("{slug}-{before}"),
            });
        }
        anchors
    }

    /// Returns the targets of links and pictures with the numbers of their lines.
    pub(super) fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            // Code in backquotes may contain brackets.
            let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            let mut rest = &text[..];
            while let Some((_, after)) = rest.split_once("](") {
                let (target, after) = after.split_once(')').unwrap_or((after, ""));
                links.push((number, target.to_owned()));
                rest = after;
            }
        }
        links
    }

    /// Returns the lines outside fenced blocks with their numbers.
    pub(super) fn prose(&self) -> Vec<(usize, &str)> {
        let mut is_code = false;
        let mut lines = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
            } else if !is_code {
                lines.push((index + 1, line));
            }
        }
        lines
    }
}

// === impl Block ===

impl Block {
    /// Returns the name of the file that the first line gives to the block: `# server.py`.
    pub(super) fn file_name(&self) -> Option<&str> {
        let first = self.text.lines().next()?.strip_prefix("# ")?;
        let is_name = !first.contains(' ') && first.contains('.');
        is_name.then_some(first)
    }
}

/// Returns the pages: README.md and those of docs/.
pub(super) fn pages() -> Vec<Page> {
    let mut paths = vec!["README.md".to_owned()];
    paths.extend(markdown_in("docs"));
    paths.iter().map(|path| Page::read(path)).collect()
}

/// Returns every Markdown file that belongs to the project.
pub(super) fn markdown_files() -> Vec<Page> {
    let mut paths: Vec<String> = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ]
    .map(str::to_owned)
    .to_vec();
    for folder in ["docs", "config", "examples", "tests/bench"] {
        paths.extend(markdown_in(folder));
    }
    paths.iter().map(|path| Page::read(path)).collect()
}

/// The directory of the repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the Markdown files below a folder, without those that were downloaded.
fn markdown_in(folder: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root().join(folder)).expect("a readable folder") {
        let entry = entry.expect("a readable folder");
        let name = entry.file_name().into_string().expect("UTF-8");
        let path = format!("{folder}/{name}");
        if entry.path().is_dir() && !["node_modules", "peers", "target"].contains(&&*name) {
            paths.extend(markdown_in(&path));
        } else if name.ends_with(".md") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

/// Returns the lines before `end`, without the indentation of the block.
fn until<'a>(
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
    end: &str,
    indent: usize,
) -> String {
    lines
        .map(|(_, line)| line)
        .take_while(|line| line.trim() != end)
        .map(|line| format!("{}\n", line.get(indent..).unwrap_or_default()))
        .collect()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
