//! What a supervisor's renewal and its end do to a ticket that went its own way.

use tempfile::TempDir;

use super::*;
use crate::model::agent::RuntimeKind;
use crate::model::settings::Durability;
use crate::model::ticket::Ticket;
use crate::model::worker::{Attempt, Place};
use crate::queue::{ClaimRequest, FileQueue, NewTicket, Settlement};

/// A worker whose ticket runs, and its ledger.
struct Scene {
    folder: TempDir,
    queue: Arc<FileQueue>,
    store: Arc<Store>,
    ledger: Ledger,
    ticket: TicketId,
    fence: u64,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = StatePaths::new(folder.path());
        let store = Arc::new(Store::open(&paths, Durability::Normal).unwrap());
        let queue = Arc::new(FileQueue::new(store.clone(), "tests"));
        let ticket: TicketId = "fix".parse().unwrap();
        let new = NewTicket { ticket: Ticket::plain(ticket.clone()), dedupe_key: "k".to_owned() };
        queue.publish(&new).unwrap();
        let request = ClaimRequest {
            node: node_name(),
            capabilities: Vec::new(),
            limit: 1,
            only: None,
            lease: LEASE,
            request_id: None,
        };
        let fence = queue.claim(&request).unwrap()[0].fence;
        let worker = worker(fence);
        store.put_worker(&worker).unwrap();
        let ledger = Ledger::new(store.clone(), queue.clone(), &paths, &worker).unwrap();
        Self { folder, queue, store, ledger, ticket, fence }
    }

    fn state(&self) -> TicketState {
        self.queue.ticket(&self.ticket).unwrap().unwrap().state
    }

    /// Renews, and checks that the ticket is left as it is; why there is no lease any more.
    #[track_caller]
    fn is_gone(&self) -> String {
        let before = self.queue.ticket(&self.ticket).unwrap();
        let Renewal::Gone { why } = self.ledger.renew(self.fence).unwrap() else { panic!("it was taken back") };
        assert_eq!(self.queue.ticket(&self.ticket).unwrap(), before);
        why
    }
}

/// A supervised worker under a lease.
fn worker(fence: u64) -> Worker {
    let commit = "0123456789012345678901234567890123456789";
    let supervisor = ProcessIdentity { pid: 1, start_ticks: 1, boot_id: "b".to_owned() };
    Worker {
        id: "fix".parse().unwrap(),
        ticket: "fix".parse().unwrap(),
        title: "Fix".to_owned(),
        agent: "shell".parse().unwrap(),
        runtime: RuntimeKind::Command,
        place: Place {
            worktree: "/w".into(),
            branch: "swarm/fix".parse().unwrap(),
            base: commit.parse().unwrap(),
            target: "main".parse().unwrap(),
            first_port: 0,
            port_count: 0,
            made_branch: true,
            made_paths: Vec::new(),
            stacked_on: None,
        },
        attempt: Attempt {
            number: 1,
            fence,
            run: RunId::random(),
            session_id: None,
            started_at: Time::from_millis(0),
            headless: true,
            tmux: None,
        },
        phase: Phase::Supervised { supervisor, since: Time::from_millis(0) },
        created_at: Time::from_millis(0),
    }
}

#[test]
fn a_renewal_takes_a_lost_ticket_back_and_no_other() {
    let scene = Scene::new();
    assert_eq!(scene.ledger.renew(scene.fence).unwrap(), Renewal::Held { fence: scene.fence });
    scene.queue.declare_lost(&scene.ticket, scene.fence).unwrap();
    let Renewal::Held { fence } = scene.ledger.renew(scene.fence).unwrap() else { panic!("nobody else has it") };
    assert!(fence > scene.fence);
    assert_eq!(scene.state(), TicketState::Running);
    assert_eq!(scene.store.worker(&"fix".parse().unwrap()).unwrap().unwrap().attempt.fence, fence);
    assert_eq!(scene.is_gone(), "its lease went to somebody else");
}

#[test]
fn a_renewal_brings_no_cancelled_finished_or_failed_ticket_back() {
    let scene = Scene::new();
    scene.queue.cancel(&scene.ticket).unwrap();
    assert_eq!(scene.is_gone(), "its ticket was cancelled");

    let scene = Scene::new();
    scene.queue.complete(&scene.ticket, scene.fence, Completion::Review).unwrap();
    assert_eq!(scene.is_gone(), "its ticket is review and no longer held");
    scene.queue.settle(&scene.ticket, scene.fence, Settlement::Approve).unwrap();
    scene.is_gone();

    let scene = Scene::new();
    scene.queue.complete(&scene.ticket, scene.fence, Completion::Done).unwrap();
    scene.is_gone();

    let scene = Scene::new();
    scene.queue.fail(&scene.ticket, scene.fence, "no", None).unwrap();
    scene.is_gone();
}

#[test]
fn work_that_is_finished_while_its_ticket_is_held_to_be_lost_goes_to_review() {
    let scene = Scene::new();
    scene.queue.declare_lost(&scene.ticket, scene.fence).unwrap();
    let commit = "0123456789012345678901234567890123456789".parse().unwrap();
    let fence = scene.ledger.complete(scene.fence, &Outcome::Finished { commit }).unwrap();
    assert_eq!(scene.state(), TicketState::Review);
    assert_eq!(scene.queue.ticket(&scene.ticket).unwrap().unwrap().fence, fence);
    assert_eq!(scene.store.worker(&"fix".parse().unwrap()).unwrap().unwrap().attempt.fence, fence);
}

#[test]
fn an_agent_that_gets_more_to_do_takes_its_ticket_back_unless_it_was_cancelled() {
    let scene = Scene::new();
    scene.queue.complete(&scene.ticket, scene.fence, Completion::Review).unwrap();
    scene.ledger.reopen(scene.fence).unwrap();
    assert_eq!(scene.state(), TicketState::Running);

    let scene = Scene::new();
    scene.queue.complete(&scene.ticket, scene.fence, Completion::Review).unwrap();
    scene.queue.cancel(&scene.ticket).unwrap();
    let refused = scene.ledger.reopen(scene.fence);
    assert!(matches!(refused, Err(SupervisorError::Queue(QueueError::Illegal { .. }))), "{refused:?}");
    assert_eq!(scene.state(), TicketState::Cancelled);
}

#[test]
fn a_supervisor_that_died_before_it_said_so_has_begun_an_attempt_whose_agent_ran() {
    let scene = Scene::new();
    let (paths, mut worker) = (StatePaths::new(scene.folder.path()), worker(scene.fence));
    assert_eq!(begun_agent(&paths, &worker).unwrap(), None);
    let attempt = worker.attempt.number;
    scene.ledger.log(Event::AgentStarted { pid: 7, attempt, resumed: false, agent: None, model: None }).unwrap();
    scene.ledger.log(Event::Warning { text: "something else".to_owned() }).unwrap();
    assert_eq!(begun_agent(&paths, &worker).unwrap(), Some(7));
    worker.attempt.number += 1;
    assert_eq!(begun_agent(&paths, &worker).unwrap(), None, "the one before is not this one");
}
