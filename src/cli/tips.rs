//! Tips for commands, flags and operands that Lockgate does not have: typical guesses of users of nginx, Caddy, HAProxy
//! and uvicorn, and misspelt words.

use crate::config::{BackendSource, Cidr};
use clap::Command;

/// What to write instead of a flag.
enum Advice {
    /// A flag with an example of its value, of this command or of another one.
    Flag(&'static str),
    /// Any other answer.
    Text(&'static str),
}

use Advice::{Flag, Text};

/// Returns what to write instead of `unknown`, a word that `command` does not know. `rest` are the words after the
/// command.
pub(crate) fn tip(
    root: &Command,
    command: &Command,
    unknown: &str,
    rest: &[&str],
) -> Option<String> {
    if unknown.starts_with('-') {
        flag_tip(root, command, unknown, rest)
    } else if command.has_subcommands() {
        command_tip(command, unknown)
    } else {
        operand_tip(command, unknown)
    }
}

/// Returns the tip for a FILE that is the address of a backend, or the name of an application.
pub(crate) fn backend_tip(command: &Command, word: &str) -> Option<String> {
    let is_application = |word: &str| {
        let parts = word.split_once(':');
        parts.is_some_and(|(module, name)| is_identifier(module) && is_identifier(name))
            || APPLICATIONS.contains(&word)
    };
    if !has_flag(command, "to") {
        return None;
    }
    match backend(word) {
        Some(backend) => Some(format!("a backend is given with --to {backend}")),
        None if is_application(word) => Some(APPLICATION_TIP.to_owned()),
        None => None,
    }
}

fn command_tip(command: &Command, word: &str) -> Option<String> {
    let table = match command.get_name() {
        "cert" => CERT_COMMANDS,
        _ => COMMANDS,
    };
    let known = |(words, tip): &(&str, &str)| has_word(words, word).then(|| (*tip).to_owned());
    let lower = word.to_ascii_lowercase();
    if let Some(tip) = table.iter().find_map(known) {
        return Some(tip);
    }
    let names = command.get_subcommands().map(Command::get_name);
    if let Some(name) = closest(&lower, names) {
        return Some(format!("a similar command exists: '{name}'"));
    }
    if is_file(word) {
        return Some(format!("`lockgate run {word}` serves a configuration"));
    }
    if word.starts_with("wss://") || word.starts_with("https://") {
        return Some(
            "`lockgate probe URL` opens a WebSocket; `lockgate run --to ADDRESS` serves a backend"
                .to_owned(),
        );
    }
    if APPLICATIONS.contains(&word) {
        return Some(APPLICATION_TIP.to_owned());
    }
    let backend = backend(word)?;
    Some(format!("`lockgate run --to {backend}` serves a backend"))
}

fn flag_tip(root: &Command, command: &Command, unknown: &str, rest: &[&str]) -> Option<String> {
    let written = unknown.split('=').next().unwrap_or(unknown);
    let name = written.trim_start_matches('-');
    let at_root = command.has_subcommands();
    if at_root
        && CONFIG_FLAGS.contains(&name)
        && let Some(file) = rest.iter().find(|word| is_file(word))
    {
        return Some(format!(
            "`lockgate run {file}` serves a configuration, `lockgate check {file}` checks it"
        ));
    }
    let advice = FLAGS.iter().find(|(words, commands, _)| {
        has_word(words, name) && (commands.is_empty() || has_word(commands, command.get_name()))
    });
    if let Some((_, _, advice)) = advice {
        match advice {
            Text(text) => return Some((*text).to_owned()),
            Flag(flag) => {
                let long = flag[2..].split(' ').next().unwrap_or_default();
                if has_flag(command, long) {
                    return Some(format!("write {flag}"));
                }
                if let Some(owner) = owners(root, long).first() {
                    return Some(format!("`lockgate {owner} {flag}`"));
                }
            }
        }
    }
    if !written.starts_with("--") {
        return None;
    }
    let longs = command.get_arguments().filter_map(clap::Arg::get_long);
    if let Some(long) = closest(name, longs) {
        return Some(format!("a similar argument exists: '--{long}'"));
    }
    match &owners(root, name)[..] {
        [] => None,
        [owner, ..] if at_root => Some(format!(
            "the command comes first, as in `lockgate {owner} --{name}`"
        )),
        owners => Some(format!("{written} is a flag of {}", owners.join(", "))),
    }
}

fn operand_tip(command: &Command, word: &str) -> Option<String> {
    if is_file(word) && has_flag(command, "config") {
        return Some(format!("a configuration is given with --config {word}"));
    }
    if let Some(tip) = backend_tip(command, word) {
        return Some(tip);
    }
    if !has_flag(command, "route") {
        return None;
    }
    let flag = match word.parse::<Cidr>() {
        Ok(_) if has_flag(command, "client") => "client",
        _ if word.contains("://") => "backend",
        _ => "route",
    };
    Some(format!("write --{flag} {word}"))
}

/// Returns whether `word` is one of `words`, which are separated by spaces.
fn has_word(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

fn has_flag(command: &Command, long: &str) -> bool {
    let mut arguments = command.get_arguments();
    arguments.any(|arg| arg.get_long() == Some(long))
}

/// Returns the commands that have this flag.
fn owners(root: &Command, long: &str) -> Vec<String> {
    let mut owners = Vec::new();
    for command in root.get_subcommands() {
        // `help` has a copy of every command.
        if command.get_name() == "help" {
            continue;
        }
        if has_flag(command, long) {
            owners.push(command.get_name().to_owned());
        }
        let inner = command.get_subcommands().filter(|it| has_flag(it, long));
        owners.extend(inner.map(|it| format!("{} {}", command.get_name(), it.get_name())));
    }
    // The most frequent one first.
    owners.sort_by_key(|owner| owner != "run");
    owners
}

/// Returns the known word that `word` probably is: it is misspelt or abbreviated.
fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let is_abbreviation = |known: &str| word.len() >= 3 && known.starts_with(word);
    known
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, known)| *distance <= (word.len() / 3).max(1) || is_abbreviation(known))
        .filter(|_| word.len() >= 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Returns the address that `word` stands for: an address, or one without its scheme or host.
fn backend(word: &str) -> Option<String> {
    let address = match word.split_once(':') {
        None if word.parse::<u16>().is_ok() => format!("ws://127.0.0.1:{word}"),
        Some((_, port)) if port.parse::<u16>().is_ok() => format!("ws://{word}"),
        _ => word.to_owned(),
    };
    address.parse::<BackendSource>().is_ok().then_some(address)
}

fn is_file(word: &str) -> bool {
    word.ends_with(".toml")
}

fn is_identifier(word: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && word.chars().all(is_part)
}

/// Servers and frameworks behind Lockgate.
const APPLICATIONS: &[&str] = &[
    "aiohttp",
    "asgi",
    "channels",
    "daphne",
    "django",
    "fastapi",
    "flask",
    "gunicorn",
    "hypercorn",
    "node",
    "python",
    "python3",
    "sanic",
    "server.py",
    "socketio",
    "starlette",
    "tornado",
    "uvicorn",
    "websockets",
];

const APPLICATION_TIP: &str = "start your server first, on a port of this machine; then `lockgate run --to ws://127.0.0.1:8000` serves it as wss";

/// The flags of other servers for the configuration file.
const CONFIG_FLAGS: &[&str] = &[
    "c",
    "f",
    "conf",
    "config",
    "config-file",
    "configuration",
    "file",
];

/// Commands of other servers, separated by spaces, each with the tip.
const COMMANDS: &[(&str, &str)] = &[
    (
        "stop quit shutdown kill halt exit down terminate",
        "Ctrl-C or SIGTERM stops lockgate: `kill PID`, which `lockgate status` prints, or `systemctl stop lockgate`",
    ),
    (
        "start serve server up launch listen proxy reverse-proxy http tls daemon",
        "`lockgate run --to ws://127.0.0.1:8765` serves a backend, `lockgate run FILE` a configuration",
    ),
    (
        "restart graceful hup refresh",
        "`lockgate reload` applies a changed configuration; `lockgate run --takeover` replaces the running process",
    ),
    (
        "upgrade update takeover replace",
        "`lockgate run --takeover` replaces the running process by one of a new version",
    ),
    ("version ver", "`lockgate --version` prints the version"),
    (
        "adapt config configtest check-config conf dry-run fmt lint test validate verify",
        "`lockgate check FILE` checks a configuration",
    ),
    (
        "init new generate example sample config-schema keys reference",
        "`lockgate schema --markdown` prints every key of the configuration; config/minimal.toml is a small example",
    ),
    (
        "list ls ps connections conns clients session who",
        "`lockgate sessions` lists the live sessions",
    ),
    (
        "info show state stats stat top backends pools routes listeners",
        "`lockgate status` shows listeners, routes, backends and sessions",
    ),
    (
        "metrics prometheus",
        "metrics are served at /metrics of `server.metrics` and of the admin address, http://127.0.0.1:9180/metrics",
    ),
    (
        "log logs journal access-log",
        "the log goes to stderr and access lines to stdout; under systemd, `journalctl -u lockgate` shows both",
    ),
    (
        "certs certificates certificate",
        "`lockgate cert list` lists the certificates",
    ),
    (
        "trust untrust install-ca",
        "`lockgate cert trust` makes this machine trust the development CA",
    ),
    (
        "ca root-ca",
        "`lockgate cert ca` prints the path of the development CA",
    ),
    (
        "renew acme certbot letsencrypt",
        "`lockgate cert renew HOST` orders a certificate now",
    ),
    (
        "close disconnect drop evict",
        "`lockgate kick ID` closes a session, `lockgate drain` empties a backend or a route",
    ),
    (
        "disable enable maintenance undrain resume maint",
        "`lockgate drain` empties a backend or a route, `lockgate drain --undo` ends that",
    ),
    (
        "connect curl open ping wscat websocat client",
        "`lockgate probe URL` opens a WebSocket step by step",
    ),
    (
        "dump frames monitor sniff tail tcpdump trace watch",
        "`lockgate tap` shows the frames of live sessions",
    ),
    (
        "match route why",
        "`lockgate explain URL` shows the route of a request",
    ),
    (
        "diagnose debug healthcheck-config",
        "`lockgate doctor` finds problems",
    ),
    (
        "healthcheck healthz alive ready live",
        "`lockgate health` checks that a process is alive",
    ),
    (
        "environ env environment",
        "`lockgate run --help` lists the variables",
    ),
    (
        "build-info list-modules modules",
        "`lockgate --version` prints the version; there are no modules",
    ),
];

/// Subcommands of `cert` of other programs.
const CERT_COMMANDS: &[(&str, &str)] = &[
    (
        "show info ls status get check",
        "`lockgate cert list` lists the certificates",
    ),
    (
        "order request issue obtain new create run force-renew",
        "`lockgate cert renew HOST` orders a certificate now; hosts get theirs by the configuration",
    ),
    (
        "install add",
        "`lockgate cert trust` trusts the development CA; tls.certificates names certificate files",
    ),
    (
        "path root export",
        "`lockgate cert ca` prints the path of the development CA",
    ),
    (
        "untrust uninstall remove delete",
        "`lockgate cert trust` prints how to undo it",
    ),
];

/// The flags of other servers without their dashes, the commands for which the advice is (none: all), and the advice.
/// The first match counts.
const FLAGS: &[(&str, &str, Advice)] = &[
    (
        "insecure k cacert cafile no-verify verify",
        "probe",
        Flag("--ca FILE"),
    ),
    (
        "origin",
        "probe",
        Text("an Origin is a header: --header \"Origin: https://app.example.com\""),
    ),
    (
        "host H headers",
        "probe explain",
        Flag("--header \"NAME: VALUE\""),
    ),
    (
        "watch w follow f",
        "status sessions list",
        Text("`watch lockgate status` repeats a command; `lockgate tap` follows sessions"),
    ),
    (
        "port p P bind b address addr a listen-address l http-port https-port https http listener bind-address",
        "",
        Flag("--listen 127.0.0.1:8443"),
    ),
    (
        "backend backends upstream upstreams target proxy proxy-pass server dest destination forward url app origin-server remote u uds fd",
        "",
        Flag("--to ws://127.0.0.1:8765"),
    ),
    (
        "domain domains hostname server-name name from vhost sni",
        "",
        Flag("--host chat.example.com"),
    ),
    (
        "cert certificate certfile cert-file crt key keyfile key-file private-key pem ssl-cert ssl-certfile ssl-key ssl-keyfile tls-cert tls-key ssl-certificate ssl-certificate-key ssl-ca-certs ssl-keyfile-password",
        "",
        Text(
            "certificate files are keys of a configuration: tls.certificates = [{ cert = \"a.pem\", key = \"a.key\" }]; without \
             files, --acme MAIL obtains certificates",
        ),
    ),
    (
        "tls ssl tls-on internal-certs dev",
        "",
        Text("TLS is always on: with --acme MAIL by Let's Encrypt, otherwise by a development CA"),
    ),
    (
        "email mail letsencrypt acme-email contact m",
        "",
        Flag("--acme ops@example.com"),
    ),
    (
        "cors allow-origin origins allowed-origins allow-origins",
        "",
        Flag("--origin https://app.example.com"),
    ),
    (
        "t T test check validate dry-run configtest test-config",
        "",
        Text("`lockgate check FILE` checks a configuration"),
    ),
    (
        "s signal sf st",
        "",
        Text(
            "`lockgate reload` reloads the configuration; `kill PID` stops lockgate, or `systemctl stop lockgate`",
        ),
    ),
    (
        "version V",
        "",
        Text("`lockgate --version` prints the version"),
    ),
    (
        "v",
        "lockgate",
        Text("`lockgate --version` prints the version"),
    ),
    (
        "reload hot-reload reload-dir watch",
        "",
        Text("files are always watched; `lockgate reload` reads them now and prints the result"),
    ),
    (
        "workers w threads nbthread processes worker-processes n j",
        "",
        Text(
            "one process uses all cores; the variable TOKIO_WORKER_THREADS sets the number of threads",
        ),
    ),
    (
        "daemon daemonize background detach d D pid pidfile pid-file",
        "",
        Text("lockgate stays in the foreground; examples/systemd has units for a service"),
    ),
    (
        "verbose v vv debug loglevel log trace quiet q",
        "",
        Flag("--log-level debug"),
    ),
    (
        "log-file logfile error-log log-path e log-config use-colors",
        "",
        Text(
            "the log goes to stderr, as in `2>> lockgate.log`; --access PATH writes access lines to a file",
        ),
    ),
    (
        "access-log accesslog access-logfile access-file",
        "",
        Flag("--access /var/log/lockgate.log"),
    ),
    ("log-json json-log json-logs", "", Flag("--log-format json")),
    (
        "forwarded-allow-ips proxy-headers trusted-proxies trust-proxy real-ip",
        "",
        Text(
            "client addresses are always sent to backends; server.trusted_proxies names proxies in front of Lockgate",
        ),
    ),
    (
        "ws-max-size max-size max-message max-payload",
        "",
        Text("the key session.max_message sets it"),
    ),
    (
        "ws-ping-interval ws-ping-timeout ping-interval ping-timeout heartbeat keepalive",
        "",
        Text("the keys session.ping.interval and session.ping.timeout set it"),
    ),
    (
        "timeout-keep-alive timeout-graceful-shutdown read-timeout idle-timeout graceful-timeout grace",
        "",
        Text("the keys of [limits], [session] and [drain] set timeouts"),
    ),
    (
        "limit-concurrency max-connections maxconn limit-max-requests backlog",
        "",
        Text("the keys of [limits] set it"),
    ),
    (
        "root-path path prefix location strip-prefix root r",
        "",
        Text("paths belong to the routes of a configuration: path and strip_prefix"),
    ),
    (
        "c f conf config-file configuration file C",
        "",
        Flag("--config FILE"),
    ),
    (
        "admin-address admin-port admin-listen api",
        "",
        Flag("--admin 127.0.0.1:9180"),
    ),
    ("storage state data-dir home", "", Flag("--data FOLDER")),
    (
        "token admin-token password auth",
        "",
        Text("the variable LOCKGATE_ADMIN_TOKEN has the token of server.admin_token"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Arguments;
    use clap::CommandFactory;

    fn texts() -> Vec<&'static str> {
        let commands = COMMANDS.iter().chain(CERT_COMMANDS).map(|(_, tip)| *tip);
        let flags = FLAGS.iter().filter_map(|(_, _, advice)| match advice {
            Text(text) => Some(*text),
            Flag(_) => None,
        });
        commands.chain(flags).chain([APPLICATION_TIP]).collect()
    }

    #[test]
    fn commands_and_flags_in_tips_exist() {
        let mut root = Arguments::command();
        root.build();
        let mut count = 0;
        for text in texts() {
            for quoted in text.split('`').skip(1).step_by(2) {
                let Some(line) = quoted.strip_prefix("lockgate ") else {
                    continue;
                };
                count += 1;
                let (mut command, mut words) = (&root, line.split(' ').peekable());
                while let Some(found) = words.peek().and_then(|word| command.find_subcommand(word))
                {
                    command = found;
                    words.next();
                }
                assert!(
                    !command.has_subcommands() || line.starts_with("--"),
                    "{quoted} is no command"
                );
                for long in words.filter_map(|word| word.strip_prefix("--")) {
                    assert!(has_flag(command, long), "{quoted}: --{long}");
                }
            }
        }
        assert!(count > 30, "{count}");
        for (_, _, advice) in FLAGS {
            if let Flag(flag) = advice {
                let long = flag[2..].split(' ').next().unwrap();
                assert!(!owners(&root, long).is_empty(), "{flag}");
            }
        }
    }

    #[test]
    fn guess_is_no_existing_command() {
        let mut root = Arguments::command();
        root.build();
        for (words, tip) in COMMANDS {
            for word in words.split(' ') {
                assert!(root.find_subcommand(word).is_none(), "{word}: {tip}");
            }
        }
        let cert = root.find_subcommand("cert").unwrap();
        for (words, tip) in CERT_COMMANDS {
            for word in words.split(' ') {
                assert!(cert.find_subcommand(word).is_none(), "{word}: {tip}");
            }
        }
    }

    #[test]
    fn misspelt_word_is_recognised_and_another_word_is_not() {
        let known = ["run", "status", "sessions", "check", "tap", "probe"];
        for (word, expected) in [
            ("rnu", Some("run")),
            ("runn", Some("run")),
            ("stats", Some("status")),
            ("session", Some("sessions")),
            ("sess", Some("sessions")),
            ("chek", Some("check")),
            ("start", None),
            ("serve", None),
            ("test", None),
            ("x", None),
        ] {
            assert_eq!(closest(word, known.into_iter()), expected, "{word}");
        }
    }

    #[test]
    fn address_without_scheme_or_host_is_completed() {
        for (word, expected) in [
            ("8765", Some("ws://127.0.0.1:8765")),
            ("localhost:8765", Some("ws://localhost:8765")),
            ("ws://10.0.0.1:1", Some("ws://10.0.0.1:1")),
            ("main:app", None),
            ("lockgate.toml", None),
            ("99999", None),
        ] {
            assert_eq!(backend(word).as_deref(), expected, "{word}");
        }
    }
}
