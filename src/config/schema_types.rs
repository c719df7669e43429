//! The types of values as the schema describes them: their names, the numbers that they accept, and the texts that were
//! meant by values of another type.

use crate::config::values::correction;
use serde_json::Value;

/// Returns the text for a key from a number or boolean: the value in quotes, corrected, or the default or an example.
pub(crate) fn text_for(
    kind: &str,
    written: &str,
    is_on: Option<bool>,
    property: &Value,
    schema: &Value,
) -> String {
    let default = property.get("default").and_then(Value::as_str);
    let example = schema.get("examples").and_then(|all| all.get(0));
    let example = || example.and_then(Value::as_str).map(str::to_owned);
    let default = || default.filter(|text| !text.is_empty()).map(str::to_owned);
    let from_bool = |is_on: bool| match is_on {
        false if kind == METRICS || ["AdminAddress", "Access", "Rebalance"].contains(&kind) => {
            Some("off".to_owned())
        }
        true if kind == METRICS => Some("127.0.0.1:9181".to_owned()),
        _ => None,
    };
    let from_number = || {
        if correction::is_valid(kind, written) && kind != METRICS {
            Some(written.to_owned())
        } else {
            correction::correct(of_metrics(kind), written)
        }
    };
    let found = match is_on {
        Some(is_on) => from_bool(is_on),
        None => from_number(),
    };
    let found = found.or_else(default).or_else(example);
    found.unwrap_or_else(|| written.to_owned())
}

/// Returns the name of the type of a value in the schema; of a value with alternatives, that of the first.
pub(crate) fn definition(property: &Value) -> Option<&str> {
    let reference = property.get("$ref").and_then(Value::as_str);
    if let Some(reference) = reference {
        return reference.rsplit('/').next();
    }
    let alternatives = property.get("anyOf").and_then(Value::as_array)?;
    alternatives.iter().find_map(definition)
}

/// Returns the name of the type of a key in the schema; `server.metrics` is described as text there.
pub(crate) fn type_name<'a>(path: &[String], property: &'a Value) -> &'a str {
    if path == ["server", "metrics"] {
        return METRICS;
    }
    definition(property).unwrap_or_default()
}

fn of_metrics(kind: &str) -> &str {
    if kind == METRICS {
        "ListenAddress"
    } else {
        kind
    }
}

/// Returns whether a schema accepts values of a JSON type.
pub(crate) fn has_type(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        Some(one) => one == kind,
        None => false,
    }
}

/// Returns the greatest number that a key accepts.
pub(crate) fn maximum(schema: &Value) -> i64 {
    let maximum = schema.get("maximum").and_then(Value::as_i64);
    let is_u64 = schema
        .get("format")
        .is_some_and(|format| format == "uint64");
    let widest = if is_u64 { i64::MAX } else { u32::MAX.into() };
    maximum.unwrap_or(widest)
}

/// Returns whether the schema describes an integer. An optional one has a list of two types, one of them `null`.
pub(crate) fn is_number(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "integer"),
        kind => kind.is_some_and(|kind| kind == "integer"),
    }
}

/// The name of the type of `server.metrics`, which has none in the schema.
const METRICS: &str = "metrics";
