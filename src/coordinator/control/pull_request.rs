//! `merge --pr`: landing through a forge.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::merge::{MergeProgress, MergeRequest};
use super::{Control, is_released, partial};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{LandedView, MergeView, PullRequestView, VIEW_VERSION, WaitingView};
use crate::landing::{Checks, Forge, ForgeKind, Offered, PullLanded, PullOptions, PullRecord};
use crate::model::WorkerId;
use crate::model::settings::ForgeChoice;
use crate::model::worker::Worker;
use crate::store::{ReviewVerdict, read_live};

/// How often one who waits for the forge looks whether it is still to wait.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Control {
    /// Brings workers' work to their targets by pull requests, as far as it goes now, or with `wait` to the end. The
    /// second value is the failure for the exit code.
    pub(crate) fn merge_by_pull_request(
        &self,
        request: &MergeRequest,
        progress: &mut dyn MergeProgress,
    ) -> Result<(MergeView, Result<(), Failure>), Failure> {
        let settings = self.project.settings()?;
        let forge = self.forge()?;
        let workers = self.offerable(request)?;
        self.approve_by_policy(&workers)?;
        let describe = |worker: &Worker| self.describe(worker).map_err(|failure| failure.chain.join(": "));
        let stop = |worker: &Worker| {
            self.stop_one(worker, "its work landed").map(drop).map_err(|failure| failure.chain.join(": "))
        };
        let options = PullOptions { remote: &settings.landing.remote, forge: &forge, describe: &describe, stop: &stop };
        let mut answers: BTreeMap<WorkerId, Result<Offered, Failure>> = BTreeMap::new();
        let mut first: BTreeMap<WorkerId, &'static str> = BTreeMap::new();
        let deadline = request.timeout.map(|limit| Instant::now() + limit);
        let mut open = workers.clone();
        let mut has_run_out = false;
        let ends = progress.ends();
        while !open.is_empty() {
            for id in &open {
                progress.tell(id.as_str(), "asking the forge");
                let answer = self.offer(id, &options);
                if let Ok(Offered::Open { action, .. }) = &answer {
                    first.entry(id.clone()).or_insert(action);
                }
                answers.insert(id.clone(), answer);
            }
            open.retain(|id| matches!(answers.get(id), Some(Ok(Offered::Open { .. }))));
            if !request.wait || open.is_empty() || ends.load(Ordering::SeqCst) {
                break;
            }
            if deadline.is_some_and(|deadline| Instant::now() + settings.landing.poll > deadline) {
                has_run_out = true;
                break;
            }
            progress.tell("", "waiting for the forge");
            let due = Instant::now() + settings.landing.poll;
            while Instant::now() < due && !ends.load(Ordering::SeqCst) {
                std::thread::sleep(LOOK_EVERY.min(settings.landing.poll));
            }
        }
        let answer = self.answer(&workers, answers, &first, has_run_out)?;
        self.tell_stacked_of(&answer.0);
        self.release_landed(&workers)?;
        self.clear_released();
        Ok(answer)
    }

    /// Brings one worker as far as it goes now. Its own commits are brought to a target that has its dependency as others
    /// where they fit: the forge would merge the branch with all that is on it.
    fn offer(&self, id: &WorkerId, options: &PullOptions<'_>) -> Result<Offered, Failure> {
        let offer = || self.with_landing(|landing| Ok(landing.offer(id, options)?));
        match offer()? {
            Offered::Behind { why, onto, record } => match self.replay(id, &onto)? {
                true => {
                    self.approve_by_policy(std::slice::from_ref(id))?;
                    offer()
                }
                false => Ok(Offered::Waiting { why, record }),
            },
            offered => Ok(offered),
        }
    }

    /// Puts the answers together in the order of the workers.
    fn answer(
        &self,
        workers: &[WorkerId],
        mut answers: BTreeMap<WorkerId, Result<Offered, Failure>>,
        first: &BTreeMap<WorkerId, &'static str>,
        has_run_out: bool,
    ) -> Result<(MergeView, Result<(), Failure>), Failure> {
        let mut view = MergeView {
            version: VIEW_VERSION,
            dry_run: false,
            landed: Vec::new(),
            returned: Vec::new(),
            waiting: Vec::new(),
            settled: Vec::new(),
            pull_requests: Vec::new(),
        };
        let mut failures = Vec::new();
        for id in workers {
            match answers.remove(id) {
                Some(Ok(Offered::Open { record, action })) => {
                    let action = first.get(id).copied().unwrap_or(action);
                    if has_run_out {
                        let text = format!("`{id}`: {} when the time was over", record.clause());
                        failures.push((id.to_string(), Failure::new(FailureKind::TimedOut, text)));
                    }
                    view.pull_requests.push(pull_view(id, &record, action));
                }
                Some(Ok(Offered::Landed(landed))) => view.landed.push(self.pull_landed(id, landed)?),
                Some(Ok(Offered::Released)) => view.settled.extend(self.settled(&self.worker(id.as_str())?)?),
                Some(Ok(Offered::Waiting { why, record } | Offered::Behind { why, record, .. })) => {
                    let text = format!("`{id}` waits: {why}");
                    failures.push((id.to_string(), Failure::new(FailureKind::NeedsPerson, text)));
                    if let Some(record) = record.filter(|record| record.number.is_some()) {
                        view.pull_requests.push(pull_view(id, &record, "unchanged"));
                    }
                    view.waiting.push(WaitingView { worker: id.to_string(), why, gates: Vec::new() });
                }
                Some(Err(failure)) => failures.push((id.to_string(), failure)),
                None => {}
            }
        }
        let done = workers.len() - failures.len();
        Ok((view, partial(done, failures)))
    }

    /// The workers to look at: as named, or every approved one and every one with a pull request.
    fn offerable(&self, request: &MergeRequest) -> Result<Vec<WorkerId>, Failure> {
        if !request.workers.is_empty() {
            let workers = request.workers.iter().map(|name| self.worker(name));
            let mut named = workers.collect::<Result<Vec<_>, _>>()?;
            named.retain(|worker| !is_released(worker));
            return Ok(named.into_iter().map(|worker| worker.id).collect());
        }
        let mut workers = self.landable(request)?;
        for id in self.with_landing(|landing| Ok(landing.offered()?))? {
            if !workers.contains(&id) {
                workers.push(id);
            }
        }
        Ok(workers)
    }

    /// The forge of the configured remote.
    pub(super) fn forge(&self) -> Result<Forge, Failure> {
        let landing = &self.project.settings()?.landing;
        let url = self.project.repository.remote_url(&landing.remote)?;
        let url = url.ok_or(crate::landing::LandingError::NoRemote(landing.remote.clone()))?;
        let kind = match landing.forge {
            ForgeChoice::Gh => ForgeKind::Gh,
            ForgeChoice::Glab => ForgeKind::Glab,
            ForgeChoice::Auto if url.to_ascii_lowercase().contains("gitlab") => ForgeKind::Glab,
            ForgeChoice::Auto => ForgeKind::Gh,
        };
        let folder = self.project.repository.anchor().to_owned();
        Ok(Forge { kind, folder, environment: self.project.call.environment.all() })
    }

    /// Title and body of a pull request: the ticket as it was published, and what speaks for the work.
    fn describe(&self, worker: &Worker) -> Result<(String, String), Failure> {
        let ticket = self.published_ticket(worker)?;
        let title = if ticket.title.trim().is_empty() { ticket.id.to_string() } else { ticket.title.clone() };
        let mut body = format!("{}\n\n## Evidence\n\n", ticket.body.trim());
        for review in self.project.store()?.reviews(&worker.id)? {
            if review.verdict == ReviewVerdict::Approved {
                let said =
                    if review.text.trim().is_empty() { String::new() } else { format!(": {}", review.text.trim()) };
                body.push_str(&format!("- {} was approved by {}{said}\n", review.commit.short(), review.by));
            }
        }
        let live = read_live(&self.project.paths.live(&worker.id))?;
        for check in live.iter().flat_map(|live| &live.checks) {
            body.push_str(&format!("- check `{}` {}\n", check.run, check.clause()));
        }
        if let Some(head) = self.project.repository.branch_head(&worker.place.branch)? {
            let repository = &self.project.repository;
            for commit in repository.commits_between(&repository.own_base(&worker.place, &head)?, &head)? {
                body.push_str(&format!("- {} {}\n", commit.id.short(), commit.subject));
            }
        }
        body.push_str(&format!("\nSwarm-Ticket: {}\nSwarm-Worker: {}\n", worker.ticket, worker.id));
        Ok((title, body))
    }

    /// The view of landed work.
    fn pull_landed(&self, id: &WorkerId, landed: PullLanded) -> Result<LandedView, Failure> {
        let worker = self.worker(id.as_str())?;
        let repository = &self.project.repository;
        let commit = landed.held.at.clone().unwrap_or_else(|| landed.target.clone());
        Ok(LandedView {
            worker: id.to_string(),
            tree: repository.tree_of(&commit)?,
            commit: Some(commit.to_string()),
            tested: None,
            commits: repository.commits_between(&worker.place.base, &landed.work)?.len(),
            target: worker.place.target.to_string(),
            gates: Vec::new(),
            keep: landed.keep,
            check: Some(landed.held.check),
            warnings: landed.warnings,
        })
    }
}

/// The view of a pull request.
pub(super) fn pull_view(worker: &WorkerId, record: &PullRecord, action: &str) -> PullRequestView {
    let Checks { passed, pending, failed } = record.checks.clone();
    PullRequestView {
        worker: worker.to_string(),
        number: record.number,
        url: record.url.clone(),
        state: record.state,
        action: action.to_owned(),
        checks_passed: passed,
        checks_pending: pending,
        checks_failed: failed,
        at: record.at,
    }
}
