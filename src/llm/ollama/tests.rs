use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::llm::test_server::{Reply, TestServer, chat, chat_error, decode, hello, joined, provider, served, target};
use crate::llm::{ChatModel, Delta, ToolResult, Trouble, test_server};
use crate::model::providers::{ProviderKind, built_in_providers};

/// A whole answer: thoughts, text, two calls.
const STREAM: &str = concat!(
    r#"{"model":"m","created_at":"x","message":{"role":"assistant","content":"","thinking":"Let me "},"done":false}"#,
    "\n",
    r#"{"message":{"role":"assistant","content":"","thinking":"see…"},"done":false}"#,
    "\n",
    r#"{"message":{"role":"assistant","content":"Zwei Däteien "},"done":false}"#,
    "\n",
    r#"{"message":{"role":"assistant","content":"lesen 日本."},"done":false}"#,
    "\n",
    r#"{"message":{"role":"assistant","content":"","tool_calls":[{"id":"call_a","function":{"index":0,"name":"read","arguments":{"path":"ä"}}},{"function":{"index":1,"name":"read","arguments":{}}}]},"done":false}"#,
    "\n",
    r#"{"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":5,"prompt_eval_count":26,"prompt_eval_cached_count":20,"eval_count":282}"#,
    "\n",
);

/// The model at an address that is never asked.
fn model() -> crate::llm::served::Served {
    served(provider(ProviderKind::Ollama, "http://127.0.0.1:1"))
}

/// An answer without the ids that were made up.
fn without_ids(blocks: &[Block]) -> Vec<String> {
    blocks
        .iter()
        .map(|block| match block {
            Block::ToolCall { name, input, .. } => format!("{name} {input}"),
            Block::Text { text } => text.clone(),
            Block::Thinking { text, signature } => format!("({text}) {signature:?}"),
        })
        .collect()
}

#[test]
fn a_stream_becomes_an_answer() {
    let (answer, deltas) = decode(&model(), &[STREAM.as_bytes()]).unwrap();
    let expected = ["(Let me see…) None", "Zwei Däteien lesen 日本.", r#"read {"path":"ä"}"#, "read {}"];
    assert_eq!(without_ids(&answer.blocks), expected);
    assert_eq!(joined(&deltas), ["thinking Let me see…", "text Zwei Däteien lesen 日本.", "call read", "call read"]);
    assert_eq!(answer.stop, StopReason::End);
    let usage = answer.usage;
    assert_eq!((usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.measured), (26, 20, 282, true));
    assert_eq!(usage.cost_usd, Some(0.0), "a model on this machine costs nothing");
    let ids = answer.blocks.iter().filter_map(|block| match block {
        Block::ToolCall { id, .. } => Some(id.as_str()),
        _ => None,
    });
    let ids: Vec<_> = ids.collect();
    assert!(ids[0] == "call_a" && ids[1].len() > 8 && ids[1] != ids[0], "{ids:?}");
}

proptest! {
    #[test]
    fn cuts_anywhere_change_nothing(at in proptest::collection::vec(0..STREAM.len(), 0..8)) {
        let (expected, heard) = decode(&model(), &[STREAM.as_bytes()]).unwrap();
        let (answer, deltas) = decode(&model(), &test_server::cut_at(STREAM.as_bytes(), at)).unwrap();
        prop_assert_eq!(without_ids(&answer.blocks), without_ids(&expected.blocks));
        prop_assert_eq!(joined(&deltas), joined(&heard));
        prop_assert_eq!(answer.usage, expected.usage);
    }

    #[test]
    fn a_stream_that_ends_too_early_is_cut(end in 0..STREAM.len() - 2) {
        let error = decode(&model(), &[&STREAM.as_bytes()[..end]]).unwrap_err();
        prop_assert!(matches!(error.trouble, Trouble::Cut | Trouble::Malformed), "{error}");
    }
}

#[test]
fn what_nobody_counted_is_estimated() {
    let stream = "{\"message\":{\"content\":\"12345678\"},\"done\":true,\"done_reason\":\"length\",\"eval_count\":2}\n";
    let (answer, _) = decode(&model(), &[stream.as_bytes()]).unwrap();
    assert_eq!(answer.stop, StopReason::Length);
    assert!(!answer.usage.measured && answer.usage.input_tokens > 0);
    assert_eq!(answer.usage.output_tokens, 2);
}

#[test]
fn arguments_that_are_no_object_stay_what_they_were() {
    for (arguments, expected) in [
        (json!("{\"path\": \"a\"}"), json!({"path": "a"})),
        (json!("{\"path\": "), json!("{\"path\": ")),
        (json!(["a"]), json!("[\"a\"]")),
        (json!(null), json!({})),
    ] {
        let call = json!({"function": {"name": "read", "arguments": arguments}});
        let line = json!({"message": {"tool_calls": [call]}, "done": true}).to_string();
        let (answer, _) = decode(&model(), &[line.as_bytes()]).unwrap();
        assert!(matches!(&answer.blocks[0], Block::ToolCall { input, .. } if *input == expected), "{answer:?}");
    }
}

#[test]
fn the_request_has_window_tools_and_the_whole_conversation() {
    let built_in = built_in_providers().remove("ollama").unwrap();
    let wire = Ollama::new("qwen3-coder".to_owned(), &Provider { thinking: Some(Thinking::High), ..built_in });
    let messages = [
        Message::User { text: "Look".to_owned() },
        Message::Assistant {
            blocks: vec![
                Block::Thinking { text: "hm".to_owned(), signature: None },
                Block::Text { text: "I look.".to_owned() },
                Block::ToolCall { id: "c1".to_owned(), name: "read".to_owned(), input: json!({"path": "a"}) },
                Block::ToolCall { id: "c2".to_owned(), name: "read".to_owned(), input: json!("{oops") },
            ],
        },
        Message::Tool {
            results: vec![
                ToolResult { call_id: "c1".into(), name: "read".into(), text: "A".into(), is_error: false },
                ToolResult { call_id: "c2".into(), name: "read".into(), text: "no".into(), is_error: true },
            ],
        },
    ];
    let tools = [test_server::tool()];
    let body = wire.body(&ChatRequest { system: "Be good.", messages: &messages, tools: &tools });
    assert_eq!(
        body,
        json!({
            "model": "qwen3-coder",
            "stream": true,
            "think": "high",
            "keep_alive": "30m",
            "options": {"num_ctx": 65_536},
            "messages": [
                {"role": "system", "content": "Be good."},
                {"role": "user", "content": "Look"},
                {"role": "assistant", "content": "I look.", "thinking": "hm", "tool_calls": [
                    {"id": "c1", "function": {"index": 0, "name": "read", "arguments": {"path": "a"}}},
                    {"id": "c2", "function": {"index": 1, "name": "read", "arguments": {"malformed": "{oops"}}},
                ]},
                {"role": "tool", "tool_name": "read", "tool_call_id": "c1", "content": "A"},
                {"role": "tool", "tool_name": "read", "tool_call_id": "c2", "content": "no"},
            ],
            "tools": [{"type": "function", "function": {
                "name": "read", "description": "Reads a file.", "parameters": test_server::tool().parameters,
            }}],
        })
    );
}

#[test]
fn what_a_person_sets_is_sent() {
    let wire =
        |provider| Ollama::new("m".to_owned(), &provider).body(&ChatRequest { system: "", messages: &[], tools: &[] });
    let body = wire(Provider {
        keep_alive: Some("-1".to_owned()),
        thinking: Some(Thinking::Off),
        max_output: Some(9),
        ..Provider::default()
    });
    let expected = json!({"model": "m", "messages": [], "stream": true, "keep_alive": -1, "think": false, "options": {"num_predict": 9}});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_chat_over_a_connection_learns_the_window() {
    let server = TestServer::start(|seen| match seen.line.as_str() {
        "POST /api/show" => {
            let info = json!({"general.architecture": "qwen3", "qwen3.context_length": 40_960});
            Reply::status(200, &[], &json!({"model_info": info, "capabilities": ["completion", "tools"]}).to_string())
        }
        _ => Reply::stream(STREAM),
    });
    let mut provider = provider(ProviderKind::Ollama, &server.url());
    provider.context_window = Some(65_536);
    let mut model = served(provider);
    assert_eq!(model.context_window(), Some(65_536));
    let (answer, deltas) = chat(&mut model, &hello()).await;
    let answer = answer.unwrap();
    assert_eq!((answer.model.as_str(), answer.blocks.len()), ("p/m", 4));
    assert_eq!(deltas.first(), Some(&Delta::Thinking("Let me ".to_owned())));
    assert_eq!(model.context_window(), Some(40_960));
    assert_eq!(server.chats_seen()[0].body["options"], json!({"num_ctx": 65_536}));
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let ollama = ProviderKind::Ollama;
    let error = chat_error(ollama, Reply::status(404, &[], r#"{"error":"model 'm' not found"}"#)).await;
    assert_eq!(error.to_string(), "p/m: model 'm' not found");
    assert_eq!(error.trouble, Trouble::ModelMissing);
    assert_eq!(error.hint.unwrap(), "Get the model with `ollama pull m`.");

    let body = r#"{"error":"registry.ollama.ai/library/m:latest does not support tools"}"#;
    let error = chat_error(ollama, Reply::status(400, &[], body)).await;
    assert_eq!(error.trouble, Trouble::NoTools);
    assert!(error.hint.unwrap().contains("`ollama pull qwen3-coder`"));

    let error = chat_error(ollama, Reply::status(503, &["retry-after: 2"], r#"{"error":"server busy"}"#)).await;
    let retry_after = Some(std::time::Duration::from_secs(2));
    assert_eq!(error.trouble, Trouble::Overloaded { retry_after });

    let body = r#"{"error":"model requires more system memory (9.1 GiB) than is available (4.0 GiB)"}"#;
    let error = chat_error(ollama, Reply::status(500, &[], body)).await;
    assert_eq!(error.trouble, Trouble::ServerError);
    assert!(error.hint.unwrap().contains("`providers.p.context_window`"));

    let error = chat_error(ollama, Reply::status(401, &[], r#"{"error":"unauthorized","signin_url":"x"}"#)).await;
    assert_eq!((error.trouble, error.hint.as_deref()), (Trouble::Unauthorized, Some("Sign in with `ollama signin`.")));

    let error = chat_error(ollama, Reply::status(404, &[], "404 page not found")).await;
    assert_eq!(error.trouble, Trouble::BadRequest, "an address with a wrong path");
    assert!(error.hint.unwrap().contains("`providers.p.url`"));
}

#[tokio::test]
async fn errors_in_the_middle_are_errors() {
    let begun = "{\"message\":{\"content\":\"Hel\"},\"done\":false}\n";
    let told = |end: &str| Reply::stream(&format!("{begun}{end}"));
    let error = chat_error(ProviderKind::Ollama, told("{\"error\":\"an unexpected end of the runner\"}\n")).await;
    assert_eq!((error.trouble, error.message.as_str()), (Trouble::ServerError, "an unexpected end of the runner"));
    let error = chat_error(ProviderKind::Ollama, told("")).await;
    assert_eq!(error.to_string(), "p/m: the answer ended in the middle");
    assert_eq!(error.trouble, Trouble::Cut);
    let error = chat_error(ProviderKind::Ollama, Reply::cut(begun)).await;
    assert_eq!(error.trouble, Trouble::Cut);
    let error = chat_error(ProviderKind::Ollama, told("<html>oops\n")).await;
    assert_eq!(error.to_string(), "p/m: a line is not what Ollama sends: `<html>oops`");
    assert_eq!(error.trouble, Trouble::Malformed);
}

#[test]
fn the_host_is_read_as_ollama_reads_it() {
    for (host, url) in [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        (":9999", "http://127.0.0.1:9999"),
        ("box.lan", "http://box.lan:11434"),
        ("http://box.lan", "http://box.lan:80"),
        ("https://box.lan/ollama", "https://box.lan:443/ollama"),
        ("[::1]", "http://[::1]:11434"),
        ("[::]:1234", "http://[::1]:1234"),
        ("::1", "http://[::1]:11434"),
    ] {
        assert_eq!(address(host), url, "{host}");
    }
}

#[test]
fn the_words_of_a_told_error_decide() {
    let told = |message: &str| {
        target(ProviderKind::Ollama).told(&Told { message: message.to_owned(), ..Told::default() }).trouble
    };
    assert_eq!(told("server busy, please try again"), Trouble::Overloaded { retry_after: None });
    assert_eq!(told("input is too long: exceeds the available context size"), Trouble::TooLong);
    assert_eq!(told("whatever"), Trouble::ServerError);
}
