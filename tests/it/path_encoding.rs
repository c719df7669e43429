//! `path_encoding = "as-is"`: paths with escaped and repeated slashes, as Collabora has them.

use crate::harness::{Backend, Lockgate};
use std::net::SocketAddr;

fn config(routes: &[(&str, &str, SocketAddr, &str)]) -> String {
    let mut config =
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n".to_owned();
    for (name, path, to, more) in routes {
        config += &format!(
            "[[routes]]\nname = \"{name}\"\nhosts = [\"a.test\"]\npath = '{path}'\nto = \"ws://{to}\"\norigins = [\"*\"]\n{more}\n"
        );
    }
    config
}

const AS_IS: &str = "path_encoding = \"as-is\"";

/// Sends a request for the path; returns the status of the refusal, or the target that the backend received.
async fn target(lockgate: &Lockgate, backend: &Backend, path: &str) -> Result<String, u16> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    let mut client = lockgate.request(request).await;
    tokio::select! {
        mut server = backend.accept() => {
            let head = server.head().await;
            server.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
            assert_eq!(client.head().await.status(), 204);
            Ok(head.start.split(' ').nth(1).unwrap_or_default().to_owned())
        }
        head = client.head() => Err(head.status()),
    }
}

#[tokio::test]
async fn path_is_forwarded_as_the_client_sent_it() {
    let backend = Backend::listen().await;
    let config = config(&[("cool", "/cool/*", backend.address, AS_IS)]);
    let lockgate = Lockgate::with_file(&config).start().await;
    for path in [
        "/cool/https%3A%2F%2Fcloud.test%2Findex.php%2Ffiles%2F12?a=%2F/ws",
        "/cool/a%2fb/ws",
        "/cool//a///b",
        "/cool/%41/./b",
        "/cool/a/../b",
        "//cool/x%2F..%2Fy",
        "/cool",
    ] {
        let seen = target(&lockgate, &backend, path).await;
        assert_eq!(seen.as_deref(), Ok(path));
    }
    for path in [
        "/cool/..%2Fadmin",
        "/cool%2Fadmin%2F..%2F..%2Fx",
        "/cool/%2e%2e%2fadmin",
        "/cool/x%2F..%2F..%2Fadmin",
        "/cool/..%2F..%2Fadmin",
        "/cool/a%5C..%5Cb",
        "/cool/a%00",
    ] {
        let seen = target(&lockgate, &backend, path).await;
        assert_eq!(seen, Err(400), "{path}");
    }
}

#[tokio::test]
async fn handshake_keeps_its_path_over_both_versions() {
    let backend = Backend::listen().await;
    let config = config(&[("cool", "/cool/*", backend.address, AS_IS)]);
    let lockgate = Lockgate::with_file(&config).start().await;
    let path = "/cool/https%3A%2F%2Fa//ws";
    let mut client = lockgate.upgrade(path, "").await;
    let (_server, head) = backend.accept_session().await;
    assert_eq!(head.start, format!("GET {path} HTTP/1.1"));
    assert_eq!(client.head().await.status(), 101);
    let mut client = lockgate.h2().await;
    let (session, (_server, head)) = tokio::join!(client.session(path), backend.accept_session());
    assert_eq!(head.start, format!("GET {path} HTTP/1.1"));
    drop(session);
}

/// A path must not select one route and be read by the backend as a path of another one.
#[tokio::test]
async fn path_whose_two_forms_select_different_routes_is_a_400() {
    let (cool, admin) = (Backend::listen().await, Backend::listen().await);
    let config = config(&[
        ("all", "/*", cool.address, AS_IS),
        (
            "admin",
            "/admin/*",
            admin.address,
            "allow = [\"192.0.2.0/24\"]",
        ),
        ("exact", "/a/b", admin.address, AS_IS),
        ("expression", "~ ^/r/[^/]+$", admin.address, AS_IS),
    ]);
    let lockgate = Lockgate::with_file(&config).start().await;
    for (path, expected) in [
        ("/x%2Fy", Ok("/x%2Fy")),
        ("/admin%2Fx", Err(400)),
        ("/x%2F..%2Fadmin", Err(400)),
        ("/%61dmin%2Fx", Err(400)),
        ("/x/..%2fadmin%2fy", Err(400)),
        ("/admin/x%2Fy", Err(400)),
        ("/a%2Fb", Err(400)),
        ("/a%2Fc", Ok("/a%2Fc")),
        ("/r/a%2Fb", Err(400)),
        ("/admin/x", Err(403)),
        ("//admin/x", Err(403)),
        ("/x%252Fy", Ok("/x%252Fy")),
    ] {
        let seen = target(&lockgate, &cool, path).await;
        assert_eq!(seen.as_deref(), expected.as_ref().map(|it| *it), "{path}");
    }
    assert!(admin.untouched());
}

#[tokio::test]
async fn other_routes_refuse_an_escaped_slash_and_normalise() {
    let backend = Backend::listen().await;
    let config = config(&[("a", "/*", backend.address, "path_encoding = \"normal\"")]);
    let lockgate = Lockgate::with_file(&config).start().await;
    for (path, expected) in [("/a%2Fb", Err(400)), ("/a//b/./%41", Ok("/a/b/A"))] {
        let seen = target(&lockgate, &backend, path).await;
        assert_eq!(seen.as_deref(), expected.as_ref().map(|it| *it), "{path}");
    }
}

#[tokio::test]
async fn check_refuses_as_is_with_strip_prefix() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("lockgate.toml");
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    let both = format!("{AS_IS}\nstrip_prefix = \"/cool\"");
    for (more, code) in [(AS_IS, 0), (&*both, 64)] {
        std::fs::write(&file, config(&[("cool", "/cool/*", to, more)])).expect("writable");
        let arguments = ["check", "--config", &file.display().to_string()];
        let output = Lockgate::run(folder.path(), &arguments).await;
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert_eq!(text.contains("strip_prefix"), code == 64, "{text}");
    }
}
