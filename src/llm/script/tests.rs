//! Facts about the script format.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::llm::message::{Message, ToolResult};
use place::Place;

/// Reads a script.
fn parse(text: &str) -> Result<Script, ConfigError> {
    Script::parse(Path::new("s.yaml"), text)
}

/// A script of named conversations without turns, with more lines for each.
fn script(conversations: &[(&str, &str)]) -> Script {
    let list: String =
        conversations.iter().map(|(name, more)| format!("- {{name: {name}, turns: []{more}}}\n")).collect();
    parse(&format!("conversations:\n{list}")).unwrap()
}

/// What the person says.
fn user(text: &str) -> Message {
    Message::User { text: text.to_owned() }
}

/// A message of the model that calls a tool.
fn called() -> Message {
    Message::Assistant { blocks: vec![Block::ToolCall { id: "1".into(), name: "t".into(), input: json!({}) }] }
}

/// A message of the model that calls none.
fn said() -> Message {
    Message::Assistant { blocks: vec![Block::Text { text: "Done.".into() }] }
}

/// A tool's result.
fn result() -> Message {
    let result = ToolResult { call_id: "1".into(), name: "t".into(), text: "ok".into(), is_error: false };
    Message::Tool { results: vec![result] }
}

/// The number of the conversation and of its turn.
fn at(script: &Script, messages: &[Message]) -> Option<(usize, usize)> {
    match place::find(script, messages) {
        Place::Turn { conversation, turn, .. } => Some((conversation, turn)),
        Place::Nowhere => None,
        Place::Unknown(name) => panic!("unknown {name}"),
    }
}

#[test]
fn everything_of_the_format_is_read() {
    let text = r#"
version: 1
variables: {word: hello}
usage: {input_tokens: 5, output_tokens: 6}
otherwise: Pardon?
models: [{name: qwen3-coder, context: 4096}, {name: tiny, tools: false}]
conversations:
  - name: greet
    for: any
    prompt: Say hello
    turns:
      - think: Hm.
        say: |
          Two
          lines
        calls:
          - write: {path: "{cwd}/a", content: "{word}\n"}
          - bash: not an object
        stop: length
        usage: {input_tokens: 1, output_tokens: 2}
        expect: [Say hello]
        faults:
          - {kind: 503, times: 2, retry_after: 1500ms, message: busy}
          - {kind: slow, first: 1s, between: 10ms}
          - {kind: hang_at_end}
      - {}
      - say: ""
"#;
    let script = parse(text).unwrap();
    assert_eq!((script.models[0].tools, script.models[1].tools), (true, false));
    let turn = &script.conversations[0].turns[0];
    assert_eq!(turn.say.as_deref(), Some("Two\nlines\n"));
    assert_eq!(turn.calls[1].input, json!("not an object"));
    assert_eq!(turn.faults[0].kind, FaultKind::Status(503));
    assert_eq!(turn.faults[0].retry_after, Some(Duration::from_millis(1500)));
    let blocks = turn.blocks(&[("word".to_owned(), "x".to_owned())].into(), |index| index.to_string());
    assert_eq!(blocks.len(), 4);
    let Block::ToolCall { id, input, .. } = &blocks[2] else { panic!("{blocks:?}") };
    assert_eq!((id.as_str(), &input["content"], &input["path"]), ("0", &json!("x\n"), &json!("{cwd}/a")));
    assert_eq!(script.conversations[0].turns[1].blocks(&BTreeMap::new(), |_| String::new()), []);
}

#[test]
fn faults_of_a_script_are_told_with_their_place() {
    let head = "conversations:\n- name: a\n  turns:\n  - ";
    let cases = [
        ("conversations:\n- name: a b\n  turns: []\n", "s.yaml:2:9: `conversations[0].name`: `a b` is no name"),
        ("turns: []\n", "s.yaml:1:1: unknown key `turns`; valid keys: version, variables, usage, otherwise"),
        ("version: 2\nconversations: []\n", "s.yaml:1:10: `version`: version 2 is not known"),
        ("conversations:\n- {name: a, turns: []}\n- {name: a, turns: []}\n", "two conversations are called `a`"),
        (&format!("{head}says: x\n"), "s.yaml:4:5: unknown key `says` in `conversations[0].turns[0]`"),
        (
            &format!("{head}calls: [{{a: 1, b: 2}}]\n"),
            "s.yaml:4:13: `conversations[0].turns[0].calls[0]`: a call is one",
        ),
        (&format!("{head}faults: [{{kind: 200}}]\n"), "faults[0].kind`: `200` is no fault: expected an HTTP status"),
        (&format!("{head}faults: [{{kind: slow, first: soon}}]\n"), "`soon` is not a duration"),
        (&format!("{head}faults: [{{times: 1}}]\n"), "the key `kind` is missing"),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_json_file_is_a_script_too() {
    let json = json!({"conversations": [{"name": "a", "turns": [{"calls": [{"t": {"x": [1, 2.5, null, true]}}]}]}]});
    let script = parse(&json.to_string()).unwrap();
    assert_eq!(script.conversations[0].turns[0].calls[0].input, json!({"x": [1, 2.5, null, true]}));
}

#[test]
fn tool_results_behind_the_marker_choose_the_turn() {
    let script = script(&[("work", ""), ("other", "")]);
    let mut messages = vec![user("Please SCRIPT:work now")];
    assert_eq!(at(&script, &messages), Some((0, 0)));
    messages.extend([called(), result()]);
    assert_eq!(at(&script, &messages), Some((0, 1)));
    messages.extend([called(), result(), result()]);
    assert_eq!(at(&script, &messages), Some((0, 2)), "the results of one message are one round");
    messages.extend([said(), user("SCRIPT:other")]);
    assert_eq!(at(&script, &messages), Some((1, 0)), "the last marker decides");
}

#[test]
fn a_prompt_without_a_marker_chooses_nothing_once_the_model_has_finished() {
    let script = script(&[("work", "")]);
    assert_eq!(at(&script, &[user("Hello")]), None);
    assert_eq!(at(&script, &[user("SCRIPT:work"), said(), user("Thanks")]), None);
    let interrupted = user("[Request interrupted by user for tool use]\n");
    assert_eq!(at(&script, &[user("SCRIPT:work"), called(), result(), interrupted, user("Else")]), None);
}

#[test]
fn what_is_said_while_a_tool_runs_keeps_the_place() {
    let script = script(&[("work", ""), ("other", ", for: any")]);
    assert_eq!(at(&script, &[user("SCRIPT:work"), called(), result(), user("use tabs")]), Some((0, 1)));
    assert_eq!(at(&script, &[user("SCRIPT:work"), called(), user("use tabs")]), Some((0, 0)));
    assert_eq!(at(&script, &[user("SCRIPT:work"), called(), result(), user("SCRIPT:other")]), Some((1, 0)));
}

#[test]
fn prompts_without_a_marker_choose_by_text_then_order_then_any() {
    let script = script(&[
        ("any", ", for: any"),
        ("one", ", for: order"),
        ("fix", ", prompt: fix the parser"),
        ("two", ", for: order"),
    ]);
    let mut messages = Vec::new();
    for (prompt, expected) in
        [("Hello", 1), ("Please fix the parser", 2), ("And now", 3), ("More", 0), ("SCRIPT:one", 1), ("Again", 0)]
    {
        messages.extend([user("<reminder>"), user(prompt)]);
        assert_eq!(at(&script, &messages), Some((expected, 0)), "{prompt}");
        messages.extend([called(), result(), said()]);
    }
}

#[test]
fn markers_carry_parameters_up_to_the_end_of_their_line() {
    let script = script(&[("w", "")]);
    let Place::Turn { parameters, .. } = place::find(&script, &[user("x SCRIPT:w, a=1 b=c=d rest e=2\nf=3")]) else {
        panic!("the marker is there");
    };
    assert_eq!(parameters, [("a", "1"), ("b", "c=d")].map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    assert_eq!(place::find(&script, &[user("SCRIPT:nosuch")]), Place::Unknown("nosuch".to_owned()));
    assert_eq!(
        place::find(&script, &[user("SCRIPT: w")]),
        Place::Turn { conversation: 0, turn: 0, parameters: BTreeMap::new() }
    );
}
