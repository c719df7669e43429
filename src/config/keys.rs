//! Every key of the configuration with its facts, as the reference and `lockgate help` print them. All facts come from
//! the schema.

use crate::config::{
    reference::{SchemaIndex, of_the_file, words},
    schema::applies::Applies,
};
use serde_json::Value;

/// A table of the configuration.
#[derive(Debug)]
pub(crate) struct TableReference {
    /// The path, such as `pools.NAME.health`; empty for the keys outside of tables.
    pub(crate) path: String,
    /// How the table is written, such as `[[routes]]`.
    pub(crate) heading: String,
    pub(crate) description: String,
    /// The table whose keys this one overrides.
    pub(crate) overrides: Option<String>,
    pub(crate) keys: Vec<KeyReference>,
}

/// A key that has a value, and is not only the name of a table.
#[derive(Debug)]
pub(crate) struct KeyReference {
    /// The path, such as `pools.NAME.health.interval`.
    pub(crate) path: String,
    /// The last part of the path.
    pub(crate) name: String,
    /// The values that it takes.
    pub(crate) takes: String,
    /// The default in TOML; empty if there is none.
    pub(crate) default: String,
    /// A value in TOML that differs from the default.
    pub(crate) example: String,
    pub(crate) applies: Option<Applies>,
    /// What happens when the limit is reached that the key sets.
    pub(crate) limit: Option<String>,
    pub(crate) description: String,
}

/// Returns all tables with their keys; the keys outside of tables come first.
pub(crate) fn tables() -> Vec<TableReference> {
    let schema = of_the_file();
    let mut walk = SchemaWalk {
        index: SchemaIndex::of(&schema),
        root: &schema,
        tables: Vec::new(),
    };
    walk.table(FoundTable {
        path: String::new(),
        heading: String::new(),
        description: String::new(),
        schema: schema.clone(),
    });
    walk.tables
}

/// A walk through the schema, in which a table comes before the tables inside it.
struct SchemaWalk<'a> {
    index: SchemaIndex<'a>,
    root: &'a Value,
    tables: Vec<TableReference>,
}

/// A table that the walk has still to enter.
struct FoundTable {
    path: String,
    heading: String,
    description: String,
    schema: Value,
}

// === impl SchemaWalk ===

impl SchemaWalk<'_> {
    fn table(&mut self, table: FoundTable) {
        let overrides = text(&table.schema, "x-as");
        let (mut keys, mut inner) = (Vec::new(), Vec::new());
        let properties = table.schema["properties"].as_object();
        for (name, property) in properties.into_iter().flatten() {
            let found = self.inner_table(&table.path, name, property);
            // A list of tables is a value, too.
            if found.is_none() || property.get("x-applies").is_some() {
                keys.push(self.key(&table.path, name, property, overrides.as_deref()));
            }
            inner.extend(found);
        }
        self.tables.push(TableReference {
            path: table.path,
            heading: table.heading,
            description: table.description,
            overrides,
            keys,
        });
        for table in inner {
            self.table(table);
        }
    }

    /// Returns the table that a key contains: as its value, by names, or in a list.
    fn inner_table(&self, path: &str, name: &str, property: &Value) -> Option<FoundTable> {
        let path = join(path, name);
        let schema = self.index.resolve(property);
        let description = text(property, "description").unwrap_or_default();
        let found = |path: String, heading: String, schema: &Value| FoundTable {
            path,
            heading,
            description: description.clone(),
            schema: schema.clone(),
        };
        if is_table(schema) {
            let heading = format!("[{path}]");
            return Some(found(path, heading, schema));
        }
        let named = schema.get("additionalProperties");
        if let Some(each) = named.map(|each| self.index.resolve(each))
            && is_table(each)
        {
            let path = join(&path, NAME);
            let heading = format!("[{path}]");
            return Some(found(path, heading, each));
        }
        let items = schema.get("items")?;
        if let Some(each) = self.index.text_or_table(items) {
            return Some(FoundTable {
                heading: format!("{path} = [{{ … }}]"),
                description: "Where one is a table.".to_owned(),
                path,
                schema: each.clone(),
            });
        }
        let each = self.index.resolve(items);
        is_table(each).then(|| {
            let heading = format!("[[{path}]]");
            found(path, heading, each)
        })
    }

    fn key(
        &self,
        table: &str,
        name: &str,
        property: &Value,
        overrides: Option<&str>,
    ) -> KeyReference {
        let overridden = overrides.map(|path| (path, &self.at(path)["properties"][name]));
        let facts = overridden.map_or(property, |(_, original)| original);
        let default = match overridden {
            Some((path, _)) => format!("that of {path}.{name}"),
            None => match property.get("default") {
                None | Some(Value::Null) => String::new(),
                Some(value) => toml(value),
            },
        };
        KeyReference {
            path: join(table, name),
            name: name.to_owned(),
            takes: self.takes(property),
            default,
            example: facts.get("x-example").map(toml).unwrap_or_default(),
            applies: facts
                .get("x-applies")
                .and_then(|it| serde_json::from_value(it.clone()).ok()),
            limit: text(facts, "x-limit"),
            description: text(facts, "description").unwrap_or_default(),
        }
    }

    /// Returns the schema of a table at a path without names or lists.
    fn at(&self, path: &str) -> &Value {
        path.split('.').fold(self.root, |schema, name| {
            self.index.resolve(&schema["properties"][name])
        })
    }

    fn takes(&self, property: &Value) -> String {
        let schema = self.index.resolve(property);
        if let Some(words) = words(schema) {
            let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            return words.join(", ");
        }
        // The types of values have a description of their syntax.
        if schema.get("examples").is_some()
            && let Some(syntax) = text(schema, "description")
        {
            return syntax;
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
                let items = schema.get("items").unwrap_or(&Value::Null);
                match self.index.text_or_table(items) {
                    Some(_) => format!("list; each {}, or a table", self.takes(items)),
                    None if is_table(self.index.resolve(items)) => "list of tables".to_owned(),
                    None => format!("list; each {}", self.takes(items)),
                }
            }
            Some("boolean") => "true, false".to_owned(),
            Some("integer") => "a number".to_owned(),
            Some("object") => "a table of text".to_owned(),
            _ => "text".to_owned(),
        }
    }
}

fn is_table(schema: &Value) -> bool {
    schema.get("properties").is_some()
}

fn text(schema: &Value, keyword: &str) -> Option<String> {
    let text = schema.get(keyword)?.as_str()?;
    Some(text.replace('\n', " "))
}

/// Formats a value as TOML on one line.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(toml).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(table) => {
            let written = table.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<String> = written
                .map(|(key, value)| format!("{key} = {}", toml(value)))
                .collect();
            if pairs.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ {} }}", pairs.join(", "))
            }
        }
        value => value.to_string(),
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// Stands in a path for a name that the user gives, such as that of a pool.
pub(crate) const NAME: &str = "NAME";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_an_example_and_when_a_change_applies() {
        let mut faults = Vec::new();
        for key in tables().into_iter().flat_map(|table| table.keys) {
            if key.applies.is_none() {
                faults.push(format!("{}: no x-applies", key.path));
            }
            if key.example.is_empty() || key.example == key.default {
                faults.push(format!("{}: no x-example other than the default", key.path));
            }
            if key.description.is_empty() {
                faults.push(format!("{}: no doc comment", key.path));
            }
            let is_limit = LIMITS.iter().any(|start| key.takes.starts_with(start));
            let path = key.path.trim_start_matches("routes.");
            if is_limit != (key.limit.is_some() || WITHOUT_LIMIT.contains(&path)) {
                faults.push(format!("{}: x-limit {:?}", key.path, key.limit));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// How the values begin that may be limits.
    const LIMITS: [&str; 5] = [
        "a number",
        "a length of time",
        "a rate",
        "bytes per second",
        "\"off\", or a rate",
    ];

    /// Keys with such a value that limit nothing.
    const WITHOUT_LIMIT: [&str; 10] = [
        "guards.NAME.forward_auth.close_code",
        "guards.NAME.jwt.close_code",
        "acme.retry",
        "drain.code",
        "session.backend_gone_code",
        "pools.NAME.backends.resolve",
        "pools.NAME.backends.weight",
        "pools.NAME.health.interval",
        "pools.NAME.rebalance",
        "pools.NAME.slow_start",
    ];
}
