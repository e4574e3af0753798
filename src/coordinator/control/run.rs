//! What the coordinator's engine asks of a repository: a look at everything, and the single acts that it decides on.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::merge::{MergeProgress, MergeRequest};
use super::spawn::{SpawnProgress, SpawnRequest};
use super::{Control, Known, is_released};
use crate::coordinator::failure::{Failure, FailureKind};
use crate::coordinator::project::Call;
use crate::coordinator::run::{AgentFacts, Nodes, Past, Rules, Seen, World};
use crate::coordinator::views::{MergeView, SpawnedView};
use crate::landing::LandingError;
use crate::model::settings::{Approval, LandingMode, Settings};
use crate::model::ticket::{Ticket, TicketState, unmet};
use crate::model::worker::{Liveness, Phase, SpawnStep};
use crate::model::{AgentName, BranchName, RunId, TicketId, Time, WorkerId};
use crate::process;
use crate::queue::{NewTicket, Queue, QueueError, QueueTicket};
use crate::supervisor::{MARKER, SeenLease};

/// The tickets that a run is to bring to an end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// All of them, what others need included.
    pub(crate) tickets: BTreeSet<TicketId>,
    /// Those that nobody named, each with one that needs it.
    pub(crate) added: Vec<(TicketId, TicketId)>,
    /// What is to be published, and whether a person named it.
    publish: Vec<(Ticket, bool)>,
}

impl Choice {
    /// Adds what would be published of it and is not in the queue yet, as it would be there.
    pub(super) fn add_unqueued(&self, tickets: &mut Vec<QueueTicket>) -> Result<(), Failure> {
        for (ticket, _) in &self.publish {
            let known = tickets.iter_mut().find(|entry| entry.ticket.id == ticket.id);
            if known.as_ref().is_some_and(|entry| entry.state != TicketState::Open) {
                continue;
            }
            let now = Time::now();
            let mut entry = known.map_or_else(|| QueueTicket::unpublished(ticket.clone(), now), |entry| entry.clone());
            let state = |id: &TicketId| {
                Ok::<_, Failure>(tickets.iter().find(|other| other.ticket.id == *id).map(|other| other.state))
            };
            entry.waits_for = unmet(&ticket.needs(state)?);
            entry.state = if entry.waits_for.is_empty() { TicketState::Queued } else { TicketState::Blocked };
            tickets.retain(|other| other.ticket.id != ticket.id);
            tickets.push(entry);
        }
        Ok(())
    }

    /// The tickets as they are published: those named first, then what they need.
    pub(super) fn order(&self) -> Vec<TicketId> {
        self.publish.iter().map(|(ticket, _)| ticket.id.clone()).collect()
    }
}

/// What another thread needs to act on the same repository under the same run.
#[derive(Debug, Clone)]
pub(in crate::coordinator) struct Beside {
    call: Call,
    run: RunId,
    trusts: bool,
    /// The settings by which it works, whatever the files say by now.
    settings: Option<Settings>,
}

impl Beside {
    /// A control of its own.
    pub(in crate::coordinator) fn open(self) -> Result<Control, Failure> {
        let control = Control::open_as(self.call, self.trusts, self.run)?;
        if let Some(settings) = self.settings {
            control.project.adopt_settings(settings);
        }
        Ok(control)
    }
}

impl Control {
    /// What another thread needs.
    pub(in crate::coordinator) fn beside(&self) -> Beside {
        let settings = self.project.settings().ok().cloned();
        Beside { call: self.project.call.clone(), run: self.run.clone(), trusts: self.trusts, settings }
    }

    /// A control by what the configuration says now, where a run could begin by that. It trusts nothing new by itself:
    /// whoever said yes to the commands of the repository meant those of then.
    pub(in crate::coordinator) fn anew(&self, lands: bool) -> Result<Self, Failure> {
        let control = Self::open_as(self.project.call.clone(), false, self.run.clone())?;
        control.check_run(lands)?;
        Ok(control)
    }

    /// The id of this run.
    pub(in crate::coordinator) fn run_id(&self) -> &RunId {
        &self.run
    }

    /// The store and the queue of the repository.
    pub(in crate::coordinator) fn project(&self) -> &crate::coordinator::project::Project {
        &self.project
    }

    /// Fails before any effect where a run would fail later, when agents have worked for it: set-up commands that are not
    /// trusted, nobody whose name commits could have, and what landing needs where it lands.
    pub(in crate::coordinator) fn check_run(&self, lands: bool) -> Result<(), Failure> {
        self.check_spawn_depth()?;
        self.check_may_assign()?;
        self.spawner(true)?;
        for agent in &self.project.settings()?.run.agents {
            self.project.agent(agent)?;
        }
        self.project.repository.identity()?;
        if lands { self.check_landing() } else { Ok(()) }
    }

    /// Fails where nothing could land: untrusted gates, no target, agents that are to judge or mend and are not there, and
    /// with pull requests no remote, no program for the forge, or one that is not logged in.
    fn check_landing(&self) -> Result<(), Failure> {
        self.approved_gates()?;
        let settings = self.project.settings()?;
        let target = self.target()?;
        if self.project.repository.branch_head(&target)?.is_none() {
            return Err(Failure::new(FailureKind::NotFound, format!("there is no branch `{target}` to land on"))
                .hint(format!("make it: git branch {target}, or set `target` in .swarm/config.yaml")));
        }
        for agent in settings.review.agents.iter().chain(&settings.landing.resolver) {
            self.project.agent(agent)?;
        }
        if settings.landing.mode == LandingMode::Pr {
            self.forge()?.find(&target).map_err(LandingError::from)?;
        }
        Ok(())
    }

    /// The branch that work lands on where its ticket names no other.
    pub(super) fn target(&self) -> Result<BranchName, Failure> {
        match &self.project.settings()?.target {
            Some(target) => Ok(target.clone()),
            None => Ok(self.project.repository.default_target()?),
        }
    }

    /// The rules of a run that lands, or does not; what the server says of the swarm's number is no part of them yet.
    pub(in crate::coordinator) fn rules(&self, lands: bool) -> Result<Rules, Failure> {
        let settings = self.project.settings()?;
        Ok(Rules {
            max_workers: settings.max_workers,
            scaled: self.scaled_by(None)?,
            topology: self.topology()?.chosen.topology,
            agent: settings.agent.clone(),
            offers: settings.node.capabilities.clone(),
            run: settings.run.clone(),
            health: settings.health,
            lands,
            forge_poll: settings.landing.poll,
            approves: settings.landing.approval == Approval::Auto || settings.review.agents_approve,
        })
    }

    /// What deciding needs to know about every agent.
    pub(in crate::coordinator) fn agent_facts(&self) -> Result<BTreeMap<AgentName, AgentFacts>, Failure> {
        let facts = |agent: &crate::model::agent::Agent| AgentFacts {
            model: agent.model.clone(),
            asks: agent.model_name(),
            capabilities: agent.capabilities.clone(),
        };
        Ok(self.project.agents()?.all().map(|agent| (agent.name.clone(), facts(agent))).collect())
    }

    /// How agents did with tickets so far.
    pub(in crate::coordinator) fn past(&self, tickets: &[QueueTicket]) -> Result<Past, Failure> {
        Ok(Past::of(&self.project.store()?.workers()?, tickets))
    }

    /// Looks at every worker and then at every ticket. What the queue was not told of a worker's end it is told on the way.
    pub(in crate::coordinator) fn observe(&self) -> Result<(Vec<Seen>, Vec<QueueTicket>), Failure> {
        let workers = self.project.store()?.workers()?;
        let known = workers.into_iter().filter(|worker| !is_released(worker));
        let mut known: Vec<Known> = known.map(|worker| self.know(worker, None)).collect();
        let queue = self.project.queue()?;
        let mut tickets = queue.snapshot()?;
        let places: HashMap<TicketId, usize> =
            tickets.iter().enumerate().map(|(place, entry)| (entry.ticket.id.clone(), place)).collect();
        for known in &mut known {
            let Some(place) = places.get(&known.worker.ticket) else { continue };
            let entry = &mut tickets[*place];
            known.ticket_state = Some(entry.state);
            if self.reconcile(known)?
                && let Some(now) = queue.ticket(&entry.ticket.id)?
            {
                *entry = now;
            }
        }
        let seen = known.into_iter().map(|known| Seen {
            worker: known.worker,
            liveness: known.liveness,
            live: known.live,
            status: known.verdict.status,
            reason: known.verdict.reason,
            since: known.verdict.since,
        });
        Ok((seen.collect(), tickets))
    }

    /// Everything that deciding looks at, beside what was just observed; nothing is under way and nothing was tried.
    pub(in crate::coordinator) fn world(
        &self,
        rules: &Rules,
        workers: Vec<Seen>,
        tickets: Vec<QueueTicket>,
        chosen: Option<BTreeSet<TicketId>>,
    ) -> Result<World, Failure> {
        let past = match rules.run.agents[..] {
            [] => Past::default(),
            _ => self.past(&tickets)?,
        };
        let store = self.project.store()?;
        Ok(World {
            owners: match self.project.queue()?.link() {
                Some(_) => BTreeMap::new(),
                None => self.owners(&rules.topology, &tickets)?,
            },
            tokens: store.tokens()?,
            now: Time::now(),
            queue_ahead: self.project.queue()?.ahead()?,
            nobody_lands: self.with_landing(|landing| Ok(landing.is_idle()?))?,
            unfinished: self.unfinished_landings(&workers, &tickets)?,
            past,
            spent: self.spent(&tickets)?,
            tickets,
            workers,
            agents: self.agent_facts()?,
            chosen,
            doing: BTreeMap::new(),
            setbacks: BTreeMap::new(),
            told: BTreeMap::new(),
            is_led: false,
            never_lands: None,
            nodes: Nodes::default(),
            paces: store.paces()?,
            cares: store.cares()?.into_iter().collect(),
        })
    }

    /// Landings that are not over though the target has their work, as when their process was killed in between or the disk
    /// was full: of each ticket the worker that is not released, or whose intent is open.
    fn unfinished_landings(
        &self,
        workers: &[Seen],
        tickets: &[QueueTicket],
    ) -> Result<BTreeMap<TicketId, WorkerId>, Failure> {
        let landed = tickets.iter().filter(|entry| entry.state == TicketState::Landed);
        let landed: BTreeSet<&TicketId> = landed.map(|entry| &entry.ticket.id).collect();
        let dead = workers.iter().filter(|seen| seen.liveness == Liveness::Dead);
        let dead = dead.map(|seen| (seen.worker.ticket.clone(), seen.worker.id.clone()));
        let intents = self.project.store()?.intents()?.into_iter().map(|(_, intent)| (intent.ticket, intent.worker));
        Ok(dead.chain(intents).filter(|(ticket, _)| landed.contains(ticket)).collect())
    }

    /// The tickets to bring to an end: those named with everything they need, or all that are not over. Changes nothing.
    ///
    /// # Errors
    /// Usage, naming the tickets, where they need each other in a circle.
    pub(in crate::coordinator) fn choose(&self, names: &[String], all: bool) -> Result<Choice, Failure> {
        let entries = self.project.queue()?.snapshot()?;
        let known: BTreeMap<&TicketId, &QueueTicket> = entries.iter().map(|entry| (&entry.ticket.id, entry)).collect();
        let mut todo: VecDeque<Ticket> = VecDeque::new();
        if all {
            for path in self.ticket_paths()? {
                let id: TicketId = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().parse()?;
                todo.extend(self.project.ticket_file(&id)?);
            }
            let is_open = |entry: &&QueueTicket| !entry.state.is_ended();
            let rest = entries.iter().filter(is_open).map(|entry| entry.ticket.clone());
            todo.extend(rest.filter(|ticket| !todo.iter().any(|other| other.id == ticket.id)).collect::<Vec<_>>());
        } else {
            todo = names.iter().map(|name| self.ticket_of(name)).collect::<Result<_, _>>()?;
        }
        let mut choice = Choice::default();
        let named: BTreeSet<TicketId> = todo.iter().map(|ticket| ticket.id.clone()).collect();
        while let Some(ticket) = todo.pop_front() {
            let ticket = self.with_start(ticket)?;
            if !choice.tickets.insert(ticket.id.clone()) {
                continue;
            }
            let ended_well = |known: &&QueueTicket| matches!(known.state, TicketState::Landed | TicketState::Done);
            let is_over = known.get(&ticket.id).is_some_and(ended_well);
            for dependency in ticket.depends_on.iter().filter(|_| !is_over) {
                let need = &dependency.ticket;
                let is_met = known.get(need).is_some_and(|known| dependency.kind.is_satisfied_by(known.state));
                if is_met || choice.tickets.contains(need) || named.contains(need) {
                    continue;
                }
                if let Some(needed) = self.needed(need, &known)? {
                    choice.added.push((need.clone(), ticket.id.clone()));
                    todo.push_back(needed);
                }
            }
            let is_named = !all && named.contains(&ticket.id);
            choice.publish.push((ticket, is_named));
        }
        match cycle(&choice.publish) {
            Some(cycle) => Err(QueueError::Cycle(cycle).into()),
            None => Ok(choice),
        }
    }

    /// A ticket that another one needs, from its file or the queue; `None` where there is none.
    fn needed(&self, id: &TicketId, known: &BTreeMap<&TicketId, &QueueTicket>) -> Result<Option<Ticket>, Failure> {
        let file = self.project.ticket_file(id)?;
        Ok(file.or_else(|| known.get(id).map(|known| known.ticket.clone())))
    }

    /// Publishes what was chosen and is not on its way yet; which. What a person named is queued again where it had
    /// failed or was cancelled.
    pub(in crate::coordinator) fn publish_chosen(&self, choice: &Choice) -> Result<BTreeSet<TicketId>, Failure> {
        let queue = self.project.queue()?;
        let mut published = BTreeSet::new();
        for (ticket, is_named) in &choice.publish {
            let known = queue.ticket(&ticket.id)?;
            let is_due = match known.as_ref().map(|known| known.state) {
                None | Some(TicketState::Open) => true,
                Some(TicketState::Queued | TicketState::Blocked) => known.is_some_and(|known| known.ticket != *ticket),
                Some(TicketState::Failed | TicketState::Dead | TicketState::Cancelled) => *is_named,
                Some(_) => false,
            };
            if !is_due {
                continue;
            }
            if *is_named {
                // A person decided about it.
                self.forget_care(&WorkerId::of(&ticket.id, 1))?;
            }
            match self.publish(&*queue, ticket.clone()) {
                Ok(_) => {
                    published.insert(ticket.id.clone());
                }
                // Somebody else was faster, and works on it already.
                Err(QueueError::Illegal { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(published)
    }

    /// Publishes a ticket under a key of this run. Not the key of a spawn, which would take it back when it fails.
    pub(super) fn publish(&self, queue: &dyn Queue, ticket: Ticket) -> Result<TicketState, QueueError> {
        let dedupe_key = format!("{}/queue/{}", ticket.id, RunId::random().as_str());
        Ok(queue.publish(&NewTicket { ticket, dedupe_key })?.state)
    }

    /// Publishes a ticket again as it was published last.
    pub(in crate::coordinator) fn publish_again(&self, id: &TicketId) -> Result<(), Failure> {
        let queue = self.project.queue()?;
        let known = queue.ticket(id)?.ok_or_else(|| QueueError::NotFound(id.clone()))?;
        self.publish(&*queue, known.ticket)?;
        Ok(())
    }

    /// Starts a worker for a published ticket, as it was published: a new one, or the ended one in its worktree. With
    /// `takes_over` it goes on with what a node that is gone held under that lease.
    pub(in crate::coordinator) fn start_published(
        &self,
        id: &TicketId,
        agent: &AgentName,
        headless: bool,
        takes_over: Option<SeenLease>,
    ) -> Result<SpawnedView, Failure> {
        // It starts from what every node has landed so far.
        self.follow_tips()?;
        self.release_overtaken(&WorkerId::of(id, 1), takes_over)?;
        let known = self.project.queue()?.ticket(id)?;
        let ticket = known.ok_or_else(|| QueueError::NotFound(id.clone()))?.ticket;
        let agent = Some(agent.to_string());
        let request = SpawnRequest { agent, headless, takes_queued: true, takes_over, ..SpawnRequest::default() };
        self.spawn_one(&request, ticket)
    }

    /// Continues one lost worker, as long as it is lost: somebody may have stopped it or cancelled its ticket since.
    pub(in crate::coordinator) fn resume_lost(&self, worker: &WorkerId) -> Result<(), Failure> {
        let worker = self.worker(worker.as_str())?;
        self.note_lost(&worker)?;
        self.resume_one(worker, Some(&[TicketState::Lost])).map(drop)
    }

    /// Ends the set-up commands of the worker that is being started for a ticket; one whose agent runs is left alone.
    pub(in crate::coordinator) fn end_set_up(&self, ticket: &TicketId) -> Result<(), Failure> {
        let Some(worker) = self.project.store()?.worker(&WorkerId::of(ticket, 1))? else { return Ok(()) };
        if let Phase::Preparing { step: SpawnStep::Setup, .. } = worker.phase {
            let marker = self.project.paths.worker_dir(&worker.id);
            let grace = self.project.settings()?.limits.grace;
            process::stop_marked(MARKER, &marker.to_string_lossy(), grace)?;
        }
        Ok(())
    }

    /// Ends a worker's agent because the run is over, with its work kept, and queues its ticket again for the next run.
    pub(in crate::coordinator) fn stop_for_later(&self, id: &WorkerId, reason: &str) -> Result<(), Failure> {
        let worker = self.worker(id.as_str())?;
        self.stop_one(&worker, reason)?;
        if matches!(self.ticket_state(&worker.ticket)?, Some(TicketState::Failed | TicketState::Dead)) {
            self.project.queue()?.requeue(&worker.ticket)?;
        }
        Ok(())
    }

    /// Lands these workers in the order of the merge queue, those left out that cannot land any more.
    pub(in crate::coordinator) fn land(
        &self,
        workers: &[WorkerId],
        progress: &mut dyn MergeProgress,
    ) -> Result<(MergeView, Result<(), Failure>), Failure> {
        let mut ordered = self.landable(&MergeRequest::default())?;
        ordered.retain(|worker| workers.contains(worker));
        let rest = workers.iter().filter(|worker| !ordered.contains(worker)).cloned().collect::<Vec<_>>();
        let names = ordered.into_iter().chain(rest).map(String::from).collect();
        self.merge(&MergeRequest { workers: names, ..MergeRequest::default() }, progress)
    }

    /// Whether reviewers of a worker's finished work have not answered yet.
    pub(in crate::coordinator) fn awaits_reviewers(&self, id: &WorkerId) -> Result<bool, Failure> {
        use crate::coordinator::views::ReviewerWord as Word;
        let worker = self.worker(id.as_str())?;
        if !self.is_in_review(&worker)? {
            return Ok(false);
        }
        let head = self.head(&worker)?;
        let asked = self.reviewers_of(&self.published_ticket(&worker)?)?;
        let views = self.reviewer_views(&worker, &head)?;
        let is_open = |word| matches!(word, Word::Running | Word::NotAsked);
        let mut own = views.iter().filter(|view| asked.iter().any(|name| name.as_str() == view.agent));
        Ok(own.any(|view| is_open(view.verdict) || !view.is_current))
    }
}

/// Hears nothing.
pub(super) struct Silent;

impl SpawnProgress for Silent {
    fn step(&self, _ticket: &str, _step: SpawnStep) {}
    fn done(&self, _ticket: &str, _spawned: bool) {}
}

/// Tickets that need each other in a circle, each followed by one it needs; `None` where there is no circle.
fn cycle(tickets: &[(Ticket, bool)]) -> Option<Vec<TicketId>> {
    let needs: BTreeMap<&TicketId, Vec<&TicketId>> = tickets
        .iter()
        .map(|(ticket, _)| (&ticket.id, ticket.depends_on.iter().map(|dependency| &dependency.ticket).collect()))
        .collect();
    let mut done = BTreeSet::new();
    for start in needs.keys() {
        // The way from the start, each with how many of its needs were looked at.
        let mut path: Vec<(&TicketId, usize)> = vec![(start, 0)];
        while let Some((id, looked)) = path.last_mut() {
            let next = needs.get(*id).and_then(|all| all.get(*looked)).copied();
            *looked += 1;
            match next {
                None => {
                    done.insert(*id);
                    path.pop();
                }
                Some(next) if done.contains(next) => {}
                Some(next) => match path.iter().position(|(id, _)| *id == next) {
                    Some(begin) => return Some(path[begin..].iter().map(|(id, _)| (*id).clone()).collect()),
                    None => path.push((next, 0)),
                },
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ticket::{Dependency, DependencyKind};

    #[test]
    fn a_circle_is_found_and_named_from_where_it_closes() {
        let ticket = |name: &str, needs: &[&str]| {
            let depends_on =
                needs.iter().map(|need| Dependency { ticket: need.parse().unwrap(), kind: DependencyKind::Success });
            (Ticket { depends_on: depends_on.collect(), ..Ticket::plain(name.parse().unwrap()) }, true)
        };
        let named = |tickets: &[(Ticket, bool)]| {
            cycle(tickets).map(|ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(
            named(&[ticket("a", &["b"]), ticket("b", &["c", "d"]), ticket("c", &[]), ticket("d", &["c"])]),
            None
        );
        let circle = [ticket("a", &["b"]), ticket("b", &["c"]), ticket("c", &["x", "b"])];
        assert_eq!(named(&circle).unwrap(), ["b", "c"]);
        assert_eq!(named(&[ticket("a", &["a"])]).unwrap(), ["a"]);
    }
}
