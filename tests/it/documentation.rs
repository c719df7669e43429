//! README.md and the manual in docs/ as tests: their commands run, their output is compared, their configurations are
//! checked, and their links lead somewhere. `documentation/page.rs` lists the directives of a block.

mod page;
mod script;

use self::page::{Block, Directive, Page, markdown_files, pages, root};
use crate::acme::fixture::AcmeFixture;
use std::{collections::BTreeSet, fs, path::Path, process::Stdio};
use tempfile::TempDir;
use tokio::process::Command;

/// Defines a test for each page with commands, and their list.
macro_rules! run_pages {
    ($($test:ident: $path:literal),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $test() {
                script::run($path).await;
            }
        )*
        const RUN_PAGES: &[&str] = &[$($path),*];
    };
}

run_pages! {
    commands_of_readme_work: "README.md",
    commands_of_getting_started_work: "docs/getting-started.md",
    commands_of_configuration_work: "docs/configuration.md",
    commands_of_certificates_work: "docs/certificates.md",
    commands_of_python_servers_work: "docs/python-servers.md",
    commands_of_sessions_work: "docs/sessions.md",
    commands_of_load_balancing_work: "docs/load-balancing.md",
    commands_of_reload_and_upgrade_work: "docs/reload-and-upgrade.md",
    commands_of_security_work: "docs/security.md",
    commands_of_identity_work: "docs/identity.md",
    commands_of_observability_work: "docs/observability.md",
}

#[test]
fn every_page_with_commands_is_run() {
    let with_commands = pages().into_iter().filter(|page| {
        let is_run = |block: &Block| block.language == "sh" && block.directive.is_none();
        page.blocks().iter().any(is_run)
    });
    let with_commands: BTreeSet<String> = with_commands.map(|page| page.path).collect();
    let run: BTreeSet<String> = RUN_PAGES.iter().map(ToString::to_string).collect();
    assert_eq!(with_commands, run, "change `run_pages!` in this file");
}

/// A block is run, checked or compared, or a directive gives the reason why not.
#[test]
fn every_block_is_run_or_has_a_reason() {
    let mut problems = Vec::new();
    for page in pages() {
        for block in page.blocks() {
            let is_known = match (&*block.language, &block.directive) {
                (_, Some(Directive::NotRun)) => true,
                ("sh", directive) => matches!(directive, None | Some(Directive::WithCa)),
                ("text", directive) => {
                    matches!(directive, Some(Directive::Output | Directive::Figure))
                }
                ("toml" | "python" | "json" | "mermaid", directive) => directive.is_none(),
                _ => false,
            };
            if !is_known {
                let language = &block.language;
                problems.push(format!("{}:{}: {language}", page.path, block.line));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A complete file has its name in its first line. What a fragment lacks, a route or a certificate, is added.
#[tokio::test]
async fn configurations_of_pages_are_valid() {
    let mut count = 0;
    let mut problems = Vec::new();
    for page in pages() {
        let folder = TempDir::new().expect("a temporary folder");
        script::write_certificates(folder.path());
        fs::create_dir(folder.path().join("conf.d")).expect("writable");
        fs::write(
            folder.path().join("users.htpasswd"),
            crate::harness::program::USERS,
        )
        .expect("writable");
        for block in page.blocks() {
            if block.language != "toml" || block.directive.is_some() {
                continue;
            }
            let file = folder
                .path()
                .join(block.file_name().unwrap_or("fragment.toml"));
            let config = match block.file_name() {
                Some(_) => block.text.clone(),
                None => complete(&block.text),
            };
            fs::write(&file, config).expect("writable");
            let mut check = Command::new(env!("CARGO_BIN_EXE_lockgate"));
            let check = check
                .args(["check", "--config"])
                .arg(&file)
                .current_dir(folder.path())
                .env("HOME", folder.path())
                .envs(variables(&block.text).map(|name| (name, VARIABLE)))
                .stdin(Stdio::null());
            let output = check.output().await.expect("it starts");
            if !output.status.success() || !output.stderr.is_empty() {
                let stderr = String::from_utf8_lossy(&output.stderr);
                problems.push(format!("{}:{}\n{stderr}", page.path, block.line));
            }
            count += 1;
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= 20, "only {count} configurations are found");
}

#[tokio::test]
async fn python_and_json_of_pages_are_valid() {
    for page in pages() {
        for block in page.blocks() {
            let place = format!("{}:{}", page.path, block.line);
            match (&*block.language, &block.directive) {
                ("json", None) => {
                    let parsed = serde_json::from_str::<serde_json::Value>(&block.text);
                    parsed.unwrap_or_else(|error| panic!("{place}: {error}"));
                }
                ("python", None) => {
                    let mut compile = Command::new(crate::harness::program::interpreter());
                    let compile =
                        compile.args(["-c", "import sys; compile(sys.argv[1], '', 'exec')"]);
                    let output = compile.arg(&block.text).output().await.expect("it starts");
                    assert!(output.status.success(), "{place}: {output:?}");
                }
                _ => {}
            }
        }
    }
}

/// The commands that need a CA, with Pebble, which resolves every name to this machine.
#[tokio::test]
async fn commands_obtain_a_certificate() {
    let fixture = AcmeFixture::new().await;
    let mut script = String::from(
        r#"
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
lockgate() {
    case "$1 $2" in
    "run --to") "$LOCKGATE" "$@" & ;;
    "cert list") until "$LOCKGATE" "$@" | grep "by Pebble"; do sleep 0.1; done ;;
    *) echo "unknown command: lockgate $*" >&2; exit 1 ;;
    esac
}
"#,
    );
    let blocks = Page::read("docs/certificates.md").blocks().into_iter();
    let commands = blocks.filter(|block| block.directive == Some(Directive::WithCa));
    script.extend(commands.map(|block| block.text));
    let output = Command::new("timeout")
        .args(["180", "bash", "-c", &script])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LOCKGATE", env!("CARGO_BIN_EXE_lockgate"))
        .env("LOCKGATE_DATA", fixture.storage())
        .env("LOCKGATE_LISTEN", format!("127.0.0.1:{}", fixture.https))
        .env(
            "LOCKGATE_ADMIN",
            format!("unix:{}/admin.sock", fixture.folder.path().display()),
        )
        .env("LOCKGATE_ACME_DIRECTORY", fixture.pebble.directory())
        .env("LOCKGATE_ACME_CA_FILE", fixture.pebble.ca())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("timeout and bash are there");
    assert!(output.status.success(), "{script}\n{output:?}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("until 20"), "{stdout}");
}

#[test]
fn readme_is_short_and_has_the_commands_for_demo_and_tests() {
    let readme = Page::read("README.md");
    let commands: Vec<_> = readme
        .blocks()
        .into_iter()
        .filter(|block| block.language == "sh" && block.directive.is_none())
        .map(|block| block.text)
        .collect();
    assert_eq!(commands[0], "cargo run -- demo\n");
    assert!(commands.contains(&"tests/run\n".to_owned()));
    let length = readme.text.lines().count();
    assert!(length <= 200, "{length} lines");
}

#[tokio::test]
async fn picture_of_the_demo_is_drawn() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("demo.png");
    let mut script = Command::new("timeout");
    script
        .args(["240", "node", "tests/node/picture.js"])
        .args([Path::new(env!("CARGO_BIN_EXE_lockgate")), &file])
        .current_dir(root())
        .stdin(Stdio::null());
    let output = script.output().await.expect("timeout and node are there");
    assert!(output.status.success(), "{output:?}");
    let picture = fs::read(&file).expect("it was drawn");
    assert!(picture.starts_with(b"\x89PNG"));
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in markdown_files() {
        let folder = Path::new(&page.path).parent().expect("a file has a folder");
        for (line, target) in page.links() {
            count += 1;
            if target.starts_with("https://") {
                let uri = target.parse::<http::Uri>();
                if !uri.is_ok_and(|uri| uri.host().is_some()) {
                    problems.push(format!("{}:{line}: {target} is no URL", page.path));
                }
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = match file {
                "" => page.path.clone(),
                _ => resolve(&folder.join(file)),
            };
            if !root().join(&file).exists() {
                problems.push(format!("{}:{line}: no file {file}", page.path));
            } else if !anchor.is_empty() {
                let anchors = Page::read(&file).anchors();
                if !anchors.iter().any(|known| known == anchor) {
                    problems.push(format!("{}:{line}: no heading {file}#{anchor}", page.path));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count >= 80, "only {count} links are found");
}

#[test]
fn index_of_the_manual_has_every_page() {
    let index = Page::read("docs/README.md");
    let linked: BTreeSet<String> = index
        .links()
        .into_iter()
        .map(|(_, target)| target)
        .collect();
    for page in pages() {
        if let Some(name) = page
            .path
            .strip_prefix("docs/")
            .filter(|name| *name != "README.md")
        {
            assert!(linked.contains(name), "docs/README.md does not link {name}");
        }
    }
}

/// The first cell of a row in a section "Messages" quotes the program, with "…" for values.
#[test]
fn messages_in_troubleshooting_are_those_of_the_program() {
    let source = source_text();
    let page = Page::read("docs/troubleshooting.md");
    let mut is_messages = false;
    let (mut count, mut problems) = (0, Vec::new());
    for (line, text) in page.prose() {
        if let Some(title) = text.strip_prefix("## ") {
            is_messages = title.starts_with("Messages");
            continue;
        }
        let Some(row) = text.strip_prefix("| `").filter(|_| is_messages) else {
            continue;
        };
        let message = row.split('`').next().unwrap_or_default();
        count += 1;
        for part in message
            .split('…')
            .map(str::trim)
            .filter(|part| part.len() > 3)
        {
            if !source.contains(part) {
                problems.push(format!("{line}: {part}"));
            }
        }
    }
    assert!(problems.is_empty(), "not in src:\n{}", problems.join("\n"));
    assert!(count >= 30, "only {count} messages");
}

/// Metrics that a page names are in docs/reasons.md, and keys are in the reference.
#[test]
fn metrics_and_keys_of_pages_exist() {
    let reasons = Page::read("docs/reasons.md").text;
    let reference = Page::read("config/reference.md").text;
    let mut problems = Vec::new();
    for page in pages() {
        for (line, text) in page.prose() {
            for code in text.split('`').skip(1).step_by(2) {
                let name = code.split(['{', ' ']).next().unwrap_or_default();
                let is_metric = name.starts_with("lockgate_") && !name.contains('.');
                if is_metric && !reasons.contains(&format!("| `{name}` |")) {
                    problems.push(format!("{}:{line}: no metric {name}", page.path));
                }
                if let Some((section, key)) = name.split_once('.').filter(|_| name == code)
                    && SECTIONS.contains(&section)
                    && !["py", "rs", "toml"].contains(&key)
                    && !has_key(&reference, section, key)
                {
                    problems.push(format!("{}:{line}: no key {name}", page.path));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Returns whether the reference has `[section]` or `[pools.NAME.section]` with the key, or a table of that name.
fn has_key(reference: &str, section: &str, key: &str) -> bool {
    let (table, key) = match key.rsplit_once('.') {
        Some((table, key)) => (format!("{section}.{table}"), key),
        None => (section.to_owned(), key),
    };
    let mut is_section = false;
    reference.lines().any(|line| {
        if let Some(heading) = line.strip_prefix("## `") {
            let heading = heading.trim_matches(['[', ']', '`']).replace(".NAME", "");
            is_section = heading == table || heading == format!("pools.{table}");
            return is_section && key.is_empty()
                || heading == format!("{table}.{key}")
                || heading == format!("pools.{table}.{key}");
        }
        is_section && line.starts_with(&format!("| `{key}` |"))
    })
}

/// Adds what a fragment of a configuration lacks: a certificate and a route.
fn complete(fragment: &str) -> String {
    let mut config = fragment.to_owned();
    let has = |text: &str| fragment.lines().any(|line| line.starts_with(text));
    if !has("[acme]") && !fragment.contains("certificates") && !fragment.contains("dev_ca") {
        config = if has("[tls]") {
            config.replace("[tls]\n", "[tls]\ndev_ca = true\n")
        } else {
            format!("{config}\n[tls]\ndev_ca = true\n")
        };
    }
    if !has("[[routes]]") {
        let pool = fragment.lines().find_map(|line| {
            let name = line.strip_prefix("[pools.")?;
            name.split([']', '.']).next()
        });
        let target = match pool {
            Some(pool) => format!("pool = \"{pool}\""),
            None => "to = \"ws://127.0.0.1:8765\"".to_owned(),
        };
        config += &format!("\n[[routes]]\nhosts = [\"chat.example.com\"]\n{target}\n");
    }
    config
}

/// Returns the environment variables without a default that a configuration reads.
fn variables(config: &str) -> impl Iterator<Item = &str> {
    let names = config.split("${").skip(1);
    let names = names.filter_map(|rest| rest.split('}').next());
    names.filter(|name| !name.contains(":-"))
}

/// Returns the path without `..`.
fn resolve(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.iter().map(|part| part.to_str().expect("UTF-8")) {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Returns the source of the program, with the strings that continue on another line joined.
fn source_text() -> String {
    fn collect(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                collect(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(&path).expect("UTF-8"));
            }
        }
    }
    let mut text = String::new();
    collect(&root().join("src"), &mut text);
    let mut parts = text.split("\\\n");
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        joined.push_str(part.trim_start());
    }
    joined.replace("\\\"", "\"")
}

/// The value of an environment variable that a configuration reads: long enough for a token.
const VARIABLE: &str = "d41d8cd98f00b204e9800998ecf8427ed41d8cd98f00b204e9800998ecf8427e";

/// Names before the point of a key that a page names.
const SECTIONS: &[&str] = &[
    "acme",
    "admission",
    "drain",
    "health",
    "limits",
    "passive",
    "retry",
    "server",
    "session",
    "tls",
];
