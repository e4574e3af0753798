//! The loop as `benches/loop.rs` needs it: between a person or model and the next, measured without either.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc;

use super::{LoopIo, LoopPlan, Reporter, run};
use crate::agent::HookCall;
use crate::llm::{Answer, Block, ChatError, ChatModel, ChatRequest, Delta, StopReason, Usage};
use crate::model::agent::{PermissionMode, Permissions};
use crate::model::providers::ModelSettings;

/// Measures of one loop, in milliseconds, one for each round.
#[derive(Debug)]
pub struct LoopTimes {
    /// From a message that is entered to the model being asked, and from the model's first words to the screen.
    pub first_token: Vec<f64>,
    /// From an answer that calls a tool to the next request, with a tool that does next to nothing.
    pub dispatch: Vec<f64>,
}

/// A moment of the conversation.
enum Moment {
    /// The model is asked.
    Asked(Instant),
    /// The model says its first words.
    Said(Instant),
    /// The first words are on the screen.
    Shown(Instant),
    /// The model answered with a call.
    Called(Instant),
    /// The turn is over.
    Over,
}

/// A model that calls a tool and then says a word, again and again.
struct Model {
    moments: Sender<Moment>,
    count: usize,
}

impl ChatModel for Model {
    fn chat<'a>(
        &'a mut self,
        _request: &'a ChatRequest<'a>,
        on_delta: &'a mut (dyn FnMut(Delta) + Send),
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ChatError>> + Send + 'a>> {
        Box::pin(async move {
            self.moments.send(Moment::Asked(Instant::now())).ok();
            self.count += 1;
            let blocks = if self.count % 2 == 1 {
                self.moments.send(Moment::Said(Instant::now())).ok();
                on_delta(Delta::Text("WORD".to_owned()));
                // What is told is seen before the answer ends, as with a real model.
                tokio::time::sleep(Duration::from_millis(2)).await;
                self.moments.send(Moment::Called(Instant::now())).ok();
                let (id, name) = (format!("c{}", self.count), "TodoWrite".to_owned());
                let call = Block::ToolCall { id, name, input: json!({"todos": [{"content": "a"}]}) };
                vec![Block::Text { text: "WORD".to_owned() }, call]
            } else {
                vec![Block::Text { text: "Done.".to_owned() }]
            };
            let usage = Usage::default();
            Ok(Answer { blocks, stop: StopReason::End, usage, model: "bench/model".to_owned() })
        })
    }

    fn context_window(&self) -> Option<u64> {
        None
    }

    fn name(&self) -> String {
        "bench/model".to_owned()
    }
}

/// A screen that knows when the words are on it.
struct Screen(Sender<Moment>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.windows(4).any(|window| window == b"WORD") {
            self.0.send(Moment::Shown(Instant::now())).ok();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A supervisor that hears of the end of turns.
struct Listener(Sender<Moment>);

impl Reporter for Listener {
    fn report(&mut self, call: &HookCall) {
        if call.text("report") == Some("turn_ended") {
            self.0.send(Moment::Over).ok();
        }
    }
}

/// Runs a loop for so many turns in `folder`; every failure panics.
pub fn measure(folder: &Path, rounds: usize) -> LoopTimes {
    let (moments, seen) = channel();
    let (typed, keys) = mpsc::unbounded_channel();
    let plan = plan(folder);
    let io = LoopIo {
        keys: Some(keys),
        screen: Box::new(Screen(moments.clone())),
        is_terminal: true,
        is_coloured: true,
        columns: || Some(100),
        environment: Vec::new(),
    };
    let model = Box::new(Model { moments: moments.clone(), count: 0 });
    let running = std::thread::spawn(move || run(plan, model, io, Box::new(Listener(moments))));
    let mut times = LoopTimes { first_token: Vec::new(), dispatch: Vec::new() };
    for _ in 0..rounds {
        let entered = Instant::now();
        typed.send(b"Do it.\r".to_vec()).expect("the loop listens");
        turn(&seen, entered, &mut times);
    }
    typed.send(b"\x04".to_vec()).expect("the loop listens");
    running.join().expect("the loop does not panic").expect("the loop ends well");
    times
}

/// Follows one turn.
fn turn(seen: &Receiver<Moment>, entered: Instant, times: &mut LoopTimes) {
    let millis = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64() * 1000.0;
    let (mut said, mut called, mut before) = (entered, None, 0.0);
    let mut is_shown = false;
    loop {
        match seen.recv_timeout(Duration::from_secs(10)).expect("the turn goes on") {
            Moment::Asked(at) => match called.take() {
                Some(called) => times.dispatch.push(millis(called, at)),
                None => before = millis(entered, at),
            },
            Moment::Said(at) => said = at,
            Moment::Shown(at) if !std::mem::replace(&mut is_shown, true) => {
                times.first_token.push(before + millis(said, at));
            }
            Moment::Shown(_) => {}
            Moment::Called(at) => called = Some(at),
            Moment::Over => return,
        }
    }
}

/// A plan for a loop in `folder`.
fn plan(folder: &Path) -> LoopPlan {
    LoopPlan {
        session: "bench".to_owned(),
        conversation: folder.join("conversation.jsonl"),
        is_print: false,
        model: "bench/model".to_owned(),
        system_prompt: String::new(),
        prompt: String::new(),
        worktree: folder.to_owned(),
        writable: Vec::new(),
        protected: Vec::new(),
        worker_dir: folder.to_owned(),
        tools: Vec::new(),
        permission_mode: PermissionMode::AcceptEdits,
        permissions: Permissions::default(),
        mcp_servers: BTreeMap::new(),
        models: ModelSettings::default(),
        budget: None,
        max_turns: 200,
        tool_timeout: Duration::from_secs(120),
        tool_output: 30_000,
        grace: Duration::from_secs(1),
    }
}
