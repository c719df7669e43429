//! Expands `${NAME}` and `${NAME:-default}` in strings; `$$` is a dollar sign.

use super::values::BadValue;

/// The function that returns the value of an environment variable.
pub(super) type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands the environment references in `text`; returns `None` if it has none.
pub(super) fn expand(text: &str, environment: EnvLookup<'_>) -> Result<Option<String>, BadValue> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(literal) = behind.strip_prefix('$') {
            expanded.push('$');
            rest = literal;
        } else if let Some(open) = behind.strip_prefix('{') {
            let (inside, after) = open.split_once('}').ok_or_else(|| {
                BadValue::new(
                    "a `${` without its `}`",
                    "write ${NAME}, ${NAME:-default}, or $$ for a dollar sign",
                )
            })?;
            expanded.push_str(&lookup(inside, environment)?);
            rest = after;
        } else {
            // A single dollar sign, as at the end of a regular expression.
            expanded.push('$');
            rest = behind;
        }
    }
    expanded.push_str(rest);
    Ok(Some(expanded))
}

fn lookup(inside: &str, environment: EnvLookup<'_>) -> Result<String, BadValue> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        return Err(BadValue::new(
            format!("`${{{inside}}}` names no environment variable"),
            "write ${NAME}, ${NAME:-default}, or $$ for a dollar sign",
        ));
    }
    // As in a shell, `:-` also replaces an empty value. Without it an empty value is an error: an empty token would
    // disable the protection that it configures.
    let value = environment(name).filter(|value| !value.is_empty());
    value.or(default.map(str::to_owned)).ok_or_else(|| {
        BadValue::new(
            format!("the environment variable {name} is not set, or is empty"),
            format!("set it, or write ${{{name}:-default}}; ${{{name}:-}} may be empty"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, BadValue> {
        let environment = |name: &str| match name {
            "HOST" => Some("a.test".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(text, &environment).map(|expanded| expanded.unwrap_or_else(|| text.to_owned()))
    }

    #[test]
    fn variables_are_expanded() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${HOST}", "a.test"),
            ("x.${HOST}:${PORT:-80}", "x.a.test:80"),
            ("${EMPTY:-}|${EMPTY:-e}", "|e"),
            ("${NONE:-}", ""),
            ("$$HOST $$${HOST}", "$HOST $a.test"),
            ("~ ^/room/[0-9]+$", "~ ^/room/[0-9]+$"),
            ("$HOST", "$HOST"),
        ] {
            assert_eq!(expanded(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn invalid_or_unset_variable_is_an_error() {
        for (text, why) in [
            ("${NONE}", "NONE is not set"),
            ("${EMPTY}", "EMPTY is not set, or is empty"),
            ("${HOST", "without its"),
            ("${}", "names no"),
            ("${a b}", "names no"),
        ] {
            assert!(expanded(text).unwrap_err().message.contains(why), "{text}");
        }
    }
}
