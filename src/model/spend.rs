//! What one clone spent, as it tells those that share its queue.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::day::Day;
use super::{AgentName, NodeName, TicketId, Time, WorkerId, cut};

/// Version of the shape of [`SpendReport`].
pub(crate) const SPEND_SCHEMA: u32 = 1;
/// Bytes of a model's name that are kept.
const MODEL_KEPT: usize = 200;
/// Letters of a clone's name, at most.
const CLONE_LETTERS: usize = 64;
/// Tokens and milliseconds of one entry, at most: numbers up to that are exact whatever reads them.
const MOST: u64 = 1 << 53;
/// US dollars of one entry, at most.
const MOST_USD: f64 = 1e9;

/// What one clone spent on one ticket on one day: all of it each time, so that the last report replaces those before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SpendReport {
    /// [`SPEND_SCHEMA`].
    pub(crate) schema: u32,
    /// When it was told.
    pub(crate) at: Time,
    /// What tells the clone from every other one: up to 64 letters, digits and `-`.
    pub(crate) clone: String,
    /// The node that the clone is.
    pub(crate) node: NodeName,
    /// The day, where the clone is: `2026-11-22`.
    pub(crate) day: Day,
    /// The ticket; null of what is about none, as a plan.
    pub(crate) ticket: Option<TicketId>,
    /// How often it changed: a report of a lower number is late. 0 where nobody counts.
    #[serde(default)]
    pub(crate) version: u64,
    /// What it was spent on.
    pub(crate) entries: Vec<SpendEntry>,
}

/// What one attempt, review or plan spent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SpendEntry {
    /// The command or coordinator run that started it.
    pub(crate) run: String,
    /// The worker; null of what is about none.
    pub(crate) worker: Option<WorkerId>,
    /// The worker's attempt.
    pub(crate) attempt: u32,
    /// The agent.
    pub(crate) agent: AgentName,
    /// Its model, as people write it; empty where it names none.
    pub(crate) model: String,
    /// Who spent it.
    pub(crate) role: Role,
    /// Input tokens, cached ones included.
    pub(crate) input_tokens: u64,
    /// Output tokens.
    pub(crate) output_tokens: u64,
    /// US dollars, as far as they are known.
    pub(crate) cost_usd: f64,
    /// Of the tokens those whose price is not known.
    pub(crate) unpriced_tokens: u64,
    /// Of the tokens those that are a guess.
    pub(crate) estimated_tokens: u64,
    /// Time that the agent worked, in milliseconds.
    pub(crate) time_ms: u64,
}

/// Who spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// The agent of a worker.
    Worker,
    /// An agent that reviews the work.
    Reviewer,
    /// An agent that plans tickets.
    Planner,
}

impl Role {
    /// Every one.
    const ALL: [Self; 3] = [Self::Worker, Self::Reviewer, Self::Planner];

    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Reviewer => "reviewer",
            Self::Planner => "planner",
        }
    }

    /// The one of this word.
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl SpendReport {
    /// Reads what a program told, in which nobody is believed to have written what can be added up; `None` of what cannot.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut report: Self = serde_json::from_slice(bytes).ok()?;
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        let is_clone = (1..=CLONE_LETTERS).contains(&report.clone.len()) && report.clone.chars().all(is_name);
        report.day = Day::parse(report.day.as_str())?;
        for entry in &mut report.entries {
            entry.model.retain(|letter| !letter.is_control());
            entry.model = cut(&entry.model, MODEL_KEPT).to_owned();
        }
        (is_clone && report.entries.iter().all(SpendEntry::can_be)).then_some(report)
    }
}

impl SpendEntry {
    /// Whether its figures are some that can be added up.
    fn can_be(&self) -> bool {
        let Self { input_tokens, output_tokens, unpriced_tokens, estimated_tokens, time_ms, .. } = *self;
        let counts = [input_tokens, output_tokens, unpriced_tokens, estimated_tokens, time_ms];
        counts.iter().all(|count| *count <= MOST) && (0.0..=MOST_USD).contains(&self.cost_usd)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A report of a clone whose worker for `ticket` used so many tokens, for so much money.
    pub(crate) fn report(clone: &str, ticket: Option<&str>, input_tokens: u64, cost_usd: f64) -> SpendReport {
        let entry = SpendEntry {
            run: format!("run of {clone}"),
            worker: ticket.map(|ticket| ticket.parse().unwrap()),
            attempt: 1,
            agent: "a".parse().unwrap(),
            model: "m".to_owned(),
            role: Role::Worker,
            input_tokens,
            output_tokens: 0,
            cost_usd,
            unpriced_tokens: 0,
            estimated_tokens: 0,
            time_ms: 0,
        };
        SpendReport {
            schema: SPEND_SCHEMA,
            at: Time::from_millis(0),
            clone: clone.to_owned(),
            node: "far".parse().unwrap(),
            day: Day::parse("2026-11-21").unwrap(),
            ticket: ticket.map(|ticket| ticket.parse().unwrap()),
            version: 0,
            entries: vec![entry],
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::testing::report;
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_told_and_nothing_else_is() {
        let told = report("c1", Some("fix"), 100, 0.5);
        let read = |change: &dyn Fn(&mut Value)| {
            let mut document = serde_json::to_value(&told).unwrap();
            change(&mut document);
            SpendReport::read(document.to_string().as_bytes())
        };
        assert_eq!(read(&|_| {}), Some(told.clone()));
        assert_eq!(read(&|document| document["newer"] = json!(1)), Some(told.clone()), "a newer program says more");
        for (key, value) in [
            ("day", json!("yesterday")),
            ("clone", json!("c/1")),
            ("clone", json!("")),
            ("clone", json!("c".repeat(65))),
            ("ticket", json!("../fix")),
            ("node", json!("\u{1b}[2J")),
        ] {
            assert_eq!(read(&|document| document[key] = value.clone()), None, "{key}: {value}");
        }
        for (key, value) in [
            ("cost_usd", json!(-1.0)),
            ("cost_usd", json!(1e308)),
            ("input_tokens", json!(-1)),
            ("estimated_tokens", json!(1_u64 << 63)),
            ("agent", json!("\n")),
        ] {
            assert_eq!(read(&|document| document["entries"][0][key] = value.clone()), None, "{key}: {value}");
        }
        let shown = read(&|document| document["entries"][0]["model"] = json!("m\u{1b}[2J")).unwrap();
        assert_eq!(shown.entries[0].model, "m[2J");
        assert_eq!(SpendReport::read(b"12 dollars"), None);
    }
}
