//! Reviewer agents: who is asked, with what, and what they found.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::review::Remark;
use super::{Control, is_released};
use crate::config::{self, SpawnDepth, Template, agent_environment};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{ActionView, ActionsView, ReviewerView, ReviewerWord, VIEW_VERSION};
use crate::files::FileLock;
use crate::git::CommitInfo;
use crate::landing::{LandingError, NewReview, Reviewer};
use crate::model::briefing::Briefing;
use crate::model::settings::Approval;
use crate::model::ticket::Ticket;
use crate::model::worker::Worker;
use crate::model::{AgentName, CommitId, WorkerId};
use crate::process;
use crate::store::{CommentState, ReviewerRun, RunState};
use crate::supervisor::MARKER;

/// Bytes of a difference that a reviewer's prompt holds; the whole prompt of every runtime fits one argument.
const DIFF_BYTES: usize = 64 * 1024;

/// Why a reviewer has no verdict whose process was killed.
const CUT_OFF: &str = "it was cut off";

/// What one reviewer's run needs besides the agent.
struct Request<'a> {
    /// Whose work.
    worker: &'a Worker,
    /// Their ticket.
    ticket: &'a Ticket,
    /// The commit.
    commit: &'a CommitId,
    /// What it started from.
    base: &'a CommitId,
    /// Set when nobody waits for an answer any more.
    ends: &'a AtomicBool,
}

impl Control {
    /// Asks reviewers about a worker's work as it is now: those named, or those of its ticket that have given no verdict
    /// on this commit. Each answers within `review.timeout`; when `ends` is set, it is ended. The second value is the failure for the exit code: a
    /// rejection is an answer, no verdict is not.
    pub(crate) fn ask_reviewers(
        &self,
        name: &str,
        named: &[String],
        ends: &AtomicBool,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(ActionsView, Result<(), Failure>), Failure> {
        let worker = self.worker(name)?;
        if is_released(&worker) {
            return Err(LandingError::IsReleased(worker.id).into());
        }
        self.check_day_budget()?;
        let _turn = self.take_reviewers_turn(&worker, tell)?;
        self.end_cut_off(&worker)?;
        let ticket = self.published_ticket(&worker)?;
        let commit = self.head(&worker)?;
        let agents = self.reviewers_to_ask(&worker, &ticket, &commit, named)?;
        let base = self.project.repository.own_base(&worker.place, &commit)?;
        if base == commit {
            let text = format!("worker `{}` has no commit to review", worker.id);
            return Err(Failure::new(FailureKind::NeedsPerson, text));
        }
        let request = Request { worker: &worker, ticket: &ticket, commit: &commit, base: &base, ends };
        let mut view = ActionsView { version: VIEW_VERSION, done: Vec::new(), failed: Vec::new() };
        let mut failures = Vec::new();
        for agent in agents {
            tell(&format!("asking {agent} about {}", commit.short()));
            match self.ask_reviewer(&agent, &request) {
                Ok(run) => match answer(&worker, &agent, &run) {
                    Ok(action) => view.done.push(action),
                    Err(failure) => failures.push((agent.to_string(), failure)),
                },
                Err(failure) => failures.push((agent.to_string(), failure)),
            }
            if ends.load(Ordering::SeqCst) {
                break;
            }
        }
        self.share_spend();
        view.failed = failures.iter().map(|(agent, failure)| failure.view(agent)).collect();
        let result = super::partial(view.done.len(), failures);
        Ok((view, result))
    }

    /// Asks the reviewers of finished work whom nobody asked, or whose process was killed: the supervisor that asks them
    /// otherwise died before, or was another node's, or the work is finished because the agent after it was passed over.
    pub(in crate::coordinator) fn ask_unasked(&self, id: &WorkerId, ends: &AtomicBool) -> Result<(), Failure> {
        if self.misses_reviewers(id)? {
            self.ask_reviewers(id.as_str(), &[], ends, &mut |_| {})?.1?;
        }
        Ok(())
    }

    /// Whether finished work has reviewers who have said nothing about it, and nobody is asking any.
    pub(in crate::coordinator) fn misses_reviewers(&self, id: &WorkerId) -> Result<bool, Failure> {
        let worker = self.worker(id.as_str())?;
        if !self.is_in_review(&worker)? || FileLock::is_held(&self.project.paths.reviewers_lock(id))? {
            return Ok(false);
        }
        let store = self.project.store()?;
        // Between two agents of a ring there is nothing to be judged.
        if store.token(&worker.ticket)?.is_some_and(|token| !token.is_over(worker.attempt.fence, &worker.agent)) {
            return Ok(false);
        }
        let head = self.head(&worker)?;
        let asked = self.reviewers_of(&self.published_ticket(&worker)?)?;
        let runs = store.reviewer_runs(id)?;
        let has_answered = |agent: &AgentName| {
            let last = runs.iter().rev().find(|(_, run)| run.agent == *agent);
            last.is_some_and(|(_, run)| run.commit == head && run.state != RunState::Running)
        };
        Ok(!asked.iter().all(has_answered))
    }

    /// Waits until nobody else asks reviewers about this work; theirs may be an older commit, so what is to be done is
    /// seen only after that.
    fn take_reviewers_turn(&self, worker: &Worker, tell: &mut dyn FnMut(&str)) -> Result<FileLock, Failure> {
        let path = self.project.paths.reviewers_lock(&worker.id);
        if let Some(lock) = FileLock::try_take(&path)? {
            return Ok(lock);
        }
        tell(&format!("waiting: other reviewers of {} are being asked", worker.id));
        Ok(FileLock::wait(&path)?)
    }

    /// Ends what runs left whose process was killed, and writes them down as such. Only under the lock of the worker's
    /// reviewers: there nobody else's runs are alive.
    fn end_cut_off(&self, worker: &Worker) -> Result<(), Failure> {
        let runs = self.project.store()?.reviewer_runs(&worker.id)?;
        for (id, run) in runs.into_iter().filter(|(_, run)| run.state == RunState::Running) {
            let folder = self.project.paths.reviewer_dir(&worker.id, id.0);
            process::stop_marked(MARKER, &folder.to_string_lossy(), self.project.settings_or_default().limits.grace)?;
            self.with_landing(|landing| Ok(landing.end_without(worker, id, run, CUT_OFF)?))?;
        }
        Ok(())
    }

    /// The reviewers of a ticket: its own, else the configured ones.
    pub(super) fn reviewers_of(&self, ticket: &Ticket) -> Result<Vec<AgentName>, Failure> {
        Ok(match &ticket.reviewers {
            Some(reviewers) => reviewers.clone(),
            None => self.project.settings()?.review.agents.clone(),
        })
    }

    /// Who is to be asked now.
    fn reviewers_to_ask(
        &self,
        worker: &Worker,
        ticket: &Ticket,
        commit: &CommitId,
        named: &[String],
    ) -> Result<Vec<AgentName>, Failure> {
        if !named.is_empty() {
            return Ok(named.iter().map(|name| name.parse()).collect::<Result<_, _>>()?);
        }
        let mut agents = self.reviewers_of(ticket)?;
        if agents.is_empty() {
            let failure = Failure::new(FailureKind::Usage, format!("ticket `{}` has no reviewers", ticket.id));
            return Err(failure.hint("name one: --ask code-reviewer, or set `review.agents` in .swarm/config.yaml"));
        }
        let runs = self.project.store()?.reviewer_runs(&worker.id)?;
        let has_verdict = |agent: &AgentName| {
            let last = runs.iter().rev().find(|(_, run)| run.agent == *agent && run.commit == *commit);
            last.is_some_and(|(_, run)| matches!(run.state, RunState::Approves { .. } | RunState::Rejects { .. }))
        };
        agents.retain(|agent| !has_verdict(agent));
        Ok(agents)
    }

    /// Asks one reviewer. What keeps it from being asked is written down as `no verdict` too.
    fn ask_reviewer(&self, name: &AgentName, request: &Request<'_>) -> Result<ReviewerRun, Failure> {
        let (id, run) =
            self.with_landing(|landing| Ok(landing.begin_reviewer(request.worker, name, request.commit)?))?;
        let folder = self.project.paths.reviewer_dir(&request.worker.id, id.0);
        let may_begin = self.check_budgets(request.ticket, &self.run);
        match may_begin.and_then(|()| self.prepare_reviewer(name, request, &folder)) {
            Ok(prepared) => {
                let reviewer = prepared.reviewer(self, request, &folder)?;
                self.with_landing(|landing| Ok(landing.run_reviewer(&reviewer, id, run)?))
            }
            Err(failure) => {
                let why = failure.chain.join(": ");
                self.with_landing(|landing| Ok(landing.end_without(request.worker, id, run, &why)?))?;
                Err(failure)
            }
        }
    }

    /// Makes everything a reviewer needs.
    fn prepare_reviewer(&self, name: &AgentName, request: &Request<'_>, folder: &Path) -> Result<Prepared, Failure> {
        let agent = self.ready_agent(name)?;
        crate::files::make_folder(folder)?;
        let own = &request.worker.place.worktree;
        let parent = own.parent().ok_or_else(|| LandingError::BadPlace(own.clone()))?;
        let checkout = self.project.repository.scratch_worktree(request.commit, parent)?;
        let mut worker = request.worker.clone();
        worker.place.worktree = checkout.path().to_owned();
        worker.place.base = request.base.clone();
        let prompt = self.review_request(&worker, request)?;
        let briefing = Briefing::new(&worker, request.ticket, self.project.repository.anchor());
        let system_prompt = config::render_system_prompt(&agent, &briefing)?;
        let env = self.reviewer_environment(&agent, &worker, request.commit, folder)?;
        let models = self.project.settings()?.for_models();
        Ok(Prepared { agent, checkout, worker, prompt, system_prompt, env, models })
    }

    /// The prompt of a reviewer.
    fn review_request(&self, worker: &Worker, request: &Request<'_>) -> Result<String, Failure> {
        let repository = &self.project.repository;
        let patch = repository.patch_text(request.base, request.commit)?;
        let cut = patch.char_indices().map(|(at, _)| at).take_while(|at| *at <= DIFF_BYTES).last().unwrap_or(0);
        let is_cut = patch.len() > DIFF_BYTES;
        let comments = self.project.store()?.comments(&worker.id)?;
        let made = |state| matches!(state, CommentState::Sent | CommentState::Open);
        let variables = ReviewVariables {
            commit: request.commit.to_string(),
            body: &request.ticket.body,
            checklist: request.ticket.checklist(),
            commits: repository.commits_between(request.base, request.commit)?,
            comments: comments.iter().filter(|comment| made(comment.content.state)).map(Remark::from).collect(),
            diff: if is_cut { &patch[..cut] } else { &patch },
            is_cut,
        };
        self.render(Template::ReviewRequest, worker, request.ticket, variables)
    }

    /// The allow-listed environment with what tells a reviewer where it is. It names no supervisor, so what its hooks
    /// tell is kept in its folder.
    fn reviewer_environment(
        &self,
        agent: &crate::model::agent::Agent,
        worker: &Worker,
        commit: &CommitId,
        folder: &Path,
    ) -> Result<Vec<(String, String)>, Failure> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let own = [
            (MARKER, text(folder.to_owned())),
            ("SWARM_TICKET", worker.ticket.to_string()),
            ("SWARM_WORKER", worker.id.to_string()),
            ("SWARM_AGENT_NAME", agent.name.to_string()),
            ("SWARM_RUN", self.run.as_str().to_owned()),
            ("SWARM_WORKTREE", text(worker.place.worktree.clone())),
            ("SWARM_REPO", text(self.project.repository.anchor().to_owned())),
            ("SWARM_BRANCH", worker.place.branch.to_string()),
            ("SWARM_BASE", worker.place.base.to_string()),
            ("SWARM_COMMIT", commit.to_string()),
            ("SWARM_TARGET_BRANCH", worker.place.target.to_string()),
            ("SWARM_PROMPT_FILE", text(folder.join("prompt.md"))),
            ("TERM", "dumb".to_owned()),
        ];
        let mut own: Vec<_> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        own.extend(SpawnDepth::of(&self.project.call.environment, &self.project.settings()?.limits).below());
        Ok(agent_environment(&self.project.call.environment, self.project.settings()?, agent, &own))
    }

    /// Whether there is work that needs no person to land.
    pub(super) fn approves_without_person(&self) -> Result<bool, Failure> {
        let settings = self.project.settings()?;
        Ok(settings.landing.approval == Approval::Auto || settings.review.agents_approve)
    }

    /// Approves what may land without a person: with `landing.approval: auto` everything whose checks passed, with
    /// `review.agents_approve` what has reviewers. In both cases every reviewer must have approved that very commit, and
    /// a required checklist must be ticked. Answers those that could not be judged, and why: they keep nobody else from
    /// landing.
    pub(super) fn approve_by_policy(&self, workers: &[WorkerId]) -> Result<Vec<(WorkerId, Failure)>, Failure> {
        let mut failures = Vec::new();
        if self.approves_without_person()? {
            for id in workers {
                failures.extend(self.approve_one(id).err().map(|failure| (id.clone(), failure)));
            }
        }
        Ok(failures)
    }

    /// The same for one worker.
    fn approve_one(&self, id: &WorkerId) -> Result<(), Failure> {
        let worker = self.worker(id.as_str())?;
        if !self.is_in_review(&worker)? {
            return Ok(());
        }
        let settings = self.project.settings()?;
        let is_auto = settings.landing.approval == Approval::Auto;
        let head = self.head(&worker)?;
        let asked = self.reviewers_of(&self.published_ticket(&worker)?)?;
        let views = self.reviewer_views(&worker, &head)?;
        let approves = |view: &ReviewerView| view.is_current && view.verdict == ReviewerWord::Approve;
        let all_approve =
            views.iter().filter(|view| asked.iter().any(|name| name.as_str() == view.agent)).all(approves);
        let checklist = match settings.review.require_checklist {
            true => self.with_landing(|landing| Ok(landing.require_checklist(&worker, &head)?)).is_ok(),
            false => true,
        };
        if !all_approve || !checklist || (asked.is_empty() && !is_auto) {
            return Ok(());
        }
        let names: Vec<_> = asked.iter().map(AgentName::as_str).collect();
        let (by, text) = if asked.is_empty() {
            ("policy".to_owned(), "landing.approval is auto and its checks passed".to_owned())
        } else {
            (format!("reviewers {}", names.join(", ")), "its checks passed and every reviewer approves".to_owned())
        };
        let review = NewReview { by, text, commit: Some(head) };
        self.with_landing(|landing| Ok(landing.approve(id, review)?))?;
        Ok(())
    }

    /// What the reviewers of a worker's ticket found last, and those who were asked besides.
    pub(super) fn reviewer_views(&self, worker: &Worker, head: &CommitId) -> Result<Vec<ReviewerView>, Failure> {
        let ticket = self.published_ticket(worker)?;
        let runs = self.project.store()?.reviewer_runs(&worker.id)?;
        let is_asking = FileLock::is_held(&self.project.paths.reviewers_lock(&worker.id))?;
        let mut agents = self.reviewers_of(&ticket)?;
        for (_, run) in &runs {
            if !agents.contains(&run.agent) {
                agents.push(run.agent.clone());
            }
        }
        let newest = runs.last().map(|(id, _)| *id);
        let views = agents.into_iter().map(|agent| {
            let own: Vec<_> = runs.iter().filter(|(_, run)| run.agent == agent).collect();
            let is_running = own.last().is_some_and(|(id, _)| is_asking && Some(*id) == newest);
            let own: Vec<_> = own.into_iter().map(|(_, run)| run).collect();
            reviewer_view(&agent, &own, is_running, head)
        });
        Ok(views.collect())
    }
}

/// A reviewer about to be asked; its checkout goes with it.
struct Prepared {
    /// Who.
    agent: crate::model::agent::Agent,
    /// Where it looks.
    checkout: crate::git::ScratchWorktree,
    /// The worker as it sees it.
    worker: Worker,
    /// What it is asked.
    prompt: String,
    /// Its system prompt.
    system_prompt: String,
    /// Its environment.
    env: Vec<(String, String)>,
    /// Who serves models.
    models: crate::model::providers::ModelSettings,
}

impl Prepared {
    /// What landing needs of it.
    fn reviewer<'a>(
        &'a self,
        control: &'a Control,
        request: &'a Request<'_>,
        folder: &'a Path,
    ) -> Result<Reviewer<'a>, Failure> {
        let project = &control.project;
        let settings = project.settings()?;
        Ok(Reviewer {
            agent: &self.agent,
            worker: &self.worker,
            commit: request.commit,
            checkout: self.checkout.path(),
            folder,
            prompt: &self.prompt,
            system_prompt: &self.system_prompt,
            env: &self.env,
            marker: MARKER,
            repository: project.repository.anchor(),
            common_dir: project.repository.common_dir(),
            program: &project.call.program,
            limits: &settings.limits,
            models: &self.models,
            budget: control.budget_of(request.ticket)?,
            run: &control.run,
            timeout: settings.review.timeout,
            ends: request.ends,
        })
    }
}

/// The variables of `review_request.md` besides the common ones.
#[derive(Serialize)]
struct ReviewVariables<'a> {
    commit: String,
    body: &'a str,
    checklist: Vec<String>,
    commits: Vec<CommitInfo>,
    comments: Vec<Remark>,
    diff: &'a str,
    is_cut: bool,
}

/// What a reviewer answered, or the failure that no verdict is.
fn answer(worker: &Worker, agent: &AgentName, run: &ReviewerRun) -> Result<ActionView, Failure> {
    let (action, text) = match &run.state {
        RunState::Approves { summary } => ("approve", format!("{agent} approves: {summary}")),
        RunState::Rejects { summary } => ("reject", format!("{agent} asks for changes: {summary}")),
        RunState::NoVerdict { why } => {
            return Err(Failure::new(FailureKind::Failed, format!("{agent} gave no verdict: {why}")));
        }
        RunState::Running => return Err(Failure::new(FailureKind::Internal, format!("{agent} has not ended"))),
    };
    Ok(ActionView { worker: worker.id.to_string(), action: action.to_owned(), text })
}

/// The last run of a reviewer as a view, with what all of them used.
fn reviewer_view(agent: &AgentName, runs: &[&ReviewerRun], is_running: bool, head: &CommitId) -> ReviewerView {
    let last = runs.last();
    let (verdict, summary) = match last.map(|run| &run.state) {
        None => (ReviewerWord::NotAsked, String::new()),
        Some(RunState::Running) if is_running => (ReviewerWord::Running, String::new()),
        Some(RunState::Running) => (ReviewerWord::NoVerdict, CUT_OFF.to_owned()),
        Some(RunState::Approves { summary }) => (ReviewerWord::Approve, summary.clone()),
        Some(RunState::Rejects { summary }) => (ReviewerWord::Reject, summary.clone()),
        Some(RunState::NoVerdict { why }) => (ReviewerWord::NoVerdict, why.clone()),
    };
    let sum = |used: fn(&ReviewerRun) -> Option<u64>| runs.iter().filter_map(|run| used(run)).reduce(|a, b| a + b);
    ReviewerView {
        agent: agent.to_string(),
        verdict,
        summary,
        commit: last.map(|run| run.commit.to_string()),
        is_current: last.is_some_and(|run| run.commit == *head),
        tries: last.map_or(0, |run| run.tries),
        input_tokens: sum(|run| run.input_tokens),
        output_tokens: sum(|run| run.output_tokens),
        cost_usd: runs.iter().filter_map(|run| run.cost_usd).reduce(|a, b| a + b),
        ended_at: last.and_then(|run| run.ended_at),
    }
}
