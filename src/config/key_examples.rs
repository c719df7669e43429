//! For tests: configurations in which one key has its default, or the example of the reference.

use crate::config::{
    Diagnostics,
    keys::{self, KeyReference},
    schema::Config,
};
use std::fs;
use toml::{Table, Value};

/// `config/lockgate.toml` with the default of a key, and with its example.
pub(crate) struct ExampleConfigs {
    pub(crate) before: Config,
    pub(crate) after: Config,
}

/// Returns all keys, each with its configurations.
pub(crate) fn examples() -> Vec<(KeyReference, ExampleConfigs)> {
    let keys = keys::tables().into_iter().flat_map(|table| table.keys);
    keys.map(|key| {
        let configs = configs(&key);
        (key, configs)
    })
    .collect()
}

fn configs(key: &KeyReference) -> ExampleConfigs {
    let base: Table = ANNOTATED_FILE
        .parse()
        .expect("a test shows that it is valid");
    let (mut before, mut after) = (base.clone(), base.clone());
    if !key.default.is_empty() {
        set(&mut before, &key.path, None);
    }
    set(&mut after, &key.path, Some(toml(&key.example)));
    for (path, required, value) in COMPANIONS {
        if *path == key.path {
            set(&mut after, required, Some(toml(value)));
        }
    }
    ExampleConfigs {
        // Some keys must be in this file because of others.
        before: load(&before)
            .unwrap_or_else(|_| load(&base).expect("a test shows that it is valid")),
        after: load(&after).unwrap_or_else(|error| panic!("the example of {}:\n{error}", key.path)),
    }
}

fn load(table: &Table) -> Result<Config, Diagnostics> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("lockgate.toml");
    fs::write(&file, table.to_string()).expect("the folder is writable");
    Config::load_in(&file, &|_| {
        Some("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0".to_owned())
    })
}

/// Writes or removes the value at a path. A list stands for its first table that has the next name.
fn set(table: &mut Table, path: &str, value: Option<Value>) {
    let Some((name, rest)) = path.split_once('.') else {
        match value {
            Some(value) => table.insert(path.to_owned(), value),
            None => table.remove(path),
        };
        return;
    };
    let name = match (name, rest.split('.').next()) {
        (keys::NAME, Some("jwt")) => "login",
        (keys::NAME, Some("forward_auth")) => "company",
        (keys::NAME, Some("basic")) => "staff",
        (keys::NAME, _) => "chat",
        _ => name,
    };
    let inner = table.entry(name).or_insert(Value::Table(Table::new()));
    let inner = match inner {
        Value::Array(values) => {
            let next = rest.split('.').next().expect("it has a first part");
            let has_next = |value: &Value| value.get(next).is_some();
            let index = values.iter().position(has_next);
            let index = index.or_else(|| values.iter().position(Value::is_table));
            if values.is_empty() {
                values.push(toml("{ cert = \"a.pem\", key = \"a.key\" }"));
            }
            &mut values[index.unwrap_or(0)]
        }
        inner => inner,
    };
    let inner = inner.as_table_mut().expect("the path leads through tables");
    set(inner, rest, value);
}

fn toml(value: &str) -> Value {
    let table: Table = format!("it = {value}").parse().expect("valid TOML");
    table["it"].clone()
}

const ANNOTATED_FILE: &str = include_str!("../../config/lockgate.toml");

/// Keys whose example needs another key: the path, the other path and its value.
const COMPANIONS: &[(&str, &str, &str)] = &[
    (
        "server.cleartext",
        "server.trusted_proxies",
        "[\"192.0.2.1\"]",
    ),
    (
        "server.proxy_protocol",
        "server.trusted_proxies",
        "[\"192.0.2.1\"]",
    ),
    ("acme.eab.kid", "acme.eab.hmac", "\"c2VjcmV0\""),
    ("acme.eab.hmac", "acme.eab.kid", "\"kid-1\""),
    (
        "pools.NAME.backends.tls.cert",
        "pools.NAME.backends.tls.key",
        "\"proxy.key\"",
    ),
    (
        "pools.NAME.backends.tls.key",
        "pools.NAME.backends.tls.cert",
        "\"proxy.pem\"",
    ),
    (
        "routes.token.to",
        "routes.token.from",
        "[\"cookie:session\"]",
    ),
    ("pools.NAME.hash", "pools.chat.balance", "\"hash\""),
    ("routes.client_cert", "tls.client_ca", "\"ca.pem\""),
    (
        "guards.NAME.forward_auth.ca",
        "guards.NAME.forward_auth.url",
        "\"https://auth.example.com/\"",
    ),
    // The annotated file has a guard that sets Remote-User, too.
    (
        "guards.NAME.forward_auth.preset",
        "guards.staff.basic.header",
        "\"X-User\"",
    ),
    (
        "guards.NAME.forward_auth.grace",
        "guards.NAME.forward_auth.recheck",
        "\"5m\"",
    ),
    (
        "guards.NAME.forward_auth.close_code",
        "guards.NAME.forward_auth.recheck",
        "\"5m\"",
    ),
];
