use std::sync::Mutex;

use serde_json::Value;

use super::*;
use crate::agent::HookCall;
use crate::agent::launch::Mode;
use crate::agent::testing::{Place as Folders, agent};
use crate::llm::{Answer, ChatError, ChatRequest, StopReason, Usage};
use crate::model::agent::{Agent, RuntimeKind};

/// A model that answers from a list: as many of its answers as are in the conversation were given.
struct Scripted {
    answers: Vec<Vec<Block>>,
    /// It says nothing at this place until it is dropped.
    hangs_at: Option<usize>,
}

impl ChatModel for Scripted {
    fn chat<'a>(
        &'a mut self,
        request: &'a ChatRequest<'a>,
        on_delta: &'a mut (dyn FnMut(Delta) + Send),
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ChatError>> + Send + 'a>> {
        Box::pin(async move {
            let given = request.messages.iter().filter(|message| matches!(message, Message::Assistant { .. })).count();
            if self.hangs_at == Some(given) {
                on_delta(Delta::Text("thinking about it".to_owned()));
                std::future::pending::<()>().await;
            }
            let blocks = self.answers.get(given).cloned().unwrap_or_else(|| vec![say("Nothing left.")]);
            for block in &blocks {
                if let Block::Text { text } = block {
                    on_delta(Delta::Text(text.clone()));
                }
            }
            let usage = Usage { input_tokens: 100, output_tokens: 10, ..Usage::default() };
            Ok(Answer { blocks, stop: StopReason::End, usage, model: "test/model".to_owned() })
        })
    }

    fn context_window(&self) -> Option<u64> {
        None
    }

    fn name(&self) -> String {
        "test/model".to_owned()
    }
}

fn say(text: &str) -> Block {
    Block::Text { text: text.to_owned() }
}

fn write(name: &str) -> Vec<Block> {
    let input = json!({"file_path": name, "content": name});
    vec![Block::ToolCall { id: name.to_owned(), name: "Write".to_owned(), input }]
}

/// Bytes that a test looks at.
#[derive(Clone, Default)]
struct Glass(Arc<Mutex<Vec<u8>>>);

impl Write for Glass {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Glass {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Reports as they came, by their kind.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<HookCall>>>);

impl Reporter for Heard {
    fn report(&mut self, call: &HookCall) {
        self.0.lock().unwrap().push(call.clone());
    }
}

impl Heard {
    fn kinds(&self) -> Vec<String> {
        let kind = |call: &HookCall| call.payload["report"].as_str().unwrap().to_owned();
        self.0.lock().unwrap().iter().map(kind).collect()
    }
}

struct Scene {
    folders: Folders,
    definition: Agent,
    glass: Glass,
    heard: Heard,
}

impl Scene {
    fn new() -> Self {
        let definition = Agent { model: Some("test/model".to_owned()), ..agent(RuntimeKind::Ollama) };
        Self { folders: Folders::new(), definition, glass: Glass::default(), heard: Heard::default() }
    }

    fn run(
        &self,
        mode: Mode,
        prompt: &str,
        model: Scripted,
        keys: Option<mpsc::UnboundedReceiver<Vec<u8>>>,
    ) -> Conclusion {
        let plan = LoopPlan::new(&self.folders.plan(&self.definition, prompt, mode), "session").unwrap();
        let io = LoopIo {
            keys,
            screen: Box::new(self.glass.clone()),
            is_terminal: false,
            is_coloured: false,
            columns: || None,
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        };
        run(plan, Box::new(model), io, Box::new(self.heard.clone())).unwrap()
    }

    fn entries(&self) -> Vec<Value> {
        let path = self.folders.worker_dir().join("conversation.session.jsonl");
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.folders.worktree().join(name)).ok()
    }
}

fn scripted(answers: Vec<Vec<Block>>) -> Scripted {
    Scripted { answers, hangs_at: None }
}

#[test]
fn print_mode_does_the_work_and_ends() {
    let scene = Scene::new();
    let model = scripted(vec![write("a"), write("b"), vec![say("All done.")]]);
    assert_eq!(scene.run(Mode::Print, "Do it.", model, None), Conclusion::Done);
    assert_eq!((scene.file("a").as_deref(), scene.file("b").as_deref()), (Some("a"), Some("b")));
    let kinds = scene.heard.kinds();
    let tools = kinds.iter().filter(|kind| kind.starts_with("tool_")).count();
    assert_eq!((tools, kinds.first().unwrap().as_str()), (4, "session_started"));
    assert_eq!(kinds[kinds.len() - 3..], ["turn_ended", "session_ended", "concluded"]);
    let screen = scene.glass.text();
    assert!(screen.contains("> Do it.\n-> Write a\n") && screen.ends_with("All done.\n"), "{screen}");
}

#[test]
fn a_conversation_goes_on_after_any_torn_end() {
    let whole = Scene::new();
    let answers = || vec![write("a"), write("b"), write("c"), vec![say("Done.")]];
    whole.run(Mode::Print, "Do it.", scripted(answers()), None);
    let path = |scene: &Scene| scene.folders.worker_dir().join("conversation.session.jsonl");
    let bytes = std::fs::read(path(&whole)).unwrap();
    for cut in (0..bytes.len()).step_by(97) {
        let scene = Scene::new();
        crate::files::write_atomically(&path(&scene), &bytes[..cut], crate::files::Access::Private).unwrap();
        assert_eq!(scene.run(Mode::Print, "Go on.", scripted(answers()), None), Conclusion::Done, "cut at {cut}");
        let lines = std::fs::read(path(&scene)).unwrap();
        let entries: Vec<Value> =
            lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        // Every call has one result, and no call was made again.
        let calls: Vec<&Value> = entries
            .iter()
            .filter(|entry| entry["entry"] == "assistant")
            .flat_map(|entry| {
                entry["blocks"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|block| block["type"] == "tool_call")
                    .map(|block| &block["id"])
            })
            .collect();
        let results: Vec<&Value> =
            entries.iter().filter(|entry| entry["entry"] == "tool").map(|entry| &entry["result"]["call_id"]).collect();
        assert_eq!((calls.len(), &calls), (3, &results), "cut at {cut}");
    }
}

#[test]
fn lines_of_input_are_messages_and_their_end_is_the_end_of_the_work() {
    let scene = Scene::new();
    let (typed, keys) = mpsc::unbounded_channel();
    typed.send(b"first\nsecond\n".to_vec()).unwrap();
    typed.send(Vec::new()).unwrap();
    let model = scripted(vec![write("a"), vec![say("One.")], vec![say("Two.")]]);
    assert_eq!(scene.run(Mode::Interactive, "", model, Some(keys)), Conclusion::Done);
    let said: Vec<String> =
        scene.entries().iter().filter_map(|entry| Some(entry["text"].as_str()?.to_owned())).collect();
    assert_eq!(said, ["first", "second"]);
    assert_eq!(scene.file("a").as_deref(), Some("a"));
    assert!(scene.glass.text().contains("(queued"), "{}", scene.glass.text());
}

#[test]
fn the_second_interrupt_ends_a_loop_whose_model_is_silent() {
    let scene = Scene::new();
    let (typed, keys) = mpsc::unbounded_channel();
    let glass = scene.glass.clone();
    let person = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !glass.text().contains("thinking about it") {
            assert!(Instant::now() < deadline, "it never began");
            std::thread::yield_now();
        }
        typed.send(b"/exit\n".to_vec()).unwrap();
        typed
    });
    let model = Scripted { answers: Vec::new(), hangs_at: Some(0) };
    assert_eq!(scene.run(Mode::Interactive, "Do it.", model, Some(keys)), Conclusion::Signal(2));
    drop(person.join().unwrap());
    assert!(scene.heard.kinds().contains(&"turn_ended".to_owned()));
}
