//! Progress of commands that take longer than a second: on a terminal only.

use super::help::on_terminal;
use crate::harness::{Backend, Lockgate};
use std::{fs, net::TcpListener};
use tempfile::TempDir;

/// The server accepts connections and never answers.
#[tokio::test]
async fn progress_of_slow_commands_is_shown_on_a_terminal_only() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound").to_string();
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("slow.toml").display().to_string();
    let config = format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\nadmin = \"off\"\n[tls]\ndev_ca = true\n\
         [[routes]]\nhosts = [\"localhost\"]\nto = \"wss://{address}\"\n"
    );
    fs::write(&file, config).expect("writable");
    let url = format!("wss://{address}/");
    let data = folder.path().join("data").display().to_string();
    for (arguments, step) in [
        (
            &["probe", "--timeout", "2500ms", &url][..],
            "TLS: performing",
        ),
        (&["doctor", &file], "checking the backend wss://"),
        (
            &["drain", "--route", "a", "--admin", &address],
            "waiting for",
        ),
        (
            &["cert", "renew", "a.test", "--admin", &address],
            "waiting for",
        ),
        (&["status", "--json", "--admin", &address], "waiting for"),
    ] {
        let environment = [("LOCKGATE_DATA", &*data), ("HOME", &*data)];
        let shown = on_terminal(60, arguments, &environment).await;
        let line = format!("\u{1b}[K{step}");
        assert!(shown.contains(&line), "{arguments:?}: {shown:?}");
        // The line is removed before the result.
        let last = shown.rfind(&line).expect("just found");
        let rest = &shown[last + line.len()..];
        assert!(rest.contains("\u{1b}[K"), "{arguments:?}: {shown:?}");

        let output = Lockgate::run(folder.path(), arguments).await;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    }
    let url = ["probe", "--timeout", "1500ms", &url];
    let shown = on_terminal(60, &url, &[("TERM", "dumb"), ("HOME", &data)]).await;
    assert!(!shown.contains("TLS: performing"), "{shown:?}");
}

#[tokio::test]
async fn drain_waits_for_the_last_session_and_shows_their_number() {
    let backend = Backend::listen().await;
    let setup = Lockgate::to(backend.address)
        .with("name = \"chat\"\nsession = { close_timeout = \"3s\" }\n[drain]\nwindow = \"1s\"");
    let lockgate = setup.start().await;
    // Both ends leave the Close unanswered.
    let (_client, _server, _) = lockgate.session(&backend).await;
    let admin = format!("unix:{}", lockgate.folder().join("admin.sock").display());
    let drain = ["drain", "--route", "chat", "--admin", &admin, "--wait"];
    let output = Lockgate::run(lockgate.folder(), &[&drain[..], &["300ms"]].concat()).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("still open after 300ms: 1"), "{text}");

    let shown = on_terminal(60, &[&drain[..], &["20s"]].concat(), &[]).await;
    assert!(
        shown.contains("\u{1b}[Kclosing sessions, 1 open"),
        "{shown:?}"
    );
    assert!(shown.ends_with("every session has ended\n"), "{shown:?}");
    // A drain of nothing does not mention sessions that have ended.
    let shown = on_terminal(60, &[&drain[..], &["20s"]].concat(), &[]).await;
    assert!(!shown.contains("has ended"), "{shown:?}");
}
