//! Facts about playing and recording inside one process.

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::files::{Access, write_atomically};
use crate::llm::message::{Message, StopReason, ToolResult};

/// Who has not answered by then hangs.
const HANGS: Duration = Duration::from_millis(300);

/// Asks once; what was heard on the way comes, too.
fn ask(model: &mut dyn ChatModel, messages: &[Message]) -> (Result<Answer, ChatError>, Vec<Delta>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let request = ChatRequest { system: "s", messages, tools: &[] };
    let mut heard = Vec::new();
    let mut hear = |delta| heard.push(delta);
    let answer = runtime.block_on(async {
        let asking = model.chat(&request, &mut hear);
        tokio::time::timeout(HANGS, asking).await
    });
    let answer = answer.unwrap_or_else(|_| {
        Err(ChatError { model: "".into(), trouble: Trouble::TimedOut, message: "".into(), hint: None, source: None })
    });
    (answer, heard)
}

/// A model that plays a script.
fn playing(folder: &TempDir, script: &str) -> Replay {
    let file = folder.path().join("s.yaml");
    write_atomically(&file, script.as_bytes(), Access::Shared).unwrap();
    Replay::open(&file, Path::new("/w")).unwrap()
}

/// What the person says.
fn user(text: &str) -> Message {
    Message::User { text: text.to_owned() }
}

#[test]
fn a_script_is_played_turn_by_turn_with_variables_and_costs_nothing() {
    let folder = TempDir::new().unwrap();
    let turns = "[{think: Hm., say: '{word}', calls: [{write: {path: '{cwd}/a'}}]}, {say: Done., stop: length}]";
    let mut model = playing(&folder, &format!("conversations: [{{name: a, turns: {turns}}}]"));
    let mut messages = vec![user("SCRIPT:a word=hello")];
    let (answer, heard) = ask(&mut model, &messages);
    let answer = answer.unwrap();
    let thought = Delta::Thinking("Hm.".to_owned());
    assert_eq!(heard, [thought, Delta::Text("hello".into()), Delta::ToolCall { name: "write".into() }]);
    let Block::ToolCall { id, input, .. } = &answer.blocks[2] else { panic!("{answer:?}") };
    assert_eq!(input, &json!({"path": "/w/a"}));
    assert_eq!((answer.usage.cost_usd, answer.usage.measured), (Some(0.0), false));
    assert!(answer.usage.input_tokens > 0 && answer.model == model.name());
    let result = ToolResult { call_id: id.clone(), name: "write".into(), text: "ok".into(), is_error: false };
    messages.extend([Message::Assistant { blocks: answer.blocks.clone() }, Message::Tool { results: vec![result] }]);
    let last = ask(&mut model, &messages).0.unwrap();
    assert_eq!((&last.blocks[..], &last.stop), (&[Block::Text { text: "Done.".into() }][..], &StopReason::Length));
    messages.push(Message::Assistant { blocks: last.blocks });
    messages.push(user("SCRIPT:a"));
    let again = ask(&mut model, &messages).0.unwrap();
    let Block::ToolCall { id: second, .. } = &again.blocks[2] else { panic!("{again:?}") };
    assert_ne!(id, second, "ids are unique in a conversation");
}

#[test]
fn faults_come_as_the_troubles_that_they_stand_for() {
    let folder = TempDir::new().unwrap();
    let faults = [
        ("kind: 429, retry_after: 3s", Trouble::RateLimited { retry_after: Some(Duration::from_secs(3)) }),
        ("kind: 503", Trouble::Overloaded { retry_after: None }),
        ("kind: 500, message: oh", Trouble::ServerError),
        ("kind: 401", Trouble::Unauthorized),
        ("kind: 404", Trouble::ModelMissing),
        ("kind: 400", Trouble::BadRequest),
        ("kind: cut", Trouble::Cut),
        ("kind: malformed", Trouble::Malformed),
        ("kind: error", Trouble::ServerError),
        ("kind: hang", Trouble::TimedOut),
        ("kind: hang_at_end", Trouble::TimedOut),
    ];
    let list: Vec<_> = faults.iter().map(|(fault, _)| format!("{{{fault}, times: 1}}")).collect();
    let turn = format!("[{{say: Half and whole, faults: [{}]}}]", list.join(", "));
    let mut model = playing(&folder, &format!("conversations: [{{name: a, for: any, turns: {turn}}}]"));
    for (fault, trouble) in faults {
        let (answer, heard) = ask(&mut model, &[user("Go")]);
        assert_eq!(answer.unwrap_err().trouble, trouble, "{fault}");
        let is_heard = ["cut", "error", "hang_at_end"].iter().any(|kind| fault == format!("kind: {kind}"));
        assert_eq!(heard.len(), usize::from(is_heard), "{fault}");
    }
    assert!(ask(&mut model, &[user("Go")]).0.is_ok(), "all faults have happened");
}

#[test]
fn a_prompt_that_chooses_nothing_and_a_missing_expectation_are_errors() {
    let folder = TempDir::new().unwrap();
    let script = "conversations: [{name: a, turns: [{expect: [blue], say: Yes.}]}]";
    let mut model = playing(&folder, script);
    let error = ask(&mut model, &[user("Hello")]).0.unwrap_err();
    assert_eq!(error.trouble, Trouble::BadRequest);
    assert!(error.message.contains("there are: `a`"), "{error}");
    let error = ask(&mut model, &[user("SCRIPT:a red")]).0.unwrap_err();
    assert_eq!(error.trouble, Trouble::Mismatch);
    assert!(error.message.contains("blue") && error.message.contains("SCRIPT:a red"), "{error}");
    assert!(ask(&mut model, &[user("SCRIPT:a blue")]).0.is_ok());
}

#[test]
fn a_file_that_cannot_be_played_is_told_with_its_place() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("s.yaml");
    assert!(Replay::open(&file, Path::new("/w")).unwrap_err().message.contains("there is no file"));
    write_atomically(&file, b"conversations: 3\n", Access::Shared).unwrap();
    let error = Replay::open(&file, Path::new("/w")).unwrap_err();
    assert!(error.message.contains("s.yaml:1:16: `conversations`: expected a list"), "{error}");
}

/// A model that gives the answers it was made with, one after the other.
struct Canned(Vec<Answer>);

impl ChatModel for Canned {
    fn chat<'a>(
        &'a mut self,
        _: &'a ChatRequest<'a>,
        _: &'a mut (dyn FnMut(Delta) + Send),
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ChatError>> + Send + 'a>> {
        let answer = self.0.remove(0);
        Box::pin(async { Ok(answer) })
    }

    fn context_window(&self) -> Option<u64> {
        Some(1)
    }

    fn name(&self) -> String {
        "p/m".to_owned()
    }
}

/// Records a conversation of these prompts and answers in a folder; all messages come back.
fn record(file: &Path, cwd: &Path, rounds: &[(String, Vec<Block>)]) -> Vec<Message> {
    let answers = rounds.iter().map(|(_, blocks)| answer(blocks));
    let mut recorder = Recorder::new(Box::new(Canned(answers.collect())), file, cwd).unwrap();
    let mut messages = Vec::new();
    for (told, blocks) in rounds {
        messages.push(told_as(messages.last(), told));
        let answer = ask(&mut recorder, &messages).0.unwrap();
        assert_eq!(&answer.blocks, blocks);
        messages.push(Message::Assistant { blocks: answer.blocks });
    }
    messages
}

/// A text as the results of the calls before, or as a prompt where there are none.
fn told_as(before: Option<&Message>, text: &str) -> Message {
    let Some(Message::Assistant { blocks }) = before else { return user(text) };
    let results = blocks.iter().filter_map(|block| match block {
        Block::ToolCall { id, name, .. } => {
            Some(ToolResult { call_id: id.clone(), name: name.clone(), text: text.to_owned(), is_error: false })
        }
        _ => None,
    });
    let results: Vec<_> = results.collect();
    if results.is_empty() { user(text) } else { Message::Tool { results } }
}

/// An answer of these blocks.
fn answer(blocks: &[Block]) -> Answer {
    let usage = Usage { input_tokens: 7, output_tokens: 8, cost_usd: Some(1.5), measured: true, ..Usage::default() };
    Answer { blocks: blocks.to_vec(), stop: StopReason::Refused("why".into()), usage, model: "p/m".into() }
}

#[test]
fn a_recorder_goes_on_behind_a_torn_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("deep/r.jsonl");
    let rounds = [("Go".to_owned(), vec![Block::Text { text: "Yes.".into() }])];
    record(&file, Path::new("/w"), &rounds);
    let whole = std::fs::read(&file).unwrap();
    write_atomically(&file, &[&whole[..], b"{\"version\":1,"].concat(), Access::Private).unwrap();
    let mut messages = record(&file, Path::new("/w"), &rounds);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 3);
    // The line that was cut off is passed over.
    let mut replay = Replay::open(&file, Path::new("/w")).unwrap();
    messages.truncate(1);
    assert_eq!(ask(&mut replay, &messages).0.unwrap().blocks, rounds[0].1);
}

/// Any text, often with folders, braces and line ends in it.
fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("/w/one".to_owned()),
        Just("{cwd}".to_owned()),
        Just("{{cwd}}".to_owned()),
        Just("/w/one/src".to_owned()),
        Just("\n".to_owned()),
        "[a-z{}/ ]{0,6}",
        "\\PC{0,4}",
    ];
    proptest::collection::vec(word, 0..6).prop_map(|words| words.concat())
}

/// Any JSON value of a few levels.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        text().prop_map(Value::from)
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Any block of a message.
fn block() -> impl Strategy<Value = Block> {
    prop_oneof![
        text().prop_map(|text| Block::Text { text }),
        (text(), proptest::option::of("[a-z]{3}")).prop_map(|(text, signature)| Block::Thinking { text, signature }),
        ("[a-z]{1,5}", value()).prop_map(|(name, input)| Block::ToolCall { id: String::new(), name, input }),
    ]
}

/// Any conversation: what is told, and the answer to it. Ids are unique, as they are by contract.
fn rounds() -> impl Strategy<Value = Vec<(String, Vec<Block>)>> {
    let round = (text(), proptest::collection::vec(block(), 0..4));
    proptest::collection::vec(round, 1..6).prop_map(|mut rounds| {
        for (turn, (_, blocks)) in rounds.iter_mut().enumerate() {
            for (index, block) in blocks.iter_mut().enumerate() {
                if let Block::ToolCall { id, .. } = block {
                    *id = format!("{turn}-{index}");
                }
            }
        }
        rounds
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_recorded_is_what_is_played(rounds in rounds()) {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("r.jsonl");
        let messages = record(&file, Path::new("/w/one"), &rounds);
        // A model of its own for each turn: it knows the place without having played what came before.
        for (index, message) in messages.iter().enumerate() {
            let Message::Assistant { blocks } = message else { continue };
            let mut replay = Replay::open(&file, Path::new("/w/one")).unwrap();
            let (played, heard) = ask(&mut replay, &messages[..index]);
            let played = played.unwrap();
            prop_assert_eq!(&played.stop, &StopReason::Refused("why".into()));
            prop_assert_eq!((played.usage.input_tokens, played.usage.cost_usd), (7, Some(0.0)));
            let told: String = heard.iter().map(|delta| match delta {
                Delta::Text(text) => text.as_str(),
                _ => "",
            }).collect();
            let said: String = blocks.iter().map(|block| match block {
                Block::Text { text } => text.as_str(),
                _ => "",
            }).collect();
            prop_assert_eq!(told, said);
            // Two turns with the same words before them may be told apart by nothing; then either may be played.
            let is_unique = rounds.iter().filter(|round| round.0 == rounds[index / 2].0).count() == 1;
            if is_unique {
                prop_assert_eq!(&played.blocks, blocks);
            }
        }
    }
}
