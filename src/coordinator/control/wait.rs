//! `wait`: until workers reach a status or their tickets a state.

use std::time::{Duration, Instant};

use super::Control;
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::views::{VIEW_VERSION, WaitView, WorkerView};
use crate::model::ticket::TicketState;
use crate::model::worker::Status;

/// How often the store's change counter is read; one page of shared memory.
const PEEK_EVERY: Duration = Duration::from_millis(50);
/// How often everything is looked at even if the store did not change: a supervisor that was killed writes nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What `wait` was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct WaitRequest {
    /// Worker ids; empty is all live ones.
    pub(crate) workers: Vec<String>,
    /// Words of statuses and ticket states; empty is the default set.
    pub(crate) targets: Vec<String>,
    /// One is enough.
    pub(crate) any: bool,
    /// Give up after this.
    pub(crate) timeout: Option<Duration>,
}

/// What is waited for.
enum Target {
    /// A worker's status.
    Status(Status),
    /// A ticket's state.
    State(TicketState),
}

/// Where one worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It reached what is waited for.
    Reached,
    /// It needs a person before it can get there.
    NeedsPerson,
    /// It ended without getting there.
    Ended,
    /// It is on its way.
    Under,
}

impl Control {
    /// Waits. The second value is the failure for the exit code.
    pub(crate) fn wait(&self, request: &WaitRequest) -> Result<(WaitView, Result<(), Failure>), Failure> {
        let targets = parse_targets(&request.targets)?;
        let names = self.awaited(request)?;
        let deadline = request.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let version = self.project.store()?.data_version()?;
            let workers = if names.is_empty() { Vec::new() } else { self.status(&names, true)?.workers };
            let on_their_way = self.on_their_way()?;
            let is_on_its_way = |worker: &WorkerView| {
                let is_passed = on_their_way.iter().any(|id| id.as_str() == worker.id);
                is_passed && worker.ticket_state == Some(TicketState::Review)
            };
            let standings: Vec<_> = workers
                .iter()
                .map(|worker| if is_on_its_way(worker) { Standing::Under } else { standing(worker, &targets) })
                .collect();
            if let Some(end) = settle(&standings, request.any) {
                let is_limit = end == Standing::Ended && is_at_limits(&workers);
                return Ok(conclude(end, is_limit, workers));
            }
            if !self.await_change(version, deadline)? {
                let view = WaitView { version: VIEW_VERSION, outcome: "timed_out".to_owned(), workers };
                let text = format!("waited for {}", duration(request.timeout));
                let failure = Failure::new(FailureKind::TimedOut, text).hint("swarm status shows what they do");
                return Ok((view, Err(failure)));
            }
        }
    }

    /// The workers waited for.
    fn awaited(&self, request: &WaitRequest) -> Result<Vec<String>, Failure> {
        if !request.workers.is_empty() {
            request.workers.iter().try_for_each(|name| self.worker(name).map(drop))?;
            return Ok(request.workers.clone());
        }
        let live = self.status(&[], false)?.workers.into_iter();
        let live = live.filter(|worker| {
            worker.supervisor_pid.is_some() || matches!(worker.status, Status::Starting | Status::Lost)
        });
        Ok(live.map(|worker| worker.id).collect())
    }

    /// Waits for the store to change or for the next look; false when the deadline passed.
    fn await_change(&self, version: i64, deadline: Option<Instant>) -> Result<bool, Failure> {
        let next_look = Instant::now() + LOOK_EVERY;
        while Instant::now() < next_look && self.project.store()?.data_version()? == version {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(false);
            }
            std::thread::sleep(PEEK_EVERY);
        }
        Ok(true)
    }
}

/// Whether every worker that ended without its work did so at a limit or budget, or is held at one.
fn is_at_limits(workers: &[WorkerView]) -> bool {
    let ended = |worker: &&WorkerView| matches!(worker.status, Status::Failed | Status::Stopped);
    workers.iter().filter(ended).all(|worker| worker.limit_reached.is_some())
        && workers.iter().any(|worker| worker.limit_reached.is_some())
}

/// Reads the words of `--for`.
fn parse_targets(words: &[String]) -> Result<Vec<Target>, Failure> {
    let parse = |word: &String| {
        let status = Status::from_word(word).map(Target::Status);
        status.or_else(|| TicketState::from_word(word).map(Target::State)).ok_or_else(|| {
            let statuses = Status::ALL.iter().map(|status| status.as_str());
            let states = TicketState::ALL.iter().map(|state| state.as_str());
            let valid: Vec<_> = statuses.chain(states).collect();
            Failure::new(FailureKind::Usage, format!("`{word}` is neither a status nor a ticket state"))
                .hint(format!("one of {}", valid.join(", ")))
        })
    };
    words.iter().map(parse).collect()
}

/// Whether a living supervisor has seen the end and is about to write it down: to move the ticket, and after a bad end
/// to say why in the worker's row.
fn is_settling(worker: &WorkerView) -> bool {
    let is_unwritten = match worker.status {
        Status::Done => worker.ticket_state == Some(TicketState::Running),
        Status::Failed | Status::Stopped => true,
        _ => false,
    };
    is_unwritten && worker.supervisor_pid.is_some()
}

/// Where a worker stands. Without targets, every rest counts as reached unless it needs a person or went wrong.
fn standing(worker: &WorkerView, targets: &[Target]) -> Standing {
    let is_there = |target: &Target| match target {
        Target::Status(status) => worker.status == *status && !is_settling(worker),
        Target::State(state) => worker.ticket_state == Some(*state),
    };
    if targets.iter().any(is_there) {
        return Standing::Reached;
    }
    let default = targets.is_empty();
    match worker.status {
        _ if is_settling(worker) => Standing::Under,
        Status::Done if default => Standing::Reached,
        Status::Done if worker.ticket_state.is_some_and(TicketState::is_ended) => Standing::Ended,
        Status::Failed | Status::Stopped => Standing::Ended,
        // Held at a budget: nothing more happens until that is raised.
        Status::Paused if worker.limit_reached.is_some() => Standing::Ended,
        Status::Waiting | Status::Lost => Standing::NeedsPerson,
        _ => Standing::Under,
    }
}

/// The end of the wait, when there is one.
fn settle(standings: &[Standing], any: bool) -> Option<Standing> {
    if any && standings.contains(&Standing::Reached) {
        return Some(Standing::Reached);
    }
    if !any && standings.contains(&Standing::Under) {
        return None;
    }
    let worst = [Standing::NeedsPerson, Standing::Ended];
    let found = worst.into_iter().find(|standing| standings.contains(standing));
    if any && found.is_none() && standings.contains(&Standing::Under) {
        return None;
    }
    Some(found.unwrap_or(Standing::Reached))
}

/// View and failure for an end; `is_limit` says that those which ended did so at a limit.
fn conclude(end: Standing, is_limit: bool, workers: Vec<WorkerView>) -> (WaitView, Result<(), Failure>) {
    // What each of them says is in the answer; the error only counts them.
    let counted = |wanted: &[Status], one: &str, several: &str| {
        let hits: Vec<_> = workers.iter().filter(|worker| wanted.contains(&worker.status)).collect();
        match hits[..] {
            [] => "they ended without what was waited for".to_owned(),
            [worker] => format!("`{}` {one}", worker.id),
            _ => format!("{} of {} workers {several}", hits.len(), workers.len()),
        }
    };
    let (outcome, result) = match end {
        Standing::NeedsPerson => {
            let text = counted(&[Status::Waiting, Status::Lost], "needs a person", "need a person");
            let failure = Failure::new(FailureKind::NeedsPerson, text)
                .hint("swarm attach WORKER answers what it waits for; swarm resume WORKER goes on with a lost one");
            ("needs_person", Err(failure))
        }
        Standing::Ended if is_limit => {
            let text = counted(&[Status::Stopped, Status::Paused], "reached a limit", "reached a limit");
            let failure = Failure::new(FailureKind::Limit, text)
                .hint("swarm why WORKER shows which; raise it, then swarm resume WORKER goes on, swarm restart WORKER begins anew");
            ("ended", Err(failure))
        }
        Standing::Ended => {
            let text = counted(&[Status::Failed, Status::Stopped], "failed or was stopped", "failed or were stopped");
            ("ended", Err(Failure::new(FailureKind::Failed, text).hint("swarm why WORKER shows the evidence")))
        }
        Standing::Reached | Standing::Under => ("reached", Ok(())),
    };
    (WaitView { version: VIEW_VERSION, outcome: outcome.to_owned(), workers }, result)
}

/// The time-out as text.
fn duration(timeout: Option<Duration>) -> String {
    timeout.map(crate::model::duration_text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_must_rest_before_the_worst_is_told() {
        use Standing::{Ended, NeedsPerson, Reached, Under};
        assert_eq!(settle(&[Reached, Under], false), None);
        assert_eq!(settle(&[Reached, NeedsPerson, Ended], false), Some(NeedsPerson));
        assert_eq!(settle(&[Reached, Ended], false), Some(Ended));
        assert_eq!(settle(&[Reached, Reached], false), Some(Reached));
        assert_eq!(settle(&[], false), Some(Reached));
    }

    #[test]
    fn any_is_satisfied_by_one_and_wakes_for_one_that_needs_a_person() {
        use Standing::{NeedsPerson, Reached, Under};
        assert_eq!(settle(&[Reached, Under], true), Some(Reached));
        assert_eq!(settle(&[NeedsPerson, Under], true), Some(NeedsPerson));
        assert_eq!(settle(&[Under, Under], true), None);
    }
}
