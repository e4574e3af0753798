//! What an agent that was asked for JSON said.

use serde_json::Value;

/// The last JSON object with `key` in a text that begins on a line of its own, in a fence or not: what comes before it is
/// thinking aloud, and what stands within a line is about it.
pub(crate) fn last_object(said: &str, key: &str) -> Option<Value> {
    let mut found = None;
    let mut skipped = 0;
    for (at, _) in said.match_indices('{') {
        let begins_line = said[..at].rsplit('\n').next().is_some_and(|before| before.trim().is_empty());
        if at < skipped || !begins_line {
            continue;
        }
        let mut values = serde_json::Deserializer::from_str(&said[at..]).into_iter::<Value>();
        if let Some(Ok(value)) = values.next() {
            skipped = at + values.byte_offset();
            if value.get(key).is_some() {
                found = Some(value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_whole_object_on_a_line_of_its_own_counts() {
        let said =
            "First `{\"a\": 1}`.\n{\"a\": 2}\n```json\n  {\"a\": {\"a\": 4},\n   \"b\": 3}\n```\n{\"b\": 5}\n{\"a\": 6";
        assert_eq!(last_object(said, "a"), Some(serde_json::json!({"a": {"a": 4}, "b": 3})));
        assert_eq!(last_object(said, "b"), Some(serde_json::json!({"b": 5})));
        assert_eq!(last_object("{\"a\"", "a"), None);
    }
}
