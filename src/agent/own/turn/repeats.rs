//! Knows when a model goes round in circles: the same call with the same result, and nothing was changed in between.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::agent::own::tools::{Call, Output};
use crate::model::tool_call::ToolOutcome;

/// Calls that are looked back at.
const LOOK_BACK: usize = 24;
/// The model is told from this time on.
const TOLD: usize = 3;
/// The turn is ended at this time.
const ENDED: usize = 8;

/// The calls of a turn since something was changed.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    /// Call and result of each, as a number.
    seen: VecDeque<u64>,
}

/// What is to be said about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Nothing.
    Fine,
    /// It is the same for this many times.
    Again(usize),
    /// Nothing else will come of it.
    TooOften,
}

impl Repeats {
    /// Looks at a call that ended.
    pub(super) fn see(&mut self, call: &Call, output: &Output) -> Sight {
        if matches!(call.tool.as_str(), "Write" | "Edit") && output.outcome == ToolOutcome::Ok {
            self.seen.clear();
        }
        let mut hasher = DefaultHasher::new();
        (&call.tool, call.input.to_string(), &output.text).hash(&mut hasher);
        let number = hasher.finish();
        self.seen.push_back(number);
        if self.seen.len() > LOOK_BACK {
            self.seen.pop_front();
        }
        match self.seen.iter().filter(|seen| **seen == number).count() {
            count if count >= ENDED => Sight::TooOften,
            count if count >= TOLD => Sight::Again(count),
            _ => Sight::Fine,
        }
    }
}
