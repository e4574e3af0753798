//! Variables in the texts of scripts.

use std::collections::BTreeMap;

use serde_json::Value;

/// Replaces each known `{name}` in a text, and `{{name}}` by `{name}`; other braces stay. A value is never searched for
/// variables itself.
pub(super) fn fill(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        filled.push_str(before);
        match variables.iter().find_map(|(name, value)| replaced(after, name, value)) {
            Some((value, after)) => {
                filled.push_str(&value);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = &after[1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// What stands for the variable that `text` begins with, and the rest behind it; `None` if it begins with none.
fn replaced<'a>(text: &'a str, name: &str, value: &str) -> Option<(String, &'a str)> {
    let inner = |open: &str, close: &str| text.strip_prefix(open)?.strip_prefix(name)?.strip_prefix(close);
    let literal = || inner("{{", "}}").map(|rest| (format!("{{{name}}}"), rest));
    literal().or_else(|| inner("{", "}").map(|rest| (value.to_owned(), rest)))
}

/// The same in every string of a JSON value; keys stay.
pub(super) fn fill_all(value: &Value, variables: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text, variables)),
        Value::Array(items) => items.iter().map(|item| fill_all(item, variables)).collect(),
        Value::Object(entries) => entries.iter().map(|(key, item)| (key.clone(), fill_all(item, variables))).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_in_once_and_other_braces_stay() {
        let variables = BTreeMap::from([("cwd", "/w"), ("word", "{cwd}")].map(|(a, b)| (a.to_owned(), b.to_owned())));
        for (text, expected) in [
            ("{cwd}/a{cwd}", "/w/a/w"),
            ("{word}", "{cwd}"),
            ("{{cwd}}", "{cwd}"),
            ("{{{cwd}}}", "{{cwd}}"),
            ("{other} {} {", "{other} {} {"),
            ("{{other}}", "{{other}}"),
            ("{{cwd}", "{/w"),
            ("fn x() {cwd}", "fn x() /w"),
            ("ä{cwd}ö", "ä/wö"),
        ] {
            assert_eq!(fill(text, &variables), expected, "{text}");
        }
    }
}
