//! The input of a call, read with the patience that small models need: a number in quotes is a number, and a field
//! that has another name in other programs is found by that, too.

use serde_json::Value;

/// Other names of fields.
const ALIASES: [(&str, &[&str]); 6] = [
    ("file_path", &["path", "filename", "file", "filePath"]),
    ("old_string", &["old_str", "oldString", "old", "search"]),
    ("new_string", &["new_str", "newString", "new", "replace"]),
    ("content", &["contents", "text", "file_text"]),
    ("command", &["cmd", "script"]),
    ("bash_id", &["shell_id", "id"]),
];

/// The input of a call.
#[derive(Debug, Clone, Copy)]
pub(in crate::agent::own) struct Input<'a>(&'a Value);

impl<'a> Input<'a> {
    /// The input that is this value.
    pub(in crate::agent::own) fn new(value: &'a Value) -> Self {
        Self(value)
    }

    /// A field by its name or another one; null is none.
    pub(super) fn field(&self, name: &str) -> Option<&'a Value> {
        let aliases = ALIASES.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, aliases)| aliases);
        let found = [name].into_iter().chain(aliases.iter().copied()).find_map(|name| self.0.get(name));
        found.filter(|value| !value.is_null())
    }

    /// A text.
    ///
    /// # Errors
    /// A sentence for the model when it is not there or no text.
    pub(in crate::agent::own) fn text(&self, name: &str) -> Result<&'a str, String> {
        match self.field(name) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(format!("`{name}` must be a text, not `{other}`. Call again with all fields right.")),
            None => Err(format!("`{name}` is missing. Call again with all fields the tool needs.")),
        }
    }

    /// A text that may be left out; an empty one is as if left out.
    pub(in crate::agent::own) fn optional_text(&self, name: &str) -> Option<&'a str> {
        self.field(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// A whole number that may be left out.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.field(name) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => {
                number.as_u64().or_else(|| number.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64))
            }
            Value::String(text) if text.trim().is_empty() => return Ok(None),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.map(Some).ok_or_else(|| format!("`{name}` must be a whole number from 0, not `{value}`"))
    }

    /// A yes or no that is no where left out.
    pub(super) fn flag(&self, name: &str) -> bool {
        match self.field(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_small_model_is_understood() {
        let value = json!({"path": "a.rs", "offset": "12", "limit": 3.0, "replace_all": "True", "x": null, "n": -1});
        let input = Input::new(&value);
        assert_eq!(input.text("file_path").unwrap(), "a.rs");
        assert_eq!((input.number("offset"), input.number("limit")), (Ok(Some(12)), Ok(Some(3))));
        assert!(input.flag("replace_all") && !input.flag("x"));
        assert!(input.text("x").is_err() && input.text("offset2").is_err() && input.number("n").is_err());
        assert!(Input::new(&json!("text")).text("command").is_err());
    }
}
