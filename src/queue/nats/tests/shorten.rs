//! Shortening the log: what joins, what was away, what dies in between, and what others do at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures_util::StreamExt;

use super::*;
use crate::model::{TicketId, Time};
use crate::queue::contract::{self, crowd};
use crate::queue::nats::beginning::{Beginnings, Pointer};
use crate::queue::nats::gateway::GROUP;
use crate::queue::nats::replica::{Replica, applied, changed};
use crate::queue::nats::{Keep, NatsQueue};
use crate::queue::{Elsewhere, Lead, LeadRequest, NewTicket, QueueEvent, Renewed, to_file, to_server};
use crate::store::Leadership;

/// Nothing but the last message of a beginning stays, at once.
const NOTHING: Keep = Keep { messages: 0, margin: 0, settled: Duration::ZERO };

/// The same, with a moment for who reads what is about to go.
const OFTEN: Keep = Keep { settled: Duration::from_millis(50), ..NOTHING };

/// A machine with its queue.
struct Machine {
    queue: NatsQueue,
    store: Arc<Store>,
    _folder: TempDir,
}

impl Machine {
    /// One that has nothing yet.
    fn join(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        drop(open(&server(url), "founder", folder.path()).unwrap());
        let store = Arc::new(Store::open(&StatePaths::new(folder.path()), Durability::Normal).unwrap());
        let queue = NatsQueue::new(log(url).unwrap(), server(url), store.clone(), "tests");
        Self { queue, store, _folder: folder }
    }

    /// What keeps its tables.
    fn replica(&self) -> &Replica {
        self.queue.keeper()
    }

    /// Everything in its tables but events, and how far in the log they are, after a look at the log.
    fn tables(&self) -> Vec<String> {
        self.queue.refresh().unwrap();
        let read = self.store.read(|txn| -> Result<Vec<String>, QueueError> {
            let rows = txn.tickets()?;
            let mut lines: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
            for row in &rows {
                let mut needs: Vec<String> = txn.dependencies(row)?.iter().map(|need| format!("{need:?}")).collect();
                needs.sort();
                lines.push(format!("{} needs {needs:?}", row.id));
            }
            lines.extend(txn.publications()?.iter().map(|publication| format!("{publication:?}")));
            lines.extend(txn.leaderships()?.iter().map(|lead: &(String, Leadership)| format!("{lead:?}")));
            lines.push(format!("{} {:?}", applied(txn)?, changed(txn)?));
            Ok(lines)
        });
        read.unwrap()
    }

    /// Its events as they are on it now.
    fn events(&self) -> Vec<(i64, QueueEvent)> {
        self.store.read(|txn| Ok::<_, QueueError>(txn.queue_events_since(0, usize::MAX)?)).unwrap()
    }

    /// Checks that each event of a ticket goes on from the one before it, and that the last one says where it is.
    fn check_events(&self) {
        let mut told = BTreeMap::new();
        for (seq, event) in self.events() {
            let before = told.insert(event.ticket.clone(), event.to);
            assert_eq!(event.from, before, "event {seq} of {}", event.ticket);
        }
        let states = self.store.read(|txn| Ok::<_, QueueError>(txn.ticket_states()?)).unwrap();
        assert_eq!(told, states.into_iter().collect());
    }

    /// The log's first and last number, and its messages.
    fn extent(&self) -> (u64, u64, u64) {
        let extent = self.replica().log().extent().unwrap();
        (extent.first, extent.last, extent.messages)
    }

    /// The beginnings on the server.
    fn beginnings(&self) -> Beginnings {
        self.replica().beginnings().unwrap()
    }

    /// The pointer to the one that counts.
    fn pointer(&self) -> Pointer {
        self.beginnings().pointed().unwrap().unwrap().pointer.unwrap()
    }

    /// The names of the objects of beginnings.
    fn objects(&self) -> Vec<String> {
        Objects::open(self.queue.link().unwrap()).unwrap().names("beginning.").unwrap()
    }
}

/// A queue whose log is shortened all the time.
struct Shortened {
    /// Says that it is over.
    over: Arc<AtomicBool>,
    /// Who shortens; `None` when it was ended.
    shortener: Option<thread::JoinHandle<()>>,
    engine: NatsEngine,
}

impl Engine for Shortened {
    const TELLS_EACH: bool = false;

    fn fresh() -> Self {
        let engine = NatsEngine::fresh();
        let over = Arc::new(AtomicBool::new(false));
        let (url, is_over) = (engine.server.url.clone(), over.clone());
        let shortener = thread::spawn(move || {
            let machine = Machine::join(&url);
            while !is_over.load(Ordering::SeqCst) {
                machine.queue.shorten(&OFTEN).unwrap();
            }
        });
        Self { over, shortener: Some(shortener), engine }
    }

    fn handle(&self) -> Arc<dyn Queue> {
        self.engine.handle()
    }

    fn address(&self) -> String {
        self.engine.address()
    }

    fn handle_at(address: &str) -> Arc<dyn Queue> {
        NatsEngine::handle_at(address)
    }
}

impl Drop for Shortened {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let ended = self.shortener.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

#[test]
fn killed_processes_lose_and_double_nothing_while_the_log_is_shortened() {
    crowd::killed_processes_lose_and_double_nothing::<Shortened>("queue::nats::tests");
}

#[test]
fn many_threads_that_want_to_lead_make_one_leader_while_the_log_is_shortened() {
    crowd::many_threads_that_want_to_lead_make_one_leader::<Shortened>();
}

/// Some of everything that a queue is for, told apart from other calls by `name`.
fn work(queue: &NatsQueue, name: &str) {
    let long = Duration::from_secs(3_600);
    let id = |number: usize| format!("{name}-{number}");
    let put = |ticket: Ticket, key: &str| {
        let new = NewTicket { dedupe_key: format!("{key} of {}", ticket.id), ticket };
        queue.publish(&new).unwrap()
    };
    for number in 0..12 {
        let depends_on = match number % 4 {
            3 => vec![needs(&id(number - 1), DependencyKind::Success), needs("nobody", DependencyKind::Completion)],
            2 => vec![needs(&id(number - 2), DependencyKind::Completion)],
            _ => Vec::new(),
        };
        let priority = 1 + u8::try_from(number % 7).unwrap();
        put(Ticket { priority, depends_on, ..ticket(&id(number)) }, "first");
    }
    // In place: it waits for nothing any more, what it waited for is needed still.
    put(ticket(&id(3)), "second");
    let claims = queue.claim(&ClaimRequest { limit: 5, lease: long, ..request() }).unwrap();
    for (number, claim) in claims.iter().enumerate() {
        let (ticket, fence) = (&claim.ticket.id, claim.fence);
        match number {
            0 => drop(queue.complete(ticket, fence, Completion::Done).unwrap()),
            1 => drop(queue.fail(ticket, fence, "not yet", Some(Time::from_millis(1))).unwrap()),
            2 => drop(queue.release(ticket, fence).unwrap()),
            _ => assert!(matches!(queue.renew(ticket, fence, long).unwrap(), Renewed::Held { .. })),
        }
    }
    // A new round.
    put(ticket(claims[0].ticket.id.as_str()), "third");
    let lead = LeadRequest { role: format!("role of {name}"), holder: name.to_owned(), lease: long };
    let Lead::Taken(taken) = queue.leader_lease(&lead).unwrap() else { panic!("nobody has it") };
    queue.renew_lead(&lead.role, taken.fence, long).unwrap();
    queue.release_lead(&lead.role, taken.fence).unwrap();
}

#[test]
fn a_machine_that_joins_a_shortened_log_has_what_one_has_that_read_it_all() {
    let engine = NatsEngine::fresh();
    let url = &engine.server.url;
    let (one, witness) = (Machine::join(url), Machine::join(url));
    for round in ["a", "b"] {
        work(&one.queue, round);
        let whole = witness.tables();
        one.queue.shorten(&NOTHING).unwrap();
        let (first, last, messages) = one.extent();
        assert_eq!((first, messages), (last, 1), "the last message stays");
        let late = Machine::join(url);
        assert_eq!(late.tables(), whole);
        assert_eq!(one.tables(), whole);
        late.check_events();
    }
    let late = Machine::join(url);
    let again = NewTicket { ticket: ticket("a-1"), dedupe_key: "first of a-1".to_owned() };
    assert!(!late.queue.publish(&again).unwrap().fresh, "a key that was seen publishes nothing");
    let lead = LeadRequest { role: "role of a".to_owned(), holder: "x".to_owned(), lease: Duration::from_secs(9) };
    let Lead::Taken(taken) = late.queue.leader_lease(&lead).unwrap() else { panic!("it was released") };
    assert_eq!(taken.fence, 2, "fences go on");
    work(&late.queue, "c");
    assert_eq!(late.tables(), witness.tables(), "the log goes on after its beginning");
    assert_eq!(one.objects().len(), 1, "earlier beginnings are deleted");
}

#[test]
fn a_machine_that_was_away_while_the_log_was_shortened_goes_on_from_its_beginning() {
    let engine = NatsEngine::fresh();
    let url = &engine.server.url;
    let (one, witness, away) = (Machine::join(url), Machine::join(url), Machine::join(url));
    work(&one.queue, "a");
    let before = away.tables();
    assert_eq!(before, witness.tables());
    let claim = one.queue.claim(&ClaimRequest { limit: 1, ..request() }).unwrap().pop().unwrap();
    let known = away.events().len();
    for round in ["b", "c"] {
        work(&one.queue, round);
        witness.queue.refresh().unwrap();
        one.queue.shorten(&NOTHING).unwrap();
    }
    one.queue.complete(&claim.ticket.id, claim.fence, Completion::Done).unwrap();
    let since = one.queue.claim(&ClaimRequest { limit: 2, ..request() }).unwrap();
    assert_eq!(away.tables(), witness.tables());
    away.check_events();
    let events = away.events();
    for id in (0..12).map(|number| contract::id(&format!("b-{number}"))) {
        let told = events[known..].iter().filter(|(_, event)| event.ticket == id).count();
        let each = since.iter().filter(|claim| claim.ticket.id == id).count();
        assert_eq!(told, 1 + each, "{id}: one event for what was deleted, and each since");
    }
    // It acts on what is true.
    let refused = away.queue.complete(&claim.ticket.id, claim.fence + 1, Completion::Done).unwrap_err();
    assert!(matches!(refused, QueueError::Stale { .. }), "{refused:?}");
    work(&away.queue, "d");
    assert_eq!(one.tables(), witness.tables());
}

#[test]
fn of_two_that_shorten_at_once_one_has_its_way() {
    let engine = NatsEngine::fresh();
    let url = &engine.server.url;
    let machines: Vec<Machine> = (0..4).map(|_| Machine::join(url)).collect();
    work(&machines[0].queue, "a");
    // Both have read that there is no beginning, and both have put one.
    let both: Vec<_> = machines[..2].iter().map(Machine::beginnings).collect();
    let put: Vec<Pointer> =
        machines.iter().zip(&both).map(|(machine, all)| all.put(&machine.replica().dump().unwrap()).unwrap()).collect();
    assert!(both[1].point(&put[1], None).unwrap());
    assert!(!both[0].point(&put[0], None).unwrap());
    assert_eq!(machines[0].objects(), [put[1].object.clone()], "who was late takes its own away");
    for round in 0..4 {
        work(&machines[0].queue, &format!("b{round}"));
        let gate = Barrier::new(machines.len());
        thread::scope(|scope| {
            for machine in &machines {
                let gate = &gate;
                scope.spawn(move || {
                    gate.wait();
                    machine.queue.shorten(&OFTEN).unwrap();
                });
            }
        });
        machines[0].queue.shorten(&NOTHING).unwrap();
        assert_eq!(machines[0].objects(), [machines[0].pointer().object]);
        assert_eq!(Machine::join(url).tables(), machines[0].tables());
    }
}

#[test]
fn whoever_comes_after_one_that_died_at_any_step_finishes_it() {
    for died_after in ["dump", "put", "point", "purge"] {
        let engine = NatsEngine::fresh();
        let url = &engine.server.url;
        let (one, witness) = (Machine::join(url), Machine::join(url));
        work(&one.queue, "a");
        one.queue.shorten(&NOTHING).unwrap();
        work(&one.queue, "b");
        let whole = witness.tables();
        let earlier = one.beginnings().pointed().unwrap().unwrap();
        let dump = one.replica().dump().unwrap();
        if died_after != "dump" {
            let pointer = one.beginnings().put(&dump).unwrap();
            if died_after != "put" {
                assert!(one.beginnings().point(&pointer, Some(earlier.revision)).unwrap());
            }
            if died_after == "purge" {
                one.replica().log().purge(pointer.number).unwrap();
            }
        }
        drop(one);
        assert_eq!(Machine::join(url).tables(), whole, "died after {died_after}");
        let other = Machine::join(url);
        work(&other.queue, "c");
        let whole = witness.tables();
        other.queue.shorten(&NOTHING).unwrap();
        assert_eq!(Machine::join(url).tables(), whole, "died after {died_after}");
        assert_eq!((other.objects(), other.extent().2), (vec![other.pointer().object], 1), "died after {died_after}");
    }
}

#[test]
fn a_beginning_stands_for_a_while_before_anything_goes() {
    let engine = NatsEngine::fresh();
    let one = Machine::join(&engine.server.url);
    work(&one.queue, "a");
    let before = one.extent();
    let keep = Keep { settled: Duration::from_secs(3_600), ..NOTHING };
    one.queue.shorten(&keep).unwrap();
    assert_eq!((one.extent(), one.pointer().number), (before, before.1));
    work(&one.queue, "b");
    one.queue.shorten(&keep).unwrap();
    assert_eq!((one.pointer().number, one.objects().len()), (before.1, 1), "another one would have to stand as long");
    let number = one.pointer().number;
    one.queue.shorten(&Keep { messages: 1_000, margin: 7, settled: Duration::ZERO }).unwrap();
    assert_eq!(one.extent().0, number - 6, "and then some stay");
    assert_eq!((one.pointer().number, one.objects().len()), (number, 1), "a log that is short enough is left alone");
}

#[test]
fn a_purge_in_the_middle_of_a_read_is_noticed() {
    let engine = NatsEngine::fresh();
    let url = &engine.server.url;
    let (one, reader) = (Machine::join(url), Machine::join(url));
    work(&one.queue, "a");
    reader.queue.refresh().unwrap();
    let has = one.extent().1;
    work(&one.queue, "b");
    let (last, middle) = (one.extent().1, has + 5);
    let log = reader.replica().log();
    let mut changes = log.read(has + 1, middle).unwrap();
    assert!(!changes.is_empty());
    one.queue.shorten(&NOTHING).unwrap();
    changes.extend(log.read(middle + 1, last).unwrap());
    assert!(!reader.replica().take_over(has, &changes, last).unwrap(), "nothing of it is applied");
    assert_eq!(reader.tables(), one.tables());
}

#[test]
fn without_what_the_log_begins_with_a_machine_refuses_rather_than_to_skip_anything() {
    let engine = NatsEngine::fresh();
    let url = &engine.server.url;
    let (one, away) = (Machine::join(url), Machine::join(url));
    work(&one.queue, "a");
    let before = away.tables();
    work(&one.queue, "b");
    one.queue.shorten(&NOTHING).unwrap();
    work(&one.queue, "c");
    Objects::open(one.queue.link().unwrap()).unwrap().delete(&one.pointer().object).unwrap();
    let refused = away.queue.states().unwrap_err();
    assert!(matches!(refused, QueueError::Nats(NatsError::NoBeginning { .. })), "{refused:?}");
    let refused = one.queue.shorten(&Keep { messages: 1_000, ..NOTHING });
    assert!(refused.is_ok(), "there is nothing to delete");
    Board::open(one.queue.link().unwrap()).unwrap().remove("log.beginning").unwrap();
    for machine in [&away, &Machine::join(url)] {
        let refused = machine.queue.states().unwrap_err();
        assert!(matches!(refused, QueueError::Nats(NatsError::Gap { .. })), "{refused:?}");
    }
    let has = |machine: &Machine| machine.store.read(applied).unwrap();
    assert!(before.last().unwrap().starts_with(&format!("{} ", has(&away))), "it is as it was");
    // Who has everything can put it right.
    one.queue.shorten(&NOTHING).unwrap();
    assert_eq!((away.tables(), Machine::join(url).tables()), (one.tables(), one.tables()));
}

#[test]
fn a_log_that_renewals_made_gaps_in_is_read_without_a_beginning() {
    let engine = NatsEngine::fresh();
    let url = &engine.server.url;
    let one = Machine::join(url);
    let lead = LeadRequest { role: "r".to_owned(), holder: "h".to_owned(), lease: Duration::from_secs(60) };
    let Lead::Taken(taken) = one.queue.leader_lease(&lead).unwrap() else { panic!("nobody has it") };
    for _ in 0..5 {
        one.queue.renew_lead("r", taken.fence, lead.lease).unwrap();
    }
    assert_eq!(one.extent(), (6, 6, 1), "the first messages are gone, and nobody deleted them");
    assert_eq!(Machine::join(url).tables(), one.tables());
    work(&one.queue, "a");
    assert_eq!(Machine::join(url).tables(), one.tables());
}

#[test]
fn what_gateways_have_not_told_yet_stays() {
    let engine = NatsEngine::fresh();
    let url = &engine.server.url;
    let one = Machine::join(url);
    work(&one.queue, "a");
    let link = one.queue.link().unwrap().clone();
    let (context, names) = (link.context(), link.names().clone());
    let config = pull::Config {
        durable_name: Some(GROUP.to_owned()),
        ack_policy: AckPolicy::Explicit,
        filter_subject: names.changes.clone(),
        ..pull::Config::default()
    };
    let stream = names.stream.clone();
    // Three are told; the fourth is on its way.
    let consumer = link.run(async move {
        let consumer = context.get_stream(&stream).await.unwrap().create_consumer(config).await.unwrap();
        let mut batch = consumer.batch().max_messages(4).messages().await.unwrap();
        for number in 0..4 {
            let message = batch.next().await.unwrap().unwrap();
            if number < 3 {
                message.double_ack().await.unwrap();
            }
        }
        consumer
    });
    let mut consumer = consumer.unwrap();
    let told = one.replica().log().told().unwrap().unwrap();
    one.queue.shorten(&NOTHING).unwrap();
    assert!(told >= 3, "{told}");
    assert_eq!(one.extent().0, told + 1);
    let left = link.run(async move {
        let info = consumer.info().await.unwrap();
        (info.num_ack_pending, info.num_pending)
    });
    let (on_its_way, waiting) = left.unwrap();
    let last = one.extent().1;
    let changes = one.replica().log().read(told + 1, last).unwrap();
    let untold = changes.iter().filter(|(_, change)| change.renewed().is_none()).count();
    assert_eq!(on_its_way + usize::try_from(waiting).unwrap(), untold);
    assert_eq!(Machine::join(url).tables(), one.tables());
}

#[test]
fn nobody_says_that_a_change_was_not_made_whose_place_was_deleted() {
    let engine = NatsEngine::fresh();
    let one = Machine::join(&engine.server.url);
    let log = one.replica().log();
    let first = change("first");
    assert!(log.append(0, &first).unwrap());
    one.queue.refresh().unwrap();
    work(&one.queue, "a");
    one.queue.shorten(&NOTHING).unwrap();
    let answer = log.offer(0, &first, true).unwrap_err();
    assert!(matches!(answer, NatsError::Unanswered { .. }), "{answer:?}");
}

#[test]
fn a_closed_log_is_closed_for_who_was_away_while_it_was_shortened() {
    let engine = NatsEngine::fresh();
    let url = &engine.server.url;
    let (one, away) = (Machine::join(url), Machine::join(url));
    publish(&one.queue, ticket("before")).unwrap();
    away.queue.refresh().unwrap();
    for number in 0..9 {
        publish(&one.queue, ticket(&format!("t{number}"))).unwrap();
    }
    one.queue.shorten(&NOTHING).unwrap();
    let closing = Change::closing();
    assert!(one.replica().log().append(one.extent().1, &closing).unwrap());
    assert!(one.replica().log().ends_with(&closing.id).unwrap());
    for machine in [one, away] {
        // Reading takes it over; nothing can be written any more.
        machine.queue.refresh().unwrap();
        assert_eq!(machine.queue.states().unwrap().len(), 10);
        let refused = publish(&machine.queue, ticket("late")).unwrap_err();
        assert!(matches!(refused, QueueError::Elsewhere(Elsewhere::Closed(_))), "{refused:?}");
    }
}

#[test]
fn a_shortened_log_moves_to_the_file_and_a_new_log_has_a_beginning_of_its_own() {
    let engine = NatsEngine::fresh();
    let server = server(&engine.server.url);
    let one = Machine::join(&server.address);
    for number in 0..9 {
        publish(&one.queue, ticket(&format!("t{number}"))).unwrap();
    }
    one.queue.shorten(&NOTHING).unwrap();
    let states = one.queue.states().unwrap();
    to_file(&one.store, &server).unwrap();
    let repository = Repository { founder: &|| Some("founder".to_owned()), has: &|other| other == "founder" };
    to_server(&one.store, &server, &repository).unwrap();
    // The pointer on the board is that of the log before.
    let late = Machine::join(&server.address);
    assert_eq!(late.queue.states().unwrap().len(), states.len());
    assert!(late.beginnings().pointed().unwrap().unwrap().pointer.is_none());
    work(&late.queue, "a");
    // Who has the old log open deletes nothing of the new one.
    let refused = one.replica().shorten_to(&NOTHING).unwrap_err();
    assert!(matches!(refused, QueueError::Nats(NatsError::Replaced { .. })), "{refused:?}");
    late.queue.shorten(&NOTHING).unwrap();
    assert_eq!((late.extent().2, late.objects()), (1, vec![late.pointer().object]));
    assert_eq!(Machine::join(&server.address).tables(), late.tables());
}

#[test]
fn a_crowd_works_on_while_the_log_is_shortened_under_it() {
    let engine = NatsEngine::fresh();
    let url = &engine.server.url;
    let is_over = AtomicBool::new(false);
    let count = 120;
    let (witness, publisher) = (Machine::join(url), Machine::join(url));
    let done: Vec<TicketId> = thread::scope(|scope| {
        let shorteners: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let machine = Machine::join(url);
                    let mut purges = 0;
                    let mut first = 0;
                    while !is_over.load(Ordering::SeqCst) {
                        machine.queue.shorten(&OFTEN).unwrap();
                        let now = machine.extent().0;
                        purges += u32::from(now > first);
                        first = now;
                    }
                    purges
                })
            })
            .collect();
        let joiner = scope.spawn(|| {
            let mut joined = 0;
            while !is_over.load(Ordering::SeqCst) {
                let machine = Machine::join(url);
                assert!(machine.queue.states().unwrap().len() <= count);
                machine.check_events();
                joined += 1;
            }
            joined
        });
        let work = || {
            let machine = Machine::join(url);
            let mut done = Vec::new();
            loop {
                for claim in machine.queue.claim(&ClaimRequest { limit: 2, ..request() }).unwrap() {
                    assert_eq!(claim.fence, 1, "nobody took what another held");
                    machine.queue.complete(&claim.ticket.id, claim.fence, Completion::Done).unwrap();
                    done.push(claim.ticket.id);
                }
                let states = machine.queue.states().unwrap();
                if states.len() == count && states.iter().all(|(_, state)| *state == TicketState::Done) {
                    return done;
                }
            }
        };
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        for number in 0..count {
            let previous = format!("t{}", number.saturating_sub(1));
            let depends_on = if number % 4 == 3 { vec![needs(&previous, DependencyKind::Success)] } else { Vec::new() };
            publish(&publisher.queue, Ticket { depends_on, ..ticket(&format!("t{number}")) }).unwrap();
        }
        let done = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        is_over.store(true, Ordering::SeqCst);
        let purges: u32 = shorteners.into_iter().map(|shortener| shortener.join().unwrap()).sum();
        assert!(purges > 3 && joiner.join().unwrap() > 0, "{purges}");
        done
    });
    let unique: BTreeSet<_> = done.iter().collect();
    assert_eq!((done.len(), unique.len()), (count, count), "each was done once");
    assert_eq!(witness.tables(), publisher.tables());
    assert_eq!(Machine::join(url).tables(), publisher.tables());
    witness.check_events();
}
