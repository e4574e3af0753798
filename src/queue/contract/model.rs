//! A random walk of operations, each compared with a model that is simple enough to be believed.
//!
//! The model recomputes after every step what an engine keeps up to date as it goes: who is blocked, who is due, and
//! the order of claims.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::{Engine, LONG, id, needs, ticket};
use crate::model::ticket::{DependencyKind, StartFrom, Ticket, TicketEvent as Ev, TicketState as S, apply};
use crate::model::{TicketId, Time};
use crate::queue::{ClaimRequest, Completion, NewTicket, Queue, QueueError, Renewed, Reopen, Settlement};

/// One operation; tickets are numbers, and `old` means a fence that is not the ticket's.
#[derive(Debug, Clone)]
enum Step {
    Publish { of: u8, key: u8, needs: Vec<Wanted>, stacks: bool, priority: u8, able: u8, max_attempts: u32 },
    Claim { able: u8, limit: usize, only: Option<Vec<u8>>, short: bool },
    Renew { of: u8, old: bool, short: bool },
    Complete { of: u8, old: bool, work: bool },
    Fail { of: u8, old: bool, retry: Option<bool> },
    Release { of: u8, old: bool },
    Reopen { of: u8, old: bool, counts: bool, short: bool, lost_only: bool },
    Settle { of: u8, old: bool, settlement: Settlement },
    Requeue { of: u8 },
    Cancel { of: u8 },
    Expire,
}

/// A ticket waited for, and how.
type Wanted = (u8, DependencyKind);

/// What an operation answered, as far as model and engine can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    State(S),
    Claims(Vec<(String, u32, u64)>),
    Held(bool),
    Lost(BTreeSet<String>),
    NotFound,
    Stale,
    Illegal,
}

/// An entry of the model.
#[derive(Debug, Clone)]
struct Entry {
    state: S,
    fence: u64,
    attempts: u32,
    before: u32,
    counted: bool,
    /// Whether its lease is over at the sweep of [`Step::Expire`].
    short: bool,
    /// Whether its retry is due, where it has one.
    retry: Option<bool>,
    /// Whether its last attempt that ended had failed.
    has_failed: bool,
    position: usize,
    needs: Vec<Wanted>,
    /// Whether it may start from a dependency's branch.
    stacks: bool,
    priority: u8,
    able: u8,
    max_attempts: u32,
}

/// The model of a queue.
#[derive(Debug, Default)]
struct Model {
    entries: BTreeMap<u8, Entry>,
    keys: BTreeMap<u8, u8>,
    positions: usize,
}

/// How many tickets take part.
const TICKETS: u8 = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let of = 0..TICKETS;
    let settlement = prop::sample::select(vec![
        Settlement::Approve,
        Settlement::VoidApproval,
        Settlement::BeginLanding,
        Settlement::DeferLanding,
        Settlement::Landed,
    ]);
    // An old fence is the rarer case.
    let old = || prop::bool::weighted(0.15);
    let kind = prop::sample::select(DependencyKind::ALL.to_vec());
    let wanted = (vec((0..TICKETS, kind), 0..3), any::<bool>());
    let publish = (of.clone(), 0..40u8, wanted, 1..4u8, 0..4u8, 1..4u32).prop_map(
        |(of, key, (needs, stacks), priority, able, max_attempts)| Step::Publish {
            of,
            key,
            needs,
            stacks,
            priority,
            able,
            max_attempts,
        },
    );
    let claim = (0..4u8, 0..4usize, option::weighted(0.3, vec(of.clone(), 0..3)), any::<bool>())
        .prop_map(|(able, limit, only, short)| Step::Claim { able, limit, only, short });
    let step = prop_oneof![
        4 => publish,
        6 => claim,
        1 => (of.clone(), old(), any::<bool>()).prop_map(|(of, old, short)| Step::Renew { of, old, short }),
        5 => (of.clone(), old(), any::<bool>()).prop_map(|(of, old, work)| Step::Complete { of, old, work }),
        2 => (of.clone(), old(), any::<Option<bool>>()).prop_map(|(of, old, retry)| Step::Fail { of, old, retry }),
        1 => (of.clone(), old()).prop_map(|(of, old)| Step::Release { of, old }),
        2 => (of.clone(), old(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(of, old, counts, short, lost_only)| Step::Reopen { of, old, counts, short, lost_only }),
        6 => (of.clone(), old(), settlement).prop_map(|(of, old, settlement)| Step::Settle { of, old, settlement }),
        1 => of.clone().prop_map(|of| Step::Requeue { of }),
        1 => of.prop_map(|of| Step::Cancel { of }),
        1 => Just(Step::Expire),
    ];
    vec(step, 1..80)
}

/// The name of ticket number `of`.
fn name(of: u8) -> String {
    format!("t{of}")
}

/// The capabilities of a bit set.
fn capabilities(bits: u8) -> Vec<String> {
    (0..2).filter(|bit| bits & (1 << bit) != 0).map(|bit| format!("c{bit}")).collect()
}

/// The lease a flag stands for; a short one is over before [`Step::Expire`] looks.
fn lease(short: bool) -> Duration {
    if short { Duration::ZERO } else { LONG }
}

impl Model {
    /// Whether a dependency of `entry` is not satisfied.
    fn is_blocked(&self, entry: &Entry) -> bool {
        let ended =
            |of: &u8, kind: DependencyKind| self.entries.get(of).is_some_and(|other| kind.is_satisfied_by(other.state));
        let open: BTreeSet<_> = entry.needs.iter().filter(|(of, kind)| !ended(of, *kind)).map(|(of, _)| of).collect();
        let may_start = |of: &u8| {
            let as_success = entry.needs.contains(&(*of, DependencyKind::Success));
            entry.stacks && as_success && ended(of, DependencyKind::Completion)
        };
        // One that is open may be there under two kinds, of which the stricter one is open.
        match open.len() {
            0 => false,
            1 => !open.into_iter().all(may_start),
            _ => true,
        }
    }

    /// Lets every waiting entry be queued or blocked as its dependencies say.
    fn judge(&mut self) {
        for of in 0..TICKETS {
            let Some(entry) = self.entries.get(&of).filter(|entry| matches!(entry.state, S::Queued | S::Blocked))
            else {
                continue;
            };
            let state = if self.is_blocked(entry) { S::Blocked } else { S::Queued };
            self.entries.get_mut(&of).unwrap().state = state;
        }
    }

    /// Whether `from` can be reached from `to` over edges that may still be waited for.
    fn reaches(&self, from: u8, to: u8, seen: &mut BTreeSet<u8>) -> bool {
        if from == to {
            return true;
        }
        let open = self.entries.get(&from).filter(|entry| !matches!(entry.state, S::Landed | S::Done));
        seen.insert(from)
            && open.is_some_and(|entry| entry.needs.clone().iter().any(|(next, _)| self.reaches(*next, to, seen)))
    }

    /// Queues what is due.
    fn sweep(&mut self) {
        for entry in self.entries.values_mut() {
            if entry.state == S::Failed && entry.retry == Some(true) {
                entry.state = S::Queued;
                entry.retry = None;
            }
        }
        self.judge();
    }

    /// The fence a step names.
    fn fence(&self, of: u8, old: bool) -> u64 {
        let fence = self.entries.get(&of).map_or(0, |entry| entry.fence);
        if !old {
            fence
        } else if fence > 0 {
            fence - 1
        } else {
            7
        }
    }

    /// Does a step and says what it answers.
    fn take(&mut self, step: &Step) -> Answer {
        let answer = self.take_step(step);
        self.judge();
        match answer {
            // The state may have been judged again by the end of the step.
            Ok((of, Answer::State(_))) => Answer::State(self.entries[&of].state),
            Ok((_, answer)) => answer,
            Err(refusal) => refusal,
        }
    }

    /// Does a step, except for who is blocked at its end; answers the ticket it was about.
    fn take_step(&mut self, step: &Step) -> Result<(u8, Answer), Answer> {
        match step {
            Step::Publish { of, key, .. } => {
                if let Some(known) = self.keys.get(key) {
                    return Ok((*known, Answer::State(S::Open)));
                }
                self.publish(*of, step)?;
                self.keys.insert(*key, *of);
                Ok((*of, Answer::State(S::Open)))
            }
            Step::Claim { able, limit, only, short } => Ok((0, self.claim(*able, *limit, only.as_deref(), *short))),
            Step::Expire => {
                self.sweep();
                let mut lost = BTreeSet::new();
                for (of, entry) in &mut self.entries {
                    if entry.state == S::Running && entry.short {
                        entry.state = S::Lost;
                        lost.insert(name(*of));
                    }
                }
                Ok((0, Answer::Lost(lost)))
            }
            Step::Renew { of, old, short } => {
                let fence = self.fence(*of, *old);
                let entry = self.entries.get_mut(of).ok_or(Answer::NotFound)?;
                let held = entry.state == S::Running && entry.fence == fence;
                if held {
                    entry.short = *short;
                }
                Ok((*of, Answer::Held(held)))
            }
            Step::Requeue { of } => {
                let entry = self.entries.get_mut(of).ok_or(Answer::NotFound)?;
                let was_dead = entry.state == S::Dead;
                entry.state = apply(entry.state, Ev::Requeued).map_err(|_| Answer::Illegal)?;
                entry.before = if was_dead { entry.attempts } else { entry.before };
                entry.retry = None;
                Ok((*of, Answer::State(entry.state)))
            }
            Step::Cancel { of } => {
                let entry = self.entries.get_mut(of).ok_or(Answer::NotFound)?;
                entry.state = apply(entry.state, Ev::Cancelled).map_err(|_| Answer::Illegal)?;
                entry.retry = None;
                Ok((*of, Answer::State(entry.state)))
            }
            Step::Complete { of, old, .. }
            | Step::Fail { of, old, .. }
            | Step::Release { of, old }
            | Step::Reopen { of, old, .. }
            | Step::Settle { of, old, .. } => {
                let fence = self.fence(*of, *old);
                let entry = self.entries.get_mut(of).ok_or(Answer::NotFound)?;
                if entry.fence != fence {
                    return Err(Answer::Stale);
                }
                Ok((*of, entry.take_fenced(*of, step)?))
            }
        }
    }

    /// Publishes by a [`Step::Publish`] with a new key.
    fn publish(&mut self, of: u8, step: &Step) -> Result<(), Answer> {
        let Step::Publish { needs, stacks, priority, able, max_attempts, .. } = step else { unreachable!() };
        if needs.iter().any(|(need, _)| self.reaches(*need, of, &mut BTreeSet::new())) {
            return Err(Answer::Illegal);
        }
        self.positions += 1;
        let fresh = Entry {
            state: S::Queued,
            fence: 0,
            attempts: 0,
            before: 0,
            counted: false,
            short: false,
            retry: None,
            has_failed: false,
            position: self.positions,
            needs: needs.clone(),
            stacks: *stacks,
            priority: *priority,
            able: *able,
            max_attempts: *max_attempts,
        };
        let entry = match self.entries.get(&of) {
            None => fresh,
            Some(old) if matches!(old.state, S::Queued | S::Blocked) => Entry {
                position: old.position,
                fence: old.fence,
                attempts: old.attempts,
                before: old.before,
                counted: old.counted,
                has_failed: old.has_failed,
                ..fresh
            },
            Some(old) if matches!(old.state, S::Failed | S::Dead | S::Cancelled | S::Done | S::Landed) => {
                Entry { fence: old.fence, attempts: old.attempts, before: old.attempts, counted: old.counted, ..fresh }
            }
            Some(_) => return Err(Answer::Illegal),
        };
        self.entries.insert(of, entry);
        Ok(())
    }

    /// Claims.
    fn claim(&mut self, able: u8, limit: usize, only: Option<&[u8]>, short: bool) -> Answer {
        if limit == 0 {
            return Answer::Claims(Vec::new());
        }
        self.sweep();
        let fits = |of: u8, entry: &Entry| {
            entry.state == S::Queued && entry.able & !able == 0 && only.is_none_or(|only| only.contains(&of))
        };
        let mut found: Vec<_> = self.entries.iter_mut().filter(|(of, entry)| fits(**of, entry)).collect();
        found.sort_by_key(|(_, entry)| (Reverse(entry.priority), entry.position));
        let claims = found.into_iter().take(limit).map(|(of, entry)| {
            entry.state = S::Running;
            let (attempt, fence) = entry.begin(true, short);
            (name(*of), attempt, fence)
        });
        Answer::Claims(claims.collect())
    }
}

impl Entry {
    /// Gives a lease; attempt and fence.
    fn begin(&mut self, counts: bool, short: bool) -> (u32, u64) {
        self.fence += 1;
        self.attempts += u32::from(counts);
        self.counted = counts;
        self.short = short;
        self.retry = None;
        (self.attempts, self.fence)
    }

    /// Does a step that names this entry's own fence.
    fn take_fenced(&mut self, of: u8, step: &Step) -> Result<Answer, Answer> {
        let legal = |event| apply(self.state, event).map_err(|_| Answer::Illegal);
        match step {
            Step::Complete { work, .. } => {
                if !matches!(self.state, S::Review | S::Approved | S::Landing | S::Landed | S::Done) {
                    self.state = legal(if *work { Ev::FinishedWithWork } else { Ev::FinishedWithoutWork })?;
                    self.has_failed = false;
                }
            }
            Step::Fail { retry, .. } => {
                let is_over = self.has_failed && matches!(self.state, S::Queued | S::Blocked);
                if !is_over && !matches!(self.state, S::Failed | S::Dead) {
                    let exhausted = self.attempts - self.before >= self.max_attempts;
                    self.state = legal(Ev::AttemptFailed { exhausted })?;
                    self.retry = retry.filter(|_| !exhausted);
                    self.has_failed = true;
                }
            }
            Step::Release { .. } => {
                if !matches!(self.state, S::Queued | S::Blocked) {
                    self.state = legal(Ev::Released)?;
                    self.attempts -= u32::from(self.counted);
                    self.counted = false;
                }
            }
            Step::Reopen { lost_only: true, .. } if self.state != S::Lost => return Err(Answer::Illegal),
            Step::Reopen { counts, short, .. } => {
                self.state = legal(Ev::Reopened)?;
                let (attempt, fence) = self.begin(*counts || self.attempts == 0, *short);
                return Ok(Answer::Claims(vec![(name(of), attempt, fence)]));
            }
            Step::Settle { settlement, .. } => {
                let (event, repeated_at) = match settlement {
                    Settlement::Approve => (Ev::Approved, Some(S::Approved)),
                    Settlement::VoidApproval => (Ev::ApprovalVoided, Some(S::Review)),
                    Settlement::BeginLanding => (Ev::LandingStarted, None),
                    Settlement::DeferLanding => (Ev::LandingDeferred, Some(S::Approved)),
                    Settlement::Landed => (Ev::Landed, Some(S::Landed)),
                };
                if repeated_at != Some(self.state) {
                    self.state = legal(event)?;
                }
            }
            _ => unreachable!("{step:?} names no fence"),
        }
        Ok(Answer::State(self.state))
    }
}

/// Does a step on the engine under test.
fn perform(queue: &dyn Queue, model: &Model, step: &Step) -> Result<Answer, QueueError> {
    let past = Time::from_millis(0);
    Ok(match step {
        Step::Publish { of, key, needs: wanted, stacks, priority, able, max_attempts } => {
            let ticket = Ticket {
                priority: *priority,
                depends_on: wanted.iter().map(|(need, kind)| needs(&name(*need), *kind)).collect(),
                start_from: stacks.then_some(StartFrom::Dependency),
                capabilities: capabilities(*able),
                max_attempts: *max_attempts,
                ..ticket(&name(*of))
            };
            Answer::State(queue.publish(&NewTicket { ticket, dedupe_key: format!("key {key}") })?.state)
        }
        Step::Claim { able, limit, only, short } => {
            let only = only.as_ref().map(|only| only.iter().map(|of| id(&name(*of))).collect());
            let capabilities = capabilities(*able);
            let request = ClaimRequest {
                node: "n".to_owned(),
                capabilities,
                limit: *limit,
                only,
                lease: lease(*short),
                request_id: None,
            };
            let claims = queue.claim(&request)?.into_iter();
            Answer::Claims(claims.map(|claim| (claim.ticket.id.into(), claim.attempt, claim.fence)).collect())
        }
        Step::Renew { of, old, short } => {
            let renewed = queue.renew(&id(&name(*of)), model.fence(*of, *old), lease(*short))?;
            Answer::Held(matches!(renewed, Renewed::Held { .. }))
        }
        Step::Complete { of, old, work } => {
            let completion = if *work { Completion::Review } else { Completion::Done };
            Answer::State(queue.complete(&id(&name(*of)), model.fence(*of, *old), completion)?)
        }
        Step::Fail { of, old, retry } => {
            let retry_at = retry.map(|due| if due { past } else { Time::now().after(LONG) });
            Answer::State(queue.fail(&id(&name(*of)), model.fence(*of, *old), "no", retry_at)?)
        }
        Step::Release { of, old } => Answer::State(queue.release(&id(&name(*of)), model.fence(*of, *old))?),
        Step::Reopen { of, old, counts, short, lost_only } => {
            let claim = queue.reopen(&Reopen {
                ticket: id(&name(*of)),
                expected_fence: model.fence(*of, *old),
                node: "n".to_owned(),
                lease: lease(*short),
                counts_attempt: *counts,
                from: lost_only.then_some(&[S::Lost]),
            })?;
            Answer::Claims(vec![(claim.ticket.id.into(), claim.attempt, claim.fence)])
        }
        Step::Settle { of, old, settlement } => {
            Answer::State(queue.settle(&id(&name(*of)), model.fence(*of, *old), *settlement)?)
        }
        Step::Requeue { of } => Answer::State(queue.requeue(&id(&name(*of)))?),
        Step::Cancel { of } => Answer::State(queue.cancel(&id(&name(*of)))?),
        Step::Expire => {
            let lost = queue.expire(Time::now().after(LONG / 2))?;
            Answer::Lost(lost.into_iter().map(String::from).collect())
        }
    })
}

/// What a refusal is called in the model, which does not tell a cycle from another refused publication.
fn refusal(error: &QueueError) -> Option<Answer> {
    match error {
        QueueError::NotFound(_) => Some(Answer::NotFound),
        QueueError::Stale { .. } => Some(Answer::Stale),
        QueueError::Illegal { .. } | QueueError::Cycle(_) => Some(Answer::Illegal),
        // An engine that fails fails the test.
        _ => None,
    }
}

/// Compares all entries.
fn check_entries(queue: &dyn Queue, model: &Model) -> Result<(), TestCaseError> {
    let found: Vec<_> = queue.snapshot().unwrap();
    let mut expected: Vec<_> = model.entries.iter().collect();
    expected.sort_by_key(|(_, entry)| (Reverse(entry.priority), entry.position));
    prop_assert_eq!(found.len(), expected.len());
    for (found, (of, entry)) in found.iter().zip(expected) {
        prop_assert_eq!(found.ticket.id.as_str(), name(*of));
        let facts = (found.state, found.fence, found.attempts, found.retry_at.is_some());
        prop_assert_eq!(facts, (entry.state, entry.fence, entry.attempts, entry.retry.is_some()), "{}", name(*of));
        prop_assert_eq!(found.lease_until.is_some(), entry.state == S::Running);
        prop_assert_eq!(found.waits_for.is_empty(), entry.state != S::Blocked);
    }
    Ok(())
}

/// Checks that the events of each ticket form one unbroken chain that ends at its state, with fences that only grow
/// and, where each change is an event, never two leases under one of them.
pub(crate) fn check_events(queue: &dyn Queue, tells_each: bool) {
    let mut chains: BTreeMap<TicketId, (S, u64)> = BTreeMap::new();
    for (seq, event) in queue.events_since(0, usize::MAX).unwrap() {
        let before = chains.insert(event.ticket.clone(), (event.to, event.fence));
        assert_eq!(event.from, before.map(|(state, _)| state), "event {seq} of {}", event.ticket);
        let last_fence = before.map_or(0, |(_, fence)| fence);
        let grown = u64::from(event.to == S::Running);
        let follows = event.fence == last_fence + grown;
        assert!(follows || !tells_each && event.fence >= last_fence, "event {seq} of {}", event.ticket);
    }
    let ends: BTreeMap<TicketId, S> = chains.into_iter().map(|(id, (state, _))| (id, state)).collect();
    assert_eq!(ends, queue.states().unwrap().into_iter().collect());
}

pub(crate) fn random_walks_agree_with_the_model<E: Engine>() {
    let config = Config { cases: 96, failure_persistence: None, ..Config::default() };
    let walk = |steps: Vec<Step>| {
        let engine = E::fresh();
        let queue = engine.handle();
        let mut model = Model::default();
        for step in &steps {
            let answer = match perform(&*queue, &model, step) {
                Ok(answer) => answer,
                Err(error) => refusal(&error).ok_or_else(|| TestCaseError::fail(format!("{error:?}")))?,
            };
            prop_assert_eq!(answer, model.take(step), "{:?}", step);
            check_entries(&*queue, &model)?;
        }
        check_events(&*queue, E::TELLS_EACH);
        Ok(())
    };
    TestRunner::new(config).run(&steps(), walk).unwrap();
}
