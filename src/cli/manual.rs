//! The parts of the help that clap does not generate: groups of commands, examples and exit codes.

use crate::cli::args::Arguments;
use crate::cli::wrapped::write_wrapped;
use clap::{Command, CommandFactory};
use std::fmt::Write;

/// A command with what its help has at the end.
struct CommandManual {
    /// Its name, with that of the command around it.
    name: &'static str,
    /// Command lines, each with its purpose.
    examples: &'static [(&'static str, &'static str)],
    /// The exit codes other than those of all commands.
    exit_codes: &'static [(u8, &'static str)],
}

/// Returns all commands, with their groups, examples and exit codes.
pub(crate) fn command() -> Command {
    let mut command = Arguments::command();
    for manual in MANUALS {
        let text = end_of_help(manual.examples, manual.exit_codes);
        command = match manual.name.split_once(' ') {
            Some((outer, inner)) => command.mut_subcommand(outer, |outer| {
                outer.mut_subcommand(inner, |inner| inner.after_help(text))
            }),
            None => command.mut_subcommand(manual.name, |inner| inner.after_help(text)),
        };
    }
    let template = template(&command);
    command
        .help_template(template)
        .after_help(end_of_help(EXAMPLES, EXIT_CODES))
}

/// Returns the help of the program with its commands in groups.
fn template(command: &Command) -> String {
    let mut text = String::from("{before-help}{about-with-newline}\n{usage-heading} {usage}\n");
    let names = GROUPS.iter().flat_map(|(_, names)| *names);
    let width = names.map(|name| name.len()).max().unwrap_or(0);
    for (heading, names) in GROUPS {
        let _ = write!(text, "\n{heading}:\n");
        for name in *names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map_or_else(|| HELP_ABOUT.to_owned(), ToString::to_string);
            write_wrapped(&mut text, &format!("  {name:<width$}  "), &about);
        }
    }
    text + "\nOptions:\n{options}{after-help}"
}

fn end_of_help(examples: &[(&str, &str)], exit_codes: &[(u8, &str)]) -> String {
    let mut text = String::from("Examples:");
    for (line, purpose) in examples {
        let _ = write!(text, "\n  {line}\n      {purpose}");
    }
    if !exit_codes.is_empty() {
        text.push_str("\n\nExit codes:");
        for (code, meaning) in exit_codes {
            let _ = write!(text, "\n  {code:>2}  {meaning}");
        }
    }
    text
}

/// The commands by what they are for, in the order of their use.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run", &["demo", "run", "check", "explain"]),
    (
        "Inspect",
        &["status", "sessions", "tap", "health", "probe", "doctor"],
    ),
    ("Operate", &["reload", "drain", "kick", "cert"]),
    ("Reference", &["help", "schema", "completions", "man"]),
];

/// clap adds the command `help` itself.
const HELP_ABOUT: &str = "Describe a command, or a configuration key such as session.ping.interval";

const EXAMPLES: &[(&str, &str)] = &[
    ("lockgate demo", "Try it: a chat between two browser tabs."),
    (
        "lockgate run --to ws://127.0.0.1:8765",
        "Serve wss://localhost:8443 in front of a server on this machine.",
    ),
    (
        "lockgate help session.ping",
        "Describe a table or a key of the configuration.",
    ),
];

const EXIT_CODES: &[(u8, &str)] = &[
    (0, "success; for run, a shutdown by a signal"),
    (1, "the command failed: the message names the reason"),
    (64, "the configuration or the command line is invalid"),
];

const MANUALS: &[CommandManual] = &[
    CommandManual {
        name: "demo",
        examples: &[
            (
                "lockgate demo",
                "Open https://localhost:8443 in two browser tabs.",
            ),
            ("lockgate demo --listen 127.0.0.1:9443", "Use another port."),
        ],
        exit_codes: &[],
    },
    CommandManual {
        name: "run",
        examples: &[
            (
                "lockgate run --to ws://127.0.0.1:8765",
                "Serve wss://localhost:8443 with a certificate of the development CA.",
            ),
            (
                "lockgate run --to ws://127.0.0.1:8765 --host chat.example.com --acme ops@example.com",
                "Serve wss://chat.example.com with a certificate of Let's Encrypt.",
            ),
            (
                "lockgate run --config lockgate.toml",
                "Serve what a file configures.",
            ),
            (
                "lockgate run --config lockgate.toml --takeover",
                "Replace the running process without closing a port.",
            ),
        ],
        exit_codes: &[
            (0, "stopped by a signal"),
            (1, "it could not start: the message names the reason"),
            (64, "the configuration or the command line is invalid"),
        ],
    },
    CommandManual {
        name: "check",
        examples: &[
            (
                "lockgate check --config lockgate.toml",
                "Before a reload, or in a test of the file.",
            ),
            (
                "lockgate check --config lockgate.toml --json",
                "For a program.",
            ),
        ],
        exit_codes: &[(0, "the file is valid"), (64, "the file has errors")],
    },
    CommandManual {
        name: "explain",
        examples: &[
            (
                "lockgate explain --config lockgate.toml wss://chat.example.com/ws",
                "Show the route of a handshake, and the request that the backend would receive.",
            ),
            (
                "lockgate explain --config lockgate.toml wss://chat.example.com/ws --header \"Origin: https://example.com\"",
                "The same for a page of another origin.",
            ),
        ],
        exit_codes: &[
            (0, "the request would be forwarded"),
            (1, "the request would be refused"),
            (64, "the configuration or the command line is invalid"),
        ],
    },
    CommandManual {
        name: "status",
        examples: &[
            ("lockgate status", "Show the process on 127.0.0.1:9180."),
            (
                "lockgate status --config /etc/lockgate/lockgate.toml",
                "Use server.admin of a file.",
            ),
        ],
        exit_codes: &[],
    },
    CommandManual {
        name: "sessions",
        examples: &[
            (
                "lockgate sessions --route chat --longer-than 1h",
                "Sessions of one route, by age.",
            ),
            (
                "lockgate sessions --client 10.0.0.0/8 --json",
                "Sessions of a network, as JSON.",
            ),
        ],
        exit_codes: &[],
    },
    CommandManual {
        name: "tap",
        examples: &[
            (
                "lockgate tap --route chat",
                "Show the frames of a route for a minute.",
            ),
            (
                "lockgate tap --route chat --for 10m --bytes 1024",
                "Longer, and more of each frame.",
            ),
        ],
        exit_codes: &[],
    },
    CommandManual {
        name: "health",
        examples: &[("lockgate health", "As the health check of a container.")],
        exit_codes: &[
            (0, "it is alive"),
            (1, "it is not: the message names the reason"),
        ],
    },
    CommandManual {
        name: "probe",
        examples: &[
            (
                "lockgate probe wss://chat.example.com/ws",
                "Find the step that fails.",
            ),
            (
                "lockgate probe wss://chat.example.com/ws --h2 --header \"Origin: https://example.com\"",
                "Over HTTP/2, as a page would.",
            ),
        ],
        exit_codes: &[(0, "every step succeeded"), (1, "a step failed")],
    },
    CommandManual {
        name: "doctor",
        examples: &[
            ("lockgate doctor", "Check this machine."),
            (
                "lockgate doctor --config lockgate.toml",
                "Also check a configuration before it is used.",
            ),
        ],
        exit_codes: &[(0, "no check failed"), (1, "a check failed")],
    },
    CommandManual {
        name: "reload",
        examples: &[(
            "lockgate reload",
            "Apply the changed file now, and report the result.",
        )],
        exit_codes: &[
            (0, "applied, or nothing has changed"),
            (1, "rejected: the current configuration stays"),
        ],
    },
    CommandManual {
        name: "drain",
        examples: &[
            (
                "lockgate drain --backend ws://10.0.0.1:8765",
                "Empty a backend before it is stopped.",
            ),
            (
                "lockgate drain --backend ws://10.0.0.1:8765 --undo",
                "Use it again.",
            ),
        ],
        exit_codes: &[],
    },
    CommandManual {
        name: "kick",
        examples: &[
            (
                "lockgate kick --client 192.0.2.7",
                "Close the sessions of one address with 1008.",
            ),
            (
                "lockgate kick --route chat --code 1012 --reason \"please reconnect\"",
                "Make the clients of a route reconnect.",
            ),
        ],
        exit_codes: &[],
    },
    CommandManual {
        name: "cert",
        examples: &[("lockgate cert list", "Show when each certificate expires.")],
        exit_codes: &[],
    },
    CommandManual {
        name: "cert list",
        examples: &[("lockgate cert list", "Show when each certificate expires.")],
        exit_codes: &[],
    },
    CommandManual {
        name: "cert renew",
        examples: &[(
            "lockgate cert renew chat.example.com",
            "After an error of the CA was corrected.",
        )],
        exit_codes: &[],
    },
    CommandManual {
        name: "cert ca",
        examples: &[("lockgate cert ca", "For the trust settings of a client.")],
        exit_codes: &[],
    },
    CommandManual {
        name: "cert trust",
        examples: &[(
            "sudo lockgate cert trust",
            "So that browsers accept the development CA.",
        )],
        exit_codes: &[],
    },
    CommandManual {
        name: "schema",
        examples: &[
            ("lockgate schema > lockgate.schema.json", "For an editor."),
            ("lockgate schema --markdown", "All keys with their facts."),
        ],
        exit_codes: &[],
    },
    CommandManual {
        name: "completions",
        examples: &[
            (
                "lockgate completions bash > /etc/bash_completion.d/lockgate",
                "For all users of Bash.",
            ),
            (
                "lockgate completions zsh > /usr/local/share/zsh/site-functions/_lockgate",
                "For all users of Zsh.",
            ),
            (
                "lockgate completions fish > ~/.config/fish/completions/lockgate.fish",
                "For one user of Fish.",
            ),
        ],
        exit_codes: &[],
    },
    CommandManual {
        name: "man",
        examples: &[
            ("lockgate man | man -l -", "Read the page of the program."),
            (
                "lockgate man --out /usr/local/share/man/man1",
                "Install all pages.",
            ),
        ],
        exit_codes: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_command_is_in_a_group_and_has_examples_that_parse() {
        let command = command();
        let mut names = BTreeSet::new();
        for outer in command.get_subcommands() {
            names.insert(outer.get_name().to_owned());
            let inner = outer.get_subcommands();
            names.extend(inner.map(|inner| format!("{} {}", outer.get_name(), inner.get_name())));
        }
        let described: BTreeSet<String> = MANUALS.iter().map(|it| it.name.to_owned()).collect();
        assert_eq!(names, described);
        let grouped = GROUPS.iter().flat_map(|(_, names)| *names);
        let grouped: Vec<&str> = grouped.copied().filter(|name| *name != "help").collect();
        let outer = command.get_subcommands().map(Command::get_name);
        let all: BTreeSet<&str> = outer.collect();
        assert_eq!(
            all.len(),
            grouped.len(),
            "a command is in two groups, or in none"
        );
        let grouped: BTreeSet<&str> = grouped.into_iter().collect();
        assert_eq!(all, grouped);

        let of_commands = MANUALS.iter().flat_map(|manual| manual.examples);
        for (line, _) in EXAMPLES.iter().chain(of_commands) {
            let line = line.strip_prefix("sudo ").unwrap_or(line);
            let line = line.split(['>', '|']).next();
            let mut words = Vec::new();
            for (index, part) in line.unwrap_or_default().split('"').enumerate() {
                match index % 2 {
                    0 => words.extend(part.split_whitespace()),
                    _ => words.push(part),
                }
            }
            if words[1] != "help" {
                let parsed = command.clone().try_get_matches_from(&words);
                parsed.unwrap_or_else(|error| panic!("{line:?}: {error}"));
            }
        }
    }
}
