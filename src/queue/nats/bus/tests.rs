//! Names on a server, and with a real one the contract of the bus and what only a server promises.

use super::{decoded, encoded};

#[test]
fn an_id_survives_being_part_of_a_subject() {
    for id in ["fix", "fix+2", "a.b", "a_b-c"] {
        assert_eq!(decoded(&encoded(id)).as_deref(), Some(id));
    }
    assert_eq!(decoded("=zz"), None);
}

#[cfg(feature = "real-agents")]
mod server {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use crate::model::message::{Address, Channel, Message, Sender, SenderKind};
    use crate::model::settings::Durability;
    use crate::model::{Time, WorkerId};
    use crate::queue::bus::contract::{BusEngine, bus_contract, message, take, texts};
    use crate::queue::bus::{Bus, BusError, Start, tell_facts};
    use crate::queue::nats::NatsBus;
    use crate::queue::nats::tests::{Process, log};
    use crate::store::{StatePaths, Store};

    /// The bus on a server of its own, and one machine that uses it.
    struct NatsEngine {
        /// Ended before its folder goes.
        server: Process,
        /// The stream, and the machine's store.
        folder: TempDir,
    }

    impl NatsEngine {
        /// The machine's store of this name.
        fn store(&self, machine: &str) -> (StatePaths, Arc<Store>) {
            let paths = StatePaths::new(&self.folder.path().join(machine));
            let store = Arc::new(Store::open(&paths, Durability::Normal).unwrap());
            (paths, store)
        }

        /// A handle of another machine.
        fn bus_of(&self, machine: &str) -> (Arc<dyn Bus>, Arc<Store>) {
            let (_, store) = self.store(machine);
            let link = log(&self.server.url).unwrap().link().clone();
            (Arc::new(NatsBus::open(link, store.clone()).unwrap()), store)
        }
    }

    impl BusEngine for NatsEngine {
        fn fresh() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { server: Process::start(folder.path()), folder }
        }

        fn bus(&self) -> (Arc<dyn Bus>, Arc<Store>) {
            self.bus_of("here")
        }
    }

    bus_contract!(NatsEngine);

    #[test]
    fn a_follower_goes_on_when_the_server_is_killed_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let server = Process::start(folder.path());
        let port = server.url.rsplit(':').next().unwrap().to_owned();
        let engine = NatsEngine { server, folder };
        let (bus, _) = engine.bus();
        bus.publish(&message(Channel::General, "before")).unwrap();
        let mut follower = bus.subscribe(0, &[Channel::General]).unwrap();
        assert_eq!(texts(&take(follower.as_mut(), 1)), ["before"]);
        let NatsEngine { server, folder } = engine;
        drop(server);
        let engine = NatsEngine { server: Process::start_at(folder.path(), &port), folder };
        let (other, _) = engine.bus();
        other.publish(&message(Channel::General, "after")).unwrap();
        assert_eq!(texts(&take(follower.as_mut(), 1)), ["after"]);
        assert_eq!(texts(&bus.read(Start::Beginning, &[Channel::General]).unwrap().messages), ["before", "after"]);
    }

    #[test]
    fn mail_goes_to_the_machine_that_fetches_it_and_is_nobodys_word_but_an_agents() {
        let engine = NatsEngine::fresh();
        let ((here, store), (there, _)) = (engine.bus(), engine.bus_of("there"));
        let worker = "fix+2".parse().unwrap();
        let mut incoming = here.await_mail(&worker).unwrap();
        let letter = |kind, text: &str| {
            let from = Sender { kind, name: "ada".to_owned() };
            Message::now(from, Address::Mail(worker.clone()), text)
        };
        for mail in [letter(SenderKind::Person, "one"), letter(SenderKind::Worker, "two")] {
            there.post(&worker, &mail, 9).unwrap();
        }
        assert_eq!(texts(&take(incoming.as_mut(), 2)), ["one", "two"]);
        let mail = here.mail(&worker).unwrap();
        assert_eq!(texts(&mail), ["one", "two"]);
        assert_eq!(
            mail.iter().map(|mail| mail.from.kind).collect::<Vec<_>>(),
            [SenderKind::Client, SenderKind::Worker]
        );
        assert_eq!(store.waiting_mail(&worker).unwrap(), mail, "it is on this machine now");
        assert!(there.mail(&worker).unwrap().is_empty(), "and on no other");
    }

    #[test]
    fn what_happened_on_a_machine_is_told_once() {
        use crate::model::event::{Event, EventRecord};
        use crate::model::worker::Outcome;
        let engine = NatsEngine::fresh();
        let (bus, store) = engine.bus();
        let (paths, _) = engine.store("here");
        let run = serde_json::from_str("\"2d3f1c84-5d0f-4a31-9a0e-7f6a3c7f0b11\"").unwrap();
        let ended = |worker: &str, outcome| {
            let event = Event::AttemptEnded { outcome, used: None };
            let (ticket, worker) = (worker.parse().unwrap(), worker.parse().unwrap());
            store.record_event(&paths, &EventRecord::now(&run, &ticket, &worker, event)).unwrap();
        };
        ended("good", Outcome::NoChanges);
        ended("bad", Outcome::Failed { reason: "exit code 3".to_owned(), exit_code: Some(3) });
        for _ in 0..2 {
            tell_facts(bus.as_ref(), &store, &paths).unwrap();
        }
        store.set_meta("bus_told", "0").unwrap();
        tell_facts(bus.as_ref(), &store, &paths).unwrap();
        let on = |channel| bus.read(Start::Beginning, &[channel]).unwrap().messages;
        assert_eq!(texts(&on(Channel::Results)), ["good: done: no changes"]);
        let errors = on(Channel::Errors);
        assert_eq!(texts(&errors), ["bad: failed: exit code 3"]);
        assert_eq!((errors[0].from.kind, &errors[0].from.name[..]), (SenderKind::Client, "supervisor"));
        assert_eq!(errors[0].body.as_ref().unwrap()["worker"], "bad");
    }

    #[test]
    fn nobody_speaks_on_a_channel_in_the_name_of_a_person() {
        let engine = NatsEngine::fresh();
        let (bus, _) = engine.bus();
        let mut follower = bus.subscribe(0, &[Channel::Coordination]).unwrap();
        let kinds = [SenderKind::Person, SenderKind::Coordinator, SenderKind::Worker, SenderKind::Client];
        for kind in kinds {
            let from = Sender { kind, name: "ada".to_owned() };
            bus.publish(&Message::now(from, Address::Channel(Channel::Coordination), "Land it all.")).unwrap();
        }
        let [client, worker] =
            [SenderKind::Client, SenderKind::Worker].map(|kind| Sender { kind, name: "ada".to_owned() });
        let expected = [client.clone(), client.clone(), worker, client];
        let senders = |messages: Vec<Message>| messages.into_iter().map(|message| message.from).collect::<Vec<_>>();
        assert_eq!(senders(take(follower.as_mut(), 4)), expected);
        assert_eq!(senders(bus.read(Start::Beginning, &[Channel::Coordination]).unwrap().messages), expected);
    }

    #[test]
    fn whatever_a_program_publishes_breaks_no_follower() {
        let engine = NatsEngine::fresh();
        let (bus, _) = engine.bus();
        let mut follower = bus.subscribe(0, &[Channel::General]).unwrap();
        let link = log(&engine.server.url).unwrap().link().clone();
        for payload in ["not JSON", "", r#"{"text":"hi","from":{"kind":"king"}}"#] {
            let context = link.context();
            let sent = link.once(async move { context.publish("swarm.tests.general", payload.into()).await?.await });
            sent.unwrap().unwrap();
        }
        let seen = take(follower.as_mut(), 3);
        assert_eq!(texts(&seen), ["not JSON", "", "hi"]);
        assert!(seen.iter().all(|message| message.from == Sender::client()));
        assert!(seen.iter().all(|message| message.at.age_at(Time::now()) < Duration::from_secs(60)));
    }

    #[test]
    fn mail_that_is_too_long_is_in_the_way_of_nothing() {
        let engine = NatsEngine::fresh();
        let (bus, _) = engine.bus();
        let link = log(&engine.server.url).unwrap().link().clone();
        let worker: WorkerId = "fix".parse().unwrap();
        // As JSON it is twice as long as it is here.
        for payload in ["\n".repeat(40_000), "hi".to_owned()] {
            let context = link.context();
            let sent = link.once(async move { context.publish("swarm.tests.mail.fix", payload.into()).await?.await });
            sent.unwrap().unwrap();
        }
        for _ in 0..2 {
            assert_eq!(texts(&bus.mail(&worker).unwrap()), ["hi"]);
        }
    }

    #[test]
    fn a_server_that_is_away_is_told_once_to_a_follower() {
        let engine = NatsEngine::fresh();
        let (bus, _) = engine.bus();
        let mut follower = bus.subscribe(0, &[Channel::General]).unwrap();
        let NatsEngine { server, folder } = engine;
        drop(server);
        let deadline = Instant::now() + Duration::from_secs(60);
        let told = loop {
            match follower.next(deadline) {
                Err(error) => break error,
                Ok(messages) => assert!(messages.is_empty() && Instant::now() < deadline),
            }
        };
        assert!(matches!(told, BusError::Nats(_)) && told.is_away(), "{told:?}");
        drop(folder);
    }
}
