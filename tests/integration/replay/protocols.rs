//! What a model says and calls, in the words of each API, whole and as a stream; and what it is told.

use serde_json::{Value, json};

use super::{APIS, Answer, Api, ask, get, post};
use crate::support::model_server::{ModelServer, Script};

/// A script of every kind of block, long enough to come in several pieces.
const SCRIPT: &str = r#"
conversations:
  - name: all
    turns:
      - think: I had better think about this for a while before I say anything at all.
        say: "Ich schreibe äöü € 🙂, and then some more text, so that it comes in pieces."
        calls:
          - write: {path: "{cwd}/a.txt", content: "a rather long content of the file, with \"quotes\" in it"}
          - bash: {command: ls}
        usage: {input_tokens: 123, output_tokens: 45}
      - expect: ["written: ok", "a.txt"]
        say: Done.
"#;

/// What the turn says.
const SAID: &str = "Ich schreibe äöü € 🙂, and then some more text, so that it comes in pieces.";
/// What it thinks.
const THOUGHT: &str = "I had better think about this for a while before I say anything at all.";

/// A message as a client puts it together.
#[derive(Debug, Default, PartialEq)]
struct Heard {
    /// Thoughts.
    thought: String,
    /// Text.
    said: String,
    /// Names, inputs and ids of calls.
    calls: Vec<(String, Value, String)>,
    /// Why it ended.
    stop: String,
    /// Tokens read and written.
    tokens: (u64, u64),
}

/// A text of a document.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Puts a stream together as the API's documentation says.
fn heard_in_stream(api: Api, answer: &Answer) -> Heard {
    let mut heard = Heard::default();
    let mut inputs: Vec<String> = Vec::new();
    for event in answer.events() {
        match api {
            Api::Messages => {
                let (delta, block) = (&event["delta"], &event["content_block"]);
                heard.said.push_str(delta["text"].as_str().unwrap_or_default());
                heard.thought.push_str(delta["thinking"].as_str().unwrap_or_default());
                if block["type"] == "tool_use" {
                    heard.calls.push((text(&block["name"]), Value::Null, text(&block["id"])));
                    inputs.push(String::new());
                }
                if let Some(part) = delta["partial_json"].as_str() {
                    inputs.last_mut().unwrap().push_str(part);
                }
                if event["type"] == "message_start" {
                    heard.tokens.0 = event["message"]["usage"]["input_tokens"].as_u64().unwrap();
                }
                if event["type"] == "message_delta" {
                    heard.stop = text(&delta["stop_reason"]);
                    heard.tokens.1 = event["usage"]["output_tokens"].as_u64().unwrap();
                }
            }
            Api::Completions => {
                let choice = &event["choices"][0];
                let delta = &choice["delta"];
                heard.said.push_str(delta["content"].as_str().unwrap_or_default());
                heard.thought.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
                for call in delta["tool_calls"].as_array().into_iter().flatten() {
                    let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
                    if index == heard.calls.len() {
                        heard.calls.push((text(&call["function"]["name"]), Value::Null, text(&call["id"])));
                        inputs.push(String::new());
                    }
                    inputs[index].push_str(call["function"]["arguments"].as_str().unwrap_or_default());
                }
                heard.stop.push_str(choice["finish_reason"].as_str().unwrap_or_default());
                if let Some(usage) = event["usage"].as_object() {
                    let tokens = |key: &str| usage[key].as_u64().unwrap();
                    heard.tokens = (tokens("prompt_tokens"), tokens("completion_tokens"));
                }
            }
            Api::Responses => match event["type"].as_str().unwrap() {
                "response.output_text.delta" => heard.said.push_str(event["delta"].as_str().unwrap()),
                "response.reasoning_summary_text.delta" => heard.thought.push_str(event["delta"].as_str().unwrap()),
                "response.output_item.added" if event["item"]["type"] == "function_call" => {
                    heard.calls.push((text(&event["item"]["name"]), Value::Null, text(&event["item"]["call_id"])));
                    inputs.push(String::new());
                }
                "response.function_call_arguments.delta" => {
                    inputs.last_mut().unwrap().push_str(event["delta"].as_str().unwrap());
                }
                "response.completed" => {
                    let whole = heard_whole(api, &event["response"]);
                    (heard.stop, heard.tokens) = (whole.stop, whole.tokens);
                }
                _ => {}
            },
            Api::Ollama => {
                let message = &event["message"];
                heard.said.push_str(message["content"].as_str().unwrap_or_default());
                heard.thought.push_str(message["thinking"].as_str().unwrap_or_default());
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    heard.calls.push((text(&call["function"]["name"]), Value::Null, text(&call["id"])));
                    inputs.push(call["function"]["arguments"].to_string());
                }
                if event["done"] == true {
                    heard.stop = text(&event["done_reason"]);
                    let tokens = |key: &str| event[key].as_u64().unwrap();
                    heard.tokens = (tokens("prompt_eval_count"), tokens("eval_count"));
                }
            }
        }
    }
    for (call, input) in heard.calls.iter_mut().zip(inputs) {
        call.1 = serde_json::from_str(&input).unwrap();
    }
    heard
}

/// Takes a whole answer apart as the API's documentation says.
fn heard_whole(api: Api, answer: &Value) -> Heard {
    let parsed = |arguments: &Value| serde_json::from_str(arguments.as_str().unwrap()).unwrap();
    let mut heard = Heard::default();
    let (input, output) = match api {
        Api::Messages => {
            heard.stop = text(&answer["stop_reason"]);
            for block in answer["content"].as_array().unwrap() {
                heard.said.push_str(block["text"].as_str().unwrap_or_default());
                heard.thought.push_str(block["thinking"].as_str().unwrap_or_default());
                if block["type"] == "tool_use" {
                    heard.calls.push((text(&block["name"]), block["input"].clone(), text(&block["id"])));
                }
            }
            ("/usage/input_tokens", "/usage/output_tokens")
        }
        Api::Completions => {
            let choice = &answer["choices"][0];
            heard.stop = text(&choice["finish_reason"]);
            heard.said = text(&choice["message"]["content"]);
            heard.thought = text(&choice["message"]["reasoning_content"]);
            for call in choice["message"]["tool_calls"].as_array().unwrap() {
                let function = &call["function"];
                heard.calls.push((text(&function["name"]), parsed(&function["arguments"]), text(&call["id"])));
            }
            ("/usage/prompt_tokens", "/usage/completion_tokens")
        }
        Api::Responses => {
            heard.stop = text(&answer["status"]);
            for item in answer["output"].as_array().unwrap() {
                heard.said.push_str(item["content"][0]["text"].as_str().unwrap_or_default());
                heard.thought.push_str(item["summary"][0]["text"].as_str().unwrap_or_default());
                if item["type"] == "function_call" {
                    heard.calls.push((text(&item["name"]), parsed(&item["arguments"]), text(&item["call_id"])));
                }
            }
            ("/usage/input_tokens", "/usage/output_tokens")
        }
        Api::Ollama => {
            let message = &answer["message"];
            heard.stop = text(&answer["done_reason"]);
            (heard.said, heard.thought) = (text(&message["content"]), text(&message["thinking"]));
            for call in message["tool_calls"].as_array().unwrap() {
                let function = &call["function"];
                heard.calls.push((text(&function["name"]), function["arguments"].clone(), text(&call["id"])));
            }
            ("/prompt_eval_count", "/eval_count")
        }
    };
    let tokens = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64).unwrap();
    heard.tokens = (tokens(input), tokens(output));
    heard
}

/// What the turn must be heard as.
#[track_caller]
fn check(api: Api, heard: &Heard) {
    let stop = match api {
        Api::Messages => "tool_use",
        Api::Completions => "tool_calls",
        Api::Responses => "completed",
        Api::Ollama => "stop",
    };
    assert_eq!((heard.said.as_str(), heard.thought.as_str(), heard.stop.as_str()), (SAID, THOUGHT, stop), "{api:?}");
    assert_eq!(heard.tokens, (123, 45), "{api:?}");
    let content = "a rather long content of the file, with \"quotes\" in it";
    let [(write, input, first), (bash, command, second)] = &heard.calls[..] else { panic!("{api:?}: {heard:?}") };
    assert_eq!((write.as_str(), bash.as_str()), ("write", "bash"));
    assert_eq!(input, &json!({"path": "{cwd}/a.txt", "content": content}), "{api:?}: nobody told a folder");
    assert_eq!(command, &json!({"command": "ls"}));
    assert!(!first.is_empty() && first != second, "{api:?}: {heard:?}");
}

#[test]
fn every_api_says_the_same_whole_and_in_pieces() {
    let server = ModelServer::of(SCRIPT);
    for api in APIS {
        let mut request = api.prompt("SCRIPT:all", true);
        request["stream_options"] = json!({"include_usage": true});
        let stream = post(&server, api.path(), &request);
        assert!(stream.status == 200 && stream.is_complete && stream.body.contains(api.end()), "{stream:?}");
        assert!(stream.events().len() > 6, "{api:?}: it comes in pieces");
        check(api, &heard_in_stream(api, &stream));
        let whole = ask(&server, api, "SCRIPT:all", false);
        assert!(whole.status == 200 && whole.is_complete, "{whole:?}");
        check(api, &heard_whole(api, &whole.json()));
    }
}

/// The request after the turn's calls were made, in each API's words, with a system prompt that names the folder.
fn second_request(api: Api) -> Value {
    let system = "You are an agent.\nWorking directory: /some where\n";
    let call = |name: &str| json!({"function": {"name": name, "arguments": {}}});
    let written =
        |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
    match api {
        Api::Messages => json!({"model": "m", "system": [{"type": "text", "text": system}], "messages": [
            {"role": "user", "content": [{"type": "text", "text": "SCRIPT:all"}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "1", "name": "write", "input": {}},
                {"type": "tool_use", "id": "2", "name": "bash", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "written: ok"}]},
                {"type": "tool_result", "tool_use_id": "2", "content": "a.txt", "is_error": true}]}]}),
        Api::Completions => json!({"model": "m", "messages": [
            {"role": "system", "content": system}, {"role": "user", "content": [{"type": "text", "text": "SCRIPT:all"}]},
            {"role": "assistant", "content": null, "tool_calls": [written("1", "write"), written("2", "bash")]},
            {"role": "tool", "tool_call_id": "1", "content": "written: ok"},
            {"role": "tool", "tool_call_id": "2", "content": "a.txt"}]}),
        Api::Responses => json!({"model": "m", "instructions": system, "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "SCRIPT:all"}]},
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I write."}]},
            {"type": "function_call", "call_id": "1", "name": "write", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "2", "name": "bash", "input": "ls"},
            {"type": "function_call_output", "call_id": "1", "output": "written: ok"},
            {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "a.txt"}]}]}),
        Api::Ollama => json!({"model": "m", "stream": false, "messages": [
            {"role": "system", "content": system}, {"role": "user", "content": "SCRIPT:all"},
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call("write"), call("bash")]},
            {"role": "tool", "tool_name": "write", "content": "written: ok"},
            {"role": "tool", "tool_name": "bash", "content": "a.txt"}]}),
    }
}

#[test]
fn every_api_finds_its_turn_by_the_tool_results_and_is_written_down_alike() {
    let server = ModelServer::of(SCRIPT);
    for api in APIS {
        let answer = post(&server, api.path(), &second_request(api));
        assert!(answer.status == 200 && answer.body.contains("Done."), "{api:?}: {answer:?}");
        let request = server.requests().pop().unwrap();
        assert_eq!(request.user_texts(), ["SCRIPT:all"], "{api:?}");
        let results = request.tool_results();
        assert_eq!(results[0].0, "written: ok");
        assert_eq!(results[1], ("a.txt".to_owned(), api == Api::Messages), "{api:?}");
        assert!(request.system_text().contains("You are an agent."), "{api:?}");
        assert_eq!(request.body, second_request(api));
    }
    // The first turn again, with the folder known.
    let mut request = second_request(Api::Completions);
    request["messages"].as_array_mut().unwrap().truncate(2);
    let heard = heard_whole(Api::Completions, &post(&server, Api::Completions.path(), &request).json());
    assert_eq!(heard.calls[0].1["path"], "/some where/a.txt");
}

#[test]
fn a_tool_that_takes_free_text_is_called_with_it() {
    let server = ModelServer::builder()
        .script("patch", Script::new().call("apply_patch", json!("*** Begin Patch\n{x}")))
        .variable("x", "*** End Patch")
        .start();
    let mut request = Api::Responses.prompt("SCRIPT:patch", false);
    request["tools"] = json!([{"type": "custom", "name": "apply_patch"}]);
    let item = post(&server, Api::Responses.path(), &request).json()["output"][0].clone();
    assert_eq!((&item["type"], &item["name"]), (&json!("custom_tool_call"), &json!("apply_patch")));
    assert_eq!(item["input"], "*** Begin Patch\n*** End Patch");
    // The same as a malformed call of an ordinary tool: arguments that are no JSON.
    let item = ask(&server, Api::Responses, "SCRIPT:patch", false).json()["output"][0].clone();
    assert_eq!(
        (&item["type"], &item["arguments"]),
        (&json!("function_call"), &json!("*** Begin Patch\n*** End Patch"))
    );
}

#[test]
fn messages_that_steer_a_busy_claude_are_told_apart_from_the_result() {
    let server = ModelServer::builder().script("work", Script::new().say("One.").say("Two.")).start();
    let steered = "ok\n\n<system-reminder>\nThe user sent a new message while you were working:\nuse tabs\n\n\
                   This is how Claude Code surfaces messages.\n</system-reminder>";
    let request = json!({"messages": [
        {"role": "user", "content": "SCRIPT:work"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": steered}]}]});
    assert!(post(&server, Api::Messages.path(), &request).body.contains("Two."));
    assert_eq!(server.requests()[0].user_texts(), ["SCRIPT:work", "use tabs"]);
}

#[test]
fn a_request_for_a_title_gets_json_whatever_it_quotes() {
    let server = ModelServer::of("conversations: []");
    let mut request = Api::Messages.prompt("Title for: SCRIPT:work", false);
    request["output_config"] = json!({"format": {"type": "json_schema"}});
    let answer = post(&server, Api::Messages.path(), &request).json();
    assert_eq!(answer["content"][0]["text"], r#"{"title":"Scripted conversation"}"#);
}

#[test]
fn models_are_listed_and_others_are_missing() {
    let server = ModelServer::of(
        "models: [{name: qwen3-coder, context: 4096}, {name: tiny, tools: false}]\notherwise: Hi.\nconversations: []",
    );
    let names =
        |list: &Value, key: &str| list.as_array().unwrap().iter().map(|model| text(&model[key])).collect::<Vec<_>>();
    assert_eq!(names(&get(&server, "/api/tags").json()["models"], "name"), ["qwen3-coder", "tiny"]);
    assert_eq!(names(&get(&server, "/v1/models").json()["data"], "id"), ["qwen3-coder", "tiny"]);
    assert_eq!(get(&server, "/api/ps").json()["models"][0]["context_length"], 4096);
    assert!(get(&server, "/api/version").json()["version"].as_str().unwrap().starts_with("0."));
    let shown = post(&server, "/api/show", &json!({"model": "qwen3-coder:latest"})).json();
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    let shown = post(&server, "/api/show", &json!({"model": "tiny"})).json();
    assert_eq!(shown["capabilities"], json!(["completion"]));
    assert_eq!(post(&server, "/api/show", &json!({"model": "gone"})).status, 404);
    for api in APIS {
        let missing = ask(&server, api, "Hello", false);
        assert!(missing.status == 404 && missing.body.contains("model 'm' not found"), "{missing:?}");
        let mut request = api.prompt("Hello", false);
        request["model"] = json!("tiny");
        assert_eq!(post(&server, api.path(), &request).status, 200);
        request["tools"] = json!([{"type": "function", "function": {"name": "x"}}]);
        let refused = post(&server, api.path(), &request);
        assert!(refused.status == 400 && refused.body.contains("tiny does not support tools"), "{refused:?}");
    }
    let loaded = post(&server, "/api/chat", &json!({"model": "tiny", "messages": []})).json();
    assert_eq!((&loaded["done"], &loaded["done_reason"]), (&json!(true), &json!("load")));
}
