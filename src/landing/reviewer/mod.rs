//! Reviewer agents: each looks at one commit and gives a verdict that counts for that commit only.
//!
//! A reviewer works in a scratch checkout of the commit, so nothing it does touches the worker's worktree, and its
//! files lie in a folder of its own. What it says is read as one block of JSON; an answer that is none, a failure and a
//! timeout are asked about once more and then are `no verdict`, which nothing ever takes for an approval. A run is
//! written down before it begins and when it ends; one that says `running` while nobody holds the lock of the worker's
//! reviewers was cut off, and is `no verdict` as well.

mod ask;
mod verdict;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

pub(crate) use self::ask::Spoken;
use self::ask::Used;
use self::verdict::{Answer, Said, read_answer};
use super::{Landing, LandingError, RemarkPlace, Remarking};
use crate::model::agent::Agent;
use crate::model::budget::BudgetSettings;
use crate::model::event::Event;
use crate::model::providers::ModelSettings;
use crate::model::settings::Limits;
use crate::model::spend::Role;
use crate::model::worker::Worker;
use crate::model::{AgentName, CommitId, RunId, Time};
use crate::store::{Charge, CommentState, Counted, NewComment, ReviewerRun, ReviewerRunId, RunState, Side, clocks};

/// How often a reviewer is asked before it has no verdict.
const TRIES: u32 = 2;

/// One reviewer about to be asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reviewer<'a> {
    /// Who.
    pub(crate) agent: &'a Agent,
    /// Whose work; its place names the checkout in place of the worktree.
    pub(crate) worker: &'a Worker,
    /// The commit.
    pub(crate) commit: &'a CommitId,
    /// A checkout of it.
    pub(crate) checkout: &'a Path,
    /// Where its files go. Absolute, there.
    pub(crate) folder: &'a Path,
    /// What it is asked.
    pub(crate) prompt: &'a str,
    /// Its system prompt, rendered.
    pub(crate) system_prompt: &'a str,
    /// Its whole environment; `marker` is in it.
    pub(crate) env: &'a [(String, String)],
    /// The variable that names `folder` in whatever it starts.
    pub(crate) marker: &'static str,
    /// The main worktree, or the common folder of a bare repository.
    pub(crate) repository: &'a Path,
    /// The git common folder.
    pub(crate) common_dir: &'a Path,
    /// This program, for hooks.
    pub(crate) program: &'a Path,
    /// Durations and sizes.
    pub(crate) limits: &'a Limits,
    /// Who serves models.
    pub(crate) models: &'a ModelSettings,
    /// What its ticket, the run and the day may cost, it included.
    pub(crate) budget: BudgetSettings,
    /// The command that asks, for the spend ledger.
    pub(crate) run: &'a RunId,
    /// Time for one answer.
    pub(crate) timeout: Duration,
    /// Set when nobody waits for the answer any more.
    pub(crate) ends: &'a AtomicBool,
}

impl Landing<'_> {
    /// Writes down that a reviewer begins.
    pub(crate) fn begin_reviewer(
        &self,
        worker: &Worker,
        agent: &AgentName,
        commit: &CommitId,
    ) -> Result<(ReviewerRunId, ReviewerRun), LandingError> {
        let run = ReviewerRun {
            agent: agent.clone(),
            commit: commit.clone(),
            state: RunState::Running,
            tries: 0,
            input_tokens: None,
            output_tokens: None,
            cost_usd: None,
            started_at: Time::now(),
            ended_at: None,
        };
        Ok((self.store.begin_reviewer(&worker.id, &run)?, run))
    }

    /// Asks a reviewer, twice where the first answer is none, and writes down what it found. Its comments become
    /// proposals; those of its earlier runs that nobody took are dropped.
    pub(crate) fn run_reviewer(
        &self,
        reviewer: &Reviewer<'_>,
        id: ReviewerRunId,
        mut run: ReviewerRun,
    ) -> Result<ReviewerRun, LandingError> {
        let answer = match self.ask_twice(reviewer, id, &mut run) {
            Ok(answer) => answer,
            Err(error) => {
                self.end_without(reviewer.worker, id, run, &crate::model::error_text(&error))?;
                return Err(error);
            }
        };
        let comments = match answer {
            Ok(answer) => {
                let comments = self.proposals(reviewer, &answer)?;
                let summary = answer.summary;
                run.state =
                    if answer.approves { RunState::Approves { summary } } else { RunState::Rejects { summary } };
                comments
            }
            Err(why) => return self.end_without(reviewer.worker, id, run, &why),
        };
        let worker = &reviewer.worker.id;
        let by = reviewer.agent.name.as_str();
        self.store.change_comments::<LandingError>(worker, |known| {
            let old = known.iter().filter(|old| old.content.state == CommentState::Proposed && old.content.by == by);
            Ok(old.map(|old| (old.id, CommentState::Dropped)).collect())
        })?;
        run.ended_at = Some(Time::now());
        self.store.end_reviewer(worker, id, &run, &comments)?;
        self.note_reviewer(reviewer.worker, &run, comments.len())?;
        Ok(run)
    }

    /// Writes down that a reviewer gave no verdict.
    pub(crate) fn end_without(
        &self,
        worker: &Worker,
        id: ReviewerRunId,
        run: ReviewerRun,
        why: &str,
    ) -> Result<ReviewerRun, LandingError> {
        let state = RunState::NoVerdict { why: why.to_owned() };
        let run = ReviewerRun { state, ended_at: Some(Time::now()), ..run };
        self.store.end_reviewer(&worker.id, id, &run, &[])?;
        self.note_reviewer(worker, &run, 0)?;
        Ok(run)
    }

    /// The event of a reviewer's end.
    fn note_reviewer(&self, worker: &Worker, run: &ReviewerRun, comments: usize) -> Result<(), LandingError> {
        let event = Event::ReviewerEnded {
            agent: run.agent.to_string(),
            commit: run.commit.clone(),
            verdict: run.state.as_str().to_owned(),
            comments,
            cost_usd: run.cost_usd,
        };
        self.note_event(worker, event)
    }

    /// Asks until there is an answer or it was asked often enough; the inner error says why there is none.
    fn ask_twice(
        &self,
        reviewer: &Reviewer<'_>,
        id: ReviewerRunId,
        run: &mut ReviewerRun,
    ) -> Result<Result<Answer, String>, LandingError> {
        let mut why = String::new();
        let mut session = None;
        while run.tries < TRIES {
            let spent = self.store.spendings(Some(&reviewer.worker.ticket), reviewer.run, &clocks())?.spent;
            if let Some(reached) = reviewer.budget.reached(&spent).filter(|_| run.tries > 0) {
                return Ok(Err(format!("{why}; it is not asked again, because {reached}")));
            }
            let again = format!(
                "Your review could not be used: {why}. Give it again: end with exactly one block of JSON as described, \
                 and nothing after it."
            );
            let prompt = match (run.tries, &session) {
                (0, _) => reviewer.prompt.to_owned(),
                (_, Some(_)) => again,
                (_, None) => format!("{}\n\n{again}\n", reviewer.prompt),
            };
            run.tries += 1;
            let began = Instant::now();
            let spoken = reviewer.ask(&prompt, session.as_deref(), spent.ticket.cost_usd)?;
            count(run, spoken.used);
            self.charge_reviewer(reviewer, id, run, began.elapsed())?;
            let answers = spoken.texts.iter().map(|text| read_answer(text));
            // The likeliest text says best what is wrong, unless another one holds a verdict.
            let answer = answers.reduce(|best, next| if best.is_ok() { best } else { next.or(best) });
            match (spoken.failure, answer) {
                (Some(failure), _) => why = failure,
                (None, Some(Ok(answer))) => return Ok(Ok(answer)),
                (None, Some(Err(wrong))) => why = wrong,
                (None, None) => why = "it said nothing".to_owned(),
            }
            if reviewer.is_ended() {
                break;
            }
            session = spoken.session;
        }
        Ok(Err(why))
    }

    /// Writes what a reviewer used so far into the spend ledger.
    fn charge_reviewer(
        &self,
        reviewer: &Reviewer<'_>,
        id: ReviewerRunId,
        run: &ReviewerRun,
        worked: Duration,
    ) -> Result<(), LandingError> {
        let worker = reviewer.worker;
        let counted = run.input_tokens.zip(run.output_tokens).map(|(input_tokens, output_tokens)| Counted {
            input_tokens,
            output_tokens,
            cost_usd: run.cost_usd,
            is_estimated: false,
        });
        let charge = Charge {
            account: &format!("review:{}:{}", worker.id, id.0),
            role: Role::Reviewer,
            run: reviewer.run,
            ticket: Some(&worker.ticket),
            worker: Some(&worker.id),
            attempt: worker.attempt.number,
            agent: &reviewer.agent.name,
            model: reviewer.agent.model.as_deref().unwrap_or_default(),
            counted,
            worked,
        };
        self.store.charge(&charge, &clocks())?;
        Ok(())
    }

    /// The comments of an answer as proposals. One whose place is not there is about the file as a whole.
    fn proposals(&self, reviewer: &Reviewer<'_>, answer: &Answer) -> Result<Vec<NewComment>, LandingError> {
        let how = Remarking {
            by: reviewer.agent.name.to_string(),
            commit: reviewer.commit.clone(),
            state: CommentState::Proposed,
        };
        let make = |said: &Said| {
            let place = RemarkPlace { file: said.file.clone(), side: Side::New, lines: said.lines };
            let comment = match self.remark(reviewer.worker, &place, &said.text, &how) {
                Ok(comment) => comment,
                Err(
                    LandingError::NoSuchFile { .. } | LandingError::NoSuchLine { .. } | LandingError::NoLines { .. },
                ) => NewComment {
                    ticket: reviewer.worker.ticket.clone(),
                    worker: reviewer.worker.id.clone(),
                    commit: how.commit.clone(),
                    text: format!("{} (it names `{place}`, which is not there)", said.text),
                    file: said.file.clone(),
                    side: Side::New,
                    lines: None,
                    quote: Vec::new(),
                    by: how.by.clone(),
                    severity: None,
                    state: how.state,
                    at: Time::now(),
                },
                Err(error) => return Err(error),
            };
            Ok(NewComment { severity: said.severity.clone(), ..comment })
        };
        answer.comments.iter().map(make).collect()
    }
}

/// Adds what one call used.
fn count(run: &mut ReviewerRun, used: Used) {
    let add = |before: Option<u64>, now: Option<u64>| match (before, now) {
        (Some(before), Some(now)) if !used.is_total => Some(before + now),
        (before, now) => now.or(before),
    };
    run.input_tokens = add(run.input_tokens, used.tokens.map(|tokens| tokens.0));
    run.output_tokens = add(run.output_tokens, used.tokens.map(|tokens| tokens.1));
    run.cost_usd = match (run.cost_usd, used.cost_usd) {
        (Some(before), Some(now)) if !used.is_total => Some(before + now),
        (before, now) => now.or(before),
    };
}
