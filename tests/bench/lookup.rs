//! `lookup CASE ROUTES TIMES`: finds the route of one request TIMES times among ROUTES routes; `lookup.sh` counts the
//! instructions.

use lockgate::internals::{NormalPath, Route, RouteQuery, Router, Rule};
use std::hint::black_box;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` passes flags only: nothing to measure.
    let [case, routes, times] = &arguments[..] else {
        return;
    };
    let (routes, times): (u64, u64) = (
        routes.parse().expect("a number"),
        times.parse().expect("a number"),
    );
    let last = routes - 1;
    let below = |n: u64| format!("/rooms/{n:05}/x");
    let (hosts, path, found): (&str, String, bool) = match &**case {
        "first" => ("each", below(0), true),
        "last" => ("each", below(last), true),
        "wildcard" => ("wild", below(last), true),
        "paths" => ("one", below(last), true),
        "no-host" => ("each", below(routes), false),
        "no-path" => ("one", below(routes), false),
        other => panic!("unknown case: {other}"),
    };
    let number = &path[7..12];
    let host = match hosts {
        "each" => format!("host-{number}.example.com"),
        "wild" => format!("a.b.host-{number}.example.com"),
        _ => "chat.example.com".to_owned(),
    };
    let rules = (0..routes).map(|n| {
        let (host, path) = match hosts {
            "each" => (format!("host-{n:05}.example.com"), "/*".to_owned()),
            "wild" => (format!("*.host-{n:05}.example.com"), "/*".to_owned()),
            _ => (host.clone(), format!("/rooms/{n:05}/*")),
        };
        let text = format!("name = \"r\"\nhosts = [\"{host}\"]\npath = \"{path}\"\n");
        let route: Route = toml::from_str(&text).expect("a route");
        (Rule::from(&route), n)
    });
    let router = Router::new(rules);
    let path = NormalPath::parse(&path).expect("a path");
    let headers = http::HeaderMap::new();
    let query = RouteQuery {
        host: &host,
        path: &path,
        headers: &headers,
        websocket: true,
        subprotocols: &[],
    };
    assert_eq!(router.find(&query).is_some(), found);
    for _ in 0..times {
        black_box(router.find(black_box(&query)));
    }
}
