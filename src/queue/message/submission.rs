//! A ticket as another program hands it in.

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{ConfigError, derive_title, parse_ticket, ticket_text};
use crate::model::budget::Budget;
use crate::model::ticket::{Dependency, DependencyKind, StartFrom, Ticket};
use crate::model::{AgentName, TicketId, serde_duration};

/// The priority of a ticket that names none.
const PRIORITY: u8 = 5;
/// Attempts of a ticket that names no number.
const ATTEMPTS: u32 = 2;

/// A ticket to be queued. Only an id (`id` or `task_id`) and something to do (`body`, `description` or `title`) are needed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct Submission {
    /// Its id.
    id: Option<TicketId>,
    /// The same.
    task_id: Option<TicketId>,
    /// Names this message: what is sent again with the same key is one ticket. Without it the header `Nats-Msg-Id` does.
    pub(crate) key: Option<String>,
    /// One line; null is the first line of the text.
    title: Option<String>,
    /// What is to be done; the prompt of an agent.
    body: Option<String>,
    /// The same.
    description: Option<String>,
    /// The agent to use; null is the configured default.
    agent: Option<AgentName>,
    /// Null is 5.
    priority: Option<Priority>,
    /// What has to end first.
    depends_on: Vec<Need>,
    /// The same.
    blocked_by: Vec<Need>,
    /// Whether it may start from a dependency's branch; null is the target.
    start_from: Option<StartFrom>,
    /// What its holder must offer.
    capabilities: Vec<String>,
    /// Glob patterns of the files it means to touch.
    scope: Vec<String>,
    /// Shell commands run in the worktree before review.
    checks: Vec<String>,
    /// What a person ticks before approval.
    checklist: Vec<String>,
    /// The agents that review the work; null is the configured ones.
    reviewers: Option<Vec<AgentName>>,
    /// Where the branch starts; null is the target.
    base: Option<String>,
    /// The branch it lands on; null is the configured target.
    target: Option<String>,
    /// Wall time of one attempt, such as `30m`; null is the configured limit.
    #[serde(with = "serde_duration::option")]
    #[schemars(with = "Option<String>")]
    timeout: Option<Duration>,
    /// Attempts before it is dead; null is 2.
    max_attempts: Option<u32>,
    /// Spending limits.
    budget: Budget,
    /// Free words for people.
    labels: Vec<String>,
    /// Whether its agent is told of work that conflicts with its own; null is the configured choice.
    tell_overlaps: Option<bool>,
}

/// A priority as a number or a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Priority {
    /// 1 to 10, higher first.
    Number(u8),
    /// By name.
    Word(PriorityWord),
}

/// A priority by name; `urgent` is critical and `normal` medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PriorityWord {
    /// 10.
    #[serde(alias = "urgent")]
    Critical,
    /// 8.
    High,
    /// 5.
    #[serde(alias = "normal")]
    Medium,
    /// 2.
    Low,
}

impl PriorityWord {
    /// The word for a number.
    pub(super) fn of(number: u8) -> Self {
        match number {
            9.. => Self::Critical,
            7..=8 => Self::High,
            4..=6 => Self::Medium,
            _ => Self::Low,
        }
    }

    /// Its number.
    fn number(self) -> u8 {
        match self {
            Self::Critical => 10,
            Self::High => 8,
            Self::Medium => PRIORITY,
            Self::Low => 2,
        }
    }
}

/// What a ticket waits for: an id, or with its kind.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Need {
    /// That it succeeds.
    Id(TicketId),
    /// The whole.
    Whole(Dependency),
}

/// Why a message is no ticket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// It is not of the shape.
    #[error("it is not the JSON of a ticket")]
    Shape(#[from] serde_json::Error),
    /// It has no id, or two.
    #[error("`id` and `task_id` are one: it needs exactly one of them")]
    Id,
    /// It says the same thing twice.
    #[error("`{0}` and `{1}` are one, and they differ")]
    Twice(&'static str, &'static str),
    /// A value is not good.
    #[error(transparent)]
    Value(#[from] ConfigError),
}

impl Submission {
    /// Reads a message.
    pub(crate) fn read(message: &[u8]) -> Result<Self, Unusable> {
        Ok(serde_json::from_slice(message)?)
    }

    /// The ticket, checked as its file would be.
    pub(crate) fn ticket(self) -> Result<Ticket, Unusable> {
        let id = one(self.id, self.task_id, ("id", "task_id"))?.ok_or(Unusable::Id)?;
        let body = one(self.body, self.description, ("body", "description"))?;
        let body = body.filter(|body| !body.trim().is_empty());
        let body = body.or_else(|| self.title.clone()).unwrap_or_default();
        let needs = self.depends_on.into_iter().chain(self.blocked_by).map(|need| match need {
            Need::Id(ticket) => Dependency { ticket, kind: DependencyKind::Success },
            Need::Whole(dependency) => dependency,
        });
        let mut depends_on: Vec<Dependency> = Vec::new();
        for need in needs {
            if !depends_on.contains(&need) {
                depends_on.push(need);
            }
        }
        let priority = self.priority.map_or(PRIORITY, |priority| match priority {
            Priority::Number(number) => number,
            Priority::Word(word) => word.number(),
        });
        let ticket = Ticket {
            title: self.title.unwrap_or_else(|| derive_title(&body)),
            agent: self.agent,
            priority,
            depends_on,
            start_from: self.start_from,
            capabilities: self.capabilities,
            scope: self.scope,
            checks: self.checks,
            checklist: self.checklist,
            reviewers: self.reviewers,
            base: self.base,
            target: self.target,
            timeout: self.timeout,
            max_attempts: self.max_attempts.unwrap_or(ATTEMPTS),
            budget: self.budget,
            labels: self.labels,
            tell_overlaps: self.tell_overlaps,
            body,
            id,
        };
        Ok(parse_ticket(Path::new(&format!("{}.md", ticket.id)), &ticket_text(&ticket))?)
    }
}

/// What two names of one thing say.
fn one<T: PartialEq>(
    own: Option<T>,
    alias: Option<T>,
    names: (&'static str, &'static str),
) -> Result<Option<T>, Unusable> {
    match (own, alias) {
        (Some(own), Some(alias)) if own != alias => Err(Unusable::Twice(names.0, names.1)),
        (own, alias) => Ok(own.or(alias)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The ticket of a message.
    fn ticket(message: &Value) -> Result<Ticket, Unusable> {
        Submission::read(message.to_string().as_bytes())?.ticket()
    }

    #[test]
    fn the_names_of_other_boards_make_a_whole_ticket() {
        let message = json!({
            "task_id": "fix-1", "title": "Fix it", "description": "Find the cause.\nMend it.",
            "blocked_by": ["lexer", {"ticket": "docs", "kind": "completion"}], "priority": "high", "created_by": "x",
        });
        let made = ticket(&message).unwrap();
        let needs: Vec<_> = made.depends_on.iter().map(|need| (need.ticket.as_str(), need.kind)).collect();
        assert_eq!(needs, [("lexer", DependencyKind::Success), ("docs", DependencyKind::Completion)]);
        let shown = (made.id.as_str(), made.title.as_str(), made.body.as_str(), made.priority);
        assert_eq!(shown, ("fix-1", "Fix it", "Find the cause.\nMend it.", 8));
        // A whole ticket of ours is one, too.
        let again = serde_json::to_value(&made).unwrap();
        assert_eq!(ticket(&again).unwrap(), made);
    }

    #[test]
    fn a_word_or_a_number_is_a_priority_and_one_line_is_enough_to_do() {
        for (priority, number) in
            [(json!("critical"), 10), (json!("urgent"), 10), (json!("normal"), 5), (json!("low"), 2), (json!(7), 7)]
        {
            assert_eq!(ticket(&json!({"id": "a", "title": "Do", "priority": priority})).unwrap().priority, number);
        }
        let plain = ticket(&json!({"id": "a", "body": "# Mend\n\nNow."})).unwrap();
        assert_eq!((plain.title.as_str(), plain.priority, plain.max_attempts), ("Mend", 5, 2));
        assert_eq!(ticket(&json!({"id": "a", "title": "Do"})).unwrap().body, "Do");
        for number in 1..=10 {
            let word = PriorityWord::of(number);
            assert_eq!(PriorityWord::of(word.number()), word);
        }
    }

    #[test]
    fn what_is_no_ticket_says_why() {
        let said = |message: Value| crate::model::error_text(&ticket(&message).unwrap_err());
        for (message, part) in [
            (json!({"title": "Do"}), "it needs exactly one of them"),
            (json!({"id": "a", "task_id": "b", "title": "Do"}), "`id` and `task_id` are one, and they differ"),
            (json!({"id": "../a", "title": "Do"}), "`../a` is not a ticket id"),
            (json!({"id": "a"}), "the ticket has no text"),
            (json!({"id": "a", "title": "Do", "priority": 11}), "expected a number from 1 to 10"),
            (json!({"id": "a", "title": "Do", "base": "-x"}), "`-x` is not a revision"),
            (json!({"id": "a", "title": "Do", "blocked_by": ["a"]}), "a ticket cannot wait for itself"),
            (json!([1]), "it is not the JSON of a ticket"),
        ] {
            let said = said(message.clone());
            assert!(said.contains(part), "{message}: {said}");
        }
    }
}
