//! The JSON schema for editors and the Markdown reference for people, both generated from the types of the schema.

use crate::config::schema::File;
use serde_json::{Map, Value};
use std::fmt::Write;

/// Returns the JSON schema of the configuration file.
pub(crate) fn schema() -> String {
    format!("{:#}\n", of_the_file())
}

/// Returns the JSON schema of a configuration file.
pub(crate) fn of_the_file() -> Value {
    schemars::schema_for!(File).into()
}

/// Returns every key with its type, its default and its description, in Markdown.
pub(crate) fn reference() -> String {
    let schema = of_the_file();
    let index = SchemaIndex::of(&schema);
    let mut text = String::from(
        "# Configuration reference\n\nGenerated from the types by `lockgate schema --markdown`. Durations are written \
         \"30s\", sizes \"16MiB\", rates \"10/s\"; `${NAME}` and `${NAME:-default}` in a string read the environment, \
         `$$` is a dollar sign. Unknown keys are errors.\n",
    );
    index.section(&mut text, "", &schema);
    text
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

    /// Writes the table of keys of `schema`, and a section for each key that is itself a table.
    fn section(&self, text: &mut String, path: &str, schema: &Value) {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return;
        };
        let mut deeper = Vec::new();
        let mut rows = String::new();
        for (key, property) in properties {
            let inner = self.resolve(property);
            let (heading, table) = match self.table(inner) {
                Some((heading, table)) => (heading.replace("KEY", &join(path, key)), table),
                None => {
                    let each = property
                        .get("items")
                        .and_then(|items| self.text_or_table(items));
                    if let Some(table) = each {
                        let heading = format!("{} = [{{ … }}]", join(path, key));
                        let about = "Where one is a table.".to_owned();
                        deeper.push((heading, join(path, key), about, table));
                    }
                    let _ = writeln!(
                        rows,
                        "| `{key}` | {} | {} | {} |",
                        self.kind(property),
                        default(property),
                        description(property)
                    );
                    continue;
                }
            };
            let inside = heading.trim_matches(['[', ']']).to_owned();
            deeper.push((heading, inside, description(property), table));
        }
        if !rows.is_empty() {
            let _ = write!(
                text,
                "\n| key | takes | default | what it does |\n|---|---|---|---|\n{rows}"
            );
        }
        for (heading, path, about, table) in deeper {
            let _ = write!(text, "\n## `{heading}`\n\n{about}\n");
            self.section(text, &path, table);
        }
    }

    /// Returns the heading form of a key whose value is a table, a map of tables or a list of tables.
    fn table<'v>(&'v self, schema: &'v Value) -> Option<(&'static str, &'v Value)> {
        if schema.get("properties").is_some() {
            return Some(("[KEY]", schema));
        }
        if let Some(each) = schema
            .get("additionalProperties")
            .map(|each| self.resolve(each))
            && each.get("properties").is_some()
        {
            return Some(("[KEY.NAME]", each));
        }
        let each = self.resolve(schema.get("items")?);
        each.get("properties").map(|_| ("[[KEY]]", each))
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

    fn kind(&self, property: &Value) -> String {
        let schema = self.resolve(property);
        if let Some(words) = words(schema) {
            return words
                .iter()
                .map(|word| format!("`\"{word}\"`"))
                .collect::<Vec<_>>()
                .join(" ");
        }
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds
                .iter()
                .filter_map(Value::as_str)
                .find(|kind| *kind != "null"),
            kind => kind.and_then(Value::as_str),
        };
        match kind {
            Some("array") => {
                let items = schema.get("items");
                let each = items.map_or_else(String::new, |item| self.kind(item));
                match items.and_then(|items| self.text_or_table(items)) {
                    Some(_) => format!("list of {each} or tables"),
                    None => format!("list of {each}"),
                }
            }
            Some("boolean") => "`true` `false`".to_owned(),
            Some("integer") => "number".to_owned(),
            Some("object") => "table".to_owned(),
            _ => match schema
                .get("examples")
                .and_then(Value::as_array)
                .and_then(|all| all.first())
            {
                Some(example) => format!("such as `{example}`"),
                None => "text".to_owned(),
            },
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

fn default(property: &Value) -> String {
    match property.get("default") {
        None | Some(Value::Null) => String::new(),
        Some(Value::Object(table)) => format!("`{}`", inline(table)),
        Some(value) => format!("`{value}`"),
    }
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

fn description(property: &Value) -> String {
    property
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .replace('\n', " ")
        .replace('|', "\\|")
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}
