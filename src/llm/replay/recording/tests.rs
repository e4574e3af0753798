//! Facts about recordings.

use serde_json::json;

use super::*;
use crate::llm::message::Usage;

/// What the person says.
fn user(text: &str) -> Message {
    Message::User { text: text.to_owned() }
}

/// A call of a tool.
fn call(id: &str, input: Value) -> Block {
    Block::ToolCall { id: id.to_owned(), name: "bash".to_owned(), input }
}

/// The result of a call.
fn result(id: &str, text: &str) -> Message {
    let result = ToolResult { call_id: id.to_owned(), name: "bash".to_owned(), text: text.to_owned(), is_error: false };
    Message::Tool { results: vec![result] }
}

/// Records a conversation: each answer with the messages before it.
fn record(messages: &[Message], cwd: &str) -> Recording {
    let mut lines = String::new();
    for (index, message) in messages.iter().enumerate() {
        if let Message::Assistant { blocks } = message {
            let answered = Answered { model: "p/m", blocks, stop: &StopReason::End, usage: Usage::default() };
            let exchange = Exchange::new(&messages[..index], answered, cwd);
            lines.push_str(&format!("{}\n", serde_json::to_string(&exchange).unwrap()));
        }
    }
    Recording::parse(Path::new("r.jsonl"), &lines).unwrap()
}

/// A conversation of two calls in a folder.
fn conversation(cwd: &str, took: &str) -> Vec<Message> {
    vec![
        user(&format!("Work in {cwd}.")),
        Message::Assistant { blocks: vec![call("1", json!({"command": format!("ls {cwd}/src")}))] },
        result("1", &format!("{cwd}/src/a.rs took {took}")),
        Message::Assistant { blocks: vec![call("2", json!({"command": "true"}))] },
        result("2", "ok"),
        Message::Assistant { blocks: vec![Block::Text { text: format!("Done in {cwd}.") }] },
    ]
}

/// What a recording answers to the messages before each answer.
fn answers(recording: &Recording, messages: &[Message], cwd: &str) -> Vec<Result<Vec<Block>, String>> {
    let asked = messages.iter().enumerate().filter(|(_, message)| matches!(message, Message::Assistant { .. }));
    asked.map(|(index, _)| recording.find(&messages[..index], cwd).map(|exchange| exchange.answer)).collect()
}

/// The same as it should be.
fn expected(messages: &[Message]) -> Vec<Result<Vec<Block>, String>> {
    let answers = messages.iter().filter_map(|message| match message {
        Message::Assistant { blocks } => Some(Ok(blocks.clone())),
        _ => None,
    });
    answers.collect()
}

#[test]
fn a_recording_plays_in_another_folder_at_another_time() {
    let recording = record(&conversation("/home/ada/one", "3.2s"), "/home/ada/one");
    let now = conversation("/elsewhere/two", "140ms");
    assert_eq!(answers(&recording, &now, "/elsewhere/two"), expected(&now));
}

#[test]
fn another_tool_result_shows_both_sides() {
    let recording = record(&conversation("/one", "1s"), "/one");
    let mut now = conversation("/one", "1s");
    now[4] = result("2", "error: no such file");
    let error = recording.find(&now[..5], "/one").unwrap_err();
    assert!(
        error.contains("turn 3") && error.contains("    ok") && error.contains("    error: no such file"),
        "{error}"
    );
    now[4] = result("2", "ok");
    if let Message::Tool { results } = &mut now[4] {
        results[0].is_error = true;
    }
    assert!(recording.find(&now[..5], "/one").is_err(), "a failed call is another result");
}

#[test]
fn a_conversation_that_left_the_recording_is_told() {
    let messages = conversation("/one", "1s");
    let recording = record(&messages, "/one");
    let mut longer = messages.clone();
    longer.push(user("And then?"));
    assert!(recording.find(&longer, "/one").unwrap_err().contains("ends after turn 3"));
    let other = [user("Work in /one."), Message::Assistant { blocks: vec![call("9", json!({}))] }, result("9", "ok")];
    assert!(recording.find(&other, "/one").unwrap_err().contains("before turn 2 is not in `r.jsonl`"));
    let empty = Recording::parse(Path::new("r.jsonl"), "").unwrap();
    assert!(empty.find(&messages[..1], "/one").unwrap_err().contains("holds no exchange"));
}

#[test]
fn a_shortened_conversation_goes_on_where_it_was() {
    let messages = conversation("/one", "1s");
    let recording = record(&messages, "/one");
    let short = [user("Summary of what was before."), messages[3].clone(), messages[4].clone()];
    assert_eq!(recording.find(&short, "/one").unwrap().answer, *expected(&messages)[2].as_ref().unwrap());
}

#[test]
fn conversations_that_share_a_file_do_not_mix() {
    let (mut one, mut two) = (conversation("/one", "1s"), conversation("/one", "1s"));
    one[0] = user("First");
    two[0] = user("Second");
    two[5] = Message::Assistant { blocks: vec![Block::Text { text: "The other end.".to_owned() }] };
    let mut recording = record(&one, "/one");
    recording.exchanges.extend(record(&two, "/one").exchanges);
    recording.exchanges.swap(1, 4);
    for messages in [one, two] {
        assert_eq!(answers(&recording, &messages, "/one"), expected(&messages));
    }
}

#[test]
fn the_answer_that_went_on_counts_after_a_crash() {
    let messages = conversation("/one", "1s");
    let mut recording = record(&messages, "/one");
    // The first answer was lost with the process that got it; asked again, the model said something else.
    let mut lost = recording.exchanges[0].clone();
    lost.answer = vec![Block::Text { text: "Lost.".to_owned() }];
    recording.exchanges.insert(0, lost);
    assert_eq!(answers(&recording, &messages, "/one"), expected(&messages));
}

#[test]
fn only_a_torn_line_is_passed_over() {
    let messages = conversation("/one", "1s");
    let lines: Vec<String> =
        record(&messages, "/one").exchanges.iter().map(|one| serde_json::to_string(one).unwrap()).collect();
    let torn = format!("{}\n{}", lines[0], &lines[1][..20]);
    assert_eq!(Recording::parse(Path::new("r.jsonl"), &torn).unwrap().exchanges.len(), 1);
    let whole = format!("{}\n{}", lines[0], lines[1]);
    assert_eq!(Recording::parse(Path::new("r.jsonl"), &whole).unwrap().exchanges.len(), 2);
    let bad = format!("{}\n\n{{}}\n{}\n", lines[0], lines[1]);
    let error = Recording::parse(Path::new("r.jsonl"), &bad).unwrap_err().to_string();
    assert!(error.starts_with("r.jsonl:3: not an exchange of a recording: missing field"), "{error}");
    let newer = lines[0].replacen("\"version\":1", "\"version\":9", 1) + "\n";
    assert!(Recording::parse(Path::new("r.jsonl"), &newer).unwrap_err().to_string().contains("version 9"));
}

#[test]
fn a_text_that_holds_the_placeholder_is_kept_as_it_is() {
    let text = "format!(\"{cwd} {cwd2} /one {/one}\")";
    let blocks = vec![Block::Text { text: text.to_owned() }];
    let messages = [user("{cwd}"), Message::Assistant { blocks: blocks.clone() }];
    let recording = record(&messages, "/one");
    assert_eq!(recording.find(&messages[..1], "/one").unwrap().answer, blocks);
    let elsewhere = recording.find(&messages[..1], "/two").unwrap().answer;
    assert_eq!(elsewhere, [Block::Text { text: text.replace("/one", "/two") }]);
}
