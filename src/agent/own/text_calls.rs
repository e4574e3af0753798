//! Tool calls that a model wrote as text instead of making them, which small models do. The forms are those that the
//! chat templates of open models teach: Hermes and Qwen (`<tool_call>{...}</tool_call>`), Qwen coder
//! (`<function=NAME><parameter=KEY>`), Mistral (`[TOOL_CALLS] [...]`), Llama (`<|python_tag|>{...}`), and bare or fenced
//! JSON.

use serde_json::{Map, Value};

/// A call found in a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TextCall {
    /// The tool by its right name.
    pub(super) tool: String,
    /// What it is given.
    pub(super) input: Value,
}

/// The calls in a text, with what it says before them; `None` where there is none. Only what names a tool that exists
/// counts, and JSON only where it ends the text: an example in the middle of an explanation is no call.
pub(super) fn find(text: &str, tools: &[String]) -> Option<(String, Vec<TextCall>)> {
    let forms = [tagged, functions, mistral, llama, fenced, bare];
    forms.iter().find_map(|form| {
        let (before, calls) = form(text, tools)?;
        (!calls.is_empty()).then(|| (before.trim_end().to_owned(), calls))
    })
}

/// What a form finds: the text before, and the calls.
type Found<'a> = Option<(&'a str, Vec<TextCall>)>;

/// `<tool_call>{...}</tool_call>`, several times; the last end may be missing.
fn tagged<'a>(text: &'a str, tools: &[String]) -> Found<'a> {
    let (before, mut rest) = text.split_once("<tool_call>")?;
    let mut calls = Vec::new();
    loop {
        let (inside, after) = rest.split_once("</tool_call>").unwrap_or((rest, ""));
        match functions(inside, tools) {
            Some((_, found)) if !found.is_empty() => calls.extend(found),
            _ => calls.extend(json_calls(inside.trim(), tools)?),
        }
        match after.split_once("<tool_call>") {
            Some((_, next)) => rest = next,
            None => return Some((before, calls)),
        }
    }
}

/// `<function=NAME><parameter=KEY>VALUE</parameter></function>`, several times.
fn functions<'a>(text: &'a str, tools: &[String]) -> Found<'a> {
    let (before, mut rest) = text.split_once("<function=")?;
    let mut calls = Vec::new();
    loop {
        let (inside, after) = rest.split_once("</function>").unwrap_or((rest, ""));
        let (name, body) = inside.split_once('>')?;
        let mut input = Map::new();
        for part in body.split("<parameter=").skip(1) {
            let (key, value) = part.split_once('>')?;
            let value = value.split_once("</parameter>").map_or(value, |(value, _)| value);
            let value = value.strip_prefix('\n').unwrap_or(value);
            let value = value.strip_suffix('\n').unwrap_or(value);
            input.insert(key.trim().to_owned(), Value::String(value.to_owned()));
        }
        let tool = right_name(name.trim(), tools)?;
        calls.push(TextCall { tool, input: Value::Object(input) });
        match after.split_once("<function=") {
            Some((_, next)) => rest = next,
            None => return Some((before, calls)),
        }
    }
}

/// `[TOOL_CALLS] [{...}]`.
fn mistral<'a>(text: &'a str, tools: &[String]) -> Found<'a> {
    let (before, rest) = text.split_once("[TOOL_CALLS]")?;
    Some((before, json_calls(rest.trim(), tools)?))
}

/// `<|python_tag|>{...}`.
fn llama<'a>(text: &'a str, tools: &[String]) -> Found<'a> {
    let (before, rest) = text.split_once("<|python_tag|>")?;
    let rest = rest.trim().trim_end_matches("<|eom_id|>").trim_end_matches("<|eot_id|>");
    Some((before, json_calls(rest, tools)?))
}

/// A fenced block of JSON at the end of the text.
fn fenced<'a>(text: &'a str, tools: &[String]) -> Found<'a> {
    let body = text.trim_end().strip_suffix("```")?;
    let start = body.rfind("```")?;
    let inside = body[start + 3..].trim_start_matches(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    Some((&text[..start], json_calls(inside.trim(), tools)?))
}

/// JSON that is the whole text, or its end from a line on.
fn bare<'a>(text: &'a str, tools: &[String]) -> Found<'a> {
    let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1));
    for start in starts.filter(|at| text[*at..].starts_with(['{', '['])) {
        if let Some(calls) = json_calls(text[start..].trim(), tools) {
            return Some((&text[..start], calls));
        }
    }
    None
}

/// The calls that a JSON text is: an object, a list of them, or several one after the other. `None` when it holds
/// anything else.
fn json_calls(text: &str, tools: &[String]) -> Option<Vec<TextCall>> {
    let mut calls = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value.ok()? {
            Value::Array(items) => {
                for item in &items {
                    calls.push(json_call(item, tools)?);
                }
            }
            value => calls.push(json_call(&value, tools)?),
        }
    }
    (!calls.is_empty()).then_some(calls)
}

/// The call that a JSON object is.
fn json_call(value: &Value, tools: &[String]) -> Option<TextCall> {
    let value = value.get("function").filter(|function| function.is_object()).unwrap_or(value);
    let named = ["name", "tool", "tool_name", "function"].into_iter().find_map(|key| value.get(key)?.as_str())?;
    let tool = right_name(named, tools)?;
    let input = ["arguments", "parameters", "input", "args"].into_iter().find_map(|key| value.get(key))?;
    let input = match input {
        Value::String(text) => serde_json::from_str(text).ok()?,
        input => input.clone(),
    };
    input.is_object().then_some(TextCall { tool, input })
}

/// The name of the tool that is meant: upper and lower case do not count.
pub(super) fn right_name(named: &str, tools: &[String]) -> Option<String> {
    let exact = tools.iter().find(|tool| *tool == named);
    exact.or_else(|| tools.iter().find(|tool| tool.eq_ignore_ascii_case(named))).cloned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn tools() -> Vec<String> {
        ["Read", "Bash", "mcp__a__b"].map(ToOwned::to_owned).to_vec()
    }

    fn found(text: &str) -> Option<(String, Vec<(String, Value)>)> {
        let (before, calls) = find(text, &tools())?;
        Some((before, calls.into_iter().map(|call| (call.tool, call.input)).collect()))
    }

    #[test]
    fn every_form_is_understood() {
        let read = ("Read".to_owned(), json!({"file_path": "a"}));
        let one = |before: &str| Some((before.to_owned(), vec![read.clone()]));
        let object = r#"{"name": "Read", "arguments": {"file_path": "a"}}"#;
        for (before, text) in [
            ("", object.to_owned()),
            ("Look:", format!("Look:\n{object}\n")),
            ("Look:", format!("Look:\n```json\n{object}\n```\n")),
            ("Look:", format!("Look: <tool_call>\n{object}\n</tool_call>")),
            ("", format!("<tool_call>{object}")),
            ("", format!("[TOOL_CALLS] [{object}]")),
            ("", r#"<|python_tag|>{"name": "read", "parameters": {"file_path": "a"}}<|eom_id|>"#.to_owned()),
            ("", r#"{"function": {"name": "Read", "arguments": "{\"file_path\": \"a\"}"}}"#.to_owned()),
            ("I", "I\n<function=Read>\n<parameter=file_path>\na\n</parameter>\n</function>\n</tool_call>".to_owned()),
        ] {
            assert_eq!(found(&text), one(before), "{text}");
        }
        let two = format!("<tool_call>{object}</tool_call>\n<tool_call>{object}</tool_call>");
        assert_eq!(found(&two).unwrap().1.len(), 2);
        assert_eq!(found(&format!("{object}\n{object}")).unwrap().1.len(), 2);
    }

    #[test]
    fn an_explanation_is_no_call() {
        for text in [
            "Done.",
            "Call it so:\n```json\n{\"name\": \"Read\", \"arguments\": {}}\n```\nThen look.",
            r#"{"name": "package", "arguments": {"a": 1}}"#,
            r#"{"name": "Read"}"#,
            "[1, 2]",
            "{broken",
            "<tool_call>what</tool_call>",
            "fn main() {\n}",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fall(text in "[<>{}\\[\\]=/a-zA-Z_|`\": ,\nä]{0,120}") {
            find(&text, &tools());
        }
    }
}
