use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::llm::served::Served;
use crate::llm::test_server::{
    Reply, TestServer, chat, chat_error, cut_at, decode, hello, joined, provider, served, tool,
};
use crate::llm::{ChatModel, ToolResult};
use crate::model::providers::ProviderKind;

/// A whole answer: thoughts, text, two calls in pieces.
const STREAM: &str = concat!(
    ": OPENROUTER PROCESSING\n\n",
    r#"data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"Hm …"},"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{"content":"Zwei "}}]}"#,
    "\r\n\r\n",
    r#"data: {"choices":[{"index":0,"delta":{"content":"日本."}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"read","arguments":""}}]}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"path\": \"ä"}}]}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"list","arguments":"{oops"}},{"index":0,"function":{"arguments":"\"}"}}]}}]}"#,
    "\n\n",
    r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
    "\n\n",
    r#"data: {"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,"prompt_tokens_details":{"cached_tokens":60}}}"#,
    "\n\n",
    "data: [DONE]\n\n",
);

/// The model at an address that is never asked.
fn model() -> Served {
    served(provider(ProviderKind::Openai, "http://127.0.0.1:1/v1"))
}

/// The answer to a stream of these chunks' deltas, ended as it should.
fn answer(deltas: &[Value]) -> Vec<Block> {
    let mut stream: String =
        deltas.iter().map(|delta| format!("data: {}\n\n", json!({"choices": [{"delta": delta}]}))).collect();
    stream.push_str("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    decode(&model(), &[stream.as_bytes()]).unwrap().0.blocks
}

/// Names and inputs of the calls among blocks.
fn calls(blocks: &[Block]) -> Vec<(String, Value)> {
    let call = |block: &Block| match block {
        Block::ToolCall { name, input, .. } => Some((name.clone(), input.clone())),
        _ => None,
    };
    blocks.iter().filter_map(call).collect()
}

#[test]
fn a_stream_becomes_an_answer() {
    let (answer, deltas) = decode(&model(), &[STREAM.as_bytes()]).unwrap();
    let thoughts = Block::Thinking { text: "Hm …".into(), signature: Some("field:reasoning_content".into()) };
    let call = |id: &str, name: &str, input| Block::ToolCall { id: id.into(), name: name.into(), input };
    let expected = [
        thoughts,
        Block::Text { text: "Zwei 日本.".into() },
        call("a", "read", json!({"path": "ä"})),
        call("b", "list", json!("{oops")),
    ];
    assert_eq!(answer.blocks, expected);
    assert_eq!(joined(&deltas), ["thinking Hm …", "text Zwei 日本.", "call read", "call list"]);
    assert_eq!(answer.stop, StopReason::End);
    let usage = answer.usage;
    assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.measured), (100, 60, 20, true));
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
    fn a_stream_that_ends_before_its_reason_is_cut(end in 0..STREAM.find("finish_reason\":\"tool").unwrap()) {
        let error = decode(&model(), &[&STREAM.as_bytes()[..end]]).unwrap_err();
        prop_assert!(matches!(error.trouble, Trouble::Cut | Trouble::Malformed), "{error}");
    }
}

#[test]
fn calls_are_told_apart_however_a_server_counts() {
    let piece = |index: Value, id: &str, name: &str, arguments: &str| json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}});
    let two = [("read".to_owned(), json!({"path": "a"})), ("read".to_owned(), json!({"path": "b"}))];
    let (a, b) = (r#"{"path":"a"}"#, r#"{"path":"b"}"#);
    // All under index 0, with ids.
    let same = [json!({"tool_calls": [piece(json!(0), "x", "read", a), piece(json!(0), "y", "read", b)]})];
    assert_eq!(calls(&answer(&same)), two);
    // No index and no id.
    let none = [piece(json!(null), "", "read", a), piece(json!(null), "", "read", b)];
    assert_eq!(calls(&answer(&[json!({"tool_calls": none})])), two);
    // The name again with each piece.
    let (start, end) = a.split_at(5);
    let again =
        [piece(json!(0), "x", "read", start), piece(json!(0), "x", "read", end), piece(json!(1), "y", "read", b)];
    assert_eq!(calls(&answer(&[json!({"tool_calls": again})])), two);
    // Input as an object, and none at all.
    let object = json!({"index": 0, "id": "x", "function": {"name": "read", "arguments": {"path": "a"}}});
    let empty = json!({"index": 1, "id": "y", "function": {"name": "list"}});
    let expected = [("read".to_owned(), json!({"path": "a"})), ("list".to_owned(), json!({}))];
    assert_eq!(calls(&answer(&[json!({"tool_calls": [object, empty]})])), expected);
}

#[test]
fn thoughts_that_come_under_two_names_count_once() {
    let both = json!({"reasoning": "hm", "reasoning_content": "hm"});
    let blocks = answer(&[both, json!({"content": [{"type": "text", "text": "part"}]})]);
    assert_eq!(blocks.len(), 2);
    assert!(matches!(&blocks[0], Block::Thinking { text, .. } if text == "hm"));
    assert_eq!(blocks[1], Block::Text { text: "part".into() });
}

#[test]
fn a_server_that_does_not_stream_is_understood() {
    let whole = json!({
        "choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    });
    let (answer, _) = decode(&model(), &[whole.to_string().as_bytes()]).unwrap();
    assert_eq!((answer.blocks, answer.stop), (vec![Block::Text { text: "Hi".into() }], StopReason::Length));
    let withheld = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"content_filter\"}]}\n\n";
    let (answer, _) = decode(&model(), &[withheld.as_bytes()]).unwrap();
    assert_eq!(answer.stop, StopReason::Refused("content_filter".to_owned()));
    assert!(!answer.usage.measured, "nobody counted");
}

#[test]
fn thoughts_go_back_within_their_turn_only() {
    let thoughts = |text: &str| Block::Thinking { text: text.into(), signature: Some("field:reasoning".into()) };
    let call = Block::ToolCall { id: "a".into(), name: "read".into(), input: json!("{oops") };
    let messages = [
        Message::User { text: "One".into() },
        Message::Assistant { blocks: vec![thoughts("old"), Block::Text { text: "Done.".into() }] },
        Message::User { text: "Two".into() },
        Message::Assistant {
            blocks: vec![Block::Thinking { text: "x".into(), signature: None }, thoughts("new"), call],
        },
        Message::Tool {
            results: vec![ToolResult { call_id: "a".into(), name: "read".into(), text: "T".into(), is_error: false }],
        },
    ];
    let provider = Provider { max_output: Some(7), thinking: Some(Thinking::Off), ..Provider::default() };
    let wire = OpenAi::new("m".to_owned(), &provider, "http://127.0.0.1:1234/v1");
    let body = wire.body(&ChatRequest { system: "S", messages: &messages, tools: &[] });
    assert_eq!(
        body,
        json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true},
            "max_tokens": 7, "reasoning_effort": "none",
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": "One"},
                {"role": "assistant", "content": "Done."},
                {"role": "user", "content": "Two"},
                {"role": "assistant", "content": "", "reasoning": "new", "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "read", "arguments": "{\"malformed\":\"{oops\"}"}},
                ]},
                {"role": "tool", "tool_call_id": "a", "content": "T"},
            ],
        })
    );
}

#[test]
fn openai_itself_gets_no_effort_beside_tools() {
    let provider = Provider { max_output: Some(7), thinking: Some(Thinking::High), ..Provider::default() };
    let wire = OpenAi::new("m".to_owned(), &provider, "https://api.openai.com/v1");
    let body = wire.body(&ChatRequest { system: "", messages: &[], tools: &[tool()] });
    assert_eq!((&body["max_completion_tokens"], body.get("reasoning_effort")), (&json!(7), None));
    let body = wire.body(&ChatRequest { system: "", messages: &[], tools: &[] });
    assert_eq!(body["reasoning_effort"], "high");
}

#[tokio::test]
async fn a_server_that_wants_no_thinking_beside_tools_is_asked_so() {
    let message = "Function tools with reasoning_effort are not supported for m in /v1/chat/completions. \
                   To use function tools, use /v1/responses or set reasoning_effort to 'none'.";
    let body = json!({"error": {"message": message, "type": "invalid_request_error"}}).to_string();
    let server = TestServer::chats(vec![Reply::status(400, &[], &body), Reply::stream(STREAM)]);
    let mut model = served(provider(ProviderKind::Openai, &server.url()));
    chat(&mut model, &hello()).await.0.unwrap();
    chat(&mut model, &hello()).await.0.unwrap();
    let efforts: Vec<_> = server.chats_seen().iter().map(|seen| seen.body.get("reasoning_effort").cloned()).collect();
    assert_eq!(efforts, [None, Some(json!("none")), Some(json!("none"))]);
}

#[tokio::test]
async fn a_chat_over_a_connection_sends_the_key_and_learns_the_window() {
    let server = TestServer::start(|seen| match seen.line.as_str() {
        "GET /v1/models" => Reply::status(200, &[], r#"{"data":[{"id":"other"},{"id":"m","max_model_len":32768}]}"#),
        _ => Reply::stream(STREAM),
    });
    let mut provider = provider(ProviderKind::Openai, &format!("{}/v1/", server.url()));
    provider.key_env = Some("SOME_KEY".to_owned());
    let mut model = crate::llm::test_server::served_in(provider, &[("SOME_KEY", "sk-secret")]);
    let (answer, _) = chat(&mut model, &hello()).await;
    assert_eq!(answer.unwrap().blocks.len(), 4);
    assert_eq!(model.context_window(), Some(32_768));
    let seen = &server.chats_seen()[0];
    assert_eq!(seen.line, "POST /v1/chat/completions");
    assert!(seen.headers.contains(&"authorization: bearer sk-secret".to_owned()), "{:?}", seen.headers);
}

#[tokio::test]
async fn refusals_are_sorted() {
    let refusal = |status, body: Value| chat_error(ProviderKind::Openai, Reply::status(status, &[], &body.to_string()));
    let error = refusal(401, json!({"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})).await;
    assert_eq!((error.trouble, error.message.as_str()), (Trouble::Unauthorized, "Incorrect API key"));
    let error =
        refusal(404, json!({"error": {"message": "The model `m` does not exist", "code": "model_not_found"}})).await;
    assert_eq!(error.trouble, Trouble::ModelMissing);
    let long = "This model's maximum context length is 8192 tokens, however you requested 9000 tokens";
    let error = refusal(400, json!({"error": {"message": long, "code": 400}})).await;
    assert_eq!(error.trouble, Trouble::TooLong);
    let error =
        refusal(429, json!({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})).await;
    assert_eq!(error.trouble, Trouble::Budget);
    let error = refusal(400, json!({"message": "nothing right"})).await;
    assert_eq!((error.trouble, error.message.as_str()), (Trouble::BadRequest, "nothing right"));
    let reply = Reply::status(429, &["retry-after-ms: 1500"], "");
    let error = chat_error(ProviderKind::Openai, reply).await;
    let retry_after = Some(std::time::Duration::from_millis(1500));
    assert_eq!(error.to_string(), "p/m: the server answered with status 429");
    assert_eq!(error.trouble, Trouble::RateLimited { retry_after });
}

#[tokio::test]
async fn errors_in_the_middle_are_errors() {
    let begun = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n";
    let after = |end: &str| chat_error(ProviderKind::Openai, Reply::stream(&format!("{begun}{end}")));
    let error = after("data: {\"error\":{\"message\":\"gone\",\"code\":502}}\n\n").await;
    assert_eq!((error.trouble, error.message.as_str()), (Trouble::ServerError, "gone"));
    let error =
        after("event: error\ndata: {\"error\":{\"message\":\"slow down\",\"type\":\"rate_limit_error\"}}\n\n").await;
    assert_eq!(error.trouble, Trouble::RateLimited { retry_after: None });
    assert_eq!(after("").await.trouble, Trouble::Cut);
    assert_eq!(after("data: [DONE]\n\n").await.trouble, Trouble::Cut, "done without a reason");
    assert_eq!(after("data: {\"choices\":[\n\n").await.trouble, Trouble::Malformed);
}
