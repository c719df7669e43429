//! The route of a request is the one that the path selects which the application sees. The test covers every octet, raw
//! and escaped, on six servers.

use crate::harness::{Lockgate, Program, Wire, eventually, free_port};
use futures_util::future::join_all;
use serde_json::Value;
use std::{fmt::Write, net::SocketAddr};

/// The servers, and the host of each.
const SERVERS: [(&str, &str); 6] = [
    ("uvicorn", "uvicorn.test"),
    ("daphne", "daphne.test"),
    ("aiohttp", "aiohttp.test"),
    ("gunicorn", "gunicorn.test"),
    ("werkzeug", "werkzeug.test"),
    ("tornado", "tornado.test"),
];

/// The route for paths that have no route of their own.
const FALLBACK: &str = "fallback";

/// The route for an octet that is not UTF-8 on its own.
const NOT_UTF8: &str = "not-utf8";

#[tokio::test]
async fn chosen_route_is_the_one_that_the_application_sees() {
    let mut programs = Vec::new();
    let mut config =
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = []\n[tls]\ndev_ca = true\n".to_owned();
    for (server, _) in SERVERS {
        let port = free_port().to_string();
        let (program, address) = Program::server_with("path_seen.py", &[server, &port]).await;
        programs.push(program);
        add_routes(server, address, &mut config);
    }
    let lockgate = Lockgate::with_file(&config).start().await;
    let runs = SERVERS.map(|(server, host)| all_paths(&lockgate, server, host));
    let mut faults = Vec::new();
    for ((server, host), answers) in SERVERS.into_iter().zip(join_all(runs).await) {
        let of_server = |record: &Value| record["host"] == host && record["status"] == 200;
        let expected = answers
            .iter()
            .filter(|answer| answer.seen.is_some())
            .count();
        let routes = eventually(format!("{expected} records of {server}"), async || {
            let records = lockgate.records();
            let routes: Vec<String> = records
                .iter()
                .filter(|record| of_server(record))
                .map(|record| record["route"].as_str().unwrap_or_default().to_owned())
                .collect();
            if routes.len() == expected {
                Ok(routes)
            } else {
                Err(routes.len())
            }
        })
        .await;
        let seen = answers
            .iter()
            .filter_map(|answer| Some((answer, answer.seen.as_ref()?)));
        for ((answer, seen), route) in seen.zip(routes) {
            let selected = format!("{server}-{}", route_of(seen));
            if route != selected {
                faults.push(format!(
                    "{}: {route}, but {seen:?} selects {selected}",
                    answer.target.escape_ascii()
                ));
            }
        }
        let accepted = answers
            .iter()
            .filter(|answer| answer.seen.is_some())
            .count();
        // Every visible ASCII character has at least its escaped forms, except for / and \.
        assert!(accepted > 2 * 90, "{server}: {accepted}");
        faults.extend(answers.iter().filter_map(|answer| match answer.status {
            200 | 400 => None,
            status => Some(format!(
                "{server} {}: {status}",
                answer.target.escape_ascii()
            )),
        }));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

struct Answer {
    target: Vec<u8>,
    status: u16,
    /// The path that the application sees, if it answered.
    seen: Option<String>,
}

/// Adds a route for each octet, one for octets that are not UTF-8, and one for all other paths.
fn add_routes(server: &str, address: SocketAddr, config: &mut String) {
    let mut route = |name: &str, path: &str| {
        let written = writeln!(
            config,
            "[[routes]]\nname = \"{server}-{name}\"\nhosts = [\"{server}.test\"]\npath = \"{path}\"\nto = \"http://{address}\""
        );
        written.expect("a String");
    };
    for octet in (0x20..0x7F_u8).filter(|octet| !b"/\\".contains(octet)) {
        route(&format!("{octet:02x}"), &format!("/a%{octet:02X}b/*"));
    }
    route(NOT_UTF8, "/a%80b/*");
    route(FALLBACK, "/*");
}

/// Returns the route that a path selects which an application sees.
fn route_of(seen: &str) -> String {
    let between = seen
        .strip_prefix("/a")
        .and_then(|rest| rest.strip_suffix("b/z"));
    let mut chars = between.unwrap_or_default().chars();
    match (chars.next(), chars.next()) {
        (Some(char::REPLACEMENT_CHARACTER), None) => NOT_UTF8.to_owned(),
        (Some(char), None) if char != '/' => format!("{:02x}", u32::from(char)),
        _ => FALLBACK.to_owned(),
    }
}

/// Requests each octet raw, and escaped in upper and lower case.
async fn all_paths(lockgate: &Lockgate, server: &str, host: &'static str) -> Vec<Answer> {
    let mut wire = lockgate.connect_as(host).await;
    let mut answers = Vec::new();
    for octet in 0x20..=0xFF_u8 {
        for middle in [
            vec![octet],
            format!("%{octet:02X}").into_bytes(),
            format!("%{octet:02x}").into_bytes(),
            format!("%25{octet:02X}").into_bytes(),
        ] {
            let target = [b"/a", &*middle, b"b/z"].concat();
            let head = [
                b"GET ",
                &*target,
                b" HTTP/1.1\r\nHost: ",
                host.as_bytes(),
                b"\r\n\r\n",
            ];
            wire.send(head.concat()).await;
            let (answer, closes) = read(&mut wire, server, target).await;
            answers.push(answer);
            if closes {
                wire = lockgate.connect_as(host).await;
            }
        }
    }
    answers
}

/// Reads an answer, and returns whether the connection closes after it.
async fn read(wire: &mut Wire, server: &str, target: Vec<u8>) -> (Answer, bool) {
    let head = wire.head().await;
    let body = wire.body(&head).await;
    let seen = (head.status() == 200).then(|| {
        let text = String::from_utf8(body).expect("hexadecimal digits");
        let octets = (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits"));
        let seen = String::from_utf8_lossy(&octets.collect::<Vec<u8>>()).into_owned();
        match target.get(2..5) {
            // aiohttp leaves an octet that is not UTF-8 escaped; the others replace it.
            Some([b'%', b'8'..=b'9' | b'A'..=b'F' | b'a'..=b'f', _]) if server == "aiohttp" => {
                seen.replacen(&seen[2..5], "\u{FFFD}", 1)
            }
            _ => seen,
        }
    });
    let answer = Answer {
        target,
        status: head.status(),
        seen,
    };
    (answer, head.get("connection") == Some("close"))
}
