//! The loop's process: one loop that picks one input, asks the engine, and carries out what follows.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::context::Context;
use super::conversation::{Conversation, Entry, VERSION};
use super::face::{Act, Face, Frame, Style};
use super::model_task::{FromModel, ModelTask};
use super::permission::Permission;
use super::plan::LoopPlan;
use super::report::{Conclusion, Report, Reporter, Reports};
use super::signals::Signals;
use super::tools::{Call, Input as ToolInput, Output, Place, Toolbox, Workshop, read_todos};
use super::turn::{Effect, Engine, Input, Rules, Show};
use crate::agent::AgentError;
use crate::llm::{Block, ChatModel, Delta, Message, ToolSpec};
use crate::model::{Time, error_text};

/// What the model is told besides the agent's own words.
const GROUND: &str = "You work in a terminal through tools. Your working folder is the worktree; use paths inside it. \
    Look before you change, make the change with Edit or Write, and verify it. When the work is done, say so in a few \
    words and call no tool.";
/// How long the model waits for the supervisor to hear of what was done before.
const HEARD: Duration = Duration::from_millis(100);
/// How long a call waits for the supervisor to save what the call before it left. Answers of models take longer than
/// that, so nobody waits for it in practice.
const SETTLE: Duration = Duration::from_secs(3);
/// The streams and surroundings of a loop.
pub(crate) struct LoopIo {
    /// What the person types; an empty piece is the end of it. `None` when nobody can.
    pub(crate) keys: Option<mpsc::UnboundedReceiver<Vec<u8>>>,
    /// Where it shows itself.
    pub(crate) screen: Box<dyn Write + Send>,
    /// Whether that is a terminal whose input comes key by key.
    pub(crate) is_terminal: bool,
    /// Whether it may use colours.
    pub(crate) is_coloured: bool,
    /// Columns of the terminal, whenever asked.
    pub(crate) columns: fn() -> Option<u16>,
    /// Environment of the tools.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// Runs a loop to its end.
///
/// # Errors
/// When the conversation file cannot be opened or written; everything else is in the conclusion.
pub(crate) fn run(
    plan: LoopPlan,
    model: Box<dyn ChatModel>,
    io: LoopIo,
    reporter: Box<dyn Reporter>,
) -> Result<Conclusion, AgentError> {
    let wrap = |source| AgentError::Log { path: plan.conversation.clone(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrap)?;
    let concluded = runtime.block_on(async {
        let mut running = Running::begin(plan, model, io, reporter).await?;
        let conclusion = running.run().await;
        running.close(conclusion).await
    });
    // A search that was interrupted may still run for a moment.
    runtime.shutdown_background();
    concluded
}

/// A call that is under way.
struct Work {
    /// Its output.
    done: Pin<Box<dyn Future<Output = Output>>>,
    /// Ends it.
    stop: watch::Sender<bool>,
    /// When it began.
    since: Instant,
}

/// What woke the loop.
enum Wake {
    Model(FromModel),
    Worked(Output),
    Typed(Option<Vec<u8>>),
    Ended(i32),
    Interrupted,
    Resized,
}

/// One loop.
struct Running {
    plan: LoopPlan,
    engine: Engine,
    model: ModelTask,
    model_name: String,
    toolbox: Rc<Toolbox>,
    conversation: Conversation,
    reports: Reports,
    face: Face,
    keys: Option<mpsc::UnboundedReceiver<Vec<u8>>>,
    columns: fn() -> Option<u16>,
    signals: Signals,
    work: Option<Work>,
    /// How the loop is to end, once that is known.
    conclusion: Option<Conclusion>,
    /// It ends when its work is done.
    ends_when_done: bool,
    /// How the last turn ended.
    last_turn: Conclusion,
    /// The conversation file took no more.
    broken: Option<AgentError>,
}

impl Running {
    /// Opens everything and begins with the prompt.
    async fn begin(
        plan: LoopPlan,
        model: Box<dyn ChatModel>,
        io: LoopIo,
        reporter: Box<dyn Reporter>,
    ) -> Result<Self, AgentError> {
        let (mut conversation, past) = Conversation::open(&plan.conversation)?;
        let signals =
            Signals::listen().map_err(|source| AgentError::Log { path: plan.conversation.clone(), source })?;
        let reports = Reports::start(&plan.session, reporter);
        reports.tell(&Report::SessionStarted { conversation: plan.conversation.clone() });
        let place = Place::new(&plan.worktree, &plan.writable, &plan.protected);
        let permission = Permission::new(plan.permission_mode, &plan.permissions, &plan.tools, place.clone());
        let (toolbox, warnings) = Toolbox::open(workshop(&plan, place, &permission, &io), &plan.mcp_servers).await;
        let frame = Frame {
            screen: io.screen,
            is_terminal: io.is_terminal,
            style: Style { is_coloured: io.is_coloured },
            columns: usize::from((io.columns)().unwrap_or(80)),
            worktree: plan.worktree.clone(),
        };
        let mut face = Face::new(frame);
        let model_name = model.name();
        face.greet(&model_name, !past.is_empty());
        for warning in warnings {
            face.show(&Show::Problem(warning.clone()));
            reports.tell(&Report::Noted { text: warning });
        }
        let specs = toolbox.specs();
        let system = system(&plan);
        let fixed = system.len() + specs.iter().map(spec_size).sum::<usize>();
        let tools = specs.iter().map(|spec| spec.name.clone()).collect();
        let rules = Rules { is_print: plan.is_print, max_turns: plan.max_turns, tools };
        let mut engine = Engine::new(rules, permission, Context::new(fixed), model.context_window());
        let opened = Entry::Opened { version: VERSION, session: plan.session.clone(), model: model_name.clone() };
        conversation.add(&opened, Time::now())?;
        let restored = engine.restore(&past);
        if let Some(todos) = last_todos(engine.context().all()) {
            toolbox.set_todos(todos);
        }
        let mut running = Self {
            engine,
            model: ModelTask::start(model, system, specs),
            model_name,
            toolbox: Rc::new(toolbox),
            conversation,
            reports,
            face,
            keys: io.keys,
            columns: io.columns,
            signals,
            work: None,
            conclusion: None,
            ends_when_done: plan.is_print,
            last_turn: Conclusion::Done,
            broken: None,
            plan,
        };
        running.carry_out(restored);
        let prompt = running.plan.prompt.trim().to_owned();
        if prompt.is_empty() {
            running.face.set_busy(false);
        } else {
            running.message(prompt);
        }
        Ok(running)
    }

    /// The loop.
    async fn run(&mut self) -> Conclusion {
        loop {
            if let Some(conclusion) = self.conclusion.take() {
                return conclusion;
            }
            if self.ends_when_done && !self.engine.is_busy() {
                return self.last_turn.clone();
            }
            match self.next_wake().await {
                Wake::Model(from) => self.take_model(from),
                Wake::Worked(output) => {
                    let duration = self.work.take().map_or(Duration::ZERO, |work| work.since.elapsed());
                    self.input(Input::Done { output, duration });
                }
                Wake::Typed(bytes) => self.typed(bytes),
                Wake::Ended(number) => self.conclusion = Some(Conclusion::Signal(number)),
                Wake::Interrupted => {
                    let act = self.face.interrupt();
                    act.into_iter().for_each(|act| self.act(act));
                }
                Wake::Resized => {
                    if let Some(columns) = (self.columns)() {
                        self.face.resize(usize::from(columns));
                    }
                }
            }
        }
    }

    /// Picks one input.
    async fn next_wake(&mut self) -> Wake {
        let worked = async {
            match &mut self.work {
                Some(work) => work.done.as_mut().await,
                None => std::future::pending().await,
            }
        };
        let typed = async {
            match &mut self.keys {
                Some(keys) => keys.recv().await,
                None => std::future::pending().await,
            }
        };
        // The person first: what streams fast must not keep an interrupt waiting.
        tokio::select! {
            biased;
            _ = self.signals.terminate.recv() => Wake::Ended(15),
            _ = self.signals.hangup.recv() => Wake::Ended(1),
            _ = self.signals.interrupt.recv() => Wake::Interrupted,
            bytes = typed => Wake::Typed(bytes),
            _ = self.signals.window.recv() => Wake::Resized,
            output = worked => Wake::Worked(output),
            from = self.model.next() => Wake::Model(from),
        }
    }

    /// Takes what the model says.
    fn take_model(&mut self, from: FromModel) {
        match from {
            FromModel::Delta(Delta::Text(text)) => self.face.text(&text),
            FromModel::Delta(Delta::Thinking(text)) => self.face.thinking(&text),
            // It is shown when it is made.
            FromModel::Delta(Delta::ToolCall { .. }) => {}
            FromModel::Delta(Delta::Restart { reason }) => self.input(Input::Restarted(reason)),
            FromModel::Delta(Delta::Busy { why, wait }) => {
                let wait_ms = wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                self.reports.tell(&Report::Busy { why, wait_ms });
            }
            FromModel::Window(window) => self.input(Input::Window(window)),
            FromModel::Answer(Ok(answer)) => {
                self.model_name.clone_from(&answer.model);
                self.input(Input::Answered(answer));
            }
            FromModel::Answer(Err(error)) => self.input(Input::Failed(error)),
        }
    }

    /// Takes what the person typed.
    fn typed(&mut self, bytes: Option<Vec<u8>>) {
        // Whoever reads the keys is gone: nothing more comes.
        if bytes.is_none() {
            self.keys = None;
        }
        let acts = self.face.typed(&bytes.unwrap_or_default());
        acts.into_iter().for_each(|act| self.act(act));
    }

    /// Does what the person wants.
    fn act(&mut self, act: Act) {
        match act {
            Act::Message(text) => self.message(text),
            Act::Decide(choice) => self.input(Input::Decided(choice)),
            Act::Interrupt => self.input(Input::Interrupt),
            Act::Status => self.show_status(),
            Act::End if self.engine.is_busy() || self.plan.is_print => self.conclusion = Some(Conclusion::Signal(2)),
            Act::End => self.conclusion = Some(Conclusion::Done),
            Act::EndWhenDone => {
                self.keys = None;
                self.ends_when_done = true;
            }
        }
    }

    /// Gives a message to the model, or queues it.
    fn message(&mut self, text: String) {
        let is_queued = self.engine.is_busy();
        self.face.echo(&text, is_queued);
        if !is_queued {
            self.face.set_busy(true);
        }
        self.input(Input::Message(text));
    }

    /// Gives one input to the engine and carries out what follows.
    fn input(&mut self, input: Input) {
        let effects = self.engine.handle(input);
        self.carry_out(effects);
    }

    /// Carries out effects in their order.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record(entry) => {
                    if let Err(error) = self.conversation.add(&entry, Time::now()) {
                        // Without the file nothing can be resumed, so nothing more is done.
                        self.conclusion = Some(Conclusion::Failed(error_text(&error)));
                        self.broken = Some(error);
                        return;
                    }
                }
                Effect::Report(report) => self.reports.tell(&report),
                Effect::Show(show) => self.face.show(&show),
                Effect::Ask => {
                    // What was done is in the log before a model builds on it, however this process may end.
                    self.reports.settle(HEARD);
                    self.model.ask(self.engine.context().messages());
                }
                Effect::CancelAsk => self.model.cancel(),
                Effect::Question(call) => self.face.ask(Some(call)),
                Effect::QuestionOver => self.face.ask(None),
                Effect::Run(call) => self.begin_work(call),
                Effect::CancelRun => {
                    if let Some(work) = &self.work {
                        work.stop.send_replace(true);
                    }
                }
                Effect::TurnOver(conclusion) => {
                    self.last_turn = conclusion;
                    self.face.set_busy(false);
                }
            }
        }
    }

    /// Begins a call.
    fn begin_work(&mut self, call: Call) {
        self.reports.settle(SETTLE);
        let (stop, stopped) = watch::channel(false);
        let toolbox = self.toolbox.clone();
        let done = Box::pin(async move { toolbox.call(&call, stopped).await });
        self.work = Some(Work { done, stop, since: Instant::now() });
    }

    /// Shows how things are.
    fn show_status(&mut self) {
        let (used, window) = self.engine.figures();
        let mark = if used.measured { "" } else { " (estimated)" };
        let cost = used.cost_usd.map_or_else(|| "unknown".to_owned(), |cost| format!("{cost:.4} USD"));
        let pairs = [
            ("model", self.model_name.clone()),
            ("conversation", self.plan.session.clone()),
            ("context", format!("about {} of {window} tokens", self.engine.context().tokens())),
            ("used", format!("{} in, {} out{mark}", used.input_tokens, used.output_tokens)),
            ("cost", cost),
            ("background", format!("{} shells", self.toolbox.running_shells())),
        ];
        self.face.figures(&pairs);
        self.face.todos(&self.toolbox.todos());
    }

    /// Ends what runs, says goodbye, and leaves the terminal as it was.
    async fn close(mut self, conclusion: Conclusion) -> Result<Conclusion, AgentError> {
        self.end_work().await;
        self.face.close();
        let reason = match &conclusion {
            Conclusion::Done => "done".to_owned(),
            Conclusion::Failed(reason)
            | Conclusion::FailedForNow(reason)
            | Conclusion::Limit(reason)
            | Conclusion::NeedsPerson(reason) => reason.clone(),
            Conclusion::Signal(number) => format!("signal {number}"),
        };
        self.reports.tell(&Report::SessionEnded { reason });
        self.reports.tell(&Report::Concluded(conclusion.clone()));
        if let Ok(toolbox) = Rc::try_unwrap(self.toolbox) {
            toolbox.close().await;
        }
        self.reports.finish();
        match self.broken {
            Some(error) => Err(error),
            None => Ok(conclusion),
        }
    }

    /// Ends the call that is under way, and writes down what it had done.
    async fn end_work(&mut self) {
        self.model.cancel();
        self.input(Input::Interrupt);
        if let Some(mut work) = self.work.take() {
            work.stop.send_replace(true);
            let output = work.done.as_mut().await;
            self.input(Input::Done { output, duration: work.since.elapsed() });
        }
    }
}

/// What the tools are made from.
fn workshop(plan: &LoopPlan, place: Place, permission: &Permission, io: &LoopIo) -> Workshop {
    let keys = plan.models.key_variables();
    let is_secret = |name: &OsString| name.to_str().is_some_and(|name| keys.contains(&name));
    let permission = permission.clone();
    Workshop {
        place,
        environment: io.environment.iter().filter(|(name, _)| !is_secret(name)).cloned().collect(),
        folder: plan.worker_dir.clone(),
        marker: format!("{}.{}", plan.session, std::process::id()),
        tools: plan.tools.clone(),
        timeout: plan.tool_timeout,
        output: plan.tool_output,
        grace: plan.grace,
        may_read: Arc::new(move |shown| permission.may_read(shown)),
    }
}

/// The system prompt: the agent's words, then what holds for every agent.
fn system(plan: &LoopPlan) -> String {
    let mode = match plan.permission_mode {
        crate::model::agent::PermissionMode::Plan => {
            "\nNothing may be changed in this conversation: look, and say what you would do."
        }
        _ => "",
    };
    let words = plan.system_prompt.trim();
    let gap = if words.is_empty() { "" } else { "\n\n" };
    format!("{words}{gap}{GROUND}\nThe worktree is {}.{mode}", plan.worktree.display())
}

/// Bytes of a tool's description in a request.
fn spec_size(spec: &ToolSpec) -> usize {
    spec.name.len() + spec.description.len() + json!(spec.parameters).to_string().len()
}

/// The list of what is to do as the last call left it.
fn last_todos(messages: &[Message]) -> Option<Vec<super::tools::Todo>> {
    let blocks = messages.iter().rev().filter_map(|message| match message {
        Message::Assistant { blocks } => Some(blocks.iter().rev()),
        _ => None,
    });
    let mut inputs = blocks.flatten().filter_map(|block| match block {
        Block::ToolCall { name, input, .. } if name == "TodoWrite" => Some(input),
        _ => None,
    });
    read_todos(&ToolInput::new(inputs.next()?)).ok()
}

#[cfg(test)]
mod tests;
