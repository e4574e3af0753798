//! Histories of what a queue and workers really write.

use super::*;
use crate::model::scaling::{Metric, ScaleScope};
use crate::model::settings::Durability;
use crate::model::ticket::Ticket;
use crate::queue::{ClaimRequest, Completion, NewTicket, Settlement};
use crate::store::StatePaths;

/// A state of its own.
struct Scene {
    _folder: tempfile::TempDir,
    store: Arc<Store>,
    queue: FileQueue,
    run: RunId,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap());
        let queue = FileQueue::new(store.clone(), "test");
        Self { _folder: folder, store, queue, run: RunId::random() }
    }

    fn publish(&self, id: &str, key: &str) {
        let mut ticket = Ticket::plain(id.parse().unwrap());
        ticket.labels = vec!["bug".to_owned()];
        self.queue.publish(&NewTicket { ticket, dedupe_key: key.to_owned() }).unwrap();
    }

    /// Claims a ticket; its fence.
    fn claim(&self, id: &str) -> u64 {
        let only = Some(vec![id.parse().unwrap()]);
        let lease = Duration::from_secs(60);
        let request =
            ClaimRequest { node: "n".to_owned(), capabilities: Vec::new(), limit: 1, only, lease, request_id: None };
        self.queue.claim(&request).unwrap()[0].fence
    }

    fn says(&self, id: &str, event: Event) {
        let worker: WorkerId = id.parse().unwrap();
        self.store.append_event(&EventRecord::now(&self.run, &id.parse().unwrap(), &worker, event)).unwrap();
    }

    /// The attempt begins.
    fn starts(&self, id: &str, attempt: u32) {
        let (agent, model) = (Some("x".parse().unwrap()), Some("m".to_owned()));
        self.says(id, Event::AgentStarted { pid: 1, attempt, resumed: false, agent, model });
    }

    /// The attempt ends, after the queue knows it.
    fn ends(&self, id: &str, outcome: Outcome, cost: f64) {
        let used = Some(Figures { cost_usd: Some(cost), ..Figures::default() });
        self.says(id, Event::AttemptEnded { outcome, used });
    }

    fn tickets(&self) -> Vec<TicketHistory> {
        catch_up(&self.store).unwrap();
        let rows = self.store.history(HistoryKind::Ticket, Time::from_millis(0)).unwrap();
        rows.iter().map(|row| parse(&row.document).unwrap()).collect()
    }
}

#[test]
fn a_ticket_is_followed_from_its_publication_to_its_landing() {
    let scene = Scene::new();
    scene.publish("a", "1");
    let fence = scene.claim("a");
    scene.starts("a", 1);
    let id = "a".parse().unwrap();
    scene.queue.fail(&id, fence, "no", Some(Time::now())).unwrap();
    scene.ends("a", Outcome::Failed { reason: "no".to_owned(), exit_code: Some(1) }, 1.0);
    scene.queue.expire(Time::now().after(Duration::from_secs(1))).unwrap();
    // Part of the history is written before the rest happens.
    let queued = scene.tickets().remove(0);
    assert_eq!(queued.state, TicketState::Queued);
    assert_eq!(queued.queued_spans().map(|span| span.to.is_some()).collect::<Vec<_>>(), [true, false]);
    let fence = scene.claim("a");
    scene.starts("a", 2);
    scene.queue.complete(&id, fence, Completion::Review).unwrap();
    scene.ends("a", Outcome::NoChanges, 2.0);
    for step in [Settlement::Approve, Settlement::BeginLanding, Settlement::Landed] {
        scene.queue.settle(&id, fence, step).unwrap();
    }
    let known = scene.tickets();
    assert_eq!(known.len(), 1);
    let known = &known[0];
    assert_eq!((known.state, &known.labels[..]), (TicketState::Landed, &["bug".to_owned()][..]));
    assert!(known.published_at.unwrap() <= known.ended_at().unwrap());
    assert_eq!(known.queued_spans().filter(|span| span.to.is_some()).count(), 2, "before each attempt");
    let attempts: Vec<_> = known
        .attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.outcome.as_deref().unwrap(), attempt.used.unwrap().cost_usd.unwrap()))
        .collect();
    assert_eq!(attempts, [(1, "failed", 1.0), (2, "no_changes", 2.0)]);
    assert!(known.attempts.iter().all(|attempt| attempt.spans.len() == 1 && attempt.spans[0].to.is_some()));
    assert_eq!(
        (known.attempts[1].agent.as_ref().unwrap().as_str(), known.attempts[1].model.as_deref()),
        ("x", Some("m"))
    );
}

#[test]
fn a_claim_that_was_given_back_is_no_attempt_and_a_new_publication_a_new_round() {
    let scene = Scene::new();
    scene.publish("a", "1");
    let id = "a".parse().unwrap();
    let fence = scene.claim("a");
    scene.queue.release(&id, fence).unwrap();
    assert_eq!(scene.tickets()[0].attempts, []);
    scene.queue.cancel(&id).unwrap();
    scene.publish("a", "2");
    scene.publish("b", "3");
    let states: Vec<_> = scene.tickets().iter().map(|known| (known.ticket.to_string(), known.state)).collect();
    let expected = [("a", TicketState::Cancelled), ("a", TicketState::Queued), ("b", TicketState::Queued)];
    assert_eq!(states, expected.map(|(id, state)| (id.to_owned(), state)));
}

#[test]
fn the_history_outlives_the_events_and_is_written_once_however_many_write_it() {
    let scene = Scene::new();
    for number in 0..700 {
        scene.publish(&format!("t{number}"), &number.to_string());
        scene.claim(&format!("t{number}"));
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let store = scene.store.clone();
            scope.spawn(move || catch_up(&store).unwrap());
        }
    });
    scene.store.prune_events(Time::now().after(Duration::from_secs(90 * 24 * 3_600))).unwrap();
    assert_eq!(scene.store.stream(0, &crate::store::StreamFilter::default(), 1).unwrap().events, []);
    let known = scene.tickets();
    assert_eq!(known.len(), 700);
    assert!(known.iter().all(|ticket| ticket.attempts.len() == 1 && ticket.state == TicketState::Running));
    assert!(scene.store.history_from().unwrap().unwrap() <= known[0].since);
    // Of what was published before the events that are there, the beginning is not known.
    scene.publish("later", "later");
    assert!(scene.tickets().last().unwrap().published_at.is_some());
}

#[test]
fn a_run_that_was_killed_ends_when_it_was_last_heard_of() {
    let scene = Scene::new();
    let say = |event| scene.store.append_swarm_event(&SwarmRecord::now(&scene.run, event)).unwrap();
    say(SwarmEvent::RunBegan { tickets: Vec::new(), max_workers: 8 });
    scene.publish("a", "1");
    scene.claim("a");
    scene.starts("a", 1);
    let runs = || -> Vec<RunHistory> {
        catch_up(&scene.store).unwrap();
        let rows = scene.store.history(HistoryKind::Run, Time::from_millis(0)).unwrap();
        rows.iter().map(|row| parse(&row.document).unwrap()).collect()
    };
    let killed = runs();
    assert_eq!((killed.len(), killed[0].exit_code, killed[0].max_workers), (1, None, 8));
    say(SwarmEvent::RunEnded { exit_code: 3, why: "some did not land".to_owned() });
    // A worker of its goes on; that is no run any more.
    scene.starts("a", 1);
    let ended = runs();
    assert_eq!((ended.len(), ended[0].exit_code), (1, Some(3)));
    assert!(ended[0].seen_at >= killed[0].seen_at);
}

#[test]
fn a_run_has_as_many_places_as_it_was_scaled_to_at_each_moment() {
    let scene = Scene::new();
    let say = |event| scene.store.append_swarm_event(&SwarmRecord::now(&scene.run, event)).unwrap();
    say(SwarmEvent::RunBegan { tickets: Vec::new(), max_workers: 2 });
    let (metric, value, why) = (Some(Metric::QueueDepth), Some(7.0), "much waits".to_owned());
    say(SwarmEvent::Scaled { scope: ScaleScope::Node, from: 2, to: 5, metric, value, why });
    catch_up(&scene.store).unwrap();
    let row = scene.store.last_history(HistoryKind::Run, scene.run.as_str()).unwrap().unwrap();
    let run: RunHistory = parse(&row.document).unwrap();
    let (begun, scaled) = (run.began_at, run.scaled[0].0);
    let (from, to) = (Time::from_millis(0), scaled.after(Duration::from_secs(9)));
    assert_eq!(run.places(from, to).collect::<Vec<_>>(), [(begun, scaled, 2), (scaled, to, 5)]);
    let old: RunHistory = parse(&row.document.replace(r#","scaled":"#, r#","unknown":"#)).unwrap();
    assert_eq!(old.places(from, to).collect::<Vec<_>>(), [(begun, to, 2)], "records from before have one number");
}
