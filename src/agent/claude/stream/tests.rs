use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{LINE_LIMIT, Stream};
use crate::agent::claude::session::Session;
use crate::agent::event::{AgentEvent, Usage};
use crate::model::Time;
use crate::model::tool_call::ToolOutcome;

fn feed(stream: &mut Stream, session: &mut Session, bytes: &[u8]) -> Vec<AgentEvent> {
    let mut events = Vec::new();
    stream.feed(bytes, Time::from_millis(1), session, &mut events);
    events
}

fn feed_all(lines: &[Value]) -> (Stream, Vec<AgentEvent>) {
    let mut stream = Stream::new(Path::new("/w"));
    let mut session = Session::new(true, String::new());
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let events = feed(&mut stream, &mut session, text.as_bytes());
    (stream, events)
}

fn tool_use(id: &str, parent: Value) -> Value {
    let block = json!({"type": "tool_use", "id": id, "name": "Bash", "input": {"command": "ls"}});
    json!({"type": "assistant", "message": {"content": [block]}, "parent_tool_use_id": parent})
}

fn tool_result(id: &str, extra: Value) -> Value {
    let mut line = json!({"type": "user", "message": {"content": [
        {"type": "tool_result", "tool_use_id": id, "is_error": true, "content": [{"type": "text", "text": "no"}]}]}});
    line.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    line
}

fn outcome(extra: Value) -> ToolOutcome {
    let (_, events) = feed_all(&[tool_use("t", Value::Null), tool_result("t", extra)]);
    let end = events.into_iter().find_map(|event| match event {
        AgentEvent::ToolEnded(end) => Some(end),
        _ => None,
    });
    let end = end.unwrap();
    assert_eq!(end.error.as_deref(), Some("no"));
    end.outcome
}

#[test]
fn an_error_result_says_whether_the_tool_ran() {
    let meta = |meta: Value| json!({"tool_result_meta": [{"id": "x"}, meta]});
    assert_eq!(outcome(json!({})), ToolOutcome::Error);
    assert_eq!(outcome(json!({"tool_use_result": "Error: no"})), ToolOutcome::Error);
    assert_eq!(outcome(json!({"tool_use_result": "User rejected tool use"})), ToolOutcome::Interrupted);
    assert_eq!(outcome(meta(json!({"id": "t", "non_execution_kind": "user-rejected"}))), ToolOutcome::Interrupted);
    let rejected = json!({"id": "t", "non_execution_kind": "x", "permission_decision": {"decision": "reject"}});
    assert_eq!(outcome(meta(rejected)), ToolOutcome::Denied);
    let accepted = json!({"id": "t", "permission_decision": {"decision": "accept"}});
    assert_eq!(outcome(meta(accepted)), ToolOutcome::Error);
}

#[test]
fn work_of_a_sub_agent_is_shown_indented_and_names_the_call_that_started_it() {
    let (_, events) = feed_all(&[tool_use("t", json!("p")), tool_result("t", json!({}))]);
    assert!(events.contains(&AgentEvent::Display("  -> Bash ls".to_owned())));
    assert!(events.contains(&AgentEvent::Display("     error: no".to_owned())), "{events:?}");
    let started = events.iter().find_map(|event| match event {
        AgentEvent::ToolStarted(start) => Some(start.parent_call_id.as_deref()),
        _ => None,
    });
    assert_eq!(started, Some(Some("p")));
}

#[test]
fn a_turn_that_ends_leaves_the_work_of_a_sub_agent_open() {
    let (_, events) = feed_all(&[tool_use("a", json!("p")), tool_use("b", Value::Null), json!({"type": "result"})]);
    let ended: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::ToolEnded(end) => Some(end.call_id.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(ended, ["b"]);
}

#[test]
fn unknown_events_and_any_key_order_are_taken() {
    let (_, events) = feed_all(&[json!({"type": "new_kind", "a": [1]}), json!({"type": "system", "subtype": "later"})]);
    assert_eq!(events, []);
    let mut stream = Stream::new(Path::new("/w"));
    let mut session = Session::new(true, String::new());
    let line = b"{\"subtype\":\"success\",\"is_error\":false,\"session_id\":\"s\",\"type\":\"result\"}\n";
    feed(&mut stream, &mut session, line);
    assert!(stream.result().is_some());
}

#[test]
fn a_price_is_believed_for_the_programs_own_models_only() {
    let result = |model: &str| {
        let models = json!({model: {"inputTokens": 5, "cacheReadInputTokens": 7, "outputTokens": 2}});
        feed_all(&[json!({"type": "result", "total_cost_usd": 0.5, "modelUsage": models})]).0.usage()
    };
    let usage = |cost_usd| Usage { input_tokens: 12, output_tokens: 2, cost_usd, is_estimated: false };
    assert_eq!(result("claude-sonnet-4-5"), usage(Some(0.5)));
    assert_eq!(result("us.anthropic.claude-sonnet-4-5-v1:0"), usage(Some(0.5)));
    assert_eq!(result("qwen3-coder"), usage(None));
    let plain = json!({"type": "result", "total_cost_usd": 0, "usage": {"input_tokens": 3, "output_tokens": 1}});
    assert_eq!(feed_all(&[plain]).0.usage(), Usage { input_tokens: 3, output_tokens: 1, ..Usage::default() });
}

#[test]
fn figures_of_several_results_never_fall() {
    let result = |tokens: u64| json!({"type": "result", "modelUsage": {"claude": {"inputTokens": tokens}}});
    assert_eq!(feed_all(&[result(5), result(9), result(0)]).0.usage().input_tokens, 9);
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let mut stream = Stream::new(Path::new("/w"));
    let mut session = Session::new(true, String::new());
    let chunk = vec![b'x'; LINE_LIMIT / 2 + 1];
    let mut events = feed(&mut stream, &mut session, &chunk);
    events.extend(feed(&mut stream, &mut session, &chunk));
    events.extend(feed(&mut stream, &mut session, &chunk));
    assert!(stream.line.len() <= LINE_LIMIT);
    events.extend(feed(&mut stream, &mut session, b"\nhello\n"));
    let lines = ["(a line of more than 32 MiB was left out)", "hello"];
    assert_eq!(events, lines.map(|line| AgentEvent::Display(line.to_owned())));
}

proptest! {
    #[test]
    fn no_bytes_upset_the_stream(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let mut stream = Stream::new(Path::new("/w"));
        let mut session = Session::new(true, String::new());
        for chunk in chunks {
            feed(&mut stream, &mut session, &chunk);
        }
        stream.finish(Time::from_millis(1), &mut session, &mut Vec::new());
    }

    #[test]
    fn no_json_upsets_the_stream(kind in "assistant|user|result|system", field in "[a-z_]{1,12}", depth in 0..20_usize) {
        let mut value = json!(1);
        for _ in 0..depth {
            value = json!([{ field.as_str(): value }]);
        }
        feed_all(&[json!({"type": kind, "message": value, field.as_str(): value, "subtype": value})]);
    }
}

#[test]
fn a_refusal_of_a_version_without_a_note_about_it_is_known_by_its_words() {
    let said = |text: &str| outcome(json!({"tool_use_result": text}));
    for refusal in [
        "Error: This command requires approval",
        "Error: Claude requested permissions to write to /tmp/x, but you haven't granted it yet.",
        "Error: Permission to use Bash with command git push has been denied.",
        "Error: Cannot write to /w/a.txt while in plan mode.",
    ] {
        assert_eq!(said(refusal), ToolOutcome::Denied, "{refusal}");
    }
    assert_eq!(said("Error: Exit code 1\nPermission to use Bash is fine"), ToolOutcome::Error);
}

#[test]
fn a_call_of_a_sub_agent_names_it_by_its_own_note_or_by_the_start_of_its_task() {
    let started = json!({"type": "system", "subtype": "task_started", "task_id": "b", "tool_use_id": "call-2"});
    let mut noted = tool_use("x", json!("call-1"));
    noted["agent_id"] = json!("a");
    let (_, events) = feed_all(&[started, noted, tool_use("y", json!("call-2"))]);
    let owners: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::ToolStarted(start) => Some((start.agent_id.as_deref()?, start.parent_call_id.as_deref()?)),
            _ => None,
        })
        .collect();
    assert_eq!(owners, [("a", "call-1"), ("b", "call-2")]);
}
