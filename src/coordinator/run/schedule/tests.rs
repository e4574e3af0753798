mod landing;
mod nodes;
mod ring;
mod topology;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::coordinator::run::world::{AgentFacts, Setback, forget_changed};
use crate::model::agent::RuntimeKind;
use crate::model::health::{Pace, Pacing, Sign};
use crate::model::scaling::{ScaleScope, Scaled};
use crate::model::settings::RunSettings;
use crate::model::ticket::{Dependency, DependencyKind, Ticket};
use crate::model::worker::{Attempt, Figures, Live, Place, ProcessIdentity, Worker};
use crate::model::{CommitId, RunId};

/// The present of these worlds.
const NOW: Time = Time::from_millis(10_000_000);

fn id(name: &str) -> TicketId {
    name.parse().unwrap()
}

fn ago(seconds: i64) -> Time {
    Time::from_millis(NOW.as_millis() - seconds * 1_000)
}

/// An entry that changed its state a minute ago.
fn entry(name: &str, state: S) -> QueueTicket {
    QueueTicket {
        ticket: Ticket::plain(id(name)),
        state,
        attempts: u32::from(!matches!(state, S::Queued | S::Blocked | S::Open)),
        fence: 1,
        node: None,
        lease_until: None,
        retry_at: None,
        error: None,
        waits_for: Vec::new(),
        published_at: ago(600),
        changed_at: ago(60),
    }
}

/// An entry that is blocked by others.
fn blocked_by(name: &str, needs: &[&str]) -> QueueTicket {
    let need = |need: &&str| Dependency { ticket: id(need), kind: DependencyKind::Success };
    let needs: Vec<_> = needs.iter().map(need).collect();
    QueueTicket {
        ticket: Ticket { depends_on: needs.clone(), ..Ticket::plain(id(name)) },
        waits_for: needs,
        ..entry(name, S::Blocked)
    }
}

fn with_agent(entry: QueueTicket, agent: &str) -> QueueTicket {
    QueueTicket { ticket: Ticket { agent: Some(agent.parse().unwrap()), ..entry.ticket }, ..entry }
}

/// The worker of a ticket.
fn seen(name: &str, phase: Phase, liveness: Liveness, status: Status) -> Seen {
    let commit: CommitId = "0123456789012345678901234567890123456789".parse().unwrap();
    let worker = Worker {
        id: name.parse().unwrap(),
        ticket: id(name),
        title: name.to_owned(),
        agent: "shell".parse().unwrap(),
        runtime: RuntimeKind::Command,
        place: Place {
            worktree: "/w".into(),
            branch: format!("swarm/{name}").parse().unwrap(),
            base: commit,
            target: "main".parse().unwrap(),
            first_port: 1,
            port_count: 1,
            made_branch: true,
            made_paths: Vec::new(),
            stacked_on: None,
        },
        attempt: Attempt {
            number: 1,
            fence: 1,
            run: RunId::random(),
            session_id: None,
            started_at: ago(60),
            headless: false,
            tmux: None,
        },
        phase,
        created_at: ago(60),
    };
    Seen { worker, liveness, live: None, status, reason: "because".to_owned(), since: Some(ago(60)) }
}

fn process() -> ProcessIdentity {
    ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "b".to_owned() }
}

fn supervised() -> Phase {
    Phase::Supervised { supervisor: process(), since: ago(60) }
}

fn working(name: &str) -> Seen {
    seen(name, supervised(), Liveness::Alive, Status::Working)
}

fn lost(name: &str) -> Seen {
    seen(name, supervised(), Liveness::Dead, Status::Lost)
}

fn ended(name: &str, outcome: Outcome) -> Seen {
    let status = outcome.verdict().0;
    seen(name, Phase::Ended { outcome, at: ago(60) }, Liveness::Dead, status)
}

fn broke() -> Outcome {
    Outcome::Failed { reason: "it broke".to_owned(), exit_code: Some(1) }
}

/// A world in which every ticket is chosen.
fn world(tickets: Vec<QueueTicket>, workers: Vec<Seen>) -> World {
    let chosen = tickets.iter().map(|entry| entry.ticket.id.clone()).collect();
    let (model, asks) = (Some("big".to_owned()), "big".to_owned());
    let facts = AgentFacts { model, asks, capabilities: vec!["rust".to_owned()] };
    let agents = ["shell", "other"].map(|name| (name.parse().unwrap(), facts.clone()));
    World { now: NOW, tickets, workers, agents: agents.into(), ..World::empty(Some(chosen)) }
}

fn rules() -> Rules {
    Rules::plain(2)
}

fn start(name: &str) -> Step {
    Step::Start { ticket: id(name), agent: "shell".parse().unwrap() }
}

/// What holds a ticket.
#[track_caller]
fn hold<'a>(decision: &'a Decision, name: &str) -> &'a Hold {
    let found = decision.holds.iter().find(|hold| hold.ticket == id(name));
    found.unwrap_or_else(|| panic!("nothing holds `{name}`: {decision:#?}"))
}

#[track_caller]
fn standing_of<'a>(decision: &'a Decision, name: &str) -> &'a Standing {
    &decision.standings.iter().find(|(ticket, _)| *ticket == id(name)).unwrap().1
}

#[test]
fn what_is_queued_starts_in_order_as_long_as_there_is_room() {
    let tickets = vec![entry("r", S::Running), entry("a", S::Queued), entry("b", S::Queued)];
    let decision = decide(&world(tickets, vec![working("r")]), &rules());
    assert_eq!(decision.steps, [start("a")]);
    assert_eq!(
        (hold(&decision, "b").kind, &*hold(&decision, "b").why),
        (HoldKind::Place, "waits for a place: 2 of 2 workers run")
    );
    assert!(!decision.is_over());
}

#[test]
fn a_worker_that_only_keeps_its_agent_at_hand_takes_no_place() {
    let tickets = vec![entry("r", S::Review), entry("q", S::Approved), entry("a", S::Queued), entry("b", S::Queued)];
    let world = world(tickets, vec![working("r"), working("q")]);
    let decision = decide(&world, &Rules { lands: false, ..rules() });
    assert_eq!(decision.steps, [start("a"), start("b")]);
}

#[test]
fn a_lost_worker_goes_before_a_new_one_and_only_once() {
    let tickets = vec![entry("a", S::Queued), entry("l", S::Lost), entry("m", S::Running)];
    let world = world(tickets, vec![lost("l"), lost("m")]);
    let resume = |name: &str| Step::Resume { ticket: id(name), worker: name.parse().unwrap() };
    assert_eq!(decide(&world, &rules()).steps, [resume("l"), resume("m")]);
    let doing = BTreeMap::from([(id("l"), Doing::Starting { agent: None })]);
    assert_eq!(decide(&World { doing, ..world.clone() }, &rules()).steps, [resume("m")]);
    let never = RunSettings { restart: Restart::Never, ..RunSettings::default() };
    let decision = decide(&world, &Rules { run: never, ..rules() });
    assert_eq!(decision.steps, [start("a")]);
    assert_eq!(hold(&decision, "l").why, "lost its supervisor: swarm resume l");
}

#[test]
fn agents_and_models_have_places_of_their_own() {
    let tickets = vec![
        with_agent(entry("a", S::Queued), "other"),
        with_agent(entry("b", S::Queued), "other"),
        entry("c", S::Queued),
    ];
    let per_agent = BTreeMap::from([("other".parse().unwrap(), 1)]);
    let run = RunSettings { max_per_agent: per_agent, ..RunSettings::default() };
    let many = Rules { max_workers: 9, run, ..rules() };
    let decision = decide(&world(tickets.clone(), Vec::new()), &many);
    assert_eq!(decision.steps.len(), 2, "{decision:?}");
    assert_eq!(hold(&decision, "b").why, "waits for a place: 1 of 1 workers of agent `other` run");
    let run = RunSettings { max_per_model: BTreeMap::from([("big".to_owned(), 2)]), ..RunSettings::default() };
    let decision = decide(&world(tickets, Vec::new()), &Rules { run, ..many });
    assert_eq!(hold(&decision, "c").why, "waits for a place: 2 of 2 workers of model `big` run");
}

#[test]
fn a_ticket_that_is_being_started_takes_a_place_of_the_agent_that_was_chosen_for_it() {
    let agents: Vec<AgentName> = vec!["other".parse().unwrap()];
    let max_per_agent = BTreeMap::from([(agents[0].clone(), 1)]);
    let run = RunSettings { agents, max_per_agent, ..RunSettings::default() };
    let rules = Rules { max_workers: 9, run, ..rules() };
    let chosen = Doing::Starting { agent: Some("other".parse().unwrap()) };
    let world = world(vec![entry("a", S::Queued), entry("b", S::Queued)], Vec::new());
    let decision = decide(&World { doing: BTreeMap::from([(id("a"), chosen)]), ..world }, &rules);
    assert_eq!(decision.steps, []);
    assert_eq!(hold(&decision, "b").why, "waits for a place: 1 of 1 workers of agent `other` run");
}

#[test]
fn a_capability_that_no_default_agent_offers_holds_and_a_named_agent_is_believed() {
    let wants = |name: &str, what: &str| {
        let entry = entry(name, S::Queued);
        QueueTicket { ticket: Ticket { capabilities: vec![what.to_owned()], ..entry.ticket }, ..entry }
    };
    let named = with_agent(wants("c", "python"), "shell");
    let decision = decide(&world(vec![wants("a", "python"), wants("b", "rust"), named], Vec::new()), &rules());
    assert_eq!(decision.steps, [start("b"), start("c")]);
    assert_eq!(hold(&decision, "a").kind, HoldKind::Person);
}

#[test]
fn a_failed_attempt_waits_and_is_tried_again_and_a_dead_ticket_is_not() {
    let failed = |seconds| QueueTicket { changed_at: ago(seconds), ..entry("f", S::Failed) };
    let worker = || vec![ended("f", broke())];
    let young = decide(&world(vec![failed(9)], worker()), &rules());
    assert_eq!(young.steps, []);
    assert_eq!(hold(&young, "f").until, Some(Time::from_millis(NOW.as_millis() + 1_000)));
    assert_eq!(young.wake_at, hold(&young, "f").until);
    assert!(hold(&young, "f").why.contains("it broke") && !young.is_over());
    let due = decide(&world(vec![failed(11)], worker()), &rules());
    assert_eq!(due.steps, [Step::Requeue { ticket: id("f") }]);
    let dead = decide(&world(vec![entry("f", S::Dead)], worker()), &rules());
    assert_eq!(*standing_of(&dead, "f"), Standing::Failed("failed, after 1 attempt: it broke".to_owned()));
    assert!(dead.is_over());
}

#[test]
fn what_a_person_or_a_limit_stopped_is_not_tried_again() {
    let stopped = Outcome::Stopped { reason: "a person stopped it".to_owned() };
    let limit = Outcome::LimitReached { reason: "it took longer than 5m".to_owned() };
    let tickets = vec![entry("s", S::Failed), entry("l", S::Failed), entry("e", S::Failed)];
    // The last one's supervisor is about to write down how it ended.
    let decision = decide(&world(tickets, vec![ended("s", stopped), ended("l", limit), working("e")]), &rules());
    assert_eq!(decision.steps, []);
    assert_eq!((hold(&decision, "s").kind, hold(&decision, "l").kind), (HoldKind::Person, HoldKind::Limit));
    assert_eq!(*standing_of(&decision, "e"), Standing::Moving);
}

#[test]
fn a_claim_without_a_worker_is_looked_after_when_nobody_writes_one_down() {
    let claimed = |seconds| QueueTicket { changed_at: ago(seconds), ..entry("a", S::Running) };
    assert_eq!(decide(&world(vec![claimed(1)], Vec::new()), &rules()).steps, []);
    assert_eq!(decide(&world(vec![claimed(4)], Vec::new()), &rules()).steps, [start("a")]);
    let since = ago(60);
    let half = Phase::Preparing {
        step: crate::model::worker::SpawnStep::Setup,
        spawner: process(),
        since,
        before: None,
        earlier: None,
    };
    let half = seen("a", half, Liveness::Dead, Status::Lost);
    assert_eq!(decide(&world(vec![entry("a", S::Lost)], vec![half]), &rules()).steps, [start("a")]);
}

#[test]
fn what_another_program_holds_is_left_to_it_whatever_was_here_before() {
    for state in [S::Running, S::Lost] {
        let held = QueueTicket { node: Some("client:bot".to_owned()), ..entry("a", state) };
        for workers in [Vec::new(), vec![ended("a", broke())]] {
            let decision = decide(&world(vec![held.clone()], workers), &rules());
            assert_eq!(decision.steps, []);
            assert_eq!(hold(&decision, "a").why, "is worked on by `bot`, another program");
            assert!(!decision.is_over(), "it comes to its end by itself");
        }
    }
}

#[test]
fn a_ticket_that_runs_while_its_worker_has_ended_is_started_again() {
    let stopped = || ended("a", Outcome::Stopped { reason: "a person stopped it".to_owned() });
    for state in [S::Running, S::Lost] {
        let claimed = |seconds| QueueTicket { changed_at: ago(seconds), fence: 2, ..entry("a", state) };
        let young = decide(&world(vec![claimed(1)], vec![stopped()]), &rules());
        assert_eq!((young.steps.len(), young.is_over()), (0, false), "its row is about to be written");
        assert_eq!(decide(&world(vec![claimed(4)], vec![stopped()]), &rules()).steps, [start("a")]);
        // Under the lease of its worker only the queue has yet to hear how that ended.
        let untold = QueueTicket { fence: 1, ..claimed(60) };
        assert_eq!(decide(&world(vec![untold], vec![stopped()]), &rules()).steps, []);
    }
}

fn scoped(name: &str, scope: &str) -> QueueTicket {
    let entry = entry(name, S::Queued);
    QueueTicket { ticket: Ticket { scope: vec![scope.to_owned()], ..entry.ticket }, ..entry }
}

#[test]
fn what_may_touch_the_same_files_does_not_begin_beside_it() {
    let tickets = || vec![scoped("a", "src/**"), scoped("b", "src/b.rs"), scoped("c", "docs")];
    let many = Rules { max_workers: 9, ..rules() };
    let decision = decide(&world(tickets(), Vec::new()), &many);
    assert_eq!(decision.steps, [start("a"), start("c")], "also not beside what begins now");
    let why = "waits for `a`, which runs and may touch the same files, such as `src/b.rs`";
    assert_eq!((hold(&decision, "b").kind, hold(&decision, "b").why.as_str()), (HoldKind::Place, why));
    assert!(!decision.is_over());
    let run = RunSettings { allow_scope_overlap: true, ..RunSettings::default() };
    assert_eq!(decide(&world(tickets(), Vec::new()), &Rules { run, ..many.clone() }).steps.len(), 3);
    // What goes on has its place already.
    let mut two = vec![scoped("a", "src/**"), scoped("b", "src/b.rs")];
    (two[0].state, two[1].state) = (S::Running, S::Lost);
    assert_eq!(decide(&world(two, vec![working("a"), lost("b")]), &many).steps.len(), 1);
}

#[test]
fn tickets_that_name_nobody_are_distributed_as_they_are_started() {
    use crate::model::settings::Distribution;
    let tickets = vec![entry("a", S::Queued), entry("b", S::Queued), entry("c", S::Queued)];
    let agents = vec!["other".parse().unwrap(), "shell".parse().unwrap()];
    let run = RunSettings { agents, distribution: Distribution::RoundRobin, ..RunSettings::default() };
    let many = Rules { max_workers: 9, run, ..rules() };
    let agents_of = |decision: &Decision| {
        let of = |step: &Step| match step {
            Step::Start { agent, .. } => agent.to_string(),
            step => panic!("{step:?}"),
        };
        decision.steps.iter().map(of).collect::<Vec<_>>()
    };
    let mut now = world(tickets, Vec::new());
    assert_eq!(agents_of(&decide(&now, &many)), ["other", "shell", "other"]);
    now.past.last = Some("other".parse().unwrap());
    assert_eq!(agents_of(&decide(&now, &many)), ["shell", "other", "shell"]);
    let run = RunSettings {
        max_per_agent: BTreeMap::from([("other".parse().unwrap(), 1), ("shell".parse().unwrap(), 1)]),
        ..many.run.clone()
    };
    let decision = decide(&now, &Rules { run, ..many.clone() });
    assert_eq!(agents_of(&decision), ["shell", "other"]);
    assert_eq!(hold(&decision, "c").why, "waits for a place: 1 of 1 workers of agent `other` run");
    now.tickets[0].ticket.capabilities = vec!["cobol".to_owned()];
    let decision = decide(&now, &many);
    assert_eq!((decision.steps.len(), hold(&decision, "a").kind), (2, HoldKind::Person));
}

#[test]
fn a_blocked_ticket_stands_where_the_worst_that_it_needs_stands() {
    let tickets = vec![
        entry("ok", S::Running),
        entry("dead", S::Dead),
        entry("mine", S::Review),
        blocked_by("a", &["ok"]),
        blocked_by("b", &["ok", "a", "dead"]),
        blocked_by("c", &["mine"]),
        blocked_by("d", &["b"]),
        blocked_by("e", &["nowhere"]),
    ];
    let decision = decide(&world(tickets, vec![working("ok"), working("mine")]), &Rules { lands: false, ..rules() });
    assert_eq!(*standing_of(&decision, "a"), Standing::Moving);
    assert_eq!(hold(&decision, "a").why, "waits for `ok`, which is running");
    let Standing::Failed(why) = standing_of(&decision, "d") else { panic!("{decision:#?}") };
    assert_eq!(why, "needs `b`, which needs `dead`, which failed, after 1 attempt: nobody said why");
    assert_eq!(hold(&decision, "c").why, "waits for `mine`, which is in review and has to land");
    assert_eq!(hold(&decision, "e").why, "waits for `nowhere`, and there is no such ticket");
}

#[test]
fn what_was_not_chosen_is_left_alone() {
    let tickets = vec![entry("mine", S::Queued), entry("theirs", S::Queued), entry("lost", S::Lost)];
    let world = World { chosen: Some([id("mine")].into()), ..world(tickets, vec![lost("lost")]) };
    let decision = decide(&world, &rules());
    assert_eq!((decision.steps, decision.standings.len()), (vec![start("mine")], 1));
    let endless = World { chosen: None, ..world };
    assert_eq!(decide(&endless, &rules()).steps.len(), 2);
}

#[test]
fn nothing_is_published_that_nobody_chose() {
    let tickets = vec![entry("open", S::Open)];
    assert_eq!(decide(&world(tickets.clone(), Vec::new()), &rules()).steps, [Step::Publish { ticket: id("open") }]);
    let endless = World { chosen: None, ..world(tickets, Vec::new()) };
    assert_eq!(decide(&endless, &rules()).steps, []);
}

#[test]
fn what_waits_for_a_change_is_forgotten_with_the_state_it_was_in() {
    let setback = |until| Setback { kind: HoldKind::Person, why: String::new(), until, at: (S::Queued, 0), count: 1 };
    let after = |state, until| {
        let mut setbacks = BTreeMap::from([(id("a"), setback(until))]);
        forget_changed(&mut setbacks, &world(vec![entry("a", state)], Vec::new()));
        !setbacks.is_empty()
    };
    assert!(after(S::Queued, None));
    assert!(!after(S::Blocked, None), "it is tried again when it is queued once more");
    assert!(after(S::Blocked, Some(ago(-5))), "its time counts, and how often it was tried");
}

#[test]
fn a_setback_holds_for_its_time_and_as_long_as_the_ticket_is_the_same() {
    let setback = |until, at| Setback { kind: HoldKind::Person, why: "could not".to_owned(), until, at, count: 1 };
    let with = |setback| {
        let setbacks = BTreeMap::from([(id("a"), setback)]);
        decide(&World { setbacks, ..world(vec![entry("a", S::Queued)], Vec::new()) }, &rules())
    };
    let same = (S::Queued, 1);
    assert_eq!(with(setback(None, same)).steps, []);
    assert!(with(setback(None, same)).is_over());
    assert_eq!(with(setback(Some(ago(-5)), same)).wake_at, Some(ago(-5)));
    assert_eq!(with(setback(Some(ago(1)), same)).steps, [start("a")]);
    assert_eq!(with(setback(None, (S::Queued, 2))).steps, [start("a")]);
}

#[test]
fn an_agent_that_asks_counts_as_moving_until_it_has_asked_for_a_while() {
    let asks = |seconds| {
        let asking = seen("a", supervised(), Liveness::Alive, Status::Waiting);
        vec![Seen { since: Some(ago(seconds)), ..asking }]
    };
    let after = |seconds| decide(&world(vec![entry("a", S::Running)], asks(seconds)), &rules());
    assert!(!after(1).is_over() && after(10).is_over());
    assert_eq!(hold(&after(10), "a").why, "waits for a person (because): swarm attach a");
}

#[test]
fn a_queued_ticket_whose_worker_still_lives_is_not_started_beside_it() {
    let decision = decide(&world(vec![entry("a", S::Queued)], vec![working("a")]), &rules());
    assert_eq!((decision.steps.len(), hold(&decision, "a").kind), (0, HoldKind::Person));
}

/// A world that plays: what is started runs, ends some way, and lands.
struct Play {
    world: World,
    /// For each ticket, how its attempts end.
    fates: BTreeMap<TicketId, Vec<Fate>>,
    /// Attempts at once, at most.
    most: usize,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Works,
    Fails,
    IsLost,
}

impl Play {
    /// Does the steps, then lets every running attempt meet its fate.
    fn carry_out(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Start { ticket, .. } | Step::TakeOver { ticket, .. } => {
                    let entry = self.entry(ticket);
                    assert_eq!(entry.state, S::Queued, "only what is queued starts");
                    (entry.state, entry.attempts, entry.fence) = (S::Running, entry.attempts + 1, entry.fence + 1);
                    self.set_worker(working(ticket.as_str()));
                }
                Step::Resume { ticket, .. } => {
                    self.entry(ticket).state = S::Running;
                    self.set_worker(working(ticket.as_str()));
                }
                Step::Hand { .. } | Step::Pass { .. } => panic!("no ticket of the play goes round a ring: {step:?}"),
                Step::Care { .. } => panic!("every worker of the play ends by itself: {step:?}"),
                Step::Requeue { ticket } => self.entry(ticket).state = S::Queued,
                Step::Publish { ticket } => self.entry(ticket).state = S::Queued,
                Step::Land { workers } => {
                    for (ticket, _) in workers {
                        self.entry(ticket).state = S::Landed;
                        self.world.workers.retain(|seen| seen.worker.ticket != *ticket);
                    }
                }
            }
        }
        self.most = self.most.max(self.world.busy().count());
        let running: Vec<TicketId> = self.world.busy().map(|seen| seen.worker.ticket.clone()).collect();
        for ticket in running {
            match self.fates.get_mut(&ticket).and_then(Vec::pop).unwrap_or(Fate::Works) {
                Fate::Works => self.entry(&ticket).state = S::Review,
                Fate::Fails => {
                    let entry = self.entry(&ticket);
                    entry.state = if entry.attempts >= 2 { S::Dead } else { S::Failed };
                    self.set_worker(ended(ticket.as_str(), broke()));
                }
                Fate::IsLost => {
                    self.entry(&ticket).state = S::Lost;
                    self.set_worker(lost(ticket.as_str()));
                }
            }
        }
        self.unblock();
    }

    fn entry(&mut self, id: &TicketId) -> &mut QueueTicket {
        self.world.tickets.iter_mut().find(|entry| entry.ticket.id == *id).unwrap()
    }

    fn set_worker(&mut self, seen: Seen) {
        self.world.workers.retain(|known| known.worker.id != seen.worker.id);
        self.world.workers.push(seen);
    }

    fn unblock(&mut self) {
        let landed: BTreeSet<TicketId> =
            self.world.tickets.iter().filter(|e| e.state == S::Landed).map(|e| e.ticket.id.clone()).collect();
        for entry in &mut self.world.tickets {
            entry.waits_for.retain(|need| !landed.contains(&need.ticket));
            if entry.state == S::Blocked && entry.waits_for.is_empty() {
                entry.state = S::Queued;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_play_ends_within_its_limits_and_lands_what_can_land(
        needs in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..3), 1..14),
        fates in proptest::collection::vec(proptest::collection::vec(0..6u8, 0..3), 14),
        limit in 1..4usize,
    ) {
        let name = |number: usize| format!("t{number}");
        let tickets: Vec<_> = needs.iter().enumerate().map(|(number, needs)| {
            // A ticket needs earlier ones only, so there is no circle.
            let needs: BTreeSet<_> = needs.iter().filter(|_| number > 0).map(|need| name(need.index(number))).collect();
            let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
            if needs.is_empty() { entry(&name(number), S::Queued) } else { blocked_by(&name(number), &needs) }
        }).collect();
        let fate = |number: &u8| match number { 0 => Fate::Fails, 1 => Fate::IsLost, _ => Fate::Works };
        let fates = fates.iter().enumerate().map(|(number, all)| (id(&name(number)), all.iter().map(fate).collect()));
        let mut play = Play { world: world(tickets, Vec::new()), fates: fates.collect(), most: 0 };
        let rules = Rules { max_workers: limit, approves: true, ..rules() };
        let mut last = None;
        for _ in 0..200 {
            let decision = decide(&play.world, &rules);
            let touched: Vec<_> = decision.steps.iter().flat_map(|step| match step {
                Step::Land { workers } => workers.iter().map(|(ticket, _)| ticket.clone()).collect(),
                Step::Start { ticket, .. } | Step::TakeOver { ticket, .. } | Step::Resume { ticket, .. } | Step::Requeue { ticket }
                | Step::Publish { ticket } | Step::Care { ticket, .. } | Step::Hand { ticket, .. } | Step::Pass { ticket, .. } => vec![ticket.clone()],
            }).collect();
            prop_assert_eq!(touched.iter().collect::<BTreeSet<_>>().len(), touched.len(), "one step a ticket");
            prop_assert_eq!(decision.standings.len(), play.world.tickets.len());
            let is_over = decision.is_over();
            let steps = decision.steps.clone();
            last = Some(decision);
            if is_over {
                break;
            }
            play.carry_out(&steps);
        }
        let last = last.unwrap();
        prop_assert!(last.is_over(), "it never ends: {:#?}", last);
        prop_assert!(play.most <= limit);
        for (ticket, standing) in &last.standings {
            let state = play.world.ticket(ticket).unwrap().state;
            let is_right = match standing {
                Standing::Made => state == S::Landed,
                Standing::Failed(_) => matches!(state, S::Dead | S::Blocked),
                Standing::Held(_) | Standing::Moving => false,
            };
            prop_assert!(is_right, "`{}` is {} and {:?}", ticket, state, standing);
        }
    }
}

/// A worker that has worked without a sign of progress for some minutes.
fn silent_for(name: &str, minutes: u64) -> Seen {
    let sign = Sign { what: "it was started".to_owned(), at: ago(600), quiet_ms: minutes * 60_000 };
    let live = Live {
        heartbeat_at: ago(1),
        attempt: 1,
        agent: None,
        status: Status::Working,
        reason: "the process runs".to_owned(),
        since: ago(600),
        evidence: Vec::new(),
        figures: Figures::default(),
        changes: None,
        resources: None,
        sign: Some(sign),
        checks: Vec::new(),
        held_at: None,
        outside_scope: Vec::new(),
    };
    Seen { live: Some(live), ..working(name) }
}

fn care_step(name: &str, what: CareOf) -> Step {
    Step::Care { ticket: id(name), worker: name.parse().unwrap(), what }
}

#[test]
fn a_silent_worker_is_looked_after_once_at_a_time_and_stays_working() {
    let world = world(vec![entry("a", S::Running)], vec![silent_for("a", 11)]);
    let decision = decide(&world, &rules());
    assert_eq!(decision.steps, [care_step("a", CareOf::Nudge)]);
    assert_eq!(standing_of(&decision, "a"), &Standing::Moving);
    let doing = BTreeMap::from([(id("a"), Doing::Caring)]);
    assert_eq!(decide(&World { doing, ..world.clone() }, &rules()).steps, []);
    let nudged = Care { nudges: 1, ..Care::default() };
    let cares = BTreeMap::from([("a".parse().unwrap(), nudged)]);
    assert_eq!(decide(&World { cares: cares.clone(), ..world.clone() }, &rules()).steps, []);
    let workers = vec![silent_for("a", 21)];
    let steps = decide(&World { cares, workers, ..world }, &rules()).steps;
    assert!(matches!(&steps[..], [Step::Care { what: CareOf::Restart { .. }, .. }]), "{steps:?}");
}

#[test]
fn nothing_new_is_started_for_a_model_that_asks_for_patience_and_lost_work_goes_on() {
    let pace = Pace::after_refusal(None, "big", "429", Some(Duration::from_secs(60)), Pacing::default(), ago(10));
    let tickets = vec![entry("a", S::Queued), entry("l", S::Lost)];
    let world = World { paces: vec![pace], ..world(tickets, vec![lost("l")]) };
    let decision = decide(&world, &rules());
    assert_eq!(decision.steps, [Step::Resume { ticket: id("l"), worker: "l".parse().unwrap() }]);
    let held = hold(&decision, "a");
    assert_eq!(held.why, "waits: its model `big` asks for patience: 429");
    assert_eq!((held.kind, held.until), (HoldKind::Time, Some(ago(-50))));
    assert!(!decision.is_over());
}

#[test]
fn a_worker_that_is_lost_too_often_is_given_up_for_good() {
    let end = |seconds: i64, fence| BadEnd { at: ago(seconds), fence, exit_code: None, why: "lost".to_owned() };
    let care = Care { ends: vec![end(300, 7), end(200, 8), end(100, 9)], ..Care::default() };
    let cares = |care: Care| BTreeMap::from([("l".parse().unwrap(), care)]);
    let world = world(vec![entry("l", S::Lost)], vec![lost("l")]);
    let steps = decide(&World { cares: cares(care.clone()), ..world.clone() }, &rules()).steps;
    assert!(matches!(&steps[..], [Step::Care { what: CareOf::GiveUp { .. }, .. }]), "{steps:?}");
    let given_up = Care { gave_up: Some("too often".to_owned()), ..Care::default() };
    let decision = decide(&World { cares: cares(given_up), ..world.clone() }, &rules());
    assert_eq!(decision.steps, []);
    let why = "too often: swarm why l, then swarm resume l".to_owned();
    assert_eq!(standing_of(&decision, "l"), &Standing::Failed(why));
    assert!(decision.is_over());
    let twice = Care { ends: vec![end(300, 7), end(60, 9)], ..Care::default() };
    let steps = decide(&World { cares: cares(twice), ..world }, &rules()).steps;
    assert_eq!(steps, [Step::Resume { ticket: id("l"), worker: "l".parse().unwrap() }]);
}

#[test]
fn who_stands_by_believes_the_leader_about_what_it_tried_in_vain() {
    let why = "could not be started: its program is gone".to_owned();
    let hold = Hold { ticket: id("a"), kind: HoldKind::Person, why, until: None };
    let told = BTreeMap::from([(id("a"), hold.clone())]);
    let world = World { told, ..world(vec![entry("a", S::Queued)], Vec::new()) };
    let decision = decide(&world, &rules());
    assert_eq!(*standing_of(&decision, "a"), Standing::Held(hold));
    assert!(decision.is_over());
    let young = QueueTicket { changed_at: ago(1), ..entry("a", S::Queued) };
    assert!(!decide(&World { tickets: vec![young], ..world }, &rules()).is_over(), "the leader has yet to hear of it");
}

#[test]
fn who_stands_by_does_not_give_a_ticket_up_that_the_leader_may_have_stopped_to_queue_it_again() {
    let stopped = ended("a", Outcome::Stopped { reason: "the run's time was over".to_owned() });
    let failed = |seconds| QueueTicket { changed_at: ago(seconds), ..entry("a", S::Failed) };
    let seen = |seconds, is_led| World { is_led, ..world(vec![failed(seconds)], vec![stopped.clone()]) };
    assert_eq!(standing_of(&decide(&seen(1, true), &rules()), "a"), &Standing::Moving);
    assert!(decide(&seen(1, false), &rules()).is_over(), "who leads knows");
    assert!(decide(&seen(9, true), &rules()).is_over());
}

#[test]
fn a_restart_that_is_owed_is_made_whether_attempts_are_left_or_not() {
    for state in [S::Failed, S::Dead] {
        let stopped = ended("a", Outcome::Stopped { reason: "silence".to_owned() });
        let owed = |fence| {
            let care = Care { restart_owed: Some(fence), ..Care::default() };
            let cares = BTreeMap::from([("a".parse().unwrap(), care)]);
            World { cares, ..world(vec![entry("a", state)], vec![stopped.clone()]) }
        };
        assert_eq!(decide(&owed(1), &rules()).steps, [care_step("a", CareOf::RestartOwed)]);
        assert_eq!(decide(&owed(0), &rules()).steps, [], "it ended for another reason since");
    }
}

#[test]
fn the_end_of_a_worker_that_was_killed_behind_that_of_its_ticket_is_written_down() {
    for state in [S::Dead, S::Done, S::Cancelled] {
        let steps = decide(&world(vec![entry("l", state)], vec![lost("l")]), &rules()).steps;
        assert_eq!(steps, [care_step("l", CareOf::Close)], "{state:?}");
        let of_before = QueueTicket { fence: 2, ..entry("l", state) };
        assert_eq!(decide(&world(vec![of_before], vec![lost("l")]), &rules()).steps, []);
        assert_eq!(decide(&world(vec![entry("l", state)], vec![ended("l", broke())]), &rules()).steps, []);
    }
}

#[test]
fn a_number_that_was_scaled_counts_in_place_of_the_configured_one_and_is_named() {
    let tickets = || ["a", "b", "c"].map(|name| entry(name, S::Queued)).to_vec();
    let scaled = |workers, by: &str| Some(Scaled { workers, scope: ScaleScope::Node, by: by.to_owned() });
    let rules = Rules { max_workers: 1, scaled: scaled(2, "queue_depth"), ..rules() };
    let decision = decide(&world(tickets(), Vec::new()), &rules);
    assert_eq!((decision.steps.len(), decision.waiting), (2, 1));
    assert_eq!(decision.holds[0].why, "waits for a place: 2 of 2 workers run (set by queue_depth: swarm scale)");
    // Of those that run beyond it none is stopped, and what else is in the way is not for want of a place.
    let rules = Rules { scaled: scaled(0, "hand"), ..rules };
    let mut all = tickets();
    all[0].state = S::Running;
    all[1].ticket.capabilities = vec!["gpu".to_owned()];
    let decision = decide(&world(all, vec![working("a")]), &rules);
    assert_eq!((decision.steps.as_slice(), decision.waiting), (&[][..], 1));
}
