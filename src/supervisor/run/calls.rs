//! What comes in: terminal output, viewers, clients, hooks, timers.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::parts::HeldReply;
use super::{Job, RULE_LINES, Supervision, TICK_AT_REST};
use crate::agent::{AgentEvent, Ending, HookCall};
use crate::model::agent::RuntimeKind;
use crate::model::budget::OnReached;
use crate::model::event::Event;
use crate::model::worker::{EvidenceSource, HEARTBEAT_EVERY};
use crate::model::{Time, duration_text};
use crate::process;
use crate::supervisor::attached::Seen;
use crate::supervisor::machine::{Finding, Input};
use crate::supervisor::protocol::{Reply, Request};
use crate::supervisor::server::Call;
use crate::terminal::{Size, matching_rule};

/// Tools that change no file, by the names that runtimes have for them; after all others the worktree is saved.
const READERS: [&str; 15] = [
    "Read",
    "Glob",
    "Grep",
    "LS",
    "WebFetch",
    "WebSearch",
    "TodoWrite",
    "TodoRead",
    "BashOutput",
    "NotebookRead",
    "AskUserQuestion",
    "ExitPlanMode",
    "read_file",
    "list_directory",
    "google_web_search",
];

/// How long an agent waits at most for the state after its call to be saved, looked at once a second.
const HOLD: Duration = Duration::from_secs(1);

impl Supervision {
    /// Takes what the terminal showed.
    pub(super) async fn take_output(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.agent.as_ref().is_some_and(|agent| agent.raw_output) {
            let events = self.runtime.output(bytes, Time::now());
            self.take_events(events).await;
        } else {
            self.show(bytes).await;
        }
        if self.agent.as_ref().is_some_and(|agent| !agent.raw_output) {
            self.note_output();
        }
        self.machine.note_output(Time::now());
        self.told.live_is_stale = true;
    }

    /// Shows bytes to everybody, and records them.
    pub(super) async fn show(&mut self, bytes: &[u8]) {
        self.terminal.has_changed = true;
        if self.terminal.viewers.wants_repaint() {
            let picture = self.terminal.screen.repaint();
            self.terminal.viewers.repaint(&picture);
        }
        let replies = self.terminal.screen.feed(bytes);
        self.terminal.viewers.show(bytes);
        let recorded = self.terminal.recording.output(bytes);
        self.note_error(recorded);
        // A tmux pane answers queries itself; only without one is the supervisor the terminal.
        if self.terminal.pane.is_none() && !replies.is_empty() {
            self.type_raw(replies);
        }
    }

    /// Types bytes as they are. What an agent that does not read leaves standing for too long is dropped, as a terminal
    /// would: waiting here would hold up everything else.
    fn type_raw(&mut self, bytes: Vec<u8>) {
        if let Some(agent) = &self.agent {
            agent.typing.try_send(vec![bytes]).ok();
        }
    }

    /// Takes events of the agent: tool calls to the log, lines to the viewers, figures to the figures, and all to the
    /// machine.
    pub(super) async fn take_events(&mut self, events: Vec<AgentEvent>) {
        let is_retried = events.iter().any(|event| matches!(event, AgentEvent::Retry { .. }));
        for event in events {
            if let Some(sign) = sign_of(&event).filter(|_| !is_retried) {
                self.meter.note(sign);
            }
            let may_write = match &event {
                AgentEvent::ToolEnded(end) => {
                    let told = end.start.as_ref().map(|start| start.tool.as_str());
                    self.tool_log.tool_of(&end.call_id).or(told).is_some_and(|tool| !READERS.contains(&tool))
                }
                _ => false,
            };
            let logged = self.tool_log.take(&event);
            if may_write && matches!(logged, Ok(true)) {
                self.save_call(self.tool_log.last_seq());
            }
            self.note_error(logged);
            match &event {
                AgentEvent::Display(line) => {
                    let line = format!("{}\r\n", line.replace('\n', "\r\n"));
                    self.show(line.as_bytes()).await;
                }
                AgentEvent::Usage(usage) => {
                    let (before, figures) = (self.facts.used_before, &mut self.facts.figures);
                    figures.input_tokens = Some(before.input_tokens.unwrap_or(0) + usage.input_tokens);
                    figures.output_tokens = Some(before.output_tokens.unwrap_or(0) + usage.output_tokens);
                    let cost = usage.cost_usd.map(|cost| before.cost_usd.unwrap_or(0.0) + cost);
                    figures.cost_usd = cost.or(figures.cost_usd);
                    self.spending.count(usage);
                    self.charge().await;
                    self.hold_at_limit().await;
                }
                AgentEvent::SessionStarted { id, .. } => {
                    let set = self.set_session(id.clone());
                    self.note_error(set);
                }
                AgentEvent::ToolEnded(_) => self.begin_snapshot_if_due(),
                AgentEvent::Patience { why, wait } => self.pace(why, *wait).await,
                AgentEvent::TurnEnded { last_message: Some(text), .. } => self.facts.answer = Some(text.clone()),
                _ => {}
            }
            if self.answers(&event) {
                self.note_answer().await;
            }
            self.note_question(&event);
            self.count_tools();
            // First, so that nobody is told that it waits for a person.
            if matches!(event, AgentEvent::Failed { .. }) && self.machine.is_attempting() {
                self.check_limits(true).await;
            }
            self.input(Input::Agent(event)).await;
        }
    }

    /// Copies the tool counts into the figures, where the runtime tells of tools at all.
    pub(super) fn count_tools(&mut self) {
        if self.facts.tells_tools {
            let (calls, errors) = self.tool_log.counts();
            (self.facts.figures.tool_calls, self.facts.figures.tool_errors) = (Some(calls), Some(errors));
        }
    }

    /// Takes what a viewer did.
    pub(super) async fn take_seen(&mut self, seen: Seen) {
        match seen {
            Seen::Input(id, bytes) if self.terminal.viewers.may_type(id) => {
                if is_typing(&bytes) {
                    self.meter.note("a person typed");
                    let submitted = bytes.ends_with(b"\r") || bytes.ends_with(b"\n");
                    self.input(Input::Typed { submitted }).await;
                }
                self.type_raw(bytes);
            }
            Seen::Input(..) => {}
            Seen::Resize(id, size) if self.terminal.viewers.may_type(id) => self.resize(size),
            Seen::Resize(..) => {}
            Seen::Gone(id) => {
                self.terminal.viewers.remove(id);
                if self.terminal.pane.as_ref().is_some_and(|pane| pane.id == id) {
                    self.terminal.pane = None;
                    self.log(Event::Warning { text: "its tmux pane is gone; it runs on without".to_owned() }).await;
                }
            }
        }
    }

    /// Gives terminal, screen and recording another size.
    pub(super) fn resize(&mut self, size: Size) {
        let size = size.clamped();
        if let Some(agent) = &self.agent {
            let resized = agent.pty.resize(size);
            self.note_error(resized);
        }
        self.terminal.size = size;
        self.terminal.screen.resize(size);
        self.terminal.recording.resize(size);
    }

    /// Takes a client's request.
    pub(super) async fn take_call(&mut self, call: Call) {
        match call {
            Call::Attach { stream, ahead, columns, rows, read_only } => {
                self.terminal.viewers.add_client(stream, ahead, read_only);
                if !read_only {
                    self.resize(Size { columns, rows });
                }
                let picture = self.terminal.screen.repaint();
                self.terminal.viewers.repaint(&picture);
            }
            Call::Ask { request, answer } => {
                if let Some((reply, answer)) = self.answer(request, answer).await {
                    answer.send(reply).ok();
                }
            }
        }
    }

    /// Answers a request; `None` when the answer comes later.
    async fn answer(
        &mut self,
        request: Request,
        answer: oneshot::Sender<Reply>,
    ) -> Option<(Reply, oneshot::Sender<Reply>)> {
        let reply = match request {
            Request::Hook { call } => {
                let calls = self.snapshots.call_count;
                let reply = self.take_hook(&call).await;
                if calls == self.snapshots.call_count || !self.waits_for_hooks() {
                    reply
                } else {
                    // The agent waits for its hook: until then the next call changes nothing.
                    self.snapshots.held.push(HeldReply { answer, reply, since: Instant::now() });
                    return None;
                }
            }
            // Dropping the answer says that the supervisor ends; who asks then waits for that and starts anew.
            Request::Send { .. } | Request::Mail { .. } | Request::Resume { .. } | Request::Pause { .. }
                if self.machine.is_ending() =>
            {
                return None;
            }
            Request::Mail { id } => {
                self.take_own_mail().await;
                match self.where_is(&id) {
                    Some(reply) => reply,
                    None => {
                        // Answered when a hook says that the message was taken.
                        self.told.unanswered_sends.push(answer);
                        return None;
                    }
                }
            }
            Request::Send { text, returned_at } => {
                let waits = self.machine.send_waits_for();
                let bytes = text.len();
                self.input(Input::Send { text, returned_at }).await;
                match waits {
                    Some(until) => {
                        self.log(Event::MessageQueued { bytes, from: None }).await;
                        let is_saved = self.machine.pending_messages() == self.told.saved_messages;
                        let unsaved = if is_saved { "" } else { "; it could not be written to disk" };
                        Reply::Queued { until: format!("{until}{unsaved}") }
                    }
                    None => {
                        // Answered when a hook says that the message was taken.
                        self.told.unanswered_sends.push(answer);
                        return None;
                    }
                }
            }
            Request::Notice { text } => match self.machine.takes_notices() {
                true => {
                    let bytes = text.len();
                    self.input(Input::Notice { text }).await;
                    self.log(Event::MessageQueued { bytes, from: None }).await;
                    Reply::Ok
                }
                false => Reply::Refused { why: "no turn is under way".to_owned() },
            },
            Request::Pause { now } => {
                self.input(Input::Pause { now }).await;
                Reply::Ok
            }
            Request::Resume { budget } => {
                self.spending.budget = budget.unwrap_or(self.spending.budget);
                self.input(Input::Resume).await;
                Reply::Ok
            }
            Request::Stop { reason, is_failure } => {
                self.told.unanswered_stops.push(answer);
                self.input(if is_failure { Input::GiveUp { reason } } else { Input::Stop { reason } }).await;
                return None;
            }
            Request::Attach { .. } => Reply::Refused { why: "attach was answered before".to_owned() },
        };
        Some((reply, answer))
    }

    /// Whether the agent makes its next call only after the hook of the last one was answered.
    fn waits_for_hooks(&self) -> bool {
        let runtime = self.assignment.handover.agent.runtime;
        matches!(runtime, RuntimeKind::Claude | RuntimeKind::Ollama | RuntimeKind::Replay)
    }

    /// Takes one hook call.
    async fn take_hook(&mut self, call: &HookCall) -> Reply {
        let (events, reply) = self.runtime.hook(call);
        self.take_events(events).await;
        Reply::Hook { stdout: reply.stdout }
    }

    /// A second passed.
    pub(super) async fn take_tick(&mut self) {
        let now = Instant::now();
        if self.agent.is_some() {
            self.poll_runtime().await;
        }
        self.look_at_screen().await;
        self.look_at_tree(now);
        self.tell_stuck().await;
        self.input(Input::Tick).await;
        let mut recorded = self.terminal.recording.flush();
        if self.terminal.recording.is_long() {
            recorded = recorded
                .and_then(|()| self.terminal.recording.begin_anew(self.terminal.size, &self.terminal.screen.repaint()));
        }
        self.note_error(recorded);
        self.spending.work(self.machine.is_working());
        if self.timers.renewing.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(why) = self.end_renewal().await
        {
            self.input(Input::LeaseLost { why }).await;
        }
        if self.machine.is_attempting() {
            if self.spending.is_due() {
                self.charge().await;
            }
            // What is judged to be finished is, however long it takes to hand it over.
            if !self.finishing.as_ref().is_some_and(|finishing| finishing.has_judged()) {
                self.check_limits(self.machine.has_failed_turn()).await;
            }
            self.begin_renewal_if_due(now);
        }
        self.begin_mail_if_due(now);
        self.snapshots.release(HOLD);
        self.begin_snapshot_if_due();
        self.begin_look_if_due();
        if now.duration_since(self.timers.heartbeat) >= HEARTBEAT_EVERY {
            self.beat();
        }
        if self.is_at_rest() {
            self.sources.tick.reset_after(TICK_AT_REST);
            if !std::mem::replace(&mut self.timers.rests, true) {
                process::give_memory_back();
            }
        }
    }

    /// Takes what the agent's own files tell.
    async fn poll_runtime(&mut self) {
        let events = self.runtime.poll(Time::now());
        self.machine.hear(EvidenceSource::StatusFile);
        self.take_events(events).await;
        self.machine.hear(EvidenceSource::Hook);
    }

    /// Evaluates the screen rules when the screen changed.
    async fn look_at_screen(&mut self) {
        if self.terminal.rules.is_empty() || !std::mem::take(&mut self.terminal.has_changed) {
            return;
        }
        let lines = self.terminal.screen.last_lines(RULE_LINES);
        let rule = matching_rule(&self.terminal.rules, &lines);
        let asked = rule.filter(|rule| rule.asks_patience).map(|rule| rule.what.clone());
        let finding = rule.map(|rule| Finding { status: rule.status, what: rule.what.clone(), is_news: rule.is_news });
        // Once for each time that it is shown: the screen is drawn all the time.
        if self.meter.shows_patience(asked.is_some())
            && let Some(why) = asked
        {
            self.pace(&why, None).await;
        }
        self.input(Input::Screen(finding)).await;
    }

    /// Stops or holds at the ticket's wall time, at budgets and at limits of resources; `turn_failed` says that the
    /// agent cannot go on by itself.
    async fn check_limits(&mut self, turn_failed: bool) {
        let spent = self.limit_reached(turn_failed);
        if let Some(input) = spent.or_else(|| self.meter.limit_reached().map(|reason| Input::Limit { reason })) {
            self.input(input).await;
        }
    }

    /// Holds at a budget where that is wanted. One that stops waits for the next second: the agent that ends its work
    /// with the answer that reached it has ended its work.
    async fn hold_at_limit(&mut self) {
        if self.machine.is_attempting()
            && let Some(hold @ Input::Hold { .. }) = self.limit_reached(false)
        {
            self.input(hold).await;
        }
    }

    /// What follows from the limit that was reached.
    fn limit_reached(&self, turn_failed: bool) -> Option<Input> {
        let handover = &self.assignment.handover;
        let limit = handover.ticket.timeout.unwrap_or(handover.limits.timeout);
        if !limit.is_zero() && self.timers.attempt.elapsed() > limit {
            return Some(Input::Limit {
                reason: format!("the wall time limit of {} was reached", duration_text(limit)),
            });
        }
        // Our own loop holds the ticket's money by itself: it may go on with a model that costs nothing.
        let is_held = handover.agent.runtime.is_own() && !turn_failed;
        let reached = self.spending.reached(is_held)?;
        let reason = reached.to_string();
        let is_pause = self.spending.budget.on_reached == OnReached::Pause && !reached.is_far_over();
        Some(if is_pause { Input::Hold { reason } } else { Input::Limit { reason } })
    }

    /// A child changed state: adopts' zombies are collected, and an agent that stopped itself is continued.
    pub(super) fn take_child(&mut self) {
        process::reap_orphans();
        let stopped = self.agent.as_ref().is_some_and(|agent| agent.pty.take_stop());
        if stopped && !self.machine.is_frozen() {
            let continued = self.signal_agent(rustix::process::Signal::CONT);
            self.note_error(continued);
        }
    }

    /// Takes a finished job.
    pub(super) async fn take_job(&mut self, job: Job) {
        match job {
            Job::Snapshot(result) => self.snapshot_done(result).await,
            Job::Finish(finishing, handed_over_fence) => {
                (self.finishing, self.facts.handed_over_fence) = (None, handed_over_fence);
                // The last figures of the turn are known by now.
                self.poll_runtime().await;
                self.facts.checks = finishing.checks;
                self.facts.outside_scope = finishing.outside_scope;
                for event in finishing.events {
                    self.log(event).await;
                }
                self.input(Input::Finish(finishing.report)).await;
            }
            Job::Exited(info) => {
                let (events, ending) = self.runtime.exited(&info, Time::now());
                self.agent = None;
                self.take_events(events).await;
                if let Ending::Finished { .. } = ending {
                    self.end_pace().await;
                }
                self.input(Input::Exited(ending)).await;
            }
            Job::Walked(walk) => self.meter.take_walk(&walk),
            Job::Looked => self.look_ended(),
            Job::MailCame => self.begin_mail(),
            Job::Mail(mail) => self.take_mail(mail).await,
            Job::Gone => self.input(Input::AgentGone).await,
        }
    }
}

/// The sign of progress in an event, as a clause: a provider that is asked again, and what goes wrong, are none.
fn sign_of(event: &AgentEvent) -> Option<&'static str> {
    match event {
        AgentEvent::ToolStarted(_) => Some("a tool call began"),
        AgentEvent::ToolEnded(_) => Some("a tool call ended"),
        AgentEvent::TurnStarted { .. } => Some("a turn began"),
        AgentEvent::TurnEnded { .. } => Some("a turn ended"),
        AgentEvent::Waiting { .. } | AgentEvent::WaitingOver => Some("a person was asked or answered"),
        AgentEvent::SessionStarted { .. } => Some("its conversation began"),
        AgentEvent::Usage(_) | AgentEvent::Display(_) => Some("its model answered"),
        AgentEvent::SessionEnded { .. }
        | AgentEvent::Retry { .. }
        | AgentEvent::Patience { .. }
        | AgentEvent::Note { .. }
        | AgentEvent::Failed { .. } => None,
    }
}

/// Whether a person pressed keys, in contrast to a terminal that answers a query or reports focus.
fn is_typing(bytes: &[u8]) -> bool {
    !bytes.starts_with(b"\x1b") && bytes.iter().any(|byte| *byte >= b' ' || *byte == b'\r')
}
