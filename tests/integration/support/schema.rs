//! Checks a JSON document against a schema of `schemas/`, as far as those schemas go: types, keys, items, alternatives and
//! references. A key that the schema does not know is a fault: the contract would be incomplete.

use std::path::Path;

use serde_json::{Map, Value};

/// Fails unless `document` is what `schemas/NAME.json` describes.
#[track_caller]
pub(crate) fn assert_conforms(document: &Value, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.json"));
    let root: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let faults = Check { root: &root, refuses_unknown: true }.faults(&root, document, "$");
    assert!(faults.is_empty(), "{name}: {}\nin {document:#}", faults.join("; "));
}

/// One check.
struct Check<'a> {
    /// The schema with its definitions.
    root: &'a Value,
    /// Whether a key that is not in the schema is a fault. Not within an alternative: the keys of a record that is
    /// flattened out of several parts are spread over them.
    refuses_unknown: bool,
}

impl Check<'_> {
    /// What is wrong with `value`, each with its place.
    fn faults(&self, schema: &Value, value: &Value, place: &str) -> Vec<String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.root.pointer(reference.trim_start_matches('#'));
            return self.faults(target.unwrap_or_else(|| panic!("{reference} is not there")), value, place);
        }
        if !fits_type(&schema["type"], value) {
            return vec![format!("{place}: {value} is not {}", schema["type"])];
        }
        let listed = schema["enum"].as_array().is_none_or(|known| known.contains(value));
        let constant = schema.get("const").is_none_or(|constant| constant == value);
        if !listed || !constant {
            return vec![format!("{place}: {value} is not among the known values")];
        }
        let mut faults = self.object(schema, value, place);
        if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
            for (index, value) in values.iter().enumerate() {
                faults.extend(self.faults(items, value, &format!("{place}[{index}]")));
            }
        }
        for key in ["anyOf", "oneOf"] {
            let Some(alternatives) = schema[key].as_array() else { continue };
            let check = Check { root: self.root, refuses_unknown: false };
            if !alternatives.iter().any(|one| check.faults(one, value, place).is_empty()) {
                faults.push(format!("{place}: {value} fits no alternative"));
            }
        }
        faults
    }

    /// What is wrong with the keys of an object.
    fn object(&self, schema: &Value, value: &Value, place: &str) -> Vec<String> {
        let Some(object) = value.as_object() else { return Vec::new() };
        let none = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&none);
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let missing = required.filter(|key| !object.contains_key(*key)).map(|key| format!("{place}: no `{key}`"));
        let mut faults: Vec<String> = missing.collect();
        let is_whole = !known.is_empty() && schema.get("oneOf").is_none();
        for (key, value) in object {
            let place = format!("{place}.{key}");
            match (known.get(key), schema.get("additionalProperties")) {
                (Some(schema), _) => faults.extend(self.faults(schema, value, &place)),
                (None, Some(schema)) if schema.is_object() => faults.extend(self.faults(schema, value, &place)),
                (None, _) if is_whole && self.refuses_unknown => faults.push(format!("{place}: not in the schema")),
                (None, _) => {}
            }
        }
        faults
    }
}

/// Whether a value has the type, or one of the types, that a schema names.
fn fits_type(wanted: &Value, value: &Value) -> bool {
    let fits = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("null") => value.is_null(),
        _ => true,
    };
    wanted.as_array().map_or_else(|| fits(wanted), |types| types.iter().any(fits))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn missing_unknown_and_wrong_values_are_faults() {
        let schema = json!({
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"type": ["string", "null"]}},
            "$defs": {"A": {"type": "array", "items": {"enum": ["x", "y"]}}},
        });
        let faults = |value: Value| Check { root: &schema, refuses_unknown: true }.faults(&schema, &value, "$").len();
        assert_eq!(faults(json!({"a": ["x"], "b": null})), 0);
        assert_eq!(faults(json!({"b": "x"})), 1, "a is missing");
        assert_eq!(faults(json!({"a": ["z"]})), 1, "z is not known");
        assert_eq!(faults(json!({"a": [], "c": 1})), 1, "c is not known");
        assert_eq!(faults(json!({"a": [], "b": 1})), 1, "b is no string");
    }
}
