//! Guesses of users of other servers: the error names the right command.

use super::stderr;
use crate::harness::Lockgate;
use tempfile::TempDir;

/// The arguments, the tip, and what must not be proposed.
#[tokio::test]
async fn guess_of_another_server_gets_the_right_command() {
    let folder = TempDir::new().expect("a temporary folder");
    for (line, tip, misleading) in [
        ("stop", "kill", "tap"),
        ("quit", "kill", ""),
        ("restart", "lockgate reload", ""),
        ("upgrade", "--takeover", ""),
        ("start", "lockgate run", "status"),
        ("serve", "lockgate run", ""),
        ("up", "lockgate run", ""),
        ("reverse-proxy", "lockgate run --to", ""),
        ("version", "lockgate --version", "sessions"),
        ("validate", "lockgate check", ""),
        ("configtest", "lockgate check", ""),
        ("test", "lockgate check", ""),
        ("fmt", "lockgate check", ""),
        ("adapt", "lockgate check", ""),
        ("list", "lockgate sessions", ""),
        ("logs", "stderr", ""),
        ("metrics", "/metrics", ""),
        ("trust", "lockgate cert trust", "status"),
        ("certs", "lockgate cert list", ""),
        ("renew", "lockgate cert renew", ""),
        ("fastapi", "lockgate run --to", ""),
        ("uvicorn", "lockgate run --to", ""),
        ("lockgate.toml", "lockgate run lockgate.toml", ""),
        (
            "ws://127.0.0.1:8765",
            "lockgate run --to ws://127.0.0.1:8765",
            "",
        ),
        (
            "localhost:8765",
            "lockgate run --to ws://localhost:8765",
            "",
        ),
        ("8765", "lockgate run --to ws://127.0.0.1:8765", ""),
        ("rnu", "'run'", ""),
        ("stauts", "'status'", ""),
        ("chekc lockgate.toml", "'check'", ""),
        ("cert show", "lockgate cert list", ""),
        ("cert renwe", "'renew'", ""),
        ("-t", "lockgate check", ""),
        ("-s reload", "lockgate reload", "--"),
        ("-c lockgate.toml", "lockgate run lockgate.toml", ""),
        ("-f lockgate.toml", "lockgate run lockgate.toml", ""),
        ("--config lockgate.toml", "lockgate run", ""),
        ("--to ws://127.0.0.1:8765", "lockgate run --to", ""),
        ("--listen 127.0.0.1:8443", "lockgate run --listen", ""),
        ("--port 8443", "--listen", ""),
        ("-v", "--version", ""),
        ("run --version", "lockgate --version", ""),
        ("run --port 8443", "--listen", "--protocol"),
        ("run -p 8443", "--listen", ""),
        ("run --bind 0.0.0.0:443", "--listen", ""),
        (
            "run --backend ws://127.0.0.1:8765",
            "--to ws://",
            "-- --backend",
        ),
        ("run --upstream ws://127.0.0.1:8765", "--to ws://", ""),
        ("run --proxy ws://127.0.0.1:8765", "--to ws://", ""),
        ("run --from a.test", "--host", ""),
        ("run --domain a.test", "--host", ""),
        ("run --cert a.pem", "tls.certificates", ""),
        ("run --ssl-keyfile a.pem", "tls.certificates", ""),
        ("run --tls", "--acme", ""),
        ("run --email a@b.test", "--acme", ""),
        ("run --workers 4", "TOKIO_WORKER_THREADS", ""),
        ("run --reload", "lockgate reload", ""),
        ("run --daemon", "systemd", ""),
        ("run -d", "systemd", ""),
        ("run --verbose", "--log-level debug", ""),
        ("run --debug", "--log-level debug", ""),
        ("run --log-file x", "stderr", ""),
        ("run --access-log x", "--access", ""),
        ("run --cors *", "--origin", ""),
        ("run --forwarded-allow-ips *", "server.trusted_proxies", ""),
        ("run --ws-max-size 1", "session.max_message", ""),
        ("run --ws-ping-interval 20", "session.ping.interval", ""),
        ("run --root-path /x", "routes", ""),
        ("run --dry-run", "lockgate check", ""),
        ("run -c lockgate.toml", "--config", ""),
        ("run --conf lockgate.toml", "--config", ""),
        ("run --cofnig lockgate.toml", "'--config'", ""),
        ("run --lisen 127.0.0.1:1", "'--listen'", ""),
        ("run ws://127.0.0.1:8765", "--to ws://127.0.0.1:8765", ""),
        ("run 127.0.0.1:8765", "--to ws://127.0.0.1:8765", ""),
        ("run 8765", "--to ws://127.0.0.1:8765", ""),
        ("run main:app", "--to ws://", ""),
        ("check --json --verbose", "", "-- --verbose"),
        (
            "drain ws://127.0.0.1:8765",
            "--backend ws://127.0.0.1:8765",
            "",
        ),
        ("drain chat", "--route chat", ""),
        ("drain lockgate.toml", "--config lockgate.toml", ""),
        ("sessions 10.0.0.1", "--client 10.0.0.1", ""),
        ("sessions chat", "--route chat", ""),
        ("probe --insecure wss://localhost/", "--ca", ""),
        ("probe -k wss://localhost/", "--ca", ""),
        (
            "probe --origin https://a.test wss://localhost/",
            "--header",
            "",
        ),
        ("status --watch", "", "-- --watch"),
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = Lockgate::run(folder.path(), &arguments).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(64), "{line}: {text}");
        assert!(text.contains(tip), "{line}: {tip:?} is not in {text}");
        if !tip.is_empty() {
            assert!(text.contains("tip: "), "{line}: {text}");
        }
        let tips: String = text.lines().filter(|line| line.contains("tip: ")).collect();
        assert!(
            misleading.is_empty() || !tips.contains(misleading),
            "{line}: {misleading:?} is in {tips}"
        );
        assert!(!tips.contains("as a value"), "{line}: {tips}");
    }
}
