//! Many threads and processes on one queue, some of them killed in the middle of anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::model::check_events;
use super::{Engine, id, needs, publish, request, ticket};
use crate::model::ticket::{DependencyKind, Ticket, TicketState as S};
use crate::model::{TicketId, Time};
use crate::process;
use crate::queue::{Claim, ClaimRequest, Completion, Lead, LeadRequest, Queue, QueueError, Renewed, Reopen};
use crate::store::{JsonLog, read_log};

/// Tells the helper process where queue and ledger are; without it the helper has nothing to do.
const ORDERS: &str = "SWARM_TEST_QUEUE_HELPER";
/// Leases of the helper processes: long for a step, short for a test.
const LEASE: Duration = Duration::from_millis(300);
/// No test waits longer than this.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) fn many_threads_that_want_to_lead_make_one_leader<E: Engine>() {
    let engine = E::fresh();
    let rounds = 40;
    let gate = std::sync::Barrier::new(6);
    let ask = &|name: usize| {
        let queue = engine.handle();
        let lease = Duration::from_secs(3_600);
        let request = LeadRequest { role: "coordinator".to_owned(), holder: name.to_string(), lease };
        let mut fences = Vec::new();
        for _ in 0..rounds {
            gate.wait();
            let taken = match queue.leader_lease(&request).unwrap() {
                Lead::Taken(leader) => Some(leader.fence),
                Lead::Held(_) => None,
            };
            gate.wait();
            if let Some(fence) = taken {
                fences.push(fence);
                queue.release_lead("coordinator", fence).unwrap();
            }
        }
        fences
    };
    let mut fences: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|name| scope.spawn(move || ask(name))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    fences.sort_unstable();
    assert_eq!(fences, (1..=rounds).collect::<Vec<u64>>(), "one leader a round, each under a fence of its own");
}

pub(crate) fn many_threads_share_the_work_without_doubles<E: Engine>() {
    let engine = E::fresh();
    let queue = engine.handle();
    let count = 160;
    for number in 0..count {
        // Every fourth waits for the one before it.
        let previous = format!("t{}", number - i32::from(number > 0));
        let depends_on = if number % 4 == 3 { vec![needs(&previous, DependencyKind::Success)] } else { Vec::new() };
        publish(&*queue, Ticket { depends_on, ..ticket(&format!("t{number}")) }).unwrap();
    }
    let work = || {
        let queue = engine.handle();
        let started = Instant::now();
        let mut done = Vec::new();
        while queue.states().unwrap().iter().any(|(_, state)| *state != S::Done) {
            assert!(started.elapsed() < DEADLINE);
            for claim in queue.claim(&ClaimRequest { limit: 2, ..request() }).unwrap() {
                queue.complete(&claim.ticket.id, claim.fence, Completion::Done).unwrap();
                done.push((claim.ticket.id, claim.fence));
            }
        }
        done
    };
    let done: Vec<(TicketId, u64)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(done.len(), count as usize);
    assert!(done.iter().all(|(_, fence)| *fence == 1), "nobody took what another held");
    assert_eq!(done.into_iter().collect::<BTreeSet<_>>().len(), count as usize);
    check_events(&*queue, E::TELLS_EACH);
}

/// What a helper process writes down after the queue acknowledged it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Acknowledged {
    Published(TicketId),
    Completed(TicketId, u64),
}

/// What the test tells its helpers.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    address: String,
    ledger: PathBuf,
    /// Distinguishes the tickets a helper publishes.
    number: usize,
}

/// Starts one helper: the test program itself, asked for its helper test alone.
fn start_helper(test_path: &str, orders: &Orders) -> Child {
    let mut command = process::command(std::env::current_exe().unwrap());
    command.args([&format!("{test_path}::helper_process"), "--exact", "--nocapture"]);
    command.env(ORDERS, serde_json::to_string(orders).unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    process::spawn(&mut command).unwrap()
}

/// Waits for a helper that was killed or ended; whether it ended by itself and well.
fn finish(mut child: Child) -> bool {
    let status = child.wait().unwrap();
    process::forget(child.id());
    status.success()
}

pub(crate) fn killed_processes_lose_and_double_nothing<E: Engine>(test_path: &str) {
    let engine = E::fresh();
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.jsonl");
    let mut number = 0;
    let mut start = || {
        number += 1;
        start_helper(test_path, &Orders { address: engine.address(), ledger: ledger.clone(), number })
    };
    let started = Instant::now();
    let mut helpers: Vec<Child> = (0..8).map(|_| start()).collect();
    // Made after the helpers were started: the queue comes into being under all of them at once.
    let queue = engine.handle();
    let mut seen: i64 = 0;
    for _ in 0..30 {
        // The oldest helper is killed whenever the crowd got some way on, so that kills fall anywhere in its work.
        let target = seen + 17;
        while seen < target {
            assert!(started.elapsed() < DEADLINE, "the crowd stands still at event {seen}");
            let events = queue.events_since(seen, usize::MAX).unwrap();
            seen = events.last().map_or(seen, |(seq, _)| *seq);
            helpers.retain_mut(|helper| {
                let ended = helper.try_wait().unwrap();
                assert!(ended.is_none_or(|status| status.success()), "a helper that nobody killed failed");
                ended.is_none()
            });
            if helpers.is_empty() {
                helpers.push(start());
            }
            thread::sleep(Duration::from_millis(1));
        }
        let mut victim = helpers.remove(0);
        victim.kill().unwrap();
        finish(victim);
        helpers.push(start());
    }
    for helper in helpers {
        assert!(finish(helper), "a helper that was left alone ends well");
    }
    check_outcome(&*queue, &ledger, E::TELLS_EACH);
}

/// Checks queue and ledger against each other.
fn check_outcome(queue: &dyn Queue, ledger: &Path, tells_each: bool) {
    check_events(queue, tells_each);
    let states: BTreeMap<TicketId, S> = queue.states().unwrap().into_iter().collect();
    assert!(states.values().all(|state| *state == S::Done), "{states:?}");
    let mut completed = BTreeMap::new();
    for (_, event) in queue.events_since(0, usize::MAX).unwrap() {
        if event.to == S::Done {
            assert_eq!(completed.insert(event.ticket.clone(), event.fence), None, "{} was done twice", event.ticket);
        }
    }
    let ledger = read_log::<Acknowledged>(ledger).unwrap();
    let mut acknowledged = BTreeSet::new();
    for entry in ledger.records {
        match entry {
            Acknowledged::Published(ticket) => assert!(states.contains_key(&ticket), "{ticket} was lost"),
            Acknowledged::Completed(ticket, fence) => {
                assert_eq!(completed.get(&ticket), Some(&fence), "{ticket} was done under another fence");
                assert!(acknowledged.insert(ticket), "two processes were told that they completed one ticket");
            }
        }
    }
    assert!(acknowledged.len() > 20, "the crowd did little: {}", acknowledged.len());
}

/// The body of the helper process: publishes a few tickets, then works until every ticket is done.
pub(crate) fn helper_process<E: Engine>() {
    #[expect(clippy::disallowed_methods, reason = "the test program tells its own child what to do")]
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let queue = E::handle_at(&orders.address);
    let mut ledger = JsonLog::open(&orders.ledger).unwrap();
    for number in 0..8 {
        let name = format!("h{}-{number}", orders.number);
        publish(&*queue, Ticket { max_attempts: 1_000, ..ticket(&name) }).unwrap();
        ledger.append(&Acknowledged::Published(id(&name))).unwrap();
    }
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < DEADLINE);
        let claims = queue.claim(&ClaimRequest { limit: 2, lease: LEASE, ..request() }).unwrap();
        let is_idle = claims.is_empty();
        for claim in claims {
            work_on(&*queue, &mut ledger, &claim);
        }
        queue.expire(Time::now()).unwrap();
        let states = queue.states().unwrap();
        for (lost, _) in states.iter().filter(|(_, state)| *state == S::Lost) {
            take_back(&*queue, &mut ledger, lost);
        }
        if is_idle && states.iter().all(|(_, state)| *state == S::Done) {
            return;
        }
    }
}

/// Ends a claim in one of several ways, by its fence, so that every ticket is done in the end.
fn work_on(queue: &dyn Queue, ledger: &mut JsonLog, claim: &Claim) {
    let (ticket, fence) = (&claim.ticket.id, claim.fence);
    match fence % 4 {
        1 => accept_loss(queue.fail(ticket, fence, "not yet", Some(Time::from_millis(0)))),
        2 => accept_loss(queue.release(ticket, fence)),
        3 if queue.renew(ticket, fence, LEASE).unwrap() == Renewed::Lost => {}
        _ => complete(queue, ledger, ticket, fence),
    }
}

/// Completes and writes it down, unless the lease was lost.
fn complete(queue: &dyn Queue, ledger: &mut JsonLog, ticket: &TicketId, fence: u64) {
    match queue.complete(ticket, fence, Completion::Done) {
        Ok(_) => ledger.append(&Acknowledged::Completed(ticket.clone(), fence)).unwrap(),
        refused => accept_loss(refused),
    }
}

/// Continues a lost ticket, unless somebody else was faster.
fn take_back(queue: &dyn Queue, ledger: &mut JsonLog, lost: &TicketId) {
    // State and fence from one look: by now another may have taken it back and even completed it.
    let entry = queue.ticket(lost).unwrap().unwrap();
    if entry.state != S::Lost {
        return;
    }
    let expected_fence = entry.fence;
    let reopen = Reopen {
        ticket: lost.clone(),
        expected_fence,
        node: "n".to_owned(),
        lease: LEASE,
        counts_attempt: false,
        from: None,
    };
    match queue.reopen(&reopen) {
        Ok(claim) => complete(queue, ledger, lost, claim.fence),
        Err(refused) => accept_loss::<Claim>(Err(refused)),
    }
}

/// A process that is slow may find that it lost its lease; anything else is a fault.
fn accept_loss<T>(answer: Result<T, QueueError>) {
    match answer {
        Ok(_) | Err(QueueError::Stale { .. } | QueueError::Illegal { .. }) => {}
        Err(error) => panic!("{error:?}"),
    }
}
