//! What CI is told about a run: one case a ticket, with its reason and evidence.

use std::time::Duration;

use crate::coordinator::Failure;
use crate::model::Time;

/// A run.
#[derive(Debug, Clone)]
pub(super) struct Report {
    /// Its id; empty where it never began.
    pub(super) run: String,
    /// When it began.
    pub(super) began_at: Time,
    /// When it ended.
    pub(super) ended_at: Time,
    /// Its exit code.
    pub(super) exit_code: u8,
    /// How it ended, as a clause.
    pub(super) why: String,
    /// Its tickets.
    pub(super) cases: Vec<Case>,
    /// What kept it from beginning, where something did.
    pub(super) broken: Option<String>,
}

/// A ticket of a run.
#[derive(Debug, Clone)]
pub(super) struct Case {
    /// Its id.
    pub(super) ticket: String,
    /// Its title.
    pub(super) title: String,
    /// Its file within the repository, where it has one.
    pub(super) file: Option<String>,
    /// Where it is in the queue.
    pub(super) state: String,
    /// The agent of its worker, where it had one.
    pub(super) agent: Option<String>,
    /// Its worker, where it had one.
    pub(super) worker: Option<String>,
    /// The branch of its worker.
    pub(super) branch: Option<String>,
    /// Attempts begun.
    pub(super) attempts: u32,
    /// How long its workers ran; unknown where nobody says.
    pub(super) took: Option<Duration>,
    /// US dollars of its last attempt, where they are known.
    pub(super) cost_usd: Option<f64>,
    /// How it went.
    pub(super) verdict: Verdict,
}

/// How a ticket of a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It reached its end.
    Made,
    /// It failed.
    Failed(Reason),
    /// It was begun and did not reach its end.
    Unfinished(Reason),
    /// It was never begun; why, as a clause.
    NotStarted(String),
}

/// Why a ticket did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    /// As a clause.
    pub(super) why: String,
    /// What it rests on: failed checks, the end of what the terminal showed. Several lines.
    pub(super) evidence: String,
}

impl Verdict {
    /// One word.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Made => "made it",
            Self::Failed(_) => "failed",
            Self::Unfinished(_) => "unfinished",
            Self::NotStarted(_) => "not started",
        }
    }

    /// Why it did not reach its end.
    pub(super) fn why(&self) -> Option<&str> {
        match self {
            Self::Made => None,
            Self::Failed(reason) | Self::Unfinished(reason) => Some(&reason.why),
            Self::NotStarted(why) => Some(why),
        }
    }
}

impl Report {
    /// The report of a run that could not begin.
    pub(super) fn broken(failure: &Failure, began_at: Time) -> Self {
        Self {
            run: String::new(),
            began_at,
            ended_at: Time::now(),
            exit_code: failure.kind.exit_code(),
            why: "the run could not begin".to_owned(),
            cases: Vec::new(),
            broken: Some(failure.chain.join(": ")),
        }
    }

    /// How many cases there are of a kind.
    pub(super) fn count(&self, is: impl Fn(&Verdict) -> bool) -> usize {
        self.cases.iter().filter(|case| is(&case.verdict)).count()
    }

    /// How long it took.
    pub(super) fn took(&self) -> Duration {
        self.began_at.age_at(self.ended_at)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A case of each kind, with what makes documents and terminals break.
    pub(crate) fn report() -> Report {
        let began_at = Time::from_millis(1_763_719_200_000);
        let case = |ticket: &str, verdict| Case {
            ticket: ticket.to_owned(),
            title: format!("The \"{ticket}\" & <more>"),
            file: Some(format!(".swarm/tickets/{ticket}.md")),
            state: "landed".to_owned(),
            agent: Some("writer".to_owned()),
            worker: Some(ticket.to_owned()),
            branch: Some(format!("swarm/{ticket}")),
            attempts: 1,
            took: Some(Duration::from_millis(1_500)),
            cost_usd: None,
            verdict,
        };
        let reason = |why: &str| Reason {
            why: why.to_owned(),
            evidence: "\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}\u{0}\u{fffe}]]> 100%\n::error::no\r\nend".to_owned(),
        };
        let unstarted = Case {
            file: None,
            agent: None,
            worker: None,
            branch: None,
            attempts: 0,
            took: None,
            ..case("later", Verdict::NotStarted("waits for `bad`, which failed".to_owned()))
        };
        Report {
            run: "0f0f".to_owned(),
            began_at,
            ended_at: began_at.after(Duration::from_secs(75)),
            exit_code: 3,
            why: "1 of 4 tickets made it".to_owned(),
            cases: vec![
                case("good", Verdict::Made),
                case("bad", Verdict::Failed(reason("its agent ended with | exit code 3,\nand \u{1b}[2J said: no"))),
                case("late", Verdict::Unfinished(reason("the time was over"))),
                unstarted,
            ],
            broken: None,
        }
    }
}
