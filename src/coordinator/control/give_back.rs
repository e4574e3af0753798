//! What landing returned: back to the worker's own agent, then to the agent that resolves conflicts, then to a person.

use std::time::Duration;

use serde::Serialize;

use super::Control;
use super::act::Admission;
use super::merge::{conflicts, gate_view, returned_view};
use crate::config::Template;
use crate::coordinator::failure::Failure;
use crate::coordinator::views::{MergeView, SettledView, WaitingView};
use crate::files::FileLock;
use crate::git::{Begin, Begun, CommitInfo, ConflictPlace};
use crate::landing::{LandingError, ReturnReason, Returned};
use crate::model::event::{Event, EventRecord};
use crate::model::settings::OnConflict;
use crate::model::ticket::TicketState;
use crate::model::worker::{Liveness, Worker};
use crate::model::{AgentName, CommitId, duration_text};
use crate::queue::Settlement;
use crate::store::read_log;
use crate::supervisor::Continue;

/// Commits on the target that a conflict's evidence names at most.
const LANDED_SHOWN: usize = 20;
/// Output of a gate from which on its beginning is missing; the length that landing keeps.
const OUTPUT_SHOWN: usize = 16 * 1024;

/// Where a ticket is that landing left for its agent.
const FROM_APPROVED: Option<&[TicketState]> = Some(&[TicketState::Approved]);
/// Where it is when an agent at work on it was stopped for another one.
const FROM_STOPPED: Option<&[TicketState]> = Some(&[TicketState::Approved, TicketState::Failed, TicketState::Dead]);

/// Who gets returned work.
enum Next {
    /// The agent that made it.
    Own,
    /// The agent for conflicts.
    Resolver(AgentName),
    /// A person.
    Person(String),
}

impl Control {
    /// Brings the evidence to an agent, or to a person when that was done often enough. A ticket that somebody cancelled
    /// or sent back since it was judged is left as it is.
    pub(super) fn give_back(&self, view: &mut MergeView, worker: Worker, returned: &Returned) -> Result<(), Failure> {
        let entry = self.project.queue()?.ticket(&worker.ticket)?;
        let entry = entry.ok_or_else(|| LandingError::NoTicket(worker.ticket.clone()))?;
        if (entry.state, entry.fence) != (TicketState::Approved, returned.fence) {
            let why =
                format!("went its own way, its ticket is {} now; what landing found: {}", entry.state, returned.why);
            view.settled.push(SettledView { worker: worker.id.to_string(), commit: None, why });
            return Ok(());
        }
        let mut next = self.next_to_try(&worker, returned)?;
        if let Next::Resolver(agent) = &next
            && let Err(failure) = self.ready_agent(agent)
        {
            next = Next::Person(format!("{}; {}", returned.why, failure.chain.join(": ")));
        }
        let resolver = match next {
            Next::Own => None,
            Next::Resolver(agent) => Some(agent),
            Next::Person(why) => {
                self.project.queue()?.settle(&worker.ticket, returned.fence, Settlement::VoidApproval)?;
                let gates = returned.gates.iter().map(gate_view).collect();
                view.waiting.push(WaitingView { worker: worker.id.to_string(), why, gates });
                return Ok(());
            }
        };
        // From here on nobody else starts its agent: one that did would work in the middle of what is begun for it.
        let held = match self.liveness(&worker) {
            Liveness::Alive | Liveness::Unreadable => None,
            Liveness::Dead => Some(self.spawner_for(&worker)?.hold(&worker)?),
        };
        let head = self.project.repository.branch_head(&worker.place.branch)?;
        let begun = self.begin_for_agent(&worker, returned)?;
        let prompt = self.evidence(&worker, returned, begun.as_ref(), resolver.is_some())?;
        let entry = returned_view(&worker.id, returned);
        match (resolver, held) {
            (Some(agent), held) => self.hand_over(worker, &agent, prompt, head, held)?,
            (None, None) => self.deliver(worker, &prompt, head, Admission::Always, FROM_APPROVED).map(drop)?,
            (None, held @ Some(_)) => {
                let again = self.continuation(worker, Some(prompt), true, false)?;
                let again = Continue { returned_at: head, from: FROM_APPROVED, ..again };
                self.go_on(&again, Admission::Always, held)?;
            }
        }
        view.returned.push(entry);
        Ok(())
    }

    /// Who is to try next, by how often it was tried.
    fn next_to_try(&self, worker: &Worker, returned: &Returned) -> Result<Next, Failure> {
        let settings = &self.project.settings()?.landing;
        let times = self.times_returned(worker)?;
        if times <= settings.tries {
            return Ok(Next::Own);
        }
        let is_conflict = returned.reason != ReturnReason::GateFailed;
        match &settings.resolver {
            Some(agent) if is_conflict && times == settings.tries + 1 => Ok(Next::Resolver(agent.clone())),
            _ => {
                let (why, count, id) = (&returned.why, times - 1, &worker.id);
                let how = if is_conflict { format!(": swarm resolve {id}") } else { String::new() };
                Ok(Next::Person(format!("{why}; it went back {count} times already, so a person has to look{how}")))
            }
        }
    }

    /// How often landing returned a worker's work, this time included.
    fn times_returned(&self, worker: &Worker) -> Result<usize, Failure> {
        let log = read_log::<EventRecord>(&self.project.paths.events(&worker.id))?;
        Ok(log.records.iter().filter(|record| matches!(record.event, Event::Returned { .. })).count())
    }

    /// Begins in the worktree what settings say, over work that was kept first. `None` where that is nothing, a gate
    /// failed, or its agent is at work on something else by now.
    fn begin_for_agent(&self, worker: &Worker, returned: &Returned) -> Result<Option<Begun>, Failure> {
        let what = match self.project.settings()?.landing.on_conflict {
            _ if returned.reason == ReturnReason::GateFailed => return Ok(None),
            OnConflict::Nothing => return Ok(None),
            _ if self.refuse_unresolvable(worker).is_err() => return Ok(None),
            OnConflict::Merge => Begin::Merge,
            OnConflict::Rebase => Begin::Rebase,
        };
        self.begin_in(worker, what, &returned.onto).map(Some)
    }

    /// Keeps a worker's work and begins to bring a commit of its target into it. Commits of a dependency that the target
    /// has as others stay behind, whatever was to be begun.
    pub(super) fn begin_in(&self, worker: &Worker, what: Begin<'_>, onto: &CommitId) -> Result<Begun, Failure> {
        let (repository, place) = (&self.project.repository, &worker.place);
        let reason = format!("before `{}` was brought into it", place.target);
        let kept = match repository.keep(&worker.id, Some(&place.worktree), &place.branch, &reason) {
            Ok(kept) => kept,
            // What cannot be kept is left alone; the agent is told and begins by itself.
            Err(error) => return Ok(Begun::Refused { why: crate::model::error_text(&error) }),
        };
        let since = match kept.branch_head() {
            Some(head) => self.with_landing(|landing| Ok(landing.own_commits(worker, onto, head)?))?,
            None => None,
        };
        let what = since.as_ref().map_or(what, Begin::Replay);
        Ok(repository.begin(what, &place.worktree, (onto, place.target.as_str()), &kept)?)
    }

    /// Starts another agent in the place of a worker's own, which is ended unless it has been and is held so, with the
    /// evidence as its first prompt.
    fn hand_over(
        &self,
        worker: Worker,
        agent: &AgentName,
        prompt: String,
        returned_at: Option<CommitId>,
        held: Option<FileLock>,
    ) -> Result<(), Failure> {
        let agent = self.ready_agent(agent)?;
        let worker = match &held {
            Some(_) => worker,
            None => {
                self.stop_one(&worker, &format!("the conflict goes to `{}`", agent.name))?;
                self.worker(worker.id.as_str())?
            }
        };
        let ticket = self.published_ticket(&worker)?;
        let headless = worker.attempt.headless;
        let again = Continue {
            worker,
            ticket,
            agent,
            prompt: Some(prompt),
            in_session: false,
            counts_attempt: false,
            returned_at,
            headless,
            from: FROM_STOPPED,
        };
        self.go_on(&again, Admission::Always, held).map(drop)
    }

    /// The prompt that says why work came back.
    fn evidence(
        &self,
        worker: &Worker,
        returned: &Returned,
        begun: Option<&Begun>,
        is_new_agent: bool,
    ) -> Result<String, Failure> {
        let ticket = self.published_ticket(worker)?;
        let target_commit = returned.onto.to_string();
        if let (ReturnReason::GateFailed, Some(gate)) = (returned.reason, returned.gates.last()) {
            let variables = GateFailed {
                gate: &gate.name,
                command: &gate.run,
                target_commit,
                exit_code: gate.exit_code,
                timeout: gate.exit_code.is_none().then(|| duration_text(Duration::from_millis(gate.duration_ms))),
                runs: gate.tries,
                output: &gate.output_tail,
                output_cut: gate.output_tail.len() >= OUTPUT_SHOWN,
            };
            return self.render(Template::GateFailed, worker, &ticket, variables);
        }
        let repository = &self.project.repository;
        let work = repository.branch_head(&worker.place.branch)?;
        let files = self.files_in_conflict(returned, begun, worker)?;
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let (begun, refused) = match begun {
            Some(Begun::Open { operation, .. }) => (Some(operation.as_str()), None),
            Some(Begun::Done) => (Some("done"), None),
            Some(Begun::Refused { why }) => (None, Some(why.as_str())),
            None => (None, None),
        };
        let variables = ConflictVariables {
            landed: self.landed_on_target(worker, work.as_ref(), returned, &paths)?,
            target_commit,
            why: &returned.why,
            files,
            begun,
            refused,
            body: is_new_agent.then_some(ticket.body.as_str()),
        };
        self.render(Template::Conflict, worker, &ticket, variables)
    }

    /// The files in conflict with their places.
    fn files_in_conflict(
        &self,
        returned: &Returned,
        begun: Option<&Begun>,
        worker: &Worker,
    ) -> Result<Vec<FileInConflict>, Failure> {
        // What was kept is what was judged; a rebase may have moved the branch meanwhile.
        let work = match begun {
            Some(Begun::Done) => None,
            _ => self.project.repository.branch_head(&worker.place.branch)?,
        };
        // Where the work stands elsewhere, merging it whole would find other places than its replay.
        let is_replayed = match &work {
            Some(work) => {
                self.with_landing(|landing| Ok(landing.own_commits(worker, &returned.onto, work)?))?.is_some()
            }
            None => false,
        };
        let places = match work.filter(|_| !is_replayed) {
            Some(work) => self.project.repository.conflict_places(&returned.onto, &work)?,
            None => Vec::new(),
        };
        let file = |view: crate::coordinator::views::ConflictView| {
            let known = places.iter().find(|(file, _)| file.path == view.path);
            let places = known.map(|(_, places)| places.clone()).unwrap_or_default();
            FileInConflict { path: view.path, kind: view.kind, places }
        };
        Ok(conflicts(returned).into_iter().map(file).collect())
    }

    /// What came onto the target since the branch left it: who landed what and why, newest first, what touched the
    /// files in conflict before the rest.
    fn landed_on_target(
        &self,
        worker: &Worker,
        work: Option<&CommitId>,
        returned: &Returned,
        paths: &[&str],
    ) -> Result<Vec<LandedBefore>, Failure> {
        let repository = &self.project.repository;
        let since = work.map(|work| repository.merge_base(work, &returned.onto)).transpose()?.flatten();
        let since = since.unwrap_or_else(|| worker.place.base.clone());
        let touching = repository.commits_touching(&since, &returned.onto, paths)?;
        let mut commits = repository.commits_between(&since, &returned.onto)?;
        commits.reverse();
        commits.sort_by_key(|commit| !touching.contains(&commit.id));
        commits.truncate(LANDED_SHOWN);
        let queue = self.project.queue()?;
        let landed = commits.into_iter().map(|commit| {
            let ticket = commit.ticket.as_ref().and_then(|ticket| ticket.parse().ok());
            let known = ticket.map(|ticket| queue.ticket(&ticket)).transpose().ok().flatten().flatten();
            let touches = touching.contains(&commit.id);
            LandedBefore { title: known.map(|known| known.ticket.title), touches, commit }
        });
        Ok(landed.collect())
    }
}

/// Variables of `conflict.md`.
#[derive(Serialize)]
struct ConflictVariables<'a> {
    target_commit: String,
    why: &'a str,
    files: Vec<FileInConflict>,
    landed: Vec<LandedBefore>,
    begun: Option<&'a str>,
    refused: Option<&'a str>,
    body: Option<&'a str>,
}

/// A file in conflict.
#[derive(Serialize)]
struct FileInConflict {
    path: String,
    kind: String,
    places: Vec<ConflictPlace>,
}

/// A commit that came onto the target.
#[derive(Serialize)]
struct LandedBefore {
    #[serde(flatten)]
    commit: CommitInfo,
    /// The title of its ticket.
    title: Option<String>,
    /// Whether it touched a file in conflict.
    touches: bool,
}

/// Variables of `gate_failed.md`.
#[derive(Serialize)]
struct GateFailed<'a> {
    gate: &'a str,
    command: &'a str,
    target_commit: String,
    exit_code: Option<i32>,
    timeout: Option<String>,
    runs: u32,
    output: &'a str,
    output_cut: bool,
}
