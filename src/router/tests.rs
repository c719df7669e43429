use crate::config;
use crate::{
    config::{Only, PathPattern},
    proto::path::NormalPath,
    router::{host::Authority, *},
};
use ::http::{HeaderMap, HeaderName, HeaderValue};
use proptest::{prelude::*, sample::subsequence};
use std::collections::BTreeMap;

/// `hosts path [subprotocol=a|b] [name=value …] [only=websocket]`, as `Display` writes it.
fn rule(text: &str) -> Rule {
    let mut words = text.split_whitespace();
    let hosts = words.next().unwrap().split(',').map(host_pattern).collect();
    let path = match words.next().unwrap() {
        "~" => PathPattern::Regex(regex::Regex::new(words.next().unwrap()).unwrap()),
        path => match path.strip_suffix("/*") {
            Some(prefix) => PathPattern::Prefix(prefix.into()),
            None => PathPattern::Exact(path.into()),
        },
    };
    let mut route = route(hosts, path);
    for (key, value) in words.map(|word| word.split_once('=').unwrap()) {
        match key {
            "subprotocol" => route.subprotocols = value.split('|').map(str::to_owned).collect(),
            "only" if value == "websocket" => route.only = Only::Websocket,
            "only" => route.only = Only::Http,
            _ => {
                route.headers.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    Rule::from(&route)
}

fn host_pattern(text: &str) -> HostPattern {
    match text.strip_prefix("*.") {
        Some(suffix) => HostPattern::Under(suffix.into()),
        None if text == "*" => HostPattern::Any,
        None => HostPattern::Exact(text.into()),
    }
}

fn route(hosts: Vec<HostPattern>, path: PathPattern) -> config::Route {
    config::Route {
        name: config::Located::nowhere("r".to_owned()),
        hosts,
        path,
        subprotocols: Vec::new(),
        headers: BTreeMap::new(),
        only: Only::Any,
        pool: None,
        to: None,
        guards: Vec::new(),
        strip_prefix: None,
        framework: config::Framework::None,
        origins: Vec::new(),
        allow: Vec::new(),
        deny: Vec::new(),
        client_cert: config::ClientCert::Off,
        handshake: config::HandshakeRules::Strict,
        host: None,
        path_encoding: config::PathEncoding::Normal,
        tap: false,
        acme: true,
        token: Default::default(),
        session: Default::default(),
    }
}

/// `host path [subprotocol=a|b] [name=value …]`, of a WebSocket handshake or a plain request.
struct Request {
    host: String,
    path: NormalPath<'static>,
    headers: HeaderMap,
    websocket: bool,
    subprotocols: Vec<String>,
}

impl Request {
    fn new(text: &str, websocket: bool) -> Request {
        let mut words = text.split_whitespace();
        let host = Authority::parse(words.next().unwrap()).unwrap().host.into();
        let path = NormalPath::parse(words.next().unwrap())
            .unwrap()
            .to_string();
        let mut request = Request {
            host,
            path: NormalPath::parse(path.leak()).unwrap(),
            headers: HeaderMap::new(),
            websocket,
            subprotocols: Vec::new(),
        };
        for (key, value) in words.map(|word| word.split_once('=').unwrap()) {
            if key == "subprotocol" {
                request.subprotocols = value.split('|').map(str::to_owned).collect();
            } else {
                let name = HeaderName::from_bytes(key.as_bytes()).unwrap();
                let value = HeaderValue::from_str(value).unwrap();
                request.headers.append(name, value);
            }
        }
        request
    }

    /// Returns the position of the route that `router` finds, and whether it accepts the request.
    fn find(&self, router: &Router<usize>) -> Option<(usize, Summary, bool)> {
        let subprotocols: Vec<&str> = self.subprotocols.iter().map(String::as_str).collect();
        let found = router.find(&RouteQuery {
            host: &self.host,
            path: &self.path,
            headers: &self.headers,
            websocket: self.websocket,
            subprotocols: &subprotocols,
        })?;
        assert_eq!(found.rule.accepts_kind(self.websocket), found.fits);
        Some((*found.route, found.summary, found.fits))
    }
}

fn router(rules: &[&str]) -> Router<usize> {
    Router::new(rules.iter().enumerate().map(|(i, text)| (rule(text), i)))
}

/// Checks which rule each WebSocket handshake matches.
#[test]
fn greatest_summary_wins() {
    type Finds = &'static [(&'static str, Option<usize>)];
    let table: &[(&[&str], Finds)] = &[
        // Hosts: exact, then the longer wildcard, then any, in whatever order they are written
        (
            &["* /*", "*.test /*", "*.b.test /*", "a.b.test /*"],
            &[
                ("a.b.test /", Some(3)),
                ("A.B.Test.:443 /", Some(3)),
                ("x.b.test /", Some(2)),
                ("y.x.b.test /", Some(2)),
                ("b.test /", Some(1)),
                ("c.test /", Some(1)),
                ("test /", Some(0)),
                ("ab.test /", Some(1)),
                ("[::1] /", Some(0)),
                ("10.0.0.1 /", Some(0)),
            ],
        ),
        // A wildcard matches one or more whole labels
        (
            &["*.b.test /*"],
            &[
                ("a.b.test /", Some(0)),
                ("b.test /", None),
                ("ab.test /", None),
                ("b.test.evil /", None),
            ],
        ),
        // An IPv6 host matches in every notation
        (
            &["[0:0::1] /*", "2001:db8::1 /*", "Upper.test. /*"],
            &[
                ("[::1]:8443 /", Some(0)),
                ("[2001:DB8::1] /", Some(1)),
                ("upper.test /", Some(2)),
            ],
        ),
        // Paths: exact, regex, longer prefix, shorter prefix
        (
            &[
                "* /*",
                "* /ws/*",
                "* /ws/room/*",
                "* ~ ^/ws/room/[0-9]+$",
                "* /ws/room/1",
            ],
            &[
                ("h /ws/room/1", Some(4)),
                ("h /ws/room/2", Some(3)),
                ("h /ws/room/2/", Some(2)),
                ("h /ws/room", Some(2)),
                ("h /ws/room/", Some(2)),
                ("h /ws/roomy", Some(1)),
                ("h /ws", Some(1)),
                ("h /ws/", Some(1)),
                ("h /wsx", Some(0)),
                ("h /", Some(0)),
                ("h /ws/../wsx", Some(0)),
                ("h /w%73", Some(1)),
                ("h //ws//room/1", Some(4)),
            ],
        ),
        // An exact path matches only itself, with its case; without another route there is no match
        (
            &["* /ws", "* /caf%c3%a9/*", "* /%7euser"],
            &[
                ("h /ws", Some(0)),
                ("h /ws/", None),
                ("h /WS", None),
                ("h /", None),
                ("h /caf%C3%A9/x", Some(1)),
                ("h /~user", Some(2)),
            ],
        ),
        // The host precedes the path, and the path precedes the conditions
        (
            &["* /ws x-a=1 x-b=2", "*.test /ws", "a.test /*"],
            &[
                ("a.test /ws x-a=1 x-b=2", Some(2)),
                ("b.test /ws x-a=1 x-b=2", Some(1)),
                ("h /ws x-a=1 x-b=2", Some(0)),
            ],
        ),
        (
            &[
                "h /*",
                "h /ws/* x-a=1 x-b=2 x-c=3",
                "h /ws/room/* x-a=1",
                "h /ws/room/*",
            ],
            &[
                ("h /ws/room x-a=1 x-b=2 x-c=3", Some(2)),
                ("h /ws/room x-a=2", Some(3)),
                ("h /ws/x x-a=1 x-b=2 x-c=3", Some(1)),
                ("h /ws/x x-a=1 x-b=2", Some(0)),
            ],
        ),
        // More conditions win; alternatives of a subprotocol are one condition
        (
            &[
                "h /*",
                "h /* subprotocol=a|b|c",
                "h /* x-v=1 x-w=1",
                "h /* x-v=1 subprotocol=z",
            ],
            &[
                ("h /", Some(0)),
                ("h / subprotocol=b", Some(1)),
                ("h / subprotocol=b x-v=1 x-w=1", Some(2)),
                ("h / subprotocol=b x-v=1", Some(1)),
                ("h / subprotocol=z x-v=1 x-w=1", Some(2)),
                ("h / subprotocol=z|a x-v=1", Some(3)),
            ],
        ),
        // Ties: the first written wins
        (&["h /*", "h /*"], &[("h /", Some(0))]),
        (
            &["h /ws/* x-a=1", "h /ws/* x-b=1", "h /ws/* subprotocol=c"],
            &[
                ("h /ws x-a=1 x-b=1 subprotocol=c", Some(0)),
                ("h /ws x-b=1 subprotocol=c", Some(1)),
                ("h /ws subprotocol=c", Some(2)),
                ("h /ws", None),
            ],
        ),
        (
            &["h ~ ^/room", "h ~ ^/room/[0-9]+$"],
            &[("h /room/1", Some(0))],
        ),
        (
            &["*.test,a.test /ws/*", "a.test,*.test /ws/*"],
            &[("a.test /ws", Some(0)), ("b.test /ws", Some(0))],
        ),
        // The rank of a route is that of the pattern that matched, not of its most specific one
        (
            &["a.test,* /*", "*.test /*"],
            &[
                ("a.test /", Some(0)),
                ("b.test /", Some(1)),
                ("h /", Some(0)),
            ],
        ),
        // A more specific host whose path does not match is no candidate
        (
            &["* /*", "a.test /ws/*"],
            &[("a.test /other", Some(0)), ("a.test /ws", Some(1))],
        ),
        // Subprotocols are compared as whole tokens and with their case
        (
            &["h /* subprotocol=chat|v2.chat"],
            &[
                ("h / subprotocol=chat", Some(0)),
                ("h / subprotocol=other|v2.chat", Some(0)),
                ("h / subprotocol=Chat", None),
                ("h / subprotocol=chatty", None),
                ("h / subprotocol=v1.chat", None),
                ("h /", None),
            ],
        ),
        // Headers: all conditions must match; any of several values may match; bytes are compared unchanged
        (
            &["h /* x-v=2 x-w=a"],
            &[
                ("h / x-v=2 x-w=a", Some(0)),
                ("h / X-V=2 X-W=a", Some(0)),
                ("h / x-v=1 x-v=2 x-w=a", Some(0)),
                ("h / x-v=2", None),
                ("h / x-v=2 x-w=A", None),
                ("h / x-v=2,3 x-w=a", None),
            ],
        ),
        (&[], &[("h /", None)]),
    ];
    for (rules, finds) in table {
        let router = router(rules);
        for (request, expected) in *finds {
            let found = Request::new(request, true).find(&router);
            assert_eq!(found.map(|(i, ..)| i), *expected, "{rules:#?} {request}");
            assert!(found.is_none_or(|(.., fits)| fits), "{request}");
        }
    }
}

/// Servers decode a path once; a rule must not be bypassed by writing one of its characters as an escape.
#[test]
fn rules_match_the_path_decoded_once_however_it_is_written() {
    let is_refused = |octet: u8| octet.is_ascii_control() || matches!(octet, b'/' | b'\\');
    for octet in (0..=0x7Fu8).filter(|octet| !is_refused(*octet)) {
        let escapes = [format!("%{octet:02x}"), format!("%{octet:02X}")];
        let literal = (!b" ?#%".contains(&octet)).then(|| char::from(octet).to_string());
        let spellings: Vec<_> = escapes.iter().chain(&literal).collect();
        let pattern = regex::escape(&char::from(octet).to_string());
        let regex = PathPattern::Regex(regex::Regex::new(&format!("^/{pattern}admin/x$")).unwrap());
        let mut patterns = vec![regex];
        // `*` is written as an escape in a pattern.
        for written in spellings.iter().filter(|written| **written != "*") {
            patterns.push(format!("/{written}admin/*").parse().unwrap());
            patterns.push(format!("/{written}admin/x").parse().unwrap());
        }
        for pattern in patterns {
            let rules = [pattern, "/*".parse().unwrap()]
                .map(|path| Rule::from(&route(vec![HostPattern::Any], path)));
            let router = Router::new(rules.into_iter().zip(0..));
            for written in &spellings {
                let request = Request::new(&format!("a.test /{written}admin/x"), false);
                let found = request.find(&router).map(|(route, ..)| route);
                assert_eq!(found, Some(0), "{written} {:?}", router.routes[0].0.path());
                // An escape of an escape is another path.
                let twice = format!("a.test /{}admin/x", written.replace('%', "%25"));
                if written.contains('%') && octet != b'%' {
                    let found = Request::new(&twice, false).find(&router);
                    assert_eq!(found.map(|(route, ..)| route), Some(1), "{twice}");
                }
            }
        }
    }
    let router = Router::new([(
        Rule::from(&route(vec![HostPattern::Any], "/café b/*".parse().unwrap())),
        0,
    )]);
    for written in ["/caf%C3%A9%20b/x", "/caf%c3%a9%20b"] {
        assert!(
            Request::new(&format!("a.test {written}"), false)
                .find(&router)
                .is_some(),
            "{written}"
        );
    }
}

#[test]
fn route_that_accepts_the_request_beats_one_excluded_by_only() {
    type Finds = Option<(usize, bool)>;
    // The rules, the request, and the match of a handshake and of a plain request, with `fits`
    let table: &[(&[&str], &str, Finds, Finds)] = &[
        (
            &["h /ws/* only=websocket"],
            "h /ws",
            Some((0, true)),
            Some((0, false)),
        ),
        (
            &["h /ws/* only=http"],
            "h /ws",
            Some((0, false)),
            Some((0, true)),
        ),
        (&["h /ws/* only=websocket"], "h /other", None, None),
        // The other route wins, however unspecific it is and wherever it is written
        (
            &["h /ws only=websocket", "* /*"],
            "h /ws",
            Some((0, true)),
            Some((1, true)),
        ),
        (
            &["* /*", "h /ws only=websocket"],
            "h /ws",
            Some((1, true)),
            Some((0, true)),
        ),
        (
            &["h /ws only=http", "*.h /*", "* /* only=websocket"],
            "h /ws",
            Some((2, true)),
            Some((0, true)),
        ),
        (
            &["h /ws/* only=websocket", "h /ws/* only=http"],
            "h /ws",
            Some((0, true)),
            Some((1, true)),
        ),
        // A tie between a route with and one without `only`: the first written wins
        (
            &["h /ws/*", "h /ws/* only=websocket"],
            "h /ws",
            Some((0, true)),
            Some((0, true)),
        ),
        // If no route accepts the kind, the match with the greatest summary is returned
        (
            &[
                "* /* only=websocket",
                "h /* only=websocket",
                "h /ws only=websocket",
            ],
            "h /ws",
            Some((2, true)),
            Some((2, false)),
        ),
        // A route that accepts the kind but whose conditions fail is no candidate
        (
            &["h /ws only=websocket", "h /* x-v=1"],
            "h /ws",
            Some((0, true)),
            Some((0, false)),
        ),
        (
            &["h /ws only=websocket", "h /* x-v=1"],
            "h /ws x-v=1",
            Some((0, true)),
            Some((1, true)),
        ),
    ];
    for (rules, request, handshake, plain) in table {
        let router = router(rules);
        for (websocket, expected) in [(true, handshake), (false, plain)] {
            let found = Request::new(request, websocket).find(&router);
            let found = found.map(|(index, _, fits)| (index, fits));
            assert_eq!(found, *expected, "{rules:?} {request} {websocket}");
        }
    }
}

#[test]
fn rule_displays_as_one_line() {
    for text in [
        "chat.example.com /ws/* subprotocol=chat",
        "* /*",
        "a.test,*.b.test,* /ws",
        "h ~ ^/room/[0-9]+$",
        "h /ws/* subprotocol=a|b x-v=1 x-w=2 only=websocket",
        "h / only=http",
    ] {
        assert_eq!(rule(text).to_string(), text);
    }
}

#[test]
fn rules_are_returned_in_the_order_written() {
    let written = ["b /*", "* /*", "a /ws", "*.a /*"];
    let router = router(&written);
    let listed: Vec<_> = router
        .rules()
        .map(|(rule, i)| (rule.to_string(), *i))
        .collect();
    let expected: Vec<_> = (0..)
        .zip(written)
        .map(|(i, text)| (text.to_owned(), i))
        .collect();
    assert_eq!(listed, expected);
}

#[test]
fn host_index_limits_ten_thousand_hosts_to_the_candidates() {
    let hosts: Vec<String> = (0..10_000)
        .map(|i| format!("h{i}.test,*.h{i}.test /*"))
        .collect();
    let router = router(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
    for (request, expected) in [
        ("h0.test /", Some(0)),
        ("h9999.test /", Some(9_999)),
        ("a.b.h5000.test /", Some(5_000)),
        ("h10000.test /", None),
    ] {
        let found = Request::new(request, true).find(&router);
        assert_eq!(found.map(|(i, ..)| i), expected, "{request}");
        let host = request.split_once(' ').unwrap().0;
        let scanned: usize = router.by_host(host).map(|(_, list)| list.all().len()).sum();
        assert_eq!(scanned, usize::from(expected.is_some()), "{request}");
    }
}

#[test]
fn path_index_limits_ten_thousand_paths_to_the_candidates() {
    let path = |i| match i % 2 {
        0 => format!("h /p{i}/*"),
        _ => format!("h /p{i}"),
    };
    let mut rules: Vec<String> = (0..10_000).map(path).collect();
    rules.extend(["h ~ ^/p[0-9]+$", "h /a/b/*", "h /a/*", "h /*"].map(str::to_owned));
    let router = router(&rules.iter().map(String::as_str).collect::<Vec<_>>());
    for (request, expected) in [
        ("h /p0", 10_000),
        ("h /p0/", 0),
        ("h /p9998/x/y", 9_998),
        ("h /p9999", 9_999),
        ("h /p9999/", 10_003),
        ("h /a/b", 10_001),
        ("h /a/b/c", 10_001),
        ("h /a/bc", 10_002),
        ("h /", 10_003),
    ] {
        let request_line = Request::new(request, true);
        let found = request_line.find(&router).map(|(index, ..)| index);
        assert_eq!(found, Some(expected), "{request}");
        let candidate_count = |(_, candidates): (_, &'_ Candidates)| {
            let parts = candidates.for_path(request_line.path.decoded());
            parts.map(<[_]>::len).sum::<usize>()
        };
        let scanned: usize = router.by_host("h").map(candidate_count).sum();
        assert!(scanned <= 4, "{request}: {scanned}");
    }
}

// A reference implementation: one scan over all rules that tries every pattern and compares plain numbers.

#[derive(Debug, Clone)]
struct Naive {
    hosts: Vec<&'static str>,
    path: &'static str,
    subprotocols: Vec<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
    only: &'static str,
}

impl Naive {
    fn text(&self) -> String {
        let mut text = format!("{} {}", self.hosts.join(","), self.path);
        if !self.subprotocols.is_empty() {
            text += &format!(" subprotocol={}", self.subprotocols.join("|"));
        }
        for (name, value) in &self.headers {
            text += &format!(" {name}={value}");
        }
        if !self.only.is_empty() {
            text += &format!(" only={}", self.only);
        }
        text
    }

    /// (accepts the kind, host, path, conditions); a greater value takes precedence.
    fn rank(&self, request: &Request) -> Option<(bool, usize, usize, usize)> {
        let labels: Vec<&str> = request.host.split('.').collect();
        let host = |pattern: &&str| match pattern.strip_prefix("*.") {
            Some(suffix) => {
                let suffix: Vec<&str> = suffix.split('.').collect();
                (labels.len() > suffix.len() && labels.ends_with(&suffix)).then_some(suffix.len())
            }
            None if *pattern == "*" => Some(0),
            None => (*pattern == request.host).then_some(1_000),
        };
        let path = request.path.decoded();
        let path = if let Some(regex) = self.path.strip_prefix("~ ") {
            regex::Regex::new(regex)
                .unwrap()
                .is_match(path)
                .then_some(1_000)
        } else if let Some(prefix) = self.path.strip_suffix("/*") {
            format!("{path}/")
                .starts_with(&format!("{prefix}/"))
                .then_some(prefix.len())
        } else {
            (path == self.path).then_some(1_001)
        };
        let offered = |name: &&str| request.subprotocols.iter().any(|offer| offer == name);
        let sent = |(name, value): &(&str, &str)| {
            request.headers.iter().any(|(n, v)| n == name && v == value)
        };
        let met = (self.subprotocols.is_empty() || self.subprotocols.iter().any(offered))
            && self.headers.iter().all(sent);
        let fits = self.only.is_empty() || (self.only == "websocket") == request.websocket;
        let conditions = self.headers.len() + self.subprotocols.len().min(1);
        Some((
            fits,
            self.hosts.iter().filter_map(host).max()?,
            path?,
            conditions,
        ))
        .filter(|_| met)
    }
}

const HOSTS: [&str; 6] = ["a.b.test", "c.b.test", "b.test", "*.b.test", "*.test", "*"];

const PATHS: [&str; 8] = [
    "/*", "/ws/*", "/ws/a/*", "/ws", "/ws/a", "/", "~ ^/ws", "~ a$",
];

const HEADERS: [(&str, &str); 4] = [("x-v", "1"), ("x-v", "2"), ("x-w", "1"), ("x-u", "1")];

const PROTOCOLS: [&str; 3] = ["a", "b", "c"];

fn naive() -> impl Strategy<Value = Naive> {
    (
        subsequence(&HOSTS[..], 1..4).prop_shuffle(),
        proptest::sample::select(&PATHS[..]),
        prop_oneof![3 => Just(Vec::new()), 1 => subsequence(&PROTOCOLS[..], 1..3)],
        prop_oneof![2 => Just(Vec::new()), 1 => subsequence(&HEADERS[1..], 1..3)],
        prop_oneof![3 => Just(""), 1 => Just("websocket"), 1 => Just("http")],
    )
        .prop_map(|(hosts, path, subprotocols, headers, only)| Naive {
            hosts,
            path,
            subprotocols,
            headers,
            only,
        })
}

fn request() -> impl Strategy<Value = (String, bool)> {
    (
        proptest::sample::select(
            &["a.b.test", "c.b.test", "x.y.b.test", "b.test", "test", "h"][..],
        ),
        proptest::sample::select(&["/", "/ws", "/ws/", "/ws/a", "/ws/a/b", "/wsa", "/x"][..]),
        subsequence(&PROTOCOLS[..], 0..3),
        subsequence(&HEADERS[..], 0..4),
        any::<bool>(),
    )
        .prop_map(|(host, path, subprotocols, headers, websocket)| {
            let sample = Naive {
                hosts: vec![host],
                path,
                subprotocols,
                headers,
                only: "",
            };
            (sample.text(), websocket)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn find_agrees_with_a_linear_scan(
        rules in prop::collection::vec(naive(), 0..40),
        (text, websocket) in request(),
    ) {
        let texts: Vec<String> = rules.iter().map(Naive::text).collect();
        let router = router(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let request = Request::new(&text, websocket);

        let mut expected = None;
        for (index, rule) in rules.iter().enumerate() {
            let Some(rank) = rule.rank(&request) else { continue };
            if expected.is_none_or(|(_, best)| rank > best) {
                expected = Some((index, rank));
            }
        }
        let found = request.find(&router);
        prop_assert_eq!(
            found.map(|(index, summary, fits)| (index, fits, summary.conditions)),
            expected.map(|(index, (fits, .., conditions))| (index, fits, conditions)),
            "{:#?} {} websocket={}", texts, text, websocket
        );
    }
}
