//! The calls of an answer: judged, asked about, made one after the other, and each given its one result.

use std::time::Duration;

use super::repeats::Sight;
use super::{Choice, Effect, End, Engine, Show, State};
use crate::agent::display::subject;
use crate::agent::own::conversation::Entry;
use crate::agent::own::permission::Verdict;
use crate::agent::own::report::{Report, ToolReport};
use crate::agent::own::tools::{Call, Output, floor};
use crate::llm::ToolResult;
use crate::model::tool_call::ToolOutcome;

/// Longest error in a report, in bytes.
const ERROR_LIMIT: usize = 2000;

impl Engine {
    /// Begins the next call, or asks the model when there is none.
    pub(super) fn next_call(&mut self) {
        if self.counts.is_stuck {
            let reason = "the model made the same call with the same result again and again".to_owned();
            return self.end_turn(End::Failed(reason, false));
        }
        let Some(call) = self.pending.pop_front() else {
            self.deliver();
            return self.ask();
        };
        let (call_id, tool, input) = (call.id.clone(), call.tool.clone(), call.input.clone());
        self.effects.push(Effect::Report(Report::ToolStarted { call_id, tool, input }));
        self.effects.push(Effect::Show(Show::Call(call.clone())));
        if !self.rules.tools.contains(&call.tool) {
            let text = format!("There is no tool `{}`. The tools are: {}.", call.tool, self.rules.tools.join(", "));
            return self.refuse(call, Output::error(text));
        }
        if !call.input.is_object() {
            let text = "The input of this call was no JSON object, so it was not made. Call again with a proper one.";
            return self.refuse(call, Output::error(text));
        }
        match self.permission.judge(&call) {
            Verdict::Allow => self.run(call),
            Verdict::Deny { reason } => self.refuse(call, Output::denied(reason)),
            Verdict::Ask { rule } if self.rules.is_print => self.leave_to_person(call, rule.as_deref()),
            Verdict::Ask { .. } => {
                let what = format!("permission for {} {}", call.tool, subject(&call.input)).trim_end().to_owned();
                self.effects.push(Effect::Report(Report::Waiting { what }));
                self.effects.push(Effect::Question(call.clone()));
                self.state = State::Deciding(call);
            }
        }
    }

    /// Makes a call.
    fn run(&mut self, call: Call) {
        self.effects.push(Effect::Run(call.clone()));
        self.state = State::Running(call);
    }

    /// Ends a call that is not made, and goes on.
    fn refuse(&mut self, call: Call, output: Output) {
        self.end_call(call, output, Duration::ZERO, false);
        self.next_call();
    }

    /// Refuses a call about which nobody can be asked.
    fn leave_to_person(&mut self, call: Call, rule: Option<&str>) {
        let why = match rule {
            Some(rule) => format!("The rule `{rule}` lets only a person decide this"),
            None => "No rule allows this, so a person would have to decide it".to_owned(),
        };
        let text = format!(
            "{why}, and nobody is there to ask. Go on without it, and say at the end what is left for a person to do."
        );
        let by_rule = rule.is_some();
        if by_rule {
            self.left_to_person.push(format!("{} {}", call.tool, subject(&call.input)).trim_end().to_owned());
        }
        self.end_call(call, Output::denied(text), Duration::ZERO, by_rule);
        self.next_call();
    }

    /// The person decided about a call.
    pub(super) fn decided(&mut self, choice: Choice, call: Call) {
        self.effects.push(Effect::Report(Report::WaitingOver));
        self.effects.push(Effect::QuestionOver);
        match choice {
            Choice::Yes => self.run(call),
            Choice::Always => {
                self.permission.allow_always(&call);
                self.run(call);
            }
            Choice::No => {
                let text = "The person does not want this. Do it in another way, or ask what they want.";
                self.refuse(call, Output::denied(text));
            }
        }
    }

    /// Writes down and tells what a call came to.
    pub(super) fn end_call(&mut self, call: Call, mut output: Output, duration: Duration, by_ask_rule: bool) {
        let is_error = output.outcome != ToolOutcome::Ok;
        let sight = self.repeats.see(&call, &output);
        if let Sight::Again(count) = sight {
            let note = format!(
                "\n\n[This is the same call with the same result for the {count}th time. Do something else, or say why you \
                 cannot go on.]"
            );
            output.text.push_str(&note);
        }
        let result =
            ToolResult { call_id: call.id.clone(), name: call.tool.clone(), text: output.text.clone(), is_error };
        self.record(Entry::Tool { result });
        let cut = floor(&output.text, ERROR_LIMIT);
        self.effects.push(Effect::Report(Report::ToolEnded(ToolReport {
            call_id: call.id.clone(),
            outcome: output.outcome,
            error: is_error.then(|| output.text[..cut].to_owned()),
            exit_code: output.exit_code,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            output_bytes: output.bytes,
            by_ask_rule,
        })));
        self.effects.push(Effect::Show(Show::Result(call, output)));
        self.counts.is_stuck |= sight == Sight::TooOften;
    }

    /// Gives the calls that were not begun their results.
    pub(super) fn close_pending(&mut self, text: &str) {
        for call in std::mem::take(&mut self.pending) {
            let (call_id, name) = (call.id, call.tool);
            self.record(Entry::Tool { result: ToolResult { call_id, name, text: text.to_owned(), is_error: true } });
        }
    }
}
