//! The process in the worker's terminal: one loop that picks one input, from the person, the agent or the system, and
//! carries out what follows. Face, reports and signals are those of the agent loop.

use std::collections::VecDeque;
use std::time::Duration;

use agent_client_protocol::v1::Responder;
use agent_client_protocol::v1::schema::{
    ContentBlock, PermissionOption, PermissionOptionKind, Plan, PlanEntryStatus, PromptResponse,
    RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse, SelectedPermissionOutcome,
    SessionUpdate, StopReason,
};
use serde_json::json;
use tokio::sync::mpsc;

use super::calls::{Calls, Told};
use super::peer::{FromAgent, Peer, ToAgent};
use super::plan::AcpPlan;
use crate::agent::AgentError;
use crate::agent::own::face::{Act, Face, Frame, Style};
use crate::agent::own::permission::{Permission, Verdict};
use crate::agent::own::report::{Conclusion, Report, Reporter, Reports, ToolReport};
use crate::agent::own::run::LoopIo;
use crate::agent::own::signals::Signals;
use crate::agent::own::tools::{Call, Place};
use crate::agent::own::turn::{Choice, Show};
use crate::model::tool_call::ToolOutcome;
use crate::process;

/// How long an agent may take to end by itself when its input has ended.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs the agent of a plan to its end.
///
/// # Errors
/// When its process does not start, or this one cannot listen to signals.
pub(crate) fn run(plan: AcpPlan, io: LoopIo, reporter: Box<dyn Reporter>) -> Result<Conclusion, AgentError> {
    let wrap = |source| AgentError::Log { path: plan.worker_dir.join("acp-plan.json"), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrap)?;
    let concluded = runtime.block_on(async {
        let signals = Signals::listen().map_err(wrap)?;
        let peer = Peer::start(&plan).map_err(|source| AgentError::Child { source })?;
        let mut running = Running::begin(plan.clone(), peer, signals, io, reporter);
        let conclusion = running.run().await;
        Ok(running.close(conclusion).await)
    });
    runtime.shutdown_background();
    concluded
}

/// What woke the loop.
enum Wake {
    Agent(Box<FromAgent>),
    Typed(Option<Vec<u8>>),
    Ended(i32),
    Interrupted,
    Resized,
}

/// A question of the agent that a person has to answer.
struct Question {
    call: Call,
    by_ask_rule: bool,
    request: RequestPermissionRequest,
    responder: Responder<RequestPermissionResponse>,
}

/// One conversation.
struct Running {
    plan: AcpPlan,
    peer: Peer,
    signals: Signals,
    face: Face,
    keys: Option<mpsc::UnboundedReceiver<Vec<u8>>>,
    columns: fn() -> Option<u16>,
    reports: Reports,
    permission: Permission,
    place: Place,
    calls: Calls,
    questions: VecDeque<Question>,
    /// Messages for the next turns.
    queue: VecDeque<String>,
    /// Whether the conversation is open; what is told before that is an earlier one's.
    is_ready: bool,
    /// What the agent calls itself.
    name: String,
    in_turn: bool,
    /// What it said in this turn.
    said: String,
    /// Plans so far, for their ids.
    plans: usize,
    last_plan: Option<Plan>,
    /// Input tokens, output tokens and US dollars so far.
    used: (u64, u64, Option<f64>),
    /// A rule wants a person to decide, and none was there.
    needs_person: bool,
    /// How the last turn ended.
    last_turn: Conclusion,
    conclusion: Option<Conclusion>,
    /// It ends when its work is done.
    ends_when_done: bool,
    /// Whether the agent's process ended.
    is_gone: bool,
}

impl Running {
    /// Makes everything ready; the prompt follows when the conversation is open.
    fn begin(plan: AcpPlan, peer: Peer, signals: Signals, io: LoopIo, reporter: Box<dyn Reporter>) -> Self {
        let place = Place::new(&plan.worktree, &plan.writable, &plan.protected);
        let frame = Frame {
            screen: io.screen,
            is_terminal: io.is_terminal,
            style: Style { is_coloured: io.is_coloured },
            columns: usize::from((io.columns)().unwrap_or(80)),
            worktree: plan.worktree.clone(),
        };
        Self {
            reports: Reports::start(plan.resume.as_deref().unwrap_or_default(), reporter),
            permission: Permission::new(plan.permission_mode, &plan.permissions, &plan.tools, place.clone()),
            ends_when_done: plan.is_print,
            plan,
            peer,
            signals,
            face: Face::new(frame),
            keys: io.keys,
            columns: io.columns,
            place,
            calls: Calls::default(),
            questions: VecDeque::new(),
            queue: VecDeque::new(),
            is_ready: false,
            name: String::new(),
            in_turn: false,
            said: String::new(),
            plans: 0,
            last_plan: None,
            used: (0, 0, None),
            needs_person: false,
            last_turn: Conclusion::Done,
            conclusion: None,
            is_gone: false,
        }
    }

    /// The loop.
    async fn run(&mut self) -> Conclusion {
        loop {
            if let Some(conclusion) = self.conclusion.take() {
                return conclusion;
            }
            if self.ends_when_done && self.is_ready && !self.in_turn {
                return self.last_turn.clone();
            }
            match self.next_wake().await {
                Wake::Agent(from) => self.take(*from),
                Wake::Typed(bytes) => {
                    if bytes.is_none() {
                        self.keys = None;
                    }
                    let acts = self.face.typed(&bytes.unwrap_or_default());
                    acts.into_iter().for_each(|act| self.act(act));
                }
                Wake::Ended(number) => return Conclusion::Signal(number),
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

    /// Picks one input; the person first.
    async fn next_wake(&mut self) -> Wake {
        let typed = async {
            match &mut self.keys {
                Some(keys) => keys.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = self.signals.terminate.recv() => Wake::Ended(15),
            _ = self.signals.hangup.recv() => Wake::Ended(1),
            _ = self.signals.interrupt.recv() => Wake::Interrupted,
            bytes = typed => Wake::Typed(bytes),
            _ = self.signals.window.recv() => Wake::Resized,
            from = self.peer.says.recv() => Wake::Agent(Box::new(from.unwrap_or(FromAgent::Exited(None)))),
        }
    }

    /// Takes what the agent says.
    fn take(&mut self, from: FromAgent) {
        match from {
            FromAgent::Ready { session, name, goes_on } => self.ready(session, name, goes_on),
            FromAgent::Update(update) if self.is_ready => self.update(*update),
            // The replay of an earlier conversation: it was told when it happened.
            FromAgent::Update(_) => {}
            FromAgent::Asks(request, responder) => self.asked(*request, responder),
            FromAgent::TurnOver(Ok(answer)) => self.turn_over(&answer),
            FromAgent::TurnOver(Err(reason)) => self.turn_failed(reason),
            FromAgent::Warning(text) => {
                self.face.show(&Show::Problem(text.clone()));
                self.reports.tell(&Report::Noted { text });
            }
            FromAgent::Lost(reason) => self.lost(reason),
            FromAgent::Exited(code) => {
                self.is_gone = true;
                let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
                self.lost(format!("the agent ended by {code}; its last words are in `acp-agent.log`"));
            }
        }
    }

    /// The conversation is open: the prompt goes to it.
    fn ready(&mut self, session: String, name: String, goes_on: bool) {
        self.is_ready = true;
        self.reports.session = session;
        self.reports.tell(&Report::SessionStarted { conversation: self.plan.worker_dir.join("acp-plan.json") });
        self.face.greet(&name, goes_on);
        self.name = name;
        let is_anew = self.plan.resume.is_some() && !goes_on;
        let prompt = if is_anew { &self.plan.anew } else { &self.plan.prompt }.trim().to_owned();
        if prompt.is_empty() {
            self.face.set_busy(false);
            return;
        }
        let system = self.plan.system_prompt.trim();
        let is_first = !goes_on && !system.is_empty();
        // The protocol has no place for a system prompt, so it stands before the first message.
        let sent = if is_first { format!("{system}\n\n{prompt}") } else { prompt.clone() };
        self.begin_turn(&prompt, sent);
    }

    /// A message of the person, or of the supervisor.
    fn message(&mut self, text: String) {
        if self.in_turn || !self.is_ready {
            self.face.echo(&text, true);
            self.reports.tell(&Report::TurnStarted { prompt: text.clone(), is_message: true });
            self.queue.push_back(text);
        } else {
            self.begin_turn(&text.clone(), text);
        }
    }

    /// Sends a message to the agent.
    fn begin_turn(&mut self, shown: &str, sent: String) {
        self.face.echo(shown, false);
        self.reports.tell(&Report::TurnStarted { prompt: shown.to_owned(), is_message: true });
        self.send(sent);
    }

    /// Sends what was announced.
    fn send(&mut self, text: String) {
        self.in_turn = true;
        self.said.clear();
        self.face.set_busy(true);
        self.peer.asks.send(ToAgent::Prompt(text)).ok();
    }

    /// Takes a change.
    fn update(&mut self, update: SessionUpdate) {
        match update {
            SessionUpdate::AgentMessageChunk(chunk) => {
                if let ContentBlock::Text(text) = chunk.content {
                    self.said.push_str(&text.text);
                    self.face.text(&text.text);
                }
            }
            SessionUpdate::AgentThoughtChunk(chunk) => {
                if let ContentBlock::Text(text) = chunk.content {
                    self.face.thinking(&text.text);
                }
            }
            SessionUpdate::ToolCall(call) => {
                let told = self.calls.take(call);
                self.tell(told);
            }
            SessionUpdate::ToolCallUpdate(update) => {
                let told = self.calls.update(update);
                self.tell(told);
            }
            SessionUpdate::Plan(plan) => self.planned(plan),
            SessionUpdate::UsageUpdate(usage) => {
                if let Some(cost) = usage.cost.filter(|cost| cost.currency == "USD") {
                    self.used.2 = Some(cost.amount);
                    self.tell_used();
                }
            }
            _ => {}
        }
    }

    /// Shows and reports what became of calls.
    fn tell(&mut self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Began(call, report) => {
                    self.reports.tell(&report);
                    self.face.show(&Show::Call(call));
                }
                Told::Ended(call, output, report) => {
                    self.reports.tell(&report);
                    self.face.show(&Show::Result(call, output));
                }
            }
        }
    }

    /// Its plan is another one: shown as a list, and logged as what it is, a call without effect.
    fn planned(&mut self, plan: Plan) {
        if self.last_plan.as_ref() == Some(&plan) || plan.entries.is_empty() {
            return;
        }
        let mark = |status: &PlanEntryStatus| match status {
            PlanEntryStatus::Completed => "[x]",
            PlanEntryStatus::InProgress => "[>]",
            _ => "[ ]",
        };
        let lines = plan.entries.iter().map(|entry| format!("{} {}", mark(&entry.status), entry.content));
        self.face.show(&Show::Note(format!("plan: {}", lines.collect::<Vec<_>>().join("  "))));
        self.plans += 1;
        let call_id = format!("plan-{}", self.plans);
        let input = json!({"entries": plan.entries});
        self.reports.tell(&Report::ToolStarted { call_id: call_id.clone(), tool: "Plan".to_owned(), input });
        self.reports.tell(&Report::ToolEnded(ToolReport {
            call_id,
            outcome: ToolOutcome::Ok,
            error: None,
            exit_code: None,
            duration_ms: 0,
            output_bytes: 0,
            by_ask_rule: false,
        }));
        self.last_plan = Some(plan);
    }

    /// The agent asks whether it may do something: the rules of the definition decide, or a person where they say so
    /// and one is there.
    fn asked(&mut self, request: RequestPermissionRequest, responder: Responder<RequestPermissionResponse>) {
        let (call, told) = self.calls.asked(request.tool_call.clone());
        self.tell(told);
        match self.judge(&call) {
            Verdict::Allow => answer(&request, responder, Choice::Yes),
            Verdict::Deny { reason } => {
                self.face.show(&Show::Note(reason));
                self.calls.refuse(&call.id, false);
                answer(&request, responder, Choice::No);
            }
            Verdict::Ask { rule } if self.plan.is_print => {
                self.needs_person |= rule.is_some();
                self.calls.refuse(&call.id, rule.is_some());
                answer(&request, responder, Choice::No);
            }
            Verdict::Ask { rule } => {
                self.questions.push_back(Question { call, by_ask_rule: rule.is_some(), request, responder });
                if self.questions.len() == 1 {
                    self.ask_next();
                }
            }
        }
    }

    /// What the rules say. Files outside of the worktree are changed by nobody's leave.
    fn judge(&self, call: &Call) -> Verdict {
        let changes = matches!(call.tool.as_str(), "Edit" | "Delete" | "Move");
        let path = call.input.get("file_path").and_then(|path| path.as_str());
        if let (true, Some(path)) = (changes, path)
            && let Err(reason) = self.place.to_write(path)
        {
            return Verdict::Deny { reason };
        }
        self.permission.judge(call)
    }

    /// Asks the person the next question.
    fn ask_next(&mut self) {
        match self.questions.front() {
            Some(question) => {
                let what = crate::agent::display::subject(&question.call.input);
                let what = format!("permission for {} {what}", question.call.tool).trim_end().to_owned();
                self.reports.tell(&Report::Waiting { what });
                self.face.ask(Some(question.call.clone()));
            }
            None => {
                self.reports.tell(&Report::WaitingOver);
                self.face.ask(None);
            }
        }
    }

    /// The person decided.
    fn decide(&mut self, choice: Choice) {
        let Some(question) = self.questions.pop_front() else { return };
        if choice == Choice::Always {
            self.permission.allow_always(&question.call);
        }
        if choice == Choice::No {
            self.calls.refuse(&question.call.id, question.by_ask_rule);
        }
        answer(&question.request, question.responder, choice);
        self.ask_next();
    }

    /// Does what the person wants.
    fn act(&mut self, act: Act) {
        match act {
            Act::Message(text) => self.message(text),
            Act::Decide(choice) => self.decide(choice),
            Act::Interrupt => self.cancel(),
            Act::Status => {
                let pairs = [
                    ("agent", self.name.clone()),
                    ("conversation", self.reports.session.clone()),
                    ("used", format!("{} in, {} out", self.used.0, self.used.1)),
                    ("queued", self.queue.len().to_string()),
                ];
                self.face.figures(&pairs);
            }
            Act::End if self.in_turn || self.plan.is_print => self.conclusion = Some(Conclusion::Signal(2)),
            Act::End => self.conclusion = Some(Conclusion::Done),
            Act::EndWhenDone => {
                self.keys = None;
                self.ends_when_done = true;
            }
        }
    }

    /// Breaks the turn off. Questions that are open count as broken off, too: the protocol wants them answered so.
    fn cancel(&mut self) {
        let had_questions = !self.questions.is_empty();
        for question in self.questions.drain(..) {
            let outcome = RequestPermissionOutcome::Cancelled;
            question.responder.respond(RequestPermissionResponse::new(outcome)).ok();
        }
        if had_questions {
            self.ask_next();
        }
        if self.in_turn {
            self.peer.asks.send(ToAgent::Cancel).ok();
        }
    }

    /// The turn is over.
    fn turn_over(&mut self, response: &PromptResponse) {
        if let Some(usage) = &response.usage {
            let cached = usage.cached_read_tokens.unwrap_or(0) + usage.cached_write_tokens.unwrap_or(0);
            self.used.0 += usage.input_tokens + cached;
            self.used.1 += usage.output_tokens + usage.thought_tokens.unwrap_or(0);
            self.tell_used();
        }
        match response.stop_reason {
            StopReason::EndTurn => self.end_turn(true),
            StopReason::Cancelled => self.end_turn(false),
            StopReason::MaxTokens => self.limit("the model's limit of tokens was reached"),
            StopReason::MaxTurnRequests => self.limit("the agent's limit of requests in one turn was reached"),
            StopReason::Refusal => self.turn_failed("the agent refuses to go on".to_owned()),
            other => self.turn_failed(format!("the turn ended for a reason unknown here: {other:?}")),
        }
    }

    /// The turn ended by itself or by the person; what is queued begins the next one.
    fn end_turn(&mut self, finished: bool) {
        self.close_calls();
        self.in_turn = false;
        self.face.set_busy(false);
        if let Some(text) = self.queue.pop_front() {
            return self.send(text);
        }
        self.last_turn = match (finished, self.needs_person) {
            (_, true) => Conclusion::NeedsPerson("a rule leaves a call to a person".to_owned()),
            (true, _) => Conclusion::Done,
            (false, _) => Conclusion::Signal(2),
        };
        let last_message = Some(self.said.trim().to_owned()).filter(|said| !said.is_empty());
        self.reports.tell(&Report::TurnEnded { finished, last_message });
    }

    /// The turn ended at a limit.
    fn limit(&mut self, reason: &str) {
        self.turn_failed(reason.to_owned());
        self.last_turn = Conclusion::Limit(reason.to_owned());
    }

    /// The turn ended by an error.
    fn turn_failed(&mut self, reason: String) {
        self.close_calls();
        self.in_turn = false;
        self.face.set_busy(false);
        self.face.show(&Show::Problem(reason.clone()));
        self.reports.tell(&Report::TurnFailed { reason: reason.clone() });
        self.last_turn = Conclusion::Failed(reason);
    }

    /// The agent is gone, or its conversation was never opened.
    fn lost(&mut self, reason: String) {
        if self.in_turn {
            self.turn_failed(reason.clone());
        } else {
            self.face.show(&Show::Problem(reason.clone()));
        }
        // The first reason says more than what follows from it.
        self.conclusion.get_or_insert(Conclusion::Failed(reason));
    }

    /// Ends what is open.
    fn close_calls(&mut self) {
        let told = self.calls.close();
        self.tell(told);
    }

    /// Tells the figures.
    fn tell_used(&self) {
        let (input_tokens, output_tokens, cost_usd) = self.used;
        self.reports.tell(&Report::Used { input_tokens, output_tokens, cost_usd, is_estimated: false });
    }

    /// Ends the agent, says goodbye, and leaves the terminal as it was.
    async fn close(mut self, conclusion: Conclusion) -> Conclusion {
        self.cancel();
        self.close_calls();
        self.face.close();
        // The end of its input is how the protocol says goodbye; then it is asked, and then it is ended.
        let (gone, _) = mpsc::unbounded_channel();
        self.peer.asks = gone;
        if !self.is_gone && tokio::time::timeout(GOODBYE, self.wait_for_end()).await.is_err() {
            let (pid, grace) = (self.peer.pid, self.plan.grace);
            tokio::task::spawn_blocking(move || process::stop_agent_tree(pid, grace).ok()).await.ok();
        }
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
        self.reports.finish();
        conclusion
    }

    /// Waits for the end of the agent's process.
    async fn wait_for_end(&mut self) {
        while let Some(from) = self.peer.says.recv().await {
            if matches!(from, FromAgent::Exited(_)) {
                return;
            }
        }
    }
}

/// Answers a question with the agent's own option for a choice. Options for good are not taken: what is allowed for
/// good, we decide here.
fn answer(request: &RequestPermissionRequest, responder: Responder<RequestPermissionResponse>, choice: Choice) {
    let wanted = match choice {
        Choice::Yes | Choice::Always => [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways],
        Choice::No => [PermissionOptionKind::RejectOnce, PermissionOptionKind::RejectAlways],
    };
    let option = |kind: &PermissionOptionKind| -> Option<&PermissionOption> {
        request.options.iter().find(|option| option.kind == *kind)
    };
    let outcome = match wanted.iter().find_map(option) {
        Some(option) => RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone())),
        None => RequestPermissionOutcome::Cancelled,
    };
    responder.respond(RequestPermissionResponse::new(outcome)).ok();
}
