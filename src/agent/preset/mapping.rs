//! The rules of a preset -> what one line or hook call means. Nothing here knows any program.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::agent::event::Usage;
use crate::model::preset::{CallRule, OutcomeRule, Rule, Source, Test, UsageRule};
use crate::model::tool_call::ToolOutcome;

/// One thing that a line says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// The conversation has this id.
    Session(String),
    /// A turn began.
    TurnStarted,
    /// A call began.
    ToolStarted(Call),
    /// A call ended.
    ToolEnded(Call, CallEnd),
    /// It said something.
    Message(String),
    /// To be shown.
    Show(String),
    /// What was used.
    Usage(Usage),
    /// Its provider failed, and is asked again.
    Retry(String),
    /// Its turn ended with an error.
    Failed {
        /// Why.
        reason: String,
        /// Whether the same may work later.
        is_transient: bool,
    },
    /// A person is asked.
    Waiting(String),
    /// Its turn ended.
    TurnEnded,
}

/// A call as a line tells it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    /// Its id; `None` where it has none.
    pub(super) id: Option<String>,
    /// The tool; `None` where the line does not say.
    pub(super) tool: Option<String>,
    /// What it was given.
    pub(super) input: Value,
}

/// The end of a call as a line tells it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CallEnd {
    /// How.
    pub(super) outcome: ToolOutcome,
    /// What went wrong.
    pub(super) error: Option<String>,
    /// Of a command.
    pub(super) exit_code: Option<i32>,
    /// Size of what it returned.
    pub(super) output_bytes: u64,
    /// How long it took.
    pub(super) duration_ms: Option<u64>,
}

/// What `document` says by `rules`, in their order; `None` when no rule matches.
pub(super) fn read(rules: &[Rule], document: &Value) -> Option<Vec<Said>> {
    let matching: Vec<&Rule> = rules.iter().filter(|rule| matches(rule, document)).collect();
    if matching.is_empty() {
        return None;
    }
    let mut said = Vec::new();
    for rule in matching {
        apply(rule, document, &mut said);
    }
    Some(said)
}

/// Whether a rule is about a document; one that asks for nothing is about none.
fn matches(rule: &Rule, document: &Value) -> bool {
    !rule.all.is_empty() && all_hold(&rule.all, document) && !rule.unless.iter().any(|test| holds(test, document))
}

/// Whether all tests hold.
fn all_hold(tests: &BTreeMap<String, Test>, document: &Value) -> bool {
    tests.iter().all(|test| holds(test, document))
}

/// Whether one test holds.
fn holds((pointer, test): (&String, &Test), document: &Value) -> bool {
    let value = document.pointer(pointer).filter(|value| !value.is_null());
    match test {
        Test::Is(wanted) => value == Some(wanted),
        Test::OneOf(wanted) => value.is_some_and(|value| wanted.contains(value)),
        Test::Contains { contains } => {
            value.and_then(Value::as_str).is_some_and(|text| text.contains(contains.as_str()))
        }
        Test::Exists { exists } => value.is_some() == *exists,
    }
}

/// Adds what one rule makes of a document.
fn apply(rule: &Rule, document: &Value, said: &mut Vec<Said>) {
    let text = |source: &Option<Source>| source.as_ref().and_then(|source| text_of(source, document));
    said.extend(text(&rule.session).map(Said::Session));
    if rule.turn_started {
        said.push(Said::TurnStarted);
    }
    said.extend(rule.tool_started.as_ref().map(|call| Said::ToolStarted(call_of(call, document))));
    said.extend(rule.tool_ended.as_ref().map(|call| Said::ToolEnded(call_of(call, document), end_of(call, document))));
    said.extend(text(&rule.message).map(Said::Message));
    said.extend(text(&rule.show).map(Said::Show));
    said.extend(rule.usage.as_ref().map(|usage| Said::Usage(usage_of(usage, document))));
    said.extend(text(&rule.retry).map(Said::Retry));
    said.extend(rule.failed.as_ref().map(|failure| Said::Failed {
        reason: text_of(&failure.reason, document).unwrap_or_else(|| "its turn failed".to_owned()),
        is_transient: !failure.transient.is_empty() && all_hold(&failure.transient, document),
    }));
    said.extend(text(&rule.waiting).map(Said::Waiting));
    if rule.turn_ended {
        said.push(Said::TurnEnded);
    }
}

/// The value of a source.
fn value_of(source: &Source, document: &Value) -> Option<Value> {
    match source {
        Source::One(text) if text.starts_with('/') => document.pointer(text).filter(|value| !value.is_null()).cloned(),
        Source::One(text) => Some(Value::String(text.clone())),
        Source::First(sources) => sources.iter().find_map(|source| value_of(source, document)),
        Source::Object(fields) => {
            let fields = fields.iter().filter_map(|(name, source)| Some((name.clone(), value_of(source, document)?)));
            Some(Value::Object(fields.collect::<Map<_, _>>()))
        }
    }
}

/// A source as a text; an empty text is none.
fn text_of(source: &Source, document: &Value) -> Option<String> {
    let text = match value_of(source, document)? {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Some(text).filter(|text| !text.is_empty())
}

/// A call.
fn call_of(rule: &CallRule, document: &Value) -> Call {
    let text = |source: &Option<Source>| source.as_ref().and_then(|source| text_of(source, document));
    let input = rule.input.as_ref().and_then(|source| value_of(source, document)).unwrap_or(Value::Null);
    Call { id: text(&rule.id), tool: text(&rule.tool), input }
}

/// The end of a call.
fn end_of(rule: &CallRule, document: &Value) -> CallEnd {
    let value = |source: &Option<Source>| source.as_ref().and_then(|source| value_of(source, document));
    let exit_code = value(&rule.exit_code).and_then(|code| code.as_i64()).and_then(|code| i32::try_from(code).ok());
    let mut outcome = outcome_of(&rule.outcome, document);
    let mut error = rule.error.as_ref().and_then(|source| text_of(source, document));
    if outcome == ToolOutcome::Ok {
        error = None;
        if let Some(code) = exit_code.filter(|code| *code != 0) {
            outcome = ToolOutcome::Error;
            error = Some(format!("exit code {code}"));
        }
    }
    let output_bytes = value(&rule.output).map_or(0, |output| match output {
        Value::String(text) => text.len(),
        other => other.to_string().len(),
    });
    let time = |pointer: &String| document.pointer(pointer).and_then(Value::as_u64);
    let duration_ms = rule.time_ms.as_ref().and_then(|[from, to]| time(to)?.checked_sub(time(from)?));
    CallEnd { outcome, error, exit_code, output_bytes: output_bytes as u64, duration_ms }
}

/// The first outcome whose tests hold.
fn outcome_of(rules: &[OutcomeRule], document: &Value) -> ToolOutcome {
    let otherwise = if rules.is_empty() { ToolOutcome::Ok } else { ToolOutcome::Error };
    rules.iter().find(|rule| all_hold(&rule.all, document)).map_or(otherwise, |rule| rule.is)
}

/// Figures.
fn usage_of(rule: &UsageRule, document: &Value) -> Usage {
    let count = |pointers: &[String]| {
        pointers.iter().filter_map(|pointer| document.pointer(pointer).and_then(Value::as_u64)).sum()
    };
    let cost_usd = rule.cost_usd.as_ref().and_then(|pointer| document.pointer(pointer)).and_then(Value::as_f64);
    Usage { input_tokens: count(&rule.input), output_tokens: count(&rule.output), cost_usd, is_estimated: false }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(value: Value) -> Vec<Rule> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_rule_counts_when_all_its_tests_hold_and_none_of_those_against_it() {
        let rules = rules(json!([
            {"match": {"/type": "a", "/n": [1, 2]}, "unless": {"/text": {"contains": "no"}}, "message": "/text"},
            {"match": {"/type": "a"}, "turn_ended": true},
            {"match": {"/b": {"exists": true}}, "show": ["/missing", "/b/c", "plain"]},
            {"turn_started": true},
        ]));
        let said = |document: Value| read(&rules, &document);
        let message = Said::Message("yes".to_owned());
        assert_eq!(said(json!({"type": "a", "n": 1, "text": "yes"})), Some(vec![message, Said::TurnEnded]));
        assert_eq!(said(json!({"type": "a", "n": 3, "text": "yes"})), Some(vec![Said::TurnEnded]));
        assert_eq!(said(json!({"type": "a", "n": 2, "text": "no"})), Some(vec![Said::TurnEnded]));
        assert_eq!(said(json!({"b": {"c": 7}})), Some(vec![Said::Show("7".to_owned())]));
        assert_eq!(said(json!({"b": 1})), Some(vec![Said::Show("plain".to_owned())]));
        assert_eq!(said(json!({"b": null})), None);
    }

    #[test]
    fn an_exit_code_makes_an_error_and_an_unknown_outcome_is_one() {
        let rules = rules(json!([{"match": {"/id": {"exists": true}}, "tool_ended": {
            "id": "/id", "tool": "Bash", "input": {"command": "/cmd"}, "exit_code": "/code", "output": "/out",
            "error": "/why", "outcome": [{"match": {"/s": "done"}, "is": "ok"}, {"match": {"/s": "no"}, "is": "denied"}],
            "time_ms": ["/from", "/to"],
        }}]));
        let end = |document: Value| match &read(&rules, &document).unwrap()[..] {
            [Said::ToolEnded(call, end)] => (call.clone(), end.clone()),
            other => panic!("{other:?}"),
        };
        let (call, ok) =
            end(json!({"id": 5, "cmd": "ls", "s": "done", "out": "abc", "why": "x", "from": 10, "to": 25}));
        assert_eq!(call, Call { id: Some("5".into()), tool: Some("Bash".into()), input: json!({"command": "ls"}) });
        let expected =
            CallEnd { outcome: ToolOutcome::Ok, error: None, exit_code: None, output_bytes: 3, duration_ms: Some(15) };
        assert_eq!(ok, expected);
        let (_, failed) = end(json!({"id": "a", "s": "done", "code": 3}));
        assert_eq!((failed.outcome, failed.error.as_deref()), (ToolOutcome::Error, Some("exit code 3")));
        assert_eq!(end(json!({"id": "a", "s": "no", "why": "rule"})).1.error.as_deref(), Some("rule"));
        assert_eq!(end(json!({"id": "a", "s": "else"})).1.outcome, ToolOutcome::Error);
    }

    #[test]
    fn figures_of_several_places_add_up() {
        let rules = rules(json!([{"match": {"/u": {"exists": true}}, "usage": {
            "input": ["/u/in", "/u/cached", "/u/missing"], "output": ["/u/out"], "cost_usd": "/u/cost"}}]));
        let said = read(&rules, &json!({"u": {"in": 3, "cached": 4, "out": 5, "cost": 0.5}})).unwrap();
        assert_eq!(
            said,
            [Said::Usage(Usage { input_tokens: 7, output_tokens: 5, cost_usd: Some(0.5), is_estimated: false })]
        );
    }
}
