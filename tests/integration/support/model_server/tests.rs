//! Facts about the scripted server itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Fault, ModelServer, Script, call, say};

/// What came back: the status, and the body as it was sent (chunk sizes included).
struct Answer {
    status: u16,
    text: String,
}

impl Answer {
    /// Whether the event stream was ended properly.
    fn is_complete(&self) -> bool {
        self.text.contains("message_stop") && self.text.ends_with("0\r\n\r\n")
    }
}

/// Sends bytes and reads until the server closes.
fn exchange(server: &ModelServer, request: &[u8]) -> Answer {
    let mut connection = TcpStream::connect(server.address).unwrap();
    connection.write_all(request).unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { status, text }
}

/// Asks for the next message of a conversation.
fn ask(server: &ModelServer, session: &str, messages: &Value) -> Answer {
    ask_with(server, session, &json!({"model": "m", "messages": messages}))
}

/// Sends a whole request body.
fn ask_with(server: &ModelServer, session: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let head = format!(
        "POST /v1/messages?beta=true HTTP/1.1\r\nX-Claude-Code-Session-Id: {session}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    exchange(server, (head + &body).as_bytes())
}

/// A user message of one text.
fn user(text: &str) -> Value {
    json!({"role": "user", "content": [{"type": "text", "text": text}]})
}

/// A model's message of one tool call.
fn called() -> Value {
    json!({"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]})
}

/// A model's message of one text.
fn said() -> Value {
    json!({"role": "assistant", "content": [{"type": "text", "text": "Done."}]})
}

/// A tool result.
fn result(text: &str) -> Value {
    json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": text}]})
}

/// A server with one script `work` of two calls and a text.
fn server() -> ModelServer {
    let script = Script::new()
        .call("Write", json!({"file_path": "{cwd}/a.txt", "content": "{word}"}))
        .turn(vec![say("Now the second."), call("Bash", json!({"command": "echo second"}))])
        .say("All done.");
    ModelServer::builder().script("work", script).script("other", Script::new().say("Other.")).start()
}

#[test]
fn tool_results_behind_the_marker_choose_the_turn() {
    let server = server();
    let mut messages = vec![user("Please SCRIPT:work now")];
    assert!(ask(&server, "s", &json!(messages)).text.contains("a.txt"));
    messages.extend([called(), result("ok")]);
    let second = ask(&server, "s", &json!(messages));
    assert!(second.text.contains("Now the second.") && second.text.contains(r#"echo second"#));
    assert!(second.text.contains(r#""stop_reason":"tool_use""#));
    messages.extend([called(), result("ok")]);
    let third = ask(&server, "s", &json!(messages));
    assert!(third.text.contains("All done.") && third.text.contains("end_turn") && third.is_complete());
    messages.extend([called(), result("ok")]);
    assert!(ask(&server, "s", &json!(messages)).text.contains("The script has ended."));
}

#[test]
fn last_marker_decides() {
    let server = server();
    let messages = json!([user("SCRIPT:work"), called(), result("ok"), said(), user("SCRIPT:other")]);
    assert!(ask(&server, "s", &messages).text.contains("Other."));
}

#[test]
fn user_without_a_marker_gets_plain_text() {
    let server = server();
    assert!(ask(&server, "s", &json!([user("Hello")])).text.contains("Understood."));
    let ended = json!([user("SCRIPT:work"), said(), user("Thanks")]);
    assert!(ask(&server, "s", &ended).text.contains("Understood."));
    let interrupted = json!([user("SCRIPT:work"), called(), {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": "rejected"},
        {"type": "text", "text": "[Request interrupted by user for tool use]\n"},
        {"type": "text", "text": "Do something else"},
    ]}]);
    assert!(ask(&server, "s", &interrupted).text.contains("Understood."));
}

#[test]
fn steering_reaches_the_record_and_keeps_the_script() {
    let server = server();
    let steered = "ok\n\n<system-reminder>\nThe user sent a new message while you were working:\nuse tabs\n\n\
                   This is how Claude Code surfaces messages.\n</system-reminder>";
    let answer = ask(&server, "s", &json!([user("SCRIPT:work"), called(), result(steered)]));
    assert!(answer.text.contains("Now the second."));
    assert_eq!(server.requests()[0].user_texts(), ["SCRIPT:work", "use tabs"]);
    let marked = steered.replace("use tabs", "SCRIPT:other");
    assert!(ask(&server, "s", &json!([user("SCRIPT:work"), called(), result(&marked)])).text.contains("Other."));
}

#[test]
fn variables_come_from_marker_server_and_environment() {
    let script = || Script::new().call("Write", json!({"file_path": "{cwd}/{name}", "content": "{word} {unknown}"}));
    let server = ModelServer::builder().script("w", script()).variable("word", "from-server").start();
    let environment = "<system-reminder>\n - Primary working directory: /some where\n - Platform\n</system-reminder>";
    let prompt = json!([{"role": "user", "content": [
        {"type": "text", "text": environment},
        {"type": "text", "text": "SCRIPT:w name=x.txt\nword=ignored"},
    ]}]);
    let answer = ask(&server, "s", &prompt);
    assert!(
        answer.text.contains("/some where/x.txt") && answer.text.contains("from-server {unknown}"),
        "{}",
        answer.text
    );
}

#[test]
fn status_fault_can_pass_after_retries() {
    let script = Script::new().say("Through.").failing_at_first(Fault::Status(529), 2);
    let always = Script::new().failing(Fault::Status(401));
    let server = ModelServer::builder().script("flaky", script).script("locked", always).start();
    let flaky = json!([user("SCRIPT:flaky")]);
    let statuses = [(); 3].map(|()| ask(&server, "one", &flaky).status);
    assert_eq!(statuses, [529, 529, 200]);
    assert_eq!(ask(&server, "two", &flaky).status, 529, "another session has its own count");
    let locked = ask(&server, "one", &json!([user("SCRIPT:locked")]));
    assert!(locked.status == 401 && locked.text.contains("authentication_error"));
}

#[test]
fn cut_stream_has_no_end() {
    let server = ModelServer::builder().script("cut", Script::new().say("Half").failing(Fault::Cut)).start();
    let answer = ask(&server, "s", &json!([user("SCRIPT:cut")]));
    assert!(answer.status == 200 && answer.text.contains("Half") && !answer.is_complete());
}

#[test]
fn hanging_turns_wait_for_their_release() {
    for fault in [Fault::HangBefore, Fault::HangAfter] {
        let script = Script::new().say("At last.").failing(fault);
        let server = ModelServer::builder().script("hang", script).start();
        std::thread::scope(|scope| {
            let (sender, answers) = mpsc::channel();
            let server = &server;
            scope.spawn(move || sender.send(ask(server, "s", &json!([user("SCRIPT:hang")]))).unwrap());
            server.wait_for_request(|request| request.mentions("SCRIPT:hang"));
            assert!(answers.recv_timeout(Duration::from_millis(200)).is_err(), "{fault:?} answered by itself");
            server.release("hang");
            let answer = answers.recv_timeout(Duration::from_secs(10)).unwrap();
            assert!(answer.text.contains("At last.") && answer.is_complete());
        });
    }
}

#[test]
fn dropping_the_server_ends_hanging_and_silent_clients() {
    let server = ModelServer::builder().script("hang", Script::new().failing(Fault::HangAfter)).start();
    let mut silent = TcpStream::connect(server.address).unwrap();
    let mut hanging = TcpStream::connect(server.address).unwrap();
    let body = json!({"messages": [user("SCRIPT:hang")]}).to_string();
    write!(hanging, "POST /v1/messages HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    server.wait_for_request(|_| true);
    drop(server);
    let mut rest = Vec::new();
    assert_eq!(silent.read_to_end(&mut rest).unwrap_or(0), 0);
    hanging.read_to_end(&mut rest).unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("message_stop"));
}

#[test]
fn parallel_sessions_do_not_mix() {
    let script = Script::new().say("I am {id}.").failing_at_first(Fault::Status(500), 1);
    let server = ModelServer::builder().script("who", script).start();
    std::thread::scope(|scope| {
        for id in 0..20 {
            let server = &server;
            scope.spawn(move || {
                let prompt = json!([user(&format!("SCRIPT:who id=agent-{id}"))]);
                assert_eq!(ask(server, &format!("session-{id}"), &prompt).status, 500);
                assert!(ask(server, &format!("session-{id}"), &prompt).text.contains(&format!("I am agent-{id}.")));
            });
        }
    });
    assert_eq!(server.requests().len(), 40);
}

#[test]
fn title_request_gets_json_whatever_it_quotes() {
    let server = server();
    let body =
        json!({"messages": [user("Title for: SCRIPT:work")], "output_config": {"format": {"type": "json_schema"}}});
    let answer = ask_with(&server, "s", &body);
    assert!(answer.text.contains(r#"{\"title\":\"Scripted conversation\"}"#) && answer.is_complete());
}

#[test]
fn chunked_request_is_understood() {
    let server = server();
    let body = json!({"messages": [user("SCRIPT:other")]}).to_string();
    let (first, second) = body.split_at(10);
    let request = format!(
        "POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x};note\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\nTrailer: x\r\n\r\n",
        first.len(),
        second.len()
    );
    assert!(exchange(&server, request.as_bytes()).text.contains("Other."));
}

#[test]
fn what_no_test_scripted_is_an_error() {
    let server = server();
    let unknown = ask(&server, "s", &json!([user("SCRIPT:nosuch")]));
    assert!(unknown.status == 400 && unknown.text.contains("the test has no script `nosuch`"));
    assert_eq!(exchange(&server, b"GET /v1/files HTTP/1.1\r\n\r\n").status, 404);
    assert_eq!(exchange(&server, b"POST /v1/messages/count_tokens HTTP/1.1\r\n\r\n").status, 200);
    assert_eq!(exchange(&server, b"garbage\r\n\r\n").status, 0);
}
