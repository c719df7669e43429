//! Layering rules: permitted imports between modules, the module of each dependency, file lengths, the width of
//! comments and forbidden names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The modules by layer. A module may import modules of lower layers, and none of its own layer.
const LAYERS: [&[&str]; 12] = [
    &["proto", "fs", "lifecycle"],
    &["net"],
    &["config"],
    &["observe", "store"],
    &["registry"],
    &["router", "guard", "tls", "upstream", "splice"],
    &["gateway"],
    &["http"],
    &["listener", "admin"],
    &["server"],
    &["cli"],
    &["main"],
];

/// Imports that the layers would permit but that are forbidden, each with its reason.
const FORBIDDEN: [(&str, &str, &str); 3] = [
    ("config", "lifecycle", "a configuration is data"),
    ("config", "net", "a configuration is data"),
    (
        "splice",
        "config",
        "a session takes its limits as plain values",
    ),
];

/// Crates, macros and functions, each with the only files or folders that may name it.
const FENCES: [(&str, &[&str]); 19] = [
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/completions.rs"]),
    ("clap_mangen", &["cli/man.rs"]),
    ("anyhow", &["cli/"]),
    ("println!", &["cli/"]),
    ("eprintln!", &["cli/"]),
    ("rustls_acme", &["tls/acme/"]),
    ("instant_acme", &["tls/acme/"]),
    ("notify", &["config/watch"]),
    ("tokio_tungstenite", &["cli/", "upstream/health"]),
    ("hickory_proto", &["net/resolver/", "net/dns.rs"]),
    // The name lookup of the C library, which a static program without a root file system does not have.
    ("lookup_host", &["net/web_client.rs"]),
    ("flate2", &["proto/deflate", "splice/tap"]),
    ("listenfd", &["lifecycle/inherited.rs"]),
    (
        "nix",
        &["net/dial.rs", "net/coarse_clock.rs", "net/local_addrs.rs"],
    ),
    ("jsonwebtoken", &["guard/jwt.rs", "guard/jwks.rs"]),
    ("sd_notify", &["lifecycle/systemd.rs"]),
    ("tokio::spawn", &["lifecycle/"]),
    ("arc_swap", &["gateway/", "tls/certs", "upstream/pool.rs"]),
];

/// Calls that open a file by its path. Files that an operator names are opened by `fs` only.
const FILE_OPENERS: [&str; 10] = [
    "File::open",
    "File::options",
    "OpenOptions",
    "fs::read_to_string",
    "fs::copy",
    "std::fs::read",
    "from_pem_file",
    "pem_file_iter",
    "read_dir",
    "glob::glob",
];

/// The files that may contain one of [`FILE_OPENERS`], each with its reason.
const FILE_OPENERS_ALLOWED: [(&str, &[&str], &str); 11] = [
    ("fs/mod.rs", &["File::options"], "the reader of all files"),
    ("fs/pattern.rs", &["read_dir"], "limits the visited entries"),
    (
        "store/dir.rs",
        &["File::open", "OpenOptions"],
        "writes its own files, and opens its own folder to sync it",
    ),
    (
        "tls/dev.rs",
        &[
            "File::open",
            "OpenOptions",
            "read_dir",
            "fs::read_to_string",
        ],
        "writes its own files, opens its own folder to sync it, and reads the host name of the kernel",
    ),
    (
        "config/watch/content.rs",
        &["read_dir"],
        "hashes the names in a watched folder, without a list of them",
    ),
    (
        "observe/access/file.rs",
        &["OpenOptions"],
        "opens the access log for writing, at startup and after its rotation",
    ),
    (
        "net/memory.rs",
        &["fs::read_to_string"],
        "reads /proc and /sys/fs/cgroup",
    ),
    ("observe/metrics/mod.rs", &["read_dir"], "reads /proc/self"),
    (
        "tls/nss.rs",
        &["read_dir"],
        "finds the profiles of this user's browsers",
    ),
    ("listener/accept.rs", &["File::open"], "opens /dev/null"),
    (
        "net/resolver/mod.rs",
        &[],
        "reads /etc/hosts and /etc/resolv.conf by `fs`",
    ),
];

/// What `proto` must not name: it is pure, without runtime, clock or log.
const NOT_IN_PROTO: [&str; 5] = [
    "tokio",
    "tracing",
    "Instant",
    "SystemTime",
    "std::net::TcpStream",
];

/// Parts of file and type names that name no concept.
const EMPTY_NAMES: [&str; 4] = ["manager", "util", "common", "helper"];

/// The maximum number of lines of a file without its unit tests.
const CEILING: usize = 600;

/// The maximum width of a comment line, in columns. rustfmt does not wrap comments.
const MAX_COMMENT_WIDTH: usize = 120;

#[test]
fn every_file_keeps_to_its_layer_its_fences_and_its_size() {
    let files = sources();
    let problems: Vec<_> = files
        .iter()
        .flat_map(|(path, text)| check(path, text))
        .collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn only_fs_opens_files_that_an_operator_names() {
    let files = sources();
    let problems: Vec<_> = files
        .iter()
        .flat_map(|(path, text)| file_problems(path, text))
        .collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
    for (path, text) in [
        ("net/pem.rs", "let file = File::open(path)?;"),
        ("net/pem.rs", "let text = std::fs::read(path)?;"),
        ("net/pem.rs", "use std::fs;\nlet text = fs::read(path)?;"),
        (
            "net/pem.rs",
            "use std::{\n    fs, io,\n};\nlet text = fs::read(path)?;",
        ),
        ("config/load.rs", "for path in glob::glob(pattern)? {}"),
        ("tls/acme/files.rs", "CertificateDer::from_pem_file(path)"),
        ("listener/accept.rs", "fs::read_to_string(path)"),
    ] {
        assert_eq!(
            file_problems(Path::new(path), text).len(),
            1,
            "{path}: {text}"
        );
    }
    for (path, text) in [
        (
            "net/pem.rs",
            "use crate::fs::{self, ReadError};\nlet text = fs::read(path, LIMIT)?;",
        ),
        ("listener/accept.rs", "File::open(\"/dev/null\")"),
    ] {
        assert_eq!(file_problems(Path::new(path), text), Vec::<String>::new());
    }
}

/// Returns the calls of one file that open a file and are not allowed there.
fn file_problems(path: &Path, text: &str) -> Vec<String> {
    if is_test(path) {
        return vec![];
    }
    let code = code_of(text);
    let allowed = FILE_OPENERS_ALLOWED
        .iter()
        .find(|(file, ..)| path == Path::new(file))
        .map_or(&[][..], |(_, allowed, _)| allowed);
    let openers = FILE_OPENERS.iter().filter(|opener| {
        !allowed.contains(opener) && code.contains(&format!("{opener}("))
            || **opener == "OpenOptions"
                && !allowed.contains(opener)
                && code.contains("OpenOptions::")
    });
    let mut found: Vec<_> = openers.map(|opener| (*opener).to_owned()).collect();
    let imports_std = use_paths(&code)
        .iter()
        .any(|path| path == "std::fs" || path == "std::fs::self");
    if imports_std && code.contains(" fs::read(") {
        found.push("fs::read".to_owned());
    }
    let path = path.display();
    found
        .into_iter()
        .map(|opener| {
            format!("src/{path}: `{opener}`: use `fs::read`, which refuses FIFOs and devices")
        })
        .collect()
}

#[test]
fn comments_of_tests_keep_to_the_width() {
    let problems: Vec<_> = rust_files("tests")
        .iter()
        .flat_map(|(path, text)| {
            let problems = width_problems(path, text).into_iter();
            problems.map(|problem| format!("tests/{}: {problem}", path.display()))
        })
        .collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn no_file_imports_itself_through_others() {
    let files: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .collect();
    let cycles = cycles(&files);
    assert!(cycles.is_empty(), "\n{}\n", cycles.join("\n"));
}

#[test]
fn cycle_of_two_and_of_three_files_is_found() {
    let file = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
    let pair = [
        file("tls/mod.rs", "mod a;\nuse crate::tls::a::A;"),
        file("tls/a.rs", "use super::B;"),
    ];
    assert_eq!(cycles(&pair), ["tls/a.rs, tls/mod.rs"]);
    let three = [
        file("http/a.rs", "use crate::http::{b::B, x::X};"),
        file("http/b.rs", "fn f(c: crate::http::c::C) {}"),
        file("http/c.rs", "use crate::{http::a::A, proto};"),
        file(
            "http/x.rs",
            "use crate::proto::frame;\n// use crate::http::a;",
        ),
        file("proto/frame.rs", ""),
    ];
    assert_eq!(cycles(&three), ["http/a.rs, http/b.rs, http/c.rs"]);
}

#[test]
fn rustls_acme_is_used() {
    let users = sources().into_iter().filter(|(path, text)| {
        path.starts_with("tls/acme") && names_crate(&code_of(text), "rustls_acme")
    });
    assert!(
        users.count() > 0,
        "nothing in tls/acme/ imports rustls_acme"
    );
}

#[test]
fn every_module_has_a_layer_and_every_layer_its_modules() {
    let known: BTreeSet<_> = LAYERS.concat().into_iter().collect();
    let found: BTreeSet<_> = sources()
        .iter()
        .map(|(path, _)| module_of(path).to_owned())
        .filter(|m| m != "lib")
        .collect();
    assert_eq!(
        found.iter().map(String::as_str).collect::<BTreeSet<_>>(),
        known
    );
}

#[test]
fn each_rule_catches_what_it_is_for() {
    let long = "//\n".repeat(CEILING + 1);
    let wide = format!(
        "fn f() {{}}\n    // {}\n",
        "x".repeat(MAX_COMMENT_WIDTH - 6)
    );
    let cases = [
        ("proto/frame.rs", "use crate::config::Config;", "config"),
        ("router/mod.rs", "use crate::guard::Guard;", "sibling"),
        ("router/host.rs", "fn f(x: crate::http::Service) {}", "http"),
        (
            "router/host.rs",
            "use crate::{config::Host, http::{Service, Gate}};",
            "http",
        ),
        (
            "router/host.rs",
            "use super::super::gateway::Live;",
            "gateway",
        ),
        ("gateway/mod.rs", "use super::http::Service;", "http"),
        (
            "tls/certs/table.rs",
            "use super::super::super::server::Server;",
            "server",
        ),
        (
            "splice/session.rs",
            "use crate::config::Session;",
            "plain values",
        ),
        ("config/load.rs", "use crate::lifecycle::Tasks;", "data"),
        ("server/mod.rs", "use anyhow::Context;", "anyhow"),
        (
            "splice/pump/mod.rs",
            "use tokio_tungstenite::WebSocketStream;",
            "tokio_tungstenite",
        ),
        (
            "http/server.rs",
            "    tokio::spawn(serve());",
            "tokio::spawn",
        ),
        (
            "http/server.rs",
            "use tokio::{net::TcpStream, spawn};",
            "tokio::spawn",
        ),
        (
            "http/server.rs",
            "    tokio::task::spawn(serve());",
            "tokio::spawn",
        ),
        ("router/mod.rs", "use arc_swap::ArcSwapOption;", "arc_swap"),
        (
            "net/dial.rs",
            "use tokio::net::{TcpStream, lookup_host};",
            "lookup_host",
        ),
        (
            "net/dial.rs",
            "use hickory_proto::rr::Name;",
            "hickory_proto",
        ),
        ("server/mod.rs", "    sd_notify::notify(&[]);", "sd_notify"),
        (
            "proto/proxy_header.rs",
            "use tokio::io::AsyncRead;",
            "tokio",
        ),
        (
            "proto/frame_tracker.rs",
            "tracing::debug!(\"seen\");",
            "tracing",
        ),
        ("http/mod.rs", "println!(\"{x}\");", "println!"),
        ("http/util.rs", "", "util"),
        ("tls/mod.rs", "mod helpers;", "helper"),
        ("tls/mod.rs", "pub struct KeyManager;", "manager"),
        ("http/validate.rs", long.as_str(), "lines"),
        ("http/validate.rs", wide.as_str(), "line 2"),
        ("http/tests.rs", wide.as_str(), "line 2"),
        ("config/schema/pool.rs", wide.as_str(), "line 2"),
        // The declaration of a test module in the middle of a file hides nothing that follows it.
        (
            "router/mod.rs",
            "#[cfg(test)]\nmod tests;\n\nuse crate::http::Service;",
            "http",
        ),
        (
            "router/mod.rs",
            "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\n\nuse crate::http::Service;",
            "http",
        ),
    ];
    for (path, text, word) in cases {
        let problems = check(Path::new(path), text);
        assert!(
            problems.iter().any(|problem| problem.contains(word)),
            "{path}: {text:?} passed: {problems:?}"
        );
    }
    let full = format!("/// {}", "é".repeat(MAX_COMMENT_WIDTH - 4));
    let text = format!(
        "const URL: &str = \"https://{}\";",
        "x".repeat(MAX_COMMENT_WIDTH)
    );
    let key = format!("    /// {}", "x".repeat(MAX_COMMENT_WIDTH));
    let innocent = [
        ("http/validate.rs", full.as_str()),
        ("http/validate.rs", text.as_str()),
        ("config/schema/pool.rs", key.as_str()),
        (
            "http/validate.rs",
            "use crate::{config::Host, proto::handshake};\nuse super::refusal::Refusal;",
        ),
        (
            "observe/access.rs",
            "use crate::proto::frame_tracker::Counts;",
        ),
        (
            "proto/frame/mask.rs",
            "use super::super::frame_tracker::Role;",
        ),
        (
            "router/mod.rs",
            "// unlike crate::guard, tokio::spawn has no place here\n/// See [`crate::http`].",
        ),
        (
            "router/mod.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::http::Service;\n}",
        ),
        ("router/tests.rs", "use crate::http::Service;"),
        (
            "cli/run.rs",
            "use clap::Parser;\nuse anyhow::Result;\nuse crate::server::Server;",
        ),
        ("tls/accept.rs", "let notify = tokio::sync::Notify::new();"),
    ];
    for (path, text) in innocent {
        assert_eq!(
            check(Path::new(path), text),
            Vec::<String>::new(),
            "{path}: {text:?}"
        );
    }
}

/// Everything that is wrong with one file; `path` is relative to `src`.
fn check(path: &Path, text: &str) -> Vec<String> {
    let mut problems = width_problems(path, text);
    if !is_test(path) {
        let code = code_of(text);
        problems.extend(
            imports(path, &code)
                .into_iter()
                .filter_map(|module| import_problem(module_of(path), &module)),
        );
        problems.extend(fence_problems(path, &code));
        problems.extend(name_problems(path, &code));
        let lines = without_tests(text).lines().count();
        if lines > CEILING {
            problems.push(format!(
                "{lines} lines, the limit is {CEILING}: is there a second concept in it?"
            ));
        }
    }
    problems
        .into_iter()
        .map(|problem| format!("src/{}: {problem}", path.display()))
        .collect()
}

/// Returns the groups of files that import each other, directly or through others, as sorted lists of paths.
fn cycles(files: &[(PathBuf, String)]) -> Vec<String> {
    let modules: BTreeMap<Vec<String>, usize> = files
        .iter()
        .enumerate()
        .map(|(index, (path, _))| (module_path(path), index))
        .collect();
    let imported = |(path, text): &(PathBuf, String)| -> BTreeSet<usize> {
        mentions(path, &code_of(text))
            .iter()
            .filter_map(|mention| {
                let prefixes = (1..=mention.len()).rev();
                prefixes
                    .filter_map(|len| modules.get(&mention[..len]))
                    .next()
            })
            .copied()
            .collect()
    };
    // `reached[a]`: what `a` imports, directly or through others.
    let mut reached: Vec<_> = files.iter().map(imported).collect();
    loop {
        let mut changed = false;
        for index in 0..reached.len() {
            let further: BTreeSet<_> = reached[index]
                .iter()
                .flat_map(|&next| &reached[next])
                .copied()
                .collect();
            let before = reached[index].len();
            reached[index].extend(further);
            changed |= reached[index].len() > before;
        }
        if !changed {
            break;
        }
    }
    let group = |index: usize| -> Vec<String> {
        let members = (0..files.len()).filter(|&other| {
            other == index || reached[index].contains(&other) && reached[other].contains(&index)
        });
        members
            .map(|member| files[member].0.display().to_string())
            .collect()
    };
    let groups: BTreeSet<_> = (0..files.len())
        .map(group)
        .filter(|group| group.len() > 1)
        .collect();
    groups
        .into_iter()
        .map(|mut group| {
            group.sort();
            group.join(", ")
        })
        .collect()
}

fn import_problem(from: &str, to: &str) -> Option<String> {
    let (Some(own), Some(other)) = (layer(from), layer(to)) else {
        return None;
    };
    if from == to {
        return None;
    }
    if let Some((.., why)) = FORBIDDEN
        .iter()
        .find(|(module, import, _)| (*module, *import) == (from, to))
    {
        return Some(format!("`{from}` may not import `{to}`: {why}"));
    }
    match own.cmp(&other) {
        std::cmp::Ordering::Greater => None,
        std::cmp::Ordering::Equal => Some(format!("`{from}` imports its sibling `{to}`")),
        std::cmp::Ordering::Less => Some(format!(
            "`{from}` (layer {own}) imports `{to}` (layer {other}), which stands above it"
        )),
    }
}

fn fence_problems(path: &Path, code: &str) -> Vec<String> {
    // Two spellings of one call.
    let code = code.replace("tokio::task::spawn(", "tokio::spawn(");
    let inside = path.to_string_lossy().replace('\\', "/");
    let mut problems = vec![];
    for (name, homes) in FENCES {
        let named = match name {
            "tokio::spawn" => has_word(&code, name) || spawn_is_imported(&code),
            "println!" | "eprintln!" | "lookup_host" => has_word(&code, name),
            _ => names_crate(&code, name),
        };
        if named && !homes.iter().any(|home| inside.starts_with(home)) {
            problems.push(format!("`{name}` lives in {} only", homes.join(", ")));
        }
    }
    if module_of(path) == "proto" {
        let named = NOT_IN_PROTO.iter().filter(|name| has_word(&code, name));
        problems
            .extend(named.map(|name| format!("`{name}` has no place in `proto`, which is pure")));
    }
    problems
}

fn spawn_is_imported(code: &str) -> bool {
    use_paths(code)
        .iter()
        .any(|path| path == "tokio::spawn" || path == "tokio::task::spawn")
}

fn names_crate(code: &str, name: &str) -> bool {
    let called = format!("{name}::");
    let imported = |path: &String| path == name || path.starts_with(&called);
    has_word(code, &called) || use_paths(code).iter().any(imported)
}

fn name_problems(path: &Path, code: &str) -> Vec<String> {
    let declared = code.lines().filter_map(|line| {
        let mut words = line
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty());
        words
            .find(|word| ["mod", "struct", "enum", "trait"].contains(word))
            .and_then(|_| words.next())
    });
    let file = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let names = declared.map(str::to_owned).chain(file);
    let empty_part = |name: &String| {
        EMPTY_NAMES
            .iter()
            .find(|empty| name.to_lowercase().contains(*empty))
            .copied()
    };
    names
        .filter_map(|name| {
            empty_part(&name).map(|empty| format!("`{name}`: a \"{empty}\" is not a concept"))
        })
        .collect()
}

/// Returns the lines of comments that are too wide. The doc comment of a configuration key is one line, because its
/// text is the description in the schema, where a line break would remain.
fn width_problems(path: &Path, text: &str) -> Vec<String> {
    let in_schema = path.starts_with("config/schema");
    let lines = (1..).zip(text.lines());
    lines
        .filter(|(_, line)| {
            let comment = line.trim_start();
            comment.starts_with("//") && !(in_schema && comment.starts_with("/// "))
        })
        .filter_map(|(number, line)| {
            let width = line.chars().count();
            (width > MAX_COMMENT_WIDTH).then(|| {
                format!(
                    "line {number}: a comment of {width} columns, the limit is {MAX_COMMENT_WIDTH}"
                )
            })
        })
        .collect()
}

/// Returns the top modules that a file names, by `crate::` or by `super::`.
fn imports(path: &Path, code: &str) -> BTreeSet<String> {
    let mentions = mentions(path, code).into_iter();
    mentions
        .filter_map(|mention| mention.into_iter().next())
        .collect()
}

/// Returns the module path of a file: `a::b` for `a/b.rs`, `a` for `a/mod.rs`.
fn module_path(path: &Path) -> Vec<String> {
    let mut parts: Vec<_> = path
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts
        .last()
        .is_some_and(|last| ["mod", "lib", "main"].contains(&&**last))
    {
        parts.pop();
    }
    parts
}

/// Returns the paths below the crate root that a file names, by `crate::` or by `super::`.
fn mentions(path: &Path, code: &str) -> BTreeSet<Vec<String>> {
    let own = module_path(path);
    let mut found = BTreeSet::new();
    for mention in use_paths(code).into_iter().chain(inline_paths(code)) {
        let mut parts = mention.split("::").peekable();
        let mut at = own.clone();
        match parts.peek() {
            Some(&"crate" | &"lockgate") => {
                parts.next();
                at.clear();
            }
            Some(&"super") => {
                while parts.next_if_eq(&"super").is_some() {
                    at.pop();
                }
            }
            _ => continue,
        }
        at.extend(parts.filter(|part| *part != "self").map(str::to_owned));
        found.insert(at);
    }
    found
}

/// Every path of every `use`, its braces opened out.
fn use_paths(code: &str) -> Vec<String> {
    let mut paths = vec![];
    for (start, _) in code.match_indices("use ") {
        let fresh = !code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if let (true, Some(end)) = (fresh, code[start..].find(';')) {
            let tree: String = code[start + 4..start + end]
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            open_braces("", &tree, &mut paths);
        }
    }
    paths
}

fn open_braces(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some((before, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        paths.push(format!("{prefix}{path}"));
        return;
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner.get(start..at).unwrap_or_default().trim();
                if !part.is_empty() {
                    open_braces(&format!("{prefix}{}", before.trim()), part, paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Paths that stand in the code itself: `crate::http::Service`, `super::super::x`.
fn inline_paths(code: &str) -> Vec<String> {
    let words = code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let paths = words.filter(|word| {
        word.starts_with("crate::") || word.starts_with("super::") || word.starts_with("lockgate::")
    });
    paths
        .map(|path| path.trim_end_matches(':').to_owned())
        .collect()
}

/// Whether `word` stands in `code` as a name of its own.
fn has_word(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(part)
            && (word.ends_with(['!', ':']) || !code[at + word.len()..].starts_with(part))
    })
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The top module of a file: `http` for `http/gate.rs`, `server` for `server.rs`.
fn module_of(path: &Path) -> &str {
    let first = path
        .iter()
        .next()
        .and_then(|first| first.to_str())
        .unwrap_or_default();
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Without unit tests and comments, which may name anything.
fn code_of(text: &str) -> String {
    let text = without_tests(text);
    let lines = text.lines().map(|line| match line.find("//") {
        // A `//` inside a string, such as a URL's, is no comment.
        Some(at) if line[..at].matches('"').count() % 2 == 0 => &line[..at],
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the text without its inline `#[cfg(test)] mod tests { … }` blocks. A `mod tests;` declaration hides nothing:
/// what follows it is scanned like the rest.
fn without_tests(text: &str) -> String {
    let mut kept = vec![];
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens_tests = line == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if opens_tests {
            // rustfmt puts the closing brace of a top-level block into the first column.
            lines.by_ref().find(|line| *line == "}");
        } else {
            kept.push(line);
        }
    }
    kept.join("\n")
}

fn sources() -> Vec<(PathBuf, String)> {
    let files = rust_files("src");
    assert!(files.len() > LAYERS.len(), "src was found");
    files
}

/// Returns the Rust files in a folder of the repository, without build output, by their paths in that folder.
fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = vec![];
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                files.push((path.strip_prefix(&root).expect("below it").to_owned(), text));
            }
        }
    }
    files.sort();
    files
}

fn is_test(path: &Path) -> bool {
    path.iter().any(|part| {
        ["tests", "tests.rs", "testing.rs"]
            .map(AsRef::as_ref)
            .contains(&part)
    })
}
