//! The command line: commands, flags, variables of the environment and exit codes.

use super::{Lines, snapshot};
use crate::harness::{Backend, Lockgate};
use regex::Regex;
use std::{fs, net::TcpListener};
use tempfile::TempDir;

#[tokio::test]
async fn commands_flags_and_variables_are_unchanged() {
    let folder = TempDir::new().expect("a temporary folder");
    let mut lines = Lines::new();
    let mut commands = vec![vec![]];
    while let Some(command) = commands.pop() {
        let arguments = [&command[..], &["--help".to_owned()]].concat();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = Lockgate::run(folder.path(), &arguments).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let help = String::from_utf8(output.stdout).expect("UTF-8");
        let name = [&["lockgate".to_owned()], &command[..]].concat().join(" ");
        for subcommand in describe(&name, &help, &mut lines) {
            commands.push([&command[..], &[subcommand]].concat());
        }
    }
    snapshot("cli", &lines);
}

/// Adds the usage, the arguments and the flags of one help page; returns its subcommands.
fn describe(name: &str, help: &str, lines: &mut Lines) -> Vec<String> {
    let flag =
        Regex::new(r"^ {2,6}((?:-\w, )?--[a-z0-9-]+(?:[ =]<[^>]+>)?(?:\.\.\.)?)").expect("valid");
    let argument = Regex::new(r"^  ([<\[][A-Z]+[>\]](?:\.\.\.)?)").expect("valid");
    let fact = Regex::new(r"\[(?:env: (\w+)=[^\]]*|(default: [^\]]+|possible values: [^\]]+))\]")
        .expect("valid");
    let (mut section, mut subcommands) = ("", vec![]);
    let mut entries: Vec<(String, String)> = vec![];
    for line in help.lines() {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            lines.insert(format!("{name} usage: {usage}"));
        } else if !line.starts_with(' ') {
            section = line;
        } else if COMMANDS.contains(&section) {
            // The rest of a line that is wrapped.
            if line.starts_with("   ") || line.is_empty() {
                continue;
            }
            let subcommand = line.split_whitespace().next().expect("a name");
            lines.insert(format!("{name} command {subcommand}"));
            if subcommand != "help" {
                subcommands.push(subcommand.to_owned());
            }
        } else {
            let found = match section {
                "Arguments:" => argument.captures(line),
                _ => flag.captures(line),
            };
            // A fact in brackets may be wrapped.
            if let Some(found) = found {
                entries.push((found[1].to_owned(), line.to_owned()));
            } else if let Some((_, text)) = entries.last_mut() {
                text.push(' ');
                text.push_str(line.trim_start());
            }
        }
    }
    for (entry, line) in &entries {
        lines.insert(format!("{name} {entry}"));
        for facts in fact.captures_iter(line) {
            let variable = facts.get(1).map(|it| format!("env: {}", it.as_str()));
            let other = facts.get(2).map(|it| it.as_str().to_owned());
            let fact = variable.or(other).expect("one of the two");
            lines.insert(format!("{name} {entry} [{fact}]"));
        }
    }
    subcommands
}

/// The headings of commands in a help page.
const COMMANDS: [&str; 5] = ["Commands:", "Run:", "Inspect:", "Operate:", "Reference:"];

#[tokio::test]
async fn exit_codes_are_unchanged() {
    let mut lines = Lines::new();
    let to = format!("ws://{}", Backend::echo().await);
    let mut lockgate = Lockgate::with_flags(&["--to", &to]).start().await;
    lockgate.terminate();
    let code = lockgate.exit().await.expect("no signal");
    lines.insert(format!("run, stopped by SIGTERM: {code}"));

    let held = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = held.local_addr().expect("bound").to_string();
    let folder = TempDir::new().expect("a temporary folder");
    let good = format!("[tls]\ndev_ca = true\n[[routes]]\nhosts = [\"a.test\"]\nto = \"{to}\"\n");
    for (file, text) in [
        ("good.toml", &*good),
        ("bad.toml", "nonsense = 1\n"),
        ("syntax.toml", "[server\n"),
    ] {
        fs::write(folder.path().join(file), text).expect("the folder is writable");
    }
    let absent = format!("unix:{}/absent.sock", folder.path().display());
    for command in [
        &["run", "--to", &to, "--admin", "off", "--listen", &taken][..],
        &["run", "--config", "bad.toml"],
        &["run", "--config", "syntax.toml"],
        &["run", "--config", "absent.toml"],
        &["run", "--to", &to, "--admin", &absent, "--takeover"],
        &["run"],
        &["run", "--to", "nonsense"],
        &["run", "--to", &to, "--config", "good.toml"],
        &["run", "--unknown"],
        &["check", "--config", "good.toml"],
        &["check", "--config", "bad.toml"],
        &["check", "--config", "syntax.toml"],
        &["check", "--config", "absent.toml"],
        &["check"],
        &["check", "good.toml"],
        &["check", "bad.toml"],
        &["check", "good.toml", "--config", "good.toml"],
        &["run", "bad.toml"],
        &["run", "absent.toml"],
        &["run", "--to", &to, "good.toml"],
        &["doctor", "bad.toml"],
        &["explain", "wss://a.test/", "good.toml"],
        &["explain", "--config", "good.toml", "wss://a.test/"],
        &["explain", "--config", "good.toml", "wss://b.test/"],
        &["explain", "--config", "bad.toml", "wss://a.test/"],
        &["probe", "wss://127.0.0.1:1/"],
        &["health", "--admin", &absent],
        &["status", "--admin", &absent],
        &["reload", "--admin", &absent],
        &["cert", "ca"],
        &["cert"],
        &["schema"],
        &["completions", "bash"],
        &["completions", "tcsh"],
        &["man"],
        &["man", "--out", "good.toml"],
        &["help", "session.ping"],
        &["help", "unknown"],
        &["unknown"],
        &["--help"],
        &["--version"],
        &[],
    ] {
        let output = Lockgate::run(folder.path(), command).await;
        let code = output.status.code().expect("no signal");
        let command = command.join(" ").replace(&to, "ADDRESS");
        let command = command.replace(&taken, "PORT-IN-USE");
        let command = command.replace(&absent, "ABSENT");
        lines.insert(format!("{command}: {code}"));
    }
    snapshot("exit_codes", &lines);
}
