//! Completion scripts in real shells, and manual pages in real formatters.

use crate::harness::{Lockgate, within};
use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
};
use tempfile::TempDir;
use tokio::process::Command;

#[tokio::test]
async fn bash_completes_commands_and_flags() {
    let folder = scripts("bash", "lockgate").await;
    let completed = async |line: &str| {
        let script = format!(
            "source ./lockgate || exit 1\ncomplete -p lockgate >&2 || exit 1\n\
             COMP_WORDS=({line})\nCOMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))\n\
             _lockgate lockgate \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let output = shell("bash", &["--norc", "-c", &script], folder.path()).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.starts_with("complete "), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        words(&output)
    };
    assert_eq!(completed("lockgate ru").await, ["run"]);
    assert_eq!(completed("lockgate run --ta").await, ["--takeover"]);
    assert_eq!(completed("lockgate cert ren").await, ["renew"]);
}

#[tokio::test]
async fn fish_completes_commands_and_flags() {
    let folder = scripts("fish", "lockgate.fish").await;
    let completed = async |line: &str| {
        let script = format!("source ./lockgate.fish; or exit 1; complete -C '{line}'");
        let output = shell("fish", &["--no-config", "-c", &script], folder.path()).await;
        assert!(output.stderr.is_empty(), "{output:?}");
        words(&output)
    };
    assert_eq!(completed("lockgate ru").await, ["run"]);
    assert_eq!(completed("lockgate run --ta").await, ["--takeover"]);
    assert_eq!(completed("lockgate cert ren").await, ["renew"]);
}

/// The script is a function in a directory of `fpath`, and the line editor completes it in a pseudo-terminal.
#[tokio::test]
async fn zsh_completes_commands_and_flags() {
    let folder = scripts("zsh", "_lockgate").await;
    for (line, expected) in [
        ("lockgate ru", "lockgate run "),
        ("lockgate run --ta", "lockgate run --takeover "),
        ("lockgate cert ren", "lockgate cert renew "),
    ] {
        let output = shell("zsh", &["-f", "-c", ZSH_DRIVER, "zsh", line], folder.path()).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains(&format!("<{expected}>")),
            "{line}: {output:?}"
        );
    }
}

#[tokio::test]
async fn manual_pages_render_without_warnings() {
    let folder = TempDir::new().expect("a temporary folder");
    let output = Lockgate::run(folder.path(), &["man", "--out", "man1"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let entries = fs::read_dir(folder.path().join("man1")).expect("written");
    let pages: Vec<String> = entries
        .flatten()
        .map(|entry| entry.file_name().into_string().expect("UTF-8"))
        .collect();
    for page in ["lockgate.1", "lockgate-run.1", "lockgate-cert-renew.1"] {
        assert!(pages.iter().any(|it| it == page), "{page}: {pages:?}");
    }
    for page in pages {
        let path = format!("man1/{page}");
        let groff = ["-man", "-Tutf8", "-ww", "-z", &path];
        let groff = shell("groff", &groff, folder.path()).await;
        assert!(groff.stderr.is_empty(), "{page}: {groff:?}");
        let mandoc = ["-T", "lint", "-W", "warning", &path];
        let mandoc = shell("mandoc", &mandoc, folder.path()).await;
        assert!(mandoc.stdout.is_empty(), "{page}: {mandoc:?}");
    }
    let rendered = shell(
        "mandoc",
        &["-T", "ascii", "man1/lockgate-run.1"],
        folder.path(),
    )
    .await;
    let text = String::from_utf8_lossy(&rendered.stdout).replace('\u{8}', "");
    assert!(text.contains("takeover"), "{text}");

    let page = Lockgate::run(folder.path(), &["man"]).await;
    let written = fs::read(folder.path().join("man1/lockgate.1")).expect("written");
    assert_eq!(page.stdout, written);
}

/// Writes the completion script for a shell to a file.
async fn scripts(shell: &str, file: &str) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let output = Lockgate::run(folder.path(), &["completions", shell]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    fs::write(folder.path().join(file), output.stdout).expect("the folder is writable");
    folder
}

/// Runs a program, which must be installed.
async fn shell(program: &str, arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env("HOME", folder)
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = within("the end of the program", command.output()).await;
    output.unwrap_or_else(|error| panic!("{program}: {error}: tests/run installs it"))
}

/// Returns the first word of each line.
fn words(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect()
}

/// Types the argument and a tab into an interactive zsh, and prints its line in angle brackets.
const ZSH_DRIVER: &str = r#"
zmodload zsh/zpty || exit 1
zpty inner zsh -f -i
zpty -w inner 'PS1=; fpath=($PWD $fpath); autoload -Uz compinit && compinit -u -d ./dump'
zpty -w inner 'show() { print -r -- "<$BUFFER>"; exit }; zle -N show; bindkey "^X" show; echo pre""pared'
zpty -r inner line '*prepared*'
zpty -w -n inner "$1"$'\t\C-X'
zpty -r inner line '*>*'
print -r -- "$line"
"#;
