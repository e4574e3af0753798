//! An error on its way out of a provider, before it is known which model it belongs to.

use super::{ChatError, Trouble};

/// What went wrong, and what can be done.
#[derive(Debug)]
pub(super) struct Fault {
    /// What to do about it, for programs.
    pub(super) trouble: Trouble,
    /// What was seen, one clause.
    pub(super) message: String,
    /// What to do about it, for a person: a whole sentence.
    pub(super) hint: Option<String>,
    /// The command in the hint that fixes it, if one does.
    pub(super) command: Option<String>,
    /// What lay beneath.
    pub(super) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// A fault without advice.
    pub(super) fn new(trouble: Trouble, message: impl Into<String>) -> Self {
        Self { trouble, message: message.into(), hint: None, command: None, source: None }
    }

    /// Adds advice.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds advice that ends in a command.
    pub(super) fn fix(mut self, what: &str, command: impl Into<String>) -> Self {
        let command = command.into();
        self.hint = Some(format!("{what} `{command}`."));
        self.command = Some(command);
        self
    }

    /// Adds the cause.
    pub(super) fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The error of a model's request.
    pub(super) fn of(self, model: impl Into<String>) -> ChatError {
        ChatError {
            model: model.into(),
            trouble: self.trouble,
            message: self.message,
            hint: self.hint,
            source: self.source,
        }
    }
}
