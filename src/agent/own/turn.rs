//! The turn: a plain state machine from what happens to what is to be done, without clock, disk, model or terminal.
//!
//! A turn goes from a message to an answer in which the model calls no tool. Calls are made one at a time, in their
//! order, and each gets exactly one result, whatever happens. What small models do wrong is told to the model and
//! bounded: unknown tools, inputs that are none, calls as text, the same call again and again, answers with nothing.

mod calls;
mod effect;
mod repeats;
mod understand;

use std::collections::{HashSet, VecDeque};

pub(super) use self::effect::{Choice, Effect, Input, Show};
use self::repeats::Repeats;
use self::understand::{call_of, text_of};
use super::context::Context;
use super::conversation::Entry;
use super::permission::Permission;
use super::report::{Conclusion, Report};
use super::tools::{Call, Output};
use crate::llm::{Answer, Block, ChatError, StopReason, ToolResult, Trouble, Usage};
use crate::model::counted;

/// The window of a model that does not say how large it is.
const WINDOW: u64 = 128_000;
/// How often the model is told that it said nothing, or was cut off.
const NUDGES: u32 = 3;
/// How often the conversation is made shorter because the model does not take it.
const SHRINKS: u32 = 4;

/// What the engine does not change.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Nobody is there to ask.
    pub(super) is_print: bool,
    /// Answers in one turn.
    pub(super) max_turns: u32,
    /// Names of the tools.
    pub(super) tools: Vec<String>,
}

/// Where a turn is.
#[derive(Debug)]
enum State {
    /// None is under way.
    Idle,
    /// The model is asked.
    Asking,
    /// The person is asked about this call.
    Deciding(Call),
    /// This call is made.
    Running(Call),
    /// This call is being ended, because the person interrupted the turn.
    Stopping(Call),
}

/// What is counted during one turn.
#[derive(Debug, Default)]
struct Counts {
    /// Answers.
    answers: u32,
    /// Answers with nothing, or cut off, in a row.
    nudges: u32,
    /// How often the conversation was made shorter for the present request.
    shrinks: u32,
    /// The model made the same call too often.
    is_stuck: bool,
}

/// How a turn ends.
enum End {
    /// The model has nothing more to do.
    Done,
    /// The person ended it.
    Interrupted,
    /// An error; whether it may pass by itself.
    Failed(String, bool),
    /// A limit.
    Limit(String),
}

/// One conversation and its turns.
#[derive(Debug)]
pub(super) struct Engine {
    rules: Rules,
    permission: Permission,
    context: Context,
    /// Tokens of the model, as it says or as was found out.
    window: u64,
    state: State,
    /// Messages that wait for the model.
    queue: Vec<String>,
    /// Calls of the last answer that were not begun.
    pending: VecDeque<Call>,
    counts: Counts,
    repeats: Repeats,
    /// What the conversation used.
    used: Usage,
    /// Ids of all calls.
    ids: HashSet<String>,
    /// Calls that wait for a person.
    left_to_person: Vec<String>,
    /// The last thing the model said.
    last_text: Option<String>,
    effects: Vec<Effect>,
}

impl Engine {
    /// An engine for a new conversation.
    pub(super) fn new(rules: Rules, permission: Permission, context: Context, window: Option<u64>) -> Self {
        Self {
            rules,
            permission,
            context,
            window: window.unwrap_or(WINDOW),
            state: State::Idle,
            queue: Vec::new(),
            pending: VecDeque::new(),
            counts: Counts::default(),
            repeats: Repeats::default(),
            used: Usage { cost_usd: Some(0.0), measured: true, ..Usage::default() },
            ids: HashSet::new(),
            left_to_person: Vec::new(),
            last_text: None,
            effects: Vec::new(),
        }
    }

    /// Goes on where an earlier process left off. Calls without a result get one that says so, and are not made again.
    pub(super) fn restore(&mut self, entries: &[Entry]) -> Vec<Effect> {
        for entry in entries {
            self.context.apply(entry);
            if let Entry::Assistant { blocks, usage, .. } = entry {
                self.add_usage(*usage);
                self.ids.extend(blocks.iter().filter_map(|block| match block {
                    Block::ToolCall { id, .. } => Some(id.clone()),
                    _ => None,
                }));
            }
        }
        for (call_id, name) in self.context.open_calls() {
            let text = "The agent was ended while this call was made or before, and the call was not made again. \
                        Look at what is there before you go on.";
            self.record(Entry::Tool { result: ToolResult { call_id, name, text: text.to_owned(), is_error: true } });
        }
        std::mem::take(&mut self.effects)
    }

    /// What the model gets to read.
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Whether a turn is under way.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// What the conversation used, and the window it has.
    pub(super) fn figures(&self) -> (Usage, u64) {
        (self.used, self.window)
    }

    /// Takes one thing that happened and says what follows. What does not fit the state (an answer that came when it
    /// was not wanted any more) is nothing.
    pub(super) fn handle(&mut self, input: Input) -> Vec<Effect> {
        match (input, std::mem::replace(&mut self.state, State::Idle)) {
            (Input::Message(text), state) => self.message(text, state),
            (Input::Window(window), state) => {
                self.state = state;
                self.window = window.unwrap_or(self.window).max(1000);
            }
            (Input::Restarted(reason), state) => {
                self.state = state;
                self.note_retry(&reason);
            }
            (Input::Answered(answer), State::Asking) => self.answered(answer),
            (Input::Failed(error), State::Asking) => self.failed(&error),
            (Input::Decided(choice), State::Deciding(call)) => self.decided(choice, call),
            (Input::Done { output, duration }, State::Running(call)) => {
                self.end_call(call, output, duration, false);
                self.next_call();
            }
            (Input::Done { output, duration }, State::Stopping(call)) => {
                self.end_call(call, output, duration, false);
                self.end_turn(End::Interrupted);
            }
            (Input::Interrupt, state) => self.interrupt(state),
            (_, state) => self.state = state,
        }
        std::mem::take(&mut self.effects)
    }

    /// A message came. During a turn it waits for the next request; it is told at once that it was taken.
    fn message(&mut self, text: String, state: State) {
        self.effects.push(Effect::Report(Report::TurnStarted { prompt: text.clone(), is_message: true }));
        self.queue.push(text);
        self.state = state;
        if matches!(self.state, State::Idle) {
            self.begin_turn();
        }
    }

    /// Begins a turn with what is queued.
    fn begin_turn(&mut self) {
        self.counts = Counts::default();
        self.repeats = Repeats::default();
        self.last_text = None;
        self.deliver();
        self.ask();
    }

    /// Gives the queued messages to the model.
    fn deliver(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        if !queue.is_empty() {
            self.effects.push(Effect::Show(Show::Delivered(queue.len())));
            self.record(Entry::User { text: queue.join("\n\n"), by_loop: false });
        }
    }

    /// Writes down an entry, and takes it.
    fn record(&mut self, entry: Entry) {
        self.context.apply(&entry);
        self.effects.push(Effect::Record(entry));
    }

    /// Asks the model, after making room.
    fn ask(&mut self) {
        if self.counts.answers >= self.rules.max_turns {
            let reason =
                format!("the turn took {} of the model, which is its limit", counted(self.rules.max_turns, "answer"));
            return self.end_turn(End::Limit(reason));
        }
        self.make_room();
        self.state = State::Asking;
        self.effects.push(Effect::Ask);
    }

    /// Leaves out of the conversation what does not fit.
    fn make_room(&mut self) {
        let before = self.context.tokens();
        let entries = self.context.fit(self.window);
        if entries.is_empty() {
            return;
        }
        entries.into_iter().for_each(|entry| self.record(entry));
        let (now, window) = (self.context.tokens(), self.window);
        let text = format!(
            "older parts of the conversation were left out: about {before} tokens are {now} now, of {window} that fit"
        );
        self.note(text);
    }

    /// Tells the person, and whoever reads the log later.
    fn note(&mut self, text: String) {
        self.effects.push(Effect::Show(Show::Note(text.clone())));
        self.effects.push(Effect::Report(Report::Noted { text }));
    }

    /// Tells that the model is asked again.
    fn note_retry(&mut self, reason: &str) {
        self.effects.push(Effect::Show(Show::Note(reason.to_owned())));
        self.effects.push(Effect::Report(Report::Retrying { reason: reason.to_owned() }));
    }

    /// The model answered.
    fn answered(&mut self, answer: Answer) {
        self.counts = Counts { answers: self.counts.answers + 1, nudges: self.counts.nudges, ..Counts::default() };
        self.add_usage(answer.usage);
        let blocks = self.understand(answer.blocks);
        let said: Vec<&str> = blocks.iter().filter_map(text_of).collect();
        let said = said.join("\n").trim().to_owned();
        let calls: VecDeque<Call> = blocks.iter().filter_map(call_of).collect();
        self.record(Entry::Assistant { blocks, model: answer.model, usage: answer.usage });
        let Usage { input_tokens, output_tokens, cost_usd, measured, .. } = self.used;
        let is_estimated = !measured;
        self.effects.push(Effect::Report(Report::Used { input_tokens, output_tokens, cost_usd, is_estimated }));
        let is_empty = said.is_empty();
        if !is_empty {
            self.last_text = Some(said);
        }
        if !calls.is_empty() {
            self.counts.nudges = 0;
            self.pending = calls;
            return self.next_call();
        }
        match answer.stop {
            StopReason::Refused(word) => {
                self.end_turn(End::Failed(format!("the provider withheld the answer: {word}"), false));
            }
            StopReason::Length => self.nudge("Your answer was cut off at its limit. Go on where it ended."),
            StopReason::End if is_empty => {
                self.nudge("You answered with nothing. Go on with the task, or say in a few words that it is done.");
            }
            StopReason::End if !self.queue.is_empty() => {
                self.deliver();
                self.ask();
            }
            StopReason::End => self.end_turn(End::Done),
        }
    }

    /// Adds up what was used. One unknown price makes the sum unknown.
    fn add_usage(&mut self, usage: Usage) {
        self.used.input_tokens += usage.input_tokens;
        self.used.output_tokens += usage.output_tokens;
        self.used.cached_tokens += usage.cached_tokens;
        self.used.measured &= usage.measured;
        self.used.cost_usd = self.used.cost_usd.zip(usage.cost_usd).map(|(sum, cost)| sum + cost);
    }

    /// Tells the model that its answer does not do, a bounded number of times.
    fn nudge(&mut self, text: &str) {
        self.counts.nudges += 1;
        if self.counts.nudges > NUDGES {
            let reason = format!("the model gave {NUDGES} answers in a row that were empty or cut off");
            return self.end_turn(End::Failed(reason, false));
        }
        self.record(Entry::User { text: text.to_owned(), by_loop: true });
        self.deliver();
        self.ask();
    }

    /// The model could not answer, and whoever asks it has tried again where that made sense.
    fn failed(&mut self, error: &ChatError) {
        if error.trouble == Trouble::TooLong && self.counts.shrinks < SHRINKS {
            self.counts.shrinks += 1;
            // It takes less than was thought, or counts in another way.
            self.window = (self.context.tokens() * 3 / 4).clamp(1000, self.window);
            return self.ask();
        }
        let mut reason = error.to_string();
        if let Some(hint) = &error.hint {
            reason = format!("{reason}; {hint}");
        }
        self.end_turn(match error.trouble {
            Trouble::Budget => End::Limit(reason),
            trouble => End::Failed(reason, trouble.is_transient()),
        });
    }

    /// The person wants the turn to end.
    fn interrupt(&mut self, state: State) {
        match state {
            State::Idle => {}
            State::Asking => {
                self.effects.push(Effect::CancelAsk);
                self.end_turn(End::Interrupted);
            }
            State::Deciding(call) => {
                self.effects.push(Effect::Report(Report::WaitingOver));
                self.effects.push(Effect::QuestionOver);
                let output = Output::interrupted("It was not made: the person interrupted the turn.");
                self.end_call(call, output, std::time::Duration::ZERO, false);
                self.end_turn(End::Interrupted);
            }
            State::Running(call) => {
                self.effects.push(Effect::CancelRun);
                self.state = State::Stopping(call);
            }
            State::Stopping(call) => self.state = State::Stopping(call),
        }
    }

    /// Ends the turn, and begins the next one when the person has said more.
    fn end_turn(&mut self, end: End) {
        self.close_pending("It was not made: the turn was ended before.");
        self.state = State::Idle;
        let last_message = self.last_text.clone();
        let (report, conclusion) = match end {
            End::Done => {
                let left = std::mem::take(&mut self.left_to_person);
                let conclusion = match left.as_slice() {
                    [] => Conclusion::Done,
                    left => Conclusion::NeedsPerson(format!("a person has to decide about: {}", left.join("; "))),
                };
                (Report::TurnEnded { finished: true, last_message }, conclusion)
            }
            End::Interrupted => {
                self.effects.push(Effect::Show(Show::Note("interrupted".to_owned())));
                (Report::TurnEnded { finished: false, last_message }, Conclusion::Signal(2))
            }
            End::Failed(reason, is_for_now) => {
                self.effects.push(Effect::Show(Show::Problem(reason.clone())));
                let conclusion = if is_for_now { Conclusion::FailedForNow } else { Conclusion::Failed };
                (Report::TurnFailed { reason: reason.clone() }, conclusion(reason))
            }
            End::Limit(reason) => {
                self.effects.push(Effect::Show(Show::Problem(reason.clone())));
                (Report::TurnFailed { reason: reason.clone() }, Conclusion::Limit(reason))
            }
        };
        if conclusion == Conclusion::Signal(2) && !self.queue.is_empty() && !self.rules.is_print {
            return self.begin_turn();
        }
        self.effects.push(Effect::Report(report));
        self.effects.push(Effect::TurnOver(conclusion));
    }
}

#[cfg(test)]
mod tests;
