//! Landing through a forge: approved work is pushed and offered as a pull request, and its worker is released when the
//! fetched target has the work by content, whoever merged it and in whatever way.
//!
//! Each call brings one worker as far as it goes now and can be cut off anywhere: what was pushed is told by the remote
//! itself, an open pull request of the branch is found again, and the record beside the worker's logs only says what
//! was pushed last, so that nothing but that is ever replaced.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::forge::{Checks, Forge, ForgeError, ForgeKind, Pull, PullState};
use super::land::Stop;
use super::outcome::Outcome;
use super::{Landing, LandingError};
use crate::files::{Access, FileLock, read_if_exists, write_durably};
use crate::git::{Advance, Held, Pushed, crash_point};
use crate::model::event::Event;
use crate::model::ticket::TicketState;
use crate::model::worker::{Phase, Worker};
use crate::model::{BranchName, CommitId, TicketId, Time, WorkerId, error_text};
use crate::queue::{QueueError, Settlement};
use crate::store::StatePaths;

/// Why the keep ref of a worker was made that landed.
const RELEASE_REASON: &str = "landed as a pull request";

/// Writes title and body of a pull request.
pub(crate) type Describe<'a> = &'a dyn Fn(&Worker) -> Result<(String, String), String>;

/// How to land through a forge.
pub(crate) struct PullOptions<'a> {
    /// The remote.
    pub(crate) remote: &'a str,
    /// The forge.
    pub(crate) forge: &'a Forge,
    /// Writes title and body.
    pub(crate) describe: Describe<'a>,
    /// Stops a worker's supervisor, so that it can be released.
    pub(crate) stop: Stop<'a>,
}

/// What is known of a worker's pull request, kept beside its logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PullRecord {
    /// Version of this shape.
    schema: u32,
    /// Through which program.
    pub(crate) forge: ForgeKind,
    /// The remote.
    pub(crate) remote: String,
    /// The commit that was pushed last.
    pub(crate) pushed: CommitId,
    /// Its number; `None` until it was opened.
    pub(crate) number: Option<u64>,
    /// Its address; empty until it was opened.
    pub(crate) url: String,
    /// Where it was when it was looked at last.
    pub(crate) state: PullState,
    /// How its checks were doing then.
    pub(crate) checks: Checks,
    /// When that was.
    pub(crate) at: Time,
}

impl PullRecord {
    /// Reads a worker's record.
    pub(crate) fn load(paths: &StatePaths, worker: &WorkerId) -> Result<Option<Self>, LandingError> {
        let bytes = read_if_exists(&path(paths, worker))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Writes it.
    fn save(&self, paths: &StatePaths, worker: &WorkerId) -> Result<(), LandingError> {
        let bytes = serde_json::to_vec(self).expect("plain data with string keys always serialises");
        Ok(write_durably(&path(paths, worker), &bytes, Access::Shared)?)
    }

    /// It in a clause.
    pub(crate) fn clause(&self) -> String {
        match self.state {
            PullState::Open => format!("pull request {} is open, {}", self.url, self.checks.clause()),
            PullState::Merged => format!("pull request {} is merged", self.url),
            PullState::Closed => format!("pull request {} was closed", self.url),
        }
    }
}

/// Where a worker's record is.
fn path(paths: &StatePaths, worker: &WorkerId) -> PathBuf {
    paths.worker_dir(worker).join("pull_request.json")
}

/// What became of a worker.
#[derive(Debug)]
pub(crate) enum Offered {
    /// It has an open pull request.
    Open {
        /// It.
        record: PullRecord,
        /// What was done: `opened`, `pushed` (new commits), `found` (one that was there) or `unchanged`.
        action: &'static str,
    },
    /// The target has its work, and it was released.
    Landed(PullLanded),
    /// It had landed before, and its release was cut off and is through now.
    Released,
    /// The remote's target has the dependency that its branch stands on as other commits, so that its own have to be
    /// brought there before they can be offered.
    Behind {
        /// This, as a clause.
        why: String,
        /// Where the remote's target is.
        onto: CommitId,
        /// Its pull request, where it has one.
        record: Option<PullRecord>,
    },
    /// A person is needed.
    Waiting {
        /// Why, as a clause.
        why: String,
        /// Its pull request, where it has one.
        record: Option<PullRecord>,
    },
}

/// Work that the target has.
#[derive(Debug)]
pub(crate) struct PullLanded {
    /// The head of the branch.
    pub(crate) work: CommitId,
    /// Where the remote's target is.
    pub(crate) target: CommitId,
    /// What proved it.
    pub(crate) held: Held,
    /// The keep ref of the worker.
    pub(crate) keep: Option<String>,
    /// What deserves a person's eye.
    pub(crate) warnings: Vec<String>,
}

impl Landing<'_> {
    /// Brings a worker's approved work as far as it goes now.
    ///
    /// # Errors
    /// [`LandingError::NoRemote`], [`LandingError::Forge`] and [`LandingError::PushRefused`]; what was done until then
    /// is found again by the next call.
    pub(crate) fn offer(&self, id: &WorkerId, options: &PullOptions<'_>) -> Result<Offered, LandingError> {
        let remote = options.remote;
        if self.repository.remote_url(remote)?.is_none() {
            return Err(LandingError::NoRemote(remote.to_owned()));
        }
        let worker = self.live_worker(id)?;
        let (branch, target) = (&worker.place.branch, &worker.place.target);
        let is_landed = self.ticket_of(&worker)?.state == TicketState::Landed;
        if is_landed && self.repository.branch_head(branch)?.is_none() {
            let _turn = self.take_turn(&mut |_| ())?;
            self.release(id, RELEASE_REASON)?;
            return Ok(Offered::Released);
        }
        let work = self.head_of(&worker)?;
        let fetched = self.fetched(remote, target)?.ok_or_else(|| LandingError::NoTarget(target.clone()))?;
        self.free_abandoned(&worker)?;
        if !is_landed && let Err(outcome) = self.judge(id)? {
            self.void(id, &outcome)?;
            let why = match outcome {
                Outcome::Waiting(waiting) => waiting.why,
                Outcome::Returned(returned) => returned.why,
                Outcome::Landed(_) => "it has landed".to_owned(),
            };
            return Ok(Offered::Waiting { why, record: PullRecord::load(self.paths, id)? });
        }
        if let Some(held) = self.repository.held_in(&work, &fetched)? {
            return self.settle_pull(&worker, work, fetched, held, options);
        }
        if !is_landed && self.own_commits(&worker, &fetched, &work)?.is_some() {
            let why = format!(
                "`{remote}/{target}` has the dependency that it started from as other commits; \
                 swarm resolve {id} brings only its own there"
            );
            return Ok(Offered::Behind { why, onto: fetched, record: PullRecord::load(self.paths, id)? });
        }
        if is_landed {
            let why = format!("its ticket is landed, but `{remote}/{target}` is not proven to have its work");
            return Ok(Offered::Waiting { why, record: PullRecord::load(self.paths, id)? });
        }
        // Before anything is pushed: whether the forge can be used at all.
        let pulls = options.forge.find(branch)?;
        let before = PullRecord::load(self.paths, id)?;
        if let Some(why) = closed(&pulls, before.as_ref(), &work, target, remote) {
            let record = match before {
                Some(before) => Some(self.look(&worker, before, options)?),
                None => None,
            };
            return Ok(Offered::Waiting { why, record });
        }
        let has_pushed = self.push(&worker, &work, before.as_ref(), options)?;
        crash_point!("branch pushed");
        let open = pulls.into_iter().find(|pull| pull.state == PullState::Open && pull.target == target.as_str());
        let (number, action) = match &open {
            Some(pull) => {
                let is_known = before.as_ref().is_some_and(|before| before.number == Some(pull.number));
                let action = if !is_known {
                    "found"
                } else if has_pushed {
                    "pushed"
                } else {
                    "unchanged"
                };
                (Some(pull.number), action)
            }
            None => {
                let (title, body) = (options.describe)(&worker).map_err(LandingError::Message)?;
                (options.forge.create(branch, target, &title, &body)?, "opened")
            }
        };
        crash_point!("pull request opened");
        let number = number.ok_or_else(|| LandingError::NoPull(options.forge.program()))?;
        let record = self.record(&worker, &work, options.forge.view(number)?, options)?;
        if action != "unchanged" {
            let what = if action == "pushed" { format!("pushed {}", work.short()) } else { action.to_owned() };
            self.note_event(&worker, Event::PullRequest { url: record.url.clone(), what })?;
        }
        if !record.checks.failed.is_empty() {
            return Ok(Offered::Waiting { why: record.clause(), record: Some(record) });
        }
        Ok(Offered::Open { record, action })
    }

    /// Pushes the branch where the remote has not its head; says whether it did. Only what we pushed ourselves, or what
    /// the branch contains, is replaced.
    fn push(
        &self,
        worker: &Worker,
        work: &CommitId,
        before: Option<&PullRecord>,
        options: &PullOptions<'_>,
    ) -> Result<bool, LandingError> {
        let (remote, branch) = (options.remote, &worker.place.branch);
        let there = self.repository.remote_head(remote, branch)?;
        if there.as_ref() == Some(work) {
            return Ok(false);
        }
        let foreign = || LandingError::ForeignCommits { remote: remote.to_owned(), branch: branch.clone() };
        if let Some(there) = &there {
            let is_ours = before.is_some_and(|before| before.remote == remote && before.pushed == *there);
            let is_behind = self.repository.has_commit(there)? && self.repository.is_ancestor(there, work)?;
            if !is_ours && !is_behind {
                return Err(foreign());
            }
        }
        match self.repository.push_branch(remote, branch, work, there.as_ref())? {
            Pushed::Done => {
                let record = match before {
                    Some(before) => PullRecord { remote: remote.to_owned(), pushed: work.clone(), ..before.clone() },
                    None => PullRecord {
                        schema: 1,
                        forge: options.forge.kind,
                        remote: remote.to_owned(),
                        pushed: work.clone(),
                        number: None,
                        url: String::new(),
                        state: PullState::Open,
                        checks: Checks::default(),
                        at: Time::now(),
                    },
                };
                record.save(self.paths, &worker.id)?;
                Ok(true)
            }
            Pushed::Moved => Err(foreign()),
            Pushed::Refused { why } => {
                Err(LandingError::PushRefused { remote: remote.to_owned(), branch: branch.clone(), why })
            }
        }
    }

    /// Writes down what the forge shows.
    fn record(
        &self,
        worker: &Worker,
        pushed: &CommitId,
        pull: Pull,
        options: &PullOptions<'_>,
    ) -> Result<PullRecord, LandingError> {
        // Checks of an older commit say nothing about this one.
        let checks = if pull.is_at(pushed) { pull.checks } else { Checks { pending: 1, ..Checks::default() } };
        let record = PullRecord {
            schema: 1,
            forge: options.forge.kind,
            remote: options.remote.to_owned(),
            pushed: pushed.clone(),
            number: Some(pull.number),
            url: pull.url,
            state: pull.state,
            checks,
            at: Time::now(),
        };
        record.save(self.paths, &worker.id)?;
        Ok(record)
    }

    /// Looks at a pull request again, where it was opened.
    fn look(&self, worker: &Worker, before: PullRecord, options: &PullOptions<'_>) -> Result<PullRecord, LandingError> {
        match before.number {
            Some(number) => self.record(worker, &before.pushed, options.forge.view(number)?, options),
            None => Ok(before),
        }
    }

    /// Takes a ticket back that a dead process left in the middle of landing.
    fn free_abandoned(&self, worker: &Worker) -> Result<(), LandingError> {
        // One that lands now holds the turn for as long as its gates run.
        if self.ticket_of(worker)?.state != TicketState::Landing {
            return Ok(());
        }
        let _turn = self.take_turn(&mut |_| ())?;
        let entry = self.ticket_of(worker)?;
        let has_intent = || self.store.intents().map(|all| all.iter().any(|(_, it)| it.ticket == worker.ticket));
        if entry.state == TicketState::Landing && !has_intent()? {
            self.queue.settle(&worker.ticket, entry.fence, Settlement::DeferLanding)?;
        }
        Ok(())
    }

    /// Takes a ticket from a node that is gone and was writing down that its pull request was merged: whoever has the work
    /// finds that again.
    pub(crate) fn take_pull_from_gone(&self, ticket: &TicketId, fence: u64) -> Result<(), LandingError> {
        match self.queue.settle(ticket, fence, Settlement::DeferLanding) {
            // That node came to its end with it after all.
            Err(QueueError::Stale { .. } | QueueError::Illegal { .. }) => Ok(()),
            settled => Ok(settled.map(drop)?),
        }
    }

    /// Marks the ticket as landed, brings the local target along where it only has to follow, and releases the worker,
    /// unless the work that was proven is no longer all of it. Each step can be done twice.
    fn settle_pull(
        &self,
        worker: &Worker,
        work: CommitId,
        target: CommitId,
        held: Held,
        options: &PullOptions<'_>,
    ) -> Result<Offered, LandingError> {
        let turn = self.take_turn(&mut |_| ())?;
        let entry = self.ticket_of(worker)?;
        let is_same = self.head_of(worker)? == work;
        if !is_same || !matches!(entry.state, TicketState::Approved | TicketState::Landed) {
            let record = PullRecord::load(self.paths, &worker.id)?;
            return Ok(Offered::Waiting { why: "its work changed meanwhile".to_owned(), record });
        }
        let mut warnings = Vec::new();
        if entry.state == TicketState::Approved {
            self.queue.settle(&worker.ticket, entry.fence, Settlement::BeginLanding)?;
            crash_point!("pull landing begun");
            self.queue.settle(&worker.ticket, entry.fence, Settlement::Landed)?;
            let name = format!("{}/{}", options.remote, worker.place.target);
            let commit = held.at.clone().unwrap_or_else(|| target.clone());
            self.note_event(worker, Event::Landed { target: name, commit })?;
        }
        crash_point!("pull landed");
        if let Some(before) = PullRecord::load(self.paths, &worker.id)? {
            // Only for people: work that the target has is landed whatever the forge says.
            match self.look(worker, before, options) {
                Ok(_) | Err(LandingError::Forge(_)) => {}
                Err(error) => return Err(error),
            }
        }
        warnings.extend(self.follow(&worker.place.target, &target, options.remote)?);
        let mut keep = None;
        match (options.stop)(worker)
            .and_then(|()| self.release(&worker.id, RELEASE_REASON).map_err(|error| error_text(&error)))
        {
            Ok(released) => {
                if released.has_uncommitted {
                    let text = "was not committed and did not land; it is kept";
                    warnings.push(format!("part of the work of `{}` {text} in {}", worker.id, released.keep));
                }
                keep = Some(released.keep);
            }
            Err(why) => warnings.push(format!("it was not released: {why}; then run swarm rm {}", worker.id)),
        }
        drop(turn);
        Ok(Offered::Landed(PullLanded { work, target, held, keep, warnings }))
    }

    /// Where a target is on a remote; `None` where that has none of the name. One at a time: each is written down.
    fn fetched(&self, remote: &str, target: &BranchName) -> Result<Option<CommitId>, LandingError> {
        let _alone = FileLock::wait(&self.paths.lock("fetch"))?;
        Ok(self.repository.fetch_branch(remote, target)?)
    }

    /// Brings the local target up to what was merged on a remote since, also by other nodes. What came of it, as a clause;
    /// `None` where there is nothing new.
    pub(crate) fn follow_remote(&self, remote: &str, target: &BranchName) -> Result<Option<String>, LandingError> {
        let Some(there) = self.fetched(remote, target)? else { return Ok(None) };
        let before = self.repository.branch_head(target)?;
        if let Some(why) = self.follow(target, &there, remote)? {
            return Ok(Some(why));
        }
        let has_moved = self.repository.branch_head(target)? != before;
        Ok(has_moved.then(|| format!("`{target}` follows `{remote}/{target}`")))
    }

    /// Brings the local target along where that is only following; says why not otherwise.
    fn follow(&self, target: &BranchName, to: &CommitId, remote: &str) -> Result<Option<String>, LandingError> {
        let Some(from) = self.repository.branch_head(target)? else { return Ok(None) };
        if self.repository.is_ancestor(to, &from)? {
            return Ok(None);
        }
        if !self.repository.is_ancestor(&from, to)? {
            let text = format!("`{target}` has commits that `{remote}/{target}` has not, so it stays where it is");
            return Ok(Some(text));
        }
        match self.repository.advance_target(target, &from, to, "swarm: pull request merged")? {
            Advance::Moved { .. } => Ok(None),
            Advance::MovedUnderneath { .. } => Ok(Some(format!("`{target}` moved meanwhile and was left alone"))),
            Advance::Busy(busy) => {
                let place = busy.worktree.display();
                Ok(Some(format!("`{target}` stays where it is, because {place} has it: {}", busy.why)))
            }
        }
    }

    /// Workers whose pull request may have news: those with a record that are not released.
    pub(crate) fn offered(&self) -> Result<Vec<WorkerId>, LandingError> {
        let workers = self.store.workers()?.into_iter();
        let live = workers.filter(|worker| !matches!(worker.phase, Phase::Released { .. }));
        let mut offered = Vec::new();
        for worker in live {
            if PullRecord::load(self.paths, &worker.id)?.is_some() {
                offered.push(worker.id);
            }
        }
        Ok(offered)
    }
}

/// Why a branch without an open pull request gets no new one.
fn closed(
    pulls: &[Pull],
    before: Option<&PullRecord>,
    work: &CommitId,
    target: &BranchName,
    remote: &str,
) -> Option<String> {
    if pulls.iter().any(|pull| pull.state == PullState::Open && pull.target == target.as_str()) {
        return None;
    }
    let is_ours = |pull: &&Pull| pull.is_at(work) || before.is_some_and(|before| before.number == Some(pull.number));
    let last = pulls.iter().find(is_ours).filter(|_| before.is_none_or(|before| before.pushed == *work))?;
    match last.state {
        PullState::Merged => Some(format!(
            "pull request {} is merged, but `{remote}/{target}` is not proven to have the work: none of the six checks \
             holds; look at it, then swarm rm removes the worker and keeps its work",
            last.url
        )),
        PullState::Closed => Some(format!("pull request {} was closed without being merged; reopen it", last.url)),
        PullState::Open => Some(format!("pull request {} goes to `{}`, not to `{target}`", last.url, last.target)),
    }
}

impl From<ForgeError> for LandingError {
    fn from(error: ForgeError) -> Self {
        Self::Forge(error)
    }
}
