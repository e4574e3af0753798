//! The server as a program: what it prints and writes, how it ends, and what it refuses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Api, ask, exchange, get, post, post_with};
use crate::support::model_server::{ModelServer, PLAIN_ANSWER, Script};
use crate::support::schema::assert_conforms;
use crate::support::swarm::{SWARM, TestSwarm};

/// A script of one conversation.
const SCRIPT: &str = "conversations: [{name: greet, turns: [{say: Hello.}]}]\n";

/// `swarm replay serve` as a person runs it, and the first line it prints.
fn serve(swarm: &TestSwarm, args: &[&str]) -> (Child, BufReader<std::process::ChildStdout>, String) {
    swarm.write("s.yaml", SCRIPT);
    let mut command = swarm.command(SWARM, &swarm.repository());
    command.args(["replay", "serve", "s.yaml"]).args(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    (child, stdout, line)
}

/// Sends a signal, and waits for the end; the code and what was told on standard error.
fn end(mut child: Child, signal: Option<Signal>) -> (Option<i32>, String) {
    match signal {
        Some(signal) => {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            kill_process(pid, signal).unwrap();
        }
        None => drop(child.stdin.take()),
    }
    let code = child.wait().unwrap().code();
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    (code, told)
}

#[test]
fn a_person_gets_lines_to_paste_and_sees_requests() {
    let swarm = TestSwarm::new();
    let (child, mut stdout, first) = serve(&swarm, &["-v", "--until-stdin-ends"]);
    let url = first.trim().strip_prefix("# s.yaml at ").unwrap_or_else(|| panic!("{first}")).to_owned();
    let mut lines = vec![String::new(); 5];
    for line in &mut lines {
        stdout.read_line(line).unwrap();
    }
    assert!(lines.contains(&format!("export ANTHROPIC_BASE_URL={url}\n")), "{lines:?}");
    assert!(lines.contains(&format!("export OPENAI_BASE_URL={url}/v1\n")), "{lines:?}");
    let address = url.trim_start_matches("http://");
    for prompt in ["SCRIPT:greet", "Hello"] {
        let body = Api::Ollama.prompt(prompt, true).to_string();
        let mut connection = TcpStream::connect(address).unwrap();
        write!(connection, "POST /api/chat HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        connection.read_to_end(&mut Vec::new()).unwrap();
    }
    let (code, told) = end(child, None);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("POST /api/chat  200  greet turn 1: text"), "{told}");
    let error =
        "warning: POST /api/chat: the prompt chooses no conversation: put `SCRIPT:NAME` into it; there are: `greet`";
    assert!(told.contains(error), "{told}");
}

#[test]
fn a_recording_is_served_like_a_script() {
    let saw = json!([{"role": "user", "text": "Look around."}]);
    let line = json!({
        "version": 1, "at": "2026-11-21T10:00:00.000Z", "model": "ollama/qwen3", "turn": 0, "cwd": "{cwd}",
        "conversation": "0123456789ab", "saw": saw, "answer": [{"type": "text", "text": "I see {cwd}."}], "stop": "end",
        "usage": {"input_tokens": 7, "output_tokens": 8, "cached_tokens": 0, "cost_usd": null, "measured": true},
    });
    let server = ModelServer::of_file("recording.jsonl", &format!("{line}\n"));
    let mut request = Api::Ollama.prompt("Look around.", false);
    let system = json!({"role": "system", "content": "Working directory: /here"});
    request["messages"].as_array_mut().unwrap().insert(0, system);
    let answer = post(&server, "/api/chat", &request).json();
    assert_eq!((&answer["message"]["content"], &answer["eval_count"]), (&json!("I see /here."), &json!(8)));
    let astray = ask(&server, Api::Ollama, "Look away.", false);
    assert!(astray.status == 400 && astray.body.contains("Look around.") && astray.body.contains("Look away."));
}

#[test]
fn signals_end_it_at_once_also_while_clients_hang() {
    for signal in [Signal::INT, Signal::TERM] {
        let swarm = TestSwarm::new();
        let (child, _stdout, first) = serve(&swarm, &["--json"]);
        let told: Value = serde_json::from_str(&first).unwrap();
        assert_conforms(&told, "replay_serve");
        let mut silent = TcpStream::connect(told["address"].as_str().unwrap()).unwrap();
        silent.write_all(b"POST /api/chat HTTP/1.1\r\n").unwrap();
        assert_eq!(end(child, Some(signal)).0, Some(0));
        assert_eq!(silent.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
    }
}

#[test]
fn an_address_that_others_can_reach_needs_a_flag() {
    let swarm = TestSwarm::new();
    swarm.write("s.yaml", SCRIPT);
    let output = swarm.run(["replay", "serve", "s.yaml", "--listen", "0.0.0.0:0"]).expect_code(2);
    output.says("`0.0.0.0:0` can be reached from other machines");
    output.says("hint: add --public if that is meant");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = swarm.run(["replay", "serve", "s.yaml", "--listen", &address]).expect_code(1);
    output.says(&format!("could not listen at `{address}`"));
}

#[test]
fn what_no_script_has_is_an_error_that_names_what_is_there() {
    let server = ModelServer::builder().script("work", Script::new().say("x")).start();
    let unknown = ask(&server, Api::Messages, "SCRIPT:nosuch", true);
    assert_eq!(unknown.status, 400);
    assert_eq!(unknown.json()["error"]["message"], "there is no conversation `nosuch`; there are: `work`");
    assert!(ask(&server, Api::Messages, "Hello", false).body.contains(PLAIN_ANSWER));
    assert_eq!(get(&server, "/v1/files").status, 404);
    assert_eq!(get(&server, "/").status, 200);
    // Not what turns claim to have read: who asks wants to know what fits.
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(40_000)}]});
    let counted = post(&server, "/v1/messages/count_tokens", &long).json()["input_tokens"].as_u64().unwrap();
    assert!((50_000..51_000).contains(&counted), "{counted}");
    assert_eq!(post(&server, "/swarm/release", &json!({})).status, 400);
}

#[test]
fn what_is_not_http_or_too_large_is_refused() {
    let server = ModelServer::builder().start();
    assert_eq!(exchange(&server, b"garbage\r\n\r\n").status, 400);
    assert_eq!(exchange(&server, b"POST /api/chat HTTP/1.1\r\nContent-Length: x\r\n\r\n").status, 400);
    let large = format!("POST /api/chat HTTP/1.1\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
    assert_eq!(exchange(&server, large.as_bytes()).status, 413);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    assert_eq!(exchange(&server, long.as_bytes()).status, 400);
    let packed = "POST /api/chat HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab";
    assert_eq!(exchange(&server, packed.as_bytes()).status, 415);
    let no_json = exchange(&server, b"POST /api/chat HTTP/1.1\r\nContent-Length: 2\r\n\r\nab");
    assert!(no_json.status == 400 && no_json.body.contains("no JSON object"), "{no_json:?}");
    assert_eq!(get(&server, "/api/version").status, 200, "it goes on");
}

#[test]
fn a_chunked_request_and_one_that_asks_first_are_understood() {
    let server = ModelServer::builder().script("other", Script::new().say("Other.")).start();
    let body = Api::Messages.prompt("SCRIPT:other", true).to_string();
    let (first, second) = body.split_at(10);
    let (one, two) = (first.len(), second.len());
    let head = "POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = format!("{head}{one:x};note\r\n{first}\r\n{two:X}\r\n{second}\r\n0\r\nTrailer: x\r\n\r\n");
    assert!(exchange(&server, request.as_bytes()).body.contains("Other."));
    let mut connection = TcpStream::connect(server.address()).unwrap();
    let head = format!("POST /v1/messages HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len());
    connection.write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    let mut reading = BufReader::new(connection.try_clone().unwrap());
    reading.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    connection.write_all(body.as_bytes()).unwrap();
    let mut rest = String::new();
    reading.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("Other."), "{rest}");
}

#[test]
fn the_log_of_requests_is_what_its_schema_says_and_holds_no_key() {
    let server = ModelServer::builder().script("work", Script::new().say("x")).start();
    let headers = "Authorization: Bearer secret-key\r\nX-Api-Key: secret-key\r\nUser-Agent: test\r\n";
    post_with(&server, "/v1/messages", headers, &Api::Messages.prompt("SCRIPT:work", false));
    get(&server, "/api/tags");
    let request = &server.requests()[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/messages"));
    assert_eq!(request.headers["user-agent"], "test");
    let text = server.log_text();
    assert!(!text.contains("secret-key"), "{text}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter().for_each(|line| assert_conforms(line, "replay_request"));
    let reply = &lines[0]["reply"];
    assert_eq!(reply, &json!({"status": 200, "conversation": "work", "turn": 1, "answer": "text"}));
}
