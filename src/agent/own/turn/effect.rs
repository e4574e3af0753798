//! What happens to a turn, and what is to be done then.

use std::time::Duration;

use crate::agent::own::conversation::Entry;
use crate::agent::own::report::{Conclusion, Report};
use crate::agent::own::tools::{Call, Output};
use crate::llm::{Answer, ChatError};

/// What a person says to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent::own) enum Choice {
    /// Do it.
    Yes,
    /// Do it, and do not ask again about the same.
    Always,
    /// Do not.
    No,
}

/// Something that happened.
#[derive(Debug)]
pub(in crate::agent::own) enum Input {
    /// A message for the model.
    Message(String),
    /// The model answered.
    Answered(Answer),
    /// The model could not.
    Failed(ChatError),
    /// The answer begins anew.
    Restarted(String),
    /// The model says how many tokens it takes.
    Window(Option<u64>),
    /// The person decided.
    Decided(Choice),
    /// A tool is done.
    Done {
        /// What it came to.
        output: Output,
        /// How long it took.
        duration: Duration,
    },
    /// The person wants the turn to end.
    Interrupt,
}

/// Something that is to be done, in order.
#[derive(Debug, PartialEq)]
pub(in crate::agent::own) enum Effect {
    /// Add a line to the conversation file.
    Record(Entry),
    /// Tell the supervisor.
    Report(Report),
    /// Tell the person.
    Show(Show),
    /// Ask the model with [`super::Engine::context`].
    Ask,
    /// Give up the answer that is under way.
    CancelAsk,
    /// Ask the person about a call.
    Question(Call),
    /// Nobody is asked any more.
    QuestionOver,
    /// Do what a call says.
    Run(Call),
    /// End the call that is under way; its output comes all the same.
    CancelRun,
    /// The turn is over; so it ends where the process ends with it.
    TurnOver(Conclusion),
}

/// Something for the person to see.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::agent::own) enum Show {
    /// A call is about to be made.
    Call(Call),
    /// A call ended.
    Result(Call, Output),
    /// The loop did something that the person should know.
    Note(String),
    /// Something is wrong.
    Problem(String),
    /// A queued message is given to the model now.
    Delivered(usize),
}
