use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::llm::served::Served;
use crate::llm::test_server::{
    Reply, TestServer, chat, chat_error, cut_at, decode, hello, joined, provider, served, served_in, tool,
};
use crate::llm::{ChatModel, Trouble};
use crate::model::providers::ProviderKind;

/// A whole answer: thoughts with a signature, hidden thoughts, text, a call in pieces.
const STREAM: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"m","stop_reason":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":30,"cache_read_input_tokens":60,"output_tokens":1}}}"#,
    "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    "\n\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm …"}}"#,
    "\n\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}"#,
    "\n\n",
    r#"data: {"type":"content_block_stop","index":0}"#,
    "\n\n",
    r#"data: {"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"xyz"}}"#,
    "\n\n",
    r#"data: {"type":"content_block_stop","index":1}"#,
    "\n\n",
    r#"data: {"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}"#,
    "\n\n",
    r#"data: {"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Zwei "}}"#,
    "\n\n",
    r#"data: {"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"日本."}}"#,
    "\n\n",
    r#"data: {"type":"content_block_stop","index":2}"#,
    "\n\n",
    r#"data: {"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"read","input":{}}}"#,
    "\n\n",
    r#"data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}"#,
    "\n\n",
    r#"data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \""}}"#,
    "\n\n",
    r#"data: {"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"ä\"}"}}"#,
    "\n\n",
    r#"data: {"type":"content_block_stop","index":3}"#,
    "\n\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}"#,
    "\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

/// The model at an address that is never asked.
fn model() -> Served {
    served(provider(ProviderKind::Anthropic, "http://127.0.0.1:1"))
}

/// The whole answer's blocks.
fn blocks() -> Vec<Block> {
    vec![
        Block::Thinking { text: "Hm …".into(), signature: Some("EqQB".into()) },
        Block::Thinking { text: String::new(), signature: Some("redacted:xyz".into()) },
        Block::Text { text: "Zwei 日本.".into() },
        Block::ToolCall { id: "toolu_1".into(), name: "read".into(), input: json!({"path": "ä"}) },
    ]
}

#[test]
fn a_stream_becomes_an_answer() {
    let (answer, deltas) = decode(&model(), &[STREAM.as_bytes()]).unwrap();
    assert_eq!(answer.blocks, blocks());
    assert_eq!(joined(&deltas), ["thinking Hm …", "text Zwei 日本.", "call read"]);
    assert_eq!(answer.stop, StopReason::End);
    let usage = answer.usage;
    assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.measured), (100, 60, 89, true));
}

proptest! {
    #[test]
    fn cuts_anywhere_change_nothing(at in proptest::collection::vec(0..STREAM.len(), 0..8)) {
        let (expected, heard) = decode(&model(), &[STREAM.as_bytes()]).unwrap();
        let (answer, deltas) = decode(&model(), &cut_at(STREAM.as_bytes(), at)).unwrap();
        prop_assert_eq!(answer, expected);
        prop_assert_eq!(joined(&deltas), joined(&heard));
    }

    #[test]
    fn a_stream_that_ends_before_its_reason_is_cut(end in 0..STREAM.find("stop_reason\":\"tool").unwrap()) {
        let error = decode(&model(), &[&STREAM.as_bytes()[..end]]).unwrap_err();
        prop_assert!(matches!(error.trouble, Trouble::Cut | Trouble::Malformed), "{error}");
    }
}

/// An answer to blocks that a server starts and ends at once, and to a reason.
fn answer(started: &[Value], reason: &str) -> (Vec<Block>, StopReason) {
    let event = |event: Value| format!("data: {event}\n\n");
    let mut stream: String = started
        .iter()
        .map(|block| {
            event(json!({"type": "content_block_start", "content_block": block}))
                + &event(json!({"type": "content_block_stop"}))
        })
        .collect();
    stream.push_str(&event(json!({"type": "something_new", "x": 1})));
    stream.push_str(&event(json!({"type": "message_delta", "delta": {"stop_reason": reason}})));
    let (answer, _) = decode(&model(), &[stream.as_bytes()]).unwrap();
    (answer.blocks, answer.stop)
}

#[test]
fn imitations_and_news_are_understood() {
    let call = json!({"type": "tool_use", "id": "", "name": "read", "input": {"path": "a"}});
    let new = json!({"type": "server_tool_use", "id": "s", "name": "web"});
    let (blocks, stop) = answer(&[json!({"type": "text", "text": "Hi"}), new, call], "end_turn");
    assert_eq!(blocks.len(), 2);
    assert!(
        matches!(&blocks[1], Block::ToolCall { id, input, .. } if !id.is_empty() && *input == json!({"path": "a"}))
    );
    assert_eq!(stop, StopReason::End);
    assert_eq!(answer(&[], "max_tokens").1, StopReason::Length);
    assert_eq!(answer(&[], "refusal").1, StopReason::Refused("refusal".to_owned()));
    let hidden = json!({"type": "thinking", "thinking": "", "signature": ""});
    assert!(answer(&[hidden], "end_turn").0.is_empty(), "thoughts without text and signature are none");
}

#[test]
fn thoughts_of_which_only_the_signature_comes_are_kept() {
    let stream = concat!(
        "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"signature_delta\",\"signature\":\"S1\"}}\n\n",
        "data: {\"type\":\"message_stop\"}\n\n",
    );
    let (answer, deltas) = decode(&model(), &[stream.as_bytes()]).unwrap();
    assert_eq!(answer.blocks, [Block::Thinking { text: String::new(), signature: Some("S1".into()) }]);
    assert!(deltas.is_empty());
}

#[test]
fn arguments_that_are_not_json_stay_text() {
    let stream = concat!(
        "data: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"read\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"pa\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"}}\n\n",
    );
    let (answer, _) = decode(&model(), &[stream.as_bytes()]).unwrap();
    assert_eq!(answer.blocks, [Block::ToolCall { id: "a".into(), name: "read".into(), input: json!("{\"pa") }]);
}

#[test]
fn the_conversation_goes_back_as_it_is_wanted() {
    let mut answered = blocks();
    answered.push(Block::Text { text: " \n".into() });
    answered.push(Block::Thinking { text: "of another".into(), signature: Some("field:reasoning".into()) });
    answered.push(Block::Thinking { text: "of a third".into(), signature: None });
    answered.push(Block::ToolCall { id: "functions.read:0".into(), name: "read".into(), input: json!("{oops") });
    let result = |id: &str, text: &str, is_error| ToolResult {
        call_id: id.into(),
        name: "read".into(),
        text: text.into(),
        is_error,
    };
    let messages = [
        Message::User { text: "Look".into() },
        Message::Assistant { blocks: answered },
        Message::Tool { results: vec![result("toolu_1", "A", false), result("functions.read:0", "", true)] },
        Message::Assistant { blocks: Vec::new() },
    ];
    let wire = Anthropic::new("m".to_owned(), &Provider::default(), None);
    let body = wire.body(&ChatRequest { system: "Be good.", messages: &messages, tools: &[tool()] });
    let ephemeral = json!({"type": "ephemeral"});
    assert_eq!(
        body,
        json!({
            "model": "m", "max_tokens": 32_000, "stream": true,
            "system": [{"type": "text", "text": "Be good.", "cache_control": ephemeral}],
            "tools": [{"name": "read", "description": "Reads a file.", "input_schema": tool().parameters}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Look"}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Hm …", "signature": "EqQB"},
                    {"type": "redacted_thinking", "data": "xyz"},
                    {"type": "text", "text": "Zwei 日本."},
                    {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "ä"}},
                    {"type": "tool_use", "id": "functions_2e_read_3a_0", "name": "read", "input": {"malformed": "{oops"}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": "A"},
                    {"type": "tool_result", "tool_use_id": "functions_2e_read_3a_0", "is_error": true, "cache_control": ephemeral},
                ]},
            ],
        })
    );
}

#[test]
fn thinking_is_asked_for_as_each_model_wants() {
    let body = |style, thinking, messages: &[Message]| {
        let mut wire = Anthropic::new("m".to_owned(), &Provider { thinking, ..Provider::default() }, None);
        wire.style = style;
        let body = wire.body(&ChatRequest { system: "", messages, tools: &[] });
        (body.get("thinking").cloned(), body.get("output_config").cloned())
    };
    let (low, off) = (Some(Thinking::Low), Some(Thinking::Off));
    let budget = json!({"type": "enabled", "budget_tokens": 4_000});
    assert_eq!(body(ThinkingStyle::Budget, low, &hello()), (Some(budget), None));
    let adaptive = (Some(json!({"type": "adaptive"})), Some(json!({"effort": "low"})));
    assert_eq!(body(ThinkingStyle::Adaptive, low, &hello()), adaptive);
    assert_eq!(body(ThinkingStyle::Adaptive, None, &hello()), (None, None));
    assert_eq!(body(ThinkingStyle::Adaptive, off, &hello()), (Some(json!({"type": "disabled"})), None));
    assert_eq!(body(ThinkingStyle::Always, off, &hello()), (None, Some(json!({"effort": "low"}))));
    // A turn that another model began: its first block is no thought of Anthropic's.
    let mut messages = hello();
    messages.push(Message::Assistant {
        blocks: vec![Block::ToolCall { id: "a".into(), name: "read".into(), input: json!({}) }],
    });
    assert_eq!(body(ThinkingStyle::Budget, low, &messages), (None, None));
    assert!(body(ThinkingStyle::Adaptive, low, &messages).0.is_some());
    messages[1] = Message::Assistant { blocks: blocks() };
    assert!(body(ThinkingStyle::Budget, low, &messages).0.is_some());
}

#[tokio::test]
async fn a_chat_over_a_connection_sends_key_and_version() {
    let server = TestServer::chats(vec![Reply::stream(STREAM)]);
    let mut provider = provider(ProviderKind::Anthropic, &server.url());
    provider.key_env = Some("SOME_KEY".to_owned());
    let mut model = served_in(provider, &[("SOME_KEY", "sk-ant-x")]);
    assert_eq!(chat(&mut model, &hello()).await.0.unwrap().blocks, blocks());
    let seen = &server.chats_seen()[0];
    assert_eq!(seen.line, "POST /v1/messages");
    for header in ["x-api-key: sk-ant-x", "anthropic-version: 2023-06-01", "content-type: application/json"] {
        assert!(seen.headers.contains(&header.to_owned()), "{header}: {:?}", seen.headers);
    }
    assert_eq!(model.name(), "p/m");
}

#[tokio::test]
async fn refusals_are_sorted() {
    let refusal = |status, kind: &str, message: &str| {
        let body = json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
        chat_error(ProviderKind::Anthropic, Reply::status(status, &[], &body))
    };
    assert_eq!(refusal(401, "authentication_error", "invalid x-api-key").await.trouble, Trouble::Unauthorized);
    assert_eq!(refusal(404, "not_found_error", "model: m").await.trouble, Trouble::ModelMissing);
    assert_eq!(refusal(529, "overloaded_error", "Overloaded").await.trouble, Trouble::Overloaded { retry_after: None });
    let long = "prompt is too long: 208310 tokens > 200000 maximum";
    assert_eq!(refusal(400, "invalid_request_error", long).await.trouble, Trouble::TooLong);
    let money = "Your credit balance is too low to access the Anthropic API.";
    assert_eq!(refusal(400, "invalid_request_error", money).await.trouble, Trouble::Budget);
    assert_eq!(refusal(400, "invalid_request_error", "messages: x").await.trouble, Trouble::BadRequest);
}

#[tokio::test]
async fn errors_in_the_middle_are_errors() {
    let begun = &STREAM[..STREAM.find("event: content_block_start").unwrap()];
    let after = |end: &str| chat_error(ProviderKind::Anthropic, Reply::stream(&format!("{begun}{end}")));
    let told = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    assert_eq!(after(told).await.trouble, Trouble::Overloaded { retry_after: None });
    assert_eq!(after("").await.trouble, Trouble::Cut);
    assert_eq!(after("data: {\"type\":\"content_block_start\"}\n\n").await.trouble, Trouble::Malformed);
}
