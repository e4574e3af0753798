//! Spending: what it is counted in, where its limits are, and when one is reached.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration_text, serde_duration};

/// Spending limits; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Budget {
    /// US dollars.
    pub(crate) usd: Option<f64>,
    /// Input and output tokens together.
    pub(crate) tokens: Option<u64>,
    /// Time that agents work, added up.
    #[serde(with = "serde_duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) time: Option<Duration>,
}

impl Budget {
    /// These limits, and those of `other` where there is none.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { usd: self.usd.or(other.usd), tokens: self.tokens.or(other.tokens), time: self.time.or(other.time) }
    }

    /// Why these limits cannot be; `None` when they can.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let usd = self.usd.is_none_or(|usd| usd > 0.0 && usd.is_finite());
        let positive = usd && self.tokens != Some(0) && self.time != Some(Duration::ZERO);
        (!positive).then_some("a limit must be more than zero")
    }

    /// The first limit that `spent` has reached.
    pub(crate) fn reached(&self, scope: Scope, spent: &Spend) -> Option<Reached> {
        let reached = |limit, spent| Some(Reached { scope, limit, spent });
        let usd = self.usd.filter(|usd| spent.cost_usd >= *usd);
        let tokens = self.tokens.filter(|tokens| spent.tokens() >= *tokens);
        let time = self.time.filter(|time| spent.time >= *time);
        match (usd, tokens, time) {
            (Some(usd), ..) => reached(Amount::Usd(usd), Amount::Usd(spent.cost_usd)),
            (_, Some(tokens), _) => reached(Amount::Tokens(tokens), Amount::Tokens(spent.tokens())),
            (.., Some(time)) => reached(Amount::Time(time), Amount::Time(spent.time)),
            (None, None, None) => None,
        }
    }
}

/// The budgets of a repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BudgetSettings {
    /// All work on one ticket, reviewers included, where the ticket says nothing itself.
    pub(crate) ticket: Budget,
    /// One command that starts workers, or one run of the coordinator.
    pub(crate) run: Budget,
    /// One local day, everything together.
    pub(crate) day: Budget,
    /// What happens to an agent when one is reached.
    pub(crate) on_reached: OnReached,
}

impl BudgetSettings {
    /// The first limit that something has reached; the ticket's own before the others.
    pub(crate) fn reached(&self, spent: &Spendings) -> Option<Reached> {
        let ticket = self.ticket.reached(Scope::Ticket, &spent.ticket);
        let run = || self.run.reached(Scope::Run, &spent.run);
        ticket.or_else(run).or_else(|| self.day.reached(Scope::Day, &spent.day))
    }

    /// Whether anything is limited anywhere.
    pub(crate) fn is_limited(&self) -> bool {
        [self.ticket, self.run, self.day].iter().any(|budget| *budget != Budget::default())
    }

    /// Whether time is limited anywhere.
    pub(crate) fn limits_time(&self) -> bool {
        [self.ticket, self.run, self.day].iter().any(|budget| budget.time.is_some())
    }

    /// Whether money is limited anywhere.
    pub(crate) fn limits_money(&self) -> bool {
        [self.ticket, self.run, self.day].iter().any(|budget| budget.usd.is_some())
    }
}

/// What happens to an agent that reaches a budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnReached {
    /// It is stopped, with its work kept.
    #[default]
    Stop,
    /// It is held when its turn ends; one that spends a quarter more before that is stopped.
    Pause,
}

/// What a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// One ticket.
    Ticket,
    /// One run.
    Run,
    /// One day.
    Day,
}

impl Scope {
    /// The word for it, as in settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Run => "run",
            Self::Day => "day",
        }
    }
}

/// What was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Spend {
    /// Input tokens, cached ones included.
    pub(crate) input_tokens: u64,
    /// Output tokens.
    pub(crate) output_tokens: u64,
    /// US dollars, as far as they are known.
    pub(crate) cost_usd: f64,
    /// Of the tokens those whose price is not known.
    pub(crate) unpriced_tokens: u64,
    /// Time that agents worked.
    pub(crate) time: Duration,
}

impl Spend {
    /// Input and output together.
    pub(crate) fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cost_usd: self.cost_usd + other.cost_usd,
            unpriced_tokens: self.unpriced_tokens.saturating_add(other.unpriced_tokens),
            time: self.time.saturating_add(other.time),
        }
    }
}

/// What was spent on one ticket, in its run, and today.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Spendings {
    /// On the ticket, ever.
    pub(crate) ticket: Spend,
    /// In the run.
    pub(crate) run: Spend,
    /// Today.
    pub(crate) day: Spend,
}

/// An amount of something that is limited.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Amount {
    /// US dollars.
    Usd(f64),
    /// Tokens.
    Tokens(u64),
    /// Time.
    Time(Duration),
}

impl Amount {
    /// The key of its limit in settings.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Usd(_) => "usd",
            Self::Tokens(_) => "tokens",
            Self::Time(_) => "time",
        }
    }

    /// This as a part of `whole`.
    fn share_of(self, whole: Self) -> f64 {
        match (self, whole) {
            (Self::Usd(part), Self::Usd(whole)) => part / whole,
            (Self::Tokens(part), Self::Tokens(whole)) => part as f64 / whole as f64,
            (Self::Time(part), Self::Time(whole)) => part.as_secs_f64() / whole.as_secs_f64(),
            _ => 0.0,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usd(usd) => f.write_str(&usd_text(*usd)),
            Self::Tokens(tokens) => write!(f, "{} tokens", grouped(*tokens)),
            Self::Time(time) => write!(f, "{} of work", duration_text(*time)),
        }
    }
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reached {
    /// Whose.
    pub(crate) scope: Scope,
    /// The limit.
    pub(crate) limit: Amount,
    /// What was spent.
    pub(crate) spent: Amount,
}

impl Reached {
    /// Whether so much more was spent that no agent gets to the end of its turn.
    pub(crate) fn is_far_over(&self) -> bool {
        self.spent.share_of(self.limit) >= 1.25
    }

    /// How a person raises it.
    pub(crate) fn how_to_raise(&self) -> String {
        let key = self.limit.key();
        match self.scope {
            Scope::Ticket => format!(
                "raise `budget: {{{key}: N}}` in the ticket's file, or `budget.ticket.{key}` in .swarm/config.yaml"
            ),
            scope => {
                let scope = scope.as_str();
                format!("raise `budget.{scope}.{key}` in .swarm/config.yaml, or once: --config budget.{scope}.{key}=N")
            }
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.scope {
            Scope::Ticket => "the ticket's",
            Scope::Run => "this run's",
            Scope::Day => "today's",
        };
        write!(f, "{whose} budget of {} was reached ({} spent)", self.limit, spent_text(self.spent))
    }
}

/// An amount beside one of its kind.
fn spent_text(amount: Amount) -> String {
    match amount {
        Amount::Usd(usd) => usd_text(usd),
        Amount::Tokens(tokens) => grouped(tokens),
        Amount::Time(time) => duration_text(time),
    }
}

/// Dollars for a person: cents, and below one as much as it takes to be more than nothing.
pub(crate) fn usd_text(usd: f64) -> String {
    if usd > 0.0 && usd < 0.005 { format!("${usd:.4}") } else { format!("${usd:.2}") }
}

/// A number with its thousands apart: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(input_tokens: u64, cost_usd: f64, seconds: u64) -> Spend {
        Spend { input_tokens, cost_usd, time: Duration::from_secs(seconds), ..Spend::default() }
    }

    #[test]
    fn a_limit_is_reached_when_all_of_it_is_spent() {
        let budget = Budget { usd: Some(2.0), tokens: Some(1_000), time: Some(Duration::from_secs(90)) };
        assert_eq!(budget.reached(Scope::Day, &spend(999, 1.99, 89)), None);
        let says = |spent| budget.reached(Scope::Day, &spent).unwrap().to_string();
        assert_eq!(says(spend(0, 2.5, 0)), "today's budget of $2.00 was reached ($2.50 spent)");
        assert_eq!(says(spend(1_000, 0.0, 0)), "today's budget of 1,000 tokens was reached (1,000 spent)");
        assert_eq!(says(spend(0, 0.0, 90)), "today's budget of 1m 30s of work was reached (1m 30s spent)");
        assert_eq!(Budget::default().reached(Scope::Day, &spend(u64::MAX, 1e9, u64::MAX)), None);
    }

    #[test]
    fn the_tickets_own_budget_is_told_first_and_says_how_to_raise_it() {
        let small = Budget { tokens: Some(10), ..Budget::default() };
        let settings = BudgetSettings { ticket: small, run: small, day: small, on_reached: OnReached::Stop };
        let much = spend(11, 0.0, 0);
        let reached = |ticket, run| settings.reached(&Spendings { ticket, run, day: much }).unwrap();
        assert_eq!(reached(much, much).scope, Scope::Ticket);
        assert_eq!(reached(Spend::default(), much).scope, Scope::Run);
        let day = reached(Spend::default(), Spend::default());
        assert!(day.how_to_raise().contains("--config budget.day.tokens=N"), "{}", day.how_to_raise());
    }

    #[test]
    fn limits_fall_back_one_by_one() {
        let ticket = Budget { usd: Some(1.0), ..Budget::default() };
        let settings = Budget { usd: Some(5.0), tokens: Some(7), time: None };
        assert_eq!(ticket.or(settings), Budget { usd: Some(1.0), tokens: Some(7), time: None });
        assert!(Budget { time: Some(Duration::ZERO), ..ticket }.fault().is_some());
        assert!(Budget { usd: Some(f64::INFINITY), ..ticket }.fault().is_some());
    }

    #[test]
    fn amounts_read_well() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.0012, 0.25, 1234.5].map(usd_text), ["$0.00", "$0.0012", "$0.25", "$1234.50"]);
    }
}
