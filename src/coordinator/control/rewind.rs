//! `rewind`: going back to the state after a tool call.

use super::{Control, is_released};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{CommitView, RewindView, VIEW_VERSION};
use crate::git::{CallStates, RewindTo, StateOf};
use crate::landing::RewindPlan;
use crate::model::tool_call::{ToolBody, ToolRecord};
use crate::model::worker::{Liveness, Phase, Status, Worker};
use crate::store::read_log;

/// What `rewind` was asked for.
#[derive(Debug, Clone)]
pub(crate) struct RewindRequest {
    /// The worker.
    pub(crate) worker: String,
    /// The call: the number of one of its records, or its id.
    pub(crate) to: String,
    /// Change nothing.
    pub(crate) dry_run: bool,
}

/// A tool call as the log has it.
struct LoggedCall {
    /// Number of its start; of its end where the start is missing.
    number: u64,
    /// Number of its end.
    end: Option<u64>,
    /// Its tool.
    tool: String,
}

impl Control {
    /// Brings a worker's worktree and branch back to the state after a tool call.
    pub(crate) fn rewind(&self, request: &RewindRequest) -> Result<RewindView, Failure> {
        let worker = self.worker(&request.worker)?;
        let is_living = self.check_rewindable(&worker)?;
        let log = read_log::<ToolRecord>(&self.project.paths.tool_calls(&worker.id))?;
        let call = find_call(&log.records, &request.to, &worker)?;
        let end = call.end.ok_or_else(|| {
            let text = format!("call #{} ({}) of `{}` has not ended", call.number, call.tool, worker.id);
            Failure::new(FailureKind::Failed, text).hint("name a call before it")
        })?;
        let repository = &self.project.repository;
        let known = repository.call_states(&worker.id)?;
        let to = goal(&worker, &known, end, call.number)?;
        let state = known.after(end);
        let head = repository.branch_head(&worker.place.branch)?.ok_or_else(|| {
            let text = format!("the branch `{}` of worker `{}` is gone", worker.place.branch, worker.id);
            Failure::new(FailureKind::Failed, text).hint(format!("swarm rm {} keeps what is left", worker.id))
        })?;
        let left = repository.commits_between(&to.head, &head)?;
        let plan = RewindPlan {
            call: call.number,
            last_record: log.records.iter().map(|record| record.seq).max().unwrap_or(0),
            to,
            states: self.project.settings()?.recover.snapshots,
        };
        let mut view = RewindView {
            version: VIEW_VERSION,
            dry_run: request.dry_run,
            worker: worker.id.to_string(),
            call: call.number,
            tool: call.tool,
            saved_at: state.map(|state| state.at),
            state_of: state.and_then(|state| last_call(&log.records, &state.of)),
            from: head.to_string(),
            to: plan.to.head.to_string(),
            left: left
                .into_iter()
                .map(|commit| CommitView { id: commit.id.to_string(), subject: commit.subject, author: commit.author })
                .collect(),
            files: 0,
            keep: None,
        };
        if request.dry_run {
            let now = repository.snapshot(&worker.place.worktree, &worker.id, &worker.place.made_paths, false)?;
            view.files = repository.count_changes(&now.commit, &plan.to.files)?;
            return Ok(view);
        }
        let rewound = self.with_landing(|landing| Ok(landing.rewind(&worker.id, &plan, is_living)?))?;
        (view.files, view.keep, view.from) = (rewound.files, Some(rewound.keep), rewound.from.to_string());
        Ok(view)
    }

    /// Refuses while anything may be changing files; says whether a supervisor lives.
    fn check_rewindable(&self, worker: &Worker) -> Result<bool, Failure> {
        let id = &worker.id;
        if is_released(worker) {
            let text = format!("worker `{id}` was released; its worktree is gone");
            return Err(Failure::new(FailureKind::Failed, text)
                .hint(format!("swarm recover restore {id} brings its work back")));
        }
        let known = self.know(worker.clone(), None);
        let is_living = known.liveness == Liveness::Alive;
        let at_rest = matches!(known.verdict.status, Status::Paused | Status::Idle | Status::Done);
        if is_living && !at_rest {
            let text = format!("worker `{id}` is {}: {}", known.verdict.status.as_str(), known.verdict.reason);
            let failure = Failure::new(FailureKind::NeedsPerson, text);
            return Err(failure.hint(format!("hold it first: swarm pause {id} --now, or swarm stop {id}")));
        }
        if !is_living && !matches!(known.worker.phase, Phase::Ended { .. }) {
            let text = format!("worker `{id}` is {}: {}", known.verdict.status.as_str(), known.verdict.reason);
            let failure = Failure::new(FailureKind::Failed, text);
            return Err(failure.hint(format!("end what is left of it first: swarm stop {id}")));
        }
        Ok(is_living)
    }
}

/// The call that a person names: the number of its start or end, or its id.
fn find_call(records: &[ToolRecord], name: &str, worker: &Worker) -> Result<LoggedCall, Failure> {
    let number = name.strip_prefix('#').unwrap_or(name).parse::<u64>().ok();
    let named = records.iter().rev().find(|record| Some(record.seq) == number || record.call_id == name);
    let Some(named) = named else {
        let id = &worker.id;
        let text = match records.is_empty() {
            true => format!("no tool call of `{id}` is recorded"),
            false => format!("`{id}` has no tool call `{name}`"),
        };
        return Err(Failure::new(FailureKind::NotFound, text).hint(format!("swarm logs {id} --tools shows its calls")));
    };
    let of_call =
        |record: &&ToolRecord| record.call_id == named.call_id && record.origin.session_id == named.origin.session_id;
    let is_start = |record: &&ToolRecord| matches!(record.body, ToolBody::Start { .. });
    let start = records.iter().filter(of_call).find(is_start);
    let end = records.iter().filter(of_call).find(|record| !is_start(record)).map(|record| record.seq);
    Ok(LoggedCall { number: start.unwrap_or(named).seq, end, tool: named.tool.clone() })
}

/// The number of the last call whose changes are in a state.
fn last_call(records: &[ToolRecord], of: &StateOf) -> Option<u64> {
    let StateOf::Calls { last, .. } = of else { return None };
    let end = records.iter().find(|record| record.seq == *last)?;
    let start = records.iter().find(|record| {
        record.call_id == end.call_id
            && record.origin.session_id == end.origin.session_id
            && matches!(record.body, ToolBody::Start { .. })
    });
    Some(start.unwrap_or(end).seq)
}

/// Where the worker goes for the call whose end has the number `end`.
fn goal(worker: &Worker, known: &CallStates, end: u64, number: u64) -> Result<RewindTo, Failure> {
    let refuse = |text: String, hint: String| Err(Failure::new(FailureKind::Failed, text).hint(hint));
    let Some(state) = known.after(end) else {
        if known.is_cut {
            let text = format!("the state after call #{number} of `{}` is not kept any more", worker.id);
            return refuse(text, "recover.snapshots says how many are; name a later call".to_owned());
        }
        // Nothing had changed a file yet.
        let base = worker.place.base.clone();
        return Ok(RewindTo { head: base.clone(), files: base });
    };
    match (&state.head, &state.branch) {
        (Some(head), branch) if branch.as_ref().is_none_or(|branch| *branch == worker.place.branch) => {
            Ok(RewindTo { head: head.clone(), files: state.snapshot.clone() })
        }
        (_, branch) => {
            let there = branch.as_ref().map_or_else(|| "no branch".to_owned(), |branch| format!("`{branch}`"));
            let text = format!("after call #{number} the worktree of `{}` had {there} checked out", worker.id);
            refuse(text, format!("its files are in {}", state.snapshot))
        }
    }
}
