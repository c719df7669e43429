//! The JSON schema of the configuration file, generated from the types, and how it is read.

use crate::config::schema::File;
use serde_json::{Map, Value};

/// Returns the JSON schema of the configuration file.
pub(crate) fn schema() -> String {
    format!("{:#}\n", of_the_file())
}

/// Returns the JSON schema of a configuration file.
pub(crate) fn of_the_file() -> Value {
    schemars::schema_for!(File).into()
}

/// The index of the schema: it resolves references to `$defs`.
pub(crate) struct SchemaIndex<'a> {
    definitions: Option<&'a Value>,
}

// === impl SchemaIndex ===

impl<'a> SchemaIndex<'a> {
    pub(crate) fn of(schema: &'a Value) -> Self {
        SchemaIndex {
            definitions: schema.get("$defs"),
        }
    }

    /// Returns the table schema of a value that is either text or a table.
    pub(crate) fn text_or_table<'v>(&'v self, schema: &'v Value) -> Option<&'v Value> {
        let alternatives = schema.get("anyOf")?.as_array()?;
        let text = alternatives.first()?;
        let mut tables = alternatives.iter().map(|one| self.resolve(one));
        let table = tables.find(|one| one.get("properties").is_some())?;
        (self.resolve(text).get("type") == Some(&Value::from("string"))).then_some(table)
    }

    /// Follows `$ref`, and the alternative of an optional value that is not `null`.
    pub(crate) fn resolve<'v>(&'v self, schema: &'v Value) -> &'v Value {
        if let Some(name) = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|name| name.rsplit('/').next())
        {
            return self
                .definitions
                .and_then(|definitions| definitions.get(name))
                .unwrap_or(schema);
        }
        let alternatives = schema.get("anyOf").and_then(Value::as_array);
        match alternatives.and_then(|all| {
            all.iter()
                .find(|one| one.get("type") != Some(&Value::from("null")))
        }) {
            Some(one) => self.resolve(one),
            None => schema,
        }
    }
}

/// Returns the words of an enumeration.
pub(crate) fn words(schema: &Value) -> Option<Vec<&str>> {
    if let Some(all) = schema.get("enum").and_then(Value::as_array) {
        return Some(all.iter().filter_map(Value::as_str).collect());
    }
    let all = schema.get("oneOf").and_then(Value::as_array)?;
    Some(
        all.iter()
            .filter_map(|one| one.get("const").and_then(Value::as_str))
            .collect(),
    )
}

/// Formats a value as TOML on one line.
pub(crate) fn inline(table: &Map<String, Value>) -> String {
    let pairs: Vec<_> = table
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    if pairs.is_empty() {
        "{}".to_owned()
    } else {
        format!("{{ {} }}", pairs.join(", "))
    }
}
