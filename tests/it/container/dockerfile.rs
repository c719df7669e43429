//! A parser for the Dockerfile.

use std::{fs, path::Path};

/// The instructions in order; those of the last stage make the image.
pub(super) struct Dockerfile {
    build: Vec<Instruction>,
    image: Vec<Instruction>,
}

struct Instruction {
    word: String,
    rest: String,
}

/// A `COPY` instruction.
struct Copy<'a> {
    from_a_stage: bool,
    owner: Option<&'a str>,
    sources: Vec<&'a str>,
    destination: &'a str,
}

// === impl Dockerfile ===

impl Dockerfile {
    pub(super) fn read() -> Dockerfile {
        let text = fs::read_to_string("Dockerfile").expect("it stands at the top");
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .collect();
        let whole = lines.join("\n").replace("\\\n", " ");
        let instructions = whole.lines().filter_map(|line| line.trim().split_once(' '));
        let mut build: Vec<_> = instructions
            .map(|(word, rest)| Instruction {
                word: word.to_owned(),
                rest: rest.trim().to_owned(),
            })
            .collect();
        let last = build
            .iter()
            .rposition(|instruction| instruction.word == "FROM");
        let image = build.split_off(last.expect("a stage"));
        assert_eq!(
            image[0].rest, "scratch",
            "there is nothing else in the image"
        );
        Dockerfile { build, image }
    }

    /// The command of the container: ENTRYPOINT and CMD.
    pub(super) fn start(&self) -> Vec<String> {
        let mut start = words(self.one("ENTRYPOINT"));
        start.extend(words(self.one("CMD")));
        start
    }

    /// The command of HEALTHCHECK.
    pub(super) fn health(&self) -> Vec<String> {
        let check = self.one("HEALTHCHECK");
        words(check.split_once("CMD ").expect("it runs a command").1)
    }

    pub(super) fn user(&self) -> &str {
        self.one("USER")
    }

    pub(super) fn volume(&self) -> &str {
        self.one("VOLUME")
    }

    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let variables = self.all("ENV").flat_map(str::split_whitespace);
        variables
            .map(|variable| variable.split_once('=').expect("NAME=VALUE"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Returns the compiler flags.
    pub(super) fn flags(&self) -> &str {
        let mut environment = self.build.iter().filter(|i| i.word == "ENV");
        let flags = environment.find_map(|i| i.rest.split('\'').nth(1));
        flags.expect("in single quotes")
    }

    /// Whether something is copied to exactly this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.copies().any(|copy| copy.destination == path)
    }

    /// The owner of a path in the image.
    pub(super) fn owner(&self, path: &str) -> &str {
        let copy = self.copies().find(|copy| copy.destination == path);
        copy.and_then(|copy| copy.owner)
            .expect("copied with an owner")
    }

    /// Checks that files copied into the build exist and are not excluded by `.dockerignore`, and that files copied
    /// into the image are made by the build.
    pub(super) fn check_copies(&self) {
        let ignored = fs::read_to_string(".dockerignore").expect("it stands at the top");
        for copy in self
            .build
            .iter()
            .filter(|i| i.word == "COPY")
            .map(|i| Copy::read(&i.rest))
        {
            for source in copy.sources {
                assert!(Path::new(source).exists(), "there is no {source}");
                let pass = format!("!{source}");
                assert!(
                    ignored.lines().any(|line| line == pass),
                    ".dockerignore holds {source} back"
                );
            }
        }
        let made: String = self
            .build
            .iter()
            .filter(|i| i.word == "RUN")
            .map(|i| format!("{} ", i.rest))
            .collect();
        for copy in self.copies() {
            assert!(
                copy.from_a_stage,
                "{} does not come from the build",
                copy.destination
            );
            for source in copy.sources {
                assert!(
                    made.contains(&format!(" {source} ")),
                    "no RUN makes {source}"
                );
            }
        }
    }

    fn copies(&self) -> impl Iterator<Item = Copy<'_>> {
        self.all("COPY").map(Copy::read)
    }

    fn one(&self, word: &str) -> &str {
        let mut all = self.all(word);
        let one = all.next().unwrap_or_else(|| panic!("no {word}"));
        assert!(all.next().is_none(), "more than one {word}");
        one
    }

    fn all(&self, word: &str) -> impl Iterator<Item = &str> {
        let named = move |instruction: &&Instruction| instruction.word == word;
        self.image
            .iter()
            .filter(named)
            .map(|instruction| &*instruction.rest)
    }
}

// === impl Copy ===

impl<'a> Copy<'a> {
    fn read(rest: &'a str) -> Copy<'a> {
        let (flags, mut paths): (Vec<_>, Vec<_>) = rest
            .split_whitespace()
            .partition(|word| word.starts_with("--"));
        let destination = paths.pop().expect("a destination");
        Copy {
            from_a_stage: flags.iter().any(|flag| flag.starts_with("--from=")),
            owner: flags.iter().find_map(|flag| flag.strip_prefix("--chown=")),
            sources: paths,
            destination,
        }
    }
}

/// Parses the exec form of an instruction; the image has no shell.
fn words(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|_| panic!("not in the exec form: {json}"))
}
