//! Our own clients against this server: two readings of each protocol's documentation that must agree.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::config::Environment;
use crate::llm::message::{Answer, Block, ChatRequest, Delta, Message, StopReason, ToolResult, ToolSpec};
use crate::llm::reference::{self, Reference};
use crate::llm::script::Script;
use crate::llm::{ChatError, ChatModel, Trouble, served};
use crate::model::providers::{ModelSettings, Provider, ProviderKind};

/// Every protocol that we speak.
const KINDS: [ProviderKind; 3] = [ProviderKind::Ollama, ProviderKind::Openai, ProviderKind::Anthropic];

/// A server for a script.
fn serve_script(script: &str) -> Server {
    let play = Play::Script(Script::parse(Path::new("s.yaml"), script).unwrap());
    Server::start(play, ([127, 0, 0, 1], 0).into(), Box::new(|_| {})).unwrap()
}

/// Asks the server once, by one protocol.
fn ask(server: &Server, kind: ProviderKind, messages: &[Message]) -> (Result<Answer, ChatError>, Vec<Delta>) {
    let path = if kind == ProviderKind::Openai { "/v1" } else { "" };
    let url = Some(format!("http://{}{path}", server.address()));
    let provider = Provider { kind: Some(kind), url, ..Provider::default() };
    let settings = ModelSettings { providers: [("p".to_owned(), provider)].into(), ..ModelSettings::default() };
    let Ok(Reference::Models(names)) = reference::resolve("p/m", &settings) else { panic!("p/m is a model") };
    let mut model = served::Served::new(names[0].clone(), &settings, &Environment::default());
    let parameters = json!({"type": "object", "properties": {"command": {"type": "string"}}});
    let tool = ToolSpec { name: "bash".to_owned(), description: "Runs".to_owned(), parameters };
    let request = ChatRequest { system: "Working directory: /w", messages, tools: &[tool] };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut heard = Vec::new();
    let mut hear = |delta| heard.push(delta);
    let answer = runtime.block_on(model.chat(&request, &mut hear));
    (answer, heard)
}

/// What the person says.
fn user(text: &str) -> Message {
    Message::User { text: text.to_owned() }
}

/// The text of a message and its calls.
fn parts(blocks: &[Block]) -> (String, Vec<(String, serde_json::Value)>) {
    let mut parts = (String::new(), Vec::new());
    for block in blocks {
        match block {
            Block::Text { text } => parts.0.push_str(text),
            Block::Thinking { .. } => {}
            Block::ToolCall { name, input, .. } => parts.1.push((name.clone(), input.clone())),
        }
    }
    parts
}

#[test]
fn our_clients_hear_what_the_script_says_over_several_turns() {
    let server = serve_script(
        "conversations: [{name: a, turns: [{think: Hm., say: 'Erst äöü, and then more text than fits a piece of it.', \
         calls: [{bash: {command: 'ls {cwd}'}}, {bash: {command: 'true'}}], usage: {input_tokens: 50, output_tokens: 9}}, \
         {expect: [one result, other result], say: Done., stop: length}]}]",
    );
    for kind in KINDS {
        let mut messages = vec![user("SCRIPT:a")];
        let (answer, heard) = ask(&server, kind, &messages);
        let answer = answer.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let (said, calls) = parts(&answer.blocks);
        assert_eq!(said, "Erst äöü, and then more text than fits a piece of it.", "{kind:?}");
        assert_eq!(
            calls,
            [("bash".to_owned(), json!({"command": "ls /w"})), ("bash".to_owned(), json!({"command": "true"}))]
        );
        assert!(answer.blocks.iter().any(|block| matches!(block, Block::Thinking { text, .. } if text == "Hm.")));
        assert_eq!((answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.measured), (50, 9, true));
        assert!(heard.len() > 4, "{kind:?}: {heard:?}");
        let ids = answer.blocks.iter().filter_map(|block| match block {
            Block::ToolCall { id, name, .. } => Some((id.clone(), name.clone())),
            _ => None,
        });
        let results = ids.zip(["one result", "other result"]).map(|((call_id, name), text)| ToolResult {
            call_id,
            name,
            text: text.to_owned(),
            is_error: false,
        });
        let results = results.collect();
        messages.extend([Message::Assistant { blocks: answer.blocks }, Message::Tool { results }]);
        let last = ask(&server, kind, &messages).0.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!((parts(&last.blocks).0.as_str(), &last.stop), ("Done.", &StopReason::Length), "{kind:?}");
    }
}

#[test]
fn our_clients_take_each_fault_for_what_it_is() {
    let after = |seconds| Some(Duration::from_secs(seconds));
    let faults = [
        ("kind: 429, retry_after: 7s", Trouble::RateLimited { retry_after: after(7) }),
        ("kind: 503, retry_after: 3s", Trouble::Overloaded { retry_after: after(3) }),
        ("kind: 500", Trouble::ServerError),
        ("kind: 401", Trouble::Unauthorized),
        ("kind: cut", Trouble::Cut),
        ("kind: malformed", Trouble::Malformed),
    ];
    for (fault, trouble) in faults {
        let server = serve_script(&format!(
            "conversations: [{{name: a, turns: [{{say: 'Half of it, and the other half of the very same text.', \
             faults: [{{{fault}, times: 1}}]}}]}}]"
        ));
        for (number, kind) in KINDS.into_iter().enumerate() {
            let prompt = [user(&format!("SCRIPT:a for client {number}"))];
            let error = ask(&server, kind, &prompt).0.unwrap_err();
            assert_eq!(error.trouble, trouble, "{kind:?} {fault}: {error}");
            assert!(ask(&server, kind, &prompt).0.is_ok(), "{kind:?} {fault}");
        }
    }
}

#[test]
fn an_error_in_the_middle_keeps_its_words() {
    let server = serve_script(
        "conversations: [{name: a, turns: [{say: 'Half of it, and the other half of the very same text.', \
         faults: [{kind: error, message: the cuckoo is out}]}]}]",
    );
    for kind in KINDS {
        let (answer, heard) = ask(&server, kind, &[user("SCRIPT:a")]);
        let error = answer.unwrap_err();
        assert!(error.trouble.is_transient() && error.to_string().contains("the cuckoo is out"), "{kind:?}: {error:?}");
        assert!(!heard.is_empty(), "{kind:?}");
    }
}

#[test]
fn a_released_conversation_goes_on_and_a_stopped_server_lets_nobody_hang() {
    let server = serve_script("conversations: [{name: a, turns: [{say: At last., faults: [{kind: hang}]}]}]");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&server, ProviderKind::Ollama, &[user("SCRIPT:a")]).0);
        while server.shared.connections.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        server.shared.release("a");
        assert!(asking.join().unwrap().is_ok());
    });
    let server = serve_script("conversations: [{name: a, turns: [{say: Never., faults: [{kind: hang_at_end}]}]}]");
    let address = server.address();
    let client = std::thread::spawn(move || {
        let mut connection = TcpStream::connect(address).unwrap();
        let body = json!({"messages": [{"role": "user", "content": "SCRIPT:a"}], "stream": true}).to_string();
        let head = format!("POST /api/chat HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len());
        io::Write::write_all(&mut connection, (head + &body).as_bytes()).unwrap();
        let mut received = String::new();
        io::Read::read_to_string(&mut connection, &mut received).unwrap();
        received
    });
    while server.shared.connections.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    drop(server);
    assert!(!client.join().unwrap().contains("\"done\":true"));
}
